//! The bytes are Avro in Confluent's wire form: `fastavro` reads every value as it went in. Needs the interpreter named in
//! `MAINSTEM_TEST_PYTHON` with `tests/python/requirements-envelope.txt`; without it the test says so and is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

mod support;

use arrow::array::{Array, AsArray, RecordBatch};
use mainstem_envelope::{SchemaIds, Schemas, encode};
use mainstem_eventlog::{EventLog, TopicPartition, records};
use mainstem_types::{ChangeBatch, ColumnType, Identity, Op, SourceName, TableSchema};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use support::*;

/// What Python's datetime can hold (years 1 to 9999).
const PYTHON_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// A cell as the reader should see it; None when Python has no value for it.
fn cell_json(name: &str, kind: &ColumnType, batch: &RecordBatch, column: usize, row: usize, placeholder: bool) -> Option<Value> {
    let array = batch.column(column);
    let text = cell(array, row);
    let (label, scale) = match kind {
        ColumnType::Bool => ("boolean", 0),
        ColumnType::Float32 => ("float", 0),
        ColumnType::Float64 => ("double", 0),
        ColumnType::Decimal { scale, .. } => ("decimal", *scale),
        ColumnType::Text => ("text", 0),
        ColumnType::Bytes => ("bytes", 0),
        ColumnType::TimestampTz => ("zoned", 0),
        _ => ("integer", 0),
    };
    let unavailable = "__debezium_unavailable_value";
    let value = match kind {
        ColumnType::Text if placeholder => json!(unavailable),
        ColumnType::Bytes if placeholder => json!(unavailable.bytes().map(|b| format!("{b:02x}")).collect::<String>()),
        _ if array.is_null(row) => Value::Null,
        ColumnType::Bool => json!(array.as_boolean().value(row)),
        ColumnType::Text => json!(array.as_string::<i32>().value(row)),
        ColumnType::TimestampTz if !PYTHON_US.contains(&text.parse().unwrap()) => return None,
        // A NaN's bits may change on the way through a Python float.
        ColumnType::Float32 if f32::from_bits(u32::from_str_radix(&text, 16).unwrap()).is_nan() => return None,
        _ => json!(text),
    };
    Some(json!({ "name": name, "kind": label, "scale": scale, "value": value }))
}

fn row_json(names: &[String], schema: &TableSchema, batch: &RecordBatch, row: usize, unchanged: &[usize]) -> Option<Value> {
    let cell = |(at, name): (usize, &String)| cell_json(name, &schema.columns[at].kind, batch, at, row, unchanged.contains(&at));
    names.iter().enumerate().map(cell).collect::<Option<Vec<_>>>().map(Value::from)
}

/// Texts by id, as the topic holds them.
fn texts(schema: &TableSchema) -> (SchemaIds, Vec<(i32, String)>) {
    runtime().block_on(async {
        let log = Arc::new(MemoryLog::default());
        let (ids, part) = Schemas::load(log.clone()).await.unwrap().ids(TOPIC, schema, &BLOCK).unwrap();
        log.append(vec![part.unwrap()], None).await.unwrap();
        let fetched = log.read(&TopicPartition::new("_schemas", 0), 0, 1 << 20).await.unwrap();
        let text = |value: &[u8]| {
            let value: Value = serde_json::from_slice(value).unwrap();
            (value["id"].as_i64().unwrap() as i32, value["schema"].as_str().unwrap().to_string())
        };
        (ids, records(&fetched.batches).unwrap().iter().map(|r| text(r.value.as_ref().unwrap())).collect())
    })
}

fn envelope_json(batch: &ChangeBatch, row: usize, op: Op) -> Value {
    let tx = batch.tx(row);
    let signed = |n: u64| n as i64;
    json!({
        "op": op.code(),
        "transaction": null,
        "ts_ms": 1_760_000_000_123i64,
        "ts_us": 1_760_000_000_123_000i64,
        "ts_ns": 1_760_000_000_123_000_000i64,
        "source": {
            "version": env!("CARGO_PKG_VERSION"),
            "connector": "postgresql",
            "name": "shop",
            "ts_ms": tx.commit_time_us.div_euclid(1000),
            "snapshot": if op == Op::Read { "true" } else { "false" },
            "db": "sakila",
            "sequence": format!(r#"["{}","{}"]"#, tx.commit_place, batch.places[row]),
            "ts_us": tx.commit_time_us,
            "ts_ns": tx.commit_time_us.saturating_mul(1000),
            "schema": &*batch.schema.name.schema,
            "table": &*batch.schema.name.name,
            "txId": (tx.id != 0).then_some(signed(tx.id)),
            "lsn": signed(batch.places[row]),
            "xmin": null,
        },
    })
}

/// The Avro names of a value schema's columns.
fn names_of(text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(text).unwrap();
    let fields = schema["fields"][0]["type"][1]["fields"].as_array().unwrap();
    fields.iter().map(|f| f["name"].as_str().unwrap().to_string()).collect()
}

/// One line per record of the batch that has a value, and per key.
fn cases(batch: &ChangeBatch, out: &mut Vec<Value>) {
    let (ids, texts) = texts(&batch.schema);
    let text = |id: i32| texts.iter().find(|(known, _)| *known == id).map(|(_, text)| text.clone()).unwrap();
    let names = names_of(&text(ids.value));
    let source = SourceName::new("shop").unwrap();
    let part = encode(&context(&source, ids), batch).unwrap();
    let records = records(&part.batches).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut next = records.iter();
    for row in 0..batch.len() {
        let mut record = next.next().unwrap();
        let changed_key = record.headers.iter().any(|(name, _)| name == "__debezium.newkey");
        let unchanged = batch.unchanged_of(row).iter().map(|id| batch.schema.index_of(*id).unwrap()).collect::<Vec<_>>();
        let new = row_json(&names, &batch.schema, &batch.rows, row, &unchanged);
        let old = batch.old_image(row).map(|(old, at)| row_json(&names, &batch.schema, old, at, &[]));
        let mut line =
            |record: &mainstem_eventlog::RecordRef, op: Op, before: Option<Option<Value>>, after: Option<Option<Value>>| {
                if let (Some(before), Some(after)) =
                    (before.map_or(Some(Value::Null), |x| x), after.map_or(Some(Value::Null), |x| x))
                {
                    out.push(json!({ "id": ids.value, "schema": text(ids.value), "bytes": hex(record.value.as_ref().unwrap()),
                    "before": before, "after": after, "envelope": envelope_json(batch, row, op) }));
                }
            };
        match batch.ops[row] {
            Op::Truncate => line(record, Op::Truncate, None, None),
            Op::Delete => line(record, Op::Delete, Some(new), None),
            _ if changed_key => {
                line(record, Op::Delete, old, None);
                next.next();
                record = next.next().unwrap();
                line(record, Op::Create, None, Some(new));
            }
            op => line(record, op, old, Some(new)),
        }
        if let (Some(key), Some(id), true) = (&record.key, ids.key, unchanged.is_empty()) {
            let column = |id| {
                let at = batch.schema.index_of(id).unwrap();
                cell_json(&names[at], &batch.schema.columns[at].kind, &batch.rows, at, row, false)
            };
            if let Some(cells) = batch.schema.record_key.iter().map(|id| column(*id)).collect::<Option<Vec<_>>>() {
                out.push(json!({ "id": id, "schema": text(id), "bytes": hex(key), "key": cells }));
            }
        }
        if batch.ops[row] == Op::Delete && record.key.is_some() {
            assert!(next.next().unwrap().value.is_none());
        }
    }
    assert!(next.next().is_none());
}

#[test]
fn fastavro_reads_what_went_in() {
    let Ok(python) = std::env::var("MAINSTEM_TEST_PYTHON") else {
        eprintln!("SKIPPED fastavro_reads_what_went_in: MAINSTEM_TEST_PYTHON names no interpreter");
        return;
    };
    let mut runner = TestRunner::deterministic();
    let mut lines = Vec::new();
    let mut whole_row = 0;
    for _ in 0..400 {
        let batch = batch().new_tree(&mut runner).unwrap().current();
        whole_row += usize::from(batch.schema.identity == Identity::WholeRow);
        cases(&batch, &mut lines);
    }
    assert!(lines.len() > 1000 && whole_row > 50, "{} cases", lines.len());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/check_envelopes.py");
    let mut child =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in &lines {
        if writeln!(input, "{line}").is_err() {
            break;
        }
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_string();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with(&format!("{} records", lines.len())), "{said}");
    println!("fastavro: {said}");
}
