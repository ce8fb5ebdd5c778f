//! Changes of tables that the log does not tell of (decision 17), and what looking for them costs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests
#![allow(clippy::disallowed_methods)] // tests run on the real machine

mod replica;

use mainstem_connector::{ChangeStream, Severity, Source};
use mainstem_env::Env;
use mainstem_postgres::{connector, metrics};
use mainstem_testkit::Postgres;
use mainstem_testkit::disk::SimDisk;
use mainstem_types::UpstreamId;
use replica::{Replica, begin, open, reopen, settings};
use std::sync::Arc;
use std::time::Duration;

/// Copies anew what the stream called stale, as the pipeline does.
async fn mend(replica: &mut Replica, source: &dyn Source) -> usize {
    let stale = std::mem::take(&mut replica.stale);
    for id in &stale {
        replica.copy(source, UpstreamId(*id)).await;
    }
    stale.len()
}

/// A database whose tables are followed through deeds.
struct Followed {
    postgres: Postgres,
    source: Arc<dyn Source>,
    replica: Replica,
    stream: Box<dyn ChangeStream>,
    deeds: u32,
}

impl Followed {
    async fn new(tables: &str) -> Self {
        let postgres = Postgres::start_default().unwrap();
        let url = postgres.create_database("ddl").unwrap();
        postgres.psql("ddl", tables).unwrap();
        let source = open(&url, &[]);
        let (mut replica, mut stream) = begin(&source).await;
        replica.catch_up(&*source, &mut stream).await;
        Self { postgres, source, replica, stream, deeds: 0 }
    }

    /// `stale`: how many tables have to be copied anew after it. Some rows of `t` are on their way when it happens.
    async fn check(&mut self, deed: &str, stale: usize) {
        self.deeds += 1;
        let insert =
            |n: u32| self.postgres.psql("ddl", &format!("INSERT INTO t (id, a) VALUES ({n}000 + {}, 3)", self.deeds)).unwrap();
        insert(1);
        self.postgres.psql("ddl", deed).unwrap();
        insert(2);
        self.replica.look(&*self.source).await;
        self.replica.catch_up(&*self.source, &mut self.stream).await;
        assert_eq!(mend(&mut self.replica, &*self.source).await, stale, "{deed}");
        insert(3);
        self.replica.look(&*self.source).await;
        self.replica.catch_up(&*self.source, &mut self.stream).await;
        assert_eq!(mend(&mut self.replica, &*self.source).await, 0, "after {deed}");
        self.replica.compare(&*self.source).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_change_behind_the_logs_back_are_copied_anew() {
    let start = "CREATE TABLE t (id int PRIMARY KEY, a int, b int, x int GENERATED ALWAYS AS (a * 2) STORED,
        y int GENERATED ALWAYS AS (a * 3) STORED); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)";
    let mut followed = Followed::new(start).await;
    let deeds = [
        ("ALTER TABLE t ALTER COLUMN x DROP EXPRESSION", 1),
        ("ALTER TABLE t DROP COLUMN y", 0),
        ("ALTER TABLE t ADD COLUMN made int GENERATED ALWAYS AS (a + 1) STORED", 0),
        ("ALTER TABLE t ALTER COLUMN made DROP EXPRESSION", 1),
        ("ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b int", 1),
        ("ALTER TABLE t ADD COLUMN r float8 DEFAULT random()", 1),
        ("ALTER TABLE t ALTER COLUMN a TYPE int USING a + 1", 1),
        ("VACUUM FULL t", 0),
        ("TRUNCATE t", 0),
        ("ALTER TABLE t ADD COLUMN fixed int DEFAULT 7", 0),
        ("ALTER TABLE t ALTER COLUMN a SET STATISTICS 10", 0),
    ];
    for (deed, stale) in deeds {
        followed.check(deed, stale).await;
    }
}

/// Nothing is written when a label, a column of a composite type or a name gets another form, and the same rows are read differently.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_print_differently_are_copied_anew() {
    let start = "CREATE SCHEMA app; CREATE TYPE mood AS ENUM ('ok', 'bad'); CREATE TYPE pair AS (m mood, n int);
        CREATE DOMAIN feeling AS mood; CREATE TYPE span AS RANGE (subtype = mood); CREATE TYPE alone AS ENUM ('one');
        CREATE TABLE app.named (id int PRIMARY KEY); CREATE VIEW app.seen AS SELECT 1 AS one; CREATE FUNCTION app.f(pair) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE TABLE t (id int PRIMARY KEY, a int, one alone);
        CREATE TABLE e (id int PRIMARY KEY, m mood, list feeling[], p pair, s span);
        CREATE TABLE n (id int PRIMARY KEY, c regclass, f regprocedure[], k regnamespace);
        INSERT INTO t VALUES (1, 1, 'one');
        INSERT INTO e VALUES (1, 'ok', '{ok,bad}', '(bad,1)', '[ok,bad]');
        INSERT INTO n VALUES (1, 'app.named', '{app.f(public.pair)}', 'app'), (2, 'app.seen', NULL, NULL)";
    let mut followed = Followed::new(start).await;
    let deeds = [
        ("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'", 1),
        ("ALTER TYPE mood ADD VALUE 'better'", 0),
        ("ALTER TYPE mood ADD VALUE 'worst' BEFORE 'bad'", 0),
        ("ALTER TYPE mood RENAME VALUE 'better' TO 'best'; ALTER TYPE mood RENAME VALUE 'best' TO 'better'", 1),
        ("ALTER TYPE alone RENAME VALUE 'one' TO 'two'", 1),
        ("ALTER TYPE pair ADD ATTRIBUTE extra text", 1),
        ("ALTER TYPE pair DROP ATTRIBUTE n", 1),
        ("ALTER TABLE app.named RENAME TO renamed", 1),
        ("ALTER FUNCTION app.f(pair) RENAME TO g", 1),
        ("CREATE SEQUENCE app.another", 0),
        ("ALTER SCHEMA app RENAME TO moved", 1),
        ("ALTER TABLE e DROP COLUMN s; INSERT INTO e VALUES (2, 'fine')", 0),
        ("DROP VIEW moved.seen", 1),
    ];
    for (deed, stale) in deeds {
        followed.check(deed, stale).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_replaced_while_nobody_read_is_not_taken_for_the_old_one() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("lag").unwrap();
    postgres.psql("lag", "CREATE TABLE t (id int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 1)").unwrap();
    let source = open(&url, &[]);
    let (mut replica, mut stream) = begin(&source).await;
    replica.catch_up(&*source, &mut stream).await;
    let position = replica.position.clone().unwrap();
    drop((stream, source));
    postgres.psql("lag", "INSERT INTO t VALUES (2, 2)").unwrap();
    postgres.psql("lag", "ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b int").unwrap();
    postgres.psql("lag", "INSERT INTO t VALUES (3, 3)").unwrap();
    // A process that never saw the table's first shape.
    let source = open(&url, &[]);
    source.prepare(Some(&position)).await.unwrap();
    let mut stream = reopen(&source, &position).await;
    source.discover().await.unwrap();
    replica.catch_up(&*source, &mut stream).await;
    assert_eq!(mend(&mut replica, &*source).await, 1);
    postgres.psql("lag", "INSERT INTO t VALUES (4, 4); UPDATE t SET b = 9 WHERE id = 1").unwrap();
    replica.catch_up(&*source, &mut stream).await;
    assert_eq!(replica.stale, [0u64; 0]);
    replica.compare(&*source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_catalog_is_not_read_again() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("many").unwrap();
    let make = "DO $$ BEGIN FOR i IN 1..2000 LOOP
        EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a text, b numeric(10,2), c timestamptz)', i); END LOOP; END $$";
    postgres.psql("many", make).unwrap();
    let source = open(&url, &[]);
    source.prepare(None).await.unwrap();
    assert_eq!(source.discover().await.unwrap().len(), 2000);
    let reads = || metrics::CATALOG_READS.get();
    source.discover().await.unwrap();
    // Other tests of this file read other catalogs beside us: ask until a stretch without them.
    let mut quiet = false;
    for _ in 0..50 {
        let (before, started) = (reads(), std::time::Instant::now());
        for _ in 0..5 {
            assert_eq!(source.discover().await.unwrap().len(), 2000);
        }
        eprintln!("five looks at 2,000 tables: {:?}", started.elapsed());
        quiet = reads() == before;
        if quiet {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(quiet, "the catalog is read although nothing changed");
    // Each change is seen by the next look; a temporary table is none.
    type Seen = fn(&mainstem_connector::FoundTable) -> bool;
    let changes: [(&str, Seen); 5] = [
        ("ALTER TABLE t5 RENAME TO renamed", |t| &*t.schema.name.name == "renamed"),
        ("ALTER TABLE t6 ADD COLUMN d int", |t| t.schema.columns.len() == 5),
        ("ALTER TABLE t7 ALTER COLUMN a SET NOT NULL", |t| t.schema.columns[1].not_null),
        ("ALTER TABLE t8 DROP CONSTRAINT t8_pkey", |t| t.schema.record_key.is_empty()),
        ("CREATE TABLE fresh (id int PRIMARY KEY)", |t| &*t.schema.name.name == "fresh"),
    ];
    for (change, seen) in changes {
        postgres.psql("many", change).unwrap();
        assert!(source.discover().await.unwrap().iter().any(seen), "{change}");
    }
    source.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preflight_looks_at_the_disk_and_at_limits() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("full").unwrap();
    let sql = "CREATE TABLE t AS SELECT g, repeat(md5(g::text), 10) FROM generate_series(1, 20000) g;
        ALTER ROLE postgres SET statement_timeout = '5s'";
    postgres.psql("full", sql).unwrap();
    let find = async |capacity: u64| {
        let disk = SimDisk::new();
        disk.set_capacity(capacity);
        let env = Env { disk: Arc::new(disk), ..Env::real() };
        let mut settings = settings(&url, &[]);
        settings.spool_dir = Some("/data/spool".into());
        connector().open(env, settings).unwrap().check().await.unwrap()
    };
    let tight = |findings: &[mainstem_connector::Finding]| {
        findings.iter().any(|f| f.severity == Severity::Warning && f.message.contains("are free"))
    };
    let findings = find(8 << 20).await;
    assert!(tight(&findings), "{findings:#?}");
    assert!(findings.iter().any(|f| f.message.contains("statement_timeout=5s")), "{findings:#?}");
    assert!(!tight(&find(1 << 40).await));
}
