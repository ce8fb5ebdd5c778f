//! From a topic's records back to change batches: for replay after a restart and for large transactions.

use crate::Schemas;
use bytes::Bytes;
use mainstem_types::{ChangeBatch, Generation, Result};
use std::sync::Arc;

/// What a table's topic holds, in offset order.
#[derive(Debug)]
pub enum TopicItem {
    /// From here on, rows belong to this generation.
    Generation(Generation),
    Changes(ChangeBatch),
}

/// Decodes a table's topic. Counts what it decodes in `mainstem_envelope_decoded_records_total` ("no second decode" reads it).
pub struct Decoder {
    _schemas: Arc<Schemas>,
}

impl Decoder {
    pub fn new(schemas: Arc<Schemas>) -> Self {
        Self { _schemas: schemas }
    }

    /// Decodes the records with `from <= offset < end` in whole record batches as `EventLog::read` returned them. Consecutive records of
    /// the same schema become one `ChangeBatch`. Returns the items and the offset after the last record decoded.
    pub fn decode(&self, batches: &Bytes, from: i64, end: i64) -> Result<(Vec<TopicItem>, i64)> {
        let _ = (batches, from, end);
        unimplemented!()
    }
}
