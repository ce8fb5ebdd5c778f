//! What SQL and doors ask of the part that runs sources, and the facts they show of it.

use crate::barrier::TableState;
use crate::error::Result;
use crate::ids::SourceName;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::time::Duration;

/// `CREATE SOURCE name FROM 'url' WITH (...)`, parsed but unchecked. `Debug` shows no secret.
#[derive(Clone)]
pub struct CreateSource {
    pub name: String,
    pub if_not_exists: bool,
    pub url: String,
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for CreateSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateSource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What DROP SOURCE does with the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropMode {
    /// Refused while there are tables.
    Restrict,
    /// Tables stay, readable, no longer fed.
    KeepData,
    /// Tables, topics and files go too.
    Cascade,
}

/// A message for the user that is not an error (a NOTICE on the wire).
pub type Notice = String;

/// The control of sources; implemented by the pipeline, called by SQL. Every call is idempotent after a crash.
#[async_trait]
pub trait SourceControl: Send + Sync {
    /// Runs the pre-flight, records the desired state durably, starts capture in the background.
    async fn create(&self, request: CreateSource) -> Result<Vec<Notice>>;
    /// `ALTER SOURCE name SET (key = value, ...)`.
    async fn alter(&self, name: &str, options: BTreeMap<String, String>) -> Result<Vec<Notice>>;
    async fn pause(&self, name: &str) -> Result<Vec<Notice>>;
    async fn resume(&self, name: &str) -> Result<Vec<Notice>>;
    /// Rebuilds one table (`schema.name` as in the source) or all in a shadow.
    async fn resync(&self, name: &str, table: Option<&str>) -> Result<Vec<Notice>>;
    async fn drop(&self, name: &str, if_exists: bool, mode: DropMode) -> Result<Vec<Notice>>;
    /// Returns when all that the source had committed at the call (or up to `until`, in the source's text form) is visible to
    /// queries. `timeout` None waits for ever.
    async fn wait(&self, name: &str, until: Option<&str>, timeout: Option<Duration>) -> Result<()>;
    /// The statement that would create it again, without its password.
    async fn show_create(&self, name: &str) -> Result<String>;
    fn sources(&self) -> Vec<SourceStatus>;
    fn tables(&self) -> Vec<SourceTableStatus>;
}

/// A row of `mainstem.sources`.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    pub name: SourceName,
    pub connector: String,
    /// starting, snapshotting, streaming, retrying, paused, failed
    pub state: String,
    pub position: Option<String>,
    /// Bytes of the source's log between what is visible here and its head, as last seen.
    pub lag_bytes: Option<i64>,
    /// Age of the newest visible commit when behind; 0 when nothing is outstanding.
    pub lag_ms: Option<i64>,
    pub error_code: Option<String>,
    pub error: Option<String>,
}

/// A row of `mainstem.source_tables`.
#[derive(Clone, Debug)]
pub struct SourceTableStatus {
    pub source: SourceName,
    pub schema_name: String,
    pub table_name: String,
    pub state: TableState,
    pub rows_copied: i64,
    pub rows_estimated: Option<i64>,
    pub changes_total: i64,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub last_commit_at: Option<i64>,
    pub error_code: Option<String>,
    pub error: Option<String>,
}
