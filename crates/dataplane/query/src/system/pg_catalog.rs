//! Schema `pg_catalog`: tables of ours where live tables show, and the library's fixed ones for the rest.

use super::keys;
use super::oids::{self, ADMIN};
use super::relations::{self, Relation, What};
use crate::codes;
use crate::enforce::Pass;
use crate::engine::DATABASE;
use crate::plan::Scope;
use crate::session::spelled;
use crate::tables::{self, Columns, Rows};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider};
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};
use mainstem_types::system::{Cell, Kind};
use mainstem_types::{Error, Principal, Result};
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
        Some(table) => {
            let table = table.try_into_table_provider().map_err(broken)?;
            tables::open_library(pass, pass.table(), table).map_err(broken)
        }
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
                    _ => keys::listed(&relation, key, &mut rows),
                }
            }
        }
        "pg_attribute" => relations::all(scope).iter().for_each(|relation| attributes(relation, &mut rows)),
        "pg_namespace" => {
            for schema in super::schemas(scope) {
                rows.add([("oid", oids::of_schema(&schema).into()), ("nspname", schema.into()), ("nspowner", ADMIN.into())]);
            }
        }
        "pg_database" => rows.add([
            ("oid", oids::DATABASE.into()),
            ("datname", DATABASE.into()),
            ("datdba", ADMIN.into()),
            ("encoding", 6.into()),
            ("datlocprovider", "c".into()),
            ("datallowconn", true.into()),
            ("datconnlimit", (-1).into()),
            ("dattablespace", 1663.into()),
            ("datcollate", "C".into()),
            ("datctype", "C.UTF-8".into()),
        ]),
        "pg_roles" | "pg_authid" | "pg_user" => role(&scope.session.principal, table, &mut rows),
        "pg_inherits" => inherits(scope, &mut rows),
        "pg_tables" | "pg_views" => tables_or_views(scope, table, &mut rows),
        "pg_settings" => settings(scope, &mut rows),
        "pg_stat_activity" => activity(scope, &mut rows),
        _ => {}
    }
    Some(rows)
}

/// One's own role: of others nothing is shown.
fn role(principal: &Principal, table: &str, rows: &mut Rows) {
    let (oid, admin) = (oids::of_role(principal), Cell::Bool(principal.is_admin()));
    if table == "pg_user" {
        return rows.add([
            ("usename", principal.to_string().into()),
            ("usesysid", oid.into()),
            ("usecreatedb", admin.clone()),
            ("usesuper", admin.clone()),
            ("usebypassrls", admin),
            ("passwd", "********".into()),
        ]);
    }
    rows.add([
        ("rolname", principal.to_string().into()),
        ("rolsuper", admin.clone()),
        ("rolinherit", true.into()),
        ("rolcreaterole", admin.clone()),
        ("rolcreatedb", admin.clone()),
        ("rolcanlogin", true.into()),
        ("rolconnlimit", (-1).into()),
        ("rolpassword", "********".into()),
        ("rolbypassrls", admin),
        ("oid", oid.into()),
    ]);
}

/// Rows of pg_class: the relation's, and its key's index.
fn class(relation: &Relation, rows: &mut Rows) {
    let schema = oids::of_schema(&relation.name.schema);
    if let Some(key) = &relation.key {
        rows.add([
            ("oid", key.oid.into()),
            ("relname", key.name.as_str().into()),
            ("relnamespace", schema.into()),
            ("relowner", ADMIN.into()),
            ("relam", 403.into()),
            ("relfilenode", key.oid.into()),
            ("reltuples", Cell::Float(-1.0)),
            ("relpersistence", "p".into()),
            ("relkind", "i".into()),
            ("relnatts", key.columns.len().into()),
            ("relispopulated", true.into()),
            ("relreplident", "n".into()),
        ]);
    }
    let table = relation.what != What::View;
    rows.add([
        ("oid", relation.oid.into()),
        ("relname", relation.name.name.as_ref().into()),
        ("relnamespace", schema.into()),
        ("relowner", ADMIN.into()),
        ("relam", if table { 2 } else { 0 }.into()),
        ("relfilenode", relation.oid.into()),
        ("relpages", (relation.bytes() / 8192).into()),
        ("reltuples", Cell::Float(relation.row_count().map_or(-1.0, |rows| rows as f32))),
        ("relhasindex", relation.key.is_some().into()),
        ("relpersistence", "p".into()),
        ("relkind", if table { "r" } else { "v" }.into()),
        ("relnatts", relation.columns.len().into()),
        ("relhasrules", (!table).into()),
        ("relhassubclass", (relation.what == What::Parent).into()),
        ("relispopulated", true.into()),
        ("relreplident", "d".into()),
    ]);
}

fn attributes(relation: &Relation, rows: &mut Rows) {
    for (at, column) in relation.columns.iter().enumerate() {
        let by_value = column.kind.len > 0 && column.kind.len <= 8;
        let collated = matches!(column.kind.name, "text" | "varchar" | "bpchar");
        rows.add([
            ("attrelid", relation.oid.into()),
            ("attname", column.name.as_str().into()),
            ("atttypid", column.kind.oid.into()),
            ("attstattarget", (-1).into()),
            ("attlen", column.kind.len.into()),
            ("attnum", (at + 1).into()),
            ("attndims", i32::from(column.kind.name.starts_with('_')).into()),
            ("attcacheoff", (-1).into()),
            ("atttypmod", column.kind.modifier.into()),
            ("attbyval", by_value.into()),
            ("attalign", "i".into()),
            ("attstorage", if by_value { "p" } else { "x" }.into()),
            ("attcompression", "".into()),
            ("attnotnull", column.not_null.into()),
            ("attidentity", "".into()),
            ("attgenerated", "".into()),
            ("attislocal", true.into()),
            ("attcollation", if collated { 100 } else { 0 }.into()),
        ]);
    }
}

/// The parts of parents. A parent that has rows of its own is among its own parts, which Postgres does not say.
fn inherits(scope: &Scope, rows: &mut Rows) {
    for (parent, leaves) in &scope.snapshot.parents {
        for (at, leaf) in leaves.iter().filter(|leaf| *leaf != parent).enumerate() {
            rows.add([
                ("inhrelid", oids::of_table(scope, leaf).into()),
                ("inhparent", oids::of_table(scope, parent).into()),
                ("inhseqno", (at + 1).into()),
            ]);
        }
    }
}

fn tables_or_views(scope: &Scope, table: &str, rows: &mut Rows) {
    let views = table == "pg_views";
    for relation in relations::all(scope).iter().filter(|relation| (relation.what == What::View) == views) {
        let (schema, name): (Cell, Cell) = (relation.name.schema.as_ref().into(), relation.name.name.as_ref().into());
        let owner: Cell = mainstem_types::ids::ADMIN.into();
        if views {
            rows.add([("schemaname", schema), ("viewname", name), ("viewowner", owner), ("definition", "".into())]);
        } else {
            let indexed = relation.key.is_some().into();
            rows.add([("schemaname", schema), ("tablename", name), ("tableowner", owner), ("hasindexes", indexed)]);
        }
    }
}

fn settings(scope: &Scope, rows: &mut Rows) {
    for (name, value) in &scope.variables.all() {
        rows.add([
            ("name", spelled(name).into()),
            ("setting", value.as_str().into()),
            ("category", "Session".into()),
            ("short_desc", "".into()),
            ("context", "user".into()),
            ("vartype", "string".into()),
            ("source", "session".into()),
            ("boot_val", value.as_str().into()),
            ("reset_val", value.as_str().into()),
        ]);
    }
}

fn activity(scope: &Scope, rows: &mut Rows) {
    for session in scope.sessions() {
        let running = session.running.lock().clone();
        rows.add([
            ("datid", oids::DATABASE.into()),
            ("datname", DATABASE.into()),
            ("pid", session.client.number.into()),
            ("usesysid", oids::of_role(&session.principal).into()),
            ("usename", session.principal.to_string().into()),
            ("application_name", session.client.application.as_str().into()),
            ("client_addr", session.client.address.as_str().into()),
            ("backend_start", session.started_us.into()),
            ("query_start", running.started_us.into()),
            ("state", if running.active { "active" } else { "idle" }.into()),
            ("query", running.statement().into()),
            ("backend_type", "client backend".into()),
        ]);
    }
}
