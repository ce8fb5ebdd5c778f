//! What live tables count.

use mainstem_types::metrics::{Counter, Gauge, Metric};

pub static APPLIED_ROWS: Counter =
    Counter::new("mainstem_warehouse_applied_rows_total", "How many change events were applied to live tables?");
pub static MISSED_ROWS: Counter =
    Counter::new("mainstem_warehouse_missed_rows_total", "How many updates and deletes named a row that the table did not have?");
pub static REPLACED_ROWS: Counter =
    Counter::new("mainstem_warehouse_replaced_rows_total", "How many inserts found a live row with their key and replaced it?");
pub static HOT_BYTES: Gauge = Gauge::new("mainstem_warehouse_hot_bytes", "How much memory do rows not yet in files take?");
pub static FLUSHES: Counter = Counter::new("mainstem_warehouse_flushes_total", "How many Delta commits were made?");
pub static FLUSH_FAILURES: Counter =
    Counter::new("mainstem_warehouse_flush_failures_total", "How many flushes of a source failed and will be tried again?");
pub static FLUSHED_ROWS: Counter =
    Counter::new("mainstem_warehouse_flushed_rows_total", "How many rows were written to Parquet files?");
pub static COMPACTIONS: Counter =
    Counter::new("mainstem_warehouse_compactions_total", "How many times were Parquet files rewritten into one?");
pub static COMPACTION_FAILURES: Counter = Counter::new(
    "mainstem_warehouse_compaction_failures_total",
    "How many rewrites of Parquet files failed and will be tried again?",
);
pub static COMPACTED_FILES: Counter =
    Counter::new("mainstem_warehouse_compacted_files_total", "How many small or mostly dead Parquet files were rewritten?");
pub static COMPACTED_BYTES: Counter =
    Counter::new("mainstem_warehouse_compacted_bytes_total", "How many bytes had the Parquet files that were rewritten?");
pub static COMPACTION_WRITTEN_BYTES: Counter = Counter::new(
    "mainstem_warehouse_compaction_written_bytes_total",
    "How many bytes had the Parquet files that took their place?",
);
pub static SPILLS: Counter =
    Counter::new("mainstem_warehouse_spills_total", "How many times were rows written to a file because memory was short?");
pub static ROOM_WAITS: Counter =
    Counter::new("mainstem_warehouse_room_waits_total", "How many times did an applier wait for a flush to free memory?");
pub static REPLAYED_ROWS: Counter =
    Counter::new("mainstem_warehouse_replayed_rows_total", "How many change events were replayed from the log at start?");
pub static RUNS_REBUILT: Counter = Counter::new(
    "mainstem_warehouse_index_runs_rebuilt_total",
    "How many key index runs were missing or damaged and were rebuilt from their Parquet file?",
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
];

/// All of them, for `/metrics`.
pub fn all() -> &'static [&'static dyn Metric] {
    ALL
}
