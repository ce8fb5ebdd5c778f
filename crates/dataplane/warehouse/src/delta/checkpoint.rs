//! Checkpoints: the state of a Delta table in one Parquet file (Delta protocol, "Checkpoints", classic form), so that readers need not
//! read every commit.

use super::load::Replay;
use super::{Checkpoint, DeltaTable};
use crate::codes::{self, io_error};
use crate::files::{arrow_error, reader};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, MapBuilder, MapFieldNames, RecordBatch,
    StringArray, StringBuilder, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema};
use bytes::Bytes;
use mainstem_types::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// What `_last_checkpoint` says beside the protocol's words: our [`Checkpoint`].
const POINTER_KEY: &str = "mainstem";

impl DeltaTable {
    fn checkpoint_path(&self, version: u64) -> PathBuf {
        self.dir.join("_delta_log").join(format!("{version:020}.checkpoint.parquet"))
    }

    /// Writes a checkpoint when `commits` were made since the last.
    pub fn checkpoint_if_due(&mut self, commits: u64) -> Result<()> {
        let Some(version) = self.version else { return Ok(()) };
        if version < self.checkpoint.map_or(commits, |last| last.version + commits) {
            return Ok(());
        }
        let mut actions = vec![json!({ "protocol": self.protocol }), json!({ "metaData": self.metadata })];
        actions.extend(self.txns(&self.resume).iter().map(|(app, number)| json!({"txn": {"appId": app, "version": number}})));
        self.expire();
        actions.extend(self.tombstones.iter().map(|tombstone| json!({ "remove": tombstone.action() })));
        actions.extend(self.files.values().map(|file| json!({ "add": file.add })));
        let batch = to_batch(&actions).map_err(arrow_error)?;
        let path = self.checkpoint_path(version);
        let failed = |e| Error::retry(codes::IO, format!("cannot write the checkpoint {}", path.display())).caused_by(e);
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).map_err(failed)?;
        writer.write(&batch).map_err(failed)?;
        writer.close().map_err(failed)?;
        let disk = &self.env.disk;
        disk.replace(&path, &bytes).map_err(io_error(&path, "write"))?;
        let checkpoint = Checkpoint { version, bytes: bytes.len() as u64, sum: xxh3_64(&bytes) };
        self.point_to(checkpoint, actions.len())?;
        self.checkpoint = Some(checkpoint);
        self.checkpoints.push((version, self.env.clock.now_us() / 1000));
        Ok(())
    }

    fn pointer_path(&self) -> PathBuf {
        self.dir.join("_delta_log").join("_last_checkpoint")
    }

    fn point_to(&self, checkpoint: Checkpoint, actions: usize) -> Result<()> {
        let path = self.pointer_path();
        let text = json!({"version": checkpoint.version, "size": actions, POINTER_KEY: checkpoint}).to_string();
        self.env.disk.replace(&path, text.as_bytes()).map_err(io_error(&path, "write"))
    }

    /// Adds the actions of the youngest checkpoint that is what was written. The pointer is a hint for readers outside: where it does not
    /// say what our own log says, it is made anew.
    pub(super) fn load_checkpoint(&mut self, noted: Option<Checkpoint>, replay: &mut Replay) -> Result<()> {
        let (disk, pointer) = (self.env.disk.clone(), self.pointer_path());
        let text = if disk.exists(&pointer) { disk.read(&pointer).map_err(io_error(&pointer, "read"))? } else { Vec::new() };
        let pointed: Value = serde_json::from_slice(&text).unwrap_or_default();
        let version = pointed["version"].as_u64();
        let said = serde_json::from_value::<Checkpoint>(pointed[POINTER_KEY].clone()).ok();
        let said = said.filter(|checkpoint| Some(checkpoint.version) == version);
        let mut candidates: Vec<Checkpoint> = said.into_iter().chain(noted).collect();
        candidates.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.version));
        candidates.dedup();
        for checkpoint in candidates {
            let path = self.checkpoint_path(checkpoint.version);
            let bytes = if disk.exists(&path) { disk.read(&path).map_err(io_error(&path, "read"))? } else { Vec::new() };
            if bytes.len() as u64 == checkpoint.bytes && xxh3_64(&bytes) == checkpoint.sum {
                let count = take_actions(bytes, replay).map_err(|e| {
                    Error::corrupt(codes::CORRUPT, format!("the checkpoint {} cannot be read", path.display())).caused_by(e)
                })?;
                self.checkpoint = Some(checkpoint);
                if said != Some(checkpoint) {
                    tracing::warn!(file = %pointer.display(), "a pointer to a checkpoint was not what was written; it is made anew");
                    self.point_to(checkpoint, count)?;
                }
                return Ok(());
            }
            tracing::warn!(file = %path.display(), "a checkpoint is not what was written; the commits before it are read instead");
        }
        if !text.is_empty() {
            disk.remove_file(&pointer).map_err(io_error(&pointer, "remove"))?;
        }
        Ok(())
    }
}

/// Adds what a checkpoint says; returns how many actions that is.
fn take_actions(bytes: Vec<u8>, replay: &mut Replay) -> Result<usize, parquet::errors::ParquetError> {
    let bytes = Bytes::from(bytes);
    let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new())?;
    let mut count = 0;
    for batch in reader(bytes, metadata, &["protocol", "metaData", "txn", "remove", "add"], None)? {
        let batch = batch?;
        count += batch.num_rows();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
                replay.take(json!({ field.name(): value_of(column, row) }));
            }
        }
    }
    Ok(count)
}

/// The Arrow form of each action we write; the types are the protocol's.
fn action_fields() -> Vec<(&'static str, Fields)> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let vector =
        Fields::from(vec![text("storageType"), text("pathOrInlineDv"), int("offset"), int("sizeInBytes"), long("cardinality")]);
    let format = Fields::from(vec![text("provider"), map_field("options")]);
    vec![
        ("txn", Fields::from(vec![text("appId"), long("version"), long("lastUpdated")])),
        (
            "add",
            Fields::from(vec![
                text("path"),
                map_field("partitionValues"),
                long("size"),
                long("modificationTime"),
                Field::new("dataChange", DataType::Boolean, true),
                text("stats"),
                map_field("tags"),
                Field::new("deletionVector", DataType::Struct(vector.clone()), true),
            ]),
        ),
        (
            "remove",
            Fields::from(vec![
                text("path"),
                long("deletionTimestamp"),
                Field::new("dataChange", DataType::Boolean, true),
                Field::new("extendedFileMetadata", DataType::Boolean, true),
                map_field("partitionValues"),
                long("size"),
                Field::new("deletionVector", DataType::Struct(vector), true),
            ]),
        ),
        (
            "metaData",
            Fields::from(vec![
                text("id"),
                Field::new("format", DataType::Struct(format), true),
                text("schemaString"),
                list_field("partitionColumns"),
                map_field("configuration"),
                long("createdTime"),
            ]),
        ),
        (
            "protocol",
            Fields::from(vec![
                int("minReaderVersion"),
                int("minWriterVersion"),
                list_field("readerFeatures"),
                list_field("writerFeatures"),
            ]),
        ),
    ]
}

fn map_field(name: &str) -> Field {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    Field::new(name, DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false), true)
}

fn list_field(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true)
}

fn to_batch(actions: &[Value]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (kind, inner) in action_fields() {
        let values: Vec<&Value> = actions.iter().map(|action| &action[kind]).collect();
        let kind_field = Field::new(kind, DataType::Struct(inner), true);
        columns.push(column(&kind_field, &values)?);
        fields.push(kind_field);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn column(field: &Field, values: &[&Value]) -> Result<ArrayRef, arrow::error::ArrowError> {
    Ok(match field.data_type() {
        DataType::Int32 => Arc::new(values.iter().map(|v| v.as_i64().map(|n| n as i32)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(values.iter().map(|v| v.as_i64()).collect::<Int64Array>()),
        DataType::Boolean => Arc::new(values.iter().map(|v| v.as_bool()).collect::<BooleanArray>()),
        DataType::Struct(inner) => {
            let columns = inner.iter().map(|f| column(f, &values.iter().map(|v| &v[f.name()]).collect::<Vec<_>>()));
            let valid: NullBuffer = values.iter().map(|v| v.is_object()).collect();
            Arc::new(StructArray::try_new(inner.clone(), columns.collect::<Result<_, _>>()?, Some(valid))?)
        }
        DataType::List(element) => {
            let mut list = ListBuilder::new(StringBuilder::new()).with_field(element.clone());
            for value in values {
                value.as_array().into_iter().flatten().for_each(|text| list.values().append_option(text.as_str()));
                list.append(value.is_array());
            }
            Arc::new(list.finish())
        }
        DataType::Map(_, _) => {
            let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
            let mut map = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
            for value in values {
                for (key, value) in value.as_object().into_iter().flatten() {
                    map.keys().append_value(key);
                    map.values().append_option(value.as_str());
                }
                map.append(value.is_object())?;
            }
            Arc::new(map.finish())
        }
        _ => Arc::new(values.iter().map(|v| v.as_str()).collect::<StringArray>()),
    })
}

fn value_of(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let cells = fields.iter().zip(columns).filter(|(_, c)| c.is_valid(row));
            Value::Object(cells.map(|(f, c)| (f.name().clone(), value_of(c, row))).collect())
        }
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            (0..values.len()).map(|at| value_of(&values, at)).collect()
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let pairs = (0..entries.len()).map(|at| (value_of(keys, at), value_of(values, at)));
            Value::Object(pairs.filter_map(|(k, v)| Some((k.as_str()?.to_string(), v))).collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}
