//! Kafka's record batch, version 2 (magic 2): the bytes on disk and, later, on the wire. Layout: KIP-98 / Apache Kafka "Message
//! Format"; CRC-32C over everything from the attributes on.

use bytes::Bytes;
use mainstem_types::Result;

/// Builds one record batch without an allocation per record.
pub struct RecordBatchBuilder {
    _records: Vec<u8>,
}

impl RecordBatchBuilder {
    /// `base_time_ms`: the batch's base timestamp; records give theirs in full.
    pub fn new(base_time_ms: i64) -> Self {
        let _ = base_time_ms;
        Self { _records: Vec::new() }
    }

    /// Adds a record. None as key or value is Kafka's null (a tombstone, for a value).
    pub fn push(&mut self, time_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) {
        let _ = (time_ms, key, value, headers);
    }

    pub fn records(&self) -> u32 {
        0
    }

    /// Bytes so far, uncompressed.
    pub fn bytes(&self) -> usize {
        0
    }

    /// Ends the batch: lz4-compressed where that is smaller, base offset 0, CRC set.
    pub fn finish(self) -> Bytes {
        Bytes::new()
    }
}

/// One record, borrowed from decoded batch bytes.
#[derive(Clone, Debug)]
pub struct RecordRef {
    pub offset: i64,
    pub time_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Decodes whole batches as `EventLog::read` returns them: CRC checked, decompressed; bad bytes are an error (`LOG-003`), never a panic.
pub fn records(batches: &Bytes) -> Result<Vec<RecordRef>> {
    let _ = batches;
    Ok(Vec::new())
}
