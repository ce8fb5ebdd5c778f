//! The one writer of a source's topics. Rows and their barrier are one atomic append; what it returns from is durable, and handed to the live
//! tables.

use crate::capture::dead_letters::{self, Letter};
use crate::capture::shared::Shared;
use crate::metrics;
use mainstem_connector::BadRow;
use mainstem_env::{Env, Moment};
use mainstem_envelope::tail::Sender;
use mainstem_envelope::{EncodeContext, Schemas, barrier_append, encode, encode_generation, table_append};
use mainstem_eventlog::{Cleanup, EventLog, LogTransaction, PartitionAppend, Seal, TopicConfig, TopicPartition};
use mainstem_types::barrier::{BARRIER_TOPIC, TABLE_TOPIC};
use mainstem_types::source_block::SourceBlock;
use mainstem_types::{
    Barrier, ChangeBatch, Error, Generation, PartitionEnd, Position, Result, SourceName, TableBatch, TableRecord,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a barrier names every partition of the source, so that a reader need not go back further.
const FULL_BARRIER_INTERVAL: Duration = Duration::from_secs(10);

/// Rows encoded for the log, and the same rows decoded for the live tables.
#[derive(Default)]
pub struct Piece {
    parts: Vec<PartitionAppend>,
    batches: Vec<TableBatch>,
    /// Whether records of `_schemas` are among the parts.
    new_schemas: bool,
    /// Rows that could not be held.
    letters: Vec<Letter>,
}

impl Piece {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.letters.is_empty()
    }
}

/// The way of one source's batches into the log, and what it remembers between them.
pub struct Ingest {
    env: Env,
    log: Arc<dyn EventLog>,
    schemas: Arc<Schemas>,
    tail: Sender,
    shared: Arc<Shared>,
    pub source: SourceName,
    origin: Origin,
    /// Of the last barrier written.
    seq: u64,
    position: Option<Position>,
    last_barrier: Moment,
    last_full: Option<Moment>,
    /// A source transaction too large for one append, and the ends its pieces have reached.
    large: Option<(Box<dyn LogTransaction>, BTreeMap<TopicPartition, i64>)>,
    /// Whether its pieces have records of `_schemas`.
    large_schemas: bool,
    /// Its rows that could not be held so far.
    large_letters: Vec<Letter>,
    letter_topic_is_made: bool,
}

/// What a source's connector says of it.
pub struct Origin {
    pub block: &'static SourceBlock,
    /// As `source.db` shows it.
    pub database: String,
    pub default_schema: String,
}

pub struct IngestStart {
    pub env: Env,
    pub log: Arc<dyn EventLog>,
    pub schemas: Arc<Schemas>,
    pub tail: Sender,
    pub shared: Arc<Shared>,
    pub source: SourceName,
    pub origin: Origin,
    pub seq: u64,
    pub position: Option<Position>,
}

impl Ingest {
    pub async fn new(start: IngestStart) -> Result<Self> {
        let IngestStart { env, log, schemas, tail, shared, source, origin, seq, position } = start;
        // Its sealed segments go as soon as no start needs them.
        log.create_topic(BARRIER_TOPIC, delete_topic(Some(0))).await?;
        log.create_topic(TABLE_TOPIC, TopicConfig::compacted()).await?;
        let last_barrier = env.clock.moment();
        Ok(Self {
            env,
            log,
            schemas,
            tail,
            shared,
            source,
            origin,
            seq,
            position,
            last_barrier,
            last_full: None,
            large: None,
            large_schemas: false,
            large_letters: Vec::new(),
            letter_topic_is_made: false,
        })
    }

    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    pub fn seq(&self) -> u64 {
        self.seq
    }

    pub fn since_last_barrier(&self) -> Duration {
        self.env.clock.moment() - self.last_barrier
    }

    pub fn in_large_transaction(&self) -> bool {
        self.large.is_some()
    }

    pub async fn make_topic(&self, topic: &str) -> Result<()> {
        self.log.create_topic(topic, delete_topic(None)).await
    }

    pub async fn drop_topic(&self, topic: &str) -> Result<()> {
        self.log.delete_topic(topic).await
    }

    /// Adds rows for a table's own topic.
    pub fn add_rows(
        &self,
        piece: &mut Piece,
        record: &TableRecord,
        generation: Generation,
        changes: Arc<ChangeBatch>,
    ) -> Result<()> {
        self.encode_into(piece, record, &record.topic, &changes)?;
        metrics::CHANGES.add(changes.len() as u64);
        piece.batches.push(TableBatch { table: record.table, generation, changes });
        Ok(())
    }

    /// Adds rows that wait in a staging topic; the live tables do not get them.
    pub fn add_staged(&self, piece: &mut Piece, record: &TableRecord, staging: &str, changes: &ChangeBatch) -> Result<()> {
        metrics::STAGED.add(changes.len() as u64);
        self.encode_into(piece, record, staging, changes)
    }

    /// Adds the marker that begins a generation in the table's topic.
    pub fn add_generation(&self, piece: &mut Piece, record: &TableRecord, empty: &ChangeBatch) -> Result<()> {
        let (ids, schema_records) = self.schemas.ids(&record.topic, &empty.schema, self.origin.block)?;
        piece.new_schemas |= schema_records.is_some();
        piece.parts.extend(schema_records);
        let context = self.context(&record.topic, ids);
        piece.parts.push(encode_generation(&context, empty, record.generation)?);
        Ok(())
    }

    /// Adds a row that could not be held, for the barrier with which it is written.
    pub fn add_letter(&self, piece: &mut Piece, generation: Generation, bad: &BadRow) {
        metrics::DEAD_LETTERS.add(1);
        piece.letters.push(Letter::new(&self.source, generation, bad, self.env.clock.now_us()));
    }

    fn encode_into(&self, piece: &mut Piece, record: &TableRecord, topic: &str, changes: &ChangeBatch) -> Result<()> {
        let (ids, schema_records) = self.schemas.ids(&record.topic, &changes.schema, self.origin.block)?;
        piece.new_schemas |= schema_records.is_some();
        piece.parts.extend(schema_records);
        piece.parts.push(encode(&self.context(topic, ids), changes)?);
        Ok(())
    }

    fn context<'a>(&'a self, topic: &'a str, ids: mainstem_envelope::SchemaIds) -> EncodeContext<'a> {
        let now_ms = self.env.clock.now_us() / 1000;
        EncodeContext { source: &self.source, block: self.origin.block, database: &self.origin.database, topic, ids, now_ms }
    }

    /// Writes a piece of a source transaction that is too large for one append; nothing of it is visible before `commit`.
    pub async fn push_piece(&mut self, piece: Piece) -> Result<()> {
        if self.large.is_none() {
            self.large = Some((self.log.begin().await?, BTreeMap::new()));
        }
        self.large_schemas |= piece.new_schemas;
        self.large_letters.extend(piece.letters);
        let Some((transaction, ends)) = &mut self.large else { return Ok(()) };
        let counts: Vec<_> = piece.parts.iter().map(|p| (p.to.clone(), i64::from(p.records))).collect();
        let bases = transaction.append(piece.parts).await?;
        for ((to, records), base) in counts.into_iter().zip(bases) {
            ends.insert(to, base + records);
        }
        Ok(())
    }

    /// Forgets an unfinished large transaction: its stream broke off.
    pub fn abandon_large(&mut self) {
        self.large = None;
        self.large_schemas = false;
        self.large_letters.clear();
    }

    /// Appends rows and barrier, durable on return, and hands them to the live tables. `records` are table records that change at this
    /// barrier.
    pub async fn commit(
        &mut self,
        piece: Piece,
        position: Position,
        commit_time_us: i64,
        records: Vec<Arc<TableRecord>>,
    ) -> Result<()> {
        let now = self.env.clock.moment();
        let now_ms = self.env.clock.now_us() / 1000;
        let full = self.last_full.is_none_or(|last| now - last >= FULL_BARRIER_INTERVAL);
        let (large, mut ends) = self.large.take().map_or((None, BTreeMap::new()), |(t, e)| (Some(t), e));
        if full {
            for (to, end) in self.all_ends() {
                ends.entry(to).or_insert(end);
            }
        }
        let Piece { mut parts, batches, new_schemas, letters } = piece;
        let letters = self.letters(letters, &position).await?;
        let letter_part = parts.len();
        if !letters.is_empty() {
            parts.push(dead_letters::append(&self.source, &letters, now_ms)?);
        }
        if !records.is_empty() {
            let borrowed: Vec<&TableRecord> = records.iter().map(Arc::as_ref).collect();
            parts.push(table_append(&borrowed, now_ms));
        }
        let barrier = Barrier {
            source: self.source.clone(),
            seq: self.seq + 1,
            position: position.clone(),
            commit_time_us,
            ends: Vec::new(),
            full,
            tables: records,
        };
        let written = Arc::new(Mutex::new(None));
        let seal = seal(barrier, ends, &parts, written.clone(), now_ms);
        let was_large = large.is_some();
        let bases = match large {
            Some(transaction) => transaction.commit(parts, Some(seal)).await?,
            None => self.log.append(parts, Some(seal)).await?,
        };
        mainstem_env::fault::point("ingest.after_append");
        metrics::BARRIERS.add(1);
        if let Some(base) = bases.get(letter_part) {
            self.shared.show_letters((*base..).zip(letters));
        }
        // Durable: whatever fails from here on, it must not be written again.
        self.seq += 1;
        // Rows of a copy move nothing: the place in the source's log must not wait for their end.
        if self.position.as_ref() != Some(&position) {
            self.last_barrier = now;
        }
        self.position = Some(position);
        if full {
            self.last_full = Some(now);
        }
        self.learn_schemas(new_schemas).await;
        let barrier = written.lock().take();
        let Some(barrier) = barrier else { return Err(stopped(&self.source)) };
        if !self.tail.send(barrier, (!was_large).then_some(batches)).await {
            return Err(stopped(&self.source));
        }
        Ok(())
    }

    /// Reads new schemas back, so that they count as durable.
    async fn learn_schemas(&mut self, new_schemas: bool) {
        if new_schemas || self.large_schemas {
            let known = self.schemas.refresh().await;
            self.large_schemas = known.is_err();
            if let Err(error) = known {
                // Until they are known the records go out again, which does no harm.
                tracing::warn!(source = %self.source, error = %error.chain(), "new schemas could not be read back; tried again at the next commit");
            }
        }
    }

    /// The dead letters of a barrier, those of a large transaction's pieces included; their topic is there.
    async fn letters(&mut self, letters: Vec<Letter>, position: &Position) -> Result<Vec<Letter>> {
        let mut all = std::mem::take(&mut self.large_letters);
        all.extend(letters);
        if !all.is_empty() && !self.letter_topic_is_made {
            self.log.create_topic(&dead_letters::topic(&self.source), dead_letters::topic_config()).await?;
            self.letter_topic_is_made = true;
        }
        all.iter_mut().for_each(|letter| letter.position = position.clone());
        Ok(all)
    }

    fn all_ends(&self) -> impl Iterator<Item = (TopicPartition, i64)> {
        let prefix = format!("{}.", self.source);
        self.log.partitions().into_iter().filter(move |p| p.at.topic.starts_with(&prefix)).map(|p| (p.at, p.end))
    }
}

fn stopped(source: &SourceName) -> Error {
    Error::retry(crate::codes::SOURCE_STOPPED, format!("the live tables of source `{source}` stopped taking changes"))
}

fn delete_topic(retention_ms: Option<i64>) -> TopicConfig {
    TopicConfig { partitions: 1, cleanup: Cleanup::Delete, retention_ms, retention_bytes: None }
}

/// The barrier as the append's last part: it names the ends that the other parts have just got.
fn seal(
    mut barrier: Barrier,
    mut ends: BTreeMap<TopicPartition, i64>,
    parts: &[PartitionAppend],
    written: Arc<Mutex<Option<Barrier>>>,
    now_ms: i64,
) -> Seal {
    let targets: Vec<_> = parts.iter().map(|p| (p.to.clone(), i64::from(p.records))).collect();
    Box::new(move |bases| {
        for ((to, records), base) in targets.into_iter().zip(bases) {
            ends.insert(to, base + records);
        }
        // Control topics and staging are no part of the cut: nobody replays them from a barrier.
        ends.retain(|to, _| !to.topic.starts_with('_'));
        barrier.ends = ends.into_iter().map(|(to, end)| PartitionEnd { topic: to.topic, partition: to.partition, end }).collect();
        let part = barrier_append(&barrier, now_ms);
        *written.lock() = Some(barrier);
        part
    })
}
