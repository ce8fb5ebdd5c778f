//! The main job's figures: every row is a ratio with its peer in the same run.

use crate::report::{Report, Row};
use crate::world::{create, mebibytes, pid, source};
use crate::{disk, latency};
use mainstem_testkit::mainstem::{explain, wait_for_source};
use mainstem_testkit::process::{cpu_seconds, rss_bytes, rss_peak_bytes, run as run_program};
use mainstem_testkit::{Mainstem, MainstemOptions, Postgres, Result};
use std::process::Stdio;
use std::time::{Duration, Instant};

pub const ROWS: [&str; 9] = ["disk", "log", "start", "snapshot", "latency", "drain", "scan", "replay", "memory"];

/// Runs the rows named, all when none is. `full` uses the sizes of the floors where the quick run takes a tenth.
pub async fn run(full: bool, rows: &[String]) -> Result<Report> {
    let mut report = Report::default();
    let wanted = |row: &str| rows.is_empty() || rows.iter().any(|r| r == row);
    if let Some(unknown) = rows.iter().find(|r| !ROWS.contains(&r.as_str())) {
        return Err(format!("unknown row {unknown}; there are {}", ROWS.join(", ")).into());
    }
    if wanted("disk") {
        disk_limits(&mut report)?;
    }
    if wanted("log") {
        crate::log::appends(&mut report).await?;
    }
    if wanted("start") {
        start_empty(&mut report)?;
    }
    if wanted("snapshot") {
        snapshot(&mut report, full).await?;
    }
    if wanted("latency") {
        visible_after(&mut report).await?;
    }
    if wanted("drain") {
        drain(&mut report, full, true).await?;
        drain(&mut report, full, false).await?;
    }
    if wanted("scan") {
        crate::scan::scans(&mut report, full).await?;
    }
    if wanted("replay") {
        replay(&mut report, full).await?;
    }
    if wanted("memory") {
        large_transaction(&mut report, full).await?;
    }
    Ok(report)
}

fn disk_limits(report: &mut Report) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (lone, bulk) = (disk::lone_sync_ms(directory.path())?, disk::bulk_mib_per_second(directory.path())?);
    report.add(Row {
        what: "the disk itself",
        figure: format!("{lone:.2} ms; {bulk:.0} MiB/s"),
        floor: "-",
        met: true,
        terms: "4 KiB write + fdatasync, preallocated, median; 1 MiB write + fdatasync".into(),
    });
    Ok(())
}

fn start_empty(report: &mut Report) -> Result<()> {
    let mut mainstem = Mainstem::prepare(MainstemOptions::default())?;
    let started = Instant::now();
    mainstem.start_again()?;
    let seconds = started.elapsed().as_secs_f64();
    report.add(Row {
        what: "start, empty",
        figure: format!("{seconds:.2} s"),
        floor: "< 0.5 s",
        met: seconds < 0.5,
        terms: "process start to /readyz, asked every 20 ms".into(),
    });
    std::thread::sleep(Duration::from_secs(3));
    let rss = mebibytes(rss_bytes(pid(&mainstem)?));
    report.add(Row {
        what: "RSS idle",
        figure: format!("{rss:.0} MiB"),
        floor: "< 100 MB",
        met: rss < 95.0,
        terms: "3 s after start".into(),
    });
    Ok(())
}

async fn snapshot(report: &mut Report, full: bool) -> Result<()> {
    let scale = if full { 100 } else { 20 };
    let rows = f64::from(scale) * 100_000.0;
    let postgres = source(scale)?;
    let mut copy = f64::MAX;
    for _ in 0..2 {
        let mut command = postgres.tool("psql", "bench");
        command.args(["-X", "-q", "-c", "COPY pgbench_accounts TO STDOUT"]).stdout(Stdio::null());
        let started = Instant::now();
        if !command.status()?.success() {
            return Err("COPY failed".into());
        }
        copy = copy.min(started.elapsed().as_secs_f64());
    }
    let mainstem = Mainstem::start(MainstemOptions::default())?;
    let started = Instant::now();
    create(&mainstem, &postgres, "WITH (tables = 'public.pgbench_accounts')").await?;
    let seconds = started.elapsed().as_secs_f64();
    let ratio = copy / seconds;
    report.add(Row {
        what: "snapshot until visible, against COPY TO STDOUT",
        figure: format!("{ratio:.2}"),
        floor: ">= 0.3",
        met: ratio >= 0.3,
        terms: format!(
            "{rows:.0} pgbench_accounts (about 97 bytes as text): {:.0} rows/s, COPY {:.0} rows/s on one connection",
            rows / seconds,
            rows / copy
        ),
    });
    let peak = mebibytes(rss_peak_bytes(pid(&mainstem)?));
    report.add(Row {
        what: "RSS during a snapshot",
        figure: format!("{peak:.0} MiB"),
        floor: "< 800 MB",
        met: peak < 762.0,
        terms: format!("peak, {rows:.0} rows{}", if full { "" } else { "; --full takes 10 M" }),
    });
    Ok(())
}

async fn visible_after(report: &mut Report) -> Result<()> {
    let postgres = source(1)?;
    let mainstem = Mainstem::start(MainstemOptions::default())?;
    create(&mainstem, &postgres, "").await?;
    let (latencies, rate) = latency::measure(&postgres, &mainstem, 2000, 15).await?;
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let (p50, p99) = (at(0.5), at(0.99));
    report.add(Row {
        what: "commit to visible",
        figure: format!("p50 {p50:.1} ms, p99 {p99:.1} ms"),
        floor: "p50 <= 5 ms, p99 <= 50 ms",
        met: p50 <= 5.0 && p99 <= 50.0 && rate >= 1800.0,
        terms: format!(
            "{rate:.0} commits/s of one row, 8 connections; {} samples, each with the query that sees it",
            latencies.len()
        ),
    });
    Ok(())
}

/// pgbench's transactions (three updates and an insert), made on the server so that the load takes no time from what is measured after it.
fn backlog(postgres: &Postgres, transactions: u32) -> Result<()> {
    let accounts = postgres.psql("bench", "SELECT count(*) FROM pgbench_accounts")?;
    let accounts: u32 = accounts.trim().parse()?;
    let branches = accounts / 100_000;
    postgres.psql(
        "bench",
        &format!(
            "DO $$ DECLARE a int; b int; t int; d int; BEGIN SET synchronous_commit = off; FOR i IN 1..{transactions} LOOP \
             a := 1 + floor(random() * {accounts}); b := 1 + floor(random() * {branches}); \
             t := 1 + floor(random() * 10 * {branches}); d := floor(random() * 10000) - 5000; \
             UPDATE pgbench_accounts SET abalance = abalance + d WHERE aid = a; \
             UPDATE pgbench_tellers SET tbalance = tbalance + d WHERE tid = t; \
             UPDATE pgbench_branches SET bbalance = bbalance + d WHERE bid = b; \
             INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (t, b, a, d, CURRENT_TIMESTAMP); \
             COMMIT; END LOOP; END $$"
        ),
    )?;
    Ok(())
}

/// A backlog of pgbench transactions, read by pg_recvlogical to /dev/null and by Mainstem until visible.
async fn drain(report: &mut Report, full: bool, bulk: bool) -> Result<()> {
    let transactions: u32 = if full { 250_000 } else { 50_000 };
    let postgres = source(10)?;
    let mainstem = Mainstem::start(MainstemOptions::default())?;
    let client = create(&mainstem, &postgres, &format!("WITH (bulk = '{bulk}')")).await?;
    // One statement per call: several are one transaction, in which a slot cannot be made after a write.
    for statement in [
        "CREATE PUBLICATION peer FOR TABLE pgbench_accounts, pgbench_tellers, pgbench_branches",
        "CREATE PUBLICATION peer_append FOR TABLE pgbench_history WITH (publish = 'insert, truncate')",
        "SELECT pg_create_logical_replication_slot('peer', 'pgoutput')",
    ] {
        postgres.psql("bench", statement)?;
    }
    client.batch_execute("PAUSE SOURCE b").await.map_err(explain)?;
    backlog(&postgres, transactions)?;
    let end = postgres.psql("bench", "SELECT pg_current_wal_flush_lsn()")?;
    // A last record beyond the end, so that pg_recvlogical meets it.
    postgres.psql("bench", "UPDATE marker SET n = 1")?;
    postgres.psql("bench", "UPDATE pgbench_branches SET bbalance = bbalance WHERE bid = 1")?;
    let started = Instant::now();
    run_program(postgres.tool("pg_recvlogical", "bench").args([
        "--dbname=bench",
        "--slot=peer",
        "--start",
        "--file=/dev/null",
        "--option=proto_version=1",
        "--option=publication_names=peer,peer_append",
        "--no-loop",
        &format!("--endpos={}", end.trim()),
    ]))?;
    let peer = started.elapsed().as_secs_f64();
    let cpu_before = cpu_seconds(pid(&mainstem)?).unwrap_or(0.0);
    let started = Instant::now();
    client.batch_execute("RESUME SOURCE b").await.map_err(explain)?;
    wait_for_source(&client, "b", Duration::from_secs(600)).await?;
    let ours = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds(pid(&mainstem)?).unwrap_or(f64::NAN) - cpu_before;
    let changes = f64::from(transactions) * 4.0;
    let (ratio, floor) = (peer / ours, if bulk { 1.2 } else { 0.5 });
    let terms = format!(
        "{transactions} transactions of 4 rows (about 100 bytes), log and table included: {:.0} rows/s, pg_recvlogical {:.0} rows/s",
        changes / ours,
        changes / peer
    );
    report.add(Row {
        what: if bulk {
            "slot drain, behind, in bulk, against pg_recvlogical"
        } else {
            "slot drain, streaming, against pg_recvlogical"
        },
        figure: format!("{ratio:.2}"),
        floor: if bulk { ">= 1.2" } else { ">= 0.5" },
        met: ratio >= floor,
        terms: terms.clone(),
    });
    let per_million = cpu / changes * 1e6;
    report.add(Row {
        what: if bulk { "CPU per million row changes, bulk" } else { "CPU per million row changes, streaming" },
        figure: format!("{per_million:.1} s"),
        floor: "<= 8 s",
        met: per_million <= 8.0,
        terms,
    });
    Ok(())
}

async fn replay(report: &mut Report, full: bool) -> Result<()> {
    let scale = if full { 50 } else { 5 };
    let postgres = source(scale)?;
    // So rare a flush that the changes are still in the log alone.
    let mut mainstem = Mainstem::start(MainstemOptions::default())?;
    let client = create(&mainstem, &postgres, "").await?;
    tokio::time::sleep(Duration::from_secs(35)).await;
    backlog(&postgres, 30_000)?;
    wait_for_source(&client, "b", Duration::from_secs(120)).await?;
    mainstem.kill()?;
    let started = Instant::now();
    mainstem.start_again()?;
    let seconds = started.elapsed().as_secs_f64();
    let replayed = mainstem.metric("mainstem_warehouse_replayed_rows_total")?.unwrap_or(0.0);
    report.add(Row {
        what: "start after kill -9, with changes to replay",
        figure: format!("{seconds:.2} s"),
        floor: "< 5 s",
        // A flush that came before the kill leaves less to replay, and a figure that says nothing.
        met: seconds < 5.0 && replayed >= 120_000.0,
        terms: format!("{} rows, {replayed:.0} changes replayed", scale * 100_000),
    });
    Ok(())
}

async fn large_transaction(report: &mut Report, full: bool) -> Result<()> {
    let rows = if full { 500_000 } else { 50_000 };
    let postgres = source(1)?;
    postgres.psql("bench", "CREATE TABLE wide (id int PRIMARY KEY, t text)")?;
    let mainstem = Mainstem::start(MainstemOptions::default())?;
    let client = create(&mainstem, &postgres, "").await?;
    // 1,000 bytes that neither compress nor go to TOAST.
    postgres.psql("bench", &format!(
        "INSERT INTO wide SELECT g, (SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, 31) i) FROM generate_series(1, {rows}) g"
    ))?;
    wait_for_source(&client, "b", Duration::from_secs(600)).await?;
    let peak = mebibytes(rss_peak_bytes(pid(&mainstem)?));
    report.add(Row {
        what: "RSS during one large transaction",
        figure: format!("{peak:.0} MiB"),
        floor: "< 800 MB",
        met: peak < 762.0,
        terms: format!("{} MB in one transaction{}", rows / 1000, if full { "" } else { "; --full takes 500 MB" }),
    });
    Ok(())
}
