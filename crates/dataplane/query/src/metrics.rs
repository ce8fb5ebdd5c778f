//! What queries count.

use mainstem_types::metrics::{Counter, Gauge, Histogram, Metric};

pub static STATEMENTS: Counter = Counter::new("mainstem_query_statements_total", "Statements executed. The load of queries.");
pub static FAILED: Counter = Counter::new(
    "mainstem_query_failed_total",
    "Statements that ended with an error. A jump says that a client, or a table, has a problem.",
);
pub static CANCELLED: Counter = Counter::new(
    "mainstem_query_cancelled_total",
    "Statements cancelled or timed out. Often: `statement_timeout` or the statements need a look.",
);
pub static ROWS: Counter =
    Counter::new("mainstem_query_rows_total", "Rows handed to clients. A jump says that somebody reads whole tables.");
pub static FILES_READ: Counter = Counter::new(
    "mainstem_query_files_planned_total",
    "Parquet files that scans planned to read. With the pruned ones it says what filters save.",
);
pub static FILES_PRUNED: Counter = Counter::new(
    "mainstem_query_files_pruned_total",
    "Parquet files that scans left out by their value ranges. Few: the filters do not fit the order of the rows.",
);
pub static SESSIONS: Gauge =
    Gauge::new("mainstem_query_sessions", "SQL sessions open now. Compare it with the limit of connections.");
pub static RUNNING: Gauge =
    Gauge::new("mainstem_query_running", "Queries that run right now. Above the number of cores they wait for each other.");

pub static CAREFUL: Counter = Counter::new(
    "mainstem_query_careful_total",
    "Queries that ran a second time with less memory, because they did not fit. Often: raise `query.memory_bytes_max`.",
);

pub static DURATION: Histogram = Histogram::new(
    "mainstem_query_duration_seconds",
    "Time of statements, from their start to their last row. What users wait for; a jump of the upper buckets is what they notice.",
);

pub static PANICS: Counter = Counter::new(
    "mainstem_query_panics_total",
    "Statements that failed by a fault in the server itself. More than 0 deserves a report with the log.",
);
pub static ABANDONED: Gauge = Gauge::new(
    "mainstem_query_abandoned",
    "Statements that were stopped, or whose client left, and that still work until their next pause. High for long: their threads are lost.",
);

static ALL: [&dyn Metric; 12] = [
    &DURATION,
    &PANICS,
    &ABANDONED,
    &CAREFUL,
    &STATEMENTS,
    &FAILED,
    &CANCELLED,
    &ROWS,
    &FILES_READ,
    &FILES_PRUNED,
    &SESSIONS,
    &RUNNING,
];

pub fn all() -> &'static [&'static dyn Metric] {
    &ALL
}
