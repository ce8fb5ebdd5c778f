//! The source under conditions that are rare and do happen: DDL during a copy, identities that come and go, policies, large and
//! prepared transactions, sessions that are cut.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests
#![allow(clippy::disallowed_methods)] // tests run on the real machine

mod replica;

use mainstem_connector::{Copied, Severity, StreamItem};
use mainstem_postgres::metrics;
use mainstem_testkit::{Postgres, PostgresOptions};
use mainstem_types::{ErrorKind, UpstreamId};
use replica::{Replica, begin, open, reopen};
use std::collections::BTreeSet;
use std::time::Duration;

fn oid(postgres: &Postgres, database: &str, table: &str) -> UpstreamId {
    let oid = postgres.psql(database, &format!("SELECT '{table}'::regclass::oid")).unwrap();
    UpstreamId(oid.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_is_copied_over_several_connections_whatever_is_done_to_it() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("large").unwrap();
    let fill = "INSERT INTO t SELECT g, repeat(md5(g::text), 45) FROM generate_series(1, 6000) g";
    postgres
        .psql("large", &format!("CREATE TABLE t (id int PRIMARY KEY, v text); {fill}; DELETE FROM t WHERE id % 5 = 0"))
        .unwrap();
    let source = open(&url, &[("copy_piece_mib", "1"), ("copy_connections", "4")]);
    let pieces = metrics::COPY_PIECES.get();
    let (mut replica, mut stream) = begin(&source).await;
    assert!(metrics::COPY_PIECES.get() - pieces >= 8, "the table was read in pieces");
    replica.catch_up(&*source, &mut stream).await;
    replica.compare(&*source).await;
    let table = oid(&postgres, "large", "t");
    let deeds = [
        "UPDATE t SET v = v || 'x' WHERE id % 3 = 0".to_string(),
        format!("TRUNCATE t; {fill}"),
        "VACUUM FULL t".to_string(),
        "CLUSTER t USING t_pkey".to_string(),
        "DELETE FROM t WHERE id % 7 = 1".to_string(),
    ];
    for deed in &deeds {
        // The deed is done again and again while the copy runs; it waits for the copy's lock or the copy starts again.
        let (done, stop) = (std::sync::atomic::AtomicU32::new(0), std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let statements = if deed.starts_with("VACUUM") { deed.clone() } else { format!("BEGIN; {deed}; COMMIT") };
                    postgres.psql("large", &statements).unwrap();
                    done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    for _ in 0..3 {
                        replica.copy(&*source, table).await;
                    }
                })
            });
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            worker.join().unwrap();
        });
        replica.catch_up(&*source, &mut stream).await;
        for id in std::mem::take(&mut replica.stale) {
            replica.copy(&*source, UpstreamId(id)).await;
        }
        assert!(done.load(std::sync::atomic::Ordering::Relaxed) > 0);
        replica.compare(&*source).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_identity_comes_and_goes_changes_publications() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("moves").unwrap();
    postgres.psql("moves", "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE n (id int)").unwrap();
    let source = open(&url, &[]);
    let (mut replica, mut stream) = begin(&source).await;
    let members = || {
        let sql = "SELECT string_agg(pubname || ':' || tablename, ' ' ORDER BY pubname, tablename) FROM pg_publication_tables";
        postgres.psql("moves", sql).unwrap().trim().to_string()
    };
    assert_eq!(members(), "mainstem_shop:t mainstem_shop_append:n");
    postgres.psql("moves", "INSERT INTO t VALUES (1, 1), (2, 2); ALTER TABLE t DROP CONSTRAINT t_pkey").unwrap();
    source.discover().await.unwrap();
    assert_eq!(members(), "mainstem_shop_append:n mainstem_shop_append:t");
    postgres
        .psql("moves", "UPDATE t SET v = 3 WHERE id = 1; DELETE FROM t WHERE id = 2; UPDATE n SET id = 1; DELETE FROM n")
        .unwrap();
    postgres.psql("moves", "ALTER TABLE t ADD PRIMARY KEY (id); ALTER TABLE n REPLICA IDENTITY FULL").unwrap();
    source.discover().await.unwrap();
    assert_eq!(members(), "mainstem_shop:n mainstem_shop:t");
    replica.catch_up(&*source, &mut stream).await;
    // Its identity was another one for a while: the contract has it copied anew.
    replica.copy_all(&*source).await;
    postgres
        .psql("moves", "INSERT INTO n VALUES (5), (5); DELETE FROM n WHERE ctid = (SELECT min(ctid) FROM n); UPDATE t SET v = 9")
        .unwrap();
    replica.catch_up(&*source, &mut stream).await;
    replica.compare(&*source).await;
}

/// VACUUM, ANALYZE and CREATE INDEX CONCURRENTLY hold the lock that a change of publications needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_locked_stays_captured_and_changes_publications_later() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("locked").unwrap();
    let make = "CREATE TABLE t (id int NOT NULL, v int); CREATE UNIQUE INDEX t_id ON t (id); INSERT INTO t VALUES (1, 1)";
    postgres.psql("locked", make).unwrap();
    let source = open(&url, &[]);
    let (mut replica, mut stream) = begin(&source).await;
    let publication = || postgres.psql("locked", "SELECT pubname FROM pg_publication_tables").unwrap().trim().to_string();
    assert_eq!(publication(), "mainstem_shop_append");
    postgres.psql("locked", "ALTER TABLE t ADD PRIMARY KEY USING INDEX t_id").unwrap();
    let holder = postgres.connect("locked").await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    let excluded = async || source.discover().await.unwrap().iter().find_map(|t| t.excluded.clone());
    assert_eq!(excluded().await, None);
    assert_eq!(publication(), "mainstem_shop_append");
    postgres.psql("locked", "INSERT INTO t VALUES (2, 2)").unwrap();
    replica.catch_up(&*source, &mut stream).await;
    replica.compare(&*source).await;
    // Another identity has it copied anew, and what comes after the copy is not published yet.
    replica.copy_all(&*source).await;
    replica.look(&*source).await;
    assert_eq!(replica.stale, [0u64; 0]);
    postgres.psql("locked", "UPDATE t SET v = 5 WHERE id = 2").unwrap();
    holder.batch_execute("ROLLBACK").await.unwrap();
    for _ in 0..300 {
        assert_eq!(excluded().await, None);
        if publication() == "mainstem_shop" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(publication(), "mainstem_shop");
    replica.look(&*source).await;
    assert_eq!(replica.stale, [oid(&postgres, "locked", "t").0], "the update before the move is in no stream");
    replica.copy_all(&*source).await;
    postgres.psql("locked", "UPDATE t SET v = 3 WHERE id = 1").unwrap();
    replica.catch_up(&*source, &mut stream).await;
    replica.compare(&*source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_administrators_trigger_a_dropped_key_stops_no_update() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("trigger").unwrap();
    let make = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2); CREATE TABLE n (v int); \
                CREATE ROLE app LOGIN PASSWORD 'app'; CREATE ROLE owner; ALTER TABLE t OWNER TO owner; ALTER TABLE n OWNER TO owner; \
                GRANT CREATE ON SCHEMA public TO owner";
    postgres.psql("trigger", make).unwrap();
    let app = postgres.url_as("app", "app", "trigger");
    let source = open(&app, &[]);
    let findings = source.check().await.unwrap();
    let script = source.administrator_script(&findings).await.unwrap().unwrap();
    postgres.psql("trigger", &script).unwrap();
    let source = open(&app, &[("publication", "mainstem_shop, mainstem_shop_append")]);
    let (mut replica, mut stream) = begin(&source).await;
    // In the transaction itself, and at once after it; by one who owns the table and nothing else.
    let deeds = [
        ("BEGIN; ALTER TABLE t DROP CONSTRAINT t_pkey; UPDATE t SET v = 3 WHERE id = 1; COMMIT", "shop_append:n shop_append:t"),
        ("DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (5, 5)", "shop_append:n shop_append:t"),
        ("ALTER TABLE t ADD PRIMARY KEY (id); UPDATE t SET v = 9 WHERE id = 1", "shop:t shop_append:n"),
        ("ALTER TABLE n REPLICA IDENTITY FULL; INSERT INTO n VALUES (1), (2); DELETE FROM n WHERE v = 1", "shop:n shop:t"),
    ];
    for (deed, expected) in deeds {
        postgres.psql("trigger", &format!("SET ROLE owner; {deed}")).unwrap();
        let sql = "SELECT string_agg(substr(pubname, 10) || ':' || tablename, ' ' ORDER BY pubname, tablename) FROM pg_publication_tables";
        assert_eq!(postgres.psql("trigger", sql).unwrap().trim(), expected, "{deed}");
    }
    // Another identity is another table to the contract: copied anew.
    replica.catch_up(&*source, &mut stream).await;
    replica.copy_all(&*source).await;
    postgres.psql("trigger", "UPDATE t SET v = 10 WHERE id = 1; DELETE FROM n").unwrap();
    replica.catch_up(&*source, &mut stream).await;
    replica.compare(&*source).await;
    drop(url);
}

/// Row filters and column lists are of PostgreSQL 15.
fn has_filters(postgres: &Postgres) -> bool {
    postgres.psql("postgres", "SELECT current_setting('server_version_num')::int >= 150000").unwrap().trim() == "t"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_publication_that_leaves_something_out_is_refused() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("narrow").unwrap();
    postgres.psql("narrow", "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE n (id int)").unwrap();
    let narrowed = async |tables: &str| {
        let source = open(&url, &[("publication", "p, q"), ("tables", tables)]);
        let findings = source.check().await.unwrap();
        let found: Vec<_> = findings.into_iter().filter(|f| f.code == "PG-022").collect();
        let prepared = source.prepare(None).await;
        assert_eq!(prepared.err().map(|e| e.code().id), found.first().map(|f| f.code), "{found:#?}");
        source.remove().await.unwrap();
        found
    };
    let append = "CREATE PUBLICATION q FOR TABLE n WITH (publish = 'insert, truncate')";
    let mut cases = vec![
        ("p FOR TABLE t WITH (publish = 'insert, update')", append, "does not publish delete, truncate of public.t"),
        ("p", "CREATE PUBLICATION q FOR TABLE t, n WITH (publish = 'insert, truncate')", "update, delete of public.t"),
        ("p FOR TABLE t", "CREATE PUBLICATION q FOR TABLE n WITH (publish = 'insert')", "does not publish truncate of public.n"),
    ];
    if has_filters(&postgres) {
        cases.push(("p FOR TABLE t WHERE (id > 5)", append, "only some rows of public.t"));
        cases.push(("p FOR TABLE t (id)", append, "a list of columns only of public.t"));
    }
    for (first, second, expected) in cases {
        postgres.psql("narrow", &format!("CREATE PUBLICATION {first}; {second}")).unwrap();
        let found = narrowed("public.*").await;
        assert_eq!(found.len(), 1, "{first}: {found:#?}");
        assert!(found[0].severity == Severity::Fatal && found[0].message.contains(expected), "{found:#?}");
        let other = if expected.ends_with('t') { "public.n" } else { "public.t" };
        assert!(narrowed(other).await.is_empty(), "{first}: {other} comes whole");
        postgres.psql("narrow", found[0].fix.as_ref().unwrap()).unwrap();
        assert!(narrowed("public.*").await.is_empty(), "{first} was mended");
        postgres.psql("narrow", "DROP PUBLICATION p, q").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_altered_publication_missed_is_copied_anew() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("altered").unwrap();
    let make = "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE n (id int); CREATE PUBLICATION given FOR ALL TABLES";
    postgres.psql("altered", make).unwrap();
    postgres.psql("altered", "ALTER TABLE n REPLICA IDENTITY FULL").unwrap();
    let given = open(&url, &[("publication", "given")]);
    let (mut replica, stream) = begin(&given).await;
    postgres.psql("altered", "ALTER PUBLICATION given SET (publish = 'insert')").unwrap();
    let refused = given.discover().await.unwrap_err();
    assert_eq!((refused.code().id, refused.kind()), ("PG-022", ErrorKind::FixInput), "{}", refused.chain());
    postgres.psql("altered", refused.hint_text().unwrap()).unwrap();
    replica.look(&*given).await;
    assert_eq!(replica.stale.len(), 2, "{:?}", replica.stale);
    drop(stream);
    given.remove().await.unwrap();
    postgres.psql("altered", "DROP PUBLICATION given; ALTER TABLE n REPLICA IDENTITY DEFAULT").unwrap();
    // Ours are put right.
    let ours = open(&url, &[]);
    let (mut replica, mut stream) = begin(&ours).await;
    replica.catch_up(&*ours, &mut stream).await;
    drop(stream);
    let position = replica.position.clone().unwrap();
    let mut changes = vec![
        "ALTER PUBLICATION mainstem_shop SET (publish = 'insert')",
        "ALTER PUBLICATION mainstem_shop_append SET (publish = 'truncate')",
    ];
    if has_filters(&postgres) {
        changes.push("ALTER PUBLICATION mainstem_shop_append SET TABLE n WHERE (id > 5)");
    }
    for change in changes {
        postgres.psql("altered", change).unwrap();
        assert_eq!(ours.discover().await.err().map(|e| e.code().id), Some("PG-012"), "{change}");
        assert!(ours.prepare(Some(&position)).await.unwrap().lost.is_some_and(|lost| lost.contains("altered")), "{change}");
        ours.discover().await.unwrap();
    }
    if has_filters(&postgres) {
        replica.look(&*ours).await;
        assert_eq!(replica.stale, [0u64; 0]);
        postgres.psql("altered", "ALTER PUBLICATION mainstem_shop SET TABLE t WHERE (id > 5)").unwrap();
        replica.look(&*ours).await;
        assert_eq!(replica.stale, [oid(&postgres, "altered", "t").0]);
        let filters = "SELECT count(*) FROM pg_publication_tables WHERE rowfilter IS NOT NULL";
        assert_eq!(postgres.psql("altered", filters).unwrap().trim(), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_hide_nothing_silently() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("rls").unwrap();
    postgres
        .psql(
            "rls",
            "CREATE TABLE r (id int PRIMARY KEY); INSERT INTO r SELECT generate_series(1, 10); ALTER TABLE r ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON r USING (id < 5); CREATE ROLE app LOGIN REPLICATION PASSWORD 'app'; GRANT SELECT ON r TO app;
            CREATE ROLE wide LOGIN REPLICATION BYPASSRLS PASSWORD 'wide'; GRANT SELECT ON r TO wide;
            CREATE PUBLICATION given FOR TABLE r",
        )
        .unwrap();
    let given = [("publication", "given")];
    let table = oid(&postgres, "rls", "r");
    let narrow = open(&postgres.url_as("app", "app", "rls"), &given);
    let findings = narrow.check().await.unwrap();
    assert!(findings.iter().any(|f| f.code == "PG-017" && f.severity == Severity::Fatal), "{findings:#?}");
    narrow.prepare(None).await.unwrap();
    let refused = match narrow.copy(table).await {
        Err(error) => error,
        Ok(mut copy) => copy.next().await.unwrap_err(),
    };
    assert_eq!((refused.code().id, refused.kind()), ("PG-017", ErrorKind::FixInput), "{}", refused.chain());
    let wide = open(&postgres.url_as("wide", "wide", "rls"), &given);
    assert!(wide.check().await.unwrap().iter().all(|f| f.code != "PG-017"));
    let mut replica = Replica::default();
    replica.copy(&*wide, table).await;
    assert_eq!(replica.rows[&table.0].len(), 10);
    // The owner too, when the policies are forced upon it.
    postgres.psql("rls", "ALTER TABLE r FORCE ROW LEVEL SECURITY; ALTER TABLE r OWNER TO app").unwrap();
    assert!(narrow.check().await.unwrap().iter().any(|f| f.code == "PG-017"));
    drop((narrow, wide, url));
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_over_tls_are_bound_to_the_channel() {
    let postgres = Postgres::start(PostgresOptions { tls: true, tls_only: true, ..Default::default() }).unwrap();
    let before = metrics::CHANNEL_BOUND_LOGINS.get();
    open(&postgres.url("postgres"), &[]).head().await.unwrap();
    assert!(metrics::CHANNEL_BOUND_LOGINS.get() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_transaction_is_spooled_on_disk_without_what_was_undone() {
    let postgres = Postgres::start(PostgresOptions::default().set("logical_decoding_work_mem", "4MB")).unwrap();
    let url = postgres.create_database("huge").unwrap();
    postgres.psql("huge", "CREATE TABLE t (id bigint PRIMARY KEY, v text)").unwrap();
    let source = open(&url, &[]);
    let start = source.prepare(None).await.unwrap().start;
    let mut stream = source.stream(&start).await.unwrap();
    let spooled = metrics::SPOOLED_BYTES.get();
    let fill = |from: i64| format!("INSERT INTO t SELECT {from} + g, repeat('v', 1000) FROM generate_series(1, 20000) g;");
    let mut sql = String::from("BEGIN;");
    for part in 0..5 {
        sql += &format!("{} SAVEPOINT s; {} ROLLBACK TO s;", fill(part * 1_000_000), fill(part * 1_000_000 + 500_000));
    }
    postgres.psql("huge", &(sql + "COMMIT")).unwrap();
    let (mut rows, mut sum, mut pieces) = (0, 0i64, 0);
    loop {
        let item = tokio::time::timeout(Duration::from_secs(120), stream.next()).await.unwrap().unwrap();
        let StreamItem::Changes { batches, end } = item else { continue };
        for batch in batches {
            rows += batch.len();
            sum += replica::cells_of_column(&batch.rows, 0).into_iter().sum::<i64>();
        }
        pieces += 1;
        if end.is_some() {
            break;
        }
    }
    let expected: i64 = postgres.psql("huge", "SELECT sum(id) FROM t").unwrap().trim().parse().unwrap();
    assert_eq!((rows, sum), (100_000, expected));
    assert!(pieces > 5);
    assert!(metrics::SPOOLED_BYTES.get() - spooled > 150_000_000, "{}", metrics::SPOOLED_BYTES.get() - spooled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_that_is_open_at_the_start_is_not_lost() {
    let postgres = Postgres::start(PostgresOptions::default().set("max_prepared_transactions", "5")).unwrap();
    let url = postgres.create_database("twophase").unwrap();
    postgres.create_database("other").unwrap();
    postgres.psql("twophase", "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").unwrap();
    postgres.psql("twophase", "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'early'").unwrap();
    let source = open(&url, &[]);
    let waiting = source.check().await.unwrap();
    assert!(
        waiting.iter().any(|f| f.message.contains("early") && f.fix.as_deref() == Some("ROLLBACK PREPARED 'early';")),
        "{waiting:#?}"
    );
    let preparing = tokio::spawn({
        let source = source.clone();
        async move { source.prepare(None).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!preparing.is_finished(), "the slot waits for the prepared transaction");
    postgres.psql("twophase", "COMMIT PREPARED 'early'").unwrap();
    let prepared = preparing.await.unwrap().unwrap();
    let mut stream = source.stream(&prepared.start).await.unwrap();
    // One that is prepared before a table is published and committed after: the copy waits for it. One of another database holds
    // nobody up.
    postgres.psql("twophase", "CREATE TABLE late (id int PRIMARY KEY)").unwrap();
    postgres.psql("twophase", "BEGIN; INSERT INTO late VALUES (1); PREPARE TRANSACTION 'late'").unwrap();
    postgres.psql("other", "BEGIN; CREATE TABLE o (id int); PREPARE TRANSACTION 'other'").unwrap();
    source.discover().await.unwrap();
    let late = oid(&postgres, "twophase", "late");
    let copying = tokio::spawn({
        let source = source.clone();
        async move {
            let mut replica = Replica::default();
            replica.copy(&*source, late).await;
            replica
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!copying.is_finished(), "the copy waits for the prepared transaction");
    postgres.psql("twophase", "COMMIT PREPARED 'late'").unwrap();
    let mut replica = tokio::time::timeout(Duration::from_secs(20), copying).await.unwrap().unwrap();
    for table in ["t", "u"] {
        replica.copy(&*source, oid(&postgres, "twophase", table)).await;
    }
    postgres.psql("twophase", "BEGIN; INSERT INTO u VALUES (7); INSERT INTO late VALUES (7); PREPARE TRANSACTION 'x'").unwrap();
    postgres.psql("twophase", "COMMIT PREPARED 'x'").unwrap();
    replica.catch_up(&*source, &mut stream).await;
    replica.compare(&*source).await;
    assert_eq!(replica.rows[&late.0].len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walsender_that_is_killed_costs_nothing() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("cut").unwrap();
    postgres.psql("cut", "CREATE TABLE t (id int PRIMARY KEY, v text)").unwrap();
    let source = open(&url, &[]);
    let (mut replica, mut stream) = begin(&source).await;
    replica.catch_up(&*source, &mut stream).await;
    for round in 0..6 {
        let small = format!(
            "DO $$ BEGIN FOR i IN 1..300 LOOP INSERT INTO t VALUES ({round} * 1000 + i, repeat('x', 500)); COMMIT; END LOOP; END $$"
        );
        let large = format!("INSERT INTO t SELECT {round} * 1000000 + g + 100000, 'large' FROM generate_series(1, 5000) g");
        for sql in [small, large] {
            postgres.psql("cut", &sql).unwrap();
        }
        let mut items = 0;
        let error = loop {
            if items == round {
                postgres.psql("cut", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication").unwrap();
            }
            items += 1;
            match tokio::time::timeout(Duration::from_secs(30), stream.next()).await.unwrap() {
                Ok(item) => replica.take(item, &mut stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Retry, "{}", error.chain());
        drop(stream);
        let position = replica.position.clone().unwrap();
        assert_eq!(source.prepare(Some(&position)).await.unwrap().lost, None);
        stream = reopen(&source, &position).await;
        if round % 2 == 0 {
            replica.catch_up(&*source, &mut stream).await;
        }
    }
    replica.catch_up(&*source, &mut stream).await;
    let ids: BTreeSet<_> = replica.rows.values().flatten().map(|row| row[0].clone()).collect();
    assert_eq!(ids.len(), 6 * 5300);
    replica.compare(&*source).await;
}

/// Two large tables and many small ones at once: whatever is asked for, so many sessions copy.
#[tokio::test(flavor = "multi_thread")]
async fn copies_use_no_more_connections_than_they_may() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("many").unwrap();
    let make = "DO $$ BEGIN FOR i IN 1..20 LOOP EXECUTE format('CREATE TABLE small%s (id int PRIMARY KEY, v text)', i);
        EXECUTE format('INSERT INTO small%s VALUES (1, ''x'')', i); END LOOP;
        FOR i IN 1..3 LOOP EXECUTE format('CREATE TABLE large%s (id int PRIMARY KEY, v text)', i);
        EXECUTE format('INSERT INTO large%s SELECT g, repeat(md5(g::text), 45) FROM generate_series(1, 20000) g', i); END LOOP; END $$";
    postgres.psql("many", make).unwrap();
    let tables = postgres.psql("many", "SELECT oid FROM pg_class WHERE relname ~ '^(small|large)' AND relkind = 'r'").unwrap();
    let tables: Vec<u64> = tables.lines().map(|oid| oid.parse().unwrap()).collect();
    let watcher = postgres.connect("many").await.unwrap();
    for most in [1, 2, 4] {
        let source = open(&url, &[("copy_piece_mib", "1"), ("copy_connections", &most.to_string())]);
        source.prepare(None).await.unwrap();
        let copies = futures::future::join_all(tables.iter().map(async |table| {
            let mut copy = source.copy(UpstreamId(*table)).await.unwrap();
            let mut rows = 0;
            while let Some(Copied::Rows(batch)) = copy.next().await.unwrap() {
                rows += batch.len();
                // As slow as a busy disk: the sessions stay as long as they are seen.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            rows
        }));
        let (mut seen, mut rows) = (0, Vec::new());
        let mut copies = Box::pin(copies);
        while rows.is_empty() {
            tokio::select! {
                done = &mut copies => rows = done,
                () = tokio::time::sleep(Duration::from_millis(1)) => {
                    let copying = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mainstem shop' \
                                   AND backend_type = 'client backend' AND query ~ 'COPY|LOCK TABLE|SNAPSHOT'";
                    seen = seen.max(watcher.query_one(copying, &[]).await.unwrap().get::<_, i64>(0));
                }
            }
        }
        assert_eq!(rows.iter().sum::<usize>(), 3 * 20_000 + 20);
        assert!((1..=most).contains(&seen), "{seen} sessions copied, {most} may");
        if most == 4 {
            assert!(seen > 1, "one session at a time");
        }
        source.remove().await.unwrap();
    }
}
