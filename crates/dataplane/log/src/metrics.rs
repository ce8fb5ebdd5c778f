//! What the log counts.

use mainstem_types::metrics::{Counter, Gauge, Metric};

pub static APPEND_BYTES: Counter =
    Counter::new("mainstem_log_append_bytes_total", "How many bytes of record batches were appended?");
pub static APPEND_RECORDS: Counter = Counter::new("mainstem_log_append_records_total", "How many records were appended?");
pub static APPENDS: Counter = Counter::new("mainstem_log_appends_total", "How many appends and transactions were committed?");
pub static COMMITS: Counter =
    Counter::new("mainstem_log_commits_total", "How many WAL records, each a group of appends, were written?");
pub static SYNCS: Counter = Counter::new("mainstem_log_syncs_total", "How many files were synced?");
pub static WAL_BYTES: Counter = Counter::new("mainstem_log_wal_bytes_total", "How many bytes were written to the commit WAL?");
pub static CHECKPOINTS: Counter = Counter::new("mainstem_log_checkpoints_total", "How many checkpoints were made?");
pub static RETAINED_SEGMENTS: Counter =
    Counter::new("mainstem_log_deleted_segments_total", "How many segments did retention delete?");
pub static COMPACTIONS: Counter = Counter::new("mainstem_log_compactions_total", "How many times was a partition compacted?");
pub static COMPACTED_BYTES: Counter = Counter::new("mainstem_log_compacted_bytes_total", "How many bytes did compaction remove?");
pub static READ_BYTES: Counter = Counter::new("mainstem_log_read_bytes_total", "How many bytes were read?");
pub static READ_DISK_BYTES: Counter =
    Counter::new("mainstem_log_read_disk_bytes_total", "How many of the bytes read were no longer in the memory tail?");
pub static TAIL_BYTES: Gauge = Gauge::new("mainstem_log_tail_bytes", "How many bytes does the memory tail hold?");
pub static POISONED: Gauge =
    Gauge::new("mainstem_log_poisoned", "Did a write or sync fail, so that appends are refused until a restart?");

pub fn all() -> &'static [&'static dyn Metric] {
    static ALL: [&dyn Metric; 14] = [
        &APPEND_BYTES,
        &APPEND_RECORDS,
        &APPENDS,
        &COMMITS,
        &SYNCS,
        &WAL_BYTES,
        &CHECKPOINTS,
        &RETAINED_SEGMENTS,
        &COMPACTIONS,
        &COMPACTED_BYTES,
        &READ_BYTES,
        &READ_DISK_BYTES,
        &TAIL_BYTES,
        &POISONED,
    ];
    &ALL
}
