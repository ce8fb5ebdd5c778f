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
