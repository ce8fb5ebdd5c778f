//! Files that nobody needs any more go while the warehouse runs, and those that somebody needs stay.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // a test looks at the files that the warehouse wrote; it fails by panicking

mod support;

use mainstem_envelope::tail::LiveTables;
use mainstem_eventlog::EventLog;
use mainstem_types::SourceName;
use mainstem_types::barrier::BARRIER_TOPIC;
use mainstem_warehouse::WarehouseSettings;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::driver::Driver;

fn settings(file_retention_ms: u64) -> WarehouseSettings {
    WarehouseSettings { flush_interval_ms: 3_600_000, checkpoint_commits: 3, file_retention_ms, ..Default::default() }
}

fn names(dir: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeSet::new() };
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn of_kind(dir: &Path, end: &str) -> usize {
    names(dir).iter().filter(|n| n.ends_with(end)).count()
}

async fn work(driver: &mut Driver, rounds: usize) {
    for _ in 0..rounds {
        driver.change().await;
        driver.warehouse.flush(None).await.unwrap();
    }
}

fn places(driver: &Driver) -> Vec<PathBuf> {
    driver.warehouse.snapshot().unwrap().tables.values().map(|t| t.location.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_retention_only_the_last_version_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(21, dir.path(), settings(0)).await;
    work(&mut driver, 12).await;
    let snapshot = driver.warehouse.snapshot().unwrap();
    for table in snapshot.tables.values() {
        let files: BTreeSet<String> = table.files.iter().map(|f| f.path.file_name().unwrap().to_str().unwrap().into()).collect();
        let found: BTreeSet<String> = names(&table.location).into_iter().filter(|n| n.ends_with(".parquet")).collect();
        assert_eq!(found, files, "{}", table.record.name);
        let commits = of_kind(&table.location.join("_delta_log"), ".json");
        assert!(commits <= 4, "{}: {commits} commits", table.record.name);
        assert_eq!(of_kind(&table.location.join("_delta_log"), ".checkpoint.parquet"), 1, "{}", table.record.name);
    }
    drop(snapshot);
    driver.check();
    driver.reopen(false).await;
    driver.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_snapshot_reads_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(22, dir.path(), settings(0)).await;
    work(&mut driver, 2).await;
    let held = driver.warehouse.snapshot().unwrap();
    let files: Vec<PathBuf> = held.tables.values().flat_map(|t| t.files.iter().map(|f| f.path.clone())).collect();
    assert!(!files.is_empty());
    // A new generation of every table: all files of the old ones are superseded.
    for at in 0..driver.tables.len() {
        driver.build(at).await;
    }
    work(&mut driver, 1).await;
    assert!(files.iter().all(|f| f.exists()));
    drop(held);
    work(&mut driver, 1).await;
    assert_eq!(files.iter().filter(|f| f.exists()).count(), 0);
    for place in places(&driver) {
        assert_eq!(names(place.parent().unwrap()).len(), 1, "old generations of {}", place.display());
    }
    driver.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_the_retention_old_versions_stay_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(23, dir.path(), settings(3_600_000)).await;
    work(&mut driver, 8).await;
    let files = |driver: &Driver| -> Vec<BTreeSet<String>> {
        let kept = |n: &String| n.ends_with(".parquet") || n.ends_with(".bin");
        places(driver).iter().map(|p| names(p).into_iter().filter(kept).collect()).collect()
    };
    let (before, live) = (files(&driver), driver.warehouse.snapshot().unwrap().tables.values().map(|t| t.files.len()).sum());
    assert!(before.iter().map(BTreeSet::len).sum::<usize>() > live, "nothing was superseded");
    assert!(places(&driver).iter().all(|p| names(&p.join("_delta_log")).iter().any(|n| n.starts_with("00000000000000000000."))));
    // The second start reads tombstones from checkpoints that the first wrote.
    driver.reopen(true).await;
    assert_eq!(files(&driver), before);
    work(&mut driver, 4).await;
    let before = files(&driver);
    driver.reopen(false).await;
    assert_eq!(files(&driver), before);
    driver.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_source_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(24, dir.path(), settings(3_600_000)).await;
    work(&mut driver, 2).await;
    driver.build(0).await;
    let count = driver.tables.len();
    assert_eq!(names(&dir.path().join("tables")).len(), count);
    driver.warehouse.forget(&SourceName::new("shop").unwrap(), true).await.unwrap();
    assert_eq!(names(&dir.path().join("tables")), BTreeSet::new());
    assert_eq!(names(&dir.path().join("index")), BTreeSet::from(["seed".to_string()]));
    assert!(driver.warehouse.snapshot().unwrap().tables.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn barriers_that_no_start_needs_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(25, dir.path(), settings(0)).await;
    for _ in 0..400 {
        driver.barrier(Vec::new(), Vec::new(), Vec::new()).await;
    }
    driver.change().await;
    driver.check();
    driver.warehouse.flush(None).await.unwrap();
    let extent = |driver: &Driver| {
        let info = driver.log.partitions().into_iter().find(|p| &*p.at.topic == BARRIER_TOPIC).unwrap();
        (info.start, info.end)
    };
    driver.log.retain().await.unwrap();
    let (start, end) = extent(&driver);
    assert!(start > 0 && start < end, "barriers {start} to {end} are left");
    let seqs = driver.warehouse.snapshot().unwrap().seqs.clone();
    driver.reopen(false).await;
    assert_eq!(driver.warehouse.snapshot().unwrap().seqs, seqs);
    driver.check();
    driver.change().await;
    driver.check();
}
