//! The contract between one system and the pipeline. Small and stable: a connector knows nothing of topics, logs or tables of ours.
//!
//! **Order.** A stream yields whole transactions in commit order; the rows of one table keep their order. **Durability.** The
//! pipeline calls `acknowledge(p)` only when everything up to `p` is durable; a connector never tells its system more.
//! **Duplicates.** After a reconnect or a crash the stream may repeat transactions; the pipeline drops what `covers` says it has,
//! item by item: none spans the position that the stream was asked for.
//! **Shutdown.** Dropping a stream or a copy ends it; nothing is lost, because nothing unacknowledged was promised.
//! **Back-pressure.** A connector reads on only when asked for the next item, and keeps its session alive meanwhile.

mod spec;

pub use spec::{BAD_OPTION, OptionKind, OptionSpec, Options, Spec, TypeSpec, no_connector};

use async_trait::async_trait;
use mainstem_env::Env;
use mainstem_types::metrics::Metric;
use mainstem_types::{ChangeBatch, Error, Op, Position, Result, SourceName, TableBody, TableName, TableSchema, Tx, UpstreamId};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The code for one system: a value in the server's registry.
#[async_trait]
pub trait Connector: Send + Sync {
    fn spec(&self) -> &'static Spec;
    /// Whether this connector speaks the URL's scheme.
    fn accepts(&self, url: &str) -> bool;
    /// The database a URL names, as `source.db` of envelopes shows it; empty where it names none.
    fn database(&self, url: &str) -> String;
    /// The schema whose tables stand under the source's own name; those of schema `x` stand under `<source>_x`.
    fn default_schema(&self, url: &str) -> String;
    /// What it counts, over all its sources.
    fn metrics(&self) -> &'static [&'static dyn Metric];
    /// Parses and checks URL and options without touching the network.
    fn open(&self, env: Env, settings: SourceSettings) -> Result<Arc<dyn Source>>;
}

/// What a source is opened with.
#[derive(Clone)]
pub struct SourceSettings {
    pub name: SourceName,
    /// With its secrets in clear: never printed, so no Debug.
    pub url: String,
    /// Checked against the spec.
    pub options: Options,
    /// Names of remote objects (slots, publications) that this data directory recorded making: only those may be used or dropped
    /// without having been named by the user (decision 4).
    pub owned: BTreeSet<String>,
    /// Directory for large transactions that are still open in the source; thrown away at start. None keeps them in memory.
    pub spool_dir: Option<PathBuf>,
}

/// One finding of the pre-flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Stable error code, e.g. `PG-004`.
    pub code: &'static str,
    /// What is wrong and where.
    pub message: String,
    /// The statement (or setting) that mends it.
    pub fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Note,
    Warning,
    /// Capture would fail or harm the source.
    Fatal,
}

/// A relation as the source's catalog shows it now.
#[derive(Clone, Debug)]
pub struct FoundTable {
    pub schema: Arc<TableSchema>,
    /// As the source's statistics estimate; None when never analysed.
    pub rows_estimated: Option<i64>,
    /// All tables above it in a tree of partitions or of inheritance, the nearest first.
    pub parents: Vec<TableName>,
    /// None = captured; else why it is not (view, foreign, unlogged, outside `tables`, ...).
    pub excluded: Option<String>,
    /// Kept with the table and compared with what it was (`TableBody::rewritten`); None where the system has nothing of the kind.
    pub body: Option<TableBody>,
}

/// One configured system to read from. All calls may be made side by side.
#[async_trait]
pub trait Source: Send + Sync {
    /// The pre-flight: everything that would make capture fail or harm the source, in one go.
    async fn check(&self) -> Result<Vec<Finding>>;

    /// One script that an administrator of the system can run so that `findings` of a check are gone and no more rights are needed; None
    /// where no script helps. May ask the system.
    async fn administrator_script(&self, findings: &[Finding]) -> Result<Option<String>>;

    /// The remote objects `prepare` would make, to be recorded before they are (decision 4).
    fn remote_objects(&self) -> Vec<String>;

    /// Makes what capture needs on the source (slot, publications); idempotent. Returns the position from which the stream starts
    /// when we have none, and whether the place where we had stopped is lost (slot gone or invalidated: all tables are rebuilt).
    async fn prepare(&self, stored: Option<&Position>) -> Result<Prepared>;

    /// The relations there are now, captured and excluded. Also brings the captured set into line with them (a new table is added
    /// to the publication, one whose identity was lost is moved). Called about every second, at WAIT, and at start. The same `Arc` as
    /// long as nothing changed, so that nobody compares thousands of tables each second.
    async fn discover(&self) -> Result<Arc<Vec<FoundTable>>>;

    /// Takes other options into the running source, its stream and its copies, from the next `discover` on. False when that needs the
    /// source to be opened anew; nothing is changed then.
    fn reconfigure(&self, options: &Options) -> Result<bool>;

    /// Streams changes after `from`.
    async fn stream(&self, from: &Position) -> Result<Box<dyn ChangeStream>>;

    /// Starts copying one table: waits until a copy can be right (decision 9), takes the snapshot, reads in parallel. Asked for many
    /// tables side by side; the source decides how many it reads at once, and small ones may share a snapshot. Of copies that run at the
    /// same time none may be left unread for long: others wait behind it.
    async fn copy(&self, table: UpstreamId) -> Result<Box<dyn TableCopy>>;

    /// The head of the source's log now: everything committed before the call is at or before it. Also asks for a keepalive.
    async fn head(&self) -> Result<Position>;

    /// Parses a position as a user writes it (`0/16B3748`).
    fn parse_position(&self, text: &str) -> Result<Position>;

    /// Whether everything up to `b` is contained in `a`.
    fn covers(&self, a: &Position, b: &Position) -> bool;

    /// Bytes of log between two positions, where that can be said.
    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<i64>;

    /// For a user: why only inserts come of this table ([`Identity::AppendOnly`](mainstem_types::Identity)), and what mends it there.
    fn inserts_only(&self, _table: &TableName) -> String {
        "It has no key that tells which row an update or a delete changes. Give it one in the source.".into()
    }

    /// Drops what we own on the source. Answers within seconds, also when the source does not. Err carries the statements left to run
    /// there as its hint.
    async fn remove(&self) -> Result<()>;
}

#[derive(Clone, Debug)]
pub struct Prepared {
    pub start: Position,
    /// Why the stream cannot go on from the stored position; None when it can.
    pub lost: Option<String>,
}

/// Changes in commit order. One reader.
#[async_trait]
pub trait ChangeStream: Send {
    /// The next item; waits while there is nothing. Returns as soon as a whole transaction is there: when more are already waiting
    /// they come along, up to the batch bound, but nobody waits for company. Cancel-safe.
    async fn next(&mut self) -> Result<StreamItem>;

    /// Everything up to `position` is durable here; the source may forget it.
    fn acknowledge(&mut self, position: &Position);
}

#[derive(Debug)]
pub enum StreamItem {
    /// A table's columns or identity, in order before the first rows that use it. Repeated after every reconnect.
    Schema(Arc<TableSchema>),
    /// Rows of one or more whole transactions, when `end` is given; else a bounded piece of one that is too large for one item,
    /// of which more follows. Each batch is of one table; batches of the same table keep their order.
    Changes { batches: Vec<ChangeBatch>, end: Option<CommitPoint> },
    /// Nothing happened for us up to here.
    Progress(Position),
    /// A row with a value that cannot be held. It comes before the `Changes` that end its transaction, and those have what is certain of
    /// the change: that a row which it replaced is gone. What becomes of it is the pipeline's to decide; the table's rows go on.
    BadRow(Box<BadRow>),
    /// What we hold of this table may no longer be right (rewritten, renamed columns): copy it anew.
    TableStale { upstream: UpstreamId, reason: String },
}

/// A row with a value that its column cannot hold, as the source gave it.
#[derive(Debug)]
pub struct BadRow {
    pub schema: Arc<TableSchema>,
    pub op: Op,
    /// Id 0 for a row of a copy.
    pub tx: Tx,
    /// Place and order as in `ChangeBatch`.
    pub place: u64,
    pub order: u32,
    /// Its values as the source writes them, in the schema's order; None where it is NULL or was not sent.
    pub values: Vec<Option<String>>,
    /// Names table, column and why; never the value.
    pub error: Error,
}

/// What a copy gives.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // the large variant is the usual one; a box would only cost it an allocation
pub enum Copied {
    /// All `Op::Read`.
    Rows(ChangeBatch),
    /// A row that is not among the rows.
    BadRow(Box<BadRow>),
}

/// The end of a transaction in the source's log.
#[derive(Clone, Debug)]
pub struct CommitPoint {
    pub position: Position,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub commit_time_us: i64,
}

/// One table's rows as of one snapshot.
#[async_trait]
pub trait TableCopy: Send {
    fn schema(&self) -> Arc<TableSchema>;
    /// Which transactions the copied rows already contain.
    fn seen(&self) -> Seen;
    /// The stream has passed every transaction that the copy saw once it covers this.
    fn upto(&self) -> Position;
    /// What comes next; None at the end. An error means: this copy is void, start another.
    async fn next(&mut self) -> Result<Option<Copied>>;
}

/// The transactions a snapshot contains, by top-level id (Postgres: `pg_current_snapshot()` in xid8).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Seen {
    /// All ids below are in it.
    pub below: u64,
    /// Ids at or above are not.
    pub from: u64,
    /// Ids in between that are not.
    pub except: BTreeSet<u64>,
}

impl Seen {
    pub fn contains(&self, id: u64) -> bool {
        id < self.below || (id < self.from && !self.except.contains(&id))
    }
}

/// A stream item should not grow beyond this many bytes of decoded rows; a larger transaction comes in pieces.
pub const ITEM_BYTES_MAX: usize = 8 << 20;

/// While nothing is read, the session with the source is kept alive at this interval (Postgres cuts at `wal_sender_timeout`).
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
