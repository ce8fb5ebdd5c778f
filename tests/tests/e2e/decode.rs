//! Nothing is decoded that was just encoded: live rows reach the tables without being read back from the log.

use crate::World;
use mainstem_testkit::{Mainstem, MainstemOptions, Postgres, PostgresOptions};

#[tokio::test(flavor = "multi_thread")]
async fn live_rows_are_not_decoded_a_second_time() {
    const DECODED: &str = "mainstem_envelope_decoded_records_total";
    let postgres = Postgres::start(PostgresOptions::default()).unwrap();
    postgres.create_database("shop").unwrap();
    // The usual flush interval: what comes after the copy is still hot at the kill.
    let mut world = World { postgres, mainstem: Mainstem::start(MainstemOptions::default()).unwrap() };
    world.postgres.psql("shop", "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (0, 'copied')").unwrap();
    world.capture().await;
    let before = world.mainstem.metric(DECODED).unwrap();
    let source = world.source().await;
    for id in 1..200 {
        source
            .batch_execute(&format!("INSERT INTO t VALUES ({id}, 'streamed'); UPDATE t SET v = 'twice' WHERE id = {id} / 2"))
            .await
            .unwrap();
    }
    assert_eq!(world.compare().await.rows, 200);
    assert_eq!(world.mainstem.metric(DECODED).unwrap(), before, "records were decoded from the log while the tail had them");
    // The counter does count: after a kill the rows come back from the log .
    source.batch_execute("INSERT INTO t SELECT g, 'more' FROM generate_series(1000, 1100) g").await.unwrap();
    world.wait().await;
    world.mainstem.kill().unwrap();
    world.mainstem.start_again().unwrap();
    assert_eq!(world.compare().await.rows, 301);
    assert!(world.mainstem.metric(DECODED).unwrap().is_some_and(|n| n > 0.0), "a replay decodes");
}
