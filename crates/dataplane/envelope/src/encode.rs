//! From a change batch to Kafka records: one for a row's insert or update, delete + tombstone for a delete, delete + tombstone + create
//! for a changed key. Columnar in, bytes out, no allocation per value.

use crate::SchemaIds;
use mainstem_log::PartitionAppend;
use mainstem_types::{ChangeBatch, Generation, Result, SourceName};

/// What an envelope says beside the rows.
#[derive(Clone, Debug)]
pub struct EncodeContext<'a> {
    pub source: &'a SourceName,
    /// `postgres`: Debezium's `source.connector` says `postgresql` for it.
    pub connector: &'a str,
    /// `source.db`
    pub database: &'a str,
    pub topic: &'a str,
    pub ids: SchemaIds,
    /// `ts_ms` of the envelope: when we handled it.
    pub now_ms: i64,
}

/// Encodes a batch as one or more record batches for its topic's partition 0. A record batch stays below about 1 MiB uncompressed.
pub fn encode(context: &EncodeContext<'_>, batch: &ChangeBatch) -> Result<PartitionAppend> {
    let _ = (context, batch);
    unimplemented!()
}

/// The marker that begins a generation in a table's topic: a truncate envelope with the header `mainstem.generation`, so that outside
/// readers who honour truncates start afresh as well.
pub fn encode_generation(context: &EncodeContext<'_>, batch: &ChangeBatch, generation: Generation) -> Result<PartitionAppend> {
    let _ = (context, batch, generation);
    unimplemented!()
}
