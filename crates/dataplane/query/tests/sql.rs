//! SQL over snapshots that the test builds: hot rows, Parquet files and deleted rows, compared with the same rows in one plain table.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // a test builds its world by hand

mod world;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use mainstem_types::sql::{Outcome, SqlSession};
use std::sync::Arc;
use world::World;

/// Runs one statement; rows as text, columns joined by `|`, or the tag, or `ERROR <sqlstate>: <message> [@position] [hint]`.
async fn run(session: &Arc<dyn SqlSession>, sql: &str) -> Vec<String> {
    match try_run(session, sql).await {
        Ok(rows) => rows,
        Err(error) => {
            let position = error.position().map_or(String::new(), |at| format!(" @{at}"));
            let hint = error.hint_text().map_or(String::new(), |hint| format!(" [{hint}]"));
            vec![format!("ERROR {}: {}{position}{hint}", error.code().sqlstate, error.message())]
        }
    }
}

async fn try_run(session: &Arc<dyn SqlSession>, sql: &str) -> mainstem_types::Result<Vec<String>> {
    let prepared = session.prepare(sql, &[]).await?;
    match prepared.execute(Vec::new()).await? {
        Outcome::Done { tag, notices } => Ok(std::iter::once(tag).chain(notices).collect()),
        Outcome::Empty => Ok(vec!["empty".into()]),
        Outcome::Rows { schema, mut batches, notices } => {
            assert_eq!(prepared.columns().as_ref(), Some(&schema), "{sql}");
            let mut rows: Vec<String> = notices.into_iter().map(|n| format!("NOTICE {n}")).collect();
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                assert_eq!(batch.schema(), schema, "{sql}");
                let options = FormatOptions::default().with_null("NULL");
                let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
                for row in 0..batch.num_rows() {
                    rows.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|"));
                }
            }
            Ok(rows)
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Statement and expected rows, on one session, in order.
fn check_all(cases: &[(&str, &[&str])]) {
    runtime().block_on(async {
        let world = World::new();
        let session = world.session().await;
        for (sql, expected) in cases {
            assert_eq!(run(&session, sql).await, *expected, "{sql}");
        }
    });
}

#[test]
fn queries_give_what_the_same_rows_in_one_table_give() {
    let queries: &[&str] = &[
        "SELECT count(*) FROM shop.item",
        "SELECT count(*), count(name), count(price), min(id), max(id), sum(qty) FROM shop.item",
        "SELECT * FROM shop.item ORDER BY id",
        "SELECT id FROM shop.item WHERE id < 10 ORDER BY id",
        "SELECT id, name FROM shop.item WHERE id BETWEEN 95 AND 105 ORDER BY id",
        "SELECT id FROM shop.item WHERE name = 'n17' ORDER BY 1",
        "SELECT id FROM shop.item WHERE name IS NULL ORDER BY 1",
        "SELECT id FROM shop.item WHERE price IS NOT NULL AND price > 50 ORDER BY 1",
        "SELECT id FROM shop.item WHERE id IN (1, 2, 3, 150, 260, 9999) ORDER BY 1",
        "SELECT id FROM shop.item WHERE name LIKE 'n1%' OR qty = 3 ORDER BY 1",
        "SELECT id FROM shop.item WHERE name ILIKE 'N2%' ORDER BY 1",
        "SELECT id FROM shop.item WHERE name ~ '^n[34]$' ORDER BY 1",
        "SELECT id FROM shop.item ORDER BY id DESC LIMIT 7",
        "SELECT id FROM shop.item ORDER BY id LIMIT 5 OFFSET 90",
        "SELECT id, price FROM shop.item ORDER BY price DESC NULLS LAST, id LIMIT 9",
        "SELECT qty, count(*), sum(price) FROM shop.item GROUP BY qty ORDER BY qty",
        "SELECT qty, avg(price) FROM shop.item GROUP BY qty HAVING count(*) > 10 ORDER BY qty",
        "SELECT DISTINCT qty FROM shop.item ORDER BY qty",
        "SELECT DISTINCT ON (qty) qty, id FROM shop.item ORDER BY qty, id DESC",
        "SELECT a.id, b.id FROM shop.item a JOIN shop.item b ON a.id = b.id + 100 ORDER BY 1, 2",
        "SELECT count(*) FROM shop.item a JOIN shop.item b USING (qty)",
        "SELECT a.id FROM shop.item a LEFT JOIN shop.item b ON a.id = b.id + 1 WHERE b.id IS NULL ORDER BY 1",
        "SELECT id FROM shop.item WHERE id = (SELECT max(id) FROM shop.item)",
        "SELECT count(*) FROM shop.item WHERE EXISTS (SELECT 1 FROM shop.item b WHERE b.id = item.id + 1)",
        "SELECT at FROM shop.item WHERE at = TIME '00:00:05' ORDER BY id",
        "SELECT min(at), max(at) FROM shop.item",
        "SELECT count(*) FROM (SELECT id FROM shop.item LIMIT 20) s",
        "SELECT count(*) FROM (SELECT id FROM shop.item OFFSET 20) s",
        "SELECT count(*) FROM shop.item WHERE id > 100000",
        "WITH x AS (SELECT qty, count(*) AS n FROM shop.item GROUP BY qty) SELECT max(n) FROM x",
        "SELECT id, row_number() OVER (ORDER BY id) FROM shop.item ORDER BY id LIMIT 12",
        "SELECT qty, name FROM shop.item WHERE qty = 1 UNION SELECT qty, name FROM shop.item WHERE qty = 2 ORDER BY 1, 2",
        "SELECT extra, count(*) FROM shop.item GROUP BY extra ORDER BY 1",
    ];
    runtime().block_on(async {
        for (name, world) in World::variants() {
            let session = world.session().await;
            let plain = world.plain_session().await;
            for sql in queries {
                let expected = run(&plain, sql).await;
                assert!(!expected.iter().any(|row| row.starts_with("ERROR")), "{sql}: {expected:?}");
                assert_eq!(run(&session, sql).await, expected, "{name}: {sql}");
            }
        }
    });
}

#[test]
fn row_counts_need_no_scan() {
    check_all(&[("EXPLAIN SELECT count(*) FROM shop.item", &["ProjectionExec: expr=[270 as count]", "  PlaceholderRowExec"])]);
}

#[test]
fn statements_of_a_session() {
    check_all(&[
        ("", &["empty"]),
        ("-- nothing", &["empty"]),
        (
            "SELECT count(DISTINCT routine_name) FROM information_schema.routines WHERE routine_name IN ('lower', 'count', 'rank')",
            &["3"],
        ),
        ("SELECT 1", &["1"]),
        ("SELECT 1, 1", &["1|1"]),
        ("SELECT id, id, * FROM shop.tiny", &["1|1|1|a", "2|2|2|b"]),
        ("SELECT 1.5 + 0.25", &["1.75"]),
        ("SELECT current_database(), current_user, current_schema()", &["main|admin|public"]),
        ("SET search_path TO shop", &["SET"]),
        ("SELECT name FROM tiny ORDER BY id", &["a", "b"]),
        ("RESET search_path", &["RESET"]),
        ("SHOW search_path", &["\"$user\", public"]),
        ("SELECT current_setting('server_version')", &["15.0"]),
        ("BEGIN", &["BEGIN"]),
        ("SELECT nope", &["ERROR 42703: column \"nope\" does not exist @8"]),
        ("SELECT 1", &["ERROR 25P02: current transaction is aborted, commands ignored until end of transaction block"]),
        ("COMMIT", &["ROLLBACK"]),
        ("SELECT count(*) FROM mainstem.sessions", &["1"]),
        (
            "SELECT statement FROM mainstem.sessions WHERE 'geheim' <> ''",
            &["SELECT statement FROM mainstem.sessions WHERE '?' <> '?'"],
        ),
        ("SELECT table_name, rows FROM mainstem.tables WHERE table_name = 'tiny'", &["tiny|2"]),
        ("PAUSE SOURCE shop", &["PAUSE SOURCE", "PAUSE SOURCE shop"]),
        ("SHOW CREATE SOURCE shop", &["CREATE SOURCE shop FROM '...'"]),
        ("SELECT name FROM mainstem.sources", &["shop"]),
        ("SHOW SOURCES", &["shop|postgres|streaming"]),
        ("SHOW password_encryption", &["scram-sha-256"]),
        (
            "ALTER USER CURRENT_USER PASSWORD 'geheim'",
            &["ERROR 0A000: ALTER ROLE is not supported yet [`admin` is the only user.]"],
        ),
        ("SELECT 'shop.tiny'::regclass = (SELECT oid FROM pg_class WHERE relname = 'tiny')", &["true"]),
    ]);
}

#[test]
fn a_cursor_that_is_read_to_its_end_has_no_more_rows() {
    check_all(&[
        ("BEGIN", &["BEGIN"]),
        ("DECLARE c CURSOR FOR SELECT 1", &["DECLARE CURSOR"]),
        ("FETCH ALL FROM c", &["1"]),
        ("FETCH ALL FROM c", &[]),
        ("FETCH 1 FROM c", &[]),
        ("MOVE ALL IN c", &["MOVE 0"]),
        ("DECLARE wrong CURSOR WITH HOLD FOR SELECT 1 / (id - 1) FROM shop.tiny ORDER BY id", &["ERROR 22012: division by zero"]),
        ("ROLLBACK", &["ROLLBACK"]),
    ]);
    let mut panics = String::new();
    mainstem_types::metrics::Metric::write(&mainstem_query::metrics::PANICS, &mut panics);
    assert!(panics.ends_with("total 0\n"), "{panics}");
}

#[test]
fn errors_have_code_place_and_hint() {
    check_all(&[
        ("SELEC 1", &["ERROR 42601: syntax error at or near \"SELEC\": expected an SQL statement @1"]),
        ("SELECT * FROM shop.itme", &["ERROR 42P01: relation \"shop.itme\" does not exist @15 [Perhaps you meant shop.item.]"]),
        (
            "SELECT * FROM item",
            &["ERROR 42P01: relation \"item\" does not exist @15 [There is shop.item: write it so, or SET search_path = shop.]"],
        ),
        ("SELECT i.nam FROM shop.item i", &["ERROR 42703: column \"i.nam\" does not exist @8 [Perhaps you meant \"name\".]"]),
        ("SELECT 1/0", &["ERROR 22012: division by zero"]),
        ("SELECT $4294967296", &["ERROR 42P02: there is no parameter $4294967296 @8 [Parameters are $1 to $65535.]"]),
        ("SELECT 1, $0", &["ERROR 42P02: there is no parameter $0 @11 [Parameters are $1 to $65535.]"]),
        (
            "SELECT count(*) FROM shop.item GROUP BY CUBE (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)",
            &["ERROR 54011: CUBE is limited to 12 elements"],
        ),
        (
            "SELECT 'geheim'::int",
            &[
                "ERROR 22P02: invalid input syntax for type integer [Look for rows whose text does not have that form, or use try_cast(... AS ...), which gives NULL for them.]",
            ],
        ),
        (
            "INSERT INTO shop.item VALUES (1)",
            &[
                "ERROR 25006: INSERT is not possible: live tables follow their source and are read-only here [Write to the source database; the change is visible here within milliseconds.]",
            ],
        ),
        (
            "CREATE TABLE geheim (a int)",
            &[
                "ERROR 25006: CREATE TABLE is not possible: live tables follow their source and are read-only here [Write to the source database; the change is visible here within milliseconds.]",
            ],
        ),
        ("CREATE VIEW v AS SELECT 1", &["ERROR 0A000: CREATE VIEW is not supported yet"]),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", &["ERROR 0A000: CREATE VIEW is not supported yet"]),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", &["ERROR 0A000: CREATE MATERIALIZED VIEW is not supported yet"]),
        ("CREATE UNIQUE INDEX i ON shop.item (id)", &["ERROR 0A000: CREATE INDEX is not supported yet"]),
        ("CREATE SCHEMA geheim", &["ERROR 0A000: CREATE SCHEMA is not supported yet"]),
        ("DROP VIEW geheim", &["ERROR 0A000: DROP VIEW is not supported yet"]),
        ("GRANT SELECT ON shop.item TO eve", &["ERROR 0A000: GRANT is not supported yet"]),
        ("COMMENT ON TABLE shop.item IS 'geheim'", &["ERROR 0A000: COMMENT ON is not supported yet"]),
        (
            "ALTER ROLE eve SUPERUSER",
            &[
                "ERROR 0A000: attributes of users other than PASSWORD are not supported yet @16 [Syntax: ALTER { USER | ROLE } name [WITH] PASSWORD 'password';]",
            ],
        ),
        (
            "TRUNCATE shop.item",
            &[
                "ERROR 25006: TRUNCATE is not possible: live tables follow their source and are read-only here [Write to the source database; the change is visible here within milliseconds.]",
            ],
        ),
        (
            "SELECT * FROM shop.copying",
            &[
                "ERROR 55000: shop.copying is not readable yet: snapshotting, 10 rows of about 4711 copied @15 [WAIT FOR SOURCE shop returns when it is; mainstem.source_tables shows the progress.]",
            ],
        ),
        (
            "SELECT count(*) FROM shop.broken",
            &[
                "NOTICE shop.broken has failed (PG-001) and stands at 0/10; mainstem.source_tables has the cause, RESYNC SOURCE shop TABLE public.broken rebuilds it",
                "2",
            ],
        ),
    ]);
}

#[test]
fn inserts_only_is_said_once_in_a_session() {
    const NOTICE: &str = "NOTICE shop.keyless shows inserts only: updates and deletes in its source cannot be captured; mainstem.source_tables says why, and what mends it";
    check_all(&[
        ("SELECT count(*) FROM shop.item", &["270"]),
        ("SELECT count(*) FROM shop.keyless a, shop.keyless b", &[NOTICE, "4"]),
        ("SELECT count(*) FROM shop.keyless", &["2"]),
    ]);
}

#[test]
fn a_parent_shows_its_leaves() {
    const PARTS: &str = "SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i \
         WHERE c.oid = i.inhrelid AND i.inhparent = (SELECT oid FROM pg_catalog.pg_class WHERE relname = 'parent') \
         ORDER BY c.oid::pg_catalog.regclass::pg_catalog.text";
    check_all(&[
        ("SELECT relkind, reltuples, relhassubclass FROM pg_class WHERE relname = 'parent'", &["r|4.0|true"]),
        (PARTS, &["shop.leaf_a", "shop.leaf_b"]),
        ("SELECT tablename FROM pg_tables WHERE tablename = 'parent'", &["parent"]),
        (
            "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relname = 'parent'",
            &["SELECT id, name FROM shop.leaf_a\nUNION ALL\nSELECT id, name FROM shop.leaf_b;"],
        ),
        ("SELECT count(*) FROM shop.parent", &["4"]),
        ("SELECT id, name FROM shop.parent WHERE id = 1", &["1|a", "1|a"]),
    ]);
}

/// What `eve`, who may read nothing, gets for a statement, its errors and hints included; and what `admin` gets for it.
async fn both(world: &World, sql: &str) -> (Vec<String>, Vec<String>) {
    let mut found = Vec::new();
    for user in ["eve", "admin"] {
        let session = world.session_of(user).await;
        let mut rows = Vec::new();
        for statement in sql.split(";;") {
            rows.extend(run(&session, statement).await);
        }
        found.push(rows);
    }
    let admin = found.pop().unwrap();
    (found.pop().unwrap(), admin)
}

#[test]
fn who_has_no_right_finds_no_name_no_count_and_no_value() {
    // Statements by which `admin` finds something: a name, a count or a value of the world.
    let telling: &[&str] = &[
        "SELECT * FROM shop.tiny",
        "TABLE shop.tiny",
        "SELECT count(*) FROM shop.item",
        "SELECT max(id) FROM shop.item",
        "SELECT (SELECT name FROM shop.tiny LIMIT 1)",
        "WITH x AS (SELECT count(*) AS n FROM shop.item) SELECT n FROM x",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM shop.item)",
        "SELECT * FROM shop.parent",
        "SELECT * FROM shop.leaf_a",
        "SELECT * FROM shop.copying",
        "SELECT * FROM shop.broken",
        "SET search_path = shop;;SELECT * FROM tiny",
        "EXPLAIN SELECT count(*) FROM shop.item",
        "EXPLAIN SELECT * FROM shop.tiny",
        "EXPLAIN ANALYZE SELECT * FROM shop.tiny",
        "BEGIN;;DECLARE c CURSOR FOR SELECT * FROM shop.tiny;;FETCH ALL FROM c",
        "BEGIN ISOLATION LEVEL REPEATABLE READ;;SELECT count(*) FROM shop.item",
        // Hints.
        "SELECT * FROM shop.itme",
        "SELECT * FROM item",
        "SELECT * FROM shpo.item",
        "SELECT nam FROM shop.tiny",
        "SELECT i.nam FROM shop.item i",
        // Catalogs.
        "SELECT relname, reltuples FROM pg_class WHERE relname NOT LIKE 'pg%'",
        "SELECT attname FROM pg_attribute WHERE attname = 'qty'",
        "SELECT nspname FROM pg_namespace",
        "SELECT tablename FROM pg_tables WHERE schemaname NOT LIKE 'pg%'",
        "SELECT indexdef FROM pg_indexes",
        "SELECT conname FROM pg_constraint",
        "SELECT indexrelid, indrelid FROM pg_index",
        "SELECT inhrelid FROM pg_inherits",
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop'",
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'shop'",
        "SELECT schema_name FROM information_schema.schemata",
        "SELECT constraint_name FROM information_schema.table_constraints",
        "SELECT column_name FROM information_schema.key_column_usage",
        "SELECT 'shop.item'::regclass",
        "SELECT 'shop.item'::regclass::text",
        "SELECT c.oid::regclass FROM pg_class c WHERE relnamespace NOT IN (11, 13000)",
        "SELECT 100001::regclass::text FROM pg_namespace WHERE nspname = 'shop'",
        "SELECT pg_relation_size('shop.item')",
        "SELECT pg_total_relation_size(100001)",
        "SELECT pg_database_size('main') > 0",
        "SET search_path = shop;;SELECT current_schema()",
        "SET search_path = shop;;SELECT current_schemas(true)",
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index",
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint",
        "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relname = 'parent'",
        // Ours.
        "SELECT * FROM mainstem.tables",
        "SELECT * FROM mainstem.sources",
        "SELECT * FROM mainstem.source_tables",
        "SELECT * FROM mainstem.sessions WHERE principal = 'admin'",
        "SELECT usename FROM pg_stat_activity WHERE usename = 'admin'",
        "SELECT pg_cancel_backend(7)",
        "SHOW SOURCES",
        "SHOW CREATE SOURCE shop",
        "PAUSE SOURCE shop",
        "RESUME SOURCE shop",
        "RESYNC SOURCE shop",
        "DROP SOURCE shop CASCADE",
        "ALTER SOURCE shop SET (tables = 'x')",
        "CREATE SOURCE y FROM 'postgres://u:p@h/d'",
        "WAIT FOR SOURCE shop",
    ];
    let names = ["shop", "tiny", "leaf_", "qty", "n17", "copying", "270", "|a", "PLAN", "Exec", "streaming", "4711", "_pkey"];
    runtime().block_on(async {
        let world = World::new();
        // Somebody whose session is not eve's to see.
        let _other = world.session().await;
        for sql in telling {
            let (eve, admin) = both(&world, sql).await;
            assert_ne!(eve, admin, "{sql}: whoever may nothing learns what admin learns");
            // What she wrote herself may come back.
            let learned = names.iter().find(|name| !sql.contains(*name) && eve.iter().any(|row| row.contains(*name)));
            assert_eq!(learned, None, "{sql}: {eve:?}");
        }
        // A table that is there and one that is not are one and the same to her.
        for (there, not_there) in [("shop.item", "shop.nope"), ("shop.parent", "shop.none"), ("shop.copying", "shop.nothing")] {
            let eve = world.session_of("eve").await;
            for form in
                ["SELECT * FROM {}", "EXPLAIN SELECT count(*) FROM {}", "SELECT '{}'::regclass", "SELECT pg_relation_size('{}')"]
            {
                let of = |name: &str| form.replace("{}", name);
                let (a, b) = (run(&eve, &of(there)).await, run(&eve, &of(not_there)).await);
                let b: Vec<_> = b.iter().map(|row| row.replace(not_there, there)).collect();
                assert_eq!(a, b, "{form}");
            }
        }
        // What remains: SELECT without tables, the catalogs of the system, oneself, and a password of one's own.
        let eve = world.session_of("eve").await;
        assert_eq!(run(&eve, "SELECT 1 + 1, current_user").await, ["2|eve"]);
        assert_eq!(run(&eve, "SELECT count(*) > 10 FROM pg_class").await, ["true"]);
        assert_eq!(run(&eve, "SELECT principal FROM mainstem.sessions GROUP BY principal").await, ["eve"]);
        assert_eq!(run(&eve, "SELECT rolname, rolsuper FROM pg_roles").await, ["eve|false"]);
        assert_eq!(
            run(&eve, "ALTER USER eve PASSWORD 'x'").await,
            ["ERROR 0A000: ALTER ROLE is not supported yet [`admin` is the only user.]"]
        );
        assert_eq!(
            run(&eve, "ALTER USER admin PASSWORD 'x'").await,
            ["ERROR 42501: permission denied: eve may not ALTER ROLE [Ask an administrator of this server.]"]
        );
    });
}

#[test]
fn a_repeatable_read_transaction_keeps_its_snapshot() {
    runtime().block_on(async {
        let world = World::new();
        let session = world.session().await;
        run(&session, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        assert_eq!(run(&session, "SELECT count(*) FROM shop.tiny").await, ["2"]);
        world.empty();
        assert_eq!(run(&session, "SELECT count(*) FROM shop.tiny").await, ["2"]);
        assert_eq!(session.transaction_status(), b'T');
        assert_eq!(run(&session, "COMMIT").await, ["COMMIT"]);
        assert!(run(&session, "SELECT count(*) FROM shop.tiny").await[0].starts_with("ERROR 42P01"));
    });
}

#[test]
fn parameters_are_inferred_and_bound() {
    use arrow::array::{ArrayRef, Int32Array, StringArray};
    runtime().block_on(async {
        let world = World::new();
        let session = world.session().await;
        let prepared = session.prepare("SELECT name FROM shop.tiny WHERE id = $1 AND name <> $2", &[]).await.unwrap();
        assert_eq!(format!("{:?}", prepared.parameter_types()), "[Int32, Utf8]");
        for (id, expected) in [(1, 1), (2, 1), (3, 0)] {
            let values: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![id])), Arc::new(StringArray::from(vec!["x"]))];
            let Outcome::Rows { mut batches, .. } = prepared.execute(values).await.unwrap() else { panic!("rows") };
            let mut rows = 0;
            while let Some(batch) = batches.next().await {
                rows += batch.unwrap().num_rows();
            }
            assert_eq!(rows, expected, "id {id}");
        }
        let error = prepared.execute(Vec::new()).await.err().unwrap();
        assert_eq!(error.code().sqlstate, "08P01");
        let prepared = session.prepare("SELECT $1::bigint + 1, $2", &[]).await.unwrap();
        assert_eq!(format!("{:?}", prepared.parameter_types()), "[Int64, Utf8]");
    });
}

#[test]
fn a_query_can_be_cancelled_and_times_out() {
    const LONG: &str = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a % 7 = b % 5";
    runtime().block_on(async {
        let world = World::new();
        let session = world.session().await;
        let running = tokio::spawn({
            let session = session.clone();
            async move { run(&session, LONG).await }
        });
        while !run(&world.session().await, "SELECT count(*) FROM mainstem.sessions WHERE state = 'active'")
            .await
            .contains(&"2".to_string())
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        session.cancel();
        assert_eq!(running.await.unwrap(), ["ERROR 57014: canceling statement due to user request"]);
        run(&session, "SET statement_timeout = '20ms'").await;
        assert!(run(&session, LONG).await[0].starts_with("ERROR 57014: canceling statement due to statement timeout"));
    });
}

#[test]
fn what_psql_asks_is_answered() {
    let queries = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/psql.sql")).unwrap();
    runtime().block_on(async {
        let world = World::new();
        let session = world.session().await;
        let oid = run(&session, "SELECT oid FROM pg_catalog.pg_class WHERE relname = 'tiny'").await.remove(0);
        for sql in session.split(&queries.replace("<oid>", &oid)).unwrap() {
            let rows = run(&session, &sql).await;
            assert!(!rows.iter().any(|row| row.starts_with("ERROR")), "{sql}\n{rows:?}");
        }
    });
}
