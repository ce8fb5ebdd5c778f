//! Schema `information_schema`: what tools read to list tables and columns.

use super::relations::{self, What};
use crate::engine::DATABASE;
use crate::plan::Scope;
use crate::tables::{Columns, Rows};
use arrow::datatypes::SchemaRef;
use mainstem_types::system::{Cell, Kind};

/// The tables and their columns.
pub(super) const TABLES: &[Columns] = {
    use Kind::{Int4, Name, Text};
    &[
        (
            "schemata",
            &[
                ("catalog_name", Name),
                ("schema_name", Name),
                ("schema_owner", Name),
                ("default_character_set_catalog", Name),
                ("default_character_set_schema", Name),
                ("default_character_set_name", Name),
                ("sql_path", Text),
            ],
        ),
        (
            "tables",
            &[
                ("table_catalog", Name),
                ("table_schema", Name),
                ("table_name", Name),
                ("table_type", Text),
                ("self_referencing_column_name", Name),
                ("reference_generation", Text),
                ("user_defined_type_catalog", Name),
                ("user_defined_type_schema", Name),
                ("user_defined_type_name", Name),
                ("is_insertable_into", Text),
                ("is_typed", Text),
                ("commit_action", Text),
            ],
        ),
        (
            "columns",
            &[
                ("table_catalog", Name),
                ("table_schema", Name),
                ("table_name", Name),
                ("column_name", Name),
                ("ordinal_position", Int4),
                ("column_default", Text),
                ("is_nullable", Text),
                ("data_type", Text),
                ("character_maximum_length", Int4),
                ("character_octet_length", Int4),
                ("numeric_precision", Int4),
                ("numeric_precision_radix", Int4),
                ("numeric_scale", Int4),
                ("datetime_precision", Int4),
                ("interval_type", Text),
                ("collation_name", Name),
                ("udt_catalog", Name),
                ("udt_schema", Name),
                ("udt_name", Name),
                ("is_self_referencing", Text),
                ("is_identity", Text),
                ("identity_generation", Text),
                ("is_generated", Text),
                ("generation_expression", Text),
                ("is_updatable", Text),
            ],
        ),
        (
            "views",
            &[
                ("table_catalog", Name),
                ("table_schema", Name),
                ("table_name", Name),
                ("view_definition", Text),
                ("check_option", Text),
                ("is_updatable", Text),
                ("is_insertable_into", Text),
            ],
        ),
        (
            "routines",
            &[
                ("specific_catalog", Name),
                ("specific_schema", Name),
                ("specific_name", Name),
                ("routine_catalog", Name),
                ("routine_schema", Name),
                ("routine_name", Name),
                ("routine_type", Text),
                ("data_type", Text),
            ],
        ),
        (
            "table_constraints",
            &[
                ("constraint_catalog", Name),
                ("constraint_schema", Name),
                ("constraint_name", Name),
                ("table_catalog", Name),
                ("table_schema", Name),
                ("table_name", Name),
                ("constraint_type", Text),
                ("is_deferrable", Text),
                ("initially_deferred", Text),
                ("enforced", Text),
            ],
        ),
        (
            "key_column_usage",
            &[
                ("constraint_catalog", Name),
                ("constraint_schema", Name),
                ("constraint_name", Name),
                ("table_catalog", Name),
                ("table_schema", Name),
                ("table_name", Name),
                ("column_name", Name),
                ("ordinal_position", Int4),
                ("position_in_unique_constraint", Int4),
            ],
        ),
        (
            "referential_constraints",
            &[
                ("constraint_catalog", Name),
                ("constraint_schema", Name),
                ("constraint_name", Name),
                ("unique_constraint_catalog", Name),
                ("unique_constraint_schema", Name),
                ("unique_constraint_name", Name),
                ("match_option", Text),
                ("update_rule", Text),
                ("delete_rule", Text),
            ],
        ),
        (
            "constraint_column_usage",
            &[
                ("table_catalog", Name),
                ("table_schema", Name),
                ("table_name", Name),
                ("column_name", Name),
                ("constraint_catalog", Name),
                ("constraint_schema", Name),
                ("constraint_name", Name),
            ],
        ),
    ]
};

/// An empty table of this name, with its columns.
fn empty(table: &str) -> Option<Rows> {
    Rows::of(TABLES, table)
}

pub(super) fn schemas() -> Vec<(&'static str, SchemaRef)> {
    TABLES.iter().map(|(table, columns)| (*table, Rows::new(columns).schema())).collect()
}

pub(super) fn rows(scope: &Scope, table: &str) -> Option<Rows> {
    let mut rows = empty(table)?;
    match table {
        "schemata" => {
            for schema in super::schemas(scope) {
                let owner = mainstem_types::ids::ADMIN.into();
                rows.add([("catalog_name", DATABASE.into()), ("schema_name", schema.into()), ("schema_owner", owner)]);
            }
        }
        "tables" => tables(scope, &mut rows),
        "columns" => columns(scope, &mut rows),
        "table_constraints" | "key_column_usage" | "constraint_column_usage" => constraints(scope, table, &mut rows),
        "routines" => routines(scope, &mut rows),
        _ => {}
    }
    Some(rows)
}

fn tables(scope: &Scope, rows: &mut Rows) {
    for relation in relations::all(scope) {
        let kind = if relation.what == What::View { "VIEW" } else { "BASE TABLE" };
        rows.add([
            ("table_catalog", DATABASE.into()),
            ("table_schema", relation.name.schema.as_ref().into()),
            ("table_name", relation.name.name.as_ref().into()),
            ("table_type", kind.into()),
            ("is_insertable_into", "NO".into()),
            ("is_typed", "NO".into()),
        ]);
    }
}

fn columns(scope: &Scope, rows: &mut Rows) {
    for relation in relations::all(scope) {
        for (at, column) in relation.columns.iter().enumerate() {
            let (precision, scale) = column.kind.numeric();
            let radix = precision.map(|_| if column.kind.name == "numeric" { 10 } else { 2 });
            let time = matches!(column.kind.name, "date" | "time" | "timestamp" | "timestamptz");
            rows.add([
                ("table_catalog", DATABASE.into()),
                ("table_schema", relation.name.schema.as_ref().into()),
                ("table_name", relation.name.name.as_ref().into()),
                ("column_name", column.name.as_str().into()),
                ("ordinal_position", (at + 1).into()),
                ("is_nullable", if column.not_null { "NO" } else { "YES" }.into()),
                ("data_type", column.kind.long.into()),
                ("character_maximum_length", column.kind.characters().into()),
                ("character_octet_length", Cell::Null),
                ("numeric_precision", precision.into()),
                ("numeric_precision_radix", radix.into()),
                ("numeric_scale", scale.into()),
                ("datetime_precision", time.then_some(if column.kind.name == "date" { 0 } else { 6 }).into()),
                ("udt_catalog", DATABASE.into()),
                ("udt_schema", "pg_catalog".into()),
                ("udt_name", column.kind.name.into()),
                ("is_self_referencing", "NO".into()),
                ("is_identity", "NO".into()),
                ("is_generated", "NEVER".into()),
                ("is_updatable", "NO".into()),
            ]);
        }
    }
}

fn constraints(scope: &Scope, table: &str, rows: &mut Rows) {
    for relation in relations::all(scope) {
        let Some(key) = &relation.key else { continue };
        let schema = || Cell::from(relation.name.schema.as_ref());
        let (constraint, name) = (Cell::from(key.name.as_str()), Cell::from(relation.name.name.as_ref()));
        if table == "table_constraints" {
            rows.add([
                ("constraint_catalog", DATABASE.into()),
                ("constraint_schema", schema()),
                ("constraint_name", constraint),
                ("table_catalog", DATABASE.into()),
                ("table_schema", schema()),
                ("table_name", name),
                ("constraint_type", "PRIMARY KEY".into()),
                ("is_deferrable", "NO".into()),
                ("initially_deferred", "NO".into()),
                ("enforced", "YES".into()),
            ]);
            continue;
        }
        for (at, place) in key.columns.iter().enumerate() {
            let column: Cell = relation.columns.get(place - 1).map(|column| column.name.clone()).into();
            let shared = [
                ("constraint_catalog", DATABASE.into()),
                ("constraint_schema", schema()),
                ("constraint_name", constraint.clone()),
                ("table_catalog", DATABASE.into()),
                ("table_schema", schema()),
                ("table_name", name.clone()),
                ("column_name", column),
            ];
            if table == "constraint_column_usage" {
                rows.add(shared);
                continue;
            }
            let [a, b, c, d, e, f, g] = shared;
            rows.add([a, b, c, d, e, f, g, ("ordinal_position", (at + 1).into()), ("position_in_unique_constraint", Cell::Null)]);
        }
    }
}

fn routines(scope: &Scope, rows: &mut Rows) {
    let state = &scope.engine.names;
    let mut names: Vec<String> = state.scalar_functions().keys().chain(state.aggregate_functions().keys()).cloned().collect();
    names.extend(state.window_functions().keys().cloned());
    names.sort();
    names.dedup();
    for name in names {
        rows.add([
            ("specific_catalog", DATABASE.into()),
            ("specific_schema", "pg_catalog".into()),
            ("specific_name", name.as_str().into()),
            ("routine_catalog", DATABASE.into()),
            ("routine_schema", "pg_catalog".into()),
            ("routine_name", name.into()),
            ("routine_type", "FUNCTION".into()),
        ]);
    }
}
