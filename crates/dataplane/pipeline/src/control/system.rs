//! What sources show of themselves in SQL: `mainstem.sources`, `mainstem.source_tables`, `mainstem.dead_letters`.

use crate::capture::dead_letters::Letter;
use crate::control::Sources;
use mainstem_types::system::{Cell, Columns, Kind, SystemTable};
use std::sync::Arc;

const SOURCES: Columns = &[
    ("name", Kind::Text),
    ("connector", Kind::Text),
    ("state", Kind::Text),
    ("position", Kind::Text),
    ("lag_bytes", Kind::Int8),
    ("lag_ms", Kind::Int8),
    ("error_code", Kind::Text),
    ("error", Kind::Text),
];

const SOURCE_TABLES: Columns = &[
    ("source", Kind::Text),
    ("schema_name", Kind::Text),
    ("table_name", Kind::Text),
    ("state", Kind::Text),
    ("rows_copied", Kind::Int8),
    ("rows_estimated", Kind::Int8),
    ("changes_total", Kind::Int8),
    ("last_commit_at", Kind::TimestampTz),
    ("error_code", Kind::Text),
    ("error", Kind::Text),
    ("changes", Kind::Text),
    ("changes_hint", Kind::Text),
];

/// Never a record's content.
const DEAD_LETTERS: Columns = &[
    ("source", Kind::Text),
    ("schema_name", Kind::Text),
    ("table_name", Kind::Text),
    ("position", Kind::Text),
    ("topic", Kind::Text),
    ("partition", Kind::Int4),
    ("offset", Kind::Int8),
    ("at", Kind::TimestampTz),
    ("error_code", Kind::Text),
    ("error", Kind::Text),
];

impl Sources {
    pub fn system_tables(self: &Arc<Self>) -> Vec<SystemTable> {
        let (sources, tables, letters) = (self.clone(), self.clone(), self.clone());
        vec![
            SystemTable::of_admin("sources", SOURCES, move || sources.source_rows()),
            SystemTable::of_admin("source_tables", SOURCE_TABLES, move || tables.table_rows()),
            SystemTable::of_admin("dead_letters", DEAD_LETTERS, move || letters.letter_rows()),
        ]
    }

    fn source_rows(&self) -> Vec<Vec<Cell>> {
        let row = |source: mainstem_types::sources::SourceStatus| {
            vec![
                source.name.to_string().into(),
                source.connector.into(),
                source.state.into(),
                source.position.into(),
                source.lag_bytes.into(),
                source.lag_ms.into(),
                source.error_code.into(),
                source.error.into(),
            ]
        };
        self.sources().into_iter().map(row).collect()
    }

    fn letter_rows(&self) -> Vec<Vec<Cell>> {
        let row = |(topic, offset, letter): (String, i64, Letter)| {
            vec![
                letter.source.to_string().into(),
                letter.table.schema.to_string().into(),
                letter.table.name.to_string().into(),
                letter.position.to_string().into(),
                topic.into(),
                0_i32.into(),
                offset.into(),
                letter.at_us.into(),
                letter.error_code.into(),
                letter.error.into(),
            ]
        };
        self.dead_letters().into_iter().map(row).collect()
    }

    fn table_rows(&self) -> Vec<Vec<Cell>> {
        let row = |table: mainstem_types::sources::SourceTableStatus| {
            let changes = table.inserts_only.map(|inserts_only| if inserts_only { "inserts only" } else { "all" });
            let hint = (table.inserts_only == Some(true)).then(|| self.inserts_only(&table));
            vec![
                table.source.to_string().into(),
                table.schema_name.into(),
                table.table_name.into(),
                table.state.as_str().into(),
                table.rows_copied.into(),
                table.rows_estimated.into(),
                table.changes_total.into(),
                table.last_commit_at.into(),
                table.error_code.into(),
                table.error.into(),
                changes.into(),
                hint.flatten().into(),
            ]
        };
        self.tables().into_iter().map(row).collect()
    }
}
