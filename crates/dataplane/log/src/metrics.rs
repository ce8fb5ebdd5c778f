//! What the log counts.

use mainstem_types::metrics::{Counter, Gauge, Histogram, Metric};

pub static APPEND_BYTES: Counter = Counter::new(
    "mainstem_log_append_bytes_total",
    "Bytes of record batches appended. Its rate times the retention is the log's size.",
);
pub static APPEND_RECORDS: Counter =
    Counter::new("mainstem_log_append_records_total", "Records appended. Its rate is the load of the log.");
pub static APPENDS: Counter = Counter::new(
    "mainstem_log_appends_total",
    "Appends and transactions committed. Divided by the commits it says how many share a sync.",
);
pub static COMMITS: Counter = Counter::new(
    "mainstem_log_commits_total",
    "WAL records written, each a group of appends. Its rate cannot pass that of the disk's syncs.",
);
pub static SYNCS: Counter = Counter::new("mainstem_log_syncs_total", "Files synced. Its rate is what the log asks of the disk.");
pub static COMMIT_DURATION: Histogram = Histogram::new(
    "mainstem_log_commit_duration_seconds",
    "Time to write and sync a record of the commit WAL. What a lone append waits for: the disk's sync.",
);
pub static WAL_BYTES: Counter = Counter::new(
    "mainstem_log_wal_bytes_total",
    "Bytes written to the commit WAL. Large appends go past it, so it may be far below the appended bytes.",
);
pub static CHECKPOINTS: Counter =
    Counter::new("mainstem_log_checkpoints_total", "Checkpoints made. Flat while appends go on: a start would take longer.");
pub static RETAINED_SEGMENTS: Counter = Counter::new(
    "mainstem_log_deleted_segments_total",
    "Segments deleted by retention. Flat while the disk fills: a table cannot be flushed, or retention is too long.",
);
pub static COMPACTIONS: Counter = Counter::new(
    "mainstem_log_compactions_total",
    "Compactions of partitions. Flat for days: control topics grow, and starts with them.",
);
pub static COMPACTED_BYTES: Counter =
    Counter::new("mainstem_log_compacted_bytes_total", "Bytes removed by compaction. What compaction is worth.");
pub static READ_BYTES: Counter =
    Counter::new("mainstem_log_read_bytes_total", "Bytes read from topics. Its rate is the load of readers.");
pub static READ_DISK_BYTES: Counter = Counter::new(
    "mainstem_log_read_disk_bytes_total",
    "Bytes read that were no longer in the memory tail. A high share says that readers are behind, or the tail is small.",
);
pub static TAIL_BYTES: Gauge =
    Gauge::new("mainstem_log_tail_bytes", "Bytes of the memory tail. Bounded by `log.tail_total_bytes_max`.");
pub static POISONED: Gauge = Gauge::new(
    "mainstem_log_poisoned",
    "1: a write or sync failed, and appends are refused until a restart. Alert on it and look at the disk.",
);

pub fn all() -> &'static [&'static dyn Metric] {
    static ALL: [&dyn Metric; 15] = [
        &APPEND_BYTES,
        &APPEND_RECORDS,
        &APPENDS,
        &COMMITS,
        &SYNCS,
        &COMMIT_DURATION,
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
