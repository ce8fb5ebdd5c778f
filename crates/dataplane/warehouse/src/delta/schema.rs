//! A table's columns in Delta's terms: schema, features, statistics.

use crate::files::DataFile;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type};
use mainstem_types::{Column, ColumnType, Error, Result, TableSchema};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Text longer than this is left out of statistics.
const STATS_TEXT_BYTES_MAX: usize = 64;
/// Our own schema, so that a start knows identities and column ids; Delta leaves configuration keys of others alone.
pub(super) const SCHEMA_KEY: &str = "mainstem.schema";

/// Names that Delta takes only with column mapping: Parquet writers once refused these characters, and names compare without case.
pub(super) fn needs_mapping(schema: &TableSchema) -> bool {
    let mut lower = BTreeSet::new();
    schema
        .columns
        .iter()
        .any(|c| c.name.contains([' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '=']) || !lower.insert(c.name.to_lowercase()))
}

fn delta_type(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Bool => "boolean".into(),
        ColumnType::Int16 => "short".into(),
        ColumnType::Int32 => "integer".into(),
        ColumnType::Int64 | ColumnType::Time => "long".into(),
        ColumnType::Float32 => "float".into(),
        ColumnType::Float64 => "double".into(),
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Text => "string".into(),
        ColumnType::Bytes => "binary".into(),
        ColumnType::Date => "date".into(),
        ColumnType::Timestamp => "timestamp_ntz".into(),
        ColumnType::TimestampTz => "timestamp".into(),
    }
}

pub(super) fn schema_string(schema: &TableSchema, mapped: bool) -> String {
    let mut lower = BTreeSet::new();
    let field = |column: &Column| {
        let mut metadata = json!({"mainstem.column_id": column.id.0, "mainstem.source_type": column.source_type});
        let mut name = column.name.to_string();
        if mapped {
            // Files keep the source's names; only the name shown gets a number when it differs from another by case alone.
            metadata["delta.columnMapping.id"] = column.id.0.into();
            metadata["delta.columnMapping.physicalName"] = name.clone().into();
            if !lower.insert(name.to_lowercase()) {
                name = format!("{name}_{}", column.id);
                lower.insert(name.to_lowercase());
            }
        }
        json!({"name": name, "type": delta_type(&column.kind), "nullable": true, "metadata": metadata})
    };
    let fields: Vec<Value> = schema.columns.iter().map(field).collect();
    json!({"type": "struct", "fields": fields}).to_string()
}

const VECTORS_KEY: &str = "delta.enableDeletionVectors";

/// Our own schema in the table's metadata, as text.
pub(super) fn own(metadata: &Value) -> &str {
    metadata["configuration"][SCHEMA_KEY].as_str().unwrap_or_default()
}

/// Whether the table may have deletion vectors.
pub(super) fn has_vectors(metadata: &Value) -> bool {
    metadata["configuration"].get(VECTORS_KEY).is_some()
}

pub(super) fn configuration(schema: &TableSchema, mapped: bool, vectors: bool) -> Result<Value> {
    let own = serde_json::to_string(schema)
        .map_err(|e| Error::bug(crate::codes::MISFIT, "a table schema cannot be written as JSON").caused_by(e))?;
    let mut configuration = json!({SCHEMA_KEY: own});
    if vectors {
        configuration[VECTORS_KEY] = "true".into();
    }
    if mapped {
        let largest = schema.columns.iter().map(|c| c.id.0).max().unwrap_or(0);
        configuration["delta.columnMapping.mode"] = "name".into();
        configuration["delta.columnMapping.maxColumnId"] = largest.to_string().into();
    }
    Ok(configuration)
}

/// What a reader and a writer must know of: the least that the table needs now or needed before.
pub(super) fn protocol(before: &Value, schema: &TableSchema, mapped: bool, vectors: bool) -> Value {
    let wanted = [
        ("deletionVectors", vectors),
        ("timestampNtz", schema.columns.iter().any(|c| c.kind == ColumnType::Timestamp)),
        ("columnMapping", mapped),
    ];
    let had = |name: &str| before["readerFeatures"].as_array().is_some_and(|known| known.iter().any(|feature| feature == name));
    let reader: Vec<&str> = wanted.into_iter().filter(|(name, needed)| *needed || had(name)).map(|(name, _)| name).collect();
    if reader.is_empty() {
        // Every reader there is: some know no features.
        return json!({"minReaderVersion": 1, "minWriterVersion": 2});
    }
    let writer: Vec<&str> = reader.iter().copied().chain(["appendOnly", "invariants"]).collect();
    json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer})
}

/// The `stats` text of a file. With dead rows, bounds are wide: `tightBounds` is false.
pub(super) fn stats(file: &DataFile, schema: &TableSchema, tight: bool) -> String {
    let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
    for column in &schema.columns {
        let Some(range) = file.ranges.get(&column.name) else { continue };
        nulls.insert(column.name.to_string(), range.nulls.into());
        let bounds = (range.min.as_ref().and_then(|v| stat(v, column)), range.max.as_ref().and_then(|v| stat(v, column)));
        if let (Some(min), Some(max)) = bounds {
            least.insert(column.name.to_string(), min);
            most.insert(column.name.to_string(), max);
        }
    }
    let stats = json!({
        "numRecords": file.rows, "minValues": least, "maxValues": most, "nullCount": nulls, "tightBounds": tight,
    });
    stats.to_string()
}

/// A one-row value as statistics have it; None for types whose text form readers disagree about.
fn stat(value: &dyn Array, column: &Column) -> Option<Value> {
    let number = |text: String| serde_json::from_str::<Value>(&text).ok();
    match value.data_type() {
        _ if value.len() != 1 || value.is_null(0) => None,
        DataType::Int16 => Some(value.as_primitive::<Int16Type>().value(0).into()),
        DataType::Int32 => Some(value.as_primitive::<Int32Type>().value(0).into()),
        DataType::Int64 => Some(value.as_primitive::<Int64Type>().value(0).into()),
        // Beyond what a JSON reader's double holds exactly, a bound could be wrong.
        DataType::Decimal128(precision, _) if *precision <= 15 => {
            number(value.as_primitive::<Decimal128Type>().value_as_string(0))
        }
        DataType::Date32 => value
            .as_primitive::<Date32Type>()
            .value_as_date(0)
            .filter(|_| column.kind == ColumnType::Date)
            .map(|d| d.to_string().into()),
        DataType::Utf8View => {
            let text = value.as_string_view().value(0);
            (text.len() <= STATS_TEXT_BYTES_MAX).then(|| text.into())
        }
        _ => None,
    }
}
