//! kill -9 at random points and at every named one: nothing is lost, nothing twice, nobody sees a half transaction.

use crate::World;
use mainstem_testkit::PostgresOptions;
use mainstem_testkit::chaos::ChaosOptions;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

/// The LSN at the end of a position (`system/timeline/X/Y`) or alone (`X/Y`), as a number.
fn lsn(text: &str) -> Option<u64> {
    let mut parts = text.rsplit('/');
    let (low, high) = (parts.next()?, parts.next()?);
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
}

/// What the slot was told must be shown again after a restart.
async fn confirmed_is_shown(world: &World, confirmed: u64) {
    let client = world.mainstem.connect().await.unwrap();
    let position = crate::value(&client, "SELECT position FROM mainstem.sources WHERE name = 'shop'").await;
    let shown = position.as_deref().and_then(lsn).unwrap_or_else(|| panic!("no LSN in position {position:?}"));
    assert!(shown >= confirmed, "confirmed_flush_lsn was {confirmed:X}, a restart shows {shown:X}");
}

async fn confirmed_flush(world: &World) -> u64 {
    let source = world.source().await;
    let text =
        crate::value(&source, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'mainstem_shop'").await;
    lsn(&text.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_random_kills_under_load() {
    let mut world = World::with_chaos(PostgresOptions::default()).await;
    world.create_source().await;
    let chaos = world.chaos(ChaosOptions::default());
    let poller = world.poller();
    let mut random = StdRng::seed_from_u64(20);
    for kill in 0..20 {
        // The first ones meet the snapshot, later ones streaming, flush and recovery.
        let pause = if kill < 4 { random.random_range(10..400) } else { random.random_range(50..2500) };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        world.mainstem.kill().unwrap();
        let confirmed = if kill < 4 { 0 } else { confirmed_flush(&world).await };
        if kill % 5 == 4 {
            // Into the middle of recovery.
            world.mainstem.launch().unwrap();
            tokio::time::sleep(Duration::from_millis(random.random_range(5..150))).await;
            world.mainstem.kill().unwrap();
        }
        world.mainstem.start_again().unwrap();
        if kill >= 4 {
            confirmed_is_shown(&world, confirmed).await;
        } else if kill == 3 {
            world.wait().await;
        }
    }
    chaos.progress(50).await.unwrap();
    poller.checked(5).await.unwrap();
    let counts = chaos.stop().await.unwrap();
    let compared = world.compare().await;
    let polled = poller.stop().await.unwrap();
    println!("{counts:?} {compared:?} {polled:?}");
    assert!(counts.large > 0 && polled.checks > 20, "{counts:?} {polled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_named_point() {
    let mut world = World::with_chaos(PostgresOptions::default()).await;
    let limit = Duration::from_secs(60);
    // In mid-COPY, before anything was ever whole.
    world.mainstem.stop().unwrap();
    world.mainstem.set_env("MAINSTEM_FAILPOINT", Some("copy.mid"));
    world.mainstem.start_again().unwrap();
    // The server may be gone before it answers; what it was told is durable by then.
    let client = world.mainstem.connect().await.unwrap();
    let _ = client.batch_execute(&format!("CREATE SOURCE shop FROM '{}'", world.postgres.url("shop"))).await;
    hit(&mut world, "copy.mid", limit).await;
    world.mainstem.start_again().unwrap();
    world.wait().await;
    world.compare().await;

    let chaos = world.chaos(ChaosOptions::default());
    let poller = world.poller();
    let points = [
        ("ingest.after_append", 40),
        ("flush.after_parquet", 3),
        ("flush.after_dv", 2),
        ("flush.after_commit", 3),
        ("flush.before_floor", 2),
        ("compact.after_parquet", 1),
        ("compact.after_commit", 2),
    ];
    for (point, hits) in points {
        world.mainstem.kill().unwrap();
        world.mainstem.set_env("MAINSTEM_FAILPOINT", Some(&format!("{point}:{hits}")));
        world.mainstem.launch().unwrap();
        hit(&mut world, point, limit).await;
        let confirmed = confirmed_flush(&world).await;
        world.mainstem.start_again().unwrap();
        confirmed_is_shown(&world, confirmed).await;
        poller.checked(3).await.unwrap();
    }
    // During recovery: it needs something to replay, so the kill comes while the load runs.
    chaos.progress(100).await.unwrap();
    world.mainstem.kill().unwrap();
    world.mainstem.set_env("MAINSTEM_FAILPOINT", Some("replay.read"));
    world.mainstem.launch().unwrap();
    hit(&mut world, "replay.read", limit).await;
    world.mainstem.start_again().unwrap();

    chaos.progress(50).await.unwrap();
    chaos.stop().await.unwrap();
    let compared = world.compare().await;
    let polled = poller.stop().await.unwrap();
    assert!(polled.checks > 15, "{compared:?} {polled:?}");
}

/// Waits for the server to kill itself at the point, says that it did, and disarms it.
async fn hit(world: &mut World, point: &str, limit: Duration) {
    if let Err(error) = world.mainstem.wait_end(limit).await {
        panic!("failpoint {point} was never hit: {error}");
    }
    let log = world.mainstem.log();
    assert!(log.contains(&format!("failpoint {point} hit")), "ended, but not at {point}:\n{}", world.mainstem.log_tail());
    world.mainstem.set_env("MAINSTEM_FAILPOINT", None);
}
