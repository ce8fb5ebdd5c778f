//! Files that were damaged while the server was stopped are found, named, and made good by themselves; a full disk is said and read from.

use crate::{World, eventually, value};
use mainstem_testkit::PostgresOptions;
use std::path::{Path, PathBuf};
use std::process::Command;

const COUNT: &str = "SELECT concat(count(*), ' ', sum(v)) FROM shop.t";
const STATE: &str = "SELECT state || coalesce(' ' || error_code, '') FROM mainstem.source_tables WHERE table_name = 't'";

fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path(), end)),
            kind if kind.is_file() && entry.file_name().to_str().unwrap().ends_with(end) => found.push(entry.path()),
            _ => {}
        }
    }
    found.sort();
    found
}

/// A table with rows in two files, dead rows, and nothing hot: what is lost on disk is lost.
async fn filled() -> World {
    let world = World::new(PostgresOptions::default());
    let source = world.source().await;
    source.batch_execute("CREATE TABLE t(id int PRIMARY KEY, v bigint)").await.unwrap();
    source.batch_execute("INSERT INTO t SELECT g, g FROM generate_series(1, 5000) g").await.unwrap();
    let client = world.capture().await;
    let settled = || eventually(&client, "SELECT sum(hot_rows) FROM mainstem.tables", |n| n == Some("0"));
    settled().await;
    source.batch_execute("INSERT INTO t SELECT g, g FROM generate_series(5001, 9000) g").await.unwrap();
    world.wait().await;
    settled().await;
    source.batch_execute("DELETE FROM t WHERE id % 10 = 3").await.unwrap();
    world.wait().await;
    eventually(&client, "SELECT CASE WHEN sum(hot_rows) = 0 AND sum(deleted_rows) > 0 THEN 1 END FROM mainstem.tables", |n| {
        n == Some("1")
    })
    .await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_found_named_and_made_good() {
    let mut world = filled().await;
    let right = value(&world.source().await, "SELECT concat(count(*), ' ', sum(v)) FROM t").await;
    for end in [".parquet", ".bin", ".json"] {
        world.mainstem.stop().unwrap();
        let tables = world.mainstem.data_directory().join("tables");
        let of_kind: Vec<_> = files(&tables, end).into_iter().filter(|path| !path.ends_with(".checkpoint.parquet")).collect();
        let newest = of_kind.last().unwrap_or_else(|| panic!("there is no {end}"));
        let bytes = std::fs::read(newest).unwrap();
        match end {
            ".parquet" => of_kind.iter().for_each(|path| {
                // Whichever of them is live still.
                let mut bytes = std::fs::read(path).unwrap();
                bytes[100] ^= 8;
                std::fs::write(path, bytes).unwrap();
            }),
            ".bin" => of_kind.iter().for_each(|path| {
                let bytes = std::fs::read(path).unwrap();
                std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            }),
            _ => std::fs::remove_file(newest).unwrap(),
        }
        drop(bytes);
        world.mainstem.start_again().unwrap();
        let client = world.mainstem.connect().await.unwrap();
        // Until it is good again, an error; never other rows.
        let mut errors = 0;
        loop {
            match client.query_one(COUNT, &[]).await {
                Ok(row) => {
                    assert_eq!(row.get::<_, Option<String>>(0), right, "{end}");
                    break;
                }
                Err(error) => assert!(error.as_db_error().is_some(), "{end}: {error}"),
            }
            errors += 1;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        eventually(&client, STATE, |state| state == Some("streaming")).await;
        world.compare().await;
        if end != ".json" {
            assert!(errors > 0 || world.mainstem.log().contains("TBL-002"), "{end}: nothing was found");
            assert!(world.mainstem.log().contains("its live table is damaged"), "{end}: nothing was made good");
        }
        // Rows in files again, for the next kind.
        let source = world.source().await;
        source.batch_execute("UPDATE t SET v = v WHERE id % 10 = 4").await.unwrap();
        world.wait().await;
        let dead = "SELECT CASE WHEN sum(hot_rows) = 0 AND sum(deleted_rows) > 0 THEN 1 END FROM mainstem.tables";
        eventually(&client, dead, |n| n == Some("1")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_found_by_name_and_need_no_features() {
    let world = World::new(PostgresOptions::default());
    let source = world.source().await;
    source
        .batch_execute("CREATE TABLE \"a/b\"(id int PRIMARY KEY); INSERT INTO \"a/b\" SELECT generate_series(1, 10)")
        .await
        .unwrap();
    let client = world.capture().await;
    eventually(&client, "SELECT sum(hot_rows) FROM mainstem.tables", |n| n == Some("0")).await;
    let link = world.mainstem.data_directory().join("tables/by-name/main/shop/a%2Fb");
    let log = link.join("_delta_log/00000000000000000000.json");
    eventually(&client, "SELECT 1", |_| log.exists()).await;
    let commit = std::fs::read_to_string(&log).unwrap();
    assert!(commit.contains("\"minReaderVersion\":1") && commit.contains("\"minWriterVersion\":2"), "{commit}");
    source.batch_execute("DELETE FROM \"a/b\" WHERE id = 3").await.unwrap();
    world.wait().await;
    let deleted = "SELECT CASE WHEN sum(deleted_rows) > 0 AND max(delta_version) > 0 THEN 1 END FROM mainstem.tables";
    eventually(&client, deleted, |n| n == Some("1")).await;
    let last = files(&link.join("_delta_log"), ".json").pop().unwrap();
    let commit = std::fs::read_to_string(last).unwrap();
    assert!(commit.contains("\"minReaderVersion\":3") && commit.contains("deletionVectors"), "{commit}");
    let first = std::fs::read_link(&link).unwrap();
    client.batch_execute("RESYNC SOURCE shop").await.unwrap();
    world.wait().await;
    eventually(&client, "SELECT 1", |_| std::fs::read_link(&link).is_ok_and(|now| now != first)).await;
    source.batch_execute("ALTER TABLE \"a/b\" RENAME TO c").await.unwrap();
    eventually(&client, "SELECT 1", |_| link.with_file_name("c").exists() && std::fs::symlink_metadata(&link).is_err()).await;
}

/// A file system of its own for the data directory; unmounted when it goes.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
        done.is_ok_and(|output| output.status.success()).then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_read_from() {
    let options = mainstem_testkit::MainstemOptions::default()
        .flush_every_ms(1000)
        .env("MAINSTEM_LOG_DISK_RESERVE_BYTES", "20000000")
        .env("MAINSTEM_QUERY_MEMORY_BYTES_MAX", "30000000");
    let mut mainstem = mainstem_testkit::Mainstem::prepare(options).unwrap();
    let Some(_small) = Small::mount(&mainstem.data_directory(), "400m") else {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    };
    let postgres = mainstem_testkit::Postgres::start(PostgresOptions::default()).unwrap();
    postgres.create_database("shop").unwrap();
    mainstem.start_again().unwrap();
    let world = World { postgres, mainstem };
    let source = world.source().await;
    source.batch_execute("CREATE TABLE t(id int PRIMARY KEY, v bigint)").await.unwrap();
    source.batch_execute("INSERT INTO t SELECT g, g FROM generate_series(1, 400000) g").await.unwrap();
    let client = world.capture().await;
    eventually(&client, "SELECT sum(hot_rows) FROM mainstem.tables", |n| n == Some("0")).await;
    let ballast = world.mainstem.data_directory().join("BALLAST");
    eventually(&client, "SELECT 1", |_| ballast.exists()).await;
    let filler = world.mainstem.data_directory().join("filler");
    fill(&filler);
    eventually(&client, "SELECT state FROM mainstem.sources", |state| state == Some("disk_full")).await;
    let (status, body) = world.mainstem.get("/readyz").unwrap();
    assert!(status == 200 && body.contains("disk_full"), "{status} {body}");
    assert_eq!(value(&client, "SELECT count(*) FROM shop.t").await.as_deref(), Some("400000"));
    let spilled = client.simple_query("SELECT v, count(*) FROM shop.t a GROUP BY v ORDER BY md5(v::text), 2").await;
    if let Err(error) = spilled {
        assert!(["53100", "53200"].contains(&error.code().unwrap().code()), "{error:?}");
    }
    // A start on it, after a kill.
    let mut world = world;
    world.mainstem.kill().unwrap();
    fill(&filler);
    world.mainstem.launch().unwrap();
    let client = reached(&mut world).await;
    assert_eq!(value(&client, "SELECT count(*) FROM shop.t").await.as_deref(), Some("400000"));
    eventually(&client, "SELECT state FROM mainstem.sources", |state| state == Some("disk_full")).await;
    // Room again: everything goes on, without a restart.
    std::fs::remove_file(&filler).unwrap();
    source.batch_execute("DELETE FROM t WHERE id > 5").await.unwrap();
    eventually(&client, "SELECT count(*) FROM shop.t", |n| n == Some("5")).await;
    let (_, body) = world.mainstem.get("/readyz").unwrap();
    assert!(!body.contains("disk_full"), "{body}");
    world.compare().await;
}

fn fill(filler: &Path) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(filler).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
}

/// Log-ins work, whatever `/readyz` says.
async fn reached(world: &mut World) -> tokio_postgres::Client {
    for _ in 0..600 {
        assert!(world.mainstem.is_running(), "it ended: {}", world.mainstem.log());
        if let Ok(client) = world.mainstem.connect().await {
            return client;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("nobody can log in: {}", world.mainstem.log());
}
