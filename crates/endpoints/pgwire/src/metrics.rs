//! What this door counts.

use mainstem_types::metrics::{Counter, Gauge, Metric};

pub static CONNECTIONS: Gauge =
    Gauge::new("mainstem_pg_connections", "Connections open on the Postgres endpoint. Near its limit, clients will be refused.");
pub static ACCEPTED: Counter = Counter::new(
    "mainstem_pg_connections_total",
    "Connections accepted by the Postgres endpoint. A high rate: a client without a pool.",
);
pub static REFUSED: Counter = Counter::new(
    "mainstem_pg_connections_refused_total",
    "Connections refused because too many were open. Alert when it rises: raise the limit, or find who holds them.",
);
pub static LOGINS_FAILED: Counter = Counter::new(
    "mainstem_pg_logins_failed_total",
    "Log-ins with a wrong user or password. A high rate is somebody guessing, or a client with an old password.",
);
pub static PROTOCOL_ERRORS: Counter = Counter::new(
    "mainstem_pg_protocol_errors_total",
    "Messages that break the protocol: garbage, oversized, truncated. A port scanner, or a client with a defect.",
);
pub static STARTUP_TIMEOUTS: Counter = Counter::new(
    "mainstem_pg_startup_timeouts_total",
    "Connections closed because start-up took too long. A health check that only connects, or somebody who blocks.",
);
pub static CANCELS: Counter =
    Counter::new("mainstem_pg_cancels_total", "Cancel requests that named a live session. Users who lose patience.");
pub static CLIENTS_GONE: Counter = Counter::new(
    "mainstem_pg_clients_gone_total",
    "Statements stopped because their client went away. Clients whose own time limit is shorter than their queries.",
);
pub static STATEMENTS: Counter =
    Counter::new("mainstem_pg_statements_total", "Statements executed by the Postgres endpoint. Its load.");
pub static ERRORS: Counter =
    Counter::new("mainstem_pg_errors_total", "Error responses sent. A jump says that a client has a problem.");
pub static ROWS: Counter = Counter::new("mainstem_pg_rows_total", "Rows sent. With the bytes, what clients take.");
pub static BYTES: Counter = Counter::new("mainstem_pg_sent_bytes_total", "Bytes sent. The network that answers take.");
pub static PANICS: Counter = Counter::new(
    "mainstem_pg_panics_total",
    "Panics caught in sessions. Each is a defect of ours: alert on it, and report the server's log.",
);

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
