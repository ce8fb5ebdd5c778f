//! Faults of the machine: a full disk, a stop at any moment.

use crate::{World, eventually, value};
use mainstem_testkit::PostgresOptions;
use mainstem_testkit::chaos::ChaosOptions;
use mainstem_testkit::mainstem::explain;
use std::time::Duration;

/// A reserve that no disk has: the log takes every append as one on a full disk.
const FULL: Option<&str> = Some("1000000000000000");
const RESERVE: &str = "MAINSTEM_LOG_DISK_RESERVE_BYTES";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_appends_and_serves_reads() {
    let mut world = World::with_chaos(PostgresOptions::default()).await;
    world.capture().await;
    let chaos = world.chaos(ChaosOptions { large_rows: 0, ..Default::default() });
    chaos.progress(50).await.unwrap();
    world.mainstem.kill().unwrap();
    world.mainstem.set_env(RESERVE, FULL);
    world.mainstem.start_again().unwrap();
    let client = world.mainstem.connect().await.unwrap();
    chaos.progress(50).await.unwrap();
    eventually(&client, "SELECT error_code FROM mainstem.sources", |code| code == Some("LOG-002")).await;
    assert_eq!(value(&client, "SELECT count(*) FROM shop.accounts").await.as_deref(), Some("100"));
    // What cannot be made durable is refused before anything on the source is touched.
    for refused in ["DROP SOURCE shop CASCADE", "PAUSE SOURCE shop"] {
        let error = client.batch_execute(refused).await.map_err(explain).expect_err(refused).to_string();
        assert!(error.contains("full"), "{refused}: {error}");
    }
    let slots = value(&world.source().await, "SELECT count(*) FROM pg_replication_slots").await;
    assert_eq!(slots.as_deref(), Some("1"), "the slot went with a DROP that was refused");
    assert_eq!(value(&client, "SELECT count(*) FROM shop.accounts").await.as_deref(), Some("100"));
    world.mainstem.kill().unwrap();
    world.mainstem.set_env(RESERVE, None);
    world.mainstem.start_again().unwrap();
    chaos.stop().await.unwrap();
    world.compare().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_cleanly_at_any_moment() {
    let mut world = World::with_chaos(PostgresOptions::default()).await;
    world.create_source().await;
    let chaos = world.chaos(ChaosOptions { large_rows: 5000, large_every: 20, ..Default::default() });
    for pause in [20, 100, 400, 900, 1300, 50] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        world.mainstem.restart().unwrap();
    }
    chaos.progress(20).await.unwrap();
    chaos.stop().await.unwrap();
    world.compare().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_tables_leave_no_files() {
    let world = World::new(PostgresOptions::default());
    world.postgres.psql("shop", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10000)").unwrap();
    let client = world.capture().await;
    let location = eventually(&client, "SELECT location FROM mainstem.tables WHERE files > 0", |l| l.is_some()).await.unwrap();
    assert!(std::path::Path::new(&location).is_dir());
    client.batch_execute("DROP SOURCE shop CASCADE").await.map_err(explain).unwrap();
    for _ in 0..100 {
        if !std::path::Path::new(&location).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{location} is still there ten seconds after the drop");
}

/// A process that was stopped keeps its connections and answers nothing; whoever drops the source does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_stands_still_can_be_dropped_and_stays_so() {
    let mut world = World::new(PostgresOptions::default());
    world.postgres.psql("shop", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").unwrap();
    let client = world.capture().await;
    let frozen = world.postgres.freeze();
    let dropped = tokio::time::timeout(Duration::from_secs(60), client.batch_execute("DROP SOURCE shop CASCADE")).await;
    dropped.expect("an answer").map_err(explain).unwrap();
    assert_eq!(value(&client, "SELECT count(*) FROM mainstem.sources").await.as_deref(), Some("0"));
    world.mainstem.kill().unwrap();
    world.mainstem.start_again().unwrap();
    let client = world.mainstem.connect().await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) FROM mainstem.sources").await.as_deref(), Some("0"));
    // What was left there is still ours when the name comes back.
    drop(frozen);
    world.capture().await;
    world.compare().await;
}
