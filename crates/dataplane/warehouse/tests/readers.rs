//! What we write is read alike by engines that know nothing of us: every cell of every table, after flushes and compactions of a random workload.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // a test starts another program and writes its input; it fails by panicking

mod support;

use mainstem_types::{ColumnType, TableSchema};
use mainstem_warehouse::{WarehouseSettings, metrics};
use serde_json::{Value, json};
use support::driver::Driver;
use support::model::{Cell, Row};

fn columns(schema: &TableSchema) -> Vec<Value> {
    let mut lower = std::collections::BTreeSet::new();
    let column = |c: &mainstem_types::Column| {
        let scale = if let ColumnType::Decimal { scale, .. } = c.kind { scale } else { 0 };
        let kind = match c.kind {
            ColumnType::Decimal { .. } => json!("decimal"),
            ref kind => serde_json::to_value(kind).unwrap(),
        };
        // Names that differ by case alone get the column's number outside.
        let name = if lower.insert(c.name.to_lowercase()) { c.name.to_string() } else { format!("{}_{}", c.name, c.id) };
        json!({"name": name, "kind": kind, "scale": scale})
    };
    schema.columns.iter().map(column).collect()
}

fn cells(row: &Row) -> Vec<Value> {
    let cell = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Int(n) => n.to_string().into(),
        Cell::Text(text) => text.clone().into(),
    };
    row.iter().map(cell).collect()
}

fn expected(driver: &Driver) -> Value {
    let snapshot = driver.warehouse.snapshot().unwrap();
    let table = |table: &support::driver::ModelTable| {
        let mut rows: Vec<Vec<Value>> = table.rows.iter().map(cells).collect();
        rows.sort_by_key(|row| serde_json::to_string(row).unwrap());
        json!({
            "path": snapshot.tables[&table.record.name].location, "columns": columns(&table.record.schema), "rows": rows,
            "mapped": table.record.name.name.contains(' '),
        })
    };
    driver.tables.iter().map(table).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_engines_read_the_same_rows() {
    let Ok(python) = std::env::var("MAINSTEM_TEST_PYTHON") else {
        eprintln!(
            "SKIPPED: MAINSTEM_TEST_PYTHON names no interpreter with tests/python/requirements.txt; `cargo xtask test` sets it"
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = WarehouseSettings {
        flush_interval_ms: 3_600_000,
        row_group_rows: 500,
        checkpoint_commits: 4,
        compact_files_min: 2,
        ..Default::default()
    };
    let mut driver = Driver::start(9, dir.path(), settings).await;
    for round in 0..12 {
        for _ in 0..4 {
            driver.change().await;
        }
        if round == 5 {
            driver.alter(0).await;
            driver.change().await;
        }
        if round == 8 {
            driver.build(1).await;
        }
        driver.warehouse.flush(None).await.unwrap();
        if round % 2 == 0 {
            // What they read next are merged files, or such with rows that died since.
            driver.warehouse.compact().await;
        }
        if round % 3 == 2 {
            driver.check();
            let path = dir.path().join("expected.json");
            std::fs::write(&path, expected(&driver).to_string()).unwrap();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers.py");
            let done = std::process::Command::new(&python).arg(script).arg(&path).output().unwrap();
            let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            assert!(done.status.success(), "round {round}: {said}");
            eprintln!("round {round}: {said}");
        }
    }
    assert!(metrics::COMPACTIONS.get() > 5, "{} compactions test nothing", metrics::COMPACTIONS.get());
}
