//! The warehouse as others hold it: opening, snapshots, and the tail that feeds it.

use crate::by_name::{self, Links};
use crate::codes;
use crate::context::Context;
use crate::flush::{FLUSHED_TOPIC, Flushed};
use crate::metrics;
use crate::open::{open_sources, read_words, seed};
use crate::replay::GroupReader;
use crate::settings::WarehouseSettings;
use crate::snapshot::Snapshot;
use crate::source::Source;
use crate::state::{Shown, SourceState};
use crate::table::Gone;
use async_trait::async_trait;
use mainstem_env::{Env, JoinOnDrop, Moment, blocking, spawn, spawn_thread};
use mainstem_envelope::Schemas;
use mainstem_envelope::tail::{self, BrokenTable, Group, LiveTables, Receiver, Sender, Visible};
use mainstem_eventlog::{EventLog, KeyedReader, TopicConfig, TopicPartition, keyed_append};
use mainstem_types::barrier::BARRIER_TOPIC;
use mainstem_types::{Barrier, Error, Result, SourceName, TableId};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How often the flusher looks.
const FLUSH_LOOK: Duration = Duration::from_millis(200);
/// How often an applier without room looks.
const ROOM_LOOK: Duration = Duration::from_millis(10);
/// How often links by name are compared with the tables.
const LINK_INTERVAL: Duration = Duration::from_secs(1);
/// How often files that nobody needs are looked for where nothing changes.
const CLEAN_INTERVAL_MS: u128 = 10_000;

/// All live tables of a data directory.
pub struct Warehouse {
    pub(crate) context: Context,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) schemas: Arc<Schemas>,
    pub(crate) sources: RwLock<BTreeMap<SourceName, Arc<Source>>>,
    /// What the last query saw, for the next one; given up soon when there is none.
    shown: Mutex<Shown>,
    appliers: Mutex<BTreeMap<SourceName, Applier>>,
    barrier_words: tokio::sync::Mutex<BarrierWords>,
    /// Flushing and compaction.
    upkeep: Mutex<Vec<JoinOnDrop<()>>>,
    /// Directories of sources that were forgotten, while snapshots read them.
    forgotten: Mutex<Vec<Gone>>,
    /// Links by which tables are found by name.
    links: Arc<Mutex<Links>>,
    pub(crate) stop: watch::Sender<bool>,
}

/// What was read of the barriers' topic.
struct BarrierWords {
    topic: KeyedReader<SourceName, Barrier>,
    /// Each source's last barrier in it: offset and number.
    last: BTreeMap<SourceName, (i64, u64)>,
    /// The barrier in the record of each source's last flush.
    noted: BTreeMap<SourceName, u64>,
}

/// The thread that applies a source's groups.
struct Applier {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Warehouse {
    /// Opens the live tables below `dir` (`tables/`, `index/`): loads every table's Delta state and replays the log after it. Returns
    /// when everything that the log holds is visible again; nothing is before.
    pub async fn open(
        env: Env,
        dir: &Path,
        log: Arc<dyn EventLog>,
        schemas: Arc<Schemas>,
        settings: WarehouseSettings,
    ) -> Result<Arc<Self>> {
        let mut context = Context {
            env,
            settings: Arc::new(settings),
            dir: dir.to_path_buf(),
            seed: 0,
            memory: Arc::default(),
            damages: Arc::default(),
        };
        log.create_topic(FLUSHED_TOPIC, TopicConfig::compacted()).await?;
        let words = read_words(&log).await?;
        context.seed = seed(&context)?;
        let reader = GroupReader { log: log.clone(), schemas: schemas.clone(), runtime: Handle::current() };
        let opened = context.clone();
        let sources = blocking(move || open_sources(&opened, words, &reader)).await.ok_or_else(opening_stopped)??;
        let fed: BTreeSet<_> =
            sources.values().flat_map(|source| source.with_state(|s| s.topics.keys().cloned().collect::<Vec<_>>())).collect();
        release_topics(log.as_ref(), |topic| !topic.starts_with('_') && !fed.contains(topic));
        let (stop, _) = watch::channel(false);
        let topic = KeyedReader::new(log.clone(), BARRIER_TOPIC);
        let warehouse = Arc::new(Self {
            context,
            log,
            schemas,
            sources: RwLock::new(sources),
            shown: Mutex::default(),
            appliers: Mutex::default(),
            barrier_words: BarrierWords { topic, last: BTreeMap::new(), noted: BTreeMap::new() }.into(),
            upkeep: Mutex::default(),
            forgotten: Mutex::default(),
            links: Arc::default(),
            stop,
        });
        let weak = || Arc::downgrade(&warehouse);
        *warehouse.upkeep.lock() = vec![
            spawn("flush", flush_loop(weak())),
            spawn("compact", compact_loop(weak())),
            spawn("verify", verify_files(weak())),
        ];
        Ok(warehouse)
    }

    /// Flushes every source now (or one): all that is visible is then in Delta tables.
    pub async fn flush(&self, only: Option<&SourceName>) -> Result<()> {
        let chosen = |source: &&Arc<Source>| only.is_none_or(|name| *name == source.name);
        let sources: Vec<Arc<Source>> = self.sources.read().values().filter(chosen).cloned().collect();
        for source in sources {
            self.flush_source(source).await?;
        }
        Ok(())
    }

    /// Rewrites small and mostly dead Parquet files now, one round per source. A server does so by itself after its flushes; what fails
    /// there is tried again.
    pub async fn compact(&self) {
        let sources: Vec<Arc<Source>> = self.sources.read().values().cloned().collect();
        for source in sources {
            self.compact_source(source).await;
        }
    }

    async fn compact_source(&self, source: Arc<Source>) {
        self.shown.lock().let_go();
        let (busy, stop) = (source.clone(), self.stop.subscribe());
        let done = blocking(move || {
            busy.compact(&|| *stop.borrow());
            busy.clean();
        });
        if done.await.is_none() {
            tracing::error!(source = %source.name, "a compaction panicked; files stay as they are");
        }
    }

    /// A clean stop: appliers end after the group they are at, then everything is flushed. The next start has nothing to replay.
    pub async fn close(&self) -> Result<()> {
        self.stop.send_replace(true);
        let upkeep = std::mem::take(&mut *self.upkeep.lock());
        drop(upkeep);
        let names: Vec<SourceName> = self.appliers.lock().keys().cloned().collect();
        for name in names {
            self.stop_applier(&name).await;
        }
        let flushed = self.flush(None).await;
        self.link_tables().await;
        flushed
    }

    async fn flush_source(&self, source: Arc<Source>) -> Result<()> {
        self.shown.lock().let_go();
        let busy = source.clone();
        let flushed = blocking(move || {
            let flushed = busy.flush();
            busy.clean();
            flushed
        });
        let flushed = flushed.await.ok_or_else(|| Error::bug(codes::IO, "a flush panicked; its tables stay in memory"))?;
        let (flushed, failed) = flushed?;
        if flushed.tables.is_empty() && flushed.barrier.is_none() {
            return failed.map_or(Ok(()), Err);
        }
        self.note_flushed(&source.name, Some(&flushed)).await?;
        // One table that cannot be flushed keeps its own log, and no other's.
        self.move_floors(&source, &flushed).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn note_flushed(&self, source: &SourceName, flushed: Option<&Flushed>) -> Result<()> {
        let part = keyed_append(FLUSHED_TOPIC, [(source, flushed)], self.context.now_ms())?;
        self.log.append(vec![part], None).await?;
        Ok(())
    }

    /// The log may forget what is durable in tables. Of barriers, the last of each source stays, the source's position, unless the record
    /// of its last flush has it.
    async fn move_floors(&self, source: &Source, flushed: &Flushed) -> Result<()> {
        let (floors, dropped) = source.with_state(|state| {
            let floor = |id: &TableId| {
                // A generation that has no commit yet is read from its beginning by a start.
                let table = state.tables.get(id)?;
                let committed = table.filling.is_none() && table.live.as_ref().is_some_and(|rows| rows.delta_version.is_some());
                flushed.tables.iter().filter(|t| committed && t.table == *id).map(|t| t.noted.resume.offset).min()
            };
            let floors: Vec<_> = state.topics.iter().filter_map(|(topic, id)| Some((topic.clone(), floor(id)?))).collect();
            (floors, std::mem::take(&mut state.dropped_topics))
        });
        let dropped: BTreeSet<_> = dropped.into_iter().collect();
        release_topics(self.log.as_ref(), |topic| dropped.contains(topic));
        for (topic, offset) in floors {
            self.log.set_retention_floor(&TopicPartition { topic, partition: 0 }, offset);
        }
        let mut words = self.barrier_words.lock().await;
        for change in words.topic.read().await? {
            words.last.extend(change.value.map(|barrier| (change.key, (change.offset, barrier.seq))));
        }
        if let Some(barrier) = &flushed.barrier {
            words.noted.insert(source.name.clone(), barrier.seq);
        }
        let needed = words.last.iter().filter(|(name, (_, seq))| words.noted.get(name).is_none_or(|noted| noted < seq));
        let floor = needed.map(|(_, (offset, _))| *offset).min().unwrap_or(words.topic.next());
        self.log.set_retention_floor(&TopicPartition::new(BARRIER_TOPIC, 0), floor);
        Ok(())
    }

    /// Flushes the sources whose time has come or that are too large; called a few times a second.
    async fn flush_due(&self, last: &mut BTreeMap<SourceName, Moment>) {
        let sources: Vec<Arc<Source>> = self.sources.read().values().cloned().collect();
        for source in sources {
            let now = self.context.env.clock.moment();
            let since = now - *last.entry(source.name.clone()).or_insert(now);
            let settings = &self.context.settings;
            let (bytes, changed) = source.with_state(|state| (state.flush_bytes() as u64, state.is_changed()));
            let due = since.as_millis() as u64 >= settings.flush_interval_ms;
            let (used, most) = (self.context.memory.used(), settings.memory_bytes_max);
            // Near the common bound the large ones go, above it whatever frees something: appliers wait for it.
            let pressed = bytes > 0 && used > most || bytes > most / 8 && used > most / 2;
            if !((bytes >= settings.flush_bytes || pressed) && changed || due) {
                continue;
            }
            last.insert(source.name.clone(), now);
            match self.flush_source(source.clone()).await {
                Ok(()) => source.flushed.store(true, Ordering::Relaxed),
                Err(error) => {
                    tracing::error!(source = %source.name, error = %error.chain(), "flush failed; it is tried again");
                }
            }
        }
    }

    /// Removes files that nobody needs any more, also where nothing changes.
    async fn clean_all(&self) {
        let sources: Vec<Arc<Source>> = self.sources.read().values().cloned().collect();
        for source in sources {
            let _ = blocking(move || source.clean()).await;
        }
    }

    /// Tells tables what was found wrong with their files, and others of the tables that cannot go on.
    fn tell_broken(&self) {
        let sources: Vec<Arc<Source>> = self.sources.read().values().cloned().collect();
        for (owner, error) in self.context.damages.take() {
            metrics::DAMAGES.add(1);
            if let Some(source) = sources.iter().find(|source| source.name == owner.source) {
                source.break_damaged(&owner, error);
            }
        }
        let mut count = 0;
        for source in sources {
            source.show_broken();
            count += source.broken.borrow().len();
        }
        metrics::BROKEN_TABLES.set(count as i64);
    }

    /// Lets the links by name follow the tables.
    async fn link_tables(&self) {
        let wanted: by_name::Wanted = self.sources.read().values().flat_map(|source| source.links()).collect();
        let (links, env, tables) = (self.links.clone(), self.context.env.clone(), self.context.dir.join("tables"));
        let work = move || {
            let mut links = links.lock();
            let done = links.update(&env, &tables, &wanted);
            let failed_before = std::mem::replace(&mut links.failing, done.is_err());
            if let Some(error) = done.err().filter(|_| !failed_before) {
                tracing::warn!(error = %error.chain(), "links to tables by name are not up to date; tried again");
            }
        };
        let _ = blocking(work).await;
    }

    async fn remove_forgotten(&self) {
        self.shown.lock().let_go();
        let free: Vec<Gone> = self.forgotten.lock().extract_if(.., |g| g.is_free(i64::MAX)).collect();
        if !free.is_empty() {
            let env = self.context.env.clone();
            let _ = blocking(move || free.iter().for_each(|gone| gone.remove(&env))).await;
        }
    }

    /// What a query sees from now on: every source at its last barrier. Costs what changed since the last call: the same snapshot is given
    /// while nothing did.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>> {
        let sources: Vec<Arc<Source>> = self.sources.read().values().cloned().collect();
        let parts = sources.iter().map(|source| Ok((source.name.clone(), source.snapshot()?))).collect::<Result<Vec<_>>>()?;
        Ok(self.shown.lock().follow(parts))
    }

    fn source(&self, name: &SourceName) -> Arc<Source> {
        let new = || Arc::new(Source::new(name.clone(), SourceState::new(self.context.clone()), None));
        self.sources.write().entry(name.clone()).or_insert_with(new).clone()
    }

    async fn stop_applier(&self, name: &SourceName) {
        let applier = self.appliers.lock().remove(name);
        if let Some(applier) = applier {
            applier.stop.send_replace(true);
            let _ = blocking(move || applier.thread.join()).await;
        }
    }

    fn run_applier(&self, source: Arc<Source>, mut groups: Receiver) -> Result<Applier> {
        let (stop, mut stopped) = watch::channel(false);
        let runtime = Handle::current();
        let reader = GroupReader { log: self.log.clone(), schemas: self.schemas.clone(), runtime: runtime.clone() };
        let context = self.context.clone();
        let work = move || {
            loop {
                let next = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        _ = stopped.wait_for(|s| *s) => None,
                        group = next_group(&context, &mut groups) => group,
                    }
                });
                // Told to stop: what is in the log already is still applied, because the next applier goes on after it.
                let Some(mut group) = next.or_else(|| groups.try_next()) else { return };
                let done =
                    source.apply(&mut group, &mut |state, barrier| reader.read(state, barrier), context.env.clock.now_us());
                if let Err(error) = done {
                    tracing::error!(source = %source.name, error = %error.chain(), "live tables stop at their last barrier");
                    return;
                }
            }
        };
        let thread =
            spawn_thread("apply", work).map_err(|e| Error::retry(codes::IO, "cannot start an applier thread").caused_by(e))?;
        Ok(Applier { stop, thread })
    }
}

/// The next group, once there is room for it: until then the tail fills up, and the source is not read.
async fn next_group(context: &Context, groups: &mut Receiver) -> Option<Group> {
    if context.memory.used() > context.settings.memory_bytes_max {
        metrics::ROOM_WAITS.add(1);
        while context.memory.used() > context.settings.memory_bytes_max {
            context.env.clock.sleep(ROOM_LOOK).await;
        }
    }
    groups.next().await
}

fn opening_stopped() -> Error {
    Error::bug(codes::IO, "opening the live tables panicked")
}

async fn flush_loop(warehouse: Weak<Warehouse>) {
    let (mut last, mut cleaned, mut linked) = (BTreeMap::new(), None, None);
    loop {
        let Some(warehouse) = warehouse.upgrade() else { return };
        warehouse.tell_broken();
        warehouse.flush_due(&mut last).await;
        warehouse.remove_forgotten().await;
        let now = warehouse.context.env.clock.moment();
        if linked.is_none_or(|at| now - at >= LINK_INTERVAL) {
            linked = Some(now);
            warehouse.link_tables().await;
        }
        if (now - *cleaned.get_or_insert(now)).as_millis() >= CLEAN_INTERVAL_MS {
            cleaned = Some(now);
            warehouse.clean_all().await;
        }
        let clock = warehouse.context.env.clock.clone();
        drop(warehouse);
        clock.sleep(FLUSH_LOOK).await;
    }
}

/// Reads every file that is live at the start once, for as much of the time as it rests: what is damaged is found before somebody asks.
async fn verify_files(warehouse: Weak<Warehouse>) {
    let Some(started) = warehouse.upgrade() else { return };
    let sources: Vec<Arc<Source>> = started.sources.read().values().cloned().collect();
    let clock = started.context.env.clock.clone();
    drop(started);
    for seal in sources.iter().flat_map(|source| source.seals()) {
        let began = clock.moment();
        // What is wrong is reported by the seal; what cannot be read now will be when somebody asks.
        let _ = blocking(move || seal.verify()).await;
        clock.sleep(clock.moment() - began).await;
        if warehouse.strong_count() == 0 {
            return;
        }
    }
}

/// Beside the flushes, so that those of other sources do not wait for a round.
async fn compact_loop(warehouse: Weak<Warehouse>) {
    loop {
        let Some(warehouse) = warehouse.upgrade() else { return };
        let sources: Vec<Arc<Source>> = warehouse.sources.read().values().cloned().collect();
        for source in sources.into_iter().filter(|s| s.flushed.swap(false, Ordering::Relaxed)) {
            warehouse.compact_source(source).await;
        }
        let clock = warehouse.context.env.clock.clone();
        drop(warehouse);
        clock.sleep(FLUSH_LOOK).await;
    }
}

#[async_trait]
impl LiveTables for Warehouse {
    async fn attach(&self, source: &SourceName) -> Result<Sender> {
        if *self.stop.borrow() {
            return Err(Error::retry(codes::CLOSED, "the warehouse is closed"));
        }
        self.stop_applier(source).await;
        if self.source(source).with_state(|state| state.halted) {
            let text = format!("the live tables of source {source} stopped inside a barrier; restart to replay it");
            return Err(Error::retry(codes::CLOSED, text));
        }
        let (sender, receiver) = tail::channel();
        let applier = self.run_applier(self.source(source), receiver)?;
        self.appliers.lock().insert(source.clone(), applier);
        Ok(sender)
    }

    fn visible(&self, source: &SourceName) -> watch::Receiver<Option<Visible>> {
        self.source(source).visible.subscribe()
    }

    fn broken(&self, source: &SourceName) -> watch::Receiver<Vec<BrokenTable>> {
        self.source(source).broken.subscribe()
    }

    async fn forget(&self, name: &SourceName, files: bool) -> Result<()> {
        self.stop_applier(name).await;
        let Some(source) = self.sources.write().remove(name) else { return Ok(()) };
        source.visible.send_replace(None);
        if files {
            let retired = blocking(move || source.retire()).await;
            self.forgotten.lock().extend(retired.into_iter().flatten());
            self.remove_forgotten().await;
        }
        self.barrier_words.lock().await.last.remove(name);
        self.note_flushed(name, None).await
    }
}

/// Topics that feed no table any more: only their retention says how long they stay.
fn release_topics(log: &dyn EventLog, is_free: impl Fn(&str) -> bool) {
    for partition in log.partitions().into_iter().filter(|partition| is_free(&partition.at.topic)) {
        log.set_retention_floor(&partition.at, partition.end);
    }
}
