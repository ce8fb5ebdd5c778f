//! What this crate counts.

use mainstem_types::metrics::{Counter, Metric};

pub const DECODED_RECORDS_NAME: &str = "mainstem_envelope_decoded_records_total";

/// Zero growth while a source streams shows that its rows reach the live tables without a second decode.
pub static DECODED_RECORDS: Counter = Counter::new(
    DECODED_RECORDS_NAME,
    "Records of table topics decoded back from the log. Growth after the start's replay costs processor time: the live tables fell behind.",
);

pub fn all() -> &'static [&'static dyn Metric] {
    static ALL: [&dyn Metric; 1] = [&DECODED_RECORDS];
    &ALL
}
