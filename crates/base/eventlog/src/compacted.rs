//! Typed views of topics in which the last record of a key counts. All state of ours that is no table's rows is kept in such topics, and
//! only here are they made, read and written.

use crate::{EventLog, PartitionAppend, PartitionReader, RecordBatchBuilder, RecordRef, TopicConfig, TopicPartition, codes};
use mainstem_env::Env;
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A record's key: the text of its `Display`, read by its `FromStr`.
pub trait Key: Ord + Clone + Display + FromStr {}

impl<K: Ord + Clone + Display + FromStr> Key for K {}

/// A record's value. Whatever serde can write is JSON; a type of another form says it itself.
pub trait Value: Sized {
    fn encode(&self) -> Result<Vec<u8>, Cause>;
    fn decode(bytes: &[u8]) -> Result<Self, Cause>;
}

impl<V: Serialize + DeserializeOwned> Value for V {
    fn encode(&self) -> Result<Vec<u8>, Cause> {
        Ok(serde_json::to_vec(self)?)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Cause> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// What a topic says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<K, V> {
    pub offset: i64,
    pub key: K,
    /// None: the key was removed.
    pub value: Option<V>,
}

/// A compacted topic of one partition as a map, in memory. Cheap to ask; changes are durable when their call returns, and seen by every
/// later [`get`](Self::get) here. Other views of the same topic see them after their next [`refresh`](Self::refresh).
pub struct Compacted<K, V> {
    env: Env,
    log: Arc<dyn EventLog>,
    topic: Arc<str>,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    /// Offset up to which the topic was read.
    next: i64,
    values: BTreeMap<K, V>,
}

impl<K: Key, V: Value + Clone> Compacted<K, V> {
    /// Makes the topic when there is none and reads it whole. `LOG-014`: a record that counts cannot be read.
    pub async fn open(env: Env, log: Arc<dyn EventLog>, topic: &str) -> Result<Self> {
        log.create_topic(topic, TopicConfig::compacted()).await?;
        let state = Mutex::new(State { next: 0, values: BTreeMap::new() });
        let view = Self { env, log, topic: topic.into(), state };
        view.refresh().await?;
        Ok(view)
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.state.lock().values.get(key).cloned()
    }

    /// All keys with their values, in order of the keys.
    pub fn entries(&self) -> Vec<(K, V)> {
        self.state.lock().values.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub async fn put(&self, key: K, value: V) -> Result<()> {
        self.write([(key, Some(value))]).await
    }

    /// Writes a tombstone, whether the key is there or not.
    pub async fn remove(&self, key: K) -> Result<()> {
        self.write([(key, None)]).await
    }

    /// Puts (Some) and removes (None) all or nothing, in this order. After an error what was written is not known: `refresh` tells.
    pub async fn write(&self, changes: impl IntoIterator<Item = (K, Option<V>)>) -> Result<()> {
        let changes: Vec<_> = changes.into_iter().collect();
        let borrowed = changes.iter().map(|(key, value)| (key, value.as_ref()));
        let part = keyed_append(&self.topic, borrowed, self.env.clock.now_us() / 1000)?;
        if part.records > 0 {
            self.log.append(vec![part], None).await?;
        }
        self.refresh().await
    }

    /// Reads on from where the view stands: after an append that carried a part of [`keyed_append`], or by another writer.
    pub async fn refresh(&self) -> Result<()> {
        let mut reader = self.subscribe();
        let changes = reader.read().await?;
        let mut state = self.state.lock();
        // Another refresh may have been faster: what it read must not be overwritten with what was before.
        let stood = state.next;
        for Change { key, value, .. } in changes.into_iter().filter(|change| change.offset >= stood) {
            match value {
                Some(value) => drop(state.values.insert(key, value)),
                None => drop(state.values.remove(&key)),
            }
        }
        state.next = stood.max(reader.next);
        Ok(())
    }

    /// What changes after what this view shows now, whoever writes it; [`KeyedReader::changed`] waits for it.
    pub fn subscribe(&self) -> KeyedReader<K, V> {
        let next = self.state.lock().next;
        KeyedReader { next, ..KeyedReader::new(self.log.clone(), &self.topic) }
    }
}

/// Reads the last word of each key of a topic's only partition, and then what changed since. For who keeps something else of it than the
/// map that [`Compacted`] is; the topic may be one that is not compacted.
pub struct KeyedReader<K, V> {
    log: Arc<dyn EventLog>,
    at: TopicPartition,
    next: i64,
    kind: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value> KeyedReader<K, V> {
    /// Begins at the topic's start, wherever that is.
    pub fn new(log: Arc<dyn EventLog>, topic: &str) -> Self {
        Self { log, at: TopicPartition::new(topic, 0), next: 0, kind: PhantomData }
    }

    /// The offset it goes on from.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Reads on to the end: of each key its last word only, in the order in which these were written. Nothing when there is no such topic.
    /// `LOG-014`: one of them cannot be read; the reader then stands where it stood.
    pub async fn read(&mut self) -> Result<Vec<Change<K, V>>> {
        let mut words: HashMap<Vec<u8>, RecordRef> = HashMap::new();
        let mut reader = PartitionReader::new(&*self.log, self.at.clone(), self.next);
        loop {
            match reader.records().await {
                Ok(None) => break,
                Ok(Some(records)) => words.extend(records.into_iter().filter_map(|r| Some((r.key.as_ref()?.to_vec(), r)))),
                Err(error) if error.code() == codes::UNKNOWN_PARTITION => return Ok(Vec::new()),
                Err(error) if error.code() == codes::OFFSET_OUT_OF_RANGE && self.start() > reader.next() => {
                    reader = PartitionReader::new(&*self.log, self.at.clone(), self.start());
                }
                Err(error) => return Err(error),
            }
        }
        let next = reader.next();
        let mut words: Vec<_> = words.into_iter().collect();
        words.sort_unstable_by_key(|(_, record)| record.offset);
        let changes = words.into_iter().map(|(key, record)| self.typed(&key, &record)).collect::<Result<_>>()?;
        self.next = next;
        Ok(changes)
    }

    /// As [`read`](Self::read), but waits until there is something. Safe to drop while it waits. `LOG-009` when the log was closed or the
    /// topic deleted.
    pub async fn changed(&mut self) -> Result<Vec<Change<K, V>>> {
        let mut end = self.log.subscribe(&self.at)?;
        loop {
            let changes = self.read().await?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            if end.changed().await.is_err() {
                return Err(Error::retry(codes::CLOSED, format!("topic {} was deleted, or the log is closed", self.at.topic)));
            }
        }
    }

    /// Where the topic begins: retention may have taken its oldest records. A look at all partitions.
    fn start(&self) -> i64 {
        self.log.partitions().into_iter().find(|p| p.at == self.at).map_or(0, |p| p.start)
    }

    fn typed(&self, key: &[u8], record: &RecordRef) -> Result<Change<K, V>> {
        let bad = || {
            let text = format!("the record at offset {} of topic {} cannot be read", record.offset, self.at.topic);
            Error::corrupt(codes::BAD_RECORD, text)
                .hint("See whether a newer version wrote this data directory, or another program to this topic.")
        };
        let text = std::str::from_utf8(key).map_err(|e| bad().caused_by(e))?;
        let key = text.parse().map_err(|_| bad())?;
        let value = record.value.as_deref().map(V::decode).transpose().map_err(|e| bad().caused_by(e))?;
        Ok(Change { offset: record.offset, key, value })
    }
}

/// Puts (Some) and tombstones (None) for a topic's only partition, to be appended together with what must be true at the same moment.
/// `LOG-014` of kind bug: a value that has no written form.
pub fn keyed_append<'a, K: Display, V: Value + 'a>(
    topic: &str,
    changes: impl IntoIterator<Item = (K, Option<&'a V>)>,
    now_ms: i64,
) -> Result<PartitionAppend> {
    let mut batch = RecordBatchBuilder::new(now_ms);
    for (key, value) in changes {
        let key = key.to_string();
        let value = value.map(V::encode).transpose().map_err(|e| {
            Error::bug(codes::BAD_RECORD, format!("the value of `{key}` in topic {topic} cannot be written")).caused_by(e)
        })?;
        batch.push(now_ms, Some(key.as_bytes()), value.as_deref(), &[]);
    }
    let records = batch.records();
    Ok(PartitionAppend { to: TopicPartition::new(topic, 0), batches: batch.finish(), records })
}
