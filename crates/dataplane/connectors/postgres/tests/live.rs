//! The source against a real server: what copy and stream give, applied to a simple replica, must be what the server has.
#![allow(clippy::disallowed_methods)] // tests run on the real machine
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

mod replica;

use mainstem_connector::Severity;
use mainstem_env::Env;
use mainstem_postgres::{connector, metrics};
use mainstem_testkit::{Auth, Postgres, PostgresOptions, StopMode};
use mainstem_types::{ErrorKind, Identity, Position, UpstreamId};
use replica::{Replica, begin, open, reopen, settings};
use std::collections::BTreeSet;
use std::time::Duration;

const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'very happy'); CREATE DOMAIN price AS numeric(12,4);
    CREATE TABLE types (id serial PRIMARY KEY, b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric(38,10), nn numeric,
    t text, v varchar(9), c char(5), by bytea, d date, ti time, ts timestamp, tz timestamptz, u uuid, j json, jb jsonb, m mood,
    p price, iv interval, net inet, ci cidr, ar int[], ta text[], tt timetz, mo money, ra int4range, po point, bi bit(3), x xml, oi oid, \"Ünï \"\"q\" text);";

const VALUES: [&str; 4] = [
    "INSERT INTO types (b, i2, i4, i8, f4, f8, n, nn, t, v, c, by, d, ti, ts, tz, u, j, jb, m, p, iv, net, ci, ar, ta, tt, mo, ra, po, bi, x, oi) VALUES
     (true, 32767, 2147483647, 9223372036854775807, 3.4028235e38, 1.7976931348623157e308, 9999999999999999999999999999.9999999999,
      1e-40, E'tab\\tnew\\nline\\\\ \\b\\f\\x0b\\r', '', 'ab', '\\x00ff5c0a09', '9999-12-31', '23:59:59.999999', '294246-12-31 23:59:59.999999',
      '2024-03-31 02:30:00.5+02', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"a\" :  1}', '{\"b\": [1, null]}', 'very happy', 0.1,
      '1 year -2 mons 3 days 04:05:06.789', '192.168.0.1/24', '10.0.0.0/8', '{1,NULL,3}', E'{\"a,b\",\"\\\\\\\\\",NULL}', '10:00:00+05', 12.34, '[1,5)', '(1,2)', B'101', '<a>b</a>', 4294967295)",
    "INSERT INTO types (b, i2, i4, i8, f4, f8, n, nn, t, v, c, by, d, ti, ts, tz, \"Ünï \"\"q\") VALUES
     (false, -32768, -2147483648, -9223372036854775808, 'NaN', '-Infinity', -0.0000000001, 'NaN', '\\N', 'NULL', '', '', '0001-01-01', '00:00',
      '0001-01-01 00:00', '1969-12-31 23:59:59.999999+00', 'größe 🦀')",
    "INSERT INTO types DEFAULT VALUES",
    "INSERT INTO types (f4, f8, n, t) VALUES (1.17549435e-38, 5e-324, 0, repeat('long ', 4000))",
];

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_and_stream_give_equal_values() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("types").unwrap();
    // What role and database are set to must not reach us.
    postgres
        .psql(
            "types",
            &format!(
                "ALTER DATABASE types SET datestyle = 'German'; ALTER DATABASE types SET timezone = 'Asia/Tokyo'; \
            ALTER DATABASE types SET extra_float_digits = -3; ALTER DATABASE types SET bytea_output = 'escape'; {TYPES}"
            ),
        )
        .unwrap();
    for values in VALUES {
        postgres.psql("types", values).unwrap();
    }
    let source = open(&url, &[]);
    let (mut replica, mut stream) = begin(&source).await;
    for values in VALUES {
        postgres.psql("types", values).unwrap();
    }
    replica.catch_up(&*source, &mut stream).await;
    let rows = replica.rows.values().next().unwrap();
    assert_eq!(rows.len(), 8);
    for at in 0..4 {
        assert_eq!(rows[at][1..], rows[at + 4][1..], "row {at}");
    }
    let schema = replica.schemas.values().next().unwrap();
    let shown: Vec<&str> = schema.columns.iter().map(|c| c.source_type.as_ref()).collect();
    assert_eq!(shown[17..23], ["uuid", "json", "jsonb", "public.mood", "public.price", "interval"]);
    assert_eq!(rows[0][4].as_deref(), Some("9223372036854775807"));
    assert_eq!(rows[0][7].as_deref(), Some("9999999999999999999999999999.9999999999"));
    assert_eq!(rows[0][9].as_deref(), Some("tab\tnew\nline\\ \u{8}\u{c}\u{b}\r"));
    assert_eq!(rows[0][12].as_deref(), Some("00ff5c0a09"));
    assert_eq!(rows[1][9].as_deref(), Some("\\N"));
    assert_eq!(rows[0][26].as_deref(), Some("{\"a,b\",\"\\\\\",NULL}"));
    assert!(rows[2][1..].iter().all(Option::is_none));
    replica.compare(&*source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_held_are_reported_and_all_others_go_on() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("misfits").unwrap();
    let make = "CREATE TABLE good (id int PRIMARY KEY); CREATE TABLE keyed (id int PRIMARY KEY, n numeric(5,2), t text);
                CREATE TABLE keys (n numeric(5,2) PRIMARY KEY, v int); CREATE TABLE whole (n numeric(5,2), t text); ALTER TABLE whole REPLICA IDENTITY FULL;
                ALTER TABLE keyed ALTER t SET STORAGE EXTERNAL; ALTER TABLE whole ALTER t SET STORAGE EXTERNAL;
                INSERT INTO keyed VALUES (1, 1, 'a'), (2, 'NaN', 'b'); INSERT INTO whole VALUES (1, 'a'), ('NaN', 'b')";
    postgres.psql("misfits", make).unwrap();
    let source = open(&url, &[]);
    let (mut replica, mut stream) = begin(&source).await;
    assert_eq!(replica.bad, ["PG-010 r 2 NaN b", "PG-010 r NaN b"]);
    let steps: [(&str, &[&str]); 11] = [
        ("INSERT INTO good VALUES (1); INSERT INTO keyed VALUES (3, 'NaN', 'c'), (4, 4, 'd')", &["PG-010 c 3 NaN c"]),
        // What was good is gone, under its own key and another.
        (
            "UPDATE keyed SET n = 'NaN' WHERE id = 1; UPDATE keyed SET id = 5, n = 'NaN' WHERE id = 4",
            &["PG-010 u 1 NaN a", "PG-010 u 5 NaN d"],
        ),
        // What could not be held comes back with its next good version.
        ("UPDATE keyed SET n = 2 WHERE id = 2; UPDATE keyed SET n = 3, id = 6 WHERE id = 3", &[]),
        ("DELETE FROM keyed WHERE id = 1; DELETE FROM keyed WHERE id = 2", &[]),
        ("UPDATE whole SET n = 'NaN' WHERE t = 'a'; INSERT INTO whole VALUES (7, 'c')", &["PG-010 u NaN a"]),
        ("UPDATE whole SET t = 'z' WHERE t = 'b'", &["PG-010 u NaN z"]),
        ("UPDATE whole SET n = 9 WHERE t = 'z'; UPDATE whole SET t = repeat('long', 5000) WHERE n = 7", &[]),
        ("DELETE FROM whole WHERE n = 'NaN'; UPDATE whole SET n = 8 WHERE n = 7", &["PG-010 d NaN a"]),
        // A key that cannot be held.
        ("INSERT INTO keys VALUES ('NaN', 1), (1, 1); UPDATE keys SET v = 2", &["PG-010 c NaN 1", "PG-010 u NaN 2"]),
        ("UPDATE keys SET n = 3 WHERE n = 'NaN'; UPDATE keys SET n = 'NaN' WHERE n = 1", &["PG-010 u NaN 2"]),
        ("DELETE FROM keys", &["PG-010 d NaN -"]),
    ];
    for (sql, expected) in steps {
        replica.bad.clear();
        postgres.psql("misfits", sql).unwrap();
        replica.catch_up(&*source, &mut stream).await;
        assert_eq!(replica.bad, expected, "{sql}");
        replica.compare(&*source).await;
    }
}

const WORKLOAD: &str = "
    INSERT INTO a SELECT g, 'v' || g, repeat(md5(g::text), 200) FROM generate_series(1, 300) g;
    BEGIN; UPDATE a SET v = 'x' WHERE id % 3 = 0; UPDATE a SET id = id + 1000 WHERE id <= 10; COMMIT;
    BEGIN; UPDATE a SET id = -1 WHERE id = 20; UPDATE a SET id = 20 WHERE id = 21; UPDATE a SET id = 21 WHERE id = -1; COMMIT;
    BEGIN; DELETE FROM a WHERE id = 30; INSERT INTO a VALUES (30, 'again', NULL); COMMIT;
    BEGIN; INSERT INTO a VALUES (5000, 'kept', ''); SAVEPOINT s; INSERT INTO a VALUES (5001, 'undone', ''); UPDATE a SET v = 'undone';
        ROLLBACK TO s; INSERT INTO a VALUES (5002, 'kept', ''); COMMIT;
    BEGIN; DELETE FROM a; ROLLBACK;
    INSERT INTO f VALUES (1, 'dup', repeat('t', 9000)), (1, 'dup', repeat('t', 9000)), (2, NULL, '');
    UPDATE f SET y = 'one' WHERE ctid = (SELECT min(ctid) FROM f WHERE y = 'dup'); DELETE FROM f WHERE x = 2;
    INSERT INTO u VALUES (1, 'k1', 'p', repeat('u', 9000)); UPDATE u SET id = 2; UPDATE u SET k = 'k2'; UPDATE u SET p = 'q';
    INSERT INTO n VALUES (1), (1); UPDATE n SET x = 2; DELETE FROM n WHERE x = 2;
    INSERT INTO part VALUES (1, 'low'), (150, 'high'); UPDATE part SET id = 120 WHERE id = 1;
    INSERT INTO child VALUES (1, 'c', 2); INSERT INTO parent VALUES (2, 'p'); UPDATE parent SET t = t || '!';
    BEGIN; INSERT INTO big SELECT g, repeat('b', 100) FROM generate_series(1, 20000) g; SAVEPOINT s;
        INSERT INTO big SELECT g, 'undone' FROM generate_series(20001, 30000) g; ROLLBACK TO s;
        INSERT INTO big SELECT g, 'after' FROM generate_series(30001, 35000) g; UPDATE a SET v = 'big'; COMMIT;
    BEGIN; INSERT INTO big SELECT g, 'aborted' FROM generate_series(50001, 60000) g; ROLLBACK;
    UPDATE big SET t = 'upd' WHERE id % 7 = 0;
    INSERT INTO gone VALUES (1); TRUNCATE gone; INSERT INTO gone VALUES (2);
    BEGIN; INSERT INTO gone VALUES (3); TRUNCATE gone; INSERT INTO gone VALUES (4); COMMIT;";

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, v text, toast text); ALTER TABLE a ALTER toast SET STORAGE EXTERNAL;
    CREATE TABLE f (x int, y text, toast text); ALTER TABLE f REPLICA IDENTITY FULL; ALTER TABLE f ALTER toast SET STORAGE EXTERNAL;
    CREATE TABLE u (id int PRIMARY KEY, k text NOT NULL, p text, toast text); CREATE UNIQUE INDEX u_k ON u (k);
    ALTER TABLE u REPLICA IDENTITY USING INDEX u_k; ALTER TABLE u ALTER toast SET STORAGE EXTERNAL;
    CREATE TABLE n (x int); CREATE TABLE part (id int PRIMARY KEY, t text) PARTITION BY RANGE (id);
    CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (100); CREATE TABLE part_high PARTITION OF part FOR VALUES FROM (100) TO (200);
    CREATE TABLE parent (id int PRIMARY KEY, t text); CREATE TABLE child (more int, PRIMARY KEY (id)) INHERITS (parent);
    CREATE TABLE part_rest PARTITION OF part FOR VALUES FROM (200) TO (300) PARTITION BY RANGE (id);
    CREATE TABLE part_rest_all PARTITION OF part_rest DEFAULT; CREATE TABLE aunt (t text);
    CREATE TABLE grandchild (PRIMARY KEY (id)) INHERITS (child, aunt);
    CREATE TABLE big (id int PRIMARY KEY, t text); CREATE TABLE gone (id int PRIMARY KEY);
    CREATE VIEW a_view AS SELECT * FROM a; CREATE UNLOGGED TABLE quick (id int);";

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_arrives_whole() {
    let options = PostgresOptions::default().set("logical_decoding_work_mem", "64kB");
    let postgres = Postgres::start(options).unwrap();
    let url = postgres.create_database("work").unwrap();
    postgres.psql("work", TABLES).unwrap();
    let source = open(&url, &[]);
    let (mut replica, mut stream) = begin(&source).await;
    let found = source.discover().await.unwrap();
    let excluded: BTreeSet<&str> = found.iter().filter(|f| f.excluded.is_some()).map(|f| f.schema.name.name.as_ref()).collect();
    assert_eq!(excluded, BTreeSet::from(["a_view", "part", "part_rest", "quick"]));
    let parents = |name: &str| -> Vec<String> {
        let table = found.iter().find(|f| &*f.schema.name.name == name).unwrap();
        table.parents.iter().map(|p| p.name.to_string()).collect()
    };
    assert_eq!(parents("part_low"), ["part"]);
    assert_eq!(parents("part_rest_all"), ["part_rest", "part"]);
    assert_eq!(parents("grandchild"), ["child", "aunt", "parent"]);
    assert_eq!(parents("a"), [""; 0]);
    let identity = |name: &str| found.iter().find(|f| &*f.schema.name.name == name).unwrap().schema.identity.clone();
    assert_eq!(identity("f"), Identity::WholeRow);
    assert_eq!(identity("n"), Identity::AppendOnly);
    let blocks = metrics::STREAMED_BLOCKS.get();
    postgres.psql("work", WORKLOAD).unwrap();
    replica.catch_up(&*source, &mut stream).await;
    assert!(metrics::STREAMED_BLOCKS.get() > blocks, "transactions in progress were streamed");
    // The keyless table's inserts are there; its updates and deletes went through on the source and are not ours to know.
    let n = found.iter().find(|f| &*f.schema.name.name == "n").unwrap().schema.upstream.0;
    assert_eq!(replica.rows.remove(&n).unwrap().len(), 2);
    assert_eq!(postgres.psql("work", "SELECT count(*) FROM n").unwrap().trim(), "0");
    replica.compare(&*source).await;
    // The stream starts again from where we were and repeats nothing that we acknowledged.
    drop(stream);
    let position = replica.position.clone().unwrap();
    let prepared = source.prepare(Some(&position)).await.unwrap();
    assert_eq!((prepared.lost, &prepared.start), (None, &position));
    let mut stream = reopen(&source, &position).await;
    postgres
        .psql(
            "work",
            "ALTER TABLE a ADD COLUMN extra int DEFAULT 7; INSERT INTO a VALUES (9000, 'new', NULL, 8);
        DROP VIEW a_view; ALTER TABLE a DROP COLUMN toast; UPDATE a SET v = 'last' WHERE id = 9000",
        )
        .unwrap();
    let late = postgres.psql("work", "CREATE TABLE late (id int PRIMARY KEY); SELECT 'late'::regclass::oid").unwrap();
    source.discover().await.unwrap();
    replica.copy(&*source, UpstreamId(late.trim().parse().unwrap())).await;
    postgres.psql("work", "INSERT INTO late VALUES (1)").unwrap();
    replica.catch_up(&*source, &mut stream).await;
    for id in std::mem::take(&mut replica.stale) {
        replica.copy(&*source, UpstreamId(id)).await;
    }
    replica.compare(&*source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_read_in_bulk_and_gives_the_same() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("bulk").unwrap();
    postgres.psql("bulk", "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE w (id int PRIMARY KEY)").unwrap();
    for bulk in ["true", "false"] {
        let source = open(&url, &[("bulk", bulk)]);
        postgres.psql("bulk", "TRUNCATE t, w").unwrap();
        let prepared = source.prepare(None).await.unwrap();
        let mut replica = Replica::default();
        replica.copy_all(&*source).await;
        postgres
            .psql("bulk", "DO $$ BEGIN FOR i IN 1..3000 LOOP INSERT INTO t SELECT i * 100 + g, repeat(md5(g::text), 8) FROM generate_series(1, 20) g;
                UPDATE t SET v = 'u' WHERE id = i * 100 + 1; INSERT INTO w VALUES (i); COMMIT; END LOOP; END $$")
            .unwrap();
        let chunks = metrics::BULK_CHUNKS.get();
        let mut stream = source.stream(&prepared.start).await.unwrap();
        replica.catch_up(&*source, &mut stream).await;
        assert_eq!(metrics::BULK_CHUNKS.get() > chunks, bulk == "true");
        assert!(replica.wholes < 1000, "3,000 transactions of a backlog came in {} items", replica.wholes);
        postgres.psql("bulk", "DELETE FROM t WHERE id % 2000 = 2; DROP TABLE IF EXISTS none").unwrap();
        replica.catch_up(&*source, &mut stream).await;
        replica.compare(&*source).await;
        drop(stream);
        source.remove().await.unwrap();
        assert_eq!(postgres.psql("bulk", "SELECT count(*) FROM pg_replication_slots").unwrap().trim(), "0");
        assert_eq!(postgres.psql("bulk", "SELECT count(*) FROM pg_publication").unwrap().trim(), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_holds_no_log_and_a_lost_slot_is_found() {
    let postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("idle").unwrap();
    postgres.create_database("busy").unwrap();
    postgres.psql("idle", "CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let source = open(&url, &[]);
    let (mut replica, mut stream) = begin(&source).await;
    postgres.psql("busy", "CREATE TABLE b AS SELECT g, repeat('x', 100) FROM generate_series(1, 200000) g").unwrap();
    replica.catch_up(&*source, &mut stream).await;
    assert!(replica.progress > 0);
    tokio::time::sleep(Duration::from_millis(1500)).await; // the status task tells the server
    let behind = "SELECT pg_current_wal_lsn() - confirmed_flush_lsn FROM pg_replication_slots";
    let bytes: i64 = postgres.psql("idle", behind).unwrap().trim().parse().unwrap();
    assert!(bytes < 1 << 20, "{bytes} bytes not confirmed");
    drop(stream);
    let position = replica.position.unwrap();
    for _ in 0..100 {
        if postgres.psql("idle", "SELECT pg_drop_replication_slot('mainstem_shop')").is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let prepared = source.prepare(Some(&position)).await.unwrap();
    assert!(prepared.lost.unwrap().contains("gone"));
    // Somebody else's slot is not ours to use.
    let mut foreign = settings(&url, &[]);
    foreign.owned.clear();
    let foreign = connector().open(Env::real(), foreign).unwrap();
    assert_eq!(foreign.prepare(None).await.unwrap_err().code().id, "PG-011");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_the_servers_log_does_not_have_is_lost() {
    let mut postgres = Postgres::start_default().unwrap();
    let url = postgres.create_database("past").unwrap();
    postgres.psql("past", "CREATE TABLE t (id int PRIMARY KEY, v text)").unwrap();
    let source = open(&url, &[]);
    // The session from before a restart is found to be broken once.
    let lost = async |position: &Position| match source.prepare(Some(position)).await {
        Ok(prepared) => prepared.lost.unwrap_or_default(),
        Err(error) if error.code().id == "PG-002" => source.prepare(Some(position)).await.unwrap().lost.unwrap_or_default(),
        Err(error) => panic!("{}", error.chain()),
    };
    let rows = |from: u32| format!("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series({from}, {from} + 9999) g");
    let (mut replica, mut stream) = begin(&source).await;
    postgres.psql("past", "INSERT INTO t VALUES (1, 'kept')").unwrap();
    replica.catch_up(&*source, &mut stream).await;
    drop(stream);
    let early = replica.position.clone().unwrap();
    postgres.stop(StopMode::Fast).unwrap();
    postgres.save().unwrap();
    postgres.start_again().unwrap();
    assert_eq!(lost(&early).await, "", "a restart alone");
    stream = reopen(&source, &early).await;
    postgres.psql("past", &rows(10)).unwrap();
    replica.catch_up(&*source, &mut stream).await;
    drop(stream);
    let late = replica.position.clone().unwrap();
    assert_eq!(lost(&late).await, "");
    // The same timeline, cut off.
    postgres.stop(StopMode::Fast).unwrap();
    postgres.go_back().unwrap();
    postgres.start_again().unwrap();
    assert_eq!(lost(&early).await, "");
    assert!(lost(&late).await.contains("back in time"), "{}", lost(&late).await);
    // A new timeline that began before, and is longer by now.
    postgres.stop(StopMode::Fast).unwrap();
    postgres.go_back().unwrap();
    postgres.leave_timeline().unwrap();
    postgres.start_again().unwrap();
    postgres.psql("past", &rows(10)).unwrap();
    postgres.psql("past", &rows(20_000)).unwrap();
    assert_eq!(lost(&early).await, "");
    assert!(lost(&late).await.contains("went over to timeline 2"), "{}", lost(&late).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_tls() {
    for auth in [Auth::Trust, Auth::Password, Auth::Md5, Auth::Scram] {
        let postgres = Postgres::start(PostgresOptions { auth, ..Default::default() }).unwrap();
        open(&postgres.url("postgres"), &[]).head().await.unwrap();
        let wrong = open(&postgres.url_as("postgres", "wrong", "postgres"), &[]).head().await;
        assert_eq!(wrong.err().map(|e| e.code().id), (auth != Auth::Trust).then_some("PG-003"), "{auth:?}");
        let missing = open(&postgres.url("nowhere"), &[]).head().await.unwrap_err();
        assert_eq!(missing.code().id, "PG-004");
        let plain = open(&(postgres.url("postgres") + "?sslmode=require"), &[]).head().await.unwrap_err();
        assert_eq!(plain.code().id, "PG-007");
    }
    let postgres = Postgres::start(PostgresOptions { tls: true, tls_only: true, ..Default::default() }).unwrap();
    let ca = postgres.ca_file().to_string_lossy().into_owned();
    let check = async |mode: &str, ca: Option<&str>, expected: Option<&str>| {
        let url = postgres.url_as("postgres", "secret", "postgres") + "?sslmode=" + mode;
        let options: Vec<(&str, &str)> = ca.map(|ca| ("sslrootcert", ca)).into_iter().collect();
        let got = open(&url, &options).head().await.err().map(|e| e.code().id);
        assert_eq!(got, expected, "{mode} {ca:?}");
    };
    check("disable", None, Some("PG-003")).await;
    for mode in ["allow", "prefer", "require"] {
        check(mode, None, None).await;
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        check(mode, Some(&ca), None).await;
    }
    for mode in ["verify-ca", "verify-full"] {
        check(mode, None, Some("PG-007")).await;
    }
    let other =
        Postgres::start(PostgresOptions { tls: true, tls_names: Some("DNS:elsewhere".into()), ..Default::default() }).unwrap();
    let ca = other.ca_file().to_string_lossy().into_owned();
    for (mode, expected) in [("verify-ca", None), ("verify-full", Some("PG-007"))] {
        let url = other.url_as("postgres", "secret", "postgres") + "?sslmode=" + mode;
        let got = open(&url, &[("sslrootcert", &ca)]).head().await.err().map(|e| e.code().id);
        assert_eq!(got, expected, "{mode} on a certificate for another name");
    }
    let nobody = open("postgres://a:b@127.0.0.1:1/x", &[]).head().await.unwrap_err();
    assert_eq!((nobody.code().id, nobody.kind()), ("PG-002", ErrorKind::Retry));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preflight_names_what_is_wrong() {
    let postgres = Postgres::start(PostgresOptions::default().set("wal_level", "replica")).unwrap();
    let url = postgres.create_database("bad").unwrap();
    postgres
        .psql(
            "bad",
            "CREATE TABLE n (x int); CREATE TABLE g (id int PRIMARY KEY, h int GENERATED ALWAYS AS (id * 2) STORED);
            CREATE ROLE app LOGIN PASSWORD 'app'; CREATE TABLE r (id int PRIMARY KEY); ALTER TABLE r ENABLE ROW LEVEL SECURITY;
            GRANT SELECT ON r TO app",
        )
        .unwrap();
    let fatal = |findings: &[mainstem_connector::Finding]| -> BTreeSet<&'static str> {
        findings.iter().filter(|f| f.severity == Severity::Fatal).map(|f| f.code).collect()
    };
    let findings = open(&url, &[]).check().await.unwrap();
    assert_eq!(fatal(&findings), BTreeSet::from(["PG-009"]), "{findings:#?}");
    assert!(findings.iter().any(|f| f.message.contains("public.n has no replica identity")));
    assert!(findings.iter().any(|f| f.message.contains("generated columns")));
    let findings = open(&postgres.url_as("app", "app", "bad"), &[]).check().await.unwrap();
    assert_eq!(fatal(&findings), BTreeSet::from(["PG-005", "PG-009", "PG-017"]), "{findings:#?}");
    assert!(findings.iter().filter(|f| f.severity == Severity::Fatal).all(|f| f.fix.is_some()));
    let findings = open(&url, &[("tables", "public.nothing")]).check().await.unwrap();
    assert!(fatal(&findings).contains("PG-016"));
    let source = open(&postgres.url_as("app", "app", "bad"), &[]);
    let findings = source.check().await.unwrap();
    let script = source.administrator_script(&findings).await.unwrap().unwrap();
    postgres.psql("bad", &script).unwrap();
    let options = [("publication", "mainstem_shop, mainstem_shop_append")];
    let findings = open(&postgres.url_as("app", "app", "bad"), &options).check().await.unwrap();
    assert_eq!(fatal(&findings), BTreeSet::from(["PG-009"]), "{findings:#?}");
}
