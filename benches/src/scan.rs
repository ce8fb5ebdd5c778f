//! Scans of a live table through its door, against plain DataFusion over the very same Parquet files (`examples/scan.rs` of the query
//! crate), clean and with a tenth of the rows deleted. The plain reader then reads all rows: it knows nothing of deletions.

use crate::report::{Report, Row};
use crate::world::{create, source};
use mainstem_testkit::mainstem::{explain, wait_for_source};
use mainstem_testkit::process::run as run_program;
use mainstem_testkit::{Mainstem, MainstemOptions, Result};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

const ROUNDS: u32 = 7;
/// An aggregate over everything, a filter that keeps a third, and a grouping; `t` stands for the table.
const QUERIES: [&str; 3] = [
    "SELECT count(*), sum(abalance), max(filler) FROM t",
    "SELECT count(*), sum(aid) FROM t WHERE aid % 3 = 0",
    "SELECT bid, count(*), max(aid) FROM t GROUP BY bid ORDER BY bid",
];

pub async fn scans(report: &mut Report, full: bool) -> Result<()> {
    let scale = if full { 50 } else { 20 };
    let rows = scale * 100_000;
    let postgres = source(scale)?;
    let mut mainstem = Mainstem::start(MainstemOptions::default())?;
    drop(create(&mainstem, &postgres, "WITH (tables = 'public.pgbench_accounts')").await?);
    // A clean stop writes what is in memory: both then read the same files.
    mainstem.restart()?;
    let client = mainstem.connect().await?;
    let location = text(&client, "SELECT location FROM mainstem.tables WHERE table_name = 'pgbench_accounts'").await?;
    let terms =
        format!("{rows} pgbench_accounts, three queries (whole, filtered, grouped), sum of the best of {ROUNDS} each, in turn");
    let (ours, plain) = compare(&client, &location, true).await?;
    let ratio = ours / plain;
    report.add(Row {
        what: "scan against plain DataFusion on the same Parquet",
        figure: format!("{ratio:.2}x"),
        floor: "<= 1.2x",
        met: ratio <= 1.2,
        terms: format!("{terms}; ours through psql's protocol {ours:.0} ms, plain in process {plain:.0} ms"),
    });
    // Scattered: every tenth row of every page.
    postgres.psql("bench", "DELETE FROM pgbench_accounts WHERE aid % 10 = 7")?;
    wait_for_source(&client, "b", Duration::from_secs(300)).await?;
    let (ours, plain) = compare(&client, &location, false).await?;
    let ratio = ours / plain;
    report.add(Row {
        what: "scan with 10 % of the rows deleted",
        figure: format!("{ratio:.2}x"),
        floor: "<= 1.5x",
        met: ratio <= 1.5,
        terms: format!("{terms}; every tenth row deleted; ours {ours:.0} ms, plain, reading all rows, {plain:.0} ms"),
    });
    Ok(())
}

/// Milliseconds of ours and of the plain reader. `same`: both must answer alike.
async fn compare(client: &Client, location: &str, same: bool) -> Result<(f64, f64)> {
    let (mut ours, mut plain) = (0.0, 0.0);
    for query in QUERIES {
        let mut best = (f64::MAX, f64::MAX);
        let mut answers = (String::new(), String::new());
        for _ in 0..2 {
            let (time, answer) = plainly(location, query)?;
            (best.1, answers.1) = (best.1.min(time), answer);
            let sql = query.replace("FROM t", "FROM b.pgbench_accounts");
            for _ in 0..ROUNDS {
                let started = Instant::now();
                answers.0 = text(client, &sql).await?;
                best.0 = best.0.min(started.elapsed().as_secs_f64() * 1000.0);
            }
        }
        if same && answers.0.trim_end() != answers.1.trim_end() {
            return Err(format!("{query}: ours {}, plain {}", answers.0, answers.1).into());
        }
        eprintln!("benches:   {query}: ours {:.1} ms, plain {:.1} ms", best.0, best.1);
        ours += best.0;
        plain += best.1;
    }
    Ok((ours, plain))
}

fn plainly(location: &str, query: &str) -> Result<(f64, String)> {
    let program = std::env::current_exe()?.with_file_name("examples").join("scan");
    if !program.is_file() {
        return Err("the example `scan` of mainstem-query is not built: `cargo xtask bench` builds it".into());
    }
    let out = run_program(Command::new(program).arg(location).arg(ROUNDS.to_string()).arg(query))?;
    let (time, answer) = out.trim_end().split_once('\t').ok_or("the plain reader gave no answer")?;
    Ok((time.parse()?, answer.to_owned()))
}

/// The first row, its cells separated by bars.
async fn text(client: &Client, sql: &str) -> Result<String> {
    for message in client.simple_query(sql).await.map_err(explain)? {
        if let SimpleQueryMessage::Row(row) = message {
            let cells: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("")).collect();
            return Ok(cells.join("|"));
        }
    }
    Err(format!("{sql}: no row").into())
}
