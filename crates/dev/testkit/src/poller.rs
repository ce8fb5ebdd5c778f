//! A reader that asks, while the random workload runs, for what must be true in every snapshot: nobody may see a half transaction, and
//! nobody may see the past after the present.

use crate::compare::Naming;
use crate::postgres::connect;
use crate::{Failure, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, SimpleQueryMessage};

/// What the poller saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Polled {
    /// Rounds in which all invariants were read and held.
    pub checks: u64,
    /// Queries that failed: the server was down, or a table was being copied.
    pub refused: u64,
    /// The highest number of `tick_head` seen.
    pub ticks: i64,
}

#[derive(Default)]
struct Shared {
    checks: AtomicU64,
    refused: AtomicU64,
    ticks: AtomicI64,
    stopping: AtomicBool,
}

/// A running reader. `stop` it to learn what it saw.
pub struct Poller {
    shared: Arc<Shared>,
    task: JoinHandle<Result<()>>,
}

impl Poller {
    /// Reads the tables of `chaos.sql` where `naming` says they are. Lost connections are taken up again.
    pub fn start(config: Config, naming: Naming) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(poll(config, naming, shared.clone()));
        Self { shared, task }
    }

    pub fn seen(&self) -> Polled {
        let s = &self.shared;
        Polled {
            checks: s.checks.load(Ordering::Relaxed),
            refused: s.refused.load(Ordering::Relaxed),
            ticks: s.ticks.load(Ordering::Relaxed),
        }
    }

    /// Waits for so many more rounds; fails when an invariant was broken or none comes within a minute.
    pub async fn checked(&self, rounds: u64) -> Result<()> {
        let goal = self.seen().checks + rounds;
        for _ in 0..6000 {
            if self.seen().checks >= goal {
                return Ok(());
            }
            if self.task.is_finished() {
                return Err("the poller has ended; stop() says why".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("the poller does not get on: {:?}", self.seen()).into())
    }

    /// Fails with the first broken invariant.
    pub async fn stop(self) -> Result<Polled> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let seen = self.shared.clone();
        self.task.await??;
        let s = &seen;
        Ok(Polled {
            checks: s.checks.load(Ordering::Relaxed),
            refused: s.refused.load(Ordering::Relaxed),
            ticks: s.ticks.load(Ordering::Relaxed),
        })
    }
}

/// A query over one snapshot, and what its single row has to be.
struct Invariant {
    sql: String,
    expected: &'static [&'static str],
}

fn invariants(naming: &Naming) -> [Invariant; 2] {
    let t = |name: &str| naming.of("public", name);
    [
        Invariant {
            sql: format!("SELECT sum(balance) AS accounts_sum, count(*) AS accounts FROM {}", t("accounts")),
            expected: &["100000.00", "100"],
        },
        Invariant {
            sql: format!(
                "SELECT count(*) AS pairs_torn FROM {} l FULL JOIN {} r ON l.id = r.id WHERE l.id IS NULL OR r.id IS NULL OR l.v <> r.v",
                t("pair_left"),
                t("pair_right")
            ),
            expected: &["0"],
        },
    ]
}

async fn poll(config: Config, naming: Naming, shared: Arc<Shared>) -> Result<()> {
    let invariants = invariants(&naming);
    let ticks = format!(
        "SELECT (SELECT max(n) FROM {0}) AS head, (SELECT count(*) FROM {1}) AS logged, (SELECT coalesce(max(n), 0) FROM {1}) AS last",
        naming.of("public", "tick_head"),
        naming.of("public", "tick_log")
    );
    while !shared.stopping.load(Ordering::Relaxed) {
        let Ok(client) = connect(&config).await else {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !shared.stopping.load(Ordering::Relaxed) && !client.is_closed() {
            if let Err(refusal) = round(&client, &invariants, &ticks, &shared).await? {
                let _ = refusal;
                shared.refused.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Outer error: an invariant is broken. Inner error: a query was refused.
async fn round(client: &Client, invariants: &[Invariant], ticks: &str, shared: &Shared) -> Result<Result<()>> {
    for invariant in invariants {
        let row = match single_row(client, &invariant.sql).await {
            Ok(row) => row,
            Err(error) => return Ok(Err(error)),
        };
        if row != invariant.expected {
            return Err(format!("a torn snapshot: {} gave {row:?}, expected {:?}", invariant.sql, invariant.expected).into());
        }
    }
    let row = match single_row(client, ticks).await {
        Ok(row) => row,
        Err(error) => return Ok(Err(error)),
    };
    if row.iter().any(|value| value != &row[0]) {
        return Err(format!("a torn snapshot: tick_head, count and maximum of tick_log are {row:?}").into());
    }
    let head: i64 = row[0].parse()?;
    let before = shared.ticks.fetch_max(head, Ordering::Relaxed);
    if head < before {
        return Err(format!("back in time: tick_head was seen at {before} and is at {head} now").into());
    }
    shared.checks.fetch_add(1, Ordering::Relaxed);
    Ok(Ok(()))
}

async fn single_row(client: &Client, sql: &str) -> Result<Vec<String>> {
    for message in client.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            return Ok((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect());
        }
    }
    Err(Failure::from("no row"))
}
