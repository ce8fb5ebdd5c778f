//! Commit to visible: a marker row is committed in Postgres and asked for in Mainstem until it is there, while a load runs.

use mainstem_testkit::postgres::connect;
use mainstem_testkit::{Mainstem, Postgres, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::SimpleQueryMessage;

const CONNECTIONS: u32 = 8;

/// Latencies in milliseconds, sorted, and the rate of commits that ran meanwhile.
pub async fn measure(postgres: &Postgres, mainstem: &Mainstem, rate: u32, seconds: u64) -> Result<(Vec<f64>, f64)> {
    let stopping = Arc::new(AtomicBool::new(false));
    let commits = Arc::new(AtomicU64::new(0));
    let mut load = Vec::new();
    for number in 0..CONNECTIONS {
        let client = connect(&postgres.config("bench")).await?;
        let (stopping, commits) = (stopping.clone(), commits.clone());
        load.push(tokio::spawn(async move {
            let statement = client.prepare("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = $1").await?;
            let mut due = Instant::now();
            let pause = Duration::from_secs_f64(f64::from(CONNECTIONS) / f64::from(rate));
            let mut aid = i32::try_from(number).unwrap_or(0) * 1000 + 1;
            while !stopping.load(Ordering::Relaxed) {
                client.execute(&statement, &[&aid]).await?;
                commits.fetch_add(1, Ordering::Relaxed);
                aid = aid % 90_000 + 17;
                due = (due + pause).max(Instant::now() - Duration::from_millis(100));
                tokio::time::sleep_until(due.into()).await;
            }
            Ok::<_, mainstem_testkit::Failure>(())
        }));
    }
    let (source, copy) = (connect(&postgres.config("bench")).await?, mainstem.connect().await?);
    let started = Instant::now();
    let mut latencies = Vec::new();
    let mut n = 0i64;
    let mut commits_before = 0;
    let mut measured_from = started;
    while started.elapsed() < Duration::from_secs(seconds + 2) {
        n += 1;
        source.execute("UPDATE marker SET n = $1", &[&n]).await?;
        let committed = Instant::now();
        while seen(&copy).await? < n {}
        // Two seconds to warm up.
        if started.elapsed() > Duration::from_secs(2) {
            if latencies.is_empty() {
                (commits_before, measured_from) = (commits.load(Ordering::Relaxed), Instant::now());
            }
            latencies.push(committed.elapsed().as_secs_f64() * 1000.0);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let achieved = (commits.load(Ordering::Relaxed) - commits_before) as f64 / measured_from.elapsed().as_secs_f64();
    stopping.store(true, Ordering::Relaxed);
    for task in load {
        task.await??;
    }
    latencies.sort_by(f64::total_cmp);
    Ok((latencies, achieved))
}

async fn seen(client: &tokio_postgres::Client) -> Result<i64> {
    for message in client.simple_query("SELECT n FROM b.marker").await.map_err(mainstem_testkit::mainstem::explain)? {
        if let SimpleQueryMessage::Row(row) = message {
            return Ok(row.get(0).unwrap_or("0").parse()?);
        }
    }
    Ok(-1)
}
