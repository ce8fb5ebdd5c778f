//! Changes of tables that the log does not tell of (decision 17), and what looking for them costs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests
#![allow(clippy::disallowed_methods)] // tests run on the real machine

mod replica;

use mainstem_connector::{Severity, Source};
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

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_change_behind_the_logs_back_are_copied_anew() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("ddl").unwrap();
    postgres.psql("ddl", "CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)").unwrap();
    let source = open(&url, &[]);
    let (mut replica, mut stream) = begin(&source).await;
    replica.catch_up(&*source, &mut stream).await;
    let mut check = async |deed: &str, stale: usize| {
        let insert = |id: u32| postgres.psql("ddl", &format!("INSERT INTO t (id, a) VALUES ({id}{}, 3)", deed.len())).unwrap();
        // Some rows are on their way when it happens.
        insert(1);
        postgres.psql("ddl", deed).unwrap();
        insert(2);
        replica.look(&*source).await;
        replica.catch_up(&*source, &mut stream).await;
        assert_eq!(mend(&mut replica, &*source).await, stale, "{deed}");
        insert(3);
        replica.look(&*source).await;
        replica.catch_up(&*source, &mut stream).await;
        assert_eq!(mend(&mut replica, &*source).await, 0, "after {deed}");
        replica.compare(&*source).await;
    };
    check("ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b int", 1).await;
    check("ALTER TABLE t ADD COLUMN r float8 DEFAULT random()", 1).await;
    check("ALTER TABLE t ALTER COLUMN a TYPE int USING a + 1", 1).await;
    check("VACUUM FULL t", 0).await;
    check("TRUNCATE t", 0).await;
    check("ALTER TABLE t ADD COLUMN fixed int DEFAULT 7", 0).await;
    check("ALTER TABLE t ALTER COLUMN a SET STATISTICS 10", 0).await;
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
