//! The log over a simulated disk that loses, tears and refuses, and over the real one.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing
#![allow(clippy::disallowed_methods)] // seeded randomness, and a runtime of our own

use bytes::Bytes;
use futures::future::join_all;
use mainstem_env::{Disk, Env, RealClock};
use mainstem_eventlog::{Cleanup, EventLog, PartitionAppend, RecordBatchBuilder, TopicConfig, TopicPartition};
use mainstem_log::{LocalLog, LogSettings};
use mainstem_testkit::disk::SimDisk;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const TOPIC: &str = "shop.public.film";
const PARTITIONS: i32 = 3;

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes_max: 16 << 10,
        wal_file_bytes: 64 << 10,
        inline_append_bytes_max: 4 << 10,
        disk_reserve_bytes: 0,
        tail_bytes_max: 8 << 10,
        ..LogSettings::default()
    }
}

fn env(disk: &SimDisk) -> Env {
    Env { clock: Arc::new(RealClock::new()), disk: Arc::new(disk.clone()) }
}

fn dir() -> PathBuf {
    PathBuf::from("/data/log")
}

fn config() -> TopicConfig {
    TopicConfig { partitions: PARTITIONS, cleanup: Cleanup::Delete, retention_ms: None, retention_bytes: None }
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// `records` records that say which append they are of, each with `bytes` of incompressible padding.
fn part(partition: i32, id: u64, records: u32, bytes: usize) -> PartitionAppend {
    let mut rng = StdRng::seed_from_u64(id);
    let mut builder = RecordBatchBuilder::new(1_000);
    for number in 0..records {
        builder.push_with(1_000 + i64::from(number), Some(&id.to_be_bytes()), &[], |value| {
            value.extend_from_slice(&number.to_be_bytes());
            value.extend((0..bytes).map(|_| rng.random::<u8>()));
        });
    }
    PartitionAppend { to: at(partition), batches: builder.finish(), records }
}

/// The (append, number) of every record, offsets checked to be dense from `start`.
async fn content(log: &LocalLog, partition: i32) -> Vec<(u64, u32)> {
    let info = log.partitions().into_iter().find(|info| info.at == at(partition)).unwrap();
    let mut next = info.start;
    let mut all = Vec::new();
    while next < info.end {
        let fetched = log.read(&at(partition), next, 5_000).await.unwrap();
        let records = mainstem_eventlog::records(&fetched.batches).unwrap();
        assert!(!records.is_empty(), "nothing at {next} before {}", info.end);
        let from = next;
        for record in records.into_iter().skip_while(|record| record.offset < from) {
            assert_eq!(record.offset, next);
            next += 1;
            let id = u64::from_be_bytes(record.key.unwrap()[..].try_into().unwrap());
            all.push((id, u32::from_be_bytes(record.value.unwrap()[..4].try_into().unwrap())));
        }
    }
    assert_eq!(next, info.end);
    all
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What an append or transaction was to write: records per partition.
type Wanted = BTreeMap<i32, u32>;

#[derive(Default)]
struct Model {
    /// Content of each partition as last seen after a start.
    content: BTreeMap<i32, Vec<(u64, u32)>>,
    acknowledged: BTreeMap<u64, Wanted>,
    unknown: BTreeMap<u64, Wanted>,
    next: u64,
}

impl Model {
    /// Exactly the acknowledged appends are there, and unacknowledged ones whole or not at all.
    fn check(&mut self, now: BTreeMap<i32, Vec<(u64, u32)>>) {
        let mut found: BTreeMap<u64, Wanted> = BTreeMap::new();
        for (partition, list) in &now {
            let before = self.content.get(partition).map_or(&[][..], |list| list);
            assert!(list.starts_with(before), "partition {partition} lost or changed what it had at the last start");
            let mut expected = 0;
            let mut last = None;
            let mut seen = BTreeSet::new();
            for (id, number) in list {
                if last != Some(*id) {
                    assert!(seen.insert(*id), "append {id} is there twice or mixed with another");
                    expected = 0;
                }
                assert_eq!(*number, expected, "append {id} has a hole");
                expected += 1;
                last = Some(*id);
                *found.entry(*id).or_default().entry(*partition).or_default() += 1;
            }
        }
        for (id, wanted) in &self.acknowledged {
            assert_eq!(found.get(id), Some(wanted), "acknowledged append {id}");
        }
        for (id, got) in &found {
            let wanted = self.acknowledged.get(id).or_else(|| self.unknown.get(id));
            assert_eq!(Some(got), wanted, "append {id} was undone, or is there in part");
        }
        self.acknowledged.extend(std::mem::take(&mut self.unknown).into_iter().filter(|(id, _)| found.contains_key(id)));
        self.content = now;
    }
}

/// A few appends at once, or a transaction, until the disk is gone. Returns whether it still is there.
async fn work(log: &LocalLog, rng: &mut StdRng, model: &mut Model) -> bool {
    let mut id = || {
        model.next += 1;
        model.next
    };
    let bytes = |rng: &mut StdRng| [10, 300, 3_000][rng.random_range(0..3)];
    if rng.random_bool(0.25) {
        let (id, n) = (id(), rng.random_range(1..4));
        let partition = rng.random_range(0..PARTITIONS);
        let mut wanted = Wanted::new();
        let mut transaction = log.begin().await.unwrap();
        for piece in 0..n {
            let mut one = part(partition, id, n, bytes(rng));
            // Numbers go on over the pieces.
            one = renumber(one, id, piece, bytes(rng));
            if transaction.append(vec![one]).await.is_err() {
                return false;
            }
            *wanted.entry(partition).or_default() += 1;
        }
        if rng.random_bool(0.3) {
            return true;
        }
        let other = (partition + 1) % PARTITIONS;
        wanted.insert(other, 2);
        let outcome = transaction.commit(vec![part(other, id, 2, 20)], None).await;
        let list = if outcome.is_ok() { &mut model.acknowledged } else { &mut model.unknown };
        list.insert(id, wanted);
        return outcome.is_ok();
    }
    let jobs: Vec<(u64, Wanted, usize)> = (0..rng.random_range(1..6))
        .map(|_| {
            let parts = rng.random_range(1..=PARTITIONS);
            (id(), (0..parts).map(|partition| (partition, rng.random_range(1..5))).collect(), bytes(rng))
        })
        .collect();
    let outcomes = join_all(jobs.iter().map(|(id, wanted, bytes)| {
        let mut parts: Vec<PartitionAppend> = wanted.iter().map(|(p, n)| part(*p, *id, *n, *bytes)).collect();
        let last = parts.pop().unwrap();
        log.append(parts, Some(Box::new(move |_| last)))
    }))
    .await;
    let mut alive = true;
    for ((id, wanted, _), outcome) in jobs.into_iter().zip(outcomes) {
        alive &= outcome.is_ok();
        let list = if outcome.is_ok() { &mut model.acknowledged } else { &mut model.unknown };
        list.insert(id, wanted);
    }
    alive
}

/// One record of append `id` with the given number.
fn renumber(one: PartitionAppend, id: u64, number: u32, bytes: usize) -> PartitionAppend {
    let mut builder = RecordBatchBuilder::new(1_000);
    let mut value = number.to_be_bytes().to_vec();
    value.resize(4 + bytes, 7);
    builder.push(1_000, Some(&id.to_be_bytes()), Some(&value), &[]);
    PartitionAppend { batches: builder.finish(), records: 1, ..one }
}

async fn crash_case(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = SimDisk::new();
    let mut model = Model::default();
    let mut opened = false;
    for life in 0..6 {
        if life > 0 {
            disk.crash(rng.random());
        }
        let settings = LogSettings { checkpoint_interval_ms: [100, 60_000][rng.random_range(0..2)], ..settings() };
        if rng.random_bool(0.2) && opened {
            // A crash during the start, too.
            disk.cut_power_after(rng.random_range(1..12));
            drop(LocalLog::open(env(&disk), &dir(), settings.clone()));
            disk.crash(rng.random());
        }
        let log = LocalLog::open(env(&disk), &dir(), settings).unwrap();
        log.create_topic(TOPIC, config()).await.unwrap();
        opened = true;
        let mut now = BTreeMap::new();
        for partition in 0..PARTITIONS {
            now.insert(partition, content(&log, partition).await);
        }
        model.check(now);
        if rng.random_bool(0.2) {
            work(&log, &mut rng, &mut model).await;
            log.close().await;
            continue;
        }
        disk.cut_power_after(rng.random_range(1..250));
        while work(&log, &mut rng, &mut model).await {}
    }
}

#[test]
fn what_was_acknowledged_survives_every_crash() {
    for seed in 0..150 {
        println!("seed {seed}");
        runtime().block_on(crash_case(seed));
    }
}

/// A fresh log with the topic made.
async fn fresh(disk: &SimDisk, settings: LogSettings) -> Arc<LocalLog> {
    let log = LocalLog::open(env(disk), &dir(), settings).unwrap();
    log.create_topic(TOPIC, config()).await.unwrap();
    log
}

/// Pulls the plug, also on what the closing log would still write.
fn crash(disk: &SimDisk, log: Arc<LocalLog>, seed: u64) {
    disk.cut_power_after(0);
    drop(log);
    disk.crash(seed);
}

fn code<T: std::fmt::Debug>(result: mainstem_types::Result<T>) -> &'static str {
    result.map_err(|error| error.code().id).expect_err("it should have been refused")
}

#[tokio::test]
async fn a_failed_sync_stops_appends_for_good_and_not_reads() {
    let disk = SimDisk::new();
    let log = fresh(&disk, settings()).await;
    log.append(vec![part(0, 1, 3, 10)], None).await.unwrap();
    disk.fail_syncs(1);
    assert_eq!(code(log.append(vec![part(0, 2, 3, 10)], None).await), "LOG-001");
    // The disk is well again; nobody knows what it holds.
    assert_eq!(code(log.append(vec![part(0, 3, 3, 10)], None).await), "LOG-001");
    assert_eq!(code(log.create_topic("other", config()).await), "LOG-001");
    assert_eq!(content(&log, 0).await, [(1, 0), (1, 1), (1, 2)]);
    drop(log);
    let log = fresh(&disk, settings()).await;
    log.append(vec![part(0, 4, 1, 10)], None).await.unwrap();
    let ids: Vec<u64> = content(&log, 0).await.into_iter().map(|(id, _)| id).collect();
    assert!(ids == [1, 1, 1, 4] || ids == [1, 1, 1, 2, 2, 2, 4], "{ids:?}");
}

#[tokio::test]
async fn a_full_disk_refuses_appends_until_there_is_room() {
    let disk = SimDisk::new();
    let log = fresh(&disk, LogSettings { disk_reserve_bytes: 10_000, ..settings() }).await;
    log.append(vec![part(0, 1, 2, 100)], None).await.unwrap();
    // Down to the reserve; then really full, inline and not.
    for (room, bytes) in [(10_050, 100), (0, 100), (0, 9_000)] {
        disk.set_capacity(disk.used_bytes() + room);
        assert_eq!(code(log.append(vec![part(1, 2, 2, 100), part(0, 2, 2, bytes)], None).await), "LOG-002");
        assert_eq!(content(&log, 0).await, [(1, 0), (1, 1)]);
    }
    disk.set_capacity(u64::MAX);
    log.append(vec![part(0, 3, 1, 9_000)], None).await.unwrap();
    assert_eq!(content(&log, 0).await, [(1, 0), (1, 1), (3, 0)]);
    assert!(content(&log, 1).await.is_empty());
}

#[tokio::test]
async fn too_many_open_files_pass() {
    let disk = SimDisk::new();
    let log = fresh(&disk, settings()).await;
    log.append(vec![part(0, 1, 1, 10)], None).await.unwrap();
    let checkpoint = || disk.read(&dir().join("checkpoint")).unwrap();
    for id in 2..5 {
        disk.fail_opens(1);
        assert_eq!(code(log.append(vec![part(0, id, 1, 10), part(1, id, 1, 10)], None).await), "LOG-013");
    }
    drop(log);
    let log = fresh(&disk, LogSettings { checkpoint_interval_ms: 100, ..settings() }).await;
    // Whatever a checkpoint meets, the one after it has everything.
    log.append(vec![part(1, 5, 1, 10)], None).await.unwrap();
    let before = checkpoint();
    disk.fail_opens(7);
    while checkpoint() == before {
        log.retain().await.unwrap();
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    crash(&disk, log, 3);
    let log = fresh(&disk, settings()).await;
    assert_eq!((content(&log, 0).await, content(&log, 1).await), (vec![(1, 0)], vec![(5, 0)]));
}

#[tokio::test]
async fn topics_made_at_once_share_syncs() {
    let disk = SimDisk::new();
    let log = fresh(&disk, settings()).await;
    let make = |count: i32, of: fn(i32) -> (String, i32)| {
        let log = log.clone();
        async move {
            let topics = (0..count).map(|n| {
                let ((name, partitions), log) = (of(n), log.clone());
                async move { log.create_topic(&name, TopicConfig { partitions, ..config() }).await }
            });
            join_all(topics).await
        }
    };
    let before = disk.syncs();
    let made = make(500, |n| (format!("t{n}"), 2)).await;
    assert!(made.iter().all(|outcome| outcome.is_ok()));
    let syncs = disk.syncs() - before;
    assert!(syncs < 250, "{syncs} syncs for 500 topics");
    assert_eq!(log.partitions().len(), 1_003);
    // One name twice, one that is there already, one that cannot be, one that would change.
    let made = make(5, |n| (["new", "new", "t7", "a/b", "t8"][n as usize].to_owned(), if n == 4 { 3 } else { 2 })).await;
    let codes: Vec<Option<&str>> = made.into_iter().map(|outcome| outcome.err().map(|error| error.code().id)).collect();
    assert_eq!(codes, [None, None, None, Some("LOG-006"), Some("LOG-006")]);
    log.append(vec![PartitionAppend { to: TopicPartition::new("t499", 1), ..part(0, 9, 1, 10) }], None).await.unwrap();
    crash(&disk, log, 4);
    let log = fresh(&disk, settings()).await;
    assert_eq!(log.partitions().len(), 1_005);
    assert_eq!(log.partitions().iter().map(|info| info.end).sum::<i64>(), 1);
}

#[tokio::test]
async fn a_write_that_finds_the_disk_full_is_undone() {
    let disk = SimDisk::new();
    let log = fresh(&disk, settings()).await;
    log.append(vec![part(0, 1, 1, 100)], None).await.unwrap();
    // What a seal writes is not known when the append is admitted.
    let mut transaction = log.begin().await.unwrap();
    transaction.append(vec![part(0, 2, 1, 9_000)]).await.unwrap();
    disk.set_capacity(disk.used_bytes() + 100);
    let seal = Box::new(|_: &[i64]| part(0, 2, 1, 9_000));
    assert_eq!(code(transaction.commit(Vec::new(), Some(seal)).await), "LOG-002");
    disk.set_capacity(u64::MAX);
    log.append(vec![part(0, 3, 1, 100)], None).await.unwrap();
    assert_eq!(content(&log, 0).await, [(1, 0), (3, 0)]);
}

#[tokio::test]
async fn a_checkpoint_that_finds_the_disk_full_forgets_nothing() {
    let disk = SimDisk::new();
    let log = fresh(&disk, LogSettings { checkpoint_interval_ms: 100, ..settings() }).await;
    // Enough for index files, which find no room.
    for id in 0..5 {
        log.append(vec![part(0, id, 1, 2_500)], None).await.unwrap();
    }
    let checkpoint = || disk.read(&dir().join("checkpoint")).unwrap();
    let before = checkpoint();
    disk.set_capacity(disk.used_bytes());
    for _ in 0..100 {
        log.retain().await.unwrap();
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    disk.set_capacity(u64::MAX);
    while checkpoint() == before {
        log.retain().await.unwrap();
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    let all = content(&log, 0).await;
    crash(&disk, log, 5);
    let log = fresh(&disk, settings()).await;
    assert_eq!(content(&log, 0).await, all);
}

#[tokio::test]
async fn transactions_are_seen_whole_or_never() {
    let disk = SimDisk::new();
    let log = fresh(&disk, settings()).await;
    log.append(vec![part(0, 1, 1, 10)], None).await.unwrap();
    let mut transaction = log.begin().await.unwrap();
    let mut bases = Vec::new();
    for _ in 0..5 {
        bases.extend(transaction.append(vec![part(0, 2, 2, 3_000)]).await.unwrap());
    }
    assert_eq!(bases, [1, 3, 5, 7, 9]);
    assert_eq!(content(&log, 0).await, [(1, 0)]);
    assert_eq!(code(log.append(vec![part(0, 3, 1, 10)], None).await), "LOG-010");
    assert_eq!(code(log.delete_topic(TOPIC).await), "LOG-010");
    log.append(vec![part(1, 3, 1, 10)], None).await.unwrap();
    drop(transaction);
    // The same offsets again, by somebody else.
    assert_eq!(log.append(vec![part(0, 4, 2, 10)], None).await.unwrap(), [1]);
    let ends = log.subscribe(&at(2)).unwrap();
    let mut transaction = log.begin().await.unwrap();
    transaction.append(vec![part(0, 5, 1, 9_000)]).await.unwrap();
    let seal = Box::new(|bases: &[i64]| {
        assert_eq!(bases, [4]);
        part(2, 5, 1, 10)
    });
    assert_eq!(transaction.commit(vec![part(0, 6, 1, 10)], Some(seal)).await.unwrap(), [4, 0]);
    assert_eq!(*ends.borrow(), 1);
    let before = content(&log, 0).await;
    assert_eq!(before, [(1, 0), (4, 0), (4, 1), (5, 0), (6, 0)]);
    drop(log);
    let log = fresh(&disk, settings()).await;
    assert_eq!(content(&log, 0).await, before);
}

#[tokio::test]
async fn concurrent_appends_share_a_sync() {
    let disk = SimDisk::new();
    let log = fresh(&disk, settings()).await;
    let before = disk.syncs();
    let outcomes = join_all((0..200).map(|id| log.append(vec![part(id as i32 % 3, id, 1, 10)], None))).await;
    assert!(outcomes.iter().all(|outcome| outcome.is_ok()));
    let syncs = disk.syncs() - before;
    assert!(syncs < 150, "{syncs} syncs for 200 appends");
}

#[tokio::test]
async fn an_append_is_all_or_nothing() {
    let disk = SimDisk::new();
    let log = fresh(&disk, settings()).await;
    let gone = PartitionAppend { to: TopicPartition::new("nowhere", 0), ..part(0, 1, 1, 10) };
    assert_eq!(code(log.append(vec![part(0, 1, 1, 10)], Some(Box::new(move |_| gone))).await), "LOG-004");
    assert_eq!(code(log.append(vec![part(0, 1, 1, 10)], Some(Box::new(|_| panic!("in a seal")))).await), "LOG-011");
    assert_eq!(code(log.append(vec![PartitionAppend { records: 2, ..part(0, 1, 1, 10) }], None).await), "LOG-011");
    let garbage = PartitionAppend { to: at(0), batches: Bytes::from_static(&[7; 100]), records: 1 };
    assert_eq!(code(log.append(vec![garbage], None).await), "LOG-003");
    assert!(content(&log, 0).await.is_empty());
    assert_eq!(log.append(vec![part(0, 1, 2, 10), part(0, 2, 1, 10)], None).await.unwrap(), [0, 2]);
    assert_eq!(code(log.read(&at(0), 4, 100).await), "LOG-005");
    assert_eq!(code(log.read(&at(9), 0, 100).await), "LOG-004");
    assert_eq!(code(log.create_topic("a/b", config()).await), "LOG-006");
    assert_eq!(code(log.create_topic(TOPIC, TopicConfig { partitions: 4, ..config() }).await), "LOG-006");
    assert!(log.read(&at(0), 3, 100).await.unwrap().batches.is_empty());
    log.close().await;
    assert_eq!(code(log.append(vec![part(0, 1, 1, 10)], None).await), "LOG-009");
}

#[tokio::test]
async fn retention_stops_at_the_floor() {
    let disk = SimDisk::new();
    let log = fresh(&disk, settings()).await;
    log.create_topic(TOPIC, TopicConfig { retention_ms: Some(1), ..config() }).await.unwrap();
    for id in 0..40 {
        log.append(vec![part(0, id, 1, 3_000)], None).await.unwrap();
    }
    let start = || log.partitions()[0].start;
    log.retain().await.unwrap();
    assert_eq!(start(), 0, "no floor was told");
    log.set_retention_floor(&at(0), 12);
    log.retain().await.unwrap();
    let cut = start();
    assert!((5..=12).contains(&cut), "{cut}");
    assert_eq!(code(log.read(&at(0), cut - 1, 100).await), "LOG-005");
    let left = content(&log, 0).await;
    assert_eq!(left[0].0, cut as u64);
    crash(&disk, log, 1);
    let log = fresh(&disk, settings()).await;
    assert_eq!(content(&log, 0).await, left);
    log.set_retention_floor(&at(0), 40);
    log.retain().await.unwrap();
    assert!(!content(&log, 0).await.is_empty(), "the active segment stays");
}

#[tokio::test]
async fn a_start_does_not_miss_what_retention_took() {
    for seed in 0..3 {
        let disk = SimDisk::new();
        // The last checkpoint knows only a segment that is then sealed and taken.
        let quiet = LogSettings { checkpoint_interval_ms: 3_600_000, ..settings() };
        let log = fresh(&disk, quiet.clone()).await;
        log.create_topic(TOPIC, TopicConfig { retention_ms: Some(1), ..config() }).await.unwrap();
        log.append(vec![part(0, 0, 1, 10)], None).await.unwrap();
        crash(&disk, log, seed);
        let log = fresh(&disk, quiet.clone()).await;
        for id in 1..40 {
            log.append(vec![part(0, id, 1, 3_000)], None).await.unwrap();
        }
        log.set_retention_floor(&at(0), 40);
        log.retain().await.unwrap();
        let left = content(&log, 0).await;
        let first = dir().join(format!("{TOPIC}-0")).join(format!("{:020}.log", 0));
        for _ in 0..2000 {
            if !disk.exists(&first) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            log.retain().await.unwrap();
        }
        assert!(!disk.exists(&first), "retention frees the disk without waiting for the next checkpoint's time");
        crash(&disk, log, seed);
        let log = fresh(&disk, quiet).await;
        assert_eq!(content(&log, 0).await, left);
    }
}

#[tokio::test]
async fn a_deleted_topic_stays_deleted() {
    let disk = SimDisk::new();
    for seed in 0..20 {
        let log = fresh(&disk, settings()).await;
        log.append(vec![part(0, seed, 1, 9_000), part(1, seed, 1, 10)], None).await.unwrap();
        log.delete_topic(TOPIC).await.unwrap();
        if seed % 2 == 0 {
            log.create_topic(TOPIC, config()).await.unwrap();
        }
        crash(&disk, log, seed);
        let log = LocalLog::open(env(&disk), &dir(), settings()).unwrap();
        assert_eq!(log.partitions().len(), if seed % 2 == 0 { 3 } else { 0 });
        assert!(log.partitions().iter().all(|info| info.end == 0));
        log.delete_topic(TOPIC).await.unwrap();
        log.close().await;
        assert!(!disk.exists(&dir().join(format!("{TOPIC}-0"))));
    }
}

#[tokio::test]
async fn on_the_real_disk_with_files_kafka_knows() {
    let place = tempfile::tempdir().unwrap();
    let open = || LocalLog::open(Env::real(), place.path(), LogSettings { disk_reserve_bytes: 0, ..settings() });
    let log = open().unwrap();
    assert_eq!(code(open().map(|_| ())), "LOG-008");
    log.create_topic(TOPIC, config()).await.unwrap();
    for id in 0..60 {
        log.append(vec![part(0, id, 2, 700), part(1, id, 1, 6_000)], None).await.unwrap();
    }
    let before = (content(&log, 0).await, content(&log, 1).await);
    assert_eq!(before.0.len(), 120);
    drop(log);
    let folder = place.path().join(format!("{TOPIC}-0"));
    let first = folder.join("00000000000000000000.log");
    let bytes = Bytes::from(std::fs::read(first).unwrap());
    assert_eq!(mainstem_eventlog::records(&bytes).unwrap()[0].offset, 0);
    let index = std::fs::read(folder.join("00000000000000000000.index")).unwrap();
    assert!(!index.is_empty() && index.len().is_multiple_of(8), "{}", index.len());
    // Indexes are derived: without them, or with damaged ones, everything still reads.
    for (number, entry) in std::fs::read_dir(&folder).unwrap().enumerate() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e != "log") {
            if number % 2 == 0 { std::fs::remove_file(path).unwrap() } else { std::fs::write(path, [9; 31]).unwrap() }
        }
    }
    let log = open().unwrap();
    assert_eq!((content(&log, 0).await, content(&log, 1).await), before);
    log.append(vec![part(0, 99, 1, 10)], None).await.unwrap();
    assert_eq!(content(&log, 0).await.last(), Some(&(99, 0)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..Default::default() })]

    #[test]
    fn random_files_are_refused_or_read(kind in 0_u8..7, mut bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        mainstem_log::decode_any(&bytes);
        // Entries of a known kind get further.
        bytes[0] = kind;
        mainstem_log::decode_any(&bytes);
    }
}
