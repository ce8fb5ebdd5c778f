//! The conformance suite of sources against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests
#![allow(clippy::disallowed_methods)] // tests run on the real machine

use async_trait::async_trait;
use mainstem_connector::{Options, Source, SourceSettings};
use mainstem_env::Env;
use mainstem_postgres::connector;
use mainstem_testkit::source_suite::{Change, LOG, ROWS, SAMPLES, System};
use mainstem_testkit::{Postgres, PostgresOptions, source_suite};
use mainstem_types::{Position, SourceName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const TABLES: &str = "CREATE TABLE suite_log (id bigint PRIMARY KEY, v text NOT NULL);
    CREATE TABLE suite_rows (id bigint PRIMARY KEY, v text NOT NULL);
    CREATE TYPE mood AS ENUM ('sad', 'very happy'); CREATE DOMAIN price AS numeric(12,4);
    CREATE TABLE suite_samples (id bigserial PRIMARY KEY, b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric(38,10),
    nn numeric, t text, c char(5), by bytea, d date, ti time, ts timestamp, tz timestamptz, u uuid, j json, jb jsonb, m mood, p price,
    iv interval, net inet, ar int[], ta text[], mo money, ra int4range, po point, bi bit(3));";

const SAMPLE_ROWS: &str = "INSERT INTO suite_samples (b, i2, i4, i8, f4, f8, n, nn, t, c, by, d, ti, ts, tz, u, j, jb, m, p, iv, net,
     ar, ta, mo, ra, po, bi) VALUES
    (true, 32767, -2147483648, 9223372036854775807, 3.4028235e38, 'NaN', 9999999999999999999999999999.9999999999, 1e-40,
     E'tab\\tnew\\nline\\\\ \\b', 'ab', '\\x00ff5c0a09', '9999-12-31', '23:59:59.999999', '294246-12-31 23:59:59.999999',
     '2024-03-31 02:30:00.5+02', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"a\" :  1}', '{\"b\": [1, null]}', 'very happy', 0.1,
     '1 year -2 mons 3 days 04:05:06.789', '192.168.0.1/24', '{1,NULL,3}', E'{\"a,b\",NULL}', 12.34, '[1,5)', '(1,2)', B'101'),
    (false, -32768, 0, -9223372036854775808, '-Infinity', 5e-324, -0.0000000001, 'NaN', '\\N', '', '', '0001-01-01', '00:00',
     '0001-01-01 00:00', '1969-12-31 23:59:59.999999+00', NULL, NULL, 'null', 'sad', 0, '0', '::1', '{}', '{}', 0, 'empty', '(0,-0)', B'000'),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, repeat('long ', 9000), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";

struct Server {
    postgres: Postgres,
    url: String,
}

async fn server() -> Server {
    // Small limits, so that streaming of open transactions and the cut of silent readers happen here too.
    let options = PostgresOptions::default().set("logical_decoding_work_mem", "256kB").set("wal_sender_timeout", "2s");
    let postgres = Postgres::start(options).unwrap();
    let url = postgres.create_database("suite").unwrap();
    postgres.psql("suite", TABLES).unwrap();
    Server { postgres, url }
}

fn statement(change: &Change) -> String {
    match change {
        Change::Insert { table, id, v } => format!("INSERT INTO {table} VALUES ({id}, '{v}')"),
        Change::Update { table, id, v } => format!("UPDATE {table} SET v = '{v}' WHERE id = {id}"),
        Change::Move { table, from, to } => format!("UPDATE {table} SET id = {to} WHERE id = {from}"),
        Change::Delete { table, id } => format!("DELETE FROM {table} WHERE id = {id}"),
        Change::Empty { table } => format!("TRUNCATE {table}"),
        Change::Fill { table, from, count, bytes } => {
            format!("INSERT INTO {table} SELECT {from} + g, repeat('f', {bytes}) FROM generate_series(0, {count} - 1) g")
        }
    }
}

#[async_trait]
impl System for Server {
    fn open(&self) -> Arc<dyn Source> {
        let mut settings = SourceSettings {
            name: SourceName::new("suite").unwrap(),
            url: self.url.clone(),
            options: Options::default(),
            owned: BTreeSet::new(),
            spool_dir: Some(self.postgres.socket_directory().join("spool")),
        };
        let first = connector().open(Env::real(), settings.clone()).unwrap();
        settings.owned = first.remote_objects().into_iter().collect();
        connector().open(Env::real(), settings).unwrap()
    }

    async fn transaction(&self, changes: &[Change], hold: Duration, commit: bool) {
        let client = self.postgres.connect("suite").await.unwrap();
        let statements: Vec<String> = changes.iter().map(statement).collect();
        client.batch_execute(&format!("BEGIN; {}", statements.join("; "))).await.unwrap();
        tokio::time::sleep(hold).await;
        client.batch_execute(if commit { "COMMIT" } else { "ROLLBACK" }).await.unwrap();
    }

    async fn insert_samples(&self) -> usize {
        self.postgres.psql("suite", SAMPLE_ROWS).unwrap();
        3
    }

    async fn rows(&self, table: &str) -> BTreeMap<i64, String> {
        assert!([LOG, ROWS, SAMPLES].contains(&table));
        let client = self.postgres.connect("suite").await.unwrap();
        let rows = client.query(&format!("SELECT id, v FROM {table}"), &[]).await.unwrap();
        rows.iter().map(|r| (r.get(0), r.get(1))).collect()
    }

    async fn released(&self) -> Option<Position> {
        let lsn = self.postgres.psql("suite", "SELECT confirmed_flush_lsn FROM pg_replication_slots").unwrap();
        Some(self.open().parse_position(lsn.trim()).unwrap())
    }

    async fn sessions(&self) -> usize {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mainstem suite'";
        self.postgres.psql("suite", sql).unwrap().trim().parse().unwrap()
    }

    fn silence(&self) -> Duration {
        Duration::from_secs(5)
    }
}

source_suite!(server());
