//! The contract of the event log: topics of partitions, appends that are all or nothing, reads in offset order, and the record batches
//! in which both speak. Who keeps state in topics knows this and no engine.
//!
//! What it promises must be possible on Apache Kafka as well (decision 24).

pub mod batch;
pub mod codes;
mod compacted;
mod reader;

pub use batch::{RecordBatchBuilder, RecordRef, RecordView, records, visit};
pub use compacted::{Change, Compacted, Key, KeyedReader, Value, keyed_append};
pub use reader::PartitionReader;

use async_trait::async_trait;
use bytes::Bytes;
use mainstem_types::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// Sealed segments go when older or larger in sum than the topic's bounds, never past the retention floor.
    Delete,
    /// Only the last word per key counts: older records of a key go in time, and a tombstone a day after what it deletes. What is left
    /// keeps its offset, so offsets have gaps. Every record has a key (`LOG-012`).
    Compact,
}

/// A topic's configuration. Names of options as in Kafka: `cleanup.policy`, `retention.ms`, `retention.bytes`; None = without bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    pub partitions: i32,
    pub cleanup: Cleanup,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
}

impl TopicConfig {
    /// A topic in which the last record of each key counts, as [`Compacted`] reads it: one partition, so that its records have one order.
    pub const fn compacted() -> Self {
        Self { partitions: 1, cleanup: Cleanup::Compact, retention_ms: None, retention_bytes: None }
    }
}

/// One partition of a topic as it stands.
#[derive(Clone, Debug)]
pub struct PartitionInfo {
    pub at: TopicPartition,
    pub config: TopicConfig,
    /// First offset still there.
    pub start: i64,
    /// One past the last visible offset (Kafka: high watermark).
    pub end: i64,
    pub bytes: u64,
}

/// Record batches to be appended to one partition.
#[derive(Clone, Debug)]
pub struct PartitionAppend {
    pub to: TopicPartition,
    /// One or more record batches v2 (from [`RecordBatchBuilder`]). Base offsets are patched at append; the CRC does not cover them.
    pub batches: Bytes,
    /// Records in them, all batches together.
    pub records: u32,
}

/// Makes the last part of an append out of the base offsets that the others got (in their order): a barrier names offsets that
/// are only known now.
pub type Seal = Box<dyn FnOnce(&[i64]) -> PartitionAppend + Send>;

/// Record batches as read.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whole batches; the first may begin before the offset asked for (Kafka's rule). Empty when there is nothing yet. Else the last
    /// record is at or above the offset asked for, so that who goes on one above it gets on.
    pub batches: Bytes,
    /// One past the last visible offset at the time of the read.
    pub end: i64,
    /// First offset still there.
    pub start: i64,
}

/// The event log.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Makes a topic; nothing happens when it is there with this configuration, else its configuration is changed (the number
    /// of partitions may not). Who makes many asks for all of them at once: they share their syncs.
    async fn create_topic(&self, name: &str, config: TopicConfig) -> Result<()>;

    /// Removes a topic and its files; nothing happens when there is none.
    async fn delete_topic(&self, name: &str) -> Result<()>;

    fn partitions(&self) -> Vec<PartitionInfo>;

    /// Appends to any number of partitions, all or nothing. Durable and visible on return. Returns the base offset of each part, the
    /// seal's last.
    async fn append(&self, parts: Vec<PartitionAppend>, seal: Option<Seal>) -> Result<Vec<i64>>;

    /// Begins an append of many pieces. While it is open no other append may touch its partitions (they are refused with `LOG-010`).
    async fn begin(&self) -> Result<Box<dyn LogTransaction>>;

    /// Reads whole batches from the one that holds `offset`, or the first after it where compaction took it, at least one and no more
    /// than about `bytes_max`.
    async fn read(&self, at: &TopicPartition, offset: i64, bytes_max: usize) -> Result<Fetched>;

    /// The end offset, now and whenever it grows.
    fn subscribe(&self, at: &TopicPartition) -> Result<watch::Receiver<i64>>;

    /// Retention may delete records below `offset` and none above. A partition never told a floor keeps all.
    fn set_retention_floor(&self, at: &TopicPartition, offset: i64);
}

/// An append in pieces; invisible until `commit`, gone when dropped.
#[async_trait]
pub trait LogTransaction: Send + Sync {
    /// Writes a piece; returns the base offsets its parts will have.
    async fn append(&mut self, parts: Vec<PartitionAppend>) -> Result<Vec<i64>>;
    /// Writes the last piece and makes everything durable and visible at once. Returns the base offsets of `parts`, the seal's last.
    async fn commit(self: Box<Self>, parts: Vec<PartitionAppend>, seal: Option<Seal>) -> Result<Vec<i64>>;
}
