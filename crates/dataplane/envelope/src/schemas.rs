//! Schemas and their ids, kept in `_schemas` in Confluent's record format, so that any registry that reads the topic serves them.

use crate::avro_schema::{TABLE_SCHEMA_PROPERTY, key_schema, value_schema};
use crate::codes;
use crate::source_block::BlockForm;
use mainstem_log::{Cleanup, EventLog, PartitionAppend, RecordBatchBuilder, RecordRef, TopicConfig, TopicPartition};
use mainstem_types::source_block::SourceBlock;
use mainstem_types::{Error, Result, TableSchema};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The registry's topic: one partition, policy compact.
pub const SCHEMA_TOPIC: &str = "_schemas";

const READ_BYTES: usize = 1 << 20;

/// The ids in front of a record's key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaIds {
    /// None: the table has no record key; its records have null keys.
    pub key: Option<i32>,
    pub value: i32,
}

/// A record's key. Field order is Confluent's: the bytes of a key are its identity in a compacted topic.
#[derive(Serialize, Deserialize)]
struct Key {
    keytype: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    version: Option<i32>,
    magic: i32,
}

/// A record's value as we write it.
#[derive(Serialize, Deserialize)]
struct Value {
    subject: String,
    version: i32,
    id: i32,
    schema: String,
    #[serde(default)]
    deleted: bool,
}

/// What a value schema says to a decoder.
pub(crate) type Known = (Arc<TableSchema>, Arc<BlockForm>);

/// All schemas by id, and ids by subject and text.
pub struct Schemas {
    log: Arc<dyn EventLog>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Offset up to which the topic was read.
    next: i64,
    id_max: i32,
    texts: HashMap<i32, Arc<str>>,
    ids: HashMap<Arc<str>, i32>,
    subjects: HashMap<String, BTreeMap<i32, Version>>,
    /// What is parsed out of texts.
    tables: HashMap<i32, Known>,
    /// The last answer per topic, once it is durable: the way of every batch.
    known: HashMap<String, (TableSchema, SchemaIds)>,
}

struct Version {
    id: i32,
    /// Read back from the topic; until then its record is handed out again.
    durable: bool,
}

impl Schemas {
    /// Reads the whole topic (made when missing).
    pub async fn load(log: Arc<dyn EventLog>) -> Result<Self> {
        let config = TopicConfig { partitions: 1, cleanup: Cleanup::Compact, retention_ms: None, retention_bytes: None };
        log.create_topic(SCHEMA_TOPIC, config).await?;
        let schemas = Self { log, state: Mutex::new(State::default()) };
        schemas.refresh().await?;
        Ok(schemas)
    }

    /// Reads what was appended to the topic since: after an append that carried records of [`Schemas::ids`] (they count as durable only
    /// then, so that a failed append cannot leave an id without its schema), and when another process wrote to it.
    pub async fn refresh(&self) -> Result<()> {
        let at = TopicPartition::new(SCHEMA_TOPIC, 0);
        loop {
            let from = self.state.lock().next;
            let fetched = self.log.read(&at, from, READ_BYTES).await?;
            let records = mainstem_log::records(&fetched.batches)?;
            let mut state = self.state.lock();
            let mut next = from.max(fetched.start);
            for record in records.iter().filter(|record| record.offset >= from) {
                state.read(record)?;
                next = next.max(record.offset + 1);
            }
            let stuck = next == from;
            state.next = state.next.max(next);
            if stuck || next >= fetched.end {
                return Ok(());
            }
        }
    }

    /// The ids of a table's schemas under `<topic>-key` and `<topic>-value`, and the records to be appended in or before the first append
    /// that uses them (empty when they are known). The Avro schema of the value carries our `TableSchema` as a property, so that a replay
    /// knows the table as it was.
    ///
    /// Until [`Schemas::refresh`] has read them back, the same records are handed out again; appending them twice does no harm.
    pub fn ids(&self, topic: &str, schema: &TableSchema, block: &SourceBlock) -> Result<(SchemaIds, Option<PartitionAppend>)> {
        let mut state = self.state.lock();
        if let Some((known, ids)) = state.known.get(topic)
            && known == schema
        {
            return Ok((*ids, None));
        }
        let value_text = value_schema(topic, schema, block)
            .map_err(|e| Error::bug(codes::BAD_BATCH, format!("the schema of {} has no JSON form", schema.name)).caused_by(e))?;
        let mut builder = RecordBatchBuilder::new(0);
        let key = match key_schema(topic, schema) {
            Some(text) => Some(state.register(&format!("{topic}-key"), &text, &mut builder)?),
            None => None,
        };
        let value = state.register(&format!("{topic}-value"), &value_text, &mut builder)?;
        let ids = SchemaIds { key, value };
        let records = builder.records();
        if records == 0 {
            state.known.insert(topic.to_string(), (schema.clone(), ids));
            return Ok((ids, None));
        }
        Ok((ids, Some(PartitionAppend { to: TopicPartition::new(SCHEMA_TOPIC, 0), batches: builder.finish(), records })))
    }

    /// The table schema of a value schema's id. `REC-003` when the id is not known; one that another process added is found
    /// after [`Schemas::refresh`].
    pub fn table_schema(&self, id: i32) -> Result<Arc<TableSchema>> {
        self.known(id).map(|(schema, _)| schema)
    }

    /// A table schema and the form of the source block beside it.
    pub(crate) fn known(&self, id: i32) -> Result<Known> {
        let mut state = self.state.lock();
        if let Some(known) = state.tables.get(&id) {
            return Ok(known.clone());
        }
        let unknown = |what: &str| {
            Error::corrupt(codes::UNKNOWN_SCHEMA, format!("schema {id} {what}")).hint(
                "Rebuild the table if another program wrote to its topic: topics of tables hold records of our schemas only.",
            )
        };
        let text = state.texts.get(&id).ok_or_else(|| unknown(&format!("is not in the topic {SCHEMA_TOPIC}")))?;
        let mut parsed: serde_json::Value = serde_json::from_str(text).map_err(|e| unknown("cannot be parsed").caused_by(e))?;
        let table = parsed.get_mut(TABLE_SCHEMA_PROPERTY).map(serde_json::Value::take);
        let table = table.ok_or_else(|| unknown(&format!("has no property {TABLE_SCHEMA_PROPERTY}")))?;
        let schema: TableSchema = serde_json::from_value(table).map_err(|e| unknown("holds no table schema").caused_by(e))?;
        let form = BlockForm::of(&parsed).ok_or_else(|| unknown("has no source block that can be read"))?;
        let known = (Arc::new(schema), Arc::new(form));
        state.tables.insert(id, known.clone());
        Ok(known)
    }
}

impl State {
    /// The id of a text under a subject; adds the record to be appended when it is not durable there.
    fn register(&mut self, subject: &str, text: &str, out: &mut RecordBatchBuilder) -> Result<i32> {
        let id = match self.ids.get(text) {
            Some(id) => *id,
            None => {
                let full = || Error::fix(codes::BAD_CONTROL_RECORD, format!("the ids of {SCHEMA_TOPIC} are used up"));
                self.id_max = self.id_max.checked_add(1).ok_or_else(full)?;
                self.texts.insert(self.id_max, text.into());
                self.ids.insert(text.into(), self.id_max);
                self.id_max
            }
        };
        let versions = self.subjects.entry(subject.to_string()).or_default();
        let version = match versions.iter().find(|(_, version)| version.id == id) {
            Some((_, Version { durable: true, .. })) => return Ok(id),
            Some((version, _)) => *version,
            None => {
                let version = versions.keys().next_back().map_or(1, |last| last.saturating_add(1));
                versions.insert(version, Version { id, durable: false });
                version
            }
        };
        let key = Key { keytype: "SCHEMA".into(), subject: Some(subject.into()), version: Some(version), magic: 1 };
        let value = Value { subject: subject.into(), version, id, schema: text.into(), deleted: false };
        let json = serde_json::to_vec(&key).and_then(|key| Ok((key, serde_json::to_vec(&value)?)));
        let (key, value) = json.map_err(|e| {
            Error::bug(codes::BAD_CONTROL_RECORD, format!("the schema of {subject} has no JSON form")).caused_by(e)
        })?;
        out.push(0, Some(&key), Some(&value), &[]);
        Ok(id)
    }

    /// Takes in a record of the topic. Kinds other than schemas (a registry's own configuration) are passed over.
    fn read(&mut self, record: &RecordRef) -> Result<()> {
        let bad = |e: serde_json::Error| {
            let place = format!("the record at offset {} of {SCHEMA_TOPIC} is not in the registry's format", record.offset);
            Error::corrupt(codes::BAD_CONTROL_RECORD, place).caused_by(e)
        };
        let Some(key) = &record.key else { return Ok(()) };
        let key: Key = serde_json::from_slice(key).map_err(bad)?;
        let (true, Some(subject), Some(version)) = (key.keytype == "SCHEMA", key.subject, key.version) else { return Ok(()) };
        let Some(value) = &record.value else {
            if let Some(versions) = self.subjects.get_mut(&subject) {
                versions.remove(&version);
                self.known.clear();
            }
            return Ok(());
        };
        let value: Value = serde_json::from_slice(value).map_err(bad)?;
        // Records that use a deleted schema can still be read: its id stays.
        self.id_max = self.id_max.max(value.id);
        let text: Arc<str> = value.schema.into();
        self.texts.insert(value.id, text.clone());
        self.tables.remove(&value.id);
        self.ids.entry(text).or_insert(value.id);
        let versions = self.subjects.entry(subject).or_default();
        if value.deleted {
            versions.remove(&version);
            self.known.clear();
        } else {
            versions.insert(version, Version { id: value.id, durable: true });
        }
        Ok(())
    }
}
