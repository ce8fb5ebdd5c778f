//! What can be configured, with defaults that fit one machine.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarehouseSettings {
    /// A source with unflushed changes is flushed at least this often, milliseconds.
    pub flush_interval_ms: u64,
    /// Hot bytes of a source at which it is flushed early.
    pub flush_bytes: u64,
    /// Bytes of rows in memory over all tables of all sources. From half of it on, rows of copies go to Parquet and sources are flushed
    /// early; above it appliers wait, and with them the reading of their sources.
    pub memory_bytes_max: u64,
    /// Hot bytes of one table at which its rows go to Parquet on the apply path: the bound when flushing cannot keep up.
    pub hot_bytes_max: u64,
    /// The same for a table that is being copied and that nobody reads yet.
    pub copy_bytes_max: u64,
    /// Rows per Parquet row group.
    pub row_group_rows: usize,
    /// Index runs of a table above which they are merged into one.
    pub index_runs_max: usize,
    /// Delta commits between two checkpoints.
    pub checkpoint_commits: u64,
    /// Milliseconds that a Parquet file stays on disk after the newest version of its table stopped using it: so long can tools read an
    /// older version of a Delta table.
    pub file_retention_ms: u64,
    /// Files smaller than this are merged, into files of about this size at most; a source rewrites about as many bytes after one flush.
    /// 0 = files are never merged.
    pub compact_file_bytes: u64,
    /// So many files of about one size become one; 2 at least.
    pub compact_files_min: u64,
    /// Share of dead rows in percent at which a file that is not small is rewritten by itself.
    pub compact_dead_percent: u64,
}

impl Default for WarehouseSettings {
    fn default() -> Self {
        Self {
            flush_interval_ms: 30_000,
            flush_bytes: 96 << 20,
            memory_bytes_max: 256 << 20,
            hot_bytes_max: 192 << 20,
            copy_bytes_max: 48 << 20,
            row_group_rows: 128 * 1024,
            index_runs_max: 12,
            checkpoint_commits: 100,
            file_retention_ms: 3_600_000,
            compact_file_bytes: 128 << 20,
            compact_files_min: 8,
            compact_dead_percent: 50,
        }
    }
}
