//! Live tables against a plain model, under random changes, flushes, compactions, restarts and retention.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // a test reads the files that the warehouse wrote; it fails by panicking

mod support;

use mainstem_warehouse::{WarehouseSettings, metrics};
use rand::Rng;
use support::driver::Driver;

fn small() -> WarehouseSettings {
    WarehouseSettings {
        flush_interval_ms: 3_600_000,
        row_group_rows: 500,
        checkpoint_commits: 5,
        index_runs_max: 4,
        // What goes goes at once: whatever still needs it fails.
        file_retention_ms: 0,
        // Files are a few kilobytes here; they are to be merged often, and again.
        compact_file_bytes: 256 << 10,
        compact_files_min: 2,
        compact_dead_percent: 30,
        ..Default::default()
    }
}

async fn run(seed: u64, steps: usize, settings: WarehouseSettings) {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(seed, dir.path(), settings).await;
    driver.check();
    for step in 0..steps {
        match driver.random.random_range(0..100) {
            0..52 => driver.change().await,
            52..68 => driver.warehouse.flush(None).await.unwrap(),
            68..78 => driver.compact_beside_changes().await,
            78..82 => driver.log.retain().await.unwrap(),
            82..88 => {
                let clean = driver.random.random_bool(0.4);
                driver.reopen(clean).await;
            }
            88..91 => {
                let at = driver.random.random_range(0..driver.tables.len());
                driver.build(at).await;
            }
            91..95 => {
                let at = driver.random.random_range(0..driver.tables.len());
                driver.alter(at).await;
            }
            95..97 => std::fs::remove_dir_all(dir.path().join("index").join("1")).unwrap_or(()),
            _ => {}
        }
        if step % 3 == 0 || step + 1 == steps {
            driver.check();
        }
    }
    driver.reopen(true).await;
    driver.check();
}

/// What a generation has not committed must be in the log, also while the one before it is flushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_generation_keeps_its_log_until_it_is_committed() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let mut driver = Driver::start(seed, dir.path(), small()).await;
        driver.change().await;
        driver.warehouse.flush(None).await.unwrap();
        for at in 0..driver.tables.len() {
            driver.build_of(at, 20).await;
            driver.log.retain().await.unwrap();
        }
        driver.reopen(false).await;
        driver.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_equal_the_model() {
    for seed in 1..=8 {
        eprintln!("seed {seed}");
        run(seed, 50, small()).await;
    }
    assert!(metrics::COMPACTIONS.get() > 20, "{} compactions test nothing", metrics::COMPACTIONS.get());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_equal_the_model_when_memory_is_short() {
    eprintln!("seed 100");
    run(100, 30, WarehouseSettings { hot_bytes_max: 150_000, copy_bytes_max: 100_000, ..small() }).await;
    eprintln!("seed 101");
    run(101, 30, WarehouseSettings { memory_bytes_max: 400_000, ..small() }).await;
}
