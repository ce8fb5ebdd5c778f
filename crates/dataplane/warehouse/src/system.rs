//! What live tables show of themselves in SQL: `mainstem.tables`.

use crate::snapshot::{HotView, Snapshot, TableView};
use mainstem_types::system::{Cell, Columns, Kind, SystemTable};
use mainstem_types::{Result, TableName};
use std::sync::Arc;

const TABLES: Columns = &[
    ("schema_name", Kind::Text),
    ("table_name", Kind::Text),
    ("source", Kind::Text),
    ("readable", Kind::Bool),
    ("rows", Kind::Int8),
    ("files", Kind::Int8),
    ("bytes", Kind::Int8),
    ("hot_rows", Kind::Int8),
    ("deleted_rows", Kind::Int8),
    ("position", Kind::Text),
    ("delta_version", Kind::Int8),
    ("location", Kind::Text),
];

/// `snapshot` gives the newest.
pub fn system_tables(snapshot: Arc<dyn Fn() -> Result<Arc<Snapshot>> + Send + Sync>) -> Vec<SystemTable> {
    let rows = move || match snapshot() {
        Ok(snapshot) => snapshot.tables.iter().map(|(name, view)| row(name, view)).collect(),
        Err(_) => Vec::new(), // queries say why there is none
    };
    vec![SystemTable::of_admin("tables", TABLES, rows)]
}

fn row(name: &TableName, view: &TableView) -> Vec<Cell> {
    vec![
        name.schema.as_ref().into(),
        name.name.as_ref().into(),
        view.record.source.to_string().into(),
        view.readable.into(),
        view.rows.into(),
        view.files.len().into(),
        view.files.iter().map(|file| file.bytes).sum::<u64>().into(),
        hot_rows(view).into(),
        view.deleted_rows.into(),
        view.position.clone().into(),
        view.delta_version.into(),
        view.location.to_string_lossy().into_owned().into(),
    ]
}

fn hot_rows(view: &TableView) -> u64 {
    let alive = |hot: &HotView| hot.batch.num_rows() as u64 - hot.deleted.as_ref().map_or(0, |dead| dead.len());
    view.hot.iter().map(alive).sum()
}
