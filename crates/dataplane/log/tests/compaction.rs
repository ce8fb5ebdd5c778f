//! Compaction against a model: the last record per key is never lost, nothing changes on the way, whatever the disk does meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by failing
#![allow(clippy::disallowed_methods)] // seeded randomness, and a runtime of our own

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join, join_all};
use mainstem_env::{Clock, Disk, DiskFile, Env, Mapped, Moment, OpenMode};
use mainstem_eventlog::{Cleanup, EventLog, PartitionAppend, RecordBatchBuilder, TopicConfig, TopicPartition};
use mainstem_log::{LocalLog, LogSettings};
use mainstem_testkit::disk::SimDisk;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const TOPIC: &str = "_words";
const HOUR_MS: i64 = 3_600_000;

/// A clock that stands still until it is set.
#[derive(Default)]
struct Watch(AtomicI64);

impl Watch {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Watch {
    fn now_us(&self) -> i64 {
        self.now_ms() * 1000
    }

    fn moment(&self) -> Moment {
        Moment(Duration::from_millis(self.now_ms() as u64))
    }

    async fn sleep(&self, _: Duration) {
        tokio::task::yield_now().await;
    }
}

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes_max: 4 << 10,
        wal_file_bytes: 64 << 10,
        inline_append_bytes_max: 2 << 10,
        disk_reserve_bytes: 0,
        tail_bytes_max: 1 << 10,
        ..LogSettings::default()
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/data/log")
}

fn at() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

fn config(cleanup: Cleanup) -> TopicConfig {
    TopicConfig { partitions: 1, cleanup, retention_ms: None, retention_bytes: None }
}

fn open(disk: &SimDisk, watch: &Arc<Watch>, settings: LogSettings) -> mainstem_types::Result<Arc<LocalLog>> {
    LocalLog::open(Env { clock: watch.clone(), disk: Arc::new(disk.clone()) }, &dir(), settings)
}

async fn fresh(disk: &SimDisk, watch: &Arc<Watch>) -> Arc<LocalLog> {
    let log = open(disk, watch, settings()).unwrap();
    log.create_topic(TOPIC, config(Cleanup::Compact)).await.unwrap();
    log
}

/// Pulls the plug, also on what the closing log would still write.
fn crash(disk: &SimDisk, log: Arc<LocalLog>, seed: u64) {
    disk.cut_power_after(0);
    drop(log);
    disk.crash(seed);
}

type Key = Option<u8>;
/// None: a tombstone.
type Value = Option<Vec<u8>>;
type Word = (Key, Value);

fn part(now_ms: i64, words: &[Word]) -> PartitionAppend {
    let mut builder = RecordBatchBuilder::new(now_ms);
    if words.len() == 1 {
        builder = builder.uncompressed();
    }
    for (number, (key, value)) in (0..).zip(words) {
        let key = key.map(|key| vec![key; 1 + usize::from(key)]);
        builder.push(now_ms + number, key.as_deref(), value.as_deref(), &[("number", &[number as u8])]);
    }
    PartitionAppend { to: at(), records: builder.records(), batches: builder.finish() }
}

/// What was written at an offset, with its time.
#[derive(Clone, PartialEq)]
struct Said {
    word: Word,
    time_ms: i64,
    number: u8,
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, value) = &self.word;
        write!(f, "{key:?}={:?} ({}, {})", value.as_ref().map(Vec::len), self.time_ms, self.number)
    }
}

fn said(now_ms: i64, words: &[Word]) -> Vec<Said> {
    let said = |(number, word): (u8, &Word)| Said { word: word.clone(), time_ms: now_ms + i64::from(number), number };
    (0..).zip(words).map(said).collect()
}

/// All records from an offset on, read as every reader of the product does.
async fn read_from(log: &LocalLog, from: i64) -> mainstem_types::Result<BTreeMap<i64, Said>> {
    let mut found = BTreeMap::new();
    let mut offset = from;
    loop {
        let fetched = log.read(&at(), offset, 700).await?;
        if fetched.batches.is_empty() {
            assert_eq!(offset, fetched.end);
            return Ok(found);
        }
        let before = offset;
        for record in mainstem_eventlog::records(&fetched.batches)?.into_iter().filter(|record| record.offset >= before) {
            assert!(record.offset >= offset, "{} after {offset}", record.offset);
            offset = record.offset + 1;
            let word = (record.key.map(|key| key[0]), record.value.map(|value| value.to_vec()));
            let (_, number) = &record.headers[0];
            found.insert(record.offset, Said { word, time_ms: record.time_ms, number: number.as_ref().unwrap()[0] });
        }
        assert!(offset > before, "nothing new was read at {before} of {}", fetched.end);
    }
}

#[derive(Default)]
struct Model {
    /// Everything that may be there: acknowledged, or perhaps written.
    written: BTreeMap<i64, Vec<Said>>,
    acknowledged: BTreeMap<i64, Said>,
    /// When a tombstone may first have been found clean.
    clean_since: BTreeMap<i64, i64>,
}

impl Model {
    fn acknowledge(&mut self, base: i64, said: Vec<Said>) {
        for (offset, said) in (base..).zip(said) {
            self.written.insert(offset, vec![said.clone()]);
            self.acknowledged.insert(offset, said);
        }
    }

    /// A pass may run from now on.
    fn may_clean(&mut self, now_ms: i64) {
        for offset in self.acknowledged.iter().filter(|(_, said)| said.word.1.is_none()).map(|(offset, _)| *offset) {
            self.clean_since.entry(offset).or_insert(now_ms);
        }
    }

    fn last_words(&self) -> BTreeMap<Key, i64> {
        self.acknowledged.iter().filter(|(_, said)| said.word.0.is_some()).map(|(offset, said)| (said.word.0, *offset)).collect()
    }

    /// `known`: last words as acknowledged before the reading began.
    fn check(&self, found: &BTreeMap<i64, Said>, known: &BTreeMap<Key, i64>, now_ms: i64) {
        let mut last: BTreeMap<Key, i64> = BTreeMap::new();
        for (offset, said) in found {
            let written = self.written.get(offset).unwrap_or_else(|| panic!("nobody wrote {said:?} at {offset}"));
            assert!(written.contains(said), "{said:?} at {offset} instead of {written:?}");
            last.insert(said.word.0, *offset);
        }
        for (key, wanted) in known {
            let gone = self.clean_since.get(wanted).is_some_and(|since| now_ms >= since + 24 * HOUR_MS);
            // What a tombstone deleted must not come back with its end.
            let sound = last.get(key).map_or(gone, |there| there >= wanted);
            assert!(sound, "key {key:?}: {wanted} was acknowledged, {:?} is the last there", last.get(key));
        }
    }
}

fn words(rng: &mut StdRng) -> Vec<Word> {
    let bytes = [1, 40, 900][rng.random_range(0..3)];
    let word = |rng: &mut StdRng| {
        let value = rng.random_bool(0.8).then(|| (0..rng.random_range(0..=bytes)).map(|_| rng.random::<u8>() % 4).collect());
        (Some(rng.random_range(0..20)), value)
    };
    (0..rng.random_range(1..6)).map(|_| word(rng)).collect()
}

/// Appends, compaction and a reader at once. False: the disk is gone.
async fn work(log: &LocalLog, watch: &Watch, rng: &mut StdRng, model: &mut Model) -> bool {
    watch.advance([1, 60, 2 * HOUR_MS][rng.random_range(0..3)]);
    let now_ms = watch.now_ms();
    model.may_clean(now_ms);
    let known = model.last_words();
    let jobs: Vec<Vec<Word>> = (0..rng.random_range(1..8)).map(|_| words(rng)).collect();
    let appends = join_all(jobs.iter().map(|words| log.append(vec![part(now_ms, words)], None)));
    let retained = async { if rng.random_bool(0.5) { log.retain().await } else { Ok(()) } };
    let ((outcomes, retained), found) = join(join(appends, retained), read_from(log, 0)).await;
    let end = log.partitions()[0].end;
    let mut alive = retained.is_ok();
    for (words, outcome) in jobs.iter().zip(outcomes) {
        alive &= outcome.is_ok();
        match outcome {
            Ok(bases) => model.acknowledge(bases[0], said(now_ms, words)),
            // It may be there after the next start, wherever the others that failed leave it.
            Err(_) => {
                for base in end..end + 40 {
                    for (offset, said) in (base..).zip(said(now_ms, words)) {
                        model.written.entry(offset).or_default().push(said);
                    }
                }
            }
        }
    }
    match found {
        Ok(found) => model.check(&found, &known, now_ms),
        Err(_) => alive = false,
    }
    alive
}

async fn crash_case(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let mut model = Model::default();
    for life in 0..6 {
        if life > 0 {
            disk.crash(rng.random());
            // A crash during the start, too.
            if rng.random_bool(0.2) {
                disk.cut_power_after(rng.random_range(1..12));
                drop(open(&disk, &watch, settings()));
                disk.crash(rng.random());
            }
        }
        let checkpoint_interval_ms = [100, 1_000_000_000_000][rng.random_range(0..2)];
        let log = open(&disk, &watch, LogSettings { checkpoint_interval_ms, ..settings() }).unwrap();
        log.create_topic(TOPIC, config(Cleanup::Compact)).await.unwrap();
        let found = read_from(&log, 0).await.unwrap();
        model.check(&found, &model.last_words(), watch.now_ms());
        // What is there now was acknowledged, or counts as if.
        model.written.retain(|offset, _| model.acknowledged.contains_key(offset));
        for (offset, said) in found {
            model.acknowledge(offset, vec![said]);
        }
        for _ in 0..rng.random_range(0..20) {
            assert!(work(&log, &watch, &mut rng, &mut model).await);
        }
        if rng.random_bool(0.2) {
            log.close().await;
            continue;
        }
        disk.cut_power_after(rng.random_range(1..400));
        while work(&log, &watch, &mut rng, &mut model).await {}
    }
}

#[test]
fn the_last_word_of_each_key_survives_every_crash() {
    for seed in 0..150 {
        println!("seed {seed}");
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(crash_case(seed));
    }
}

/// One-record appends of the key until another segment is sealed.
async fn fill(log: &LocalLog, watch: &Watch, key: u8) {
    for _ in 0..12 {
        log.append(vec![part(watch.now_ms(), &[(Some(key), Some(vec![key; 400]))])], None).await.unwrap();
    }
}

fn files(disk: &dyn Disk) -> Vec<String> {
    let mut names = disk.list(&dir().join(format!("{TOPIC}-0"))).unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn a_start_reads_little_after_many_words() {
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let log = fresh(&disk, &watch).await;
    for number in 0..2_000_u32 {
        watch.advance(10);
        let value = [&number.to_be_bytes()[..], &[7; 300]].concat();
        log.append(vec![part(watch.now_ms(), &[(Some((number % 3) as u8), Some(value))])], None).await.unwrap();
        if number % 400 == 0 {
            log.retain().await.unwrap();
        }
    }
    log.retain().await.unwrap();
    let check = async |log: &LocalLog| {
        let info = log.partitions().remove(0);
        assert!(info.bytes < 3 * (4 << 10), "{} bytes", info.bytes);
        assert_eq!((info.start, info.end), (0, 2_000));
        let found = read_from(log, 0).await.unwrap();
        assert!(found.len() < 30, "{}", found.len());
        let last = found.last_key_value().unwrap();
        assert_eq!((*last.0, &last.1.word.1.as_ref().unwrap()[..4]), (1_999, &1_999_u32.to_be_bytes()[..]));
    };
    check(&log).await;
    log.close().await;
    drop(log);
    let names = files(&disk);
    assert!(names.len() <= 9, "{names:?}");
    let log = fresh(&disk, &watch).await;
    check(&log).await;
    // Reading begins anywhere, also where nothing is left.
    let all = read_from(&log, 0).await.unwrap();
    for offset in 0..2_000 {
        assert_eq!(read_from(&log, offset).await.unwrap(), all.range(offset..).map(|(o, s)| (*o, s.clone())).collect());
    }
    crash(&disk, log, 1);
    let log = fresh(&disk, &watch).await;
    assert_eq!(read_from(&log, 0).await.unwrap(), all);
    assert!(files(&disk).len() <= 9);
}

#[tokio::test]
async fn a_tombstone_goes_a_day_after_what_it_deletes() {
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let log = fresh(&disk, &watch).await;
    let offsets = async |log: &LocalLog, key: u8| -> Vec<i64> {
        let found = read_from(log, 0).await.unwrap();
        found.into_iter().filter(|(_, said)| said.word.0 == Some(key)).map(|(offset, _)| offset).collect()
    };
    let words = [(Some(1), Some(vec![1])), (Some(2), Some(vec![2])), (Some(1), None)];
    log.append(vec![part(0, &words)], None).await.unwrap();
    fill(&log, &watch, 9).await;
    assert_eq!(offsets(&log, 1).await, [0, 2]);
    log.retain().await.unwrap();
    assert_eq!((offsets(&log, 1).await, offsets(&log, 2).await), (vec![2], vec![1]));
    for (hours, left) in [(23, vec![2]), (2, vec![])] {
        watch.advance(hours * HOUR_MS);
        fill(&log, &watch, 9).await;
        log.retain().await.unwrap();
        assert_eq!(offsets(&log, 1).await, left, "after {hours} hours");
    }
    assert_eq!(offsets(&log, 2).await, [1]);
}

#[tokio::test]
async fn records_without_a_key_are_refused_and_never_lost() {
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let log = fresh(&disk, &watch).await;
    let code = |result: mainstem_types::Result<Vec<i64>>| result.map_err(|error| error.code().id).unwrap_err();
    let keyless = || part(0, &[(Some(1), None), (None, Some(vec![7]))]);
    assert_eq!(code(log.append(vec![keyless()], None).await), "LOG-012");
    assert_eq!(code(log.append(Vec::new(), Some(Box::new(move |_| keyless()))).await), "LOG-012");
    assert_eq!(log.partitions()[0].end, 0);
    // Before the topic became one that wants keys.
    log.create_topic(TOPIC, config(Cleanup::Delete)).await.unwrap();
    log.append(vec![part(0, &[(None, Some(vec![7])), (Some(1), Some(vec![8])), (None, None)])], None).await.unwrap();
    log.create_topic(TOPIC, config(Cleanup::Compact)).await.unwrap();
    for _ in 0..3 {
        fill(&log, &watch, 1).await;
        log.retain().await.unwrap();
        watch.advance(25 * HOUR_MS);
    }
    let found = read_from(&log, 0).await.unwrap();
    let keyless: Vec<i64> = found.iter().filter(|(_, said)| said.word.0.is_none()).map(|(offset, _)| *offset).collect();
    assert_eq!(keyless, [0, 2]);
    assert!(!found.contains_key(&1));
}

#[tokio::test]
async fn a_damaged_segment_is_left_as_it_is() {
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let log = fresh(&disk, &watch).await;
    fill(&log, &watch, 1).await;
    fill(&log, &watch, 1).await;
    let path = dir().join(format!("{TOPIC}-0/{:020}.log", 0));
    let before = disk.read(&path).unwrap();
    let file = disk.open(&path, OpenMode::Write).unwrap();
    file.write_all_at(&[!before[100]], 100).unwrap();
    log.retain().await.unwrap();
    log.close().await;
    let after = disk.read(&path).unwrap();
    assert_eq!(after.len(), before.len());
    assert_eq!(after.iter().zip(&before).filter(|(a, b)| a != b).count(), 1);
    assert!(files(&disk).iter().all(|name| !name.contains(".1.")), "{:?}", files(&disk));
}

#[tokio::test]
async fn a_full_disk_keeps_what_is_there() {
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let log = fresh(&disk, &watch).await;
    fill(&log, &watch, 1).await;
    let all = read_from(&log, 0).await.unwrap();
    // No room for both the old and the new, then none for a file's name.
    for room in [1_000, 0] {
        disk.set_capacity(disk.used_bytes() + room);
        log.retain().await.unwrap();
        assert_eq!(read_from(&log, 0).await.unwrap(), all);
    }
    disk.set_capacity(u64::MAX);
    log.retain().await.unwrap();
    assert!(read_from(&log, 0).await.unwrap().len() < all.len());
}

#[tokio::test]
async fn a_failed_sync_of_a_compaction_stops_appends() {
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let log = fresh(&disk, &watch).await;
    fill(&log, &watch, 2).await;
    fill(&log, &watch, 1).await;
    let all = read_from(&log, 0).await.unwrap();
    disk.fail_syncs(1);
    log.retain().await.unwrap();
    let error = log.append(vec![part(0, &[(Some(1), None)])], None).await.unwrap_err();
    assert_eq!(error.code().id, "LOG-001");
    assert_eq!(read_from(&log, 0).await.unwrap(), all);
    assert!(files(&disk).iter().all(|name| !name.contains(".1.")), "{:?}", files(&disk));
    drop(log);
    let log = fresh(&disk, &watch).await;
    assert_eq!(read_from(&log, 0).await.unwrap(), all);
    log.retain().await.unwrap();
    assert!(read_from(&log, 0).await.unwrap().len() < all.len());
}

#[tokio::test]
async fn readers_go_on_while_their_segments_are_replaced() {
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let log = fresh(&disk, &watch).await;
    for key in 0..8 {
        fill(&log, &watch, key).await;
    }
    let readers = (0..12).map(async |from| {
        for _ in 0..20 {
            let found = read_from(&log, from).await.unwrap();
            let keys: Vec<u8> = found.values().map(|said| said.word.0.unwrap()).collect();
            assert!(keys.is_sorted(), "{keys:?}");
            assert!((0..8).all(|key| keys.contains(&key)), "{keys:?}");
        }
    });
    join(join_all(readers), async {
        for _ in 0..10 {
            log.retain().await.unwrap();
            fill(&log, &watch, 8).await;
        }
    })
    .await;
    assert!(log.partitions()[0].bytes < 20_000);
}

/// A disk on which the first opening of one file for reading waits until it is let go.
struct Gate {
    disk: SimDisk,
    path: PathBuf,
    wait: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl Disk for Gate {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let wait = if path == self.path && mode == OpenMode::Read { self.wait.lock().unwrap().take() } else { None };
        if let Some((arrived, go)) = wait {
            arrived.send(()).unwrap();
            go.recv().unwrap();
        }
        self.disk.open(path, mode)
    }
    fn map(&self, path: &Path) -> io::Result<Mapped> {
        self.disk.map(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }
}

#[tokio::test]
async fn a_reader_whose_file_went_away_reads_the_new_one() {
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let path = dir().join(format!("{TOPIC}-0/{:020}.log", 0));
    let ((arrived, at_gate), (go, wait)) = (mpsc::channel(), mpsc::channel());
    let gate = Gate { disk: disk.clone(), path: path.clone(), wait: Mutex::new(Some((arrived, wait))) };
    let log = LocalLog::open(Env { clock: watch.clone(), disk: Arc::new(gate) }, &dir(), settings()).unwrap();
    log.create_topic(TOPIC, config(Cleanup::Compact)).await.unwrap();
    for key in 0..3 {
        fill(&log, &watch, key).await;
    }
    let reader = async { read_from(&log, 0).await.unwrap() };
    let compaction = async {
        while at_gate.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        // Then the checkpoint, after which the old files go.
        while disk.exists(&path) {
            log.retain().await.unwrap();
            watch.advance(40_000);
        }
        go.send(()).unwrap();
    };
    let (found, ()) = join(reader, compaction).await;
    let last: Vec<i64> = found.keys().copied().filter(|offset| offset % 12 == 11).collect();
    assert_eq!(last, [11, 23, 35]);
    assert!(!found.contains_key(&0));
}

#[tokio::test]
async fn compaction_survives_the_deletion_of_its_topic() {
    let (disk, watch) = (SimDisk::new(), Arc::new(Watch::default()));
    let log = fresh(&disk, &watch).await;
    // The last round leaves old files to the checkpoint of the end.
    for round in 0..41 {
        for key in 0..5 {
            fill(&log, &watch, key).await;
        }
        if round % 2 == 0 {
            // Its old files wait for the next checkpoint, which comes when there are others of the same name.
            log.retain().await.unwrap();
        }
        let again = async {
            log.delete_topic(TOPIC).await.unwrap();
            log.create_topic(TOPIC, config(Cleanup::Compact)).await.unwrap();
            log.append(vec![part(0, &[(Some(3), Some(vec![3]))])], None).await.unwrap();
        };
        let (retained, ()) = join(log.retain(), again).await;
        retained.unwrap();
        let found = read_from(&log, 0).await.unwrap();
        assert_eq!(found.into_values().map(|said| said.word.0).collect::<Vec<_>>(), [Some(3)]);
        watch.advance(40_000);
    }
    log.close().await;
    assert!(files(&disk).iter().all(|name| name.starts_with(&format!("{:020}.", 0)) && !name.contains(".1.")));
    drop(log);
    let log = fresh(&disk, &watch).await;
    assert_eq!(read_from(&log, 0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn on_the_real_disk() {
    let place = tempfile::tempdir().unwrap();
    let open = || LocalLog::open(Env::real(), place.path(), settings()).unwrap();
    let log = open();
    log.create_topic(TOPIC, config(Cleanup::Compact)).await.unwrap();
    for key in 0..20 {
        fill(&log, &Watch::default(), key % 5).await;
    }
    log.retain().await.unwrap();
    let found = read_from(&log, 0).await.unwrap();
    assert!(found.len() < 40, "{}", found.len());
    drop(log);
    let first = place.path().join(format!("{TOPIC}-0")).join(format!("{:020}.1.log", 0));
    assert_log_of_batches(&first);
    let log = open();
    assert_eq!(read_from(&log, 0).await.unwrap(), found);
}

fn assert_log_of_batches(path: &Path) {
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    assert!(!mainstem_eventlog::records(&bytes).unwrap().is_empty());
}
