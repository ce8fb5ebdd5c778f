//! What this door counts.

use mainstem_types::metrics::{Counter, Gauge, Metric};

pub static CONNECTIONS: Gauge = Gauge::new("mainstem_pg_connections", "Open connections of the Postgres door.");
pub static ACCEPTED: Counter = Counter::new("mainstem_pg_connections_total", "Connections accepted by the Postgres door.");
pub static REFUSED: Counter =
    Counter::new("mainstem_pg_connections_refused_total", "Connections refused because too many were open.");
pub static LOGINS_FAILED: Counter = Counter::new("mainstem_pg_logins_failed_total", "Log-ins with a wrong user or password.");
pub static PROTOCOL_ERRORS: Counter =
    Counter::new("mainstem_pg_protocol_errors_total", "Messages that break the protocol: garbage, oversized, truncated.");
pub static STARTUP_TIMEOUTS: Counter =
    Counter::new("mainstem_pg_startup_timeouts_total", "Connections closed because start-up took too long.");
pub static CANCELS: Counter = Counter::new("mainstem_pg_cancels_total", "Cancel requests that named a live session.");
pub static CLIENTS_GONE: Counter =
    Counter::new("mainstem_pg_clients_gone_total", "Statements stopped because their client went away.");
pub static STATEMENTS: Counter = Counter::new("mainstem_pg_statements_total", "Statements executed.");
pub static ERRORS: Counter = Counter::new("mainstem_pg_errors_total", "Error responses sent.");
pub static ROWS: Counter = Counter::new("mainstem_pg_rows_total", "Rows sent.");
pub static BYTES: Counter = Counter::new("mainstem_pg_sent_bytes_total", "Bytes sent.");
pub static PANICS: Counter = Counter::new("mainstem_pg_panics_total", "Panics caught in sessions; each is a bug.");

static ALL: &[&dyn Metric] = &[
    &CONNECTIONS,
    &ACCEPTED,
    &REFUSED,
    &LOGINS_FAILED,
    &PROTOCOL_ERRORS,
    &STARTUP_TIMEOUTS,
    &CANCELS,
    &CLIENTS_GONE,
    &STATEMENTS,
    &ERRORS,
    &ROWS,
    &BYTES,
    &PANICS,
];

pub fn all() -> &'static [&'static dyn Metric] {
    ALL
}
