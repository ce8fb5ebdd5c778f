//! Typed views of compacted topics over the log on disk: against a map, through restarts, compactions and broken records.
#![allow(clippy::unwrap_used)] // a test says what is wrong by failing
#![allow(clippy::disallowed_methods)] // a runtime of our own

use mainstem_env::Env;
use mainstem_eventlog::{
    Change, Cleanup, Compacted, EventLog, KeyedReader, PartitionAppend, PartitionReader, RecordBatchBuilder, TopicConfig,
    TopicPartition, keyed_append,
};
use mainstem_log::{LocalLog, LogSettings};
use mainstem_testkit::disk::SimDisk;
use mainstem_types::Result;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const TOPIC: &str = "_mainstem.things";

type View = Compacted<String, u32>;

fn settings() -> LogSettings {
    LogSettings { segment_bytes_max: 4 << 10, wal_file_bytes: 64 << 10, disk_reserve_bytes: 0, ..LogSettings::default() }
}

fn env(disk: &SimDisk) -> Env {
    Env { disk: Arc::new(disk.clone()), ..Env::real() }
}

fn open(disk: &SimDisk) -> Arc<LocalLog> {
    LocalLog::open(env(disk), Path::new("/data/log"), settings()).unwrap()
}

async fn view(disk: &SimDisk, log: &Arc<LocalLog>) -> Result<View> {
    Compacted::open(env(disk), log.clone(), TOPIC).await
}

fn raw(key: &[u8], value: &[u8]) -> PartitionAppend {
    let mut batch = RecordBatchBuilder::new(0);
    batch.push(0, Some(key), Some(value), &[]);
    PartitionAppend { to: TopicPartition::new(TOPIC, 0), records: batch.records(), batches: batch.finish() }
}

fn owned(changes: &[(&str, Option<u32>)]) -> Vec<(String, Option<u32>)> {
    changes.iter().map(|(key, value)| (key.to_string(), *value)).collect()
}

fn plain(changes: Vec<Change<String, u32>>) -> Vec<(String, Option<u32>)> {
    changes.into_iter().map(|change| (change.key, change.value)).collect()
}

#[tokio::test]
async fn what_was_put_last_is_there() {
    let disk = SimDisk::default();
    let log = open(&disk);
    let view = view(&disk, &log).await.unwrap();
    assert_eq!(log.partitions()[0].config, TopicConfig::compacted());
    assert_eq!((view.get(&"a".into()), view.entries()), (None, vec![]));
    view.put("b".into(), 1).await.unwrap();
    view.put("a".into(), 2).await.unwrap();
    view.put("b".into(), 3).await.unwrap();
    view.remove("never there".into()).await.unwrap();
    assert_eq!(view.entries(), [("a".to_string(), 2), ("b".to_string(), 3)]);
    view.remove("a".into()).await.unwrap();
    assert_eq!((view.get(&"a".into()), view.get(&"b".into())), (None, Some(3)));
    // Many at once are one append, in their order; none is none.
    let end = log.partitions()[0].end;
    view.write(owned(&[("a", Some(7)), ("b", None), ("a", Some(8))])).await.unwrap();
    view.write([]).await.unwrap();
    assert_eq!((view.entries(), log.partitions()[0].end), (vec![("a".to_string(), 8)], end + 3));
}

#[tokio::test]
async fn views_and_subscribers_see_what_others_write() {
    let disk = SimDisk::default();
    let log = open(&disk);
    let (one, two) = (view(&disk, &log).await.unwrap(), view(&disk, &log).await.unwrap());
    one.put("a".into(), 1).await.unwrap();
    let mut changes = one.subscribe();
    // As part of an append of other things.
    let part = keyed_append(TOPIC, [("a", Some(&2_u32)), ("b", Some(&3)), ("a", None)], 5).unwrap();
    log.create_topic("other", TopicConfig { cleanup: Cleanup::Delete, ..TopicConfig::compacted() }).await.unwrap();
    let other = PartitionAppend { to: TopicPartition::new("other", 0), ..raw(b"k", b"v") };
    log.append(vec![other, part], None).await.unwrap();
    assert_eq!((one.get(&"a".into()), two.get(&"a".into())), (Some(1), None));
    one.refresh().await.unwrap();
    two.refresh().await.unwrap();
    assert_eq!(one.entries(), [("b".to_string(), 3)]);
    assert_eq!(two.entries(), one.entries());
    // Of each key the last word, in the order in which they were said.
    assert_eq!(plain(changes.changed().await.unwrap()), owned(&[("b", Some(3)), ("a", None)]));
    let waiting = tokio::spawn(async move { (plain(changes.changed().await.unwrap()), changes) });
    two.put("c".into(), 4).await.unwrap();
    let (seen, mut changes) = waiting.await.unwrap();
    assert_eq!(seen, owned(&[("c", Some(4))]));
    let waiting = tokio::spawn(async move { changes.changed().await.unwrap_err().code().id });
    log.delete_topic(TOPIC).await.unwrap();
    assert!(matches!(waiting.await.unwrap(), "LOG-009" | "LOG-004"));
}

#[tokio::test]
async fn a_record_of_another_form_is_named() {
    let cases: [(&[u8], &[u8]); 4] = [(b"b", b"no number"), (b"b", b"{}"), (b"b", b""), (b"\xff", b"1")];
    for (key, value) in cases {
        let disk = SimDisk::default();
        let log = open(&disk);
        let good = view(&disk, &log).await.unwrap();
        good.put("a".into(), 1).await.unwrap();
        log.append(vec![raw(key, value)], None).await.unwrap();
        for error in [good.refresh().await.unwrap_err(), view(&disk, &log).await.map(drop).unwrap_err()] {
            assert_eq!((error.code().id, error.kind()), ("LOG-014", mainstem_types::ErrorKind::Corrupt));
            assert!(error.message().contains(&format!("offset 1 of topic {TOPIC}")), "{}", error.message());
        }
        // What was there before it still is; a later word of the same key makes it right, where it is a key.
        assert_eq!(good.get(&"a".into()), Some(1));
        log.append(vec![raw(key, b"2")], None).await.unwrap();
        assert_eq!(good.refresh().await.is_ok(), key == b"b");
    }
}

#[tokio::test]
async fn a_reader_begins_where_the_topic_does() {
    let disk = SimDisk::default();
    let log = open(&disk);
    let mut reader: KeyedReader<String, u32> = KeyedReader::new(log.clone(), TOPIC);
    assert_eq!(reader.read().await.unwrap(), []);
    log.create_topic(TOPIC, TopicConfig { cleanup: Cleanup::Delete, retention_ms: Some(0), ..TopicConfig::compacted() })
        .await
        .unwrap();
    let at = TopicPartition::new(TOPIC, 0);
    for number in 0..400_u32 {
        let part = keyed_append(TOPIC, [(number % 3, Some(&number))], 0).unwrap();
        log.append(vec![part], None).await.unwrap();
    }
    log.set_retention_floor(&at, 400);
    log.retain().await.unwrap();
    let start = log.partitions()[0].start;
    assert!(start > 0);
    assert_eq!(plain(reader.read().await.unwrap()), owned(&[("1", Some(397)), ("2", Some(398)), ("0", Some(399))]));
    assert_eq!((reader.next(), reader.read().await.unwrap()), (400, vec![]));
    // Record by record, from inside a batch on, and not before the start.
    let mut records = PartitionReader::new(&*log, at.clone(), 398);
    let offsets = |records: Option<Vec<_>>| {
        records.map(|all| all.iter().map(|r: &mainstem_eventlog::RecordRef| r.offset).collect::<Vec<_>>())
    };
    assert_eq!(offsets(records.records().await.unwrap()), Some(vec![398, 399]));
    assert_eq!(offsets(records.records().await.unwrap()), None);
    let mut early = PartitionReader::new(&*log, at, start - 1);
    assert_eq!((early.records().await.unwrap_err().code().id, early.next()), ("LOG-005", start - 1));
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u32>)>),
    /// Another writer of the same topic.
    Beside(u8, Option<u32>),
    Compact,
    Restart,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let change = || (0..12_u8, proptest::option::weighted(0.8, any::<u32>()));
    prop_oneof![
        8 => proptest::collection::vec(change(), 0..20).prop_map(Step::Write),
        3 => change().prop_map(|(key, value)| Step::Beside(key, value)),
        2 => Just(Step::Compact),
        1 => Just(Step::Restart),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

    /// Whatever is written, by whom, and however often the log is compacted, closed or killed: a view is the map of the last words, and a
    /// subscriber who applies what it is told ends with the same map.
    #[test]
    fn a_view_is_a_map(steps in proptest::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let disk = SimDisk::default();
            let mut log = open(&disk);
            let mut kept = view(&disk, &log).await.unwrap();
            let (mut changes, mut told) = (kept.subscribe(), BTreeMap::new());
            let mut model: BTreeMap<String, u32> = BTreeMap::new();
            for step in steps {
                let mut say = |key: u8, value: Option<u32>| {
                    match value {
                        Some(value) => model.insert(key.to_string(), value),
                        None => model.remove(&key.to_string()),
                    };
                    (key.to_string(), value)
                };
                match step {
                    Step::Write(words) => {
                        let words: Vec<_> = words.into_iter().map(|(key, value)| say(key, value)).collect();
                        kept.write(words).await.unwrap();
                    }
                    Step::Beside(key, value) => {
                        let (key, value) = say(key, value);
                        log.append(vec![keyed_append(TOPIC, [(key, value.as_ref())], 0).unwrap()], None).await.unwrap();
                        kept.refresh().await.unwrap();
                    }
                    Step::Compact => log.retain().await.unwrap(),
                    Step::Restart | Step::Crash(_) => {
                        follow(&mut changes, &mut told).await;
                        match step {
                            Step::Crash(seed) => {
                                disk.cut_power_after(0);
                                drop((kept, changes, log));
                                disk.crash(seed);
                            }
                            _ => {
                                log.close().await;
                                drop((kept, changes, log));
                            }
                        }
                        log = open(&disk);
                        kept = view(&disk, &log).await.unwrap();
                        changes = kept.subscribe();
                    }
                }
                assert_eq!(kept.entries(), model.clone().into_iter().collect::<Vec<_>>());
            }
            follow(&mut changes, &mut told).await;
            assert_eq!(told, model);
        });
    }
}

async fn follow(changes: &mut KeyedReader<String, u32>, told: &mut BTreeMap<String, u32>) {
    for Change { key, value, .. } in changes.read().await.unwrap() {
        match value {
            Some(value) => told.insert(key, value),
            None => told.remove(&key),
        };
    }
}
