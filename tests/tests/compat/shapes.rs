//! Every shape of `testkit::shapes` at sizes doubled until it is refused, against a live server under capture: the process lives, other
//! connections and `/healthz` answer within 100 ms, capture goes on, memory comes back.
//!
//! The one place that asserts durations: they are the promise itself. What fails is collected, so that one run shows all of it.

use mainstem_testkit::mainstem::explain;
use mainstem_testkit::shapes::{REFUSALS, Shape, all};
use mainstem_testkit::{Mainstem, MainstemOptions, Postgres};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The longest that another client may wait for an answer.
const OTHERS_MS_MAX: u64 = 100;
/// Every statement's own limit, and what it may need beyond it until it has ended.
const STATEMENT: Duration = Duration::from_secs(5);
const ENDING: Duration = Duration::from_secs(1);
/// A text is not made longer than this: the protocol's own bound is near.
const TEXT_BYTES_MAX: usize = 32 << 20;
const SIZE_MAX: usize = 1 << 30;
/// Until memory must be back, and to how many times what it was.
const MEMORY_BACK: Duration = Duration::from_secs(60);
const MEMORY_TIMES: f64 = 1.5;
/// SQLSTATE of a statement that its time limit or a cancel ended.
const CANCELLED: &str = "57014";

/// The longest wait of those who look on, in milliseconds, since it was last taken.
#[derive(Default)]
struct Longest(AtomicU64);

impl Longest {
    fn add(&self, since: Instant) {
        self.0.fetch_max(since.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// A source that commits, a server that captures it, and two clients that look on.
struct World {
    postgres: Postgres,
    mainstem: Arc<Mainstem>,
    stop: Arc<AtomicBool>,
    query: Arc<Longest>,
    health: Arc<Longest>,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    async fn new() -> Self {
        let postgres = Postgres::start_default().unwrap();
        postgres.create_database("shop").unwrap();
        postgres.psql("shop", "CREATE TABLE beat (id int PRIMARY KEY, n bigint); INSERT INTO beat VALUES (1, 0)").unwrap();
        let mainstem = Mainstem::start(MainstemOptions::default().flush_every_ms(1000)).unwrap();
        let looker = mainstem.capture("shop", &postgres.url("shop")).await.unwrap();
        let mut world = Self {
            mainstem: Arc::new(mainstem),
            stop: Arc::default(),
            query: Arc::default(),
            health: Arc::default(),
            tasks: Vec::new(),
            postgres,
        };
        world.watch(looker).await;
        world
    }

    async fn watch(&mut self, looker: Client) {
        let writer = self.postgres.connect("shop").await.unwrap();
        let stop = self.stop.clone();
        self.tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                writer.batch_execute("UPDATE beat SET n = n + 1").await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
        let (stop, longest) = (self.stop.clone(), self.query.clone());
        self.tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let answered = looker.simple_query("SELECT n FROM shop.beat").await;
                longest.add(began);
                // A server that is gone is found by the statement that killed it.
                if answered.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }));
        let (stop, longest, mainstem) = (self.stop.clone(), self.health.clone(), self.mainstem.clone());
        self.tasks.push(tokio::task::spawn_blocking(move || {
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let _ = mainstem.get("/healthz");
                longest.add(began);
                std::thread::sleep(Duration::from_millis(10));
            }
        }));
    }

    /// A field of the process's `/proc/<pid>/status`; None when it has ended.
    fn process(&self, field: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.mainstem.pid().unwrap())).ok()?;
        let value =
            |field: &str| Some(status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.to_owned());
        value("State:").filter(|state| state != "Z")?;
        value(field)
    }

    fn lives(&self) -> bool {
        self.process("State:").is_some()
    }

    fn memory_bytes(&self) -> u64 {
        self.process("VmRSS:").and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Until whoever was held up has been answered, so that the next statement is not blamed for it.
    async fn rest(&self) {
        for _ in 0..100 {
            if !self.lives() || self.mainstem.get("/healthz").is_ok_and(|(status, _)| status == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What is committed at the source now is visible soon.
    async fn capture_goes_on(&self, client: &Client) -> bool {
        let source = self.postgres.connect("shop").await.unwrap();
        let committed = number(&source, "SELECT n FROM beat").await.unwrap_or(i64::MAX);
        for _ in 0..50 {
            if number(client, "SELECT n FROM shop.beat").await.is_some_and(|seen| seen >= committed) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

async fn number(client: &Client, sql: &str) -> Option<i64> {
    let messages = client.simple_query(sql).await.ok()?;
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })
}

/// How one statement ended.
enum End {
    Answered,
    Refused,
    Wrong(String),
}

async fn send(world: &World, sql: &str) -> End {
    let client = match world.mainstem.connect().await {
        Ok(client) => client,
        Err(error) => return End::Wrong(format!("no new connection: {error}")),
    };
    let limit = format!("SET statement_timeout = '{}ms'", STATEMENT.as_millis());
    if let Err(error) = client.batch_execute(&limit).await {
        return End::Wrong(format!("no limit: {error}"));
    }
    match tokio::time::timeout(STATEMENT + ENDING, client.simple_query(sql)).await {
        Ok(Ok(_)) => End::Answered,
        Ok(Err(error)) => match error.code().map(|code| code.code()) {
            Some(code) if REFUSALS.contains(&code) || code == CANCELLED => End::Refused,
            _ => End::Wrong(explain(error).to_string()),
        },
        Err(_) => End::Wrong("its time limit did not end it".to_owned()),
    }
}

/// Doubles a shape until it is refused; what was wrong on the way.
async fn grow(world: &World, shape: &Shape, idle_bytes: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut size = 1;
    let end = loop {
        let sql = (shape.sql)(size);
        if sql.len() > TEXT_BYTES_MAX || size >= SIZE_MAX {
            break "answered at every size";
        }
        (world.query.take(), world.health.take());
        let end = send(world, &sql).await;
        world.rest().await;
        let (query, health) = (world.query.take(), world.health.take());
        if !world.lives() {
            wrong.push(format!("{size}: the process is gone"));
            return wrong;
        }
        if query.max(health) > OTHERS_MS_MAX {
            wrong.push(format!("{size}: another query waited {query} ms, /healthz {health} ms"));
        }
        match end {
            End::Answered => size *= 2,
            End::Refused if size <= shape.answered => {
                wrong.push(format!("{size}: refused, though {} is a size that programs send", shape.answered));
                break "refused";
            }
            End::Refused => break "refused",
            End::Wrong(what) => {
                wrong.push(format!("{size}: {what}"));
                break "wrong";
            }
        }
    };
    let goes_on = match world.mainstem.connect().await {
        Ok(client) => world.capture_goes_on(&client).await,
        Err(_) => false,
    };
    if !goes_on {
        wrong.push(format!("{size}: capture does not go on, or nobody can log in"));
    }
    let deadline = Instant::now() + MEMORY_BACK;
    while world.memory_bytes() as f64 > idle_bytes as f64 * MEMORY_TIMES {
        if Instant::now() > deadline {
            wrong.push(format!("{size}: memory stays at {} MiB, idle {} MiB", world.memory_bytes() >> 20, idle_bytes >> 20));
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("{:<40} {size:>12}  {end}", shape.name);
    wrong
}

/// A name in `MAINSTEM_TEST_SHAPE` chooses the shapes that have it in theirs.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_hurts_anybody_else() {
    let mut world = World::new().await;
    let chosen = std::env::var("MAINSTEM_TEST_SHAPE").unwrap_or_default();
    let client = world.mainstem.connect().await.unwrap();
    // What every server needs once: catalogs, caches, threads.
    for shape in all() {
        let _ = client.simple_query(&(shape.sql)(1)).await;
    }
    drop(client);
    let idle_bytes = world.memory_bytes();
    let mut report = String::new();
    for shape in all().iter().filter(|shape| shape.name.contains(&chosen)) {
        for wrong in grow(&world, shape, idle_bytes).await {
            writeln!(report, "{}, {wrong}", shape.name).unwrap();
        }
        if !world.lives() {
            break;
        }
    }
    world.stop.store(true, Ordering::Relaxed);
    for task in world.tasks.drain(..) {
        task.await.unwrap();
    }
    assert!(report.is_empty(), "idle {} MiB\n{report}", idle_bytes >> 20);
}
