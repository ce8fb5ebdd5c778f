//! The state of sources and of their tables, as the part that runs them tells it.

use crate::barrier::TableState;
use crate::ids::SourceName;

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
    /// Whether its updates and deletes do not come, because nothing tells which row they change. None: no change comes.
    pub inserts_only: Option<bool>,
}
