//! The random workload: everything that makes change capture go wrong, from a seed.
//!
//! A transaction is one to six steps, some inside savepoints that are rolled back, some aborted as a whole. Statements that meet each
//! other (unique keys, deadlocks) abort their transaction: that belongs to it. `chaos.sql` has the tables.

use crate::postgres::connect;
use crate::{Failure, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};

const TABLES: &str = include_str!("chaos.sql");

#[derive(Clone, Debug)]
pub struct ChaosOptions {
    pub seed: u64,
    pub workers: u32,
    /// Pause of a worker between two transactions.
    pub pause: Duration,
    /// Rows of a large transaction; 0 = none.
    pub large_rows: u32,
    /// The first worker runs a large transaction after this many small ones.
    pub large_every: u32,
    /// Truncates too. They lock out readers for a moment.
    pub truncate: bool,
}

impl Default for ChaosOptions {
    fn default() -> Self {
        Self { seed: 1, workers: 3, pause: Duration::from_millis(5), large_rows: 20_000, large_every: 200, truncate: true }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChaosCounts {
    pub committed: u64,
    /// Rolled back on purpose.
    pub rolled_back: u64,
    /// Rolled back by the server: unique violations, deadlocks.
    pub refused: u64,
    pub large: u64,
    /// Lost connections.
    pub failures: u64,
}

#[derive(Default)]
struct Shared {
    committed: AtomicU64,
    rolled_back: AtomicU64,
    refused: AtomicU64,
    large: AtomicU64,
    failures: AtomicU64,
    stopping: AtomicBool,
}

impl Shared {
    fn counts(&self) -> ChaosCounts {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        ChaosCounts {
            committed: get(&self.committed),
            rolled_back: get(&self.rolled_back),
            refused: get(&self.refused),
            large: get(&self.large),
            failures: get(&self.failures),
        }
    }
}

/// Makes the tables in an empty database.
pub async fn create_tables(client: &Client) -> Result<()> {
    client.batch_execute(TABLES).await?;
    client.batch_execute(&boundary_rows()).await?;
    client.batch_execute("ANALYZE").await?;
    Ok(())
}

/// A running workload. `stop` it to learn whether it went as it should.
pub struct Chaos {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<Result<()>>>,
}

impl Chaos {
    /// Starts workers on tables made by `create_tables`.
    pub fn start(config: Config, options: ChaosOptions) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (0..options.workers.max(1))
            .map(|number| tokio::spawn(Worker::new(config.clone(), options.clone(), number, shared.clone()).run(None)))
            .collect();
        Self { shared, workers }
    }

    pub fn counts(&self) -> ChaosCounts {
        self.shared.counts()
    }

    /// Waits until so many more transactions are committed; fails when a worker has ended or it takes over a minute.
    pub async fn progress(&self, transactions: u64) -> Result<()> {
        let goal = self.counts().committed + transactions;
        for _ in 0..6000 {
            if self.counts().committed >= goal {
                return Ok(());
            }
            if self.workers.iter().any(JoinHandle::is_finished) {
                return Err("a worker has ended; stop() says why".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("the workload does not get on: {:?}", self.counts()).into())
    }

    /// Ends after the transactions under way.
    pub async fn stop(mut self) -> Result<ChaosCounts> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.await??;
        }
        Ok(self.counts())
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }
}

/// Runs so many transactions one after another: the same seed gives the same statements.
pub async fn run(config: Config, options: ChaosOptions, transactions: u64) -> Result<ChaosCounts> {
    let shared = Arc::new(Shared::default());
    Worker::new(config, options, 0, shared.clone()).run(Some(transactions)).await?;
    Ok(shared.counts())
}

struct Worker {
    config: Config,
    options: ChaosOptions,
    number: u32,
    shared: Arc<Shared>,
    random: StdRng,
}

/// How a transaction ended.
enum End {
    Committed,
    RolledBack,
    Refused,
}

impl Worker {
    fn new(config: Config, options: ChaosOptions, number: u32, shared: Arc<Shared>) -> Self {
        let random = StdRng::seed_from_u64(options.seed.wrapping_mul(1000) + u64::from(number));
        Self { config, options, number, shared, random }
    }

    async fn run(mut self, transactions: Option<u64>) -> Result<()> {
        let mut done = 0u64;
        while !self.finished(done, transactions) {
            let Ok(client) = connect(&self.config).await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            while !self.finished(done, transactions) {
                let large = self.number == 0
                    && self.options.large_rows > 0
                    && (done + 1).is_multiple_of(u64::from(self.options.large_every));
                let (text, commit) = if large { self.large() } else { self.small() };
                done += 1;
                match execute(&client, &text, commit).await {
                    Ok(End::Committed) => self.shared.committed.fetch_add(1, Ordering::Relaxed),
                    Ok(End::RolledBack) => self.shared.rolled_back.fetch_add(1, Ordering::Relaxed),
                    Ok(End::Refused) => self.shared.refused.fetch_add(1, Ordering::Relaxed),
                    Err(_) if client.is_closed() => {
                        self.shared.failures.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Err(error) => return Err(format!("{error}, in: {}", text.chars().take(2000).collect::<String>()).into()),
                };
                if large && commit {
                    self.shared.large.fetch_add(1, Ordering::Relaxed);
                }
                if !self.options.pause.is_zero() {
                    tokio::time::sleep(self.options.pause).await;
                }
            }
        }
        Ok(())
    }

    fn finished(&self, done: u64, transactions: Option<u64>) -> bool {
        self.shared.stopping.load(Ordering::Relaxed) || transactions.is_some_and(|n| done >= n)
    }

    fn small(&mut self) -> (String, bool) {
        let mut text = String::from("BEGIN;");
        for _ in 0..self.random.random_range(1..=6) {
            match self.random.random_range(0..10) {
                0 => {
                    let (inner, outer) = (self.step(), self.step());
                    let _ = write!(text, "SAVEPOINT a; {outer}; SAVEPOINT b; {inner}; ROLLBACK TO b;");
                    text.push_str(if self.random.random() { "ROLLBACK TO a;" } else { "RELEASE a;" });
                }
                1 => {
                    let step = self.step();
                    let _ = write!(text, "SAVEPOINT a; {step}; RELEASE a;");
                }
                _ => {
                    text.push_str(&self.step());
                    text.push(';');
                }
            }
        }
        // Last, because its row serialises all workers.
        if self.random.random_ratio(1, 3) {
            text.push_str("UPDATE tick_head SET n = n + 1; INSERT INTO tick_log SELECT n FROM tick_head;");
        }
        (text, self.random.random_ratio(9, 10))
    }

    fn step(&mut self) -> String {
        match self.random.random_range(0..16) {
            0 | 1 => self.transfer(),
            2 | 3 => self.pair(),
            4 | 5 => self.keyed(),
            6 | 7 => self.toasty(),
            8 => self.composite(),
            9 => self.by_index(),
            10 => self.full_rows(),
            11 => self.full_keyed(),
            12 => self.append_or_empty(),
            13 => self.measurements(),
            14 => self.named(),
            _ => self.types(),
        }
    }

    /// The sum over `accounts` never changes.
    fn transfer(&mut self) -> String {
        let (a, b) = (self.number_in(1, 100), self.number_in(1, 100));
        let amount = f64::from(self.number_in(-5000, 5000)) / 100.0;
        if a == b {
            return format!("UPDATE accounts SET balance = balance WHERE id = {a}");
        }
        format!(
            "UPDATE accounts SET balance = balance - {amount} WHERE id = {a}; UPDATE accounts SET balance = balance + {amount} WHERE id = {b}"
        )
    }

    /// `pair_left` and `pair_right` are always equal. The lock keeps two workers off one pair.
    fn pair(&mut self) -> String {
        let (id, v) = (self.number_in(1, 400), self.number_in(0, 1_000_000));
        let each = |sql: &str| format!("{}; {}", sql.replace("$t", "pair_left"), sql.replace("$t", "pair_right"));
        let change = match self.number_in(0, 3) {
            0 => each(&format!("DELETE FROM $t WHERE id = {id}")),
            1 => each(&format!("DELETE FROM $t WHERE id = {id}; INSERT INTO $t VALUES ({id}, {v})")),
            _ => each(&format!("INSERT INTO $t VALUES ({id}, {v}) ON CONFLICT (id) DO UPDATE SET v = excluded.v")),
        };
        format!("SELECT pg_advisory_xact_lock(7, {id}); {change}")
    }

    fn keyed(&mut self) -> String {
        let (a, b, text) = (self.number_in(1, 400), self.number_in(1, 400), self.text());
        match self.number_in(0, 7) {
            0 => format!("INSERT INTO keyed VALUES ({a}, {text}, {b}) ON CONFLICT DO NOTHING"),
            1 => format!("DELETE FROM keyed WHERE id = {a}"),
            2 => format!("DELETE FROM keyed WHERE id = {a}; INSERT INTO keyed VALUES ({a}, {text}, {b})"),
            3 => format!("UPDATE keyed SET id = {b} WHERE id = {a} AND NOT EXISTS (SELECT FROM keyed WHERE id = {b})"),
            4 => format!(
                "UPDATE keyed SET id = -{a} WHERE id = {a}; UPDATE keyed SET id = {a}, v = {text} WHERE id = {b}; \
                 UPDATE keyed SET id = {b} WHERE id = -{a}"
            ),
            5 => format!(
                "INSERT INTO keyed VALUES (900000 + {a}, 'passing', 0) ON CONFLICT DO NOTHING; \
                 UPDATE keyed SET n = n + 1 WHERE id = 900000 + {a}; DELETE FROM keyed WHERE id = 900000 + {a}"
            ),
            6 => format!("UPDATE keyed SET n = n + 1 WHERE id = {a}; UPDATE keyed SET n = n + 1, v = {text} WHERE id = {a}"),
            _ => format!("UPDATE keyed SET n = {b} WHERE id BETWEEN {a} AND {a} + 20"),
        }
    }

    fn toasty(&mut self) -> String {
        let (a, b) = (self.number_in(1, 150), self.number_in(1, 150));
        let big = self.big_text();
        let free = format!("NOT EXISTS (SELECT FROM toasty WHERE id = {b})");
        match self.number_in(0, 7) {
            0 => format!("INSERT INTO toasty VALUES ({a}, 0, {big}, {big}) ON CONFLICT DO NOTHING"),
            1 | 2 => format!("UPDATE toasty SET small = small + 1 WHERE id = {a}"),
            3 => format!("UPDATE toasty SET big = {big} WHERE id = {a}"),
            4 => format!("UPDATE toasty SET id = {b} WHERE id = {a} AND {free}"),
            5 => format!("UPDATE toasty SET id = {b}, other = {big} WHERE id = {a} AND {free}"),
            6 => format!(
                "DELETE FROM toasty WHERE id = {a}; INSERT INTO toasty VALUES ({a}, 1, {big}, NULL); UPDATE toasty SET small = 2 WHERE id = {a}"
            ),
            _ => format!("UPDATE toasty SET big = NULL, other = '' WHERE id = {a}; UPDATE toasty SET small = 3 WHERE id = {a}"),
        }
    }

    fn composite(&mut self) -> String {
        let (n, code, text) = (self.number_in(1, 120), self.pick(&["''", "'x'", "'ß€'", "' '"]), self.text());
        match self.number_in(0, 4) {
            0 => format!("INSERT INTO composite VALUES ('r' || {n} % 5, {code}, {n}, {text}) ON CONFLICT DO NOTHING"),
            1 => format!("UPDATE composite SET v = {text} WHERE n = {n}"),
            2 => format!("UPDATE composite SET code = {code} WHERE n = {n} AND code = ''"),
            3 => format!("UPDATE composite SET region = 'Ünï' || region WHERE n = {n} AND length(region) < 20"),
            _ => format!("DELETE FROM composite WHERE n = {n}"),
        }
    }

    /// The identity is (b, a), not the primary key: a change of the key alone sends no old row.
    fn by_index(&mut self) -> String {
        let (a, b, text) = (self.number_in(1, 130), self.number_in(1, 130), self.text());
        match self.number_in(0, 5) {
            0 => format!("INSERT INTO by_index VALUES ({a}, {a}, 'b{a}', {text}) ON CONFLICT DO NOTHING"),
            1 => format!("UPDATE by_index SET id = {b} WHERE id = {a} AND NOT EXISTS (SELECT FROM by_index WHERE id = {b})"),
            2 => format!("UPDATE by_index SET v = {text} WHERE id = {a}"),
            3 => format!("UPDATE by_index SET b = b || '+' WHERE id = {a} AND length(b) < 30"),
            4 => format!("UPDATE by_index SET id = id + 1000, a = a + 1000 WHERE id = {a}"),
            _ => format!("DELETE FROM by_index WHERE a = {a}"),
        }
    }

    fn full_rows(&mut self) -> String {
        let (a, text) = (self.number_in(0, 8), self.text());
        let one = format!("ctid = (SELECT ctid FROM full_rows WHERE a IS NOT DISTINCT FROM nullif({a}, 8) LIMIT 1)");
        let c = self.pick(&["0.5", "'NaN'", "'-Infinity'", "NULL", "'-0'", "1e-300"]);
        match self.number_in(0, 6) {
            0 => format!("INSERT INTO full_rows VALUES (nullif({a}, 8), {text}, {c}, NULL)"),
            1 => format!("INSERT INTO full_rows SELECT {a}, 'same', 1, repeat('y', 4000) FROM generate_series(1, 3)"),
            2 => format!("UPDATE full_rows SET b = {text} WHERE {one}"),
            3 => format!("UPDATE full_rows SET c = {c}, a = a WHERE {one}"),
            4 => format!("DELETE FROM full_rows WHERE {one}"),
            5 => format!("UPDATE full_rows SET a = (a + 1) % 8 WHERE {one}"),
            _ => format!("DELETE FROM full_rows WHERE a = {a} AND b = 'same'"),
        }
    }

    fn full_keyed(&mut self) -> String {
        let (a, b, text, big) = (self.number_in(1, 60), self.number_in(1, 60), self.text(), self.big_text());
        match self.number_in(0, 4) {
            0 => format!("INSERT INTO full_keyed VALUES ({a}, {text}, {big}) ON CONFLICT DO NOTHING"),
            1 => format!("UPDATE full_keyed SET v = {text} WHERE id = {a}"),
            2 => format!("UPDATE full_keyed SET id = {b} WHERE id = {a} AND NOT EXISTS (SELECT FROM full_keyed WHERE id = {b})"),
            3 => format!("UPDATE full_keyed SET big = {big} WHERE id = {a}"),
            _ => format!("DELETE FROM full_keyed WHERE id = {a}"),
        }
    }

    fn append_or_empty(&mut self) -> String {
        let text = self.text();
        match self.number_in(0, if self.options.truncate { 12 } else { 8 }) {
            0..=3 => format!("INSERT INTO append_only VALUES (clock_timestamp(), {text}), (NULL, {text})"),
            4..=6 => format!(
                "INSERT INTO emptied_a (v) VALUES ({text}); INSERT INTO emptied_b (v) SELECT {text} FROM generate_series(1, 5)"
            ),
            7..=8 => format!("UPDATE emptied_b SET v = {text} WHERE id % 7 = 0; DELETE FROM emptied_a WHERE id % 5 = 0"),
            9 => "TRUNCATE emptied_a, emptied_b".to_owned(),
            10 => format!(
                "INSERT INTO emptied_a (v) VALUES ('gone'); TRUNCATE emptied_a RESTART IDENTITY; INSERT INTO emptied_a (v) VALUES ({text})"
            ),
            11 => "TRUNCATE measurements_rest".to_owned(),
            _ => "TRUNCATE append_only".to_owned(),
        }
    }

    /// An update of the partition key moves the row to another leaf: a delete there, an insert here.
    fn measurements(&mut self) -> String {
        let (id, shift) = (self.number_in(1, 400), self.number_in(-400, 600));
        match self.number_in(0, 4) {
            0 => format!("INSERT INTO measurements VALUES ({id}, date '2025-03-01' + {shift}, random()) ON CONFLICT DO NOTHING"),
            1 => format!("UPDATE measurements SET v = v * 2 WHERE id = {id} AND v < 1e100"),
            2 => format!(
                "UPDATE measurements SET day = date '2025-03-01' + {shift} WHERE id = {id} AND (SELECT count(*) FROM measurements WHERE id = {id}) = 1"
            ),
            3 => format!("DELETE FROM measurements WHERE id = {id}"),
            _ => format!(
                "INSERT INTO measurements SELECT {id} + g * 1000, date '2024-12-30' + g, g FROM generate_series(1, 5) g ON CONFLICT DO NOTHING"
            ),
        }
    }

    /// Inheritance and names that need quotes.
    fn named(&mut self) -> String {
        let (id, text) = (self.number_in(1, 60), self.text());
        let odd = "\"Odd Schema\".\"Weird Näme\"";
        match self.number_in(0, 7) {
            0 => format!("INSERT INTO animal VALUES ({id}, {text}) ON CONFLICT DO NOTHING"),
            1 => format!("INSERT INTO dog VALUES (1000 + {id}, {text}, 'breed') ON CONFLICT DO NOTHING"),
            2 => format!("UPDATE animal SET name = {text} WHERE id % 50 = {id} % 50"),
            3 => format!("DELETE FROM animal WHERE id = {id} OR id = 1050 - {id}"),
            4 => format!("INSERT INTO {odd} VALUES ({id}, {text}, {id} / 8.0, NULL) ON CONFLICT DO NOTHING"),
            5 => format!("UPDATE {odd} SET \"select\" = {text}, \"😀 \"\"x\"\"\" = '\"' WHERE \"Größe\" = {id}"),
            6 => format!(
                "UPDATE {odd} SET \"Größe\" = -\"Größe\" WHERE \"Größe\" = {id} AND NOT EXISTS (SELECT FROM {odd} WHERE \"Größe\" = -{id})"
            ),
            _ => format!("DELETE FROM {odd} WHERE \"Größe\" = -{id}"),
        }
    }

    fn types(&mut self) -> String {
        let id = self.number_in(1000, 1100);
        match self.number_in(0, 5) {
            0 => format!("DELETE FROM types WHERE id = {id}"),
            _ => {
                let values: Vec<&str> = TYPES.iter().map(|(_, values)| self.pick(values)).collect();
                let values = values.join(", ");
                let columns = TYPES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                format!("INSERT INTO types VALUES ({id}, {values}) ON CONFLICT (id) DO UPDATE SET ({columns}) = ROW ({values})")
            }
        }
    }

    /// One large transaction on `big`: rows, a large subtransaction that is rolled back, changes of the rows, sometimes an abort.
    fn large(&mut self) -> (String, bool) {
        let rows = i64::from(self.options.large_rows);
        let first = rows * i64::from(self.number_in(0, 3));
        let last = first + rows - 1;
        let range = format!("id BETWEEN {first} AND {last}");
        let transfer = self.transfer();
        let text = format!(
            "BEGIN; DELETE FROM big WHERE {range}; \
             INSERT INTO big SELECT g, g % 1000, 'row ' || g FROM generate_series({first}::bigint, {last}) g; \
             SAVEPOINT a; UPDATE big SET w = -1, t = 'never' WHERE {range} AND id % 2 = 0; ROLLBACK TO a; {transfer}; \
             SAVEPOINT b; UPDATE big SET w = w + 1 WHERE {range} AND id % 10 = 0; RELEASE b; \
             UPDATE big SET id = id + 10000000 WHERE id = {first}; DELETE FROM big WHERE id = 10000000 + {first};"
        );
        (text, self.random.random_ratio(4, 5))
    }

    fn number_in(&mut self, low: i32, high: i32) -> i32 {
        self.random.random_range(low..=high)
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.random.random_range(0..from.len())]
    }

    fn text(&mut self) -> String {
        self.pick(TEXTS).to_owned()
    }

    /// 1.5 to 30 KB that do not compress away.
    fn big_text(&mut self) -> String {
        format!("repeat(md5('{}'), {})", self.number_in(0, 1_000_000), self.number_in(50, 1000))
    }
}

/// Runs one transaction's text. Unique violations (23), deadlocks and serialization failures (40) are part of the game.
async fn execute(client: &Client, text: &str, commit: bool) -> Result<End> {
    let end = if commit { "COMMIT" } else { "ROLLBACK" };
    let Err(error) = client.batch_execute(&format!("{text} {end}")).await else {
        return Ok(if commit { End::Committed } else { End::RolledBack });
    };
    let code = error.code().map(|c| c.code().to_owned()).unwrap_or_default();
    client.batch_execute("ROLLBACK").await?;
    if code.starts_with("23") || code.starts_with("40") {
        return Ok(End::Refused);
    }
    Err(Failure::from(error.as_db_error().map_or_else(|| error.to_string(), |db| format!("{} ({code})", db.message()))))
}

const TEXTS: &[&str] = &[
    "NULL",
    "''",
    "'plain'",
    "'NULL'",
    "'null'",
    "'Ünïcödé ß 漢字 😀'",
    "E'tab\\tnewline\\nreturn\\r'",
    "'back\\slash'",
    "'it''s \"quoted\"'",
    "' spaces '",
    "E'\\\\N'",
    "repeat('long ', 300)",
];

/// Boundary values of every column of `types` after its key. Values that a table is failed for (decision 20: infinity dates, NaN in
/// numeric(p,s), 24:00:00) are not here.
const TYPES: &[(&str, &[&str])] = &[
    ("bo", &["true", "false", "NULL"]),
    ("i2", &["-32768", "32767", "0", "NULL"]),
    ("i4", &["-2147483648", "2147483647", "0", "NULL"]),
    ("i8", &["-9223372036854775808", "9223372036854775807", "0", "NULL"]),
    ("f4", &["'NaN'", "'Infinity'", "'-Infinity'", "3.4028235e38", "1e-45", "-0.0::float4", "0.1", "NULL"]),
    (
        "f8",
        &["'NaN'", "'Infinity'", "'-Infinity'", "1.7976931348623157e308", "5e-324", "0.1", "1e15", "123456789012345680", "NULL"],
    ),
    (
        "n38",
        &[
            "9999999999999999999999999999.9999999999",
            "-9999999999999999999999999999.9999999999",
            "0",
            "0.0000000001",
            "-1",
            "NULL",
        ],
    ),
    ("n5", &["999.99", "-999.99", "0", "0.01", "-0.01", "1.10", "NULL"]),
    ("n10", &["9999999999", "-9999999999", "0", "NULL"]),
    ("te", TEXTS),
    ("vc", &["''", "'12345678901234567890'", "'ßßß'", "'trail  '", "NULL"]),
    ("ch", &["''", "'a'", "'12345'", "'é'", "NULL"]),
    ("by", &["''", "'\\x00ff10'", "decode(repeat('de', 5000), 'hex')", "NULL"]),
    ("da", &["'0001-01-01'", "'9999-12-31'", "'1970-01-01'", "'1969-12-31'", "'2000-02-29'", "NULL"]),
    ("ti", &["'00:00:00'", "'23:59:59.999999'", "'12:34:56.7'", "NULL"]),
    (
        "ts",
        &[
            "'0001-01-01 00:00:00'",
            "'9999-12-31 23:59:59.999999'",
            "'1969-12-31 23:59:59.999999'",
            "'2024-02-29 12:00:00.1'",
            "NULL",
        ],
    ),
    ("tz", &["'0001-01-01 00:00:00+00'", "'9999-12-31 23:59:59.999999+00'", "'2024-06-01 12:00:00+05:45'", "NULL"]),
    ("ts0", &["'2024-01-01 00:00:00.5'", "'2024-01-01 00:00:01'", "NULL"]),
    (
        "uu",
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "NULL",
        ],
    ),
    ("js", &["'{\"b\": 1,  \"a\": [1,2 ], \"b\": null}'", "'null'", "'\"\\u00e9\"'", "'1e400'", "NULL"]),
    ("jb", &["'{\"b\": 1, \"a\": [1, 2, {\"x\": null}]}'", "'null'", "'\"é\"'", "'12345678901234567890.123456789'", "NULL"]),
    ("en", &["'sad'", "'ok'", "'Very Happy, \"indeed\"'", "NULL"]),
    ("nu", &["'NaN'", "1e100", "-0.00000000000000000000000000000000000000000001", "1.500", "'Infinity'", "NULL"]),
    ("iv", &["'1 year 2 mons -3 days 04:05:06.789'", "'0'", "'-178000000 years'", "NULL"]),
    ("tt", &["'00:00:00+15:59'", "'23:59:59.999999-15:59'", "NULL"]),
    ("ip", &["'10.0.0.1'", "'10.1.2.3/8'", "'::1'", "'fe80::1/64'", "NULL"]),
    ("ci", &["'10.0.0.0/8'", "'::/0'", "NULL"]),
    ("ma", &["'08:00:2b:01:02:03'", "NULL"]),
    ("mo", &["'-92233720368547758.08'", "'1234.56'", "NULL"]),
    ("bi", &["B'10101'", "B'00000'", "NULL"]),
    ("vb", &["B''", "B'1'", "repeat('10', 100)::varbit", "NULL"]),
    ("po", &["'(0.1,-1e300)'", "NULL"]),
    ("ra", &["'empty'", "'[1,10)'", "'(,)'", "NULL"]),
    ("tv", &["''", "'fat:1A cat:2'", "NULL"]),
    ("ia", &["'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'", "'[0:1]={5,6}'", "NULL"]),
    ("ta", &["'{}'", "array['a,b', '', NULL, 'q\"x', '{}', 'NULL']", "NULL"]),
    ("oi", &["0", "4294967295", "NULL"]),
    ("ls", &["'0/0'", "'FFFFFFFF/FFFFFFFF'", "NULL"]),
    ("dom", &["1", "2147483647", "NULL"]),
    ("co", &["ROW(1, 'a,\"b\"')::pair", "ROW(NULL, '')::pair", "NULL"]),
    ("xm", &["'<a b=\"c\">é</a>'", "NULL"]),
    ("na", &["'name'", "''", "NULL"]),
    ("q", &["'x'", "''", "NULL"]),
];

/// Every boundary value at least once: row `i` has the `i`th of every column, and NULL where a column has no more.
fn boundary_rows() -> String {
    let longest = TYPES.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    let row = |i: usize| {
        let values = TYPES.iter().map(|(_, values)| *values.get(i).unwrap_or(&"NULL")).collect::<Vec<_>>().join(", ");
        // One statement per row: in a list of rows literals would take each other's types instead of the column's.
        format!("INSERT INTO types VALUES ({}, {values});", i + 1)
    };
    (0..longest).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Naming, compare};
    use crate::poller::Poller;
    use crate::postgres::Postgres;

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_its_invariants_and_is_the_same_twice() {
        let postgres = Postgres::start_default().unwrap();
        let mut clients = Vec::new();
        for name in ["one", "two"] {
            postgres.create_database(name).unwrap();
            let client = postgres.connect(name).await.unwrap();
            create_tables(&client).await.unwrap();
            clients.push(client);
        }
        let options = ChaosOptions { pause: Duration::ZERO, large_rows: 2000, large_every: 50, seed: 7, ..Default::default() };
        let poller = Poller::start(postgres.config("one"), Naming::Same);
        let first = run(postgres.config("one"), options.clone(), 600).await.unwrap();
        let second = run(postgres.config("two"), options.clone(), 600).await.unwrap();
        assert_eq!(first, second);
        assert!(first.committed > 400 && first.rolled_back > 20 && first.large > 5, "{first:?}");
        // The clock and random() differ between the two; every other table must not.
        let same = |t: &crate::compare::Table| {
            !["append_only", "measurements", "measurements_old", "measurements_new", "measurements_rest"]
                .contains(&t.name.as_str())
        };
        let compared = crate::compare::compare_where(&clients[0], &clients[1], &Naming::Same, same).await.unwrap();
        assert!(compared.tables >= 18 && compared.rows > 2000, "{compared:?}");
        // Side by side the outcome is open, the invariants are not.
        let chaos = Chaos::start(postgres.config("one"), ChaosOptions { workers: 4, ..options });
        chaos.progress(400).await.unwrap();
        let counts = chaos.stop().await.unwrap();
        assert_eq!(counts.failures, 0);
        let polled = poller.stop().await.unwrap();
        assert!(polled.checks > 10 && polled.ticks > 100, "{polled:?}");
        assert!(compare(&clients[0], &clients[1], &Naming::Same).await.is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn poller_sees_a_half_transaction() {
        let postgres = Postgres::start_default().unwrap();
        let client = postgres.connect("postgres").await.unwrap();
        create_tables(&client).await.unwrap();
        let check = async |half: &str, expected: &str| {
            let poller = Poller::start(postgres.config("postgres"), Naming::Same);
            poller.checked(2).await.unwrap();
            client.batch_execute(half).await.unwrap();
            poller.checked(2).await.ok();
            let error = poller.stop().await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("UPDATE accounts SET balance = balance - 1 WHERE id = 3", "accounts").await;
        client.batch_execute("UPDATE accounts SET balance = 1000").await.unwrap();
        check("INSERT INTO pair_left VALUES (5000, 1)", "pair").await;
        client.batch_execute("DELETE FROM pair_left WHERE id = 5000").await.unwrap();
        check("UPDATE pair_right SET v = -1 WHERE id = 7", "pair").await;
        client.batch_execute("UPDATE pair_right SET v = (SELECT v FROM pair_left WHERE id = 7) WHERE id = 7").await.unwrap();
        check("UPDATE tick_head SET n = n + 1", "tick").await;
    }
}
