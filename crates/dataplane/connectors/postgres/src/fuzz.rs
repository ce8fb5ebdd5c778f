//! What `fuzz/` feeds with any bytes: the decoders of everything that a server sends. Read or refused, never a panic.

use crate::pgoutput;
use crate::rows::{Event, TableRows};
use crate::value::ColumnBuilder;
use mainstem_types::{Column, ColumnId, ColumnType, Identity, TableName, TableSchema, Tx, UpstreamId};
use std::sync::Arc;

/// One column of every type that values are decoded to.
const KINDS: [ColumnType; 13] = [
    ColumnType::Int32,
    ColumnType::Bool,
    ColumnType::Int16,
    ColumnType::Int64,
    ColumnType::Float32,
    ColumnType::Float64,
    ColumnType::Decimal { precision: 38, scale: 10 },
    ColumnType::Text,
    ColumnType::Bytes,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::Timestamp,
    ColumnType::TimestampTz,
];

fn schema() -> Arc<TableSchema> {
    let column = |(at, kind): (usize, &ColumnType)| Column {
        id: ColumnId(at as i32 + 1),
        name: format!("c{at}").into(),
        kind: kind.clone(),
        not_null: false,
        source_type: "any".into(),
        pg_type: None,
        type_modifier: -1,
        missing_value: None,
    };
    Arc::new(TableSchema {
        upstream: UpstreamId(1),
        name: TableName::new("public", "fuzzed"),
        version: 0,
        columns: KINDS.iter().enumerate().map(column).collect(),
        identity: Identity::Key { columns: vec![ColumnId(1)] },
        record_key: vec![ColumnId(1)],
    })
}

const EVENT: Event = Event { tx: Tx { id: 1, commit_place: 1, commit_time_us: 0 }, lsn: 1, order: 0 };

/// A message of the replication stream, and the row it may hold.
pub fn replication_message(bytes: &[u8]) {
    let (in_stream, message) = bytes.split_first().map_or((false, bytes), |(first, rest)| (first & 1 == 1, rest));
    let Ok((_, message)) = pgoutput::parse(message, in_stream) else { return };
    let mut rows = TableRows::new(schema());
    let appended = match message {
        pgoutput::Message::Insert { new, .. } => rows.insert(&new, EVENT),
        pgoutput::Message::Update { old, new, .. } => rows.update(old.as_ref(), &new, EVENT),
        pgoutput::Message::Delete { old, .. } => rows.delete(&old, EVENT),
        _ => return,
    };
    if appended.is_ok() {
        let _ = rows.finish();
    }
}

/// Lines of `COPY ... TO STDOUT` in text form.
pub fn copied_lines(bytes: &[u8]) {
    let (mut rows, mut scratch) = (TableRows::new(schema()), Vec::new());
    let all = bytes.split_inclusive(|b| *b == b'\n').all(|line| rows.copied(line, &mut scratch, EVENT).is_ok());
    if all {
        let _ = rows.finish();
    }
}

/// One value in its text form, as every type.
pub fn value(bytes: &[u8]) {
    for kind in &KINDS {
        let mut builder = ColumnBuilder::new(kind);
        let appended = builder.append(bytes).is_ok();
        assert_eq!(builder.finish().len(), usize::from(appended));
    }
}
