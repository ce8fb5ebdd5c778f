//! Whatever bit of the log's files flips: what is read is what was written, or an error that names the file. One kind is not found: the
//! base offset of a batch in a compacted segment, moved within the gap that the compaction left.
#![allow(clippy::unwrap_used)] // a test says what is wrong by failing
#![allow(clippy::disallowed_methods)] // a runtime of our own

use mainstem_env::{Disk, Env, OpenMode};
use mainstem_eventlog::{Cleanup, EventLog, PartitionAppend, PartitionReader, RecordBatchBuilder, TopicConfig, TopicPartition};
use mainstem_log::{LocalLog, LogSettings};
use mainstem_testkit::disk::SimDisk;
use mainstem_types::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/data/log";
const TOPICS: [(&str, Cleanup); 2] = [("rows", Cleanup::Delete), ("_words", Cleanup::Compact)];

type Records = Vec<(i64, Vec<u8>, Vec<u8>)>;

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes_max: 4 << 10,
        wal_file_bytes: 64 << 10,
        inline_append_bytes_max: 2 << 10,
        disk_reserve_bytes: 0,
        tail_bytes_max: 0,
        ..LogSettings::default()
    }
}

fn open(disk: &SimDisk) -> Result<Arc<LocalLog>> {
    LocalLog::open(Env { disk: Arc::new(disk.clone()), ..Env::real() }, Path::new(DIR), settings())
}

async fn append(log: &LocalLog, topic: &str, key: u32, bytes: usize) {
    let mut batch = RecordBatchBuilder::new(1_000).uncompressed();
    for n in 0..3_u8 {
        batch.push(1_000, Some(&(key + u32::from(n)).to_be_bytes()), Some(&vec![key as u8; bytes]), &[]);
    }
    let part = PartitionAppend { to: TopicPartition::new(topic, 0), records: batch.records(), batches: batch.finish() };
    log.append(vec![part], None).await.unwrap();
}

/// All from an offset on, or what came before an error, and that.
async fn read(log: &LocalLog, topic: &str, from: i64) -> (Records, Option<Error>) {
    let mut found = Vec::new();
    let mut reader = PartitionReader::new(log, TopicPartition::new(topic, 0), from);
    loop {
        match reader.records().await {
            Ok(Some(records)) => {
                found.extend(records.into_iter().map(|r| (r.offset, r.key.unwrap().to_vec(), r.value.unwrap().to_vec())))
            }
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

type Image = BTreeMap<PathBuf, Vec<u8>>;

fn image(disk: &SimDisk, dir: &Path, into: &mut Image) {
    for name in disk.list(dir).unwrap() {
        let path = dir.join(name);
        match disk.read(&path) {
            Ok(bytes) => drop(into.insert(path, bytes)),
            Err(_) => image(disk, &path, into),
        }
    }
}

fn restore(image: &Image) -> SimDisk {
    let disk = SimDisk::new();
    for (path, bytes) in image {
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        let file = disk.open(path, OpenMode::Write).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
    disk
}

fn names_a_file(error: &Error) -> bool {
    error.kind() == ErrorKind::Corrupt && error.chain().contains(DIR)
}

/// Sealed segments with indexes, a compacted one, one that is written, a checkpoint, and commits that are in the WAL alone.
async fn written() -> (Image, Vec<Records>) {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap();
    for (topic, cleanup) in TOPICS {
        log.create_topic(topic, TopicConfig { cleanup, ..TopicConfig::compacted() }).await.unwrap();
    }
    for n in 0..60 {
        append(&log, "rows", n * 3, 150).await;
        append(&log, "_words", n % 20 * 3, 150).await;
    }
    log.retain().await.unwrap();
    log.close().await;
    drop(log);
    let log = open(&disk).unwrap();
    for n in 60..70 {
        append(&log, "rows", n * 3, 40).await;
        append(&log, "_words", n * 3, 40).await;
    }
    let mut truth = Vec::new();
    for (topic, _) in TOPICS {
        let (records, error) = read(&log, topic, 0).await;
        assert!(error.is_none());
        truth.push(records);
    }
    let mut files = Image::new();
    image(&disk, Path::new(DIR), &mut files);
    (files, truth)
}

/// What is read of a damaged copy; `last_may_lack`: records at the end may be gone without a word.
async fn check(disk: &SimDisk, truth: &[Records], last_may_lack: usize, what: &str) {
    let log = match open(disk) {
        Ok(log) => log,
        Err(error) => return assert!(names_a_file(&error), "{what}: {}", error.chain()),
    };
    for ((topic, _), truth) in TOPICS.iter().zip(truth) {
        for skip in [0, 1, truth.len() / 3, truth.len() - 2] {
            let expected = &truth[skip..];
            let (found, error) = read(&log, topic, expected[0].0).await;
            assert!(expected.starts_with(&found), "{what}: {topic} from {} has other records", expected[0].0);
            match error {
                Some(error) if error.code().id == "LOG-005" => assert!(skip > 0 && last_may_lack > 0, "{what}"),
                Some(error) => assert!(names_a_file(&error), "{what}: {}", error.chain()),
                None => assert!(found.len() + last_may_lack >= expected.len(), "{what}: {topic} lacks records"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_never_a_record() {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (files, truth) = written().await;
        let kinds = |part: &str| files.keys().filter(|path| path.to_string_lossy().contains(part)).count();
        assert!(kinds(".index") > 4 && kinds(".timeindex") > 4 && kinds(".1.log") > 0 && kinds(".wal") > 0, "{:?}", files.keys());
        check(&restore(&files), &truth, 0, "nothing").await;
        for (path, bytes) in &files {
            // The WAL is mostly empty: its records stand at the front.
            let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            let step = (used / 20).max(1);
            for at in (0..used.min(64)).chain((64..used).step_by(step)) {
                let mut damaged = files.clone();
                damaged.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
                let disk = restore(&damaged);
                // Of the WAL the very last record looks like one that power cut off.
                let last_may_lack = if path.to_string_lossy().contains(".wal") { 3 } else { 0 };
                check(&disk, &truth, last_may_lack, &format!("{} at byte {at} of {used}", path.display())).await;
            }
        }
    });
}

#[test]
fn a_wal_that_lacks_commits_is_told() {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (files, truth) = written().await;
        let checkpoint = String::from_utf8(files[&Path::new(DIR).join("checkpoint")].clone()).unwrap();
        let number = checkpoint.split_once("\"file\":").and_then(|(_, rest)| rest.split_once(',')).unwrap().0;
        let path = &Path::new(DIR).join(format!("wal/{number:0>8}.wal"));
        // The commits since the checkpoint take about 6,000 bytes.
        let cuts = [None, Some(0), Some(30), Some(2_000)];
        for cut in cuts {
            let mut damaged = files.clone();
            match cut {
                Some(length) => damaged.get_mut(path).unwrap().truncate(length),
                None => drop(damaged.remove(path)),
            }
            let error = open(&restore(&damaged)).map(drop).unwrap_err();
            assert_eq!((error.code().id, error.kind()), ("LOG-015", ErrorKind::Corrupt));
            assert!(names_a_file(&error), "{}", error.chain());
            // Who says so gets what is left, up to the first commit that is missing.
            let disk = restore(&damaged);
            let accepting = LogSettings { accept_lost_commits: true, ..settings() };
            let env = Env { disk: Arc::new(disk.clone()), ..Env::real() };
            let log = LocalLog::open(env, Path::new(DIR), accepting).unwrap();
            for ((topic, _), truth) in TOPICS.iter().zip(&truth) {
                let (found, error) = read(&log, topic, 0).await;
                assert!(error.is_none() && truth.starts_with(&found) && found.len() < truth.len());
            }
            append(&log, "rows", 1, 10).await;
            log.close().await;
            drop(log);
            open(&disk).map(drop).unwrap();
        }
    });
}
