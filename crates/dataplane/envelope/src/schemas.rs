//! Schemas and their ids, kept in `_schemas` in Confluent's record format, so that any registry that reads the topic serves them.

use crate::avro_schema::{TABLE_SCHEMA_PROPERTY, key_schema, value_schema};
use crate::codes;
use crate::source_block::BlockForm;
use mainstem_eventlog::{Change, EventLog, KeyedReader, PartitionAppend, TopicConfig, keyed_append};
use mainstem_types::source_block::SourceBlock;
use mainstem_types::{Error, Result, TableSchema};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The registry's topic: one partition, policy compact.
pub const SCHEMA_TOPIC: &str = "_schemas";

/// The ids in front of a record's key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaIds {
    /// None: the table has no record key; its records have null keys.
    pub key: Option<i32>,
    pub value: i32,
}

/// A record's key. Field order is Confluent's: the bytes of a key are its identity in a compacted topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Key {
    keytype: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    version: Option<i32>,
    magic: i32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Key {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// A record's value.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Schema(Version),
    /// Of another kind of key: a registry's own configuration.
    Other(serde_json::Value),
}

/// A schema as we write it.
#[derive(Serialize, Deserialize)]
struct Version {
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
    topic: tokio::sync::Mutex<KeyedReader<Key, Value>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    id_max: i32,
    texts: HashMap<i32, Arc<str>>,
    ids: HashMap<Arc<str>, i32>,
    subjects: HashMap<String, BTreeMap<i32, KnownVersion>>,
    /// What is parsed out of texts.
    tables: HashMap<i32, Known>,
    /// The last answer per topic, once it is durable: the way of every batch.
    known: HashMap<String, (TableSchema, SchemaIds)>,
}

struct KnownVersion {
    id: i32,
    /// Read back from the topic; until then its record is handed out again.
    durable: bool,
}

impl Schemas {
    /// Reads the whole topic (made when missing).
    pub async fn load(log: Arc<dyn EventLog>) -> Result<Self> {
        log.create_topic(SCHEMA_TOPIC, TopicConfig::compacted()).await?;
        let topic = tokio::sync::Mutex::new(KeyedReader::new(log, SCHEMA_TOPIC));
        let schemas = Self { topic, state: Mutex::default() };
        schemas.refresh().await?;
        Ok(schemas)
    }

    /// Reads what was appended to the topic since: after an append that carried records of [`Schemas::ids`] (they count as durable only
    /// then, so that a failed append cannot leave an id without its schema), and when another process wrote to it.
    pub async fn refresh(&self) -> Result<()> {
        let mut topic = self.topic.lock().await;
        let changes = topic.read().await?;
        let mut state = self.state.lock();
        changes.into_iter().try_for_each(|change| state.read(change))
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
        let mut records = Vec::new();
        let key = match key_schema(topic, schema) {
            Some(text) => Some(state.register(&format!("{topic}-key"), &text, &mut records)?),
            None => None,
        };
        let value = state.register(&format!("{topic}-value"), &value_text, &mut records)?;
        let ids = SchemaIds { key, value };
        if records.is_empty() {
            state.known.insert(topic.to_string(), (schema.clone(), ids));
            return Ok((ids, None));
        }
        let part = keyed_append(SCHEMA_TOPIC, records.iter().map(|(key, value)| (key, Some(value))), 0)?;
        Ok((ids, Some(part)))
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
    fn register(&mut self, subject: &str, text: &str, out: &mut Vec<(Key, Value)>) -> Result<i32> {
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
            Some((_, KnownVersion { durable: true, .. })) => return Ok(id),
            Some((version, _)) => *version,
            None => {
                let version = versions.keys().next_back().map_or(1, |last| last.saturating_add(1));
                versions.insert(version, KnownVersion { id, durable: false });
                version
            }
        };
        let key = Key { keytype: "SCHEMA".into(), subject: Some(subject.into()), version: Some(version), magic: 1 };
        let value = Version { subject: subject.into(), version, id, schema: text.into(), deleted: false };
        out.push((key, Value::Schema(value)));
        Ok(id)
    }

    /// Takes in a record of the topic. Kinds other than schemas (a registry's own configuration) are passed over.
    fn read(&mut self, change: Change<Key, Value>) -> Result<()> {
        let Change { offset, key, value } = change;
        let (true, Some(subject), Some(version)) = (key.keytype == "SCHEMA", key.subject, key.version) else { return Ok(()) };
        let value = match value {
            Some(Value::Schema(value)) => value,
            Some(Value::Other(_)) => {
                let place = format!("the record at offset {offset} of {SCHEMA_TOPIC} is not in the registry's format");
                return Err(Error::corrupt(codes::BAD_CONTROL_RECORD, place));
            }
            None => {
                if let Some(versions) = self.subjects.get_mut(&subject) {
                    versions.remove(&version);
                    self.known.clear();
                }
                return Ok(());
            }
        };
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
            versions.insert(version, KnownVersion { id: value.id, durable: true });
        }
        Ok(())
    }
}
