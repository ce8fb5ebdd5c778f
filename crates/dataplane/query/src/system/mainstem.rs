//! Schema `mainstem`: what the parts of the server show of themselves, and the sessions. Columns are those that the outside relies on.

use crate::plan::Scope;
use crate::tables::Rows;
use arrow::datatypes::SchemaRef;
use mainstem_types::Principal;
use mainstem_types::TableRecord;
use mainstem_types::system::{Cell, Columns, Kind};

const SESSIONS: &str = "sessions";
const SESSION_COLUMNS: Columns = &[
    ("pid", Kind::Int4),
    ("principal", Kind::Text),
    ("database", Kind::Text),
    ("application", Kind::Text),
    ("address", Kind::Text),
    ("state", Kind::Text),
    ("started_at", Kind::TimestampTz),
    ("statement_at", Kind::TimestampTz),
    ("statement", Kind::Text),
];

fn all(scope: &Scope) -> impl Iterator<Item = (&'static str, Columns)> + '_ {
    scope.engine.system.iter().map(|table| (table.name, table.columns)).chain([(SESSIONS, SESSION_COLUMNS)])
}

pub(super) fn names(scope: &Scope) -> impl Iterator<Item = &'static str> + '_ {
    all(scope).map(|(name, _)| name)
}

/// Names and columns of all tables here.
pub(super) fn schemas(scope: &Scope) -> Vec<(&'static str, SchemaRef)> {
    all(scope).map(|(name, columns)| (name, Rows::new(columns).schema())).collect()
}

pub(super) fn rows(scope: &Scope, table: &str) -> Option<Rows> {
    if table == SESSIONS {
        return Some(sessions(scope));
    }
    let table = scope.engine.system.iter().find(|known| known.name == table)?;
    Some(Rows::of_system(table, &scope.session.principal))
}

/// A number that `mainstem.source_tables` shows of a table, for messages to who may read it.
pub(crate) fn shown(scope: &Scope, record: &TableRecord, column: &str) -> Option<i64> {
    let table = scope.engine.system.iter().find(|known| known.name == "source_tables")?;
    let at = |name: &str| table.columns.iter().position(|(known, _)| *known == name);
    let name = &record.schema.name;
    let wanted = [("source", record.source.as_str()), ("schema_name", &name.schema), ("table_name", &name.name)];
    let is = |row: &Vec<Cell>, (column, text): &(&str, &str)| matches!(at(column).and_then(|at| row.get(at)), Some(Cell::Text(found)) if found == text);
    let row = table.rows(&Principal::admin()).into_iter().find(|row| wanted.iter().all(|part| is(row, part)))?;
    match row.get(at(column)?) {
        Some(Cell::Int(number)) => Some(*number),
        _ => None,
    }
}

/// All of them for `admin`, else those of one's own.
fn sessions(scope: &Scope) -> Rows {
    let mut rows = Rows::new(SESSION_COLUMNS);
    for session in scope.sessions() {
        let running = session.running.lock().clone();
        let state = match (running.active, running.in_transaction) {
            (true, _) => "active",
            (false, true) => "idle in transaction",
            (false, false) => "idle",
        };
        let statement = running.statement();
        rows.add([
            ("pid", session.client.number.into()),
            ("principal", session.principal.to_string().into()),
            ("database", session.client.database.as_str().into()),
            ("application", session.client.application.as_str().into()),
            ("address", session.client.address.as_str().into()),
            ("state", state.into()),
            ("started_at", session.started_us.into()),
            ("statement_at", if !statement.is_empty() { running.started_us.into() } else { Cell::Null }),
            ("statement", statement.into()),
        ]);
    }
    rows
}
