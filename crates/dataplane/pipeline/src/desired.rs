//! Desired state: what users declared of sources, as the last record per name in `_mainstem.sources` (policy compact).

use crate::codes;
use mainstem_connector::Options;
use mainstem_env::Env;
use mainstem_eventlog::{
    Cleanup, EventLog, PartitionAppend, RecordBatchBuilder, RecordRef, TopicConfig, TopicPartition, records,
};
use mainstem_types::{Error, Result, SourceName, TableId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub const SOURCE_TOPIC: &str = "_mainstem.sources";
/// Key of the record that says which table ids are taken; no source can have this name.
const IDS_KEY: &str = "#table_ids";
const READ_BYTES: usize = 1 << 20;

/// One source as declared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceRecord {
    pub name: SourceName,
    pub connector: String,
    /// The URL, encrypted: it holds the password.
    pub sealed_url: String,
    /// The URL without its password.
    pub shown_url: String,
    pub options: Options,
    pub paused: bool,
    /// Remote objects (slot, publications) this directory recorded before making them (decision 4).
    pub owned: BTreeSet<String>,
    /// Set when the source was dropped: barriers of a later source of this name go on after this number.
    pub dropped_at_seq: Option<u64>,
}

/// All desired state as the topic has it.
#[derive(Default)]
pub struct Desired {
    pub sources: BTreeMap<SourceName, SourceRecord>,
    pub next_table_id: u64,
}

pub fn compact_topic() -> TopicConfig {
    TopicConfig { partitions: 1, cleanup: Cleanup::Compact, retention_ms: None, retention_bytes: None }
}

/// Reads a whole partition, record by record.
pub async fn read_all(log: &dyn EventLog, topic: &str, mut each: impl FnMut(&RecordRef) -> Result<()>) -> Result<()> {
    let at = TopicPartition::new(topic, 0);
    let mut offset = log.partitions().iter().find(|p| p.at == at).map_or(0, |p| p.start);
    loop {
        let fetched = log.read(&at, offset, READ_BYTES).await?;
        if fetched.batches.is_empty() {
            return Ok(());
        }
        let from = offset;
        for record in records(&fetched.batches)?.iter().filter(|r| r.offset >= from) {
            each(record)?;
            offset = record.offset + 1;
        }
    }
}

impl Desired {
    pub async fn load(log: &dyn EventLog) -> Result<Self> {
        log.create_topic(SOURCE_TOPIC, compact_topic()).await?;
        let mut desired = Desired { next_table_id: 1, ..Default::default() };
        read_all(log, SOURCE_TOPIC, |record| desired.take(record)).await?;
        Ok(desired)
    }

    fn take(&mut self, record: &RecordRef) -> Result<()> {
        let bad = |e: serde_json::Error| {
            Error::corrupt(codes::CONTROL_RECORD, format!("record {} of {SOURCE_TOPIC} cannot be read", record.offset))
                .caused_by(e)
        };
        let (Some(key), Some(value)) = (&record.key, &record.value) else { return Ok(()) };
        if key.as_ref() == IDS_KEY.as_bytes() {
            self.next_table_id = serde_json::from_slice(value).map_err(bad)?;
        } else {
            let source: SourceRecord = serde_json::from_slice(value).map_err(bad)?;
            self.sources.insert(source.name.clone(), source);
        }
        Ok(())
    }
}

/// Table ids are reserved in blocks, so that making a table does not wait for a commit of its own.
const ID_BLOCK: u64 = 64;

/// Hands out table ids, never one twice in a data directory.
pub struct TableIds {
    env: Env,
    log: Arc<dyn EventLog>,
    /// (next to hand out, first not reserved)
    range: tokio::sync::Mutex<(u64, u64)>,
}

impl TableIds {
    pub fn new(env: Env, log: Arc<dyn EventLog>, next: u64) -> Self {
        Self { env, log, range: tokio::sync::Mutex::new((next, next)) }
    }

    pub async fn next(&self) -> Result<TableId> {
        let mut range = self.range.lock().await;
        if range.0 >= range.1 {
            let reserved = range.0 + ID_BLOCK;
            save_next_table_id(&*self.log, reserved, self.env.clock.now_us() / 1000).await?;
            range.1 = reserved;
        }
        range.0 += 1;
        Ok(TableId(range.0 - 1))
    }
}

pub async fn save(log: &dyn EventLog, record: &SourceRecord, now_ms: i64) -> Result<()> {
    append(log, record.name.as_str(), &serde_json::to_vec(record).map_err(unwritable)?, now_ms).await
}

async fn save_next_table_id(log: &dyn EventLog, next: u64, now_ms: i64) -> Result<()> {
    append(log, IDS_KEY, &serde_json::to_vec(&next).map_err(unwritable)?, now_ms).await
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::bug(codes::CONTROL_RECORD, "a source's record cannot be written as JSON").caused_by(e)
}

async fn append(log: &dyn EventLog, key: &str, value: &[u8], now_ms: i64) -> Result<()> {
    let mut batch = RecordBatchBuilder::new(now_ms);
    batch.push(now_ms, Some(key.as_bytes()), Some(value), &[]);
    let records = batch.records();
    let part = PartitionAppend { to: TopicPartition::new(SOURCE_TOPIC, 0), batches: batch.finish(), records };
    log.append(vec![part], None).await.map(|_| ())
}
