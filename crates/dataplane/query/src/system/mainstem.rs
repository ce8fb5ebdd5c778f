//! Schema `mainstem`: the state of sources, tables, topics, settings and sessions. Columns are those that the outside relies on.

use crate::plan::Scope;
use crate::tables::{Cell, Kind, Rows};
use arrow::datatypes::SchemaRef;
use mainstem_warehouse::TableView;

pub(super) const TABLES: &[&str] = &["sources", "source_tables", "tables", "topics", "dead_letters", "settings", "sessions"];

pub(super) fn rows(scope: &Scope, table: &str) -> Option<Rows> {
    match table {
        "sources" => Some(sources(scope)),
        "source_tables" => Some(source_tables(scope)),
        "tables" => Some(tables(scope)),
        "topics" => Some(topics(scope)),
        "dead_letters" => Some(dead_letters(scope)),
        "settings" => Some(settings(scope)),
        "sessions" => Some(sessions(scope)),
        _ => None,
    }
}

fn sources(scope: &Scope) -> Rows {
    let mut rows = Rows::new(&[
        ("name", Kind::Text),
        ("connector", Kind::Text),
        ("state", Kind::Text),
        ("position", Kind::Text),
        ("lag_bytes", Kind::Int8),
        ("lag_ms", Kind::Int8),
        ("error_code", Kind::Text),
        ("error", Kind::Text),
    ]);
    for source in scope.engine.facts.sources() {
        rows.push(vec![
            source.name.to_string().into(),
            source.connector.into(),
            source.state.into(),
            source.position.into(),
            source.lag_bytes.into(),
            source.lag_ms.into(),
            source.error_code.into(),
            source.error.into(),
        ]);
    }
    rows
}

fn source_tables(scope: &Scope) -> Rows {
    let mut rows = Rows::new(&[
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
    ]);
    for table in scope.engine.facts.source_tables() {
        rows.push(vec![
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
        ]);
    }
    rows
}

fn tables(scope: &Scope) -> Rows {
    let mut rows = Rows::new(&[
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
    ]);
    for (name, view) in &scope.snapshot.tables {
        rows.push(vec![
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
        ]);
    }
    rows
}

fn hot_rows(view: &TableView) -> u64 {
    let alive =
        |hot: &mainstem_warehouse::HotView| hot.batch.num_rows() as u64 - hot.deleted.as_ref().map_or(0, |dead| dead.len());
    view.hot.iter().map(alive).sum()
}

fn topics(scope: &Scope) -> Rows {
    let mut rows = Rows::new(&[
        ("topic", Kind::Text),
        ("partition", Kind::Int4),
        ("start_offset", Kind::Int8),
        ("end_offset", Kind::Int8),
        ("bytes", Kind::Int8),
    ]);
    for topic in scope.engine.facts.topics() {
        rows.push(vec![
            topic.topic.into(),
            topic.partition.into(),
            topic.start_offset.into(),
            topic.end_offset.into(),
            topic.bytes.into(),
        ]);
    }
    rows
}

fn dead_letters(scope: &Scope) -> Rows {
    let mut rows = Rows::new(&[
        ("topic", Kind::Text),
        ("partition", Kind::Int4),
        ("offset", Kind::Int8),
        ("at", Kind::TimestampTz),
        ("error_code", Kind::Text),
        ("error", Kind::Text),
    ]);
    for letter in scope.engine.facts.dead_letters() {
        rows.push(vec![
            letter.topic.into(),
            letter.partition.into(),
            letter.offset.into(),
            letter.at_us.into(),
            letter.error_code.into(),
            letter.error.into(),
        ]);
    }
    rows
}

fn settings(scope: &Scope) -> Rows {
    let mut rows = Rows::new(&[("name", Kind::Text), ("value", Kind::Text), ("origin", Kind::Text)]);
    for setting in scope.engine.facts.settings() {
        rows.push(vec![setting.name.into(), setting.value.into(), setting.origin.into()]);
    }
    rows
}

fn sessions(scope: &Scope) -> Rows {
    let mut rows = Rows::new(&[
        ("pid", Kind::Int4),
        ("principal", Kind::Text),
        ("database", Kind::Text),
        ("application", Kind::Text),
        ("address", Kind::Text),
        ("state", Kind::Text),
        ("started_at", Kind::TimestampTz),
        ("statement_at", Kind::TimestampTz),
        ("statement", Kind::Text),
    ]);
    for session in scope.engine.sessions.lock().values() {
        let running = session.running.lock().clone();
        let state = match (running.active, running.in_transaction) {
            (true, _) => "active",
            (false, true) => "idle in transaction",
            (false, false) => "idle",
        };
        let statement = running.statement();
        rows.push(vec![
            session.client.number.into(),
            session.principal.to_string().into(),
            session.client.database.as_str().into(),
            session.client.application.as_str().into(),
            session.client.address.as_str().into(),
            state.into(),
            session.started_us.into(),
            if !statement.is_empty() { running.started_us.into() } else { Cell::Null },
            statement.into(),
        ]);
    }
    rows
}

/// Names and columns of all tables here.
pub(super) fn schemas(scope: &Scope) -> Vec<(&'static str, SchemaRef)> {
    TABLES.iter().filter_map(|table| rows(scope, table).map(|rows| (*table, rows.schema()))).collect()
}
