//! The control of sources: what users declare is made durable, then made true by a runner per source.

pub mod secret;
mod system;

use crate::capture::dead_letters::{self, Letter, OnBadValue};
use crate::capture::ingest::{IngestStart, Origin};
use crate::capture::runner::{Command, Runner, RunnerParts};
use crate::capture::shared::{Shared, SourceState};
use crate::codes;
use crate::control::secret::{SecretKey, without_password};
use crate::desired::{Desired, SourceRecord, TableIds};
use async_trait::async_trait;
use mainstem_connector::{Connector, Finding, Options, Severity, Source, SourceSettings, no_connector};
use mainstem_env::{Env, JoinOnDrop};
use mainstem_envelope::tail::{BrokenTable, LiveTables};
use mainstem_envelope::{Decoder, Schemas};
use mainstem_eventlog::{EventLog, KeyedReader};
use mainstem_types::barrier::TABLE_TOPIC;
use mainstem_types::control::{Control, DropMode, Notice, Outcome, SourceDeclaration, shown_name};
use mainstem_types::sources::{SourceStatus, SourceTableStatus};
use mainstem_types::{Code, Error, Principal, Result, SourceName, TableId, TableName, TableRecord, TableState, UpstreamId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// What the control is made of.
pub struct SourcesParts {
    pub env: Env,
    pub log: Arc<dyn EventLog>,
    pub schemas: Arc<Schemas>,
    pub live: Arc<dyn LiveTables>,
    pub connectors: Vec<Arc<dyn Connector>>,
    pub key: SecretKey,
    /// Directory for what sources keep on disk for a while; emptied at start.
    pub spool_dir: PathBuf,
    /// What is wrong with the disk of the data directory, if anything is.
    pub disk: DiskWatch,
}

/// What is wrong with the disk.
pub struct DiskTrouble {
    pub code: Code,
    pub message: String,
    /// Nothing can be appended.
    pub full: bool,
}

/// Asked whenever the state of sources is.
pub type DiskWatch = Arc<dyn Fn() -> Option<DiskTrouble> + Send + Sync>;

/// All sources. One per server.
pub struct Sources {
    env: Env,
    log: Arc<dyn EventLog>,
    schemas: Arc<Schemas>,
    live: Arc<dyn LiveTables>,
    connectors: Vec<Arc<dyn Connector>>,
    key: SecretKey,
    spool_dir: PathBuf,
    disk: DiskWatch,
    desired: Arc<Desired>,
    ids: Arc<TableIds>,
    running: Mutex<BTreeMap<SourceName, Running>>,
    /// Dropped sources of this name ended at this barrier, and what of theirs is left on the source's side.
    dropped: Mutex<BTreeMap<SourceName, (u64, BTreeSet<String>)>>,
    /// One declaration at a time.
    declaring: tokio::sync::Mutex<()>,
}

/// A declared source and, unless paused, its runner.
struct Running {
    record: SourceRecord,
    shared: Arc<Shared>,
    source: Arc<dyn Source>,
    runner: Option<Handle>,
}

/// A runner at work.
struct Handle {
    commands: mpsc::Sender<Command>,
    stop: watch::Sender<bool>,
    task: JoinOnDrop<()>,
}

impl Sources {
    /// Reads what was declared and starts it.
    pub async fn open(parts: SourcesParts) -> Result<Arc<Self>> {
        let desired = Arc::new(Desired::open(parts.env.clone(), parts.log.clone()).await?);
        let sources = Arc::new(Self {
            env: parts.env,
            log: parts.log,
            schemas: parts.schemas,
            live: parts.live,
            connectors: parts.connectors,
            key: parts.key,
            spool_dir: parts.spool_dir,
            disk: parts.disk,
            ids: Arc::new(TableIds::new(desired.clone())),
            desired,
            running: Mutex::default(),
            dropped: Mutex::default(),
            declaring: tokio::sync::Mutex::default(),
        });
        for record in sources.desired.sources() {
            match record.dropped_at_seq {
                Some(seq) => drop(sources.dropped.lock().insert(record.name.clone(), (seq, record.owned))),
                None => sources.start(record).await?,
            }
        }
        Ok(sources)
    }

    /// The newest dead letters of all sources, each with its topic and offset; without values.
    pub fn dead_letters(&self) -> Vec<(String, i64, Letter)> {
        let of = |running: &Running| running.shared.with(|facts| facts.letters.iter().cloned().collect::<Vec<_>>());
        let shown = |(offset, letter): (i64, Letter)| (dead_letters::topic(&letter.source), offset, letter);
        self.running.lock().values().flat_map(of).map(shown).collect()
    }

    /// Stops all runners; what they had not made durable was not acknowledged.
    pub fn stop(&self) {
        self.running.lock().clear();
    }

    fn connector_of(&self, record: &SourceRecord) -> Result<&Arc<dyn Connector>> {
        let connector = self.connectors.iter().find(|c| c.spec().name == record.connector);
        connector.ok_or_else(|| no_connector(codes::NO_CONNECTOR, &record.shown_url, &self.connectors))
    }

    fn open_source(&self, record: &SourceRecord, url: String) -> Result<Arc<dyn Source>> {
        let connector = self.connector_of(record)?;
        let spool_dir = Some(self.spool_dir.join(record.name.as_str()));
        let settings = SourceSettings {
            name: record.name.clone(),
            url,
            options: record.options.clone(),
            owned: record.owned.clone(),
            spool_dir,
        };
        connector.open(self.env.clone(), settings)
    }

    /// Starts the runner of a declared source (or notes it as paused).
    async fn start(&self, record: SourceRecord) -> Result<()> {
        let url = self.key.open(&record.sealed_url)?;
        let connector = self.connector_of(&record)?;
        let origin = Origin {
            block: &connector.spec().source_block,
            database: connector.database(&url),
            default_schema: connector.default_schema(&url),
        };
        let source = self.open_source(&record, url)?;
        let name = record.name.clone();
        let shared = Arc::new(Shared::new(if record.paused { SourceState::Paused } else { SourceState::Starting }));
        shared.show_letters(dead_letters::newest(&*self.log, &name).await?);
        let records = self.table_records(&name).await?;
        let runner = match record.paused {
            true => {
                let mut tables = crate::capture::tables::Tables::new(name.clone(), &origin.default_schema, records);
                tables.publish(&shared, true);
                None
            }
            false => Some(self.start_runner(&record, origin, source.clone(), shared.clone(), records).await?),
        };
        self.running.lock().insert(name, Running { record, shared, source, runner });
        Ok(())
    }

    async fn start_runner(
        &self,
        record: &SourceRecord,
        origin: Origin,
        source: Arc<dyn Source>,
        shared: Arc<Shared>,
        records: Vec<TableRecord>,
    ) -> Result<Handle> {
        let name = &record.name;
        let tail = self.live.attach(name).await?;
        let visible = self.live.visible(name);
        let last = visible.borrow().clone();
        let seq = last.as_ref().map(|v| v.seq).or_else(|| self.dropped.lock().get(name).map(|(seq, _)| *seq)).unwrap_or(0);
        let ingest = IngestStart {
            env: self.env.clone(),
            log: self.log.clone(),
            schemas: self.schemas.clone(),
            tail,
            shared: shared.clone(),
            source: name.clone(),
            origin,
            seq,
            position: last.map(|v| v.position),
        };
        let (send, commands) = mpsc::channel(16);
        let (stop, stopped) = watch::channel(false);
        let parts = RunnerParts {
            env: self.env.clone(),
            log: self.log.clone(),
            source,
            shared,
            ids: self.ids.clone(),
            records,
            commands,
            stop: stopped,
            ingest,
            decoder: Decoder::new(self.schemas.clone()),
            broken: self.live.broken(name),
            without_vectors: record.options.0.get("deletion_vectors").is_some_and(|value| value == "off"),
            on_bad_value: on_bad_value(&record.options),
        };
        let runner = Runner::new(parts).await?;
        Ok(Handle { commands: send, stop, task: mainstem_env::spawn("source", runner.run()) })
    }

    /// The last records of a source's tables.
    async fn table_records(&self, source: &SourceName) -> Result<Vec<TableRecord>> {
        let mut topic: KeyedReader<TableId, TableRecord> = KeyedReader::new(self.log.clone(), TABLE_TOPIC);
        let records = topic.read().await?.into_iter().filter_map(|change| change.value);
        let mut records: Vec<_> = records.filter(|r| r.source == *source && r.state != TableState::Dropped).collect();
        records.sort_unstable_by_key(|record| record.table);
        Ok(records)
    }

    async fn save(&self, record: &SourceRecord) -> Result<()> {
        self.desired.save(record).await
    }

    fn check_name(&self, text: &str) -> Result<SourceName> {
        let bad = |reason| Error::fix(codes::BAD_NAME, format!("source name `{}`: {reason}", shown_name(text)));
        let name = SourceName::new(text).map_err(bad)?;
        let running = self.running.lock();
        if running.contains_key(&name) {
            return Err(Error::fix(codes::NAME_TAKEN, format!("there is a source `{name}` already"))
                .hint(format!("Choose another name, or drop it first: DROP SOURCE {name} CASCADE;")));
        }
        let prefixed = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('_'));
        if let Some(other) =
            running.keys().find(|other| prefixed(name.as_str(), other.as_str()) || prefixed(other.as_str(), name.as_str()))
        {
            return Err(Error::fix(
                codes::NAME_COLLIDES,
                format!(
                    "a source `{name}` could collide with schemas of source `{other}`: its schema `x` is shown as `<source>_x`"
                ),
            )
            .hint("Choose a name of which neither begins with the other and an underscore."));
        }
        Ok(name)
    }

    fn look<T>(&self, name: &str, look: impl FnOnce(&Running) -> T) -> Result<T> {
        let running = self.running.lock();
        match running.iter().find(|(known, _)| known.as_str() == name) {
            Some((_, running)) => Ok(look(running)),
            None => {
                let known: Vec<_> = running.keys().map(|k| format!("`{k}`")).collect();
                let hint = if known.is_empty() {
                    "Run CREATE SOURCE: there is no source yet.".into()
                } else {
                    format!("There is {}.", known.join(", "))
                };
                Err(Error::fix(codes::NO_SOURCE, format!("there is no source `{}`", shown_name(name))).hint(hint))
            }
        }
    }

    /// Stops a source's runner and starts it with a changed record, made durable first.
    async fn restart(&self, name: &str, change: impl FnOnce(&mut SourceRecord)) -> Result<()> {
        let mut record = self.look(name, |r| r.record.clone())?;
        change(&mut record);
        self.save(&record).await?;
        self.stop_runner(&record.name).await;
        self.start(record).await
    }

    /// Ends a source's runner between two appends, so that the next one goes on exactly where it stopped.
    async fn stop_runner(&self, name: &SourceName) {
        let handle = self.running.lock().get_mut(name).and_then(|r| r.runner.take());
        if let Some(Handle { stop, task, .. }) = handle {
            stop.send_replace(true);
            let _ = task.join().await; // None: it panicked, and is gone as well
        }
    }

    async fn ask<T>(&self, name: &str, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<oneshot::Receiver<T>> {
        let sender = self.look(name, |r| r.runner.as_ref().map(|h| h.commands.clone()))?;
        let sender = sender.ok_or_else(|| paused(name))?;
        let (answer, receiver) = oneshot::channel();
        sender.send(command(answer)).await.map_err(|_| stopped(name))?;
        Ok(receiver)
    }

    async fn wait_for(&self, name: &str, until: Option<&str>) -> Result<()> {
        let source = self.look(name, |r| r.source.clone())?;
        if self.look(name, |r| r.runner.is_none())? {
            return Err(paused(name));
        }
        let target = match until {
            Some(text) => source.parse_position(text)?,
            None => source.head().await?,
        };
        let seq = self.ask(name, |answer| Command::Wait { target, answer }).await?.await.map_err(|_| stopped(name))?;
        let name = self.look(name, |r| r.record.name.clone())?;
        let mut visible = self.live.visible(&name);
        let reached = visible.wait_for(|v| v.as_ref().is_some_and(|v| v.seq >= seq)).await;
        reached.map(|_| ()).map_err(|_| stopped(name.as_str()))
    }
}

/// A live table that broke has failed, whatever its source says of it, unless it is being copied anew.
fn show_broken(status: &mut SourceTableStatus, broken: &BrokenTable) {
    if matches!(status.state, TableState::Streaming | TableState::Paused) {
        status.state = TableState::Failed;
        status.error_code = Some(broken.code.id.to_string());
        status.error = Some(broken.message.clone());
    }
}

/// What a source's options say of rows that cannot be held.
fn on_bad_value(options: &Options) -> OnBadValue {
    OnBadValue::of(options.common("on_bad_value"))
}

fn paused(name: &str) -> Error {
    Error::fix(codes::PAUSED, format!("source `{name}` is paused")).hint(format!("Run RESUME SOURCE {name};"))
}

fn stopped(name: &str) -> Error {
    Error::retry(codes::SOURCE_STOPPED, format!("source `{name}` was stopped meanwhile"))
        .hint("See mainstem.sources for the reason.")
}

/// Findings as one error (when any is fatal) or as notices.
fn judge(name: &SourceName, findings: Vec<Finding>) -> Result<Vec<Notice>> {
    let show = |f: &Finding| match &f.fix {
        Some(fix) => format!("[{}] {}; fix: {fix}", f.code, f.message),
        None => format!("[{}] {}", f.code, f.message),
    };
    let fatal: Vec<_> = findings.iter().filter(|f| f.severity == Severity::Fatal).collect();
    if fatal.is_empty() {
        return Ok(findings.iter().filter(|f| f.severity == Severity::Warning).map(show).collect());
    }
    // One finding a line, and under it what mends it: a long list is read, and copied from.
    let mut message = format!("source `{name}` is not ready:");
    for finding in &fatal {
        message.push_str(&format!("\n[{}] {}", finding.code, finding.message));
        if let Some(fix) = &finding.fix {
            message.push_str(&format!("\n    {fix}"));
        }
    }
    let hint = "Mend each and run the statement again. `mainstem check URL` shows the same without a server, warnings and notes too, and \
                prints a script for an administrator.";
    Err(Error::fix(codes::PREFLIGHT, message).hint(hint))
}

#[async_trait]
impl Control<SourceDeclaration> for Sources {
    async fn execute(&self, _: &Principal, declaration: SourceDeclaration) -> Result<Outcome> {
        let notices = match declaration {
            SourceDeclaration::Create { name, if_not_exists, url, options } => {
                self.create(&name, if_not_exists, url, options).await?
            }
            SourceDeclaration::Alter { name, options } => self.alter(&name, options).await?,
            SourceDeclaration::Pause { name } => self.pause(&name).await?,
            SourceDeclaration::Resume { name } => self.resume(&name).await?,
            SourceDeclaration::Resync { name, table } => self.resync(&name, table.as_deref()).await?,
            SourceDeclaration::Drop { name, if_exists, mode } => self.drop(&name, if_exists, mode).await?,
            SourceDeclaration::Wait { name, until, timeout } => {
                self.wait(&name, until.as_deref(), timeout).await?;
                Vec::new()
            }
            SourceDeclaration::ShowCreate { name } => {
                return Ok(Outcome { notices: Vec::new(), text: Some(self.show_create(&name)?) });
            }
        };
        Ok(Outcome::notices(notices))
    }
}

impl Sources {
    async fn create(
        &self,
        name: &str,
        if_not_exists: bool,
        url: String,
        options: BTreeMap<String, String>,
    ) -> Result<Vec<Notice>> {
        let _one = self.declaring.lock().await;
        if if_not_exists && self.look(name, |_| ()).is_ok() {
            return Ok(vec![format!("source `{name}` is there already, skipped")]);
        }
        let name = self.check_name(name)?;
        let connector = self.connectors.iter().find(|c| c.accepts(&url));
        let connector = connector.ok_or_else(|| no_connector(codes::NO_CONNECTOR, &url, &self.connectors))?;
        let options = connector.spec().check(options)?;
        let mut record = SourceRecord {
            name: name.clone(),
            connector: connector.spec().name.to_string(),
            sealed_url: self.key.seal(&self.env, &url)?,
            shown_url: without_password(&url),
            options,
            paused: false,
            owned: self.dropped.lock().get(&name).map(|(_, left)| left.clone()).unwrap_or_default(),
            dropped_at_seq: None,
        };
        let source = self.open_source(&record, url)?;
        let notices = judge(&name, source.check().await?)?;
        record.owned = source.remote_objects().into_iter().collect();
        self.save(&record).await?;
        self.start(record).await?;
        Ok(notices)
    }

    async fn alter(&self, name: &str, options: BTreeMap<String, String>) -> Result<Vec<Notice>> {
        let _one = self.declaring.lock().await;
        let record = self.look(name, |r| r.record.clone())?;
        let connector = self.connector_of(&record)?;
        let mut merged = record.options.0.clone();
        merged.extend(options);
        let options: Options = connector.spec().check(merged)?;
        let changed = SourceRecord { options: options.clone(), ..record };
        let source = self.open_source(&changed, self.key.open(&changed.sealed_url)?)?;
        let notices = judge(&changed.name, source.check().await?)?;
        self.save(&changed).await?;
        let kept = self.look(name, |r| on_bad_value(&r.record.options))? == on_bad_value(&options);
        if !kept || !self.look(name, |r| r.source.reconfigure(&options))?? {
            self.restart(name, |r| r.options = options).await?;
            return Ok(notices);
        }
        let commands = self.running.lock().get_mut(&changed.name).and_then(|running| {
            running.record = changed;
            running.runner.as_ref().map(|handle| handle.commands.clone())
        });
        if let Some(commands) = commands {
            // A runner that is gone by now looks at the catalog first thing when it is back.
            let _ = commands.send(Command::Look).await;
        }
        Ok(notices)
    }

    async fn pause(&self, name: &str) -> Result<Vec<Notice>> {
        let _one = self.declaring.lock().await;
        self.restart(name, |r| r.paused = true).await?;
        Ok(vec![format!("while `{name}` is paused its database keeps the log for us; see lag_bytes in mainstem.sources")])
    }

    async fn resume(&self, name: &str) -> Result<Vec<Notice>> {
        let _one = self.declaring.lock().await;
        self.restart(name, |r| r.paused = false).await?;
        Ok(Vec::new())
    }

    async fn resync(&self, name: &str, table: Option<&str>) -> Result<Vec<Notice>> {
        let wanted = table.map(str::to_string);
        let count = self.ask(name, |answer| Command::Resync { table: wanted, answer }).await?.await.map_err(|_| stopped(name))?;
        match (count, table) {
            (0, Some(table)) => Err(Error::fix(codes::NO_TABLE, format!("source `{name}` captures no table `{table}`"))
                .hint("Write it as `schema.table`, as the source spells it; see mainstem.source_tables.")),
            (count, _) => Ok(vec![format!("{count} table(s) are copied anew; the present ones stay readable until the swap")]),
        }
    }

    async fn drop(&self, name: &str, if_exists: bool, mode: DropMode) -> Result<Vec<Notice>> {
        let _one = self.declaring.lock().await;
        let record = match self.look(name, |r| r.record.clone()) {
            Ok(record) => record,
            Err(_) if if_exists => return Ok(vec![format!("there is no source `{}`, skipped", shown_name(name))]),
            Err(error) => return Err(error),
        };
        let tables = self.table_records(&record.name).await?;
        // A source that was just created has not looked for its tables yet: it counts as one that has some.
        let unseen = self.look(name, |r| r.runner.is_some() && r.shared.with(|f| f.head.is_none()))?;
        if mode == DropMode::Restrict && (unseen || !tables.is_empty()) {
            let fed = if unseen { "its tables".to_string() } else { format!("{} table(s)", tables.len()) };
            return Err(Error::fix(codes::HAS_TABLES, format!("source `{name}` feeds {fed}")).hint(format!(
                "Run DROP SOURCE {name} KEEP DATA to leave them readable, or DROP SOURCE {name} CASCADE to remove them."
            )));
        }
        // Refused while nothing is touched yet, when the end could not be made durable (a full disk).
        self.save(&record).await?;
        self.stop_runner(&record.name).await;
        let tables = self.table_records(&record.name).await?;
        // Taking the applier over makes it finish what is on its way: the last barrier written is then the visible one.
        drop(self.live.attach(&record.name).await);
        let seq = self.live.visible(&record.name).borrow().as_ref().map_or(0, |v| v.seq);
        // Dropped here from now on, whatever the source says to it; what we made there stays ours, should this name come back.
        let mut ended = SourceRecord { dropped_at_seq: Some(seq), ..record.clone() };
        self.save(&ended).await?;
        let gone = self.running.lock().remove(&record.name);
        let mut notices = Vec::new();
        if let Some(Running { source, .. }) = gone {
            match source.remove().await {
                Ok(()) => {
                    ended.owned.clear();
                    self.save(&ended).await?;
                }
                Err(error) => {
                    notices.push(format!("the source could not be cleaned: {}", error.message()));
                    notices.extend(error.hint_text().map(|left| format!("left to do there: {left}")));
                }
            }
        }
        self.forget_staging(&tables).await?;
        if mode == DropMode::Cascade {
            self.forget(&record.name, tables).await?;
        }
        self.dropped.lock().insert(record.name, (seq, ended.owned));
        Ok(notices)
    }

    async fn wait(&self, name: &str, until: Option<&str>, timeout: Option<Duration>) -> Result<()> {
        let Some(timeout) = timeout else { return self.wait_for(name, until).await };
        tokio::select! {
            done = self.wait_for(name, until) => done,
            () = self.env.clock.sleep(timeout) => Err(Error::retry(
                codes::WAIT_TIMEOUT,
                format!("source `{name}` was not caught up after {} ms", timeout.as_millis()),
            )
            .hint("See mainstem.sources for its lag, mainstem.source_tables for tables being copied.")),
        }
    }

    fn show_create(&self, name: &str) -> Result<String> {
        self.look(name, |r| {
            let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
            let options: Vec<_> = r.record.options.0.iter().map(|(k, v)| format!("{k} = {}", quote(v))).collect();
            let with = if options.is_empty() { String::new() } else { format!(" WITH ({})", options.join(", ")) };
            format!("CREATE SOURCE {} FROM {}{with}", r.record.name, quote(&r.record.shown_url))
        })
    }

    pub fn sources(&self) -> Vec<SourceStatus> {
        self.running.lock().values().map(|r| self.status(r)).collect()
    }

    /// Why a table's updates and deletes do not come, and what mends it.
    pub(crate) fn inserts_only(&self, table: &SourceTableStatus) -> Option<String> {
        let name = TableName::new(&table.schema_name, &table.table_name);
        self.look(table.source.as_str(), |running| running.source.inserts_only(&name)).ok()
    }

    pub fn tables(&self) -> Vec<SourceTableStatus> {
        let tables = |r: &Running| {
            let broken = self.live.broken(&r.record.name).borrow().clone();
            let state = |(id, status): (&UpstreamId, &SourceTableStatus)| {
                let mut status = status.clone();
                if let Some(broken) = broken.iter().find(|b| b.upstream == *id) {
                    show_broken(&mut status, broken);
                }
                status
            };
            r.shared.with(|f| f.tables.iter().map(state).collect::<Vec<_>>())
        };
        self.running.lock().values().flat_map(tables).collect()
    }
}

impl Sources {
    /// Copies that the drop cut off leave their staging topics behind.
    async fn forget_staging(&self, tables: &[TableRecord]) -> Result<()> {
        let prefixes: Vec<_> = tables.iter().map(|t| format!("_mainstem.staging.{}.", t.table)).collect();
        let topics: BTreeSet<_> = self.log.partitions().into_iter().map(|p| p.at.topic).collect();
        for topic in topics.into_iter().filter(|t| prefixes.iter().any(|p| t.starts_with(p))) {
            self.log.delete_topic(&topic).await?;
        }
        Ok(())
    }

    async fn forget(&self, name: &SourceName, tables: Vec<TableRecord>) -> Result<()> {
        // First what a start goes by: one that comes in the middle of the rest must not bring tables back whose files are gone.
        let gone: Vec<_> = tables.into_iter().map(|t| TableRecord { state: TableState::Dropped, ..t }).collect();
        if !gone.is_empty() {
            let now_ms = self.env.clock.now_us() / 1000;
            let part = mainstem_envelope::table_append(&gone.iter().collect::<Vec<_>>(), now_ms);
            self.log.append(vec![part], None).await?;
        }
        self.live.forget(name, true).await?;
        self.log.delete_topic(&dead_letters::topic(name)).await?;
        let prefix = format!("{name}.");
        let topics: BTreeSet<_> =
            self.log.partitions().into_iter().map(|p| p.at.topic).filter(|t| t.starts_with(&prefix)).collect();
        for topic in topics {
            self.log.delete_topic(&topic).await?;
        }
        Ok(())
    }

    fn status(&self, running: &Running) -> SourceStatus {
        let visible = self.live.visible(&running.record.name).borrow().clone();
        let now_us = self.env.clock.now_us();
        running.shared.with(|facts| {
            let behind = match (&visible, &facts.head) {
                (Some(v), Some(head)) if !running.source.covers(&v.position, head) => {
                    running.source.distance_bytes(&v.position, head).map(|bytes| bytes.max(0))
                }
                (Some(_), Some(_)) => Some(0),
                _ => None,
            };
            let lag_ms = match (&visible, behind) {
                (Some(_), Some(0)) => Some(0),
                (Some(v), Some(_)) => Some(((now_us - v.at_us) / 1000).max(0)),
                _ => None,
            };
            let (mut state, mut error_code, mut error) = (facts.state.as_str(), facts.error_code.clone(), facts.error.clone());
            if let Some(trouble) = (self.disk)().filter(|_| running.runner.is_some()) {
                if trouble.full {
                    state = "disk_full";
                }
                // What keeps a source from going on is said before what may come.
                if trouble.full || error.is_none() {
                    (error_code, error) = (Some(trouble.code.id.to_string()), Some(trouble.message));
                }
            }
            SourceStatus {
                name: running.record.name.clone(),
                connector: running.record.connector.clone(),
                state: state.to_string(),
                position: visible.map(|v| v.position.to_string()),
                lag_bytes: behind,
                lag_ms,
                error_code,
                error,
            }
        })
    }
}
