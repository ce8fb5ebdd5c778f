//! Rows that could not be held: one topic per source has them whole, and the newest are shown without their values
//! (`docs/rfcs/0009-dead-letters.md`).

use mainstem_connector::BadRow;
use mainstem_eventlog::codes;
use mainstem_eventlog::{Cleanup, EventLog, PartitionAppend, PartitionReader, RecordBatchBuilder, TopicConfig, TopicPartition};
use mainstem_types::{Error, Generation, Position, Result, SourceName, TableName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many of a source are shown, the newest; the topic has all.
pub const SHOWN_MAX: usize = 1000;

/// What becomes of a row with a value that cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadValue {
    StopTable,
    DeadLetter,
}

impl OnBadValue {
    /// From the option's value, which was checked.
    pub fn of(value: &str) -> Self {
        if value == "dead_letter" { Self::DeadLetter } else { Self::StopTable }
    }
}

/// A record of the topic, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    pub source: SourceName,
    /// As the source names it.
    pub table: TableName,
    pub generation: Generation,
    /// What happened to the row, as in an envelope.
    pub op: String,
    /// Number of its transaction; 0 for a row of a copy.
    pub transaction: u64,
    pub place: u64,
    pub order: u32,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub commit_time_us: i64,
    pub at_us: i64,
    /// Of the barrier that it was written with.
    pub position: Position,
    pub error_code: String,
    pub error: String,
    /// By column, as the source writes them.
    pub values: BTreeMap<String, Option<String>>,
}

impl Letter {
    /// `position` is set when it is written.
    pub fn new(source: &SourceName, generation: Generation, bad: &BadRow, now_us: i64) -> Self {
        let names = bad.schema.columns.iter().map(|column| column.name.to_string());
        Self {
            source: source.clone(),
            table: bad.schema.name.clone(),
            generation,
            op: bad.op.code().to_string(),
            transaction: bad.tx.id,
            place: bad.place,
            order: bad.order,
            commit_time_us: bad.tx.commit_time_us,
            at_us: now_us,
            position: Position::new(""),
            error_code: bad.error.code().id.to_string(),
            error: bad.error.message().to_string(),
            values: names.zip(bad.values.iter().cloned()).collect(),
        }
    }
}

/// No table's topic begins with an underscore: a source's name begins with a letter.
pub fn topic(source: &SourceName) -> String {
    format!("_mainstem.dead_letters.{source}")
}

/// They stay until the source is dropped: nothing else remembers these rows.
pub fn topic_config() -> TopicConfig {
    TopicConfig { partitions: 1, cleanup: Cleanup::Delete, retention_ms: Some(i64::MAX), retention_bytes: None }
}

/// Letters as a part of an append.
pub fn append(source: &SourceName, letters: &[Letter], now_ms: i64) -> Result<PartitionAppend> {
    let mut batch = RecordBatchBuilder::new(now_ms);
    for letter in letters {
        let value = serde_json::to_vec(letter)
            .map_err(|e| Error::bug(codes::BAD_RECORD, "a dead letter cannot be written as JSON").caused_by(e))?;
        batch.push(now_ms, Some(letter.table.to_string().as_bytes()), Some(&value), &[]);
    }
    let records = batch.records();
    Ok(PartitionAppend { to: TopicPartition::new(&topic(source), 0), batches: batch.finish(), records })
}

/// The newest letters of a source, oldest first, each with its offset.
pub async fn newest(log: &dyn EventLog, source: &SourceName) -> Result<Vec<(i64, Letter)>> {
    let at = TopicPartition::new(&topic(source), 0);
    let Some(partition) = log.partitions().into_iter().find(|p| p.at == at) else { return Ok(Vec::new()) };
    let mut reader = PartitionReader::new(log, at.clone(), partition.start.max(partition.end - SHOWN_MAX as i64));
    let mut letters = Vec::new();
    while let Some(records) = reader.records().await? {
        for record in records {
            let Some(value) = &record.value else { continue };
            let bad = |e| {
                let what = format!("record {} of {} cannot be read", record.offset, at.topic);
                Error::corrupt(codes::BAD_RECORD, what).caused_by(e)
            };
            letters.push((record.offset, serde_json::from_slice(value).map_err(bad)?));
        }
    }
    Ok(letters)
}
