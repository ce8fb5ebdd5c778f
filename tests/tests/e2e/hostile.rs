//! What a user can do to a source while it works: pause it over and over, drop its slot or publication by hand, drop and make it again.

use crate::{World, eventually, value};
use mainstem_testkit::mainstem::{ADMIN_PASSWORD, explain};
use mainstem_testkit::{Mainstem, MainstemOptions, PostgresOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 1000) g; \
                      CREATE TABLE notes (a bigint, b text); INSERT INTO notes SELECT g, 'n' FROM generate_series(1, 100) g; \
                      CREATE TABLE bag (a bigint, b text); ALTER TABLE bag REPLICA IDENTITY FULL";
const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";
const PUBLICATIONS: &str = "SELECT count(*) FROM pg_publication";

async fn world() -> World {
    let world = World::new(PostgresOptions::default());
    world.postgres.psql("shop", TABLES).unwrap();
    world
}

/// Something done over and over until it is stopped.
struct Loop {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Loop {
    /// Small transactions: rows in a table without identity, in one under FULL, and an update.
    async fn writer(world: &World, first: i64) -> Self {
        let client = world.source().await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                let a = first + n as i64;
                let text = format!(
                    "BEGIN; INSERT INTO notes VALUES ({a}, repeat('x', 500)), ({a}, 'y'); INSERT INTO bag VALUES ({a}, 'b'), ({a}, 'b'); \
                     DELETE FROM bag WHERE a = {}; UPDATE t SET v = '{a}' WHERE id = {}; COMMIT",
                    a - 50,
                    a % 1000 + 1
                );
                client.batch_execute(&text).await.unwrap();
                n += 1;
            }
            n
        });
        Self { stop, task }
    }

    /// Asks for the rows of a table; they are never fewer than `least`.
    async fn reader(world: &World, table: &str, least: i64) -> Self {
        let client = world.mainstem.connect().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, sql) = (stop.clone(), format!("SELECT count(*) FROM {table}"));
        let task = tokio::spawn(async move {
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                let rows: i64 = value(&client, &sql).await.unwrap().parse().unwrap();
                assert!(rows >= least, "{sql}: {rows}, after {n} rounds");
                n += 1;
            }
            n
        });
        Self { stop, task }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pausing_under_load_doubles_nothing() {
    let mut world = world().await;
    let client = world.capture().await;
    let writers = [Loop::writer(&world, 1_000_000).await, Loop::writer(&world, 2_000_000).await];
    for round in 0..80_u64 {
        client.batch_execute("PAUSE SOURCE shop").await.map_err(explain).unwrap();
        client.batch_execute("RESUME SOURCE shop").await.map_err(explain).unwrap();
        tokio::time::sleep(Duration::from_millis(round * 7 % 50)).await;
        if round % 20 == 0 {
            client.batch_execute("ALTER SOURCE shop SET (tables = 'public.*')").await.map_err(explain).unwrap();
        }
    }
    for writer in writers {
        assert!(writer.stop().await > 50);
    }
    world.compare().await;
    // And the log says the same.
    world.mainstem.kill().unwrap();
    world.mainstem.start_again().unwrap();
    world.compare().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_on_the_source_heals() {
    let world = world().await;
    let client = world.capture().await;
    let healed = async |what: &str| {
        let reader = Loop::reader(&world, "shop.t", 500).await;
        // Rows that go while nothing can tell us: a rebuild that only adds would keep them.
        world
            .postgres
            .psql("shop", "DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT 20); INSERT INTO notes VALUES (7, 'new')")
            .unwrap();
        eventually(&client, "SELECT state FROM mainstem.sources", |s| s == Some("streaming")).await;
        tokio::time::timeout(Duration::from_secs(60), world.compare()).await.unwrap_or_else(|_| panic!("{what}: never healed"));
        assert!(reader.stop().await > 0);
    };
    for publication in ["mainstem_shop", "mainstem_shop_append"] {
        world.postgres.psql("shop", &format!("DROP PUBLICATION {publication}")).unwrap();
        healed(publication).await;
    }
    // Missing for longer than a look at the catalog takes, without a change that would show it.
    world.postgres.psql("shop", "DROP PUBLICATION mainstem_shop").unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    healed("a publication that came back").await;

    client.batch_execute("PAUSE SOURCE shop").await.unwrap();
    let sql = "SELECT pg_drop_replication_slot('mainstem_shop')";
    let mut dropped = world.postgres.psql("shop", sql);
    for _ in 0..50 {
        if dropped.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        dropped = world.postgres.psql("shop", sql);
    }
    dropped.unwrap();
    world.postgres.psql("shop", "DELETE FROM t WHERE id > 900").unwrap();
    client.batch_execute("RESUME SOURCE shop").await.unwrap();
    healed("the slot").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_dropped_and_made_again() {
    let mut world = world().await;
    let client = world.capture().await;
    let (slots, publications) = (world.source().await, world.source().await);
    let left = async || (value(&slots, SLOTS).await.unwrap(), value(&publications, PUBLICATIONS).await.unwrap());
    assert_eq!(left().await, ("1".into(), "2".into()));
    let writer = Loop::writer(&world, 1_000_000).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.batch_execute("DROP SOURCE shop KEEP DATA").await.map_err(explain).unwrap();
    assert_eq!(left().await, ("0".into(), "0".into()), "left behind on the source");
    world.mainstem.kill().unwrap();
    world.mainstem.start_again().unwrap();
    let client = world.mainstem.connect().await.unwrap();
    assert_eq!(value(&client, "SELECT count(*) FROM shop.t").await.as_deref(), Some("1000"));
    world.postgres.psql("shop", "DELETE FROM t WHERE id <= 100").unwrap();
    world.create_source().await;
    world.wait().await;
    writer.stop().await;
    world.compare().await;
    world.mainstem.kill().unwrap();
    world.mainstem.start_again().unwrap();
    world.compare().await;

    let client = world.mainstem.connect().await.unwrap();
    client.batch_execute("DROP SOURCE shop CASCADE").await.map_err(explain).unwrap();
    assert_eq!(left().await, ("0".into(), "0".into()), "left behind on the source");
    assert!(client.simple_query("SELECT count(*) FROM shop.t").await.is_err());
    world.mainstem.restart().unwrap();
    world.capture().await;
    world.compare().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_made_is_left_alone() {
    let world = world().await;
    let client = world.mainstem.connect().await.unwrap();
    let url = world.postgres.url("shop");
    world.postgres.psql("shop", "SELECT pg_create_logical_replication_slot('mainstem_other', 'pgoutput')").unwrap();
    world.postgres.psql("shop", "CREATE PUBLICATION mainstem_third FOR TABLE t").unwrap();
    for name in ["other", "third"] {
        let created = client.batch_execute(&format!("CREATE SOURCE {name} FROM '{url}'")).await.map_err(explain);
        let error = created.expect_err("took what others made").to_string();
        assert!(error.contains("was not made by this data directory"), "{error}");
    }
    // A second server with the same source name must not take the first one's place.
    world.capture().await;
    let second = Mainstem::start(MainstemOptions::default()).unwrap();
    let elsewhere = second.connect().await.unwrap();
    assert!(elsewhere.batch_execute(&format!("CREATE SOURCE shop FROM '{url}'")).await.is_err());
    let source = world.source().await;
    assert_eq!(value(&source, SLOTS).await.as_deref(), Some("2"));
    assert_eq!(value(&source, PUBLICATIONS).await.as_deref(), Some("3"));
    world.compare().await;
}

/// VACUUM, ANALYZE and CREATE INDEX CONCURRENTLY hold the lock that a change of publications needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_a_table_takes_it_away_from_nobody() {
    let world = world().await;
    let client = world.capture().await;
    world.compare().await;
    client.batch_execute("PAUSE SOURCE shop").await.unwrap();
    world.postgres.psql("shop", "ALTER TABLE notes ADD PRIMARY KEY (a)").unwrap();
    let holder = world.source().await;
    holder.batch_execute("BEGIN; LOCK TABLE notes IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    client.batch_execute("RESUME SOURCE shop").await.unwrap();
    for row in 101..=103 {
        world.postgres.psql("shop", &format!("INSERT INTO notes VALUES ({row}, 'n')")).unwrap();
        world.wait().await; // looks at the catalog, and at the publications if something is due
        assert_eq!(value(&client, "SELECT count(*) FROM shop.notes").await, Some(row.to_string()));
    }
    world.postgres.psql("shop", "UPDATE notes SET b = 'changed' WHERE a = 1").unwrap();
    holder.batch_execute("ROLLBACK").await.unwrap();
    eventually(&client, "SELECT b FROM shop.notes WHERE a = 1", |b| b == Some("changed")).await;
    world.postgres.psql("shop", "UPDATE notes SET b = 'again' WHERE a = 2; DELETE FROM notes WHERE a = 3").unwrap();
    world.compare().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_change_places() {
    let world = world().await;
    let tables = "CREATE TABLE left_one (id int PRIMARY KEY, v text); CREATE TABLE right_one (id int PRIMARY KEY, v text); \
                  INSERT INTO left_one VALUES (1, 'left'); INSERT INTO right_one VALUES (1, 'right')";
    world.postgres.psql("shop", tables).unwrap();
    world.capture().await;
    let steps = [
        "BEGIN; ALTER TABLE left_one RENAME TO aside; ALTER TABLE right_one RENAME TO left_one; ALTER TABLE aside RENAME TO right_one; \
         INSERT INTO left_one VALUES (2, 'new'); UPDATE right_one SET v = 'moved'; COMMIT",
        "BEGIN; ALTER TABLE left_one RENAME TO old_one; CREATE TABLE left_one (LIKE old_one INCLUDING ALL); \
         INSERT INTO left_one VALUES (7, 'fresh'); INSERT INTO old_one VALUES (8, 'old'); COMMIT",
        "BEGIN; DROP TABLE old_one; CREATE TABLE old_one (id text PRIMARY KEY); INSERT INTO old_one VALUES ('x'); COMMIT",
    ];
    for step in steps {
        world.postgres.psql("shop", step).unwrap();
        world.compare().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_shows_nowhere() {
    const CANARY: &str = "c4n4ry-5ecret";
    let world = world().await;
    world.postgres.psql("shop", &format!("CREATE ROLE app SUPERUSER LOGIN PASSWORD '{CANARY}'")).unwrap();
    let url = world.postgres.url_as("app", CANARY, "shop");
    let client = world.mainstem.connect().await.unwrap();
    client.batch_execute(&format!("CREATE SOURCE shop FROM '{url}'")).await.map_err(explain).unwrap();
    world.wait().await;
    let mistakes = [
        format!("CREATE SOURCE other FRM '{url}'"),
        format!("CREATE SOURCE other FROM '{url}"),
        format!("CREATE SOURCE other FROM '{url}' WITH (tables = )"),
        format!("CREATE SOURCE other FROM '{url}' WITH (nosuch = 'x')"),
        format!("CREATE SOURCE other FROM '{}'", url.replace("postgres", "postgrs")),
        format!("CREATE SOURCE other FROM '{url}_nosuch'"),
    ];
    for mistake in mistakes {
        let error = client.batch_execute(&mistake).await.expect_err("a mistake that passes");
        let error = error.as_db_error().expect("an answer of the server");
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
        // psql prints the line that a position points into.
        assert!(error.position().is_none(), "a caret would show the password: {error:?}");
    }
    for sql in ["SHOW CREATE SOURCE shop", "SELECT * FROM mainstem.sessions", "SELECT * FROM mainstem.sources", "SHOW SOURCES"] {
        let shown = format!("{:?}", client.simple_query(sql).await.unwrap());
        assert!(!shown.contains(CANARY), "{sql}: {shown}");
    }
    assert!(!world.mainstem.get("/metrics").unwrap().1.contains(CANARY));
    let log = world.mainstem.log();
    assert!(!log.contains(CANARY) && !log.contains(ADMIN_PASSWORD), "in the log:\n{log}");
    let found = std::process::Command::new("grep").args(["-rlaF", CANARY]).arg(world.mainstem.data_directory()).output().unwrap();
    assert!(found.stdout.is_empty(), "in the data: {}", String::from_utf8_lossy(&found.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_tables_do_not_stop_others() {
    let mut world = world().await;
    world.postgres.psql("shop", "CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES").unwrap();
    world.create_source().await;
    world.wait().await;
    let client = world.mainstem.connect().await.unwrap();
    let state = "SELECT state FROM mainstem.source_tables WHERE table_name = 'nothing'";
    assert_eq!(value(&client, state).await.as_deref(), Some("excluded"));
    assert_eq!(value(&client, "SELECT count(*) FROM shop.t").await.as_deref(), Some("1000"));
    world.mainstem.restart().unwrap();
    let client = world.mainstem.connect().await.unwrap();
    assert!(client.simple_query("SELECT count(*) FROM shop.nothing").await.is_err(), "it shows rows that it does not have");
    // With a column it is a table like others.
    world.postgres.psql("shop", "ALTER TABLE nothing ADD COLUMN a int DEFAULT 5").unwrap();
    world.wait().await;
    world.compare().await;
}
