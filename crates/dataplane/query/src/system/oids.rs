//! Object ids that stay the same from start to start.

use crate::plan::Scope;
use mainstem_types::{Principal, TableName};

/// Live tables: this plus the table's id.
const TABLES_FROM: i32 = 100_000;
/// Everything that has only a name: hashed into the upper half, far from tables and from Postgres's own.
const HASHED_FROM: u32 = 0x4000_0000;
const HASHED_MASK: u32 = 0x3fff_ffff;
/// The database.
pub(super) const DATABASE: i32 = 16_384;
/// The role `admin`: Postgres's own bootstrap user.
pub(super) const ADMIN: i32 = 10;

/// FNV-1a: short, and fixed for ever.
fn hashed(parts: &[&str]) -> i32 {
    let mut hash: u32 = 0x811c_9dc5;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    (HASHED_FROM | (hash & HASHED_MASK)) as i32
}

/// A user.
pub(super) fn of_role(principal: &Principal) -> i32 {
    if principal.is_admin() { ADMIN } else { hashed(&["role", &principal.0]) }
}

pub(super) fn of_schema(schema: &str) -> i32 {
    match schema {
        "pg_catalog" => 11,
        "public" => 2200,
        "information_schema" => 13_000,
        schema => hashed(&["schema", schema]),
    }
}

pub(super) fn of_table(scope: &Scope, name: &TableName) -> i32 {
    match scope.snapshot.tables.get(name) {
        Some(view) if !scope.snapshot.parents.contains_key(name) => {
            TABLES_FROM.saturating_add(i32::try_from(view.record.table.0).unwrap_or(i32::MAX))
        }
        _ => of_system_table(name),
    }
}

/// A table's key: of its index, of its constraint.
pub(super) fn of_key(name: &TableName) -> (i32, i32) {
    (hashed(&["index", &name.schema, &name.name]), hashed(&["constraint", &name.schema, &name.name]))
}

pub(super) fn of_system_table(name: &TableName) -> i32 {
    match (name.schema.as_ref(), name.name.as_ref()) {
        ("pg_catalog", "pg_type") => 1247,
        ("pg_catalog", "pg_attribute") => 1249,
        ("pg_catalog", "pg_proc") => 1255,
        ("pg_catalog", "pg_class") => 1259,
        ("pg_catalog", "pg_namespace") => 2615,
        (schema, name) => hashed(&["table", schema, name]),
    }
}

impl Scope {
    /// The oid of a relation by its name as written in `'name'::regclass`.
    pub(crate) fn oid_of(&self, name: &str) -> Option<i32> {
        let table = datafusion::common::TableReference::parse_str(name);
        self.resolve(&table).ok().map(|full| of_table(self, &full))
    }
}
