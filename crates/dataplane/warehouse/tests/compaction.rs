//! Many small flushes leave few files, and a process that is killed inside a compaction has lost and doubled nothing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // a test looks at files, and has itself killed; it fails by panicking

mod support;

use mainstem_types::{Column, ColumnId, TableState};
use mainstem_warehouse::{WarehouseSettings, metrics};
use std::path::Path;
use std::process::Command;
use support::driver::Driver;
use support::model::Cell;

/// Names the directory in which a process of this test is to be killed.
const VICTIM: &str = "MAINSTEM_TEST_VICTIM";

fn settings() -> WarehouseSettings {
    WarehouseSettings {
        flush_interval_ms: 3_600_000,
        checkpoint_commits: 7,
        index_runs_max: 3,
        file_retention_ms: 0,
        compact_files_min: 4,
        ..Default::default()
    }
}

fn of_kind(dir: &Path, end: &str) -> usize {
    let names = std::fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.ends_with(end)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_flushes_leave_few_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(31, dir.path(), settings()).await;
    for round in 0..300 {
        driver.change().await;
        driver.warehouse.flush(None).await.unwrap();
        driver.warehouse.compact().await;
        let snapshot = driver.warehouse.snapshot().unwrap();
        for table in snapshot.tables.values() {
            // All are far below the size that counts, so three remain at most; an index has besides them what is not merged yet.
            let (files, runs) = (
                table.files.len(),
                of_kind(
                    &dir.path().join("index").join(table.record.table.to_string()).join(table.record.generation.to_string()),
                    ".run",
                ),
            );
            assert!(files <= 4 && runs <= 4, "round {round}, {}: {files} files, {runs} runs", table.record.name);
            assert_eq!(of_kind(&table.location, ".parquet"), files, "round {round}, {}", table.record.name);
        }
        if round % 50 == 0 {
            driver.check();
        }
    }
    driver.check();
    driver.reopen(false).await;
    driver.check();
    assert!(metrics::COMPACTED_FILES.get() > 300);
    assert_eq!(metrics::COMPACTION_FAILURES.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_inside_a_compaction() {
    if let Ok(dir) = std::env::var(VICTIM) {
        return victim(Path::new(&dir)).await;
    }
    for (seed, point) in [
        (1, "compact.after_parquet:1"),
        (2, "compact.after_parquet:4"),
        (3, "compact.after_commit:1"),
        (4, "compact.after_commit:4"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed_inside_a_compaction", "--nocapture"]).env("MAINSTEM_FAILPOINT", point);
        let done = command.env(VICTIM, dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(said.contains("killing the process"), "{point}: {said}");
        let mut driver = Driver::restore(seed, dir.path(), settings(), &dir.path().join("model.json")).await;
        driver.check();
        for _ in 0..6 {
            driver.change().await;
            driver.check();
            driver.warehouse.flush(None).await.unwrap();
            driver.compact_beside_changes().await;
            driver.check();
        }
        driver.reopen(false).await;
        driver.check();
    }
}

/// A dropped column's values lie in older files until a compaction rewrites them: under its name they must not come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_columns_name_does_not_bring_its_values_back() {
    for compacted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let settings = WarehouseSettings { compact_files_min: 2, ..settings() };
        let mut driver = Driver::start(5, dir.path(), settings).await;
        let append_only = 3;
        let mut schema = driver.tables[append_only].record.schema.as_ref().clone();
        for _ in 0..2 {
            while driver.tables[append_only].rows.len() < 20 {
                driver.change().await;
            }
            driver.warehouse.flush(None).await.unwrap();
            driver.change().await;
        }
        // A truncate may have emptied it, and one file is not merged.
        while driver.warehouse.snapshot().unwrap().tables[&driver.tables[append_only].record.name].files.len() < 2 {
            driver.change().await;
            driver.warehouse.flush(None).await.unwrap();
        }
        let dropped = schema.columns.pop().unwrap();
        schema.version += 1;
        driver.tables[append_only].rows.iter_mut().for_each(|row| drop(row.pop()));
        driver.set_schema(append_only, schema.clone()).await;
        driver.warehouse.flush(None).await.unwrap();
        if compacted {
            driver.warehouse.compact().await;
            assert_eq!(driver.warehouse.snapshot().unwrap().tables[&driver.tables[append_only].record.name].files.len(), 1);
        }
        schema.columns.push(Column { id: ColumnId(99), ..dropped });
        schema.version += 1;
        driver.tables[append_only].rows.iter_mut().for_each(|row| row.push(Cell::Null));
        driver.set_schema(append_only, schema).await;
        let snapshot = driver.warehouse.snapshot().unwrap();
        let view = &snapshot.tables[&driver.tables[append_only].record.name];
        if compacted {
            driver.check();
        } else {
            assert_eq!((view.record.state, view.record.error_code.as_deref()), (TableState::Failed, Some("TBL-005")));
        }
    }
}

/// Works until it is killed. Rows of the files that are merged have died since they were committed.
async fn victim(dir: &Path) {
    let mut driver = Driver::start(77, dir, settings()).await;
    for _ in 0..40 {
        driver.change().await;
        driver.warehouse.flush(None).await.unwrap();
        driver.change().await;
        driver.save(&dir.join("model.json"));
        driver.warehouse.compact().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_deletion_vectors_files_are_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let settings = WarehouseSettings { flush_interval_ms: 3_600_000, compact_files_min: 2, ..Default::default() };
    let mut driver = Driver::start(41, dir.path(), settings).await;
    // Some have vectors already, which go.
    driver.change().await;
    driver.warehouse.flush(None).await.unwrap();
    for at in 0..driver.tables.len() {
        driver.tables[at].record.without_vectors = true;
        let schema = driver.tables[at].record.schema.as_ref().clone();
        driver.set_schema(at, schema).await;
    }
    for round in 0..8 {
        driver.change().await;
        driver.change().await;
        driver.warehouse.flush(None).await.unwrap();
        let snapshot = driver.warehouse.snapshot().unwrap();
        let dead: u64 = snapshot.tables.values().flat_map(|t| &t.files).filter_map(|f| Some(f.deleted.as_ref()?.len())).sum();
        assert_eq!(dead, 0, "round {round}");
        driver.check();
        if round % 3 == 1 {
            driver.warehouse.compact().await;
            driver.build(round % driver.tables.len()).await;
        }
        if round % 3 == 2 {
            driver.reopen(round % 2 == 0).await;
            driver.check();
        }
    }
}
