//! DDL on a captured source: it stops nothing and never shows wrong data.

use crate::{World, eventually, value};
use mainstem_testkit::PostgresOptions;
use mainstem_testkit::compare::{Naming, compare_where};

/// Repeats a comparison until it holds: a rebuild in the shadow may take a moment, but has to end right.
async fn settles(world: &World, what: &str) {
    let (source, copy) = (world.source().await, world.mainstem.connect().await.unwrap());
    let mut last = String::new();
    for _ in 0..60 {
        world.wait().await;
        match compare_where(&source, &copy, &Naming::Source("shop".into()), |_| true).await {
            Ok(_) => return,
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("after {what} the warehouse never became equal:\n{last}");
}

async fn follows(world: &World, step: &str) {
    // psql -c sends one transaction per text; each part is a transaction of its own here, as an application's would be.
    for statement in step.split("; ") {
        world.postgres.psql("shop", statement).unwrap();
    }
    settles(world, step).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_tables_are_followed() {
    let world = World::new(PostgresOptions::default());
    let start = "CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t SELECT g, g, 'b' || g FROM generate_series(1, 1000) g; \
                 CREATE TABLE other (id int PRIMARY KEY, v int); INSERT INTO other VALUES (1, 1)";
    world.postgres.psql("shop", start).unwrap();
    world.capture().await;
    let steps = [
        "ALTER TABLE t ADD COLUMN c int; INSERT INTO t VALUES (2001, 1, 'x', 5); UPDATE t SET c = a WHERE id < 10",
        // Nothing is sent for the old rows: the default has to fill them.
        "ALTER TABLE t ADD COLUMN d text DEFAULT 'filled' NOT NULL; UPDATE t SET a = 0 WHERE id = 5",
        "ALTER TABLE t DROP COLUMN b; INSERT INTO t VALUES (2002, 2, 6, 'd')",
        // The same name again is another column.
        "ALTER TABLE t ADD COLUMN b text; UPDATE t SET b = 'new' WHERE id = 7",
        "ALTER TABLE t RENAME COLUMN a TO renamed; UPDATE t SET renamed = -1 WHERE id = 8",
        // Swapped names: a table that goes by names alone shows values in the wrong column.
        "ALTER TABLE t RENAME COLUMN d TO x; ALTER TABLE t RENAME COLUMN b TO d; ALTER TABLE t RENAME COLUMN x TO b; UPDATE t SET c = 1 WHERE id = 9",
        "ALTER TABLE t ALTER COLUMN c TYPE bigint; UPDATE t SET c = 5000000000 WHERE id = 10",
        "ALTER TABLE t ALTER COLUMN c TYPE text USING 'c' || c; INSERT INTO t (id, c, b) VALUES (3000, 'text', '')",
        "CREATE TABLE fresh (id int PRIMARY KEY, v text); INSERT INTO fresh SELECT g, 'v' FROM generate_series(1, 100) g",
        "UPDATE fresh SET v = 'w' WHERE id < 50; INSERT INTO other SELECT g, g FROM generate_series(2, 50) g",
        "DROP TABLE fresh; INSERT INTO other VALUES (100, 100)",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id); DELETE FROM t WHERE id % 3 = 0",
        "VACUUM FULL t",
        "CREATE TYPE mood AS ENUM ('ok', 'bad'); ALTER TABLE t ADD COLUMN m mood DEFAULT 'ok'; ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
        "ALTER TABLE t ADD COLUMN made text GENERATED ALWAYS AS (c || '!') STORED; ALTER TABLE t ALTER made DROP EXPRESSION",
        "UPDATE t SET b = 'after the rewrite' WHERE id % 7 = 0",
    ];
    for step in steps {
        follows(&world, step).await;
    }
}

/// Files may hold the values of a column that is gone, and who was started anew has not seen it go.
#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_dropped_column_comes_back_after_a_restart() {
    let mut world = World::new(PostgresOptions::default());
    let start = "CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t SELECT g, 'b' || g FROM generate_series(1, 1000) g";
    world.postgres.psql("shop", start).unwrap();
    let client = world.capture().await;
    eventually(&client, "SELECT files FROM mainstem.tables WHERE table_name = 't'", |files| files.is_some_and(|n| n != "0"))
        .await;
    world.postgres.psql("shop", "ALTER TABLE t DROP COLUMN b").unwrap();
    world.postgres.psql("shop", "INSERT INTO t VALUES (1001)").unwrap();
    settles(&world, "the drop").await;
    world.mainstem.kill().unwrap();
    world.mainstem.start_again().unwrap();
    // In one transaction: only the catalog can tell that these are other columns.
    world.postgres.psql("shop", "BEGIN; ALTER TABLE t ADD COLUMN b text; UPDATE t SET b = 'new' WHERE id = 7; COMMIT").unwrap();
    settles(&world, "the same name again").await;
    world.postgres.psql("shop", "UPDATE t SET b = 'later' WHERE id > 990").unwrap();
    settles(&world, "an update after the table was copied anew").await;
}

/// What the log's messages say of a table under FULL is the same with and without a key.
#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_under_full() {
    let world = World::new(PostgresOptions::default());
    let start = "CREATE TABLE t (id int NOT NULL, v text); ALTER TABLE t REPLICA IDENTITY FULL; \
                 INSERT INTO t SELECT g, 'v' FROM generate_series(1, 100) g; INSERT INTO t VALUES (1, 'v')";
    world.postgres.psql("shop", start).unwrap();
    let client = world.capture().await;
    let steps = [
        "UPDATE t SET v = 'once' WHERE id = 2",
        "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE id = 1); ALTER TABLE t ADD PRIMARY KEY (id); UPDATE t SET v = 'keyed' WHERE id < 10",
        "UPDATE t SET id = id + 1000 WHERE id > 90",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t VALUES (3, 'twice'); UPDATE t SET v = v || '!' WHERE id < 5",
    ];
    for step in steps {
        follows(&world, step).await;
        eventually(&client, "SELECT state FROM mainstem.source_tables", |state| state == Some("streaming")).await;
    }
}

/// Until we see that a table has got a key its updates are not published.
#[tokio::test(flavor = "multi_thread")]
async fn updates_right_after_a_first_key_are_not_lost() {
    let world = World::new(PostgresOptions::default());
    world
        .postgres
        .psql("shop", "CREATE TABLE t (id int NOT NULL, v int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g")
        .unwrap();
    world.capture().await;
    world.postgres.psql("shop", "ALTER TABLE t ADD PRIMARY KEY (id)").unwrap();
    for n in 1..40 {
        let statement = format!(
            "INSERT INTO t VALUES ({n} + 1000, 0); UPDATE t SET v = {n} WHERE id = {n}; DELETE FROM t WHERE id = 100 - {n}"
        );
        world.postgres.psql("shop", &statement).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    settles(&world, "updates right after the key").await;
}

/// A rewrite sends nothing, so it must be found by comparing with what was seen before the stop.
#[tokio::test(flavor = "multi_thread")]
async fn rows_written_anew_while_we_are_down_are_found() {
    let mut world = World::new(PostgresOptions::default());
    let start = "CREATE TABLE moved (id int PRIMARY KEY, a int); INSERT INTO moved SELECT g, g FROM generate_series(1, 100) g; \
                 CREATE TABLE packed (id int PRIMARY KEY, a int); INSERT INTO packed SELECT g, g FROM generate_series(1, 100) g; \
                 CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE moody (id int PRIMARY KEY, m mood); INSERT INTO moody VALUES (1, 'ok'); \
                 CREATE TABLE made (id int PRIMARY KEY, x int GENERATED ALWAYS AS (id * 2) STORED); INSERT INTO made VALUES (1)";
    world.postgres.psql("shop", start).unwrap();
    world.capture().await;
    let rewrites = [
        "ALTER TABLE moved ALTER COLUMN a TYPE int USING a + 1000",
        "ALTER TABLE moved ALTER COLUMN a TYPE int USING a * 2",
        // These write nothing, and the rows are others all the same.
        "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
        "ALTER TABLE made ALTER COLUMN x DROP EXPRESSION",
    ];
    for rewrite in rewrites {
        world.mainstem.kill().unwrap();
        world.postgres.psql("shop", rewrite).unwrap();
        // The same values in another file: no reason to copy it anew.
        world.postgres.psql("shop", "VACUUM FULL packed").unwrap();
        world.mainstem.start_again().unwrap();
        settles(&world, rewrite).await;
        assert_eq!(world.mainstem.metric("mainstem_pipeline_copies_total").unwrap(), Some(1.0), "{rewrite}");
    }
}

/// An application that drops a key must not find its UPDATEs refused because of us (decision 1).
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_key_stops_no_update_for_long() {
    let world = World::new(PostgresOptions::default());
    world.postgres.psql("shop", "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)").unwrap();
    let client = world.capture().await;
    let application = world.source().await;
    application.batch_execute("ALTER TABLE t DROP CONSTRAINT t_pkey").await.unwrap();
    let mut refused = 0;
    while application.batch_execute("UPDATE t SET v = 3 WHERE id = 1").await.is_err() {
        refused += 1;
        assert!(refused < 600, "UPDATE is still refused");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // From here on it is captured by its inserts alone, as any table without an identity.
    application.batch_execute("DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (4, 4)").await.unwrap();
    world.wait().await;
    eventually(&client, "SELECT count(*) FROM shop.t WHERE id = 4", |n| n == Some("1")).await;
    application.batch_execute("ALTER TABLE t ADD PRIMARY KEY (id)").await.unwrap();
    settles(&world, "the key came back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_go_on_fails_alone() {
    let world = World::new(PostgresOptions::default());
    world
        .postgres
        .psql("shop", "CREATE TABLE good (id int PRIMARY KEY, v int); CREATE TABLE bad (id int PRIMARY KEY, n numeric(5,2)); INSERT INTO bad VALUES (1, 1.5)")
        .unwrap();
    let client = world.capture().await;
    // Not representable yet: it must become neither NULL nor a wrong number.
    world.postgres.psql("shop", "INSERT INTO bad VALUES (2, 'NaN'); INSERT INTO good VALUES (1, 1)").unwrap();
    let state = "SELECT state FROM mainstem.source_tables WHERE source = 'shop' AND table_name = 'bad'";
    eventually(&client, state, |s| s == Some("failed")).await;
    let error = value(&client, "SELECT error FROM mainstem.source_tables WHERE source = 'shop' AND table_name = 'bad'").await;
    assert!(error.is_some_and(|e| !e.is_empty()), "failed without a cause");
    world.postgres.psql("shop", "INSERT INTO good VALUES (2, 2)").unwrap();
    world.wait().await;
    assert_eq!(value(&client, "SELECT count(*) FROM shop.good").await.as_deref(), Some("2"));
    // Readable at its last barrier.
    assert_eq!(value(&client, "SELECT n FROM shop.bad WHERE id = 1").await.as_deref(), Some("1.50"));
    assert_eq!(value(&client, "SELECT count(*) FROM shop.bad WHERE n IS NULL").await.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_held_is_left_out_and_kept() {
    let world = World::new(PostgresOptions::default());
    let make = "CREATE TABLE t (id int PRIMARY KEY, n numeric(5,2)); INSERT INTO t VALUES (1, 1), (2, 'NaN'), (3, 3)";
    world.postgres.psql("shop", make).unwrap();
    let client = world.capture().await;
    // The default: the table cannot go on.
    let state = "SELECT state FROM mainstem.source_tables WHERE source = 'shop' AND table_name = 't'";
    eventually(&client, state, |s| s == Some("failed")).await;
    client
        .batch_execute("ALTER SOURCE shop SET (on_bad_value = 'dead_letter'); RESYNC SOURCE shop TABLE public.t")
        .await
        .unwrap();
    eventually(&client, state, |s| s == Some("streaming")).await;
    let rows = "SELECT string_agg(id || '=' || n, ' ' ORDER BY id) FROM shop.t";
    let letters = "SELECT count(*) FROM mainstem.dead_letters WHERE error_code = 'PG-010'";
    let steps = [
        ("SELECT 1", "1=1.00 3=3.00", "1"),
        // The old version is gone: nothing here may say what the source no longer does.
        ("UPDATE t SET n = 'NaN' WHERE id = 3; INSERT INTO t VALUES (4, 'NaN'), (5, 5)", "1=1.00 5=5.00", "3"),
        (
            "UPDATE t SET n = 2 WHERE id = 2; UPDATE t SET n = 4 WHERE id = 4; DELETE FROM t WHERE id = 3",
            "1=1.00 2=2.00 4=4.00 5=5.00",
            "3",
        ),
    ];
    for (sql, expected, count) in steps {
        world.postgres.psql("shop", sql).unwrap();
        world.wait().await;
        assert_eq!(value(&client, rows).await.as_deref(), Some(expected), "{sql}");
        assert_eq!(value(&client, letters).await.as_deref(), Some(count), "{sql}");
    }
    let shown = value(&client, "SELECT string_agg(topic || error, ' ') FROM mainstem.dead_letters").await.unwrap();
    assert!(shown.contains("_mainstem.dead_letters.shop") && !shown.contains("4.00"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_is_never_harmed() {
    let world = World::new(PostgresOptions::default());
    world
        .postgres
        .psql("shop", "CREATE TABLE keyless (a int, b text); INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (2, 'y')")
        .unwrap();
    world.capture().await;
    // A publication with all operations would make these fail on the source (decision 1).
    world.postgres.psql("shop", "UPDATE keyless SET b = 'z' WHERE a = 2").unwrap();
    world.postgres.psql("shop", "DELETE FROM keyless WHERE a = 1").unwrap();
    let client = world.mainstem.connect().await.unwrap();
    client.batch_execute("DROP SOURCE shop CASCADE").await.unwrap();
    let left = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)";
    let source = world.source().await;
    eventually(&source, left, |n| n == Some("0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_level_of_a_tree_can_be_read() {
    let world = World::new(PostgresOptions::default());
    let start = "CREATE TABLE p (id int, at int) PARTITION BY RANGE (at); \
                 CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id); \
                 CREATE TABLE p_1_a PARTITION OF p_1 FOR VALUES FROM (0) TO (100); CREATE TABLE p_1_b PARTITION OF p_1 DEFAULT; \
                 CREATE TABLE p_2 PARTITION OF p DEFAULT; INSERT INTO p SELECT g, g % 20 FROM generate_series(1, 1000) g; \
                 CREATE TABLE people (id int, name text); CREATE TABLE staff (room int) INHERITS (people); \
                 CREATE TABLE bosses () INHERITS (staff); INSERT INTO people VALUES (1, 'a'); INSERT INTO staff VALUES (2, 'b', 1); \
                 INSERT INTO bosses VALUES (3, 'c', 2)";
    world.postgres.psql("shop", start).unwrap();
    let client = world.capture().await;
    for table in ["p", "p_1", "p_1_a", "p_1_b", "p_2", "people", "staff", "bosses"] {
        let rows = world.postgres.psql("shop", &format!("SELECT count(*), sum(id) FROM {table}")).unwrap();
        let ours = format!("SELECT count(*) || '|' || sum(id) FROM shop.{table}");
        assert_eq!(value(&client, &ours).await.as_deref(), Some(rows.trim()), "{table}");
    }
    // A level that is hung elsewhere is read from there.
    world.postgres.psql("shop", "ALTER TABLE p DETACH PARTITION p_1").unwrap();
    eventually(&client, "SELECT count(*) FROM shop.p", |n| n == Some("500")).await;
    assert_eq!(value(&client, "SELECT count(*) FROM shop.p_1").await.as_deref(), Some("500"));
}
