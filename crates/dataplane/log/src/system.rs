//! What the log shows of itself in SQL: `mainstem.topics`.

use mainstem_eventlog::{EventLog, PartitionInfo};
use mainstem_types::system::{Columns, Kind, SystemTable};
use std::sync::Arc;

const TOPICS: Columns = &[
    ("topic", Kind::Text),
    ("partition", Kind::Int4),
    ("start_offset", Kind::Int8),
    ("end_offset", Kind::Int8),
    ("bytes", Kind::Int8),
];

pub fn system_tables(log: Arc<dyn EventLog>) -> Vec<SystemTable> {
    let rows = move || {
        let row = |p: PartitionInfo| {
            vec![p.at.topic.to_string().into(), p.at.partition.into(), p.start.into(), p.end.into(), p.bytes.into()]
        };
        log.partitions().into_iter().map(row).collect()
    };
    vec![SystemTable::of_admin("topics", TOPICS, rows)]
}
