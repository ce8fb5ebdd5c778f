//! Every relation that there is, with its columns: what both catalogs describe.

use super::keys::Key;
use super::types::{self, PgType};
use super::{information, mainstem, oids, pg_catalog};
use crate::plan::Scope;
use crate::tables;
use arrow::datatypes::SchemaRef;
use mainstem_types::{TableName, TableSchema};
use mainstem_warehouse::TableView;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Table,
    /// A partitioned or inherited table: the rows of its leaves.
    Parent,
    /// A table of ours that is made on the spot.
    View,
}

pub(super) struct Relation {
    pub(super) name: TableName,
    pub(super) oid: i32,
    pub(super) what: What,
    pub(super) columns: Vec<RelationColumn>,
    /// The live tables behind it: its own, or its leaves.
    views: Vec<Arc<TableView>>,
    /// Of a parent, itself among them when it has rows of its own.
    pub(super) leaves: Vec<TableName>,
    pub(super) key: Option<Key>,
}

impl Relation {
    /// Rows that are alive. None: not known before they are made.
    pub(super) fn row_count(&self) -> Option<u64> {
        (self.what != What::View && !self.views.is_empty()).then(|| self.views.iter().map(|view| view.rows).sum())
    }

    /// Bytes of its files.
    pub(super) fn bytes(&self) -> u64 {
        self.views.iter().flat_map(|view| &view.files).map(|file| file.bytes).sum()
    }
}

pub(super) struct RelationColumn {
    pub(super) name: String,
    pub(super) kind: PgType,
    pub(super) not_null: bool,
}

/// Live tables, parents and our own tables, in name order within each.
pub(super) fn all(scope: &Scope) -> Vec<Relation> {
    let mut relations = Vec::new();
    for (name, view) in scope.snapshot.tables.iter().filter(|(name, _)| !scope.snapshot.parents.contains_key(*name)) {
        relations.push(Relation {
            oid: oids::of_table(scope, name),
            name: name.clone(),
            what: What::Table,
            columns: columns(&view.schema),
            views: vec![view.clone()],
            leaves: Vec::new(),
            key: Key::of(&view.schema, name),
        });
    }
    for (name, leaves) in &scope.snapshot.parents {
        let views: Vec<_> = leaves.iter().filter_map(|leaf| scope.snapshot.tables.get(leaf)).cloned().collect();
        let schemas: Vec<_> = views.iter().map(|view| view.schema.as_ref()).collect();
        let own = scope.snapshot.tables.get(name).map(|view| view.schema.as_ref());
        relations.push(Relation {
            oid: oids::of_table(scope, name),
            name: name.clone(),
            what: What::Parent,
            columns: columns(&tables::parent_columns(own, &schemas)),
            views,
            leaves: leaves.clone(),
            key: None,
        });
    }
    relations.extend(mainstem::schemas(scope).into_iter().map(|(table, schema)| own("mainstem", table, &schema)));
    relations.extend(information::schemas().into_iter().map(|(table, schema)| own("information_schema", table, &schema)));
    relations.extend(pg_catalog::schemas(scope).into_iter().map(|(table, schema)| own("pg_catalog", &table, &schema)));
    relations
}

fn columns(schema: &TableSchema) -> Vec<RelationColumn> {
    let column = |column: &mainstem_types::Column| RelationColumn {
        name: column.name.to_string(),
        kind: types::of_column(column),
        not_null: column.not_null,
    };
    schema.columns.iter().map(column).collect()
}

fn own(schema: &str, table: &str, columns: &SchemaRef) -> Relation {
    let name = TableName::new(schema, table);
    let column = |field: &arrow::datatypes::FieldRef| RelationColumn {
        name: field.name().clone(),
        kind: types::of_field(field),
        not_null: false,
    };
    Relation {
        oid: oids::of_system_table(&name),
        what: if schema == "pg_catalog" { What::Table } else { What::View },
        columns: columns.fields().iter().map(column).collect(),
        views: Vec::new(),
        leaves: Vec::new(),
        key: None,
        name,
    }
}
