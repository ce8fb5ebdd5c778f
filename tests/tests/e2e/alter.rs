//! ALTER SOURCE while the source runs: what it names takes effect, and the tables it does not name notice nothing.

use crate::{World, eventually, value};
use mainstem_testkit::PostgresOptions;
use mainstem_testkit::chaos::ChaosOptions;
use mainstem_testkit::compare::{Naming, compare_where};
use mainstem_testkit::mainstem::explain;

const RECONNECTS: &str = "mainstem_pipeline_reconnects_total";
const SENDER: &str = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'mainstem_shop'";

#[tokio::test(flavor = "multi_thread")]
async fn tables_come_and_go_in_the_running_stream() {
    let mut world = World::with_chaos(PostgresOptions::default()).await;
    let make = "CREATE TABLE late (id int PRIMARY KEY, v text); INSERT INTO late SELECT g, 'v' FROM generate_series(1, 1000) g; \
                CREATE TABLE extra (id int PRIMARY KEY); INSERT INTO extra VALUES (1)";
    world.postgres.psql("shop", make).unwrap();
    let client = world.mainstem.connect().await.unwrap();
    let create = format!("CREATE SOURCE shop FROM '{}' WITH (tables = '*.*, !public.late')", world.postgres.url("shop"));
    client.batch_execute(&create).await.map_err(explain).unwrap();
    world.wait().await;
    let source = world.source().await;
    let chaos = world.chaos(ChaosOptions { large_rows: 5000, truncate: false, ..Default::default() });
    let poller = world.poller();
    poller.checked(5).await.unwrap();
    let sender = value(&source, SENDER).await;
    let before = (world.mainstem.metric(RECONNECTS).unwrap(), poller.seen().refused);
    assert!(sender.is_some());

    client.batch_execute("ALTER SOURCE shop SET (tables = '*.*')").await.map_err(explain).unwrap();
    world.wait().await;
    assert_eq!(value(&client, "SELECT count(*) FROM shop.late").await.as_deref(), Some("1000"));
    world.postgres.psql("shop", "DELETE FROM late WHERE id <= 400").unwrap();
    world.wait().await;
    assert_eq!(value(&client, "SELECT count(*) FROM shop.late").await.as_deref(), Some("600"));

    client.batch_execute("ALTER SOURCE shop SET (tables = '*.*, !public.extra')").await.map_err(explain).unwrap();
    let state = "SELECT state FROM mainstem.source_tables WHERE source = 'shop' AND table_name = 'extra'";
    eventually(&client, state, |s| s == Some("excluded")).await;
    eventually(&client, "SELECT count(*) FROM mainstem.tables WHERE table_name = 'extra'", |n| n == Some("0")).await;
    let published = "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'extra'";
    assert_eq!(value(&source, published).await.as_deref(), Some("0"));

    // A list that names nothing is refused, and what was there holds.
    let refused = client.batch_execute("ALTER SOURCE shop SET (tables = '')").await.map_err(explain).unwrap_err().to_string();
    assert!(refused.contains("PG-016") && refused.contains("*.*"), "{refused}");

    poller.checked(5).await.unwrap();
    assert_eq!(value(&source, SENDER).await, sender, "the stream was opened anew");
    assert_eq!((world.mainstem.metric(RECONNECTS).unwrap(), poller.seen().refused), before, "others noticed");
    chaos.progress(50).await.unwrap();

    // What was declared last is there after a restart.
    world.mainstem.restart().unwrap();
    let client = world.mainstem.connect().await.unwrap();
    let shown = value(&client, "SHOW CREATE SOURCE shop").await.unwrap();
    assert!(shown.contains("'*.*, !public.extra'"), "{shown}");
    chaos.stop().await.unwrap();
    world.wait().await;
    compare_where(&source, &client, &Naming::Source("shop".into()), |t| t.name != "extra").await.unwrap();
    poller.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_options_open_the_source_anew() {
    let world = World::with_chaos(PostgresOptions::default()).await;
    let client = world.capture().await;
    let source = world.source().await;
    let sender = value(&source, SENDER).await;
    let chaos = world.chaos(ChaosOptions { large_rows: 0, ..Default::default() });
    client.batch_execute("ALTER SOURCE shop SET (bulk = 'false')").await.map_err(explain).unwrap();
    eventually(&source, SENDER, |pid| pid.is_some() && pid != sender.as_deref()).await;
    chaos.progress(50).await.unwrap();
    chaos.stop().await.unwrap();
    world.compare().await;
    // A paused source takes it as well.
    for statement in ["PAUSE SOURCE shop", "ALTER SOURCE shop SET (tables = '*.*, !public.keyed')", "RESUME SOURCE shop"] {
        client.batch_execute(statement).await.map_err(explain).unwrap();
    }
    world.wait().await;
    let gone = "SELECT count(*) FROM mainstem.tables WHERE table_name = 'keyed'";
    eventually(&client, gone, |n| n == Some("0")).await;
}
