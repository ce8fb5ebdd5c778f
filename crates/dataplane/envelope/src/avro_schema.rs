//! The Avro schemas of a table's key and envelope, as Debezium's connectors and Connect's Avro converter name things. Written
//! as text with its fields in a fixed order, because equality of texts decides whether a schema is new.

use mainstem_types::source_block::SourceBlock;
use mainstem_types::{Column, ColumnId, ColumnType, Identity, TableSchema};
use std::collections::HashSet;

/// The property of a value schema that holds the table's schema as we know it.
pub(crate) const TABLE_SCHEMA_PROPERTY: &str = "mainstem.schema";

const AFTER_SOURCE: &str = r#"{"name":"transaction","type":["null",{"type":"record","name":"block","namespace":"event","fields":[{"name":"id","type":"string"},{"name":"total_order","type":"long"},{"name":"data_collection_order","type":"long"}],"connect.version":1,"connect.name":"event.block"}],"default":null},{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"],"default":null},{"name":"ts_us","type":["null","long"],"default":null},{"name":"ts_ns","type":["null","long"],"default":null}"#;

/// JSON's form of a text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A name by Avro's rules: `[A-Za-z_][A-Za-z0-9_]*`; other characters become `_` (Debezium's `schema.name.adjustment.mode=avro`).
fn adjusted(name: &str) -> String {
    let fits = |(at, c): (usize, char)| {
        if c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()) { c } else { '_' }
    };
    if name.is_empty() { "_".to_string() } else { name.chars().enumerate().map(fits).collect() }
}

fn namespace(topic: &str) -> String {
    topic.split('.').map(adjusted).collect::<Vec<_>>().join(".")
}

/// The Avro names of columns, in their order, all different: a name that already fits stays; one that would then appear twice gets
/// `_2`, `_3` ... by the order of columns.
pub(crate) fn field_names(columns: &[Column]) -> Vec<String> {
    let mut taken: HashSet<String> = HashSet::new();
    let mut names: Vec<Option<String>> = Vec::with_capacity(columns.len());
    for column in columns {
        let fits = adjusted(&column.name) == *column.name && taken.insert(column.name.to_string());
        names.push(fits.then(|| column.name.to_string()));
    }
    let named = names.into_iter().zip(columns).map(|(name, column)| {
        name.unwrap_or_else(|| {
            let base = adjusted(&column.name);
            let mut candidate = base.clone();
            let mut number = 2;
            while !taken.insert(candidate.clone()) {
                candidate = format!("{base}_{number}");
                number += 1;
            }
            candidate
        })
    });
    named.collect()
}

/// The Avro type of a column's values.
fn value_type(column: &Column) -> String {
    let named = |base: &str, name: &str| format!(r#"{{"type":"{base}","connect.version":1,"connect.name":"{name}"}}"#);
    match &column.kind {
        ColumnType::Bool => r#""boolean""#.into(),
        ColumnType::Int16 => r#"{"type":"int","connect.type":"int16"}"#.into(),
        ColumnType::Int32 => r#""int""#.into(),
        ColumnType::Int64 => r#""long""#.into(),
        ColumnType::Float32 => r#""float""#.into(),
        ColumnType::Float64 => r#""double""#.into(),
        ColumnType::Decimal { precision, scale } => format!(
            r#"{{"type":"bytes","scale":{scale},"precision":{precision},"connect.version":1,"connect.parameters":{{"scale":"{scale}","connect.decimal.precision":"{precision}"}},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}}"#
        ),
        ColumnType::Text => match column.pg_type().as_ref() {
            "uuid" => named("string", "io.debezium.data.Uuid"),
            "json" | "jsonb" => named("string", "io.debezium.data.Json"),
            "xml" => named("string", "io.debezium.data.Xml"),
            _ => r#""string""#.into(),
        },
        ColumnType::Bytes => r#""bytes""#.into(),
        ColumnType::Date => named("int", "io.debezium.time.Date"),
        ColumnType::Time => named("long", "io.debezium.time.MicroTime"),
        ColumnType::Timestamp => named("long", "io.debezium.time.MicroTimestamp"),
        ColumnType::TimestampTz => named("string", "io.debezium.time.ZonedTimestamp"),
    }
}

fn nullable_field(name: &str, value: &str) -> String {
    format!(r#"{{"name":"{name}","type":["null",{value}],"default":null}}"#)
}

/// A column of the record key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyColumn {
    pub index: usize,
    /// Written without a union; a NULL makes the record's whole key null.
    pub not_null: bool,
    /// Whether a delete's row and an old image have it.
    pub in_identity: bool,
}

/// The record key's columns; empty: records have null keys.
pub(crate) fn key_columns(schema: &TableSchema) -> Vec<KeyColumn> {
    let in_identity = |id: &ColumnId| match &schema.identity {
        Identity::Key { columns } => columns.contains(id),
        Identity::WholeRow => true,
        Identity::AppendOnly => false,
    };
    let column = |id: &ColumnId| {
        let index = schema.index_of(*id)?;
        Some(KeyColumn { index, not_null: schema.columns[index].not_null, in_identity: in_identity(id) })
    };
    // A key with a column that is not there is no key.
    schema.record_key.iter().map(column).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// The schema `<topic>.Key`; None for a table without a record key.
pub(crate) fn key_schema(topic: &str, schema: &TableSchema) -> Option<String> {
    let names = field_names(&schema.columns);
    let columns = key_columns(schema);
    let field = |key: &KeyColumn| {
        let value = value_type(&schema.columns[key.index]);
        match key.not_null {
            true => format!(r#"{{"name":"{}","type":{value}}}"#, names[key.index]),
            false => nullable_field(&names[key.index], &value),
        }
    };
    let fields = columns.iter().map(field).collect::<Vec<_>>().join(",");
    let space = namespace(topic);
    (!columns.is_empty()).then(|| {
        format!(r#"{{"type":"record","name":"Key","namespace":"{space}","fields":[{fields}],"connect.name":"{space}.Key"}}"#)
    })
}

/// The schema `<topic>.Envelope`, with the table's own schema as a property.
pub(crate) fn value_schema(topic: &str, schema: &TableSchema, block: &SourceBlock) -> Result<String, serde_json::Error> {
    let names = field_names(&schema.columns);
    let field = |(column, name): (&Column, &String)| nullable_field(name, &value_type(column));
    let fields = schema.columns.iter().zip(&names).map(field).collect::<Vec<_>>().join(",");
    let space = namespace(topic);
    let row = format!(r#"{{"type":"record","name":"Value","fields":[{fields}],"connect.name":"{space}.Value"}}"#);
    let before = nullable_field("before", &row);
    let after = nullable_field("after", r#""Value""#);
    let (source, table) = (block.avro(), serde_json::to_string(schema)?);
    Ok(format!(
        r#"{{"type":"record","name":"Envelope","namespace":"{space}","fields":[{before},{after},{source},{AFTER_SOURCE}],"connect.version":1,"connect.name":"{space}.Envelope",{property}:{table}}}"#,
        property = quoted(TABLE_SCHEMA_PROPERTY),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let check = |names: &[&str], expected: &[&str]| {
            let column = |(id, name): (usize, &&str)| Column {
                id: ColumnId(id as i32),
                name: (*name).into(),
                kind: ColumnType::Int32,
                not_null: false,
                source_type: "int4".into(),
                pg_type: None,
                type_modifier: -1,
                missing_value: None,
            };
            let columns = names.iter().enumerate().map(column).collect::<Vec<_>>();
            assert_eq!(field_names(&columns), expected);
        };
        check(&["id", "Id"], &["id", "Id"]);
        check(&["a-b", "a_b", "a b"], &["a_b_2", "a_b", "a_b_3"]);
        check(&["1st", "größe", "", "\"'"], &["_st", "gr__e", "_", "__"]);
        check(&["a b", "a_b_2", "a-b"], &["a_b", "a_b_2", "a_b_3"]);
    }
}
