//! Keys of live tables, shown as Postgres shows a primary key: an index, a constraint, and the columns in both.

use super::oids;
use super::relations::{Relation, What};
use crate::plan::Scope;
use crate::tables::Rows;
use arrow::array::{Int64Builder, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use mainstem_types::system::Cell;
use mainstem_types::{TableName, TableSchema};
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
    pub(super) fn of(schema: &TableSchema, table: &TableName) -> Option<Self> {
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
    rows.add([
        ("indexrelid", key.oid.into()),
        ("indrelid", relation.oid.into()),
        ("indnatts", count.into()),
        ("indnkeyatts", count.into()),
        ("indisunique", true.into()),
        ("indisprimary", true.into()),
        ("indimmediate", true.into()),
        ("indisvalid", true.into()),
        ("indisready", true.into()),
        ("indislive", true.into()),
        ("indkey", places(key)),
        ("indcollation", zeros()),
        ("indclass", zeros()),
        ("indoption", zeros()),
    ]);
}

/// A row of pg_constraint.
pub(super) fn constraint(relation: &Relation, key: &Key, rows: &mut Rows) {
    rows.add([
        ("oid", key.constraint.into()),
        ("conname", key.name.as_str().into()),
        ("connamespace", oids::of_schema(&relation.name.schema).into()),
        ("contype", "p".into()),
        ("convalidated", true.into()),
        ("conrelid", relation.oid.into()),
        ("conindid", key.oid.into()),
        ("confupdtype", " ".into()),
        ("confdeltype", " ".into()),
        ("confmatchtype", " ".into()),
        ("conislocal", true.into()),
        ("connoinherit", true.into()),
        ("conkey", places(key)),
    ]);
}

fn index_definition(relation: &Relation, key: &Key) -> String {
    let (index, schema, table) = (quoted(&key.name), quoted(&relation.name.schema), quoted(&relation.name.name));
    format!("CREATE UNIQUE INDEX {index} ON {schema}.{table} USING btree ({})", key.column_list(relation))
}

/// A row of pg_indexes.
pub(super) fn listed(relation: &Relation, key: &Key, rows: &mut Rows) {
    rows.add([
        ("schemaname", relation.name.schema.as_ref().into()),
        ("tablename", relation.name.name.as_ref().into()),
        ("indexname", key.name.as_str().into()),
        ("indexdef", index_definition(relation, key).into()),
    ]);
}

/// What a parent shows: the rows of its parts.
fn view_definition(relation: &Relation) -> Option<String> {
    let columns: Vec<_> = relation.columns.iter().map(|column| quoted(&column.name)).collect();
    let part = |name: &TableName| {
        let only = if *name == relation.name { "ONLY " } else { "" };
        format!("SELECT {} FROM {only}{}.{}", columns.join(", "), quoted(&name.schema), quoted(&name.name))
    };
    let parts: Vec<_> = relation.leaves.iter().map(part).collect();
    (!parts.is_empty()).then(|| format!("{};", parts.join("\nUNION ALL\n")))
}

/// `pg_get_indexdef`, `pg_get_constraintdef` or `pg_get_viewdef`.
pub(crate) fn definitions(scope: &Scope, name: &str) -> Arc<ScalarUDF> {
    let mut values = BTreeMap::new();
    for relation in super::relations::all(scope) {
        match (name, &relation.key) {
            ("pg_get_indexdef", Some(key)) => drop(values.insert(key.oid.to_string(), index_definition(&relation, key))),
            ("pg_get_constraintdef", Some(key)) => {
                values.insert(key.constraint.to_string(), format!("PRIMARY KEY ({})", key.column_list(&relation)));
            }
            ("pg_get_viewdef", _) => {
                values.extend(view_definition(&relation).map(|text| (relation.oid.to_string(), text)));
            }
            _ => {}
        }
    }
    Lookup::function(name, values, false)
}

/// Gives a relation's name for its oid: what `oid::regclass` shows.
pub(crate) const RELATION_NAME: &str = "regclass";

pub(crate) fn relation_names(scope: &Scope) -> Arc<ScalarUDF> {
    let shown = |name: &TableName| match name.schema.as_ref() {
        "pg_catalog" => quoted(&name.name),
        schema => format!("{}.{}", quoted(schema), quoted(&name.name)),
    };
    let names = super::relations::all(scope).into_iter().map(|relation| (relation.oid.to_string(), shown(&relation.name)));
    Lookup::function(RELATION_NAME, names.collect(), false)
}

/// `pg_get_userbyid`: the owner of everything, oneself, and those whose sessions one sees.
pub(crate) fn roles_by_oid(scope: &Scope) -> Arc<ScalarUDF> {
    let sessions = scope.sessions();
    let known = sessions.iter().map(|session| &session.principal).chain([&scope.session.principal]);
    let mut names: BTreeMap<_, _> = known.map(|p| (oids::of_role(p).to_string(), p.to_string())).collect();
    names.insert(oids::ADMIN.to_string(), mainstem_types::ids::ADMIN.to_string());
    Lookup::function("pg_get_userbyid", names, false)
}

/// Sizes on disk, by the relation's oid or name; of the database whatever its name.
pub(crate) fn sizes(scope: &Scope, name: &str) -> Arc<ScalarUDF> {
    let mut values = BTreeMap::new();
    let mut total = 0;
    for relation in super::relations::all(scope) {
        let bytes = relation.bytes();
        total += if relation.what == What::Table { bytes } else { 0 };
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
