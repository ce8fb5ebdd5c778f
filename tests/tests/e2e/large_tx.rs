//! Transactions of 100,000 rows, sent by Postgres while they run (`logical_decoding_work_mem = 64kB`).

use crate::World;
use mainstem_testkit::PostgresOptions;
use mainstem_testkit::chaos::ChaosOptions;

#[tokio::test(flavor = "multi_thread")]
async fn streamed_transactions_arrive_whole() {
    let world = World::with_chaos(PostgresOptions::default().set("logical_decoding_work_mem", "64kB")).await;
    world.capture().await;
    let poller = world.poller();
    let options = ChaosOptions { large_rows: 100_000, large_every: 40, workers: 2, ..Default::default() };
    let chaos = world.chaos(options);
    while chaos.counts().large < 3 {
        chaos.progress(20).await.unwrap();
    }
    let counts = chaos.stop().await.unwrap();
    let compared = world.compare().await;
    let polled = poller.stop().await.unwrap();
    let blocks = world.mainstem.metric("mainstem_postgres_stream_blocks_total").unwrap();
    assert!(blocks.is_some_and(|n| n > 10.0), "stream blocks seen: {blocks:?}; {counts:?} {compared:?} {polled:?}");
    assert!(compared.rows > 100_000 && polled.checks > 5, "{compared:?} {polled:?}");
}
