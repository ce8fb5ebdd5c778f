//! Schemas of our own making: `mainstem`, `pg_catalog`, `information_schema`. Their rows are made when a statement opens them.

mod information;
mod keys;
mod mainstem;
mod oids;
mod pg_catalog;
mod relations;
mod types;

pub(crate) use keys::{RELATION_NAME, definitions, quoted, relation_names, roles_by_oid, sizes};
pub(crate) use mainstem::shown;
pub(crate) use pg_catalog::Library;
pub(crate) use types::{format_type, type_name, types_by_name};

use crate::codes;
use crate::enforce::Pass;
use crate::plan::Scope;
use datafusion::catalog::TableProvider;
use mainstem_types::{Error, Result, TableName};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) const SCHEMAS: &[&str] = &["mainstem", "pg_catalog", "information_schema"];

/// Tables of ours, for hints.
pub(crate) fn names(scope: &Scope) -> Vec<TableName> {
    let ours = mainstem::names(scope).map(|table| ("mainstem", table));
    let standard = information::TABLES.iter().map(|(table, _)| ("information_schema", *table));
    let catalog = pg_catalog::OWN.iter().map(|(table, _)| ("pg_catalog", *table));
    ours.chain(standard).chain(catalog).map(|(schema, table)| TableName::new(schema, table)).collect()
}

pub(crate) fn exists(scope: &Scope, name: &TableName) -> bool {
    match name.schema.as_ref() {
        "mainstem" => mainstem::names(scope).any(|table| table == name.name.as_ref()),
        "information_schema" => information::TABLES.iter().any(|(table, _)| *table == name.name.as_ref()),
        "pg_catalog" => pg_catalog::exists(scope, &name.name),
        _ => false,
    }
}

/// Opens the table that the pass names.
pub(crate) fn open(scope: &Scope, pass: &Pass) -> Result<Arc<dyn TableProvider>> {
    let name = pass.table();
    let rows = match name.schema.as_ref() {
        "mainstem" => mainstem::rows(scope, &name.name),
        "information_schema" => information::rows(scope, &name.name),
        _ => match pg_catalog::rows(scope, &name.name) {
            Some(rows) => Some(rows),
            None => return pg_catalog::library_table(scope, pass),
        },
    };
    let Some(rows) = rows else {
        return Err(Error::fix(codes::UNKNOWN_TABLE, format!("relation \"{name}\" does not exist")));
    };
    rows.table(pass, name).map_err(|e| Error::bug(codes::INTERNAL, format!("{name} could not be made")).caused_by(e))
}

/// All schemas: of tables, `public`, and ours.
pub(crate) fn schemas(scope: &Scope) -> BTreeSet<String> {
    let names = scope.snapshot.tables.keys().chain(scope.snapshot.parents.keys());
    let mut schemas: BTreeSet<String> = names.map(|name| name.schema.to_string()).collect();
    schemas.extend(SCHEMAS.iter().map(ToString::to_string));
    schemas.insert("public".into());
    schemas
}

pub(crate) fn schema_exists(scope: &Scope, schema: &str) -> bool {
    schemas(scope).contains(schema)
}

/// The search path as Postgres reports it: the catalog first, what does not exist left out.
pub(crate) fn visible_schemas(scope: &Scope) -> Vec<String> {
    let all = schemas(scope);
    let path = scope.search_path.iter().filter(|schema| all.contains(*schema)).cloned();
    std::iter::once("pg_catalog".to_string()).chain(path.filter(|schema| schema != "pg_catalog")).collect()
}
