//! Queries keep to their bounds: a stopped one stops working, a large one spills or says so, a long one keeps its files.

use crate::{World, eventually, value};
use mainstem_testkit::mainstem::explain;
use mainstem_testkit::{Mainstem, MainstemOptions, PostgresOptions};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// Clock ticks of the processor that the server has used.
fn ticks(mainstem: &Mainstem) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", mainstem.pid().unwrap())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Waits until the server computes nothing any more: no query is counted as running, and half a second costs next to nothing.
async fn quiet(mainstem: &Mainstem, after: &str) {
    let mut before = ticks(mainstem);
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = ticks(mainstem);
        if mainstem.metric("mainstem_query_running").unwrap() == Some(0.0) && now - before <= 10 {
            return;
        }
        before = now;
    }
    panic!("the server still computes a minute after {after}");
}

/// Waits until the server has worked for a while.
async fn busy(mainstem: &Mainstem) {
    let start = ticks(mainstem);
    while ticks(mainstem) < start + 30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Work for hours, in operators that pause in different ways: many rows, no rows, recursion, a probe without a match, an aggregate.
const ENDLESS: &[&str] = &[
    "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 30000) b, generate_series(1, 30000) c WHERE a + b + c > 7",
    "SELECT count(*) FROM generate_series(1, 900000) a, generate_series(1, 900000) b WHERE a + b < 0",
    "SELECT count(*) FROM generate_series(1, 400000) a JOIN generate_series(1, 400000) b ON a % 1 = b % 1 AND a + b < 0",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT (n + 1) % 1000 FROM t) SELECT count(*) FROM t",
    "SELECT sum(length(md5(a::text || b::text))) FROM generate_series(1, 300000) a, generate_series(1, 300000) b",
];

#[tokio::test(flavor = "multi_thread")]
async fn stop_working_when_they_are_stopped() {
    let mainstem = Mainstem::start(MainstemOptions::default()).unwrap();
    for statement in ENDLESS {
        // Cancelled.
        let client = mainstem.connect().await.unwrap();
        let token = client.cancel_token();
        let running = tokio::spawn(async move { client.simple_query(statement).await.map(drop) });
        busy(&mainstem).await;
        token.cancel_query(NoTls).await.unwrap();
        let error = running.await.unwrap().unwrap_err();
        assert_eq!(error.code().map(|c| c.code()), Some("57014"), "{statement}: {error:?}");
        quiet(&mainstem, &format!("a cancel of {statement}")).await;
    }
    // Out of time.
    let client = mainstem.connect().await.unwrap();
    client.batch_execute("SET statement_timeout = 300").await.unwrap();
    let error = client.simple_query(ENDLESS[1]).await.unwrap_err();
    assert_eq!(error.code().map(|c| c.code()), Some("57014"), "{error:?}");
    quiet(&mainstem, "a timeout").await;
    // The client went away.
    let (client, connection) = mainstem.config().connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let running = tokio::spawn(async move { client.simple_query(ENDLESS[0]).await.map(drop) });
    busy(&mainstem).await;
    connection.abort();
    running.abort();
    quiet(&mainstem, "its client went away").await;
    // Stopped by another session.
    let client = mainstem.connect().await.unwrap();
    client.batch_execute("SET application_name = 'endless'").await.unwrap();
    let running = tokio::spawn(async move { client.simple_query(ENDLESS[2]).await.map(drop) });
    busy(&mainstem).await;
    let other = mainstem.connect().await.unwrap();
    let stop =
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()";
    assert_eq!(value(&other, stop).await.as_deref(), Some("t"));
    assert_eq!(running.await.unwrap().unwrap_err().code().map(|c| c.code()), Some("57014"));
    quiet(&mainstem, "pg_cancel_backend").await;
}

/// The most memory that the server ever had, in MiB.
fn memory_peak_mib(mainstem: &Mainstem) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mainstem.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_to_their_memory() {
    let config = "[query]\nmemory_bytes_max = 67108864\npartitions = 2\n";
    let options = MainstemOptions { config: Some(config.into()), ..Default::default() };
    let mainstem = Mainstem::start(options).unwrap();
    let client = mainstem.connect().await.unwrap();
    // 2,000,000 rows of 100 bytes and more are three times the limit: sorted, grouped and joined they go to disk.
    let rows = "SELECT x, md5(x::text) AS m, repeat('z', 64) AS z FROM generate_series(1, 2000000) x";
    let top = value(&client, "SELECT max(md5(x::text)) FROM generate_series(1, 2000000) x").await;
    let sorted = format!("SELECT m FROM ({rows}) q ORDER BY z, m OFFSET 1999999");
    assert_eq!(value(&client, &sorted).await, top);
    let grouped = format!("SELECT max(m) FROM (SELECT m, max(z), count(*) FROM ({rows}) q GROUP BY m HAVING count(*) = 1) g");
    assert_eq!(value(&client, &grouped).await, top);
    // A join of two large sides is joined by sorting, or says what is wrong and what to do.
    let joined = format!("SELECT count(b.z) FROM ({rows}) a JOIN ({rows}) b ON a.m = b.m");
    match client.simple_query(&joined).await {
        Ok(messages) => {
            let counts = messages.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            assert_eq!(counts.collect::<Vec<_>>(), ["2000000"]);
        }
        Err(error) => assert_eq!(error.code().map(|c| c.code()), Some("53200"), "{error:?}"),
    }
    // One value of all rows cannot be spilled; the session goes on.
    let error = client.simple_query(&format!("SELECT length(string_agg(m || z, '')) FROM ({rows}) q")).await.unwrap_err();
    let shown = error.as_db_error().unwrap_or_else(|| panic!("the connection broke: {error:?}"));
    assert_eq!(shown.code().code(), "53200");
    assert!(shown.hint().is_some_and(|hint| hint.contains("memory_bytes_max")), "{shown:?}");
    assert!(mainstem.metric("mainstem_query_careful_total").unwrap() > Some(0.0), "nothing was too large");
    // One call cannot ask for gigabytes either.
    for statement in
        ["SELECT length(repeat('x', 2000000000))", "SELECT sum(length(lpad(x::text, 100000))) FROM generate_series(1, 1000000) x"]
    {
        let error = client.simple_query(statement).await.unwrap_err();
        assert_eq!(error.code().map(|c| c.code()), Some("54000"), "{statement}: {error:?}");
    }
    // A join without equality spills the side that it holds, and runs it a second time from its start.
    let pairs = format!("SELECT count(*) FROM ({rows} LIMIT 600000) a JOIN (SELECT 5 AS y) b ON a.x < b.y AND a.m <> a.z");
    assert_eq!(value(&client, &pairs).await.as_deref(), Some("4"));
    assert_eq!(value(&client, "SELECT 1").await.as_deref(), Some("1"));
    let peak = memory_peak_mib(&mainstem);
    assert!(peak < 800, "the server had {peak} MiB");
}

/// What a reader has begun to read stays, however often the table is written and cleaned meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn keep_the_files_that_they_read() {
    let mut world = World::new(PostgresOptions::default());
    let config = "[warehouse]\nflush_interval_ms = 100\nfile_retention_ms = 0\n[query]\nbatch_rows = 64\n";
    world.mainstem = Mainstem::start(MainstemOptions { config: Some(config.into()), ..Default::default() }).unwrap();
    let source = world.source().await;
    source
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT x, 0 FROM generate_series(1, 20000) x")
        .await
        .unwrap();
    let client = world.capture().await;
    let reader = world.mainstem.connect().await.unwrap();
    let files = "SELECT count(*) FROM mainstem.tables WHERE table_name = 't' AND hot_rows = 0 AND files > 0";
    eventually(&client, files, |n| n == Some("1")).await;
    reader
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; DECLARE c CURSOR FOR SELECT id, n FROM shop.t")
        .await
        .map_err(explain)
        .unwrap();
    let fetched = |messages: Vec<tokio_postgres::SimpleQueryMessage>| {
        messages.iter().filter(|m| matches!(m, tokio_postgres::SimpleQueryMessage::Row(row) if row.get(1) == Some("0"))).count()
    };
    let mut rows = fetched(reader.simple_query("FETCH 10 FROM c").await.unwrap());
    let before = version(&client).await;
    for round in 1..=6 {
        source.batch_execute(&format!("UPDATE t SET n = {round}; DELETE FROM t WHERE id % 100 = {round}")).await.unwrap();
        world.wait().await;
        eventually(&client, files, |n| n == Some("1")).await;
    }
    assert!(version(&client).await > before, "nothing was flushed meanwhile");
    rows += fetched(reader.simple_query("FETCH ALL FROM c").await.map_err(explain).unwrap());
    assert_eq!(rows, 20000);
    assert_eq!(value(&reader, "SELECT count(*) FROM shop.t WHERE n = 0").await.as_deref(), Some("20000"));
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(value(&reader, "SELECT count(*) FROM shop.t WHERE n = 6").await.as_deref(), Some("18800"));
}

async fn version(client: &Client) -> u64 {
    let version = value(client, "SELECT delta_version FROM mainstem.tables WHERE table_name = 't'").await;
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}
