//! A byte that is other than it was written, in whatever file of a stopped warehouse, never gives a wrong row: it makes no difference, or
//! the table says that it is broken.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // a test damages files; it fails by panicking

mod support;

use mainstem_envelope::tail::LiveTables;
use mainstem_types::SourceName;
use mainstem_types::TableState;
use mainstem_warehouse::{Warehouse, WarehouseSettings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::driver::{Driver, open_copy};
use support::model::{expected, read};

fn settings() -> WarehouseSettings {
    WarehouseSettings { flush_interval_ms: 3_600_000, checkpoint_commits: 3, compact_file_bytes: 0, ..Default::default() }
}

/// Every file below `tables` and `index`, by its path in the data directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.join("index")];
    // Not the links by name: they are followed by nobody here.
    open.extend(
        std::fs::read_dir(dir.join("tables"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with("by-name")),
    );
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path().strip_prefix(dir).unwrap().to_path_buf()),
            }
        }
    }
    found.sort();
    found
}

fn kind(file: &Path) -> &'static str {
    let name = file.file_name().unwrap().to_str().unwrap();
    let kinds = ["checkpoint.parquet", "_last_checkpoint", ".parquet", ".bin", ".json", ".run", "seed"];
    kinds.into_iter().find(|kind| name.ends_with(kind)).unwrap_or_else(|| panic!("{name} is of no kind that this test knows"))
}

fn live_files(driver: &Driver) -> Vec<PathBuf> {
    let snapshot = driver.warehouse.snapshot().unwrap();
    snapshot.tables.values().flat_map(|view| view.files.iter().map(|file| file.path.clone())).collect()
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// A bit at so many thousandths of the file.
    Flip(usize),
    Cut,
    Empty,
    Remove,
}

fn harm(path: &Path, harm: Harm) {
    let mut bytes = std::fs::read(path).unwrap();
    match harm {
        Harm::Flip(part) => {
            let at = (bytes.len() * part / 1000).min(bytes.len() - 1);
            bytes[at] ^= 1 << (part % 8);
        }
        Harm::Cut => bytes.truncate(bytes.len() * 2 / 3),
        Harm::Empty => bytes.clear(),
        Harm::Remove => return std::fs::remove_file(path).unwrap(),
    }
    std::fs::write(path, bytes).unwrap();
}

/// True when all rows are right, false when a table is broken; a wrong row fails the test.
fn judge(driver: &Driver, warehouse: &Warehouse, what: &str) -> bool {
    let snapshot = warehouse.snapshot().unwrap();
    let mut whole = true;
    for table in &driver.tables {
        let view = &snapshot.tables[&table.record.name];
        let name = &table.record.name;
        if !view.readable {
            assert_eq!(view.record.state, TableState::Failed, "{what}: {name}");
            assert!(view.record.error.is_some(), "{what}: {name}");
            whole = false;
            continue;
        }
        match read(view) {
            Ok(rows) => assert!(rows == expected(&table.record.schema, &table.rows), "{what}: {name} shows other rows"),
            Err(error) => {
                assert!(error.to_string().contains("TBL-002"), "{what}: {error}");
                whole = false;
            }
        }
    }
    whole
}

async fn told(warehouse: &Warehouse) -> usize {
    let mut broken = warehouse.broken(&SourceName::new("shop").unwrap());
    broken.wait_for(|tables| !tables.is_empty()).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_never_gives_a_wrong_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(31, dir.path(), settings()).await;
    for _ in 0..5 {
        driver.change().await;
        driver.warehouse.flush(None).await.unwrap();
    }
    driver.check();
    let live = live_files(&driver);
    driver.stop().await;
    let mut by_kind: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    files(dir.path()).into_iter().for_each(|file| by_kind.entry(kind(&file)).or_default().push(file));
    // Nobody reads those that were replaced.
    by_kind.entry(".parquet").or_default().retain(|file| live.contains(&dir.path().join(file)));
    assert_eq!(by_kind.len(), 7, "a kind of file is missing: {:?}", by_kind.keys());
    let harms = [Harm::Flip(0), Harm::Flip(333), Harm::Flip(641), Harm::Flip(1000), Harm::Cut, Harm::Empty, Harm::Remove];
    let (mut same, mut found) = (0, 0);
    for (kind, files) in &by_kind {
        // The first, the last and one between, each harmed in another way: what there is too much of takes turns.
        for (turn, done) in harms.into_iter().enumerate() {
            let file = &files[(turn * 7 + 3) % files.len()];
            let what = format!("{kind} {}, {done:?}", file.display());
            let copy = tempfile::tempdir().unwrap();
            let warehouse = open_copy(&driver, copy.path(), |dir| harm(&dir.join(file), done)).await;
            match judge(&driver, &warehouse, &what) {
                true => same += 1,
                false => {
                    assert!(told(&warehouse).await > 0, "{what}");
                    found += 1;
                }
            }
            warehouse.close().await.unwrap();
        }
    }
    // Hints and indexes are made anew, pages are not.
    assert!(same >= 14 && found >= harms.len(), "{same} without a difference, {found} broken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_gone_comes_back_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(32, dir.path(), settings()).await;
    driver.change().await;
    driver.warehouse.flush(None).await.unwrap();
    driver.change().await;
    driver.check();
    driver.stop().await;
    let newest = |dir: &Path| {
        let mut commits: Vec<_> = files(dir).into_iter().filter(|f| kind(f) == ".json").collect();
        commits.sort();
        commits.pop().unwrap()
    };
    let file = newest(dir.path());
    for done in [Harm::Remove, Harm::Flip(500), Harm::Empty] {
        let copy = tempfile::tempdir().unwrap();
        let warehouse = open_copy(&driver, copy.path(), |dir| harm(&dir.join(&file), done)).await;
        // Retention has taken nothing yet: the log has all that the commit had.
        assert!(judge(&driver, &warehouse, &format!("{done:?}")), "{done:?}: the table is broken, though the log reaches");
        warehouse.flush(None).await.unwrap();
        assert!(judge(&driver, &warehouse, &format!("{done:?}, flushed")));
        warehouse.close().await.unwrap();
    }
    // A commit of somebody else's, and an older one under a newer name, count for nothing.
    for text in [
        "{\"commitInfo\":{\"engineInfo\":\"other\"}}\n{\"add\":{\"path\":\"x.parquet\"}}\n".to_string(),
        std::fs::read_to_string(dir.path().join(&file)).unwrap(),
    ] {
        let copy = tempfile::tempdir().unwrap();
        let next = |dir: &Path| {
            let path = newest(dir);
            let version: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            dir.join(path.with_file_name(format!("{:020}.json", version + 1)))
        };
        let warehouse = open_copy(&driver, copy.path(), |dir| std::fs::write(next(dir), &text).unwrap()).await;
        assert!(judge(&driver, &warehouse, "a commit too many"));
        warehouse.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_while_it_runs_is_found_by_who_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(33, dir.path(), settings()).await;
    driver.change().await;
    driver.warehouse.flush(None).await.unwrap();
    driver.check();
    let snapshot = driver.warehouse.snapshot().unwrap();
    let view = snapshot.tables.values().find(|view| !view.files.is_empty()).unwrap();
    harm(&view.files[0].path, Harm::Flip(400));
    assert!(read(view).is_err());
    assert_eq!(told(&driver.warehouse).await, 1);
    let now = driver.warehouse.snapshot().unwrap();
    assert_eq!(now.tables[&view.record.name].record.state, TableState::Failed);
    // A generation beside it makes it whole.
    let at = driver.tables.iter().position(|table| table.record.name == view.record.name).unwrap();
    driver.build(at).await;
    driver.check();
    let mut broken = driver.warehouse.broken(&SourceName::new("shop").unwrap());
    broken.wait_for(Vec::is_empty).await.unwrap();
}
