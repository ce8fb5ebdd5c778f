//! The main job to look at: a throw-away Postgres with a running shop, Mainstem beside it, and what arrives when.
//!
//! `mainstem-demo [--mainstem PATH] [--seconds N] [--check]`. With `--check` it ends after 30 s (or N) by comparing every table by
//! content; exit code 0 when equal, 1 otherwise.
#![allow(clippy::disallowed_methods)] // a tool on the real clock

use mainstem_testkit::compare::{Naming, compare};
use mainstem_testkit::mainstem::{explain, wait_for_source};
use mainstem_testkit::shop::{Shop, ShopOptions};
use mainstem_testkit::{Mainstem, MainstemOptions, Postgres, Result, sakila};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

const REPORT: &str = "SELECT c.name, sum(p.amount) AS revenue FROM {s}payment p JOIN {s}rental r USING (rental_id) \
                      JOIN {s}inventory i USING (inventory_id) JOIN {s}film_category fc USING (film_id) \
                      JOIN {s}category c USING (category_id) GROUP BY 1 ORDER BY 2 DESC, 1";

const QUESTIONS: [(&str, &str); 5] = [
    (
        "Which categories earn the money?",
        "SELECT c.name, sum(p.amount) FROM shop.payment p JOIN shop.rental r USING (rental_id) JOIN shop.inventory i USING (inventory_id) \
         JOIN shop.film_category fc USING (film_id) JOIN shop.category c USING (category_id) GROUP BY 1 ORDER BY 2 DESC;",
    ),
    (
        "Who has the most films at home right now?",
        "SELECT c.first_name, c.last_name, count(*) FROM shop.rental r JOIN shop.customer c USING (customer_id) \
         WHERE r.return_date IS NULL GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10;",
    ),
    (
        "Which countries do our customers pay from?",
        "SELECT co.country, sum(p.amount) FROM shop.payment p JOIN shop.customer cu USING (customer_id) JOIN shop.address a USING (address_id) \
         JOIN shop.city ci USING (city_id) JOIN shop.country co USING (country_id) GROUP BY 1 ORDER BY 2 DESC LIMIT 10;",
    ),
    (
        "Which films earn most per copy?",
        "SELECT f.title, sum(p.amount) / count(DISTINCT i.inventory_id) AS per_copy FROM shop.film f JOIN shop.inventory i USING (film_id) \
         JOIN shop.rental r USING (inventory_id) JOIN shop.payment p USING (rental_id) GROUP BY 1 ORDER BY 2 DESC LIMIT 10;",
    ),
    (
        "What happened in the last ten seconds?",
        "SELECT count(*), max(rental_date) FROM shop.rental WHERE rental_date > localtimestamp - INTERVAL '10 seconds';",
    ),
];

struct Options {
    mainstem: Option<PathBuf>,
    seconds: Option<u64>,
    check: bool,
}

fn options() -> Result<Options> {
    let mut options = Options { mainstem: None, seconds: None, check: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--mainstem" => options.mainstem = Some(value()?.into()),
            "--seconds" => options.seconds = Some(value()?.parse().map_err(|_| "--seconds needs a whole number")?),
            "--check" => options.check = true,
            other => return Err(format!("unknown argument {other}; there are --mainstem PATH, --seconds N, --check").into()),
        }
    }
    Ok(options)
}

#[tokio::main]
async fn main() -> ExitCode {
    match options() {
        Ok(options) => match run(options).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("demo: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(options: Options) -> Result<bool> {
    let started = Instant::now();
    let profile = std::env::var("MAINSTEM_PROFILE").unwrap_or_else(|_| "as built".to_owned());
    println!("Starting a throw-away Postgres with the Sakila shop ...");
    let postgres = Postgres::start_default()?;
    let url = sakila::load(&postgres)?;
    postgres.psql(
        "sakila",
        "CREATE TABLE demo_marker (id int PRIMARY KEY, n bigint NOT NULL); INSERT INTO demo_marker VALUES (1, 0)",
    )?;
    let shop = Shop::start(postgres.config("sakila"), ShopOptions::default());
    println!("The shop is open: rentals, returns, payments, corrections, refunds, 200 transactions a second.");
    let mainstem = Mainstem::start(MainstemOptions { binary: options.mainstem.clone(), ..Default::default() })?;
    println!("Mainstem is ready (profile {profile}; {:.1} s since the start of this demo).\n", started.elapsed().as_secs_f64());
    let client = mainstem.connect().await?;
    snapshot(&client, &url).await?;

    print_hints(&mainstem);
    let source = postgres.connect("sakila").await?;
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let marker = tokio::spawn(measure(postgres.connect("sakila").await?, mainstem.connect().await?, latencies.clone()));
    let seconds = options.seconds.or((options.check || !std::io::stdout().is_terminal()).then_some(30));
    let lived = watch(&source, &client, &shop, &latencies, seconds).await;
    marker.abort();
    let counts = shop.stop().await;
    lived?;
    println!("\nThe shop is closed after {} transactions ({} lost).", counts.transactions, counts.failures);
    let equal = if options.check { verify(&source, &client, counts.failures).await } else { true };
    if let Ok(Some(cpu)) = mainstem.pid().map(mainstem_testkit::process::cpu_seconds).ok_or(()) {
        println!("Mainstem used {cpu:.1} s of CPU.");
    }
    Ok(equal)
}

/// Creates the source and shows the copy's progress until every table is live.
async fn snapshot(client: &Client, url: &str) -> Result<()> {
    println!("CREATE SOURCE shop FROM '{}';", url.replace(":secret@", ":...@"));
    client.batch_execute(&format!("CREATE SOURCE shop FROM '{url}'")).await.map_err(explain)?;
    let started = Instant::now();
    loop {
        let progress = row(
            client,
            "SELECT coalesce(sum(rows_copied), 0), coalesce(sum(rows_estimated), 0), count(*), \
                    coalesce(sum(CASE WHEN state IN ('waiting', 'snapshotting') THEN 1 ELSE 0 END), 0) \
             FROM mainstem.source_tables WHERE source = 'shop' AND state <> 'excluded'",
        )
        .await?;
        let number = |i: usize| progress.get(i).and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
        let (copied, estimated, tables, waiting) = (number(0), number(1), number(2), number(3));
        let rate = copied / started.elapsed().as_secs_f64().max(0.001);
        let left = if rate > 0.0 { format!("{:.0} s left", (estimated - copied).max(0.0) / rate) } else { "-".to_owned() };
        println!(
            "  snapshot: {copied:.0} of about {estimated:.0} rows, {rate:.0} rows/s, {left}; {:.0} of {tables} tables live",
            tables - waiting
        );
        if tables > 0.0 && waiting == 0.0 {
            break;
        }
        if started.elapsed() > Duration::from_secs(120) {
            return Err("the snapshot did not end within two minutes; SELECT * FROM mainstem.source_tables says why".into());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    wait_for_source(client, "shop", Duration::from_secs(60)).await?;
    println!("All tables are live {:.1} s after CREATE SOURCE.\n", started.elapsed().as_secs_f64());
    Ok(())
}

fn print_hints(mainstem: &Mainstem) {
    println!("Try it from another terminal:\n\n  psql {}\n\nFive questions worth asking:\n", mainstem.url());
    for (question, sql) in QUESTIONS {
        println!("  -- {question}\n  {sql}\n");
    }
    println!("Stop with Ctrl-C: everything started here goes away.\n");
}

/// Commits a number in Postgres and asks Mainstem until it is there, ten times a second.
async fn measure(source: Client, copy: Client, latencies: Arc<Mutex<Vec<Duration>>>) {
    for n in 1i64.. {
        if source.execute("UPDATE demo_marker SET n = $1", &[&n]).await.is_err() {
            return;
        }
        let committed = Instant::now();
        loop {
            match row(&copy, "SELECT n FROM shop.demo_marker").await {
                Ok(seen) if seen.first().and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v >= n) => break,
                Ok(_) => {}
                Err(_) => return,
            }
        }
        if let Ok(mut latencies) = latencies.lock() {
            latencies.push(committed.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The live view; ends after `seconds` or at Ctrl-C.
async fn watch(
    source: &Client,
    copy: &Client,
    shop: &Shop,
    latencies: &Mutex<Vec<Duration>>,
    seconds: Option<u64>,
) -> Result<()> {
    let live = std::io::stdout().is_terminal();
    let started = Instant::now();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut lines = 0;
    while seconds.is_none_or(|s| started.elapsed() < Duration::from_secs(s)) {
        let count = "SELECT (SELECT count(*) FROM {s}rental) + (SELECT count(*) FROM {s}payment)";
        let ours = row(source, &count.replace("{s}", "")).await?;
        let theirs = row(copy, &count.replace("{s}", "shop.")).await?;
        let (report, our_time) = timed(source, &REPORT.replace("{s}", "")).await?;
        let (_, their_time) = timed(copy, &REPORT.replace("{s}", "shop.")).await?;
        let (p50, p99, samples) = percentiles(latencies);
        let text = format!(
            "rentals + payments   Postgres {:>9} | Mainstem {:>9}   ({} transactions)\n\
             visible after        p50 {p50:.1} ms | p99 {p99:.1} ms   ({samples} commits measured, each with the query that sees it)\n\
             revenue by category  Postgres {our_time:>6.1} ms | Mainstem {their_time:>6.1} ms   (first: {})\n",
            ours.first().map_or("?", String::as_str),
            theirs.first().map_or("?", String::as_str),
            shop.counts().transactions,
            report.join(" "),
        );
        if live && lines > 0 {
            // Over the previous view.
            print!("\x1b[{lines}A\x1b[J");
        }
        print!("{text}");
        std::io::stdout().flush()?;
        lines = text.lines().count();
        let pause = Duration::from_millis(if live { 500 } else { 5000 });
        tokio::select! {
            _ = &mut interrupted => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    Ok(())
}

async fn verify(source: &Client, copy: &Client, failures: u64) -> bool {
    let compared = async {
        wait_for_source(copy, "shop", Duration::from_secs(60)).await?;
        compare(source, copy, &Naming::Source("shop".into())).await
    };
    match compared.await {
        Ok(compared) => {
            println!("CHECK: {} tables with {} rows are equal by content.", compared.tables, compared.rows);
            failures == 0
        }
        Err(error) => {
            println!("CHECK FAILED:\n{error}");
            false
        }
    }
}

fn percentiles(latencies: &Mutex<Vec<Duration>>) -> (f64, f64, usize) {
    let Ok(latencies) = latencies.lock() else { return (0.0, 0.0, 0) };
    let mut sorted: Vec<f64> = latencies.iter().map(|d| d.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    (at(0.5), at(0.99), sorted.len())
}

/// The first row and the time of the whole query, milliseconds.
async fn timed(client: &Client, sql: &str) -> Result<(Vec<String>, f64)> {
    let started = Instant::now();
    let first = row(client, sql).await?;
    Ok((first, started.elapsed().as_secs_f64() * 1000.0))
}

/// The first row as text; empty when there is none.
async fn row(client: &Client, sql: &str) -> Result<Vec<String>> {
    let messages = client.simple_query(sql).await.map_err(explain)?;
    let first = messages.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect()),
        _ => None,
    });
    Ok(first.unwrap_or_default())
}
