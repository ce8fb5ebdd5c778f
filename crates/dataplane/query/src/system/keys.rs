//! Keys of live tables, shown as Postgres shows a primary key: an index, a constraint, and the columns in both.

use super::oids;
use super::relations::Relation;
use crate::plan::Scope;
use crate::tables::{Cell, Rows};
use arrow::array::{Int64Builder, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use mainstem_types::TableSchema;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The key by which a table's records are found: the source's primary key, else a unique index of columns that are not null.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    /// Of the index.
    pub(super) oid: i32,
    pub(super) constraint: i32,
    /// Places of its columns, from 1.
    pub(super) columns: Vec<usize>,
}

impl Key {
    pub(super) fn of(schema: &TableSchema, table: &mainstem_types::TableName) -> Option<Self> {
        let columns: Option<Vec<usize>> = schema.record_key.iter().map(|id| schema.index_of(*id).map(|at| at + 1)).collect();
        let columns = columns.filter(|columns| !columns.is_empty())?;
        let whole = columns.iter().all(|at| schema.columns.get(at - 1).is_some_and(|column| column.not_null));
        let (oid, constraint) = oids::of_key(table);
        whole.then(|| Self { name: format!("{}_pkey", table.name), oid, constraint, columns })
    }

    fn column_list(&self, relation: &Relation) -> String {
        let name = |at: &usize| relation.columns.get(at - 1).map_or(String::new(), |column| quoted(&column.name));
        self.columns.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// A name as SQL must write it.
pub(crate) fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() {
        name.to_string()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn places(key: &Key) -> Cell {
    Cell::Ints(key.columns.iter().map(|at| *at as i64).collect())
}

/// A row of pg_index.
pub(super) fn index(relation: &Relation, key: &Key, rows: &mut Rows) {
    let count = key.columns.len();
    let zeros = || Cell::Ints(vec![0; count]);
    rows.push(vec![
        key.oid.into(),
        relation.oid.into(),
        count.into(),
        count.into(),
        true.into(),
        false.into(),
        true.into(),
        false.into(),
        true.into(),
        false.into(),
        true.into(),
        false.into(),
        true.into(),
        true.into(),
        false.into(),
        places(key),
        zeros(),
        zeros(),
        zeros(),
    ]);
}

/// A row of pg_constraint.
pub(super) fn constraint(relation: &Relation, key: &Key, rows: &mut Rows) {
    rows.push(vec![
        key.constraint.into(),
        key.name.as_str().into(),
        oids::of_schema(&relation.name.schema).into(),
        "p".into(),
        false.into(),
        false.into(),
        true.into(),
        relation.oid.into(),
        0.into(),
        key.oid.into(),
        0.into(),
        0.into(),
        " ".into(),
        " ".into(),
        " ".into(),
        true.into(),
        0.into(),
        true.into(),
        places(key),
    ]);
}

fn index_definition(relation: &Relation, key: &Key) -> String {
    let (index, schema, table) = (quoted(&key.name), quoted(&relation.name.schema), quoted(&relation.name.name));
    format!("CREATE UNIQUE INDEX {index} ON {schema}.{table} USING btree ({})", key.column_list(relation))
}

/// A row of pg_indexes.
pub(super) fn listed(relation: &Relation, key: &Key) -> Vec<Cell> {
    let name: &str = relation.name.name.as_ref();
    let schema: &str = relation.name.schema.as_ref();
    vec![schema.into(), name.into(), key.name.as_str().into(), Cell::Null, index_definition(relation, key).into()]
}

/// `pg_get_indexdef` or `pg_get_constraintdef`.
pub(crate) fn definitions(scope: &Scope, name: &str) -> Arc<ScalarUDF> {
    let mut values = BTreeMap::new();
    for relation in super::relations::all(scope) {
        let Some(key) = &relation.key else { continue };
        if name == "pg_get_indexdef" {
            values.insert(key.oid.to_string(), index_definition(&relation, key));
        } else {
            values.insert(key.constraint.to_string(), format!("PRIMARY KEY ({})", key.column_list(&relation)));
        }
    }
    Lookup::function(name, values, false)
}

/// Sizes on disk, by the relation's oid or name; of the database whatever its name.
pub(crate) fn sizes(scope: &Scope, name: &str) -> Arc<ScalarUDF> {
    let mut values = BTreeMap::new();
    let mut total = 0;
    for relation in super::relations::all(scope) {
        let bytes = relation.view.as_ref().map_or(0, |view| view.files.iter().map(|f| f.bytes).sum::<u64>());
        total += bytes;
        values.insert(relation.oid.to_string(), bytes.to_string());
        values.insert(relation.name.to_string(), bytes.to_string());
        if let Some(key) = &relation.key {
            values.insert(key.oid.to_string(), "0".into());
        }
    }
    if name == "pg_database_size" {
        values = BTreeMap::from([(crate::engine::DATABASE.to_string(), total), (oids::DATABASE.to_string(), total)])
            .into_iter()
            .map(|(key, bytes)| (key, bytes.to_string()))
            .collect();
    }
    Lookup::function(name, values, true)
}

/// A function that looks its first argument up.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Lookup {
    name: String,
    signature: Signature,
    values: BTreeMap<String, String>,
    numbers: bool,
}

impl Lookup {
    pub(super) fn function(name: &str, values: BTreeMap<String, String>, numbers: bool) -> Arc<ScalarUDF> {
        let signature =
            Signature::one_of(vec![TypeSignature::Any(1), TypeSignature::Any(2), TypeSignature::Any(3)], Volatility::Stable);
        Arc::new(ScalarUDF::from(Self { name: name.to_string(), signature, values, numbers }))
    }
}

impl ScalarUDFImpl for Lookup {
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.numbers { DataType::Int64 } else { DataType::Utf8 })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(keys) = args.args.first() else { return Ok(ColumnarValue::Scalar(self.return_type(&[])?.try_into()?)) };
        let keys = keys.cast_to(&DataType::Utf8, None)?.into_array(args.number_rows)?;
        let keys = keys.as_any().downcast_ref::<StringArray>().into_iter().flatten();
        let found = keys.map(|key| key.and_then(|key| self.values.get(key)).map(String::as_str));
        if self.numbers {
            let mut made = Int64Builder::new();
            found.for_each(|text| made.append_option(text.and_then(|text| text.parse().ok())));
            return Ok(ColumnarValue::Array(Arc::new(made.finish())));
        }
        let mut made = StringBuilder::new();
        found.for_each(|text| made.append_option(text));
        Ok(ColumnarValue::Array(Arc::new(made.finish())))
    }
}
