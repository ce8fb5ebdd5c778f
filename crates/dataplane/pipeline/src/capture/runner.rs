//! One source's life: connect, stream, copy beside the stream, and start again after what passes. A single task orders everything that is
//! appended, so that barriers are dense and a table goes live between two source transactions.

mod copies;
mod stream;

use crate::capture::copying::{COPIED_BYTES_MAX, CopyEvent, Out};
use crate::capture::dead_letters::OnBadValue;
use crate::capture::ingest::{Ingest, IngestStart, Piece};
use crate::capture::shared::{Shared, SourceState};
use crate::capture::tables::{Change, Entry, Phase, Tables};
use crate::codes;
use crate::desired::TableIds;
use crate::metrics;
use mainstem_connector::{BadRow, FoundTable, Seen, Source, StreamItem};
use mainstem_env::{Env, JoinOnDrop, Moment};
use mainstem_envelope::Decoder;
use mainstem_envelope::tail::BrokenTable;
use mainstem_eventlog::EventLog;
use mainstem_types::{Error, ErrorKind, Position, Result, TableRecord, TableSchema, TableState, UpstreamId};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use stream::Reader;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// How often the source's catalog is read (decision 17).
const DISCOVER_INTERVAL: Duration = Duration::from_secs(1);
/// A keepalive's position becomes an empty barrier at most this often (decision 26), unless somebody waits for it.
const EMPTY_BARRIER_INTERVAL: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(30);
/// How often the state is shown to `mainstem.sources` and `mainstem.source_tables` while nothing special happens.
const SHOW_INTERVAL: Duration = Duration::from_millis(200);
/// Tables whose copies are asked for side by side. How many of them are read at once is the source's choice.
const COPIES_MAX: usize = 64;

/// What others ask of a running source.
pub enum Command {
    /// Answers with the barrier by which everything up to `target` is in, in tables that are whole.
    Wait { target: Position, answer: oneshot::Sender<u64> },
    /// Looks at the source's catalog now: what is to be captured may have changed.
    Look,
    /// Copies tables anew; None = all. Answers with how many.
    Resync { table: Option<String>, answer: oneshot::Sender<usize> },
}

/// What a runner is made of.
pub struct RunnerParts {
    pub env: Env,
    pub log: Arc<dyn EventLog>,
    pub source: Arc<dyn Source>,
    pub shared: Arc<Shared>,
    pub ids: Arc<TableIds>,
    pub records: Vec<TableRecord>,
    pub commands: mpsc::Receiver<Command>,
    /// Set (or its sender dropped): the runner ends as soon as nothing is half done.
    pub stop: watch::Receiver<bool>,
    pub ingest: IngestStart,
    pub decoder: Decoder,
    /// Live tables that cannot go on.
    pub broken: watch::Receiver<Vec<BrokenTable>>,
    /// Whether tables are written without deletion vectors.
    pub without_vectors: bool,
    pub on_bad_value: OnBadValue,
}

pub struct Runner {
    env: Env,
    log: Arc<dyn EventLog>,
    source: Arc<dyn Source>,
    shared: Arc<Shared>,
    ids: Arc<TableIds>,
    tables: Tables,
    ingest: Ingest,
    decoder: Decoder,
    commands: mpsc::Receiver<Command>,
    stop: watch::Receiver<bool>,
    copy_events: mpsc::Receiver<CopyEvent>,
    copy_out: Out,
    copies: BTreeMap<UpstreamId, JoinOnDrop<()>>,
    /// What running copies have seen, and up to where.
    copy_facts: BTreeMap<UpstreamId, (Seen, Position)>,
    waiters: Vec<(Position, oneshot::Sender<u64>)>,
    /// What the stream has passed; at or ahead of the last barrier's position.
    passed: Option<Position>,
    discovery: Option<JoinOnDrop<Result<Discovered>>>,
    /// Columns have changed since the discovery that is under way began.
    reshaped: bool,
    discover_now: bool,
    /// What the last discovery showed, while the tables are as they were made after it.
    looked: Option<Arc<Vec<FoundTable>>>,
    shown: Moment,
    backoff: Duration,
    broken: watch::Receiver<Vec<BrokenTable>>,
    /// When a table was last copied anew because it was broken, and how long it is left alone then.
    mended: BTreeMap<UpstreamId, (Moment, Duration)>,
    on_bad_value: OnBadValue,
    /// Rows that cannot be held, of the transaction (or transactions) whose end comes next.
    bad_rows: Vec<BadRow>,
}

struct Discovered {
    tables: Arc<Vec<FoundTable>>,
    /// Asked for after the catalog was read: a stream that has passed it has passed all that the catalog showed.
    head: Position,
}

impl Runner {
    pub async fn new(parts: RunnerParts) -> Result<Self> {
        let (events, copy_events) = mpsc::channel(COPIES_MAX);
        let mut tables = Tables::new(parts.ingest.source.clone(), &parts.ingest.origin.default_schema, parts.records);
        tables.set_without_vectors(parts.without_vectors);
        let shown = parts.env.clock.moment();
        Ok(Self {
            env: parts.env,
            log: parts.log,
            source: parts.source,
            shared: parts.shared,
            ids: parts.ids,
            tables,
            passed: parts.ingest.position.clone(),
            ingest: Ingest::new(parts.ingest).await?,
            decoder: parts.decoder,
            commands: parts.commands,
            stop: parts.stop,
            copy_events,
            copy_out: Out { events, room: Arc::new(Semaphore::new(COPIED_BYTES_MAX)) },
            copies: BTreeMap::new(),
            copy_facts: BTreeMap::new(),
            waiters: Vec::new(),
            discovery: None,
            reshaped: false,
            discover_now: true,
            looked: None,
            shown,
            backoff: BACKOFF_FIRST,
            broken: parts.broken,
            mended: BTreeMap::new(),
            on_bad_value: parts.on_bad_value,
            bad_rows: Vec::new(),
        })
    }

    /// Runs until it is told to stop. Its task must not be dropped before it has ended: an append that became durable would never reach the
    /// live tables, and the next runner would write the same transaction again.
    pub async fn run(mut self) {
        self.tables.publish(&self.shared, false);
        loop {
            let Err(error) = self.connected().await else { return };
            self.ingest.abandon_large();
            self.bad_rows.clear();
            self.tables.take_back();
            self.stop_copies();
            self.discovery = None;
            let state = if error.kind() == ErrorKind::Retry { SourceState::Retrying } else { SourceState::Failed };
            self.shared.set_error(state, &error);
            metrics::RECONNECTS.add(1);
            let source = &self.tables.source;
            tracing::warn!(%source, error = %error.chain(), retry_in_ms = self.backoff.as_millis() as u64, "source stopped");
            tokio::select! {
                () = told(&mut self.stop) => return,
                () = self.env.clock.sleep(self.backoff) => {}
            }
            self.backoff = (self.backoff * 2).min(BACKOFF_LAST);
        }
    }

    /// One connection's life. Ends well only when it was told to stop.
    async fn connected(&mut self) -> Result<()> {
        let mut stop = self.stop.clone();
        let prepared = tokio::select! {
            () = told(&mut stop) => return Ok(()),
            prepared = self.source.prepare(self.ingest.position()) => prepared?,
        };
        if let Some(reason) = &prepared.lost {
            tracing::warn!(source = %self.tables.source, %reason, "the place in the source's log is lost; all tables are copied anew");
            let all: Vec<_> = self.tables.iter().map(|(id, _)| id).collect();
            for upstream in all {
                self.rebuild(upstream, "the place in the source's log was lost").await?;
            }
        }
        if prepared.lost.is_some() || self.ingest.position().is_none() {
            self.ingest.commit(Piece::default(), prepared.start.clone(), 0, self.tables.take_changed()).await?;
        }
        let start = self.ingest.position().cloned().unwrap_or(prepared.start);
        self.passed = Some(start.clone());
        self.clean_unfinished().await?;
        let mut reader = tokio::select! {
            () = told(&mut stop) => return Ok(()),
            stream = self.source.stream(&start) => Reader::start(stream?),
        };
        self.discover_now = true;
        self.looked = None;
        let mut last_discovery = self.env.clock.moment();
        loop {
            if self.discovery.is_none() && (self.discover_now || self.env.clock.moment() - last_discovery >= DISCOVER_INTERVAL) {
                self.start_discovery();
                last_discovery = self.env.clock.moment();
            }
            self.start_copies();
            let due = DISCOVER_INTERVAL.saturating_sub(self.env.clock.moment() - last_discovery);
            let quiet = !self.ingest.in_large_transaction();
            tokio::select! {
                () = told(&mut stop) => return Ok(()),
                item = reader.next() => self.take_item(item?, &reader).await?,
                Some(event) = self.copy_events.recv(), if quiet => self.take_copy_events(event).await?,
                // What it asks for (a rebuild) must not come between the pieces of a transaction.
                Some(command) = self.commands.recv(), if quiet => self.take_command(command).await?,
                found = join(&mut self.discovery), if quiet && self.discovery.is_some() => {
                    self.discovery = None;
                    self.take_discovered(found?).await?;
                }
                () = self.env.clock.sleep(due), if self.discovery.is_none() => {}
            }
            if !self.ingest.in_large_transaction() {
                self.settle(&reader).await?;
            }
        }
    }

    /// What is due between two items: tables that became whole, records to write, waiters to answer.
    async fn settle(&mut self, reader: &Reader) -> Result<()> {
        self.mend_broken().await?;
        self.apply_ahead().await?;
        self.finish_copies().await?;
        let Some(passed) = self.passed.clone() else { return Ok(()) };
        let written = self.ingest.position().is_some_and(|p| *p == passed);
        let wanted = !self.waiters.is_empty() || self.ingest.since_last_barrier() >= EMPTY_BARRIER_INTERVAL;
        let changed = self.tables.has_changes();
        if changed || (!written && wanted) {
            let records = self.tables.take_changed();
            self.ingest.commit(Piece::default(), passed.clone(), 0, records).await?;
            reader.acknowledge(&passed);
        }
        // Shown first: who waited may look at once.
        self.show(changed || !self.waiters.is_empty());
        self.answer_waiters();
        Ok(())
    }

    /// Lets others see how far we are; not after every commit, since it costs more than one.
    fn show(&mut self, now: bool) {
        let moment = self.env.clock.moment();
        if !now && moment - self.shown < SHOW_INTERVAL {
            return;
        }
        self.shown = moment;
        self.tables.publish(&self.shared, false);
        let copying = self.tables.unsettled().any(|(_, e)| !matches!(e.phase, Phase::Live | Phase::Failed));
        self.shared.set_state(if copying { SourceState::Snapshotting } else { SourceState::Streaming });
    }

    fn answer_waiters(&mut self) {
        let Some(position) = self.ingest.position().cloned() else { return };
        if self.waiters.is_empty() || self.tables.unsettled().next().is_some() || self.discover_now || self.discovery.is_some() {
            return;
        }
        let seq = self.ingest.seq();
        let waiters = std::mem::take(&mut self.waiters);
        for (target, answer) in waiters {
            if self.source.covers(&position, &target) {
                let _ = answer.send(seq);
            } else {
                self.waiters.push((target, answer));
            }
        }
    }

    async fn take_command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Wait { target, answer } => {
                self.waiters.push((target, answer));
                self.discover_now = true;
            }
            Command::Look => self.discover_now = true,
            Command::Resync { table, answer } => {
                let wanted = |e: &Entry| table.as_ref().is_none_or(|name| e.record.schema.name.to_string() == *name);
                let chosen: Vec<_> = self.tables.iter().filter(|(_, e)| wanted(e)).map(|(id, _)| id).collect();
                for upstream in &chosen {
                    self.rebuild(*upstream, "asked for by RESYNC").await?;
                }
                let _ = answer.send(chosen.len());
            }
        }
        Ok(())
    }

    // ---- the catalog -------------------------------------------------------------------------------------------------------

    fn start_discovery(&mut self) {
        self.discover_now = false;
        self.reshaped = false;
        let source = self.source.clone();
        self.discovery = Some(mainstem_env::spawn("discover", async move {
            let tables = source.discover().await?;
            Ok(Discovered { tables, head: source.head().await? })
        }));
    }

    async fn take_discovered(&mut self, found: Discovered) -> Result<()> {
        self.backoff = BACKOFF_FIRST;
        self.shared.with(|facts| facts.head = Some(found.head.clone()));
        if std::mem::take(&mut self.reshaped) {
            // The catalog may have been read before what the stream has told since: what it shows as ahead could be behind.
            self.discover_now = true;
            return Ok(());
        }
        if self.looked.as_ref().is_some_and(|looked| Arc::ptr_eq(looked, &found.tables)) {
            return Ok(());
        }
        let mut excluded = BTreeMap::new();
        let mut captured = BTreeMap::new();
        for table in found.tables.iter() {
            let upstream = table.schema.upstream;
            match table.excluded.clone() {
                Some(reason) => drop(excluded.insert(upstream, (table.schema.name.clone(), reason))),
                None => drop(captured.insert(upstream, table)),
            }
        }
        self.tables.set_excluded(excluded);
        let renamed = |e: &Entry| captured.get(&e.record.schema.upstream).is_none_or(|f| f.schema.name != e.record.schema.name);
        let gone: Vec<_> = self.tables.iter().filter(|(_, e)| renamed(e)).map(|(id, _)| id).collect();
        for upstream in gone {
            self.forget_table(upstream).await?;
        }
        let mut taken = None;
        for (upstream, table) in captured {
            if self.tables.get(upstream).is_some() {
                self.compare(table, &found.head).await?;
            } else {
                self.add_table(table, taken.get_or_insert_with(|| topics(&*self.log, &self.tables))).await?;
            }
        }
        self.looked = Some(found.tables);
        Ok(())
    }

    /// What the catalog shows of a table that is known.
    async fn compare(&mut self, table: &FoundTable, head: &Position) -> Result<()> {
        let upstream = table.schema.upstream;
        let parents: Vec<_> = table.parents.iter().map(|p| self.tables.query_name(p)).collect();
        let Some(entry) = self.tables.entry(upstream) else { return Ok(()) };
        entry.rows_estimated = table.rows_estimated;
        entry.ahead = match entry.change_to(&table.schema) {
            Change::None => None,
            _ => Some((table.schema.clone(), head.clone())),
        };
        let rewritten = match (&entry.record.body, &table.body) {
            (Some(before), Some(now)) => before.rewritten(now, &table.schema),
            _ => None,
        };
        if entry.record.parents != parents || entry.record.body != table.body {
            entry.change_record(|r| (r.parents, r.body) = (parents, table.body.clone()));
            self.tables.touch(upstream);
        }
        if let Some(reason) = rewritten {
            // What it now is goes into the record at the same barrier as the rebuild: seen once, it is not forgotten.
            self.rebuild(upstream, reason).await?;
        }
        Ok(())
    }

    /// `taken`: the names of all topics.
    async fn add_table(&mut self, found: &FoundTable, taken: &mut HashSet<Arc<str>>) -> Result<()> {
        let id = self.ids.next().await?;
        self.tables.add(id, found, taken);
        self.looked = None;
        Ok(())
    }

    /// A table that the stream names before the catalog poll has shown it.
    async fn add_streamed(&mut self, schema: Arc<TableSchema>) -> Result<()> {
        let found = FoundTable { schema, rows_estimated: None, parents: Vec::new(), excluded: None, body: None };
        let mut taken = topics(&*self.log, &self.tables);
        self.discover_now = true;
        self.add_table(&found, &mut taken).await
    }

    async fn forget_table(&mut self, upstream: UpstreamId) -> Result<()> {
        self.copies.remove(&upstream);
        self.looked = None;
        if let Some(entry) = self.tables.remove(upstream) {
            tracing::info!(table = %entry.record.schema.name, "table is no longer captured");
            self.ingest.drop_topic(&entry.staging_topic()).await?;
        }
        Ok(())
    }

    /// Takes columns that the catalog poll saw, once the stream has passed everything that came before.
    async fn apply_ahead(&mut self) -> Result<()> {
        let Some(passed) = &self.passed else { return Ok(()) };
        let due = |e: &Entry| matches!(&e.ahead, Some((_, head)) if self.source.covers(passed, head));
        let due: Vec<_> = self.tables.unsettled().filter(|(_, e)| due(e)).map(|(id, _)| id).collect();
        for upstream in due {
            let ahead = self.tables.entry(upstream).and_then(|e| e.ahead.take());
            if let Some((schema, _)) = ahead {
                self.take_schema(schema).await?;
            }
        }
        Ok(())
    }

    async fn take_schema(&mut self, schema: Arc<TableSchema>) -> Result<()> {
        let upstream = schema.upstream;
        self.looked = None;
        let Some(entry) = self.tables.entry(upstream) else { return Ok(()) };
        if entry.record.schema.name != schema.name {
            // Another name is another table here; the catalog poll finds the rest (its parent, whether it is still wanted).
            self.forget_table(upstream).await?;
            return self.add_streamed(schema).await;
        }
        let change = entry.change_to(&schema);
        self.reshaped |= change != Change::None;
        match (change, &entry.phase) {
            (Change::None, _) => {}
            (Change::InPlace, Phase::Live) => {
                tracing::info!(table = %schema.name, "columns added or dropped");
                entry.set_schema(schema);
                self.tables.touch(upstream);
            }
            (_, Phase::Waiting) => entry.set_schema(schema),
            (Change::Rebuild(reason), _) => self.rebuild(upstream, reason).await?,
            (Change::InPlace, _) => self.rebuild(upstream, "its columns changed while it was copied").await?,
        }
        Ok(())
    }

    async fn take_stale(&mut self, upstream: UpstreamId, reason: &str) -> Result<()> {
        if self.tables.get(upstream).is_some() {
            self.rebuild(upstream, reason).await?;
        }
        Ok(())
    }

    fn take_failed(&mut self, upstream: UpstreamId, error: &Error) {
        self.copies.remove(&upstream);
        let Some(entry) = self.tables.entry(upstream) else { return };
        tracing::warn!(table = %entry.record.schema.name, error = %error.chain(), "table failed; the others go on");
        entry.phase = Phase::Failed;
        entry.change_record(|r| {
            r.state = TableState::Failed;
            r.error_code = Some(error.code().id.into());
            r.error = Some(error.message().into());
        });
        self.tables.touch(upstream);
    }
}

/// The names of all topics, those of tables that have none yet included.
fn topics(log: &dyn EventLog, tables: &Tables) -> HashSet<Arc<str>> {
    log.partitions().into_iter().map(|p| p.at.topic).chain(tables.topics().cloned()).collect()
}

/// Returns when the runner is told to stop, or nobody is left to tell it.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await; // an error is a sender that is gone
}

/// Waits for a discovery that runs.
async fn join(discovery: &mut Option<JoinOnDrop<Result<Discovered>>>) -> Result<Discovered> {
    match discovery {
        Some(task) => task
            .wait()
            .await
            .unwrap_or_else(|| Err(Error::retry(codes::SOURCE_STOPPED, "reading the source's catalog was interrupted"))),
        None => std::future::pending().await,
    }
}
