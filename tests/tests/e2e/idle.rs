//! An idle database beside a busy one: the slot must not hold back the busy one's log.

use crate::{World, value};
use mainstem_testkit::PostgresOptions;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn holds_no_wal_for_a_busy_neighbour() {
    let world = World::new(PostgresOptions::default());
    world.postgres.psql("shop", "CREATE TABLE quiet (id int PRIMARY KEY); INSERT INTO quiet VALUES (1)").unwrap();
    world.capture().await;
    world.postgres.create_database("busy").unwrap();
    world.postgres.psql("busy", "CREATE TABLE noise (id bigint, t text)").unwrap();
    let busy = world.postgres.connect("busy").await.unwrap();
    let written_from = value(&busy, "SELECT pg_current_wal_lsn()").await.unwrap();
    let retained = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots \
                    WHERE slot_name = 'mainstem_shop'";
    let deadline = Instant::now() + Duration::from_secs(90);
    let mut highest = 0;
    loop {
        busy.batch_execute("INSERT INTO noise SELECT g, repeat('n', 500) FROM generate_series(1, 5000) g").await.unwrap();
        let now: i64 = value(&busy, retained).await.unwrap().parse().unwrap();
        let written: i64 = value(&busy, &format!("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{written_from}')::bigint"))
            .await
            .unwrap()
            .parse()
            .unwrap();
        highest = highest.max(now);
        if written > 200 << 20 && now < written / 4 {
            println!("retained WAL: {now} bytes now, {highest} bytes at most, of {written} bytes written by the neighbour");
            break;
        }
        assert!(Instant::now() < deadline, "the slot of an idle database retains {now} of {written} bytes written beside it");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(world.compare().await.tables, 1);
}
