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

/// A table to be copied: narrow rows cost per row, wide ones per value.
struct Shape {
    what: &'static str,
    table: &'static str,
    rows: f64,
    /// Its rows, for the terms.
    like: &'static str,
    floor: f64,
}

/// Seconds of the fastest of two `COPY ... TO STDOUT` on one connection.
fn copy_seconds(postgres: &Postgres, table: &str) -> Result<f64> {
    let mut best = f64::MAX;
    for _ in 0..2 {
        let mut command = postgres.tool("psql", "bench");
        command.args(["-X", "-q", "-c", &format!("COPY {table} TO STDOUT")]).stdout(Stdio::null());
        let started = Instant::now();
        if !command.status()?.success() {
            return Err("COPY failed".into());
        }
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(best)
}

async fn snapshot(report: &mut Report, full: bool) -> Result<()> {
    let (scale, parts) = if full { (100, 1.0) } else { (20, 0.5) };
    let postgres = source(scale)?;
    let (wide, items) = (200_000.0 * parts, 1_000_000.0 * parts);
    wide_tables(&postgres, wide as u64, items as u64)?;
    let shapes = [
        Shape {
            what: "snapshot until visible, against COPY TO STDOUT",
            table: "pgbench_accounts",
            rows: f64::from(scale) * 100_000.0,
            like: "pgbench_accounts (about 97 bytes as text)",
            floor: 0.3,
        },
        Shape {
            what: "snapshot of wide rows until visible, against COPY TO STDOUT",
            table: "wide",
            rows: wide,
            like: "rows of 40 columns: numbers, numeric(12,2), text, dates, times, booleans, uuid, jsonb, NULLs",
            floor: 0.6,
        },
        Shape {
            what: "snapshot of line items until visible, against COPY TO STDOUT",
            table: "lineitem",
            rows: items,
            like: "rows of 16 columns as TPC-H's lineitem",
            floor: 0.6,
        },
    ];
    for shape in shapes {
        let copy = copy_seconds(&postgres, shape.table)?;
        let mainstem = Mainstem::start(MainstemOptions::default())?;
        let started = Instant::now();
        create(&mainstem, &postgres, &format!("WITH (tables = 'public.{}')", shape.table)).await?;
        let seconds = started.elapsed().as_secs_f64();
        let ratio = copy / seconds;
        report.add(Row {
            what: shape.what,
            figure: format!("{ratio:.2}"),
            floor: if shape.floor > 0.5 { ">= 0.6" } else { ">= 0.3" },
            met: ratio >= shape.floor,
            terms: format!(
                "{:.0} {}: {:.0} rows/s, COPY {:.0} rows/s on one connection",
                shape.rows,
                shape.like,
                shape.rows / seconds,
                shape.rows / copy
            ),
        });
        if shape.table == "pgbench_accounts" {
            let peak = mebibytes(rss_peak_bytes(pid(&mainstem)?));
            report.add(Row {
                what: "RSS during a snapshot",
                figure: format!("{peak:.0} MiB"),
                floor: "< 800 MB",
                met: peak < 762.0,
                terms: format!("peak, {:.0} rows{}", shape.rows, if full { "" } else { "; --full takes 10 M" }),
            });
        }
    }
    Ok(())
}

/// `wide`: 40 columns of the usual types, `lineitem`: TPC-H's.
fn wide_tables(postgres: &Postgres, wide: u64, items: u64) -> Result<()> {
    let kinds: [(&str, &str); 10] = [
        ("int", "(g * 7919) % 1000003"),
        ("bigint", "g::bigint * 1000003"),
        ("numeric(12,2)", "((g * 7919) % 1000000) / 100.0"),
        ("text", "'name ' || (g * 31) % 5000"),
        ("float8", "g / 7.0"),
        ("timestamptz", "'2024-01-01Z'::timestamptz + g * interval '1.001 s'"),
        ("date", "'2020-01-01'::date + g % 2000"),
        ("boolean", "g % 3 = 0"),
        ("uuid", "md5(g::text)::uuid"),
        ("jsonb", "CASE WHEN g % 2 = 0 THEN jsonb_build_object('a', g, 'b', 'x') END"),
    ];
    let columns: Vec<String> = (0..40).map(|at| format!("c{at} {}", kinds[at % 10].0)).collect();
    let values: Vec<String> = (0..40).map(|at| format!("({})::{}", kinds[at % 10].1, kinds[at % 10].0)).collect();
    let sql = format!(
        "CREATE TABLE wide (id int PRIMARY KEY, {}); INSERT INTO wide SELECT g, {} FROM generate_series(1, {wide}) g; \
         CREATE TABLE lineitem (l_orderkey bigint, l_partkey int, l_suppkey int, l_linenumber int, l_quantity numeric(15,2), \
         l_extendedprice numeric(15,2), l_discount numeric(15,2), l_tax numeric(15,2), l_returnflag char(1), l_linestatus char(1), \
         l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct char(25), l_shipmode char(10), l_comment varchar(44), \
         PRIMARY KEY (l_orderkey, l_linenumber)); INSERT INTO lineitem SELECT g / 4, (g * 7919) % 200000, (g * 31) % 10000, g % 4, \
         g % 50 + 1, (g * 7919) % 10000000 / 100.0, g % 11 / 100.0, g % 9 / 100.0, substr('ANR', g % 3 + 1, 1), \
         substr('FO', g % 2 + 1, 1), '1992-01-01'::date + g % 2500, '1992-01-01'::date + g % 2450, '1992-01-01'::date + g % 2530, \
         (ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[g % 4 + 1], \
         (ARRAY['AIR','FOB','MAIL','RAIL','SHIP','TRUCK'])[g % 6 + 1], 'about the ' || md5(g::text) \
         FROM generate_series(1, {items}) g; VACUUM (ANALYZE) wide; VACUUM (ANALYZE) lineitem",
        columns.join(", "),
        values.join(", ")
    );
    for statement in sql.split("; ") {
        postgres.psql("bench", statement)?;
    }
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
