//! Outside readers (deltalake, duckdb, polars) see the same rows in the table's directory as Mainstem serves.

use crate::{World, eventually, value};
use mainstem_testkit::chaos::{ChaosOptions, create_tables};
use mainstem_testkit::{MainstemOptions, PostgresOptions};
use std::path::Path;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn read_the_same_rows_after_every_flush() {
    // Files are merged as rarely as by default, so that deletion vectors are there to be read.
    let world = World::with(PostgresOptions::default(), MainstemOptions::default().flush_every_ms(1000));
    create_tables(&world.source().await).await.unwrap();
    let client = world.capture().await;
    let python = std::env::var("MAINSTEM_TEST_PYTHON").expect("MAINSTEM_TEST_PYTHON: `cargo xtask test` makes and names it");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/readers.py");
    for round in 0..3 {
        let chaos = world.chaos(ChaosOptions { seed: 50 + round, large_rows: 3000, large_every: 100, ..Default::default() });
        chaos.progress(200).await.unwrap();
        chaos.stop().await.unwrap();
        world.compare().await;
        // All is quiet: the next flush leaves nothing hot.
        eventually(&client, "SELECT sum(hot_rows) FROM mainstem.tables", |n| n == Some("0")).await;
        let output = Command::new(&python).arg(&script).args([&world.mainstem.url(), "shop.animal"]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "round {round}: {printed}\n{errors}");
        println!("{printed}");
    }
    let deleted = value(&client, "SELECT sum(deleted_rows) FROM mainstem.tables").await;
    assert!(deleted.is_some_and(|n| n != "0"), "no deletion vector was ever read");
}
