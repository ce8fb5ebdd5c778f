//! Postgres restarts and crashes under load: the source goes on by itself, with the reason shown meanwhile.

use crate::{World, eventually, value};
use mainstem_testkit::chaos::ChaosOptions;
use mainstem_testkit::{PostgresOptions, StopMode};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_after_every_kind_of_stop() {
    let mut world = World::with_chaos(PostgresOptions { durable: true, ..Default::default() }).await;
    let client = world.capture().await;
    let chaos = world.chaos(ChaosOptions { large_rows: 5000, ..Default::default() });
    let poller = world.poller();
    for mode in [Some(StopMode::Fast), Some(StopMode::Immediate), None, None] {
        chaos.progress(100).await.unwrap();
        match mode {
            Some(mode) => world.postgres.stop(mode).unwrap(),
            None => world.postgres.kill().unwrap(),
        }
        eventually(&client, "SELECT state FROM mainstem.sources WHERE name = 'shop'", |s| s == Some("retrying")).await;
        let reason = value(&client, "SELECT error FROM mainstem.sources WHERE name = 'shop'").await;
        assert!(reason.is_some_and(|r| !r.is_empty()), "retrying without a reason");
        // What was there stays readable.
        assert_eq!(value(&client, "SELECT count(*) FROM shop.accounts").await.as_deref(), Some("100"));
        world.postgres.start_again().unwrap();
        eventually(&client, "SELECT state FROM mainstem.sources WHERE name = 'shop'", |s| s == Some("streaming")).await;
    }
    chaos.progress(50).await.unwrap();
    let counts = chaos.stop().await.unwrap();
    let compared = world.compare().await;
    let polled = poller.stop().await.unwrap();
    assert!(polled.checks > 20, "{counts:?} {compared:?} {polled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_and_resume_lose_nothing() {
    let world = World::with_chaos(PostgresOptions::default()).await;
    let client = world.capture().await;
    let chaos = world.chaos(ChaosOptions { large_rows: 0, ..Default::default() });
    chaos.progress(50).await.unwrap();
    client.batch_execute("PAUSE SOURCE shop").await.unwrap();
    let refused = client.batch_execute("WAIT FOR SOURCE shop").await.unwrap_err();
    assert!(refused.as_db_error().is_some_and(|e| e.message().contains("paused")), "{refused:?}");
    chaos.progress(100).await.unwrap();
    client.batch_execute("RESUME SOURCE shop").await.unwrap();
    chaos.progress(20).await.unwrap();
    chaos.stop().await.unwrap();
    tokio::time::timeout(Duration::from_secs(120), world.compare()).await.unwrap();
}

/// A volume put back to a snapshot of it: the place where reading stopped is still to come in the server's log.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_went_back_in_time_is_read_anew() {
    let mut world = World::new(PostgresOptions::default());
    let make = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'first' FROM generate_series(1, 100) g";
    world.postgres.psql("shop", make).unwrap();
    let client = world.capture().await;
    let state = "SELECT state FROM mainstem.sources WHERE name = 'shop'";
    world.postgres.stop(StopMode::Fast).unwrap();
    world.postgres.save().unwrap();
    world.postgres.start_again().unwrap();
    let vanishes = "UPDATE t SET v = 'vanished' WHERE id < 50; DELETE FROM t WHERE id > 90; \
                    INSERT INTO t SELECT g, repeat('vanished', 20) FROM generate_series(1000, 10000) g";
    world.postgres.psql("shop", vanishes).unwrap();
    world.compare().await;
    let head = world.postgres.psql("shop", "SELECT pg_current_wal_lsn()").unwrap();
    let acknowledged = format!("SELECT bool_and(confirmed_flush_lsn >= '{}') FROM pg_replication_slots", head.trim());
    eventually(&world.source().await, &acknowledged, |all| all == Some("t")).await;
    world.postgres.stop(StopMode::Fast).unwrap();
    eventually(&client, state, |s| s == Some("retrying")).await;
    world.postgres.go_back().unwrap();
    world.postgres.start_again().unwrap();
    world.postgres.psql("shop", "UPDATE t SET v = 'second' WHERE id % 3 = 0; INSERT INTO t VALUES (1000, 'second')").unwrap();
    eventually(&client, "SELECT v FROM shop.t WHERE id = 1000", |v| v == Some("second")).await;
    let compared = world.compare().await;
    world.postgres.psql("shop", "UPDATE t SET v = 'third' WHERE id % 5 = 0; DELETE FROM t WHERE id = 1").unwrap();
    assert_eq!(world.compare().await.tables, compared.tables);
}
