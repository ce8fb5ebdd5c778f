//! A source with hundreds of small tables: they are copied together, over few connections, and each is as right as if it were alone.

use crate::{World, eventually, value};
use mainstem_testkit::PostgresOptions;
use mainstem_testkit::compare::{Naming, compare_where};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

const TABLES: usize = 300;
/// Control, walsender, three sessions that copy, and one more for each of the two that may read a large table; nothing grows with the
/// number of tables.
const SESSIONS_MAX: i64 = 7;

/// Empty ones, ones without a key, and one that is large beside them.
fn tables() -> String {
    let mut sql = String::from(
        "CREATE TABLE large (id int PRIMARY KEY, v text);
        INSERT INTO large SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 6000) g;",
    );
    for t in 0..TABLES {
        let key = if t % 50 == 7 { "" } else { "PRIMARY KEY" };
        sql += &format!(
            "CREATE TABLE t{t} (id int {key}, v text); INSERT INTO t{t} SELECT g, 'v' FROM generate_series(1, {}) g;",
            t % 4
        );
    }
    sql
}

/// Writes to several tables in one transaction, again and again, and notes how many sessions of ours there are.
struct Load {
    stopping: Arc<AtomicBool>,
    sessions: Arc<AtomicI64>,
    task: JoinHandle<i64>,
}

impl Load {
    fn start(client: Client) -> Self {
        let (stopping, sessions) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (stop, most) = (stopping.clone(), sessions.clone());
        let task = tokio::spawn(async move {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let n = 1000 + rounds;
                let table = |step: i64| (rounds * 7 + step * 31) as usize % TABLES;
                let statements: Vec<String> = (0..6)
                    .map(|step| match step {
                        0..=3 => format!("INSERT INTO t{} VALUES ({n}, 'new')", table(step)),
                        4 => format!("UPDATE large SET v = v || '.' WHERE id = {}", 1 + rounds % 6000),
                        _ => format!("DELETE FROM t{} WHERE id = 2", (table(1) / 50) * 50 + 2),
                    })
                    .collect();
                client.batch_execute(&format!("BEGIN; {}; COMMIT", statements.join("; "))).await.unwrap();
                let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mainstem shop'";
                most.fetch_max(value(&client, ours).await.unwrap().parse().unwrap(), Ordering::Relaxed);
                rounds += 1;
            }
            rounds
        });
        Self { stopping, sessions, task }
    }

    async fn stop(self) -> (i64, i64) {
        self.stopping.store(true, Ordering::Relaxed);
        (self.task.await.unwrap(), self.sessions.load(Ordering::Relaxed))
    }
}

fn count(state: &str) -> String {
    format!("SELECT count(*) FROM mainstem.source_tables WHERE source = 'shop' AND state = '{state}'")
}

fn at_least(n: usize) -> impl Fn(Option<&str>) -> bool {
    move |shown| shown.is_some_and(|s| s.parse::<usize>().unwrap() >= n)
}

#[tokio::test(flavor = "multi_thread")]
async fn are_copied_together_and_each_is_right() {
    let mut world = World::new(PostgresOptions::default());
    world.postgres.psql("shop", &tables()).unwrap();
    // Among the others, one whose values cannot be held: it fails alone.
    world
        .postgres
        .psql("shop", "CREATE TABLE misfit (id int PRIMARY KEY, n numeric(5,2)); INSERT INTO misfit VALUES (1, 'NaN')")
        .unwrap();
    let load = Load::start(world.source().await);
    world.create_source().await;
    // Killed while some are live and some are not.
    let client = world.mainstem.connect().await.unwrap();
    eventually(&client, &count("streaming"), at_least(20)).await;
    world.mainstem.kill().unwrap();
    world.mainstem.start_again().unwrap();
    let client = world.mainstem.connect().await.unwrap();
    eventually(&client, &count("streaming"), at_least(TABLES + 1)).await;
    let (rounds, sessions) = load.stop().await;
    assert!(rounds > 10 && sessions <= SESSIONS_MAX, "{rounds} rounds, {sessions} sessions");
    world.wait().await;
    assert_eq!(value(&client, &count("failed")).await.as_deref(), Some("1"));
    let same = compare_where(&world.source().await, &client, &Naming::Source("shop".into()), |t| t.name != "misfit").await;
    let compared = same.unwrap_or_else(|error| panic!("the warehouse differs from its source:\n{error}"));
    assert_eq!(compared.tables as usize, TABLES + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_locked_again_and_again_holds_up_no_other() {
    let world = World::new(PostgresOptions::default());
    world.postgres.psql("shop", &tables()).unwrap();
    let client = world.capture().await;
    let (application, stop) = (world.source().await, Arc::new(AtomicBool::new(false)));
    let locked = Arc::new(AtomicI64::new(0));
    let locking = tokio::spawn({
        let (stop, locked) = (stop.clone(), locked.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                application.batch_execute("BEGIN; LOCK TABLE t150; SELECT pg_sleep(0.03); COMMIT").await.unwrap();
                tokio::time::sleep(Duration::from_millis(3)).await;
                locked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    while locked.load(Ordering::Relaxed) < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.batch_execute("RESYNC SOURCE shop").await.unwrap();
    // What was there stays readable meanwhile.
    assert_eq!(value(&client, "SELECT count(*) FROM shop.t150").await.as_deref(), Some("2"));
    eventually(&client, &count("streaming"), at_least(TABLES + 1)).await;
    stop.store(true, Ordering::Relaxed);
    locking.await.unwrap();
    world.compare().await;
}
