//! Barriers and table records as JSON records of their topics: rare or small, and readable with any Kafka tool.

use mainstem_log::PartitionAppend;
use mainstem_types::{Barrier, Result, TableRecord};

/// One record for `_mainstem.barriers`, key = source name.
pub fn barrier_append(barrier: &Barrier, now_ms: i64) -> PartitionAppend {
    let _ = (barrier, now_ms);
    unimplemented!()
}

/// The value of a record of `_mainstem.barriers`; bad bytes are an error (`LOG-003`-like, own code), never a panic.
pub fn decode_barrier(value: &[u8]) -> Result<Barrier> {
    let _ = value;
    unimplemented!()
}

/// Records for `_mainstem.tables`, key = table id; `Dropped` writes a tombstone.
pub fn table_append(records: &[&TableRecord], now_ms: i64) -> PartitionAppend {
    let _ = (records, now_ms);
    unimplemented!()
}

pub fn decode_table_record(value: &[u8]) -> Result<TableRecord> {
    let _ = value;
    unimplemented!()
}
