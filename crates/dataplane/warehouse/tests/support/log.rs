//! An `EventLog` in memory: these tests are about tables, and must be able to reopen them thousands of times.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use mainstem_log::{
    Cleanup, EventLog, Fetched, LogTransaction, PartitionAppend, PartitionInfo, Seal, TopicConfig, TopicPartition,
};
use mainstem_types::Result;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio::sync::watch;

#[derive(Default)]
pub struct MemoryLog(Mutex<BTreeMap<TopicPartition, Partition>>);

#[derive(Default)]
struct Partition {
    batches: Vec<(i64, Bytes)>,
    end: i64,
    floor: i64,
}

fn config() -> TopicConfig {
    TopicConfig { partitions: 1, cleanup: Cleanup::Delete, retention_ms: None, retention_bytes: None }
}

impl MemoryLog {
    pub fn floor(&self, topic: &str) -> i64 {
        self.0.lock().unwrap().get(&TopicPartition::new(topic, 0)).map_or(0, |p| p.floor)
    }

    /// Deletes everything below the floors, as retention may.
    pub fn retain(&self) {
        for (at, partition) in self.0.lock().unwrap().iter_mut() {
            if !matches!(at.topic.as_ref(), "_mainstem.tables" | "_mainstem.flushed" | "_schemas") {
                let floor = partition.floor;
                let ends: Vec<i64> = partition.batches.iter().skip(1).map(|(base, _)| *base).chain([partition.end]).collect();
                let mut ends = ends.into_iter();
                partition.batches.retain(|_| ends.next().unwrap() > floor);
            }
        }
    }

    fn put(&self, part: &PartitionAppend) -> i64 {
        let mut log = self.0.lock().unwrap();
        let partition = log.entry(part.to.clone()).or_default();
        let first = partition.end;
        let mut rest = part.batches.clone();
        while !rest.is_empty() {
            let length = 12 + i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
            let mut batch = BytesMut::from(&rest.split_to(length)[..]);
            batch[..8].copy_from_slice(&partition.end.to_be_bytes());
            let records = 1 + i64::from(i32::from_be_bytes(batch[23..27].try_into().unwrap()));
            partition.batches.push((partition.end, batch.freeze()));
            partition.end += records;
        }
        first
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn create_topic(&self, name: &str, _: TopicConfig) -> Result<()> {
        self.0.lock().unwrap().entry(TopicPartition::new(name, 0)).or_default();
        Ok(())
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        self.0.lock().unwrap().remove(&TopicPartition::new(name, 0));
        Ok(())
    }

    fn partitions(&self) -> Vec<PartitionInfo> {
        let log = self.0.lock().unwrap();
        let info = |(at, p): (&TopicPartition, &Partition)| PartitionInfo {
            at: at.clone(),
            config: config(),
            start: p.batches.first().map_or(p.end, |(base, _)| *base),
            end: p.end,
            bytes: 0,
        };
        log.iter().map(info).collect()
    }

    async fn append(&self, parts: Vec<PartitionAppend>, seal: Option<Seal>) -> Result<Vec<i64>> {
        let mut bases: Vec<i64> = parts.iter().map(|part| self.put(part)).collect();
        if let Some(seal) = seal {
            let last = seal(&bases);
            bases.push(self.put(&last));
        }
        Ok(bases)
    }

    async fn begin(&self) -> Result<Box<dyn LogTransaction>> {
        unreachable!("these tests append at once")
    }

    async fn read(&self, at: &TopicPartition, offset: i64, bytes_max: usize) -> Result<Fetched> {
        let log = self.0.lock().unwrap();
        let partition = &log[at];
        let from = partition.batches.partition_point(|(base, _)| *base <= offset).saturating_sub(1);
        let mut batches = BytesMut::new();
        for (_, batch) in partition.batches[from.min(partition.batches.len())..].iter() {
            if !batches.is_empty() && batches.len() + batch.len() > bytes_max {
                break;
            }
            batches.extend_from_slice(batch);
        }
        let start = partition.batches.first().map_or(partition.end, |(base, _)| *base);
        Ok(Fetched { batches: batches.freeze(), end: partition.end, start })
    }

    fn subscribe(&self, _: &TopicPartition) -> Result<watch::Receiver<i64>> {
        unreachable!("nobody follows this log")
    }

    fn set_retention_floor(&self, at: &TopicPartition, offset: i64) {
        let mut log = self.0.lock().unwrap();
        let partition = log.entry(at.clone()).or_default();
        assert!(offset >= partition.floor && offset <= partition.end, "{at}: floor {offset} after {}", partition.floor);
        partition.floor = offset;
    }
}
