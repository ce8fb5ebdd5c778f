//! What a user may set about queries: section `[query]` of the configuration.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuerySettings {
    /// Memory that all running queries share; beyond it sorts, joins and aggregates spill to `spill_dir`, and what cannot spill fails.
    pub memory_bytes_max: usize,
    /// Where queries spill. Emptied at start: give a directory that has nothing else in it. The server sees to that.
    pub spill_dir: PathBuf,
    /// Bytes on disk that all running queries may spill together.
    pub spill_bytes_max: u64,
    /// A statement that runs longer is stopped; 0 = never. A session can change it for itself (`SET statement_timeout`).
    pub statement_timeout_ms: u64,
    /// Parts in which one query runs at the same time; also the number of threads that run queries. 0 = number of cores, at most 8.
    pub partitions: usize,
    /// How long a REPEATABLE READ transaction may hold its snapshot (and so the files behind it), milliseconds.
    pub snapshot_age_ms_max: u64,
    /// Rows per batch.
    pub batch_rows: usize,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            memory_bytes_max: 256 << 20,
            spill_dir: PathBuf::new(),
            spill_bytes_max: 10 << 30,
            statement_timeout_ms: 0,
            partitions: 0,
            snapshot_age_ms_max: 15 * 60 * 1000,
            batch_rows: 8192,
        }
    }
}

impl QuerySettings {
    /// `partitions` with its default applied.
    pub(crate) fn parallelism(&self) -> usize {
        match self.partitions {
            0 => std::thread::available_parallelism().map_or(2, |n| n.get()).min(8),
            n => n,
        }
    }
}
