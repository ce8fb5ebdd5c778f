//! The main job end to end: the real binary (`MAINSTEM_BIN`, or beside the test's own), a throw-away PostgreSQL, real clients.
//!
//! One program, so that it links once. A test is one promise to users: its name says which.
#![allow(clippy::disallowed_methods)] // tests run on the real clock and the real disk
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

mod alter;
mod bad_input;
mod damage;
mod ddl;
mod decode;
mod faults;
mod hostile;
mod idle;
mod kill;
mod large_tx;
mod many;
mod psql;
mod queries;
mod readers;
mod restart_source;
mod same_answers;
mod users;

use mainstem_testkit::chaos::{Chaos, ChaosOptions, create_tables};
use mainstem_testkit::compare::{Compared, Naming, compare};
use mainstem_testkit::mainstem::{explain, wait_for_source};
use mainstem_testkit::poller::Poller;
use mainstem_testkit::{Mainstem, MainstemOptions, Postgres, PostgresOptions};
use std::time::Duration;
use tokio_postgres::Client;

/// A source database `shop` on a Postgres of its own, and a server that will capture it as source `shop`.
struct World {
    postgres: Postgres,
    mainstem: Mainstem,
}

impl World {
    /// An empty database; the server flushes every second and merges files after every other flush, so that files, deletion vectors,
    /// compaction and replay all happen.
    fn new(postgres: PostgresOptions) -> Self {
        Self::with(postgres, MainstemOptions::default().flush_every_ms(1000).env("MAINSTEM_WAREHOUSE_COMPACT_FILES_MIN", "2"))
    }

    fn with(postgres: PostgresOptions, options: MainstemOptions) -> Self {
        let postgres = Postgres::start(postgres).unwrap();
        postgres.create_database("shop").unwrap();
        let mainstem = Mainstem::start(options).unwrap();
        Self { postgres, mainstem }
    }

    /// The tables of the random workload are there; nothing is captured yet.
    async fn with_chaos(postgres: PostgresOptions) -> Self {
        let world = Self::new(postgres);
        create_tables(&world.source().await).await.unwrap();
        world
    }

    async fn source(&self) -> Client {
        self.postgres.connect("shop").await.unwrap()
    }

    async fn create_source(&self) {
        let client = self.mainstem.connect().await.unwrap();
        let url = self.postgres.url("shop");
        client.batch_execute(&format!("CREATE SOURCE shop FROM '{url}'")).await.map_err(explain).unwrap();
    }

    async fn capture(&self) -> Client {
        self.mainstem.capture("shop", &self.postgres.url("shop")).await.unwrap()
    }

    fn chaos(&self, options: ChaosOptions) -> Chaos {
        Chaos::start(self.postgres.config("shop"), options)
    }

    fn poller(&self) -> Poller {
        Poller::start(self.mainstem.config(), Naming::Source("shop".into()))
    }

    async fn wait(&self) {
        let client = self.mainstem.connect().await.unwrap();
        wait_for_source(&client, "shop", Duration::from_secs(120)).await.unwrap();
    }

    /// Every table by content, after everything committed has arrived. Nothing may write meanwhile.
    async fn compare(&self) -> Compared {
        self.wait().await;
        let (source, copy) = (self.source().await, self.mainstem.connect().await.unwrap());
        match compare(&source, &copy, &Naming::Source("shop".into())).await {
            Ok(compared) => compared,
            Err(error) => panic!("the warehouse differs from its source:\n{error}"),
        }
    }
}

/// First column of the first row, as text; None when there is no row or it is NULL.
async fn value(client: &Client, sql: &str) -> Option<String> {
    let messages = client.simple_query(sql).await.map_err(explain).unwrap_or_else(|e| panic!("{sql}: {e}"));
    messages.iter().find_map(|m| match m {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    })?
}

/// Asks until the first value is as expected.
async fn eventually(client: &Client, sql: &str, expected: impl Fn(Option<&str>) -> bool) -> Option<String> {
    let mut last = None;
    for _ in 0..600 {
        last = value(client, sql).await;
        if expected(last.as_deref()) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{sql} stayed at {last:?} for a minute");
}
