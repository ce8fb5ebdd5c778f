//! What queries count.

use mainstem_types::metrics::{Counter, Gauge, Metric};

pub static STATEMENTS: Counter = Counter::new("mainstem_query_statements_total", "How many statements were executed?");
pub static FAILED: Counter = Counter::new("mainstem_query_failed_total", "How many statements ended with an error?");
pub static CANCELLED: Counter =
    Counter::new("mainstem_query_cancelled_total", "How many statements were cancelled or timed out?");
pub static ROWS: Counter = Counter::new("mainstem_query_rows_total", "How many rows were handed to clients?");
pub static FILES_READ: Counter =
    Counter::new("mainstem_query_files_planned_total", "How many Parquet files did scans plan to read?");
pub static FILES_PRUNED: Counter =
    Counter::new("mainstem_query_files_pruned_total", "How many Parquet files did scans leave out by their value ranges?");
pub static SESSIONS: Gauge = Gauge::new("mainstem_query_sessions", "How many SQL sessions are open?");
pub static RUNNING: Gauge = Gauge::new("mainstem_query_running", "How many queries run right now?");

pub static CAREFUL: Counter =
    Counter::new("mainstem_query_careful_total", "How many queries ran again with less memory, because they did not fit?");

pub static PANICS: Counter = Counter::new(
    "mainstem_query_panics_total",
    "How many statements failed by a fault in the server itself? More than 0 deserves a report with the log.",
);
pub static ABANDONED: Gauge = Gauge::new(
    "mainstem_query_abandoned",
    "How many statements that were stopped, or whose client left, still work until their next pause?",
);

static ALL: [&dyn Metric; 11] =
    [&PANICS, &ABANDONED, &CAREFUL, &STATEMENTS, &FAILED, &CANCELLED, &ROWS, &FILES_READ, &FILES_PRUNED, &SESSIONS, &RUNNING];

pub fn all() -> &'static [&'static dyn Metric] {
    &ALL
}
