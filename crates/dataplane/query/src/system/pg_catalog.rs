//! Schema `pg_catalog`: tables of ours where live tables show, and the library's fixed ones for the rest.

use super::keys;
use super::oids::{self, ADMIN};
use super::relations::{self, Relation, What};
use crate::codes;
use crate::enforce::Pass;
use crate::engine::DATABASE;
use crate::plan::Scope;
use crate::session::spelled;
use crate::tables::{Cell, Columns, Kind, Rows};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider};
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};
use mainstem_types::{Error, Result};
use std::sync::Arc;

type Provider = PgCatalogSchemaProvider<Arc<dyn CatalogProviderList>, EmptyContextProvider>;

/// The library's tables: `pg_type`, `pg_proc`, and the many that tools join with and that are empty here.
pub(crate) struct Library(Provider);

impl Library {
    pub(crate) fn new() -> datafusion::common::Result<Self> {
        let nothing: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
        let tables = Arc::new(PgCatalogStaticTables::try_new()?);
        Ok(Self(Provider::try_new(nothing, tables, EmptyContextProvider)?))
    }
}

pub(super) fn exists(scope: &Scope, name: &str) -> bool {
    empty(name).is_some() || scope.engine.library.0.table_exist(name)
}

/// A table of the library's.
pub(super) fn library_table(scope: &Scope, pass: &Pass) -> Result<Arc<dyn TableProvider>> {
    let broken = |e| Error::bug(codes::INTERNAL, format!("{} could not be made", pass.table())).caused_by(e);
    let table = scope.engine.library.0.build_table_by_name(&pass.table().name).map_err(broken)?;
    match table {
        Some(table) => table.try_into_table_provider().map_err(broken),
        None => Err(Error::fix(codes::UNKNOWN_TABLE, format!("relation \"{}\" does not exist", pass.table()))),
    }
}

/// Names and columns of all tables here.
pub(super) fn schemas(scope: &Scope) -> Vec<(String, SchemaRef)> {
    let own = OWN.iter().map(|(table, columns)| (table.to_string(), Rows::new(columns).schema()));
    let library = &scope.engine.library.0;
    let rest = library.table_names().into_iter().filter(|name| empty(name).is_none());
    let rest = rest.filter_map(|name| library.build_table_by_name(&name).ok().flatten().map(|table| (name, table.schema())));
    let mut all: Vec<_> = own.chain(rest).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Tables that we make ourselves, and their columns.
pub(super) const OWN: &[Columns] = {
    use Kind::{Bool, Char, Float4, Int2, Int2s, Int4, Name, Oid, Text, Texts, TimestampTz};
    const ROLES: &[(&str, Kind)] = &[
        ("rolname", Name),
        ("rolsuper", Bool),
        ("rolinherit", Bool),
        ("rolcreaterole", Bool),
        ("rolcreatedb", Bool),
        ("rolcanlogin", Bool),
        ("rolreplication", Bool),
        ("rolconnlimit", Int4),
        ("rolpassword", Text),
        ("rolvaliduntil", TimestampTz),
        ("rolbypassrls", Bool),
        ("rolconfig", Texts),
        ("oid", Oid),
    ];
    &[
        (
            "pg_class",
            &[
                ("oid", Oid),
                ("relname", Name),
                ("relnamespace", Oid),
                ("reltype", Oid),
                ("reloftype", Oid),
                ("relowner", Oid),
                ("relam", Oid),
                ("relfilenode", Oid),
                ("reltablespace", Oid),
                ("relpages", Int4),
                ("reltuples", Float4),
                ("relallvisible", Int4),
                ("reltoastrelid", Oid),
                ("relhasindex", Bool),
                ("relisshared", Bool),
                ("relpersistence", Char),
                ("relkind", Char),
                ("relnatts", Int2),
                ("relchecks", Int2),
                ("relhasrules", Bool),
                ("relhastriggers", Bool),
                ("relhassubclass", Bool),
                ("relrowsecurity", Bool),
                ("relforcerowsecurity", Bool),
                ("relispopulated", Bool),
                ("relreplident", Char),
                ("relispartition", Bool),
                ("relrewrite", Oid),
                ("relfrozenxid", Int4),
                ("relminmxid", Int4),
                ("relacl", Texts),
                ("reloptions", Texts),
                ("relpartbound", Text),
            ],
        ),
        (
            "pg_attribute",
            &[
                ("attrelid", Oid),
                ("attname", Name),
                ("atttypid", Oid),
                ("attstattarget", Int4),
                ("attlen", Int2),
                ("attnum", Int2),
                ("attndims", Int4),
                ("attcacheoff", Int4),
                ("atttypmod", Int4),
                ("attbyval", Bool),
                ("attalign", Char),
                ("attstorage", Char),
                ("attcompression", Char),
                ("attnotnull", Bool),
                ("atthasdef", Bool),
                ("atthasmissing", Bool),
                ("attidentity", Char),
                ("attgenerated", Char),
                ("attisdropped", Bool),
                ("attislocal", Bool),
                ("attinhcount", Int4),
                ("attcollation", Oid),
                ("attacl", Texts),
                ("attoptions", Texts),
                ("attfdwoptions", Texts),
                ("attmissingval", Text),
            ],
        ),
        ("pg_namespace", &[("oid", Oid), ("nspname", Name), ("nspowner", Oid), ("nspacl", Texts)]),
        (
            "pg_database",
            &[
                ("oid", Oid),
                ("datname", Name),
                ("datdba", Oid),
                ("encoding", Int4),
                ("datlocprovider", Char),
                ("datistemplate", Bool),
                ("datallowconn", Bool),
                ("datconnlimit", Int4),
                ("datfrozenxid", Int4),
                ("datminmxid", Int4),
                ("dattablespace", Oid),
                ("datcollate", Text),
                ("datctype", Text),
                ("daticulocale", Text),
                ("datcollversion", Text),
                ("datacl", Texts),
            ],
        ),
        (
            "pg_index",
            &[
                ("indexrelid", Oid),
                ("indrelid", Oid),
                ("indnatts", Int2),
                ("indnkeyatts", Int2),
                ("indisunique", Bool),
                ("indnullsnotdistinct", Bool),
                ("indisprimary", Bool),
                ("indisexclusion", Bool),
                ("indimmediate", Bool),
                ("indisclustered", Bool),
                ("indisvalid", Bool),
                ("indcheckxmin", Bool),
                ("indisready", Bool),
                ("indislive", Bool),
                ("indisreplident", Bool),
                ("indkey", Int2s),
                ("indcollation", Int2s),
                ("indclass", Int2s),
                ("indoption", Int2s),
                ("indexprs", Text),
                ("indpred", Text),
            ],
        ),
        (
            "pg_indexes",
            &[("schemaname", Name), ("tablename", Name), ("indexname", Name), ("tablespace", Name), ("indexdef", Text)],
        ),
        (
            "pg_constraint",
            &[
                ("oid", Oid),
                ("conname", Name),
                ("connamespace", Oid),
                ("contype", Char),
                ("condeferrable", Bool),
                ("condeferred", Bool),
                ("convalidated", Bool),
                ("conrelid", Oid),
                ("contypid", Oid),
                ("conindid", Oid),
                ("conparentid", Oid),
                ("confrelid", Oid),
                ("confupdtype", Char),
                ("confdeltype", Char),
                ("confmatchtype", Char),
                ("conislocal", Bool),
                ("coninhcount", Int4),
                ("connoinherit", Bool),
                ("conkey", Int2s),
                ("confkey", Int2s),
                ("conpfeqop", Int2s),
                ("conppeqop", Int2s),
                ("conffeqop", Int2s),
                ("confdelsetcols", Int2s),
                ("conexclop", Int2s),
                ("conbin", Text),
            ],
        ),
        ("pg_roles", ROLES),
        ("pg_authid", ROLES),
        (
            "pg_user",
            &[
                ("usename", Name),
                ("usesysid", Oid),
                ("usecreatedb", Bool),
                ("usesuper", Bool),
                ("userepl", Bool),
                ("usebypassrls", Bool),
                ("passwd", Text),
                ("valuntil", TimestampTz),
                ("useconfig", Texts),
            ],
        ),
        (
            "pg_tables",
            &[
                ("schemaname", Name),
                ("tablename", Name),
                ("tableowner", Name),
                ("tablespace", Name),
                ("hasindexes", Bool),
                ("hasrules", Bool),
                ("hastriggers", Bool),
                ("rowsecurity", Bool),
            ],
        ),
        ("pg_views", &[("schemaname", Name), ("viewname", Name), ("viewowner", Name), ("definition", Text)]),
        (
            "pg_matviews",
            &[
                ("schemaname", Name),
                ("matviewname", Name),
                ("matviewowner", Name),
                ("tablespace", Name),
                ("hasindexes", Bool),
                ("ispopulated", Bool),
                ("definition", Text),
            ],
        ),
        (
            "pg_settings",
            &[
                ("name", Text),
                ("setting", Text),
                ("unit", Text),
                ("category", Text),
                ("short_desc", Text),
                ("extra_desc", Text),
                ("context", Text),
                ("vartype", Text),
                ("source", Text),
                ("min_val", Text),
                ("max_val", Text),
                ("enumvals", Texts),
                ("boot_val", Text),
                ("reset_val", Text),
                ("sourcefile", Text),
                ("sourceline", Int4),
                ("pending_restart", Bool),
            ],
        ),
        ("pg_inherits", &[("inhrelid", Oid), ("inhparent", Oid), ("inhseqno", Int4), ("inhdetachpending", Bool)]),
        ("pg_partitioned_table", &[("partrelid", Oid), ("partstrat", Char), ("partnatts", Int2), ("partdefid", Oid)]),
        (
            "pg_stat_activity",
            &[
                ("datid", Oid),
                ("datname", Name),
                ("pid", Int4),
                ("usesysid", Oid),
                ("usename", Name),
                ("application_name", Text),
                ("client_addr", Text),
                ("backend_start", TimestampTz),
                ("query_start", TimestampTz),
                ("state", Text),
                ("query", Text),
                ("backend_type", Text),
            ],
        ),
    ]
};

/// An empty table of ours, with its columns.
fn empty(table: &str) -> Option<Rows> {
    Rows::of(OWN, table)
}

/// A table of ours; None when the library has it, or nobody.
pub(super) fn rows(scope: &Scope, table: &str) -> Option<Rows> {
    let mut rows = empty(table)?;
    match table {
        "pg_class" => relations::all(scope).iter().for_each(|relation| class(relation, &mut rows)),
        "pg_index" | "pg_constraint" | "pg_indexes" => {
            for relation in relations::all(scope) {
                let Some(key) = &relation.key else { continue };
                match table {
                    "pg_index" => keys::index(&relation, key, &mut rows),
                    "pg_constraint" => keys::constraint(&relation, key, &mut rows),
                    _ => rows.push(keys::listed(&relation, key)),
                }
            }
        }
        "pg_attribute" => relations::all(scope).iter().for_each(|relation| attributes(relation, &mut rows)),
        "pg_namespace" => {
            for schema in super::schemas(scope) {
                rows.push(vec![oids::of_schema(&schema).into(), schema.into(), ADMIN.into()]);
            }
        }
        "pg_database" => rows.push(vec![
            oids::DATABASE.into(),
            DATABASE.into(),
            ADMIN.into(),
            6.into(),
            "c".into(),
            false.into(),
            true.into(),
            (-1).into(),
            0.into(),
            0.into(),
            1663.into(),
            "C".into(),
            "C.UTF-8".into(),
        ]),
        "pg_roles" | "pg_authid" => rows.push(vec![
            scope.session.principal.to_string().into(),
            true.into(),
            true.into(),
            true.into(),
            true.into(),
            true.into(),
            false.into(),
            (-1).into(),
            "********".into(),
            Cell::Null,
            true.into(),
            Cell::Null,
            ADMIN.into(),
        ]),
        "pg_user" => rows.push(vec![
            scope.session.principal.to_string().into(),
            ADMIN.into(),
            true.into(),
            true.into(),
            false.into(),
            true.into(),
            "********".into(),
        ]),
        "pg_tables" | "pg_views" => tables_or_views(scope, table, &mut rows),
        "pg_settings" => settings(scope, &mut rows),
        "pg_stat_activity" => activity(scope, &mut rows),
        _ => {}
    }
    Some(rows)
}

/// Rows of pg_class: the relation's, and its key's index.
fn class(relation: &Relation, rows: &mut Rows) {
    if let Some(key) = &relation.key {
        let schema = oids::of_schema(&relation.name.schema);
        let mut row: Vec<Cell> = vec![key.oid.into(), key.name.as_str().into(), schema.into(), 0.into(), 0.into(), ADMIN.into()];
        row.extend([403.into(), key.oid.into(), 0.into(), 0.into(), Cell::Float(-1.0), 0.into(), 0.into(), false.into()]);
        row.extend([false.into(), "p".into(), "i".into(), key.columns.len().into(), 0.into(), false.into(), false.into()]);
        row.extend([false.into(), false.into(), false.into(), true.into(), "n".into(), false.into(), 0.into(), 0.into()]);
        row.push(0.into());
        rows.push(row);
    }
    let schema = oids::of_schema(&relation.name.schema);
    let kind = if relation.what == What::Table { "r" } else { "v" };
    let tuples = relation.view.as_ref().map_or(-1.0, |view| view.rows as f32);
    let pages = relation.view.as_ref().map_or(0, |view| (view.files.iter().map(|f| f.bytes).sum::<u64>() / 8192) as i64);
    rows.push(vec![
        relation.oid.into(),
        relation.name.name.as_ref().into(),
        schema.into(),
        0.into(),
        0.into(),
        ADMIN.into(),
        if kind == "r" { 2 } else { 0 }.into(),
        relation.oid.into(),
        0.into(),
        pages.into(),
        Cell::Float(tuples),
        0.into(),
        0.into(),
        relation.key.is_some().into(),
        false.into(),
        "p".into(),
        kind.into(),
        relation.columns.len().into(),
        0.into(),
        (kind == "v").into(),
        false.into(),
        false.into(),
        false.into(),
        false.into(),
        true.into(),
        "d".into(),
        false.into(),
        0.into(),
        0.into(),
        0.into(),
    ]);
}

fn attributes(relation: &Relation, rows: &mut Rows) {
    for (at, column) in relation.columns.iter().enumerate() {
        let by_value = column.kind.len > 0 && column.kind.len <= 8;
        let collation = if matches!(column.kind.name, "text" | "varchar" | "bpchar") { 100 } else { 0 };
        rows.push(vec![
            relation.oid.into(),
            column.name.as_str().into(),
            column.kind.oid.into(),
            (-1).into(),
            i64::from(column.kind.len).into(),
            (at + 1).into(),
            i32::from(column.kind.name.starts_with('_')).into(),
            (-1).into(),
            column.kind.modifier.into(),
            by_value.into(),
            "i".into(),
            if by_value { "p" } else { "x" }.into(),
            "".into(),
            column.not_null.into(),
            false.into(),
            false.into(),
            "".into(),
            "".into(),
            false.into(),
            true.into(),
            0.into(),
            collation.into(),
        ]);
    }
}

fn tables_or_views(scope: &Scope, table: &str, rows: &mut Rows) {
    let what = if table == "pg_tables" { What::Table } else { What::View };
    for relation in relations::all(scope).iter().filter(|relation| relation.what == what) {
        let mut row: Vec<Cell> = vec![relation.name.schema.as_ref().into(), relation.name.name.as_ref().into(), "admin".into()];
        if what == What::Table {
            row.extend([Cell::Null, false.into(), false.into(), false.into(), false.into()]);
        } else {
            row.push("".into());
        }
        rows.push(row);
    }
}

fn settings(scope: &Scope, rows: &mut Rows) {
    for (name, value) in &scope.variables.all() {
        let mut row: Vec<Cell> =
            vec![spelled(name).into(), value.as_str().into(), Cell::Null, "Session".into(), "".into(), Cell::Null];
        row.extend(["user".into(), "string".into(), "session".into(), Cell::Null, Cell::Null, Cell::Null]);
        row.extend([value.as_str().into(), value.as_str().into(), Cell::Null, Cell::Null, false.into()]);
        rows.push(row);
    }
}

fn activity(scope: &Scope, rows: &mut Rows) {
    for session in scope.engine.sessions.lock().values() {
        let running = session.running.lock().clone();
        rows.push(vec![
            oids::DATABASE.into(),
            DATABASE.into(),
            session.client.number.into(),
            ADMIN.into(),
            session.principal.to_string().into(),
            session.client.application.as_str().into(),
            session.client.address.as_str().into(),
            session.started_us.into(),
            running.started_us.into(),
            if running.active { "active" } else { "idle" }.into(),
            running.statement().into(),
            "client backend".into(),
        ]);
    }
}
