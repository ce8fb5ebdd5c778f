//! What this door counts.

use mainstem_types::metrics::{Counter, Gauge, Metric};

pub static CONNECTIONS: Gauge = Gauge::new("mainstem_http_connections", "Open connections of the HTTP endpoint.");
pub static ACCEPTED: Counter = Counter::new("mainstem_http_connections_total", "Connections accepted by the HTTP endpoint.");
pub static REFUSED: Counter = Counter::new(
    "mainstem_http_connections_refused_total",
    "HTTP connections closed because others came while too many were open.",
);

static ALL: &[&dyn Metric] = &[&CONNECTIONS, &ACCEPTED, &REFUSED];

pub fn all() -> &'static [&'static dyn Metric] {
    ALL
}
