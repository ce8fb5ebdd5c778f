//! What live tables count.

use mainstem_types::metrics::{Counter, Gauge, Metric};

pub static APPLIED_ROWS: Counter = Counter::new(
    "mainstem_warehouse_applied_rows_total",
    "Change events applied to live tables. Behind the appended changes: the live tables lag.",
);
pub static MISSED_ROWS: Counter = Counter::new(
    "mainstem_warehouse_missed_rows_total",
    "Updates and deletes of a row that the table did not have. Must stay 0; report it otherwise.",
);
pub static REPLACED_ROWS: Counter = Counter::new(
    "mainstem_warehouse_replaced_rows_total",
    "Inserts that found a live row with their key and replaced it. Rises after a restart of a source, else must stay flat.",
);
pub static HOT_BYTES: Gauge = Gauge::new(
    "mainstem_warehouse_hot_bytes",
    "Memory of rows not yet in files. Near `warehouse.memory_bytes_max`, sources wait for flushes.",
);
pub static FLUSHES: Counter = Counter::new(
    "mainstem_warehouse_flushes_total",
    "Delta commits made. Flat while rows change: files that others read are getting old.",
);
pub static FLUSH_FAILURES: Counter = Counter::new(
    "mainstem_warehouse_flush_failures_total",
    "Flushes of a source that failed and will be tried again. Alert when it rises; the log says why.",
);
pub static FLUSHED_ROWS: Counter = Counter::new(
    "mainstem_warehouse_flushed_rows_total",
    "Rows written to Parquet files. Its rate is what must be kept up in the long run.",
);
pub static COMPACTIONS: Counter = Counter::new(
    "mainstem_warehouse_compactions_total",
    "Rewrites of Parquet files into one. Flat under load: tables become many small files.",
);
pub static COMPACTION_FAILURES: Counter = Counter::new(
    "mainstem_warehouse_compaction_failures_total",
    "Rewrites that failed and will be tried again. Alert when it rises; the log says why.",
);
pub static COMPACTED_FILES: Counter = Counter::new(
    "mainstem_warehouse_compacted_files_total",
    "Small or mostly dead Parquet files that were rewritten. What the upkeep takes away.",
);
pub static COMPACTED_BYTES: Counter = Counter::new(
    "mainstem_warehouse_compacted_bytes_total",
    "Bytes of the Parquet files that were rewritten. What the upkeep reads.",
);
pub static COMPACTION_WRITTEN_BYTES: Counter = Counter::new(
    "mainstem_warehouse_compaction_written_bytes_total",
    "Bytes of the Parquet files that took their place. What the upkeep writes.",
);
pub static SPILLS: Counter = Counter::new(
    "mainstem_warehouse_spills_total",
    "Times rows went to a file because memory was short. Often: raise `warehouse.memory_bytes_max` or flush sooner.",
);
pub static ROOM_WAITS: Counter = Counter::new(
    "mainstem_warehouse_room_waits_total",
    "Times an applier waited for a flush to free memory. While it rises, lag grows: the disk or the memory is too small.",
);
pub static REPLAYED_ROWS: Counter = Counter::new(
    "mainstem_warehouse_replayed_rows_total",
    "Change events replayed from the log at the start. Divided by its time it says what a shorter flush interval would save.",
);
pub static RUNS_REBUILT: Counter = Counter::new(
    "mainstem_warehouse_index_runs_rebuilt_total",
    "Key index runs that were missing or damaged and were rebuilt. After a crash a few; otherwise look at the disk.",
);

pub static DAMAGES: Counter = Counter::new(
    "mainstem_warehouse_damages_total",
    "Files of live tables found to be other than what was written. The disk's fault, or somebody changed them: check the disk.",
);
pub static BROKEN_TABLES: Gauge = Gauge::new(
    "mainstem_warehouse_broken_tables",
    "Live tables that are damaged or cannot go on and wait for a copy anew. Above 0 for long: see `mainstem.source_tables`.",
);

static ALL: &[&dyn Metric] = &[
    &APPLIED_ROWS,
    &MISSED_ROWS,
    &REPLACED_ROWS,
    &HOT_BYTES,
    &FLUSHES,
    &FLUSH_FAILURES,
    &FLUSHED_ROWS,
    &COMPACTIONS,
    &COMPACTION_FAILURES,
    &COMPACTED_FILES,
    &COMPACTED_BYTES,
    &COMPACTION_WRITTEN_BYTES,
    &SPILLS,
    &ROOM_WAITS,
    &REPLAYED_ROWS,
    &RUNS_REBUILT,
    &DAMAGES,
    &BROKEN_TABLES,
];

/// All of them, for `/metrics`.
pub fn all() -> &'static [&'static dyn Metric] {
    ALL
}
