//! Barriers and table records as JSON records of their topics: rare or small, and readable with any Kafka tool. `KeyedReader` reads them.

use mainstem_eventlog::{PartitionAppend, RecordBatchBuilder, TopicPartition};
use mainstem_types::barrier::{BARRIER_TOPIC, TABLE_TOPIC};
use mainstem_types::{Barrier, TableRecord, TableState};
use serde::Serialize;

/// One record for `_mainstem.barriers`, key = source name.
pub fn barrier_append(barrier: &Barrier, now_ms: i64) -> PartitionAppend {
    let mut builder = RecordBatchBuilder::new(now_ms);
    builder.push(now_ms, Some(barrier.source.as_str().as_bytes()), Some(&json(barrier)), &[]);
    append(BARRIER_TOPIC, builder)
}

/// Records for `_mainstem.tables`, key = table id; `Dropped` writes a tombstone.
pub fn table_append(records: &[&TableRecord], now_ms: i64) -> PartitionAppend {
    let mut builder = RecordBatchBuilder::new(now_ms);
    for record in records {
        let key = record.table.to_string();
        let value = (record.state != TableState::Dropped).then(|| json(record));
        builder.push(now_ms, Some(key.as_bytes()), value.as_deref(), &[]);
    }
    append(TABLE_TOPIC, builder)
}

fn append(topic: &str, builder: RecordBatchBuilder) -> PartitionAppend {
    let records = builder.records();
    PartitionAppend { to: TopicPartition::new(topic, 0), batches: builder.finish(), records }
}

/// These types have no map with keys other than text, the only thing that JSON cannot hold; an empty value would be refused when read.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
