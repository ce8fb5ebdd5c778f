//! A runner against a scripted source and a disk that crashes: whatever breaks off wherever, the topics hold what the source holds, each
//! change once, in order.
#![allow(clippy::disallowed_methods)] // a life that is cut off is watched on the real clock
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use mainstem_env::{Clock, Env, JoinOnDrop};
use mainstem_envelope::tail::{self, BrokenTable, LiveTables, Sender, Visible};
use mainstem_envelope::{Decoder, Schemas, TopicItem};
use mainstem_eventlog::{EventLog, RecordRef, TopicPartition, Value, records};
use mainstem_log::{LocalLog, LogSettings};
use mainstem_pipeline::{SecretKey, Sources, SourcesParts};
use mainstem_testkit::clock::SimClock;
use mainstem_testkit::disk::SimDisk;
use mainstem_testkit::scripted::{self, Call, Cell, Change, UNHOLDABLE, World};
use mainstem_types::barrier::{BARRIER_TOPIC, TABLE_TOPIC};
use mainstem_types::control::{Control, SourceDeclaration};
use mainstem_types::{Barrier, ChangeBatch, ColumnType, ErrorKind, Op, Principal, Result, SourceName, TableRecord, TableState};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Live tables that hold nothing: what was appended is visible.
struct NoTables {
    log: Arc<dyn EventLog>,
    visible: Mutex<BTreeMap<SourceName, watch::Sender<Option<Visible>>>>,
    appliers: Mutex<BTreeMap<SourceName, JoinOnDrop<()>>>,
}

impl NoTables {
    fn sender(&self, source: &SourceName) -> watch::Sender<Option<Visible>> {
        self.visible.lock().unwrap().entry(source.clone()).or_insert_with(|| watch::channel(None).0).clone()
    }
}

#[async_trait]
impl LiveTables for NoTables {
    async fn attach(&self, source: &SourceName) -> Result<Sender> {
        let before = self.appliers.lock().unwrap().remove(source);
        if let Some(before) = before {
            before.join().await;
        }
        let visible = self.sender(source);
        for record in read_topic(&*self.log, BARRIER_TOPIC).await {
            let barrier: Barrier = Value::decode(record.value.as_ref().unwrap()).unwrap();
            let now = Visible { seq: barrier.seq, position: barrier.position, commit_time_us: 0, at_us: 0 };
            if barrier.source == *source {
                visible.send_replace(Some(now));
            }
        }
        let (sender, mut receiver) = tail::channel();
        let task = async move {
            while let Some(group) = receiver.next().await {
                let barrier = &group.barrier;
                let before = visible.borrow().as_ref().map_or(0, |v| v.seq);
                assert_eq!(barrier.seq, before + 1, "barriers are dense");
                let position = barrier.position.clone();
                visible.send_replace(Some(Visible { seq: barrier.seq, position, commit_time_us: 0, at_us: 0 }));
            }
        };
        self.appliers.lock().unwrap().insert(source.clone(), mainstem_env::spawn("applier", task));
        Ok(sender)
    }

    fn visible(&self, source: &SourceName) -> watch::Receiver<Option<Visible>> {
        self.sender(source).subscribe()
    }

    fn broken(&self, _: &SourceName) -> watch::Receiver<Vec<BrokenTable>> {
        watch::channel(Vec::new()).1
    }

    async fn forget(&self, _: &SourceName, _: bool) -> Result<()> {
        Ok(())
    }
}

async fn read_topic(log: &dyn EventLog, topic: &str) -> Vec<RecordRef> {
    let at = TopicPartition::new(topic, 0);
    let Some(partition) = log.partitions().into_iter().find(|p| p.at == at) else { return Vec::new() };
    let (mut offset, mut all) = (partition.start, Vec::new());
    while offset < partition.end {
        let fetched = log.read(&at, offset, 1 << 20).await.unwrap();
        all.extend(records(&fetched.batches).unwrap().into_iter().filter(|r| r.offset >= offset));
        offset = all.last().map_or(partition.end, |r| r.offset + 1);
    }
    all
}

/// What a table's topic says that it holds. Strict where no row was left out: a change that does not fit is a failure.
fn apply(rows: &mut BTreeMap<i64, Vec<Cell>>, batch: &ChangeBatch, strict: bool) {
    let name = &batch.schema.name;
    let cells = |batch: &RecordBatch, row: usize| -> Vec<Cell> {
        let cell = |c: &Arc<dyn Array>| (!c.is_null(row)).then(|| array_value_to_string(c, row).unwrap());
        batch.columns().iter().map(cell).collect()
    };
    for at in 0..batch.len() {
        let row = cells(&batch.rows, at);
        let key = |row: &[Cell]| row[0].as_deref().map_or(0, |text| text.parse::<i64>().unwrap());
        match batch.ops[at] {
            Op::Read | Op::Create => {
                let before = rows.insert(key(&row), row.clone());
                assert_eq!(before, None, "{name}: {row:?} comes twice");
            }
            Op::Update => {
                let old = batch.old_image(at).map_or(key(&row), |(old, at)| key(&cells(old, at)));
                let before = rows.remove(&old);
                assert!(before.is_some() || !strict, "{name}: {row:?} was not there");
                assert_eq!(rows.insert(key(&row), row.clone()), None, "{name}: {row:?} lands on another");
            }
            Op::Delete => {
                let before = rows.remove(&key(&row));
                assert!(before.is_some() || !strict, "{name}: {row:?} was not there");
            }
            Op::Truncate => rows.clear(),
        }
    }
}

type Content = BTreeMap<String, BTreeMap<i64, Vec<Cell>>>;

/// All live tables, read from their topics.
async fn content(log: &dyn EventLog, schemas: &Arc<Schemas>, strict: bool) -> Content {
    let mut last: BTreeMap<Vec<u8>, TableRecord> = BTreeMap::new();
    for record in read_topic(log, TABLE_TOPIC).await {
        let key = record.key.unwrap().to_vec();
        match record.value {
            Some(value) => drop(last.insert(key, TableRecord::decode(&value).unwrap())),
            None => drop(last.remove(&key)),
        }
    }
    let decoder = Decoder::new(schemas.clone());
    let mut tables = Content::new();
    for record in last.into_values().filter(|r| r.state == TableState::Streaming) {
        let at = TopicPartition::new(&record.topic, 0);
        let end = log.partitions().iter().find(|p| p.at == at).unwrap().end;
        let (mut offset, mut generation, mut rows) = (0, None, BTreeMap::new());
        while offset < end {
            let fetched = log.read(&at, offset, 1 << 20).await.unwrap();
            let (items, next) = decoder.decode(&fetched.batches, offset, end).unwrap();
            offset = next;
            for item in items {
                match item {
                    TopicItem::Generation(begins) => generation = Some(begins),
                    TopicItem::Changes(batch) if generation == record.live => {
                        // Columns that came later are NULL in earlier rows, those that went are gone.
                        let batch = ChangeBatch { rows: batch.rows.clone(), ..batch };
                        apply(&mut rows, &batch, strict);
                    }
                    TopicItem::Changes(_) => {}
                }
            }
        }
        let width = record.schema.columns.len();
        rows.values_mut().for_each(|row| row.resize(width, None));
        tables.insert(record.schema.name.name.to_string(), rows);
    }
    tables
}

/// What lets a life end before its script does.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The power, after so many operations of the disk.
    Disk(u64),
    /// The process, at so many calls of the source.
    Call(u64),
}

/// A part of a script.
enum Step {
    Do(Box<dyn Fn(&World)>),
    /// Until everything is captured.
    CatchUp,
    /// A few looks at the catalog long, while something may be held up.
    Pass,
}

struct Scenario {
    world: World,
    disk: SimDisk,
    options: &'static [(&'static str, &'static str)],
    steps: Vec<Step>,
    done: usize,
}

impl Scenario {
    /// One life of the process. True when the script came to its end.
    fn live(&mut self, cut: Option<Cut>) -> bool {
        match cut {
            Some(Cut::Disk(n)) => self.disk.cut_power_after(n),
            Some(Cut::Call(n)) => self.world.halt_after(Some(n)),
            None => {}
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (world, disk) = (self.world.clone(), self.disk.clone());
        let ended = runtime.block_on(async {
            tokio::select! {
                ended = self.run() => ended.is_ok(),
                () = world.halted() => false,
                () = broken(&disk), if cut.is_some() => false,
            }
        });
        // The power goes before the tasks do: nobody tidies up.
        self.disk.cut_power_after(0);
        drop(runtime);
        self.disk.crash(self.done as u64);
        self.world.halt_after(None);
        ended
    }

    async fn run(&mut self) -> Result<()> {
        let clock = Arc::new(SimClock::default());
        let env = Env { clock: clock.clone(), disk: Arc::new(self.disk.clone()) };
        let settings = LogSettings { disk_reserve_bytes: 0, wal_file_bytes: 1 << 20, ..LogSettings::default() };
        let log = LocalLog::open(env.clone(), Path::new("/log"), settings)?;
        let face: Arc<dyn EventLog> = log.clone();
        let schemas = Arc::new(Schemas::load(face.clone()).await?);
        let live = NoTables { log: face.clone(), visible: Mutex::default(), appliers: Mutex::default() };
        let parts = SourcesParts {
            env,
            log: face.clone(),
            schemas: schemas.clone(),
            live: Arc::new(live),
            connectors: vec![scripted::connector(self.world.clone())],
            key: SecretKey::from_hex(&"ab".repeat(32)).unwrap(),
            spool_dir: PathBuf::from("/spool"),
            disk: Arc::new(|| None),
        };
        let sources = Sources::open(parts).await?;
        let options = self.options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let url = "scripted://here/play".to_string();
        let create = SourceDeclaration::Create { name: "play".into(), if_not_exists: true, url, options };
        sources.execute(&Principal::admin(), create).await?;
        while let Some(step) = self.steps.get(self.done) {
            // Done before it is: a life that ends here does not do it again.
            self.done += 1;
            match step {
                Step::Do(does) => does(&self.world),
                Step::CatchUp => catch_up(&sources).await?,
                Step::Pass => clock.sleep(Duration::from_secs(4)).await,
            }
        }
        catch_up(&sources).await?;
        let strict = !self.options.iter().any(|(_, value)| *value == "dead_letter");
        let found = content(&*face, &schemas, strict).await;
        for (table, rows) in &found {
            assert_eq!(rows, &self.world.rows(table), "{table}");
        }
        let failed: Vec<_> =
            sources.tables().into_iter().filter(|t| t.state == TableState::Failed).map(|t| t.table_name).collect();
        let all: Vec<_> = self.world.tables().into_iter().filter(|t| !failed.contains(t)).collect();
        assert_eq!(found.into_keys().collect::<Vec<_>>(), all, "every table is live, {failed:?} apart");
        Ok(())
    }
}

/// Waits for all that was committed, over what passes.
async fn catch_up(sources: &Sources) -> Result<()> {
    loop {
        let wait = SourceDeclaration::Wait { name: "play".into(), until: None, timeout: None };
        match sources.execute(&Principal::admin(), wait).await {
            Err(error) if error.kind() == ErrorKind::Retry => tokio::task::yield_now().await,
            ended => return ended.map(|_| ()),
        }
    }
}

/// Returns some time after the power went: long enough for everybody to meet the error.
async fn broken(disk: &SimDisk) {
    while disk.has_power() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
}

fn insert(table: &str, id: i64, text: &str) -> Change {
    Change::Insert { table: table.into(), row: vec![Some(id.to_string()), Some(text.into())] }
}

fn update(table: &str, id: i64, text: &str) -> Change {
    Change::Update { table: table.into(), row: vec![Some(id.to_string()), Some(text.into())] }
}

/// Rows that come, change, move and go, in two tables at once.
fn load(round: i64) -> Step {
    step(move |world| {
        let base = round * 10;
        world.commit(&[insert("a", base, "new"), insert("b", base, "new"), insert("a", base + 1, "new")]);
        world.commit(&[update("a", base, "again"), Change::Move { table: "b".into(), from: base, to: -base - 1 }]);
        world.commit(&[Change::Delete { table: "a".into(), id: base + 1 }]);
    })
}

fn step(does: impl Fn(&World) + 'static) -> Step {
    Step::Do(Box::new(does))
}

fn scenario(options: &'static [(&'static str, &'static str)], steps: Vec<Step>) -> Scenario {
    let world = World::default();
    world.repeat_unacknowledged();
    world.create("a", &[("v", ColumnType::Text)]);
    world.create("b", &[("v", ColumnType::Text)]);
    world.commit(&(1000..1020).map(|id| insert("a", id, "before")).collect::<Vec<_>>());
    Scenario { world, disk: SimDisk::new(), options, steps, done: 0 }
}

/// Runs it whole, then with a cut at every place there is, `stride` places apart, each followed by lives with other cuts until one comes
/// to the end.
fn check(make: impl Fn() -> Scenario, stride: u64) {
    assert!(make().live(None), "without a cut it comes to its end");
    let kinds: [fn(u64) -> Cut; 2] = [Cut::Disk, Cut::Call];
    for kind in kinds {
        for at in (1..).map(|n| n * stride) {
            let mut scenario = make();
            if scenario.live(Some(kind(at))) {
                assert!(at > 3 * stride, "the cuts came too late to cut anything");
                break;
            }
            scenario.live(Some(kind(at / 2 + 7)));
            assert!(scenario.live(None), "after a cut at {:?} it comes to its end", kind(at));
        }
    }
}

#[test]
fn a_load_survives_a_restart_anywhere() {
    check(|| scenario(&[], (1..6).flat_map(|round| [load(round), Step::CatchUp]).collect()), 1);
}

#[test]
fn a_table_that_is_copied_beside_a_load_survives_a_restart_anywhere() {
    let steps = || {
        vec![
            Step::CatchUp,
            step(|world| world.pause(Call::CopyNext)),
            load(1),
            step(|world| {
                world.create("c", &[("v", ColumnType::Text)]);
                world.commit(&[insert("c", 1, "first"), insert("a", 1, "beside")]);
            }),
            Step::Pass,
            load(2),
            Step::Pass,
            step(|world| world.resume(Call::CopyNext)),
            load(3),
            Step::CatchUp,
            step(|world| world.commit(&[Change::Empty { table: "b".into() }, insert("b", 5, "after")])),
        ]
    };
    check(|| scenario(&[], steps()), 1);
}

#[test]
fn columns_that_change_during_copies_and_after_survive_a_restart_anywhere() {
    let steps = || {
        vec![
            step(|world| world.pause(Call::CopyNext)),
            Step::Pass,
            step(|world| world.rename_column("a", "v", "w")),
            load(1),
            Step::Pass,
            step(|world| world.resume(Call::CopyNext)),
            Step::CatchUp,
            step(|world| {
                world.rename_column("b", "v", "w");
                world.commit(&[update("a", 10, "renamed")]);
            }),
            Step::Pass,
            load(2),
            Step::CatchUp,
            step(|world| world.drop_table("b")),
            step(|world| world.commit(&[insert("a", 7, "alone")])),
        ]
    };
    check(|| scenario(&[], steps()), 1);
}

#[test]
fn rows_that_cannot_be_held_are_left_out_wherever_it_restarts() {
    let steps = || {
        vec![
            step(|world| world.commit(&[insert("a", 1, UNHOLDABLE), insert("a", 2, "good"), insert("b", 1, "good")])),
            Step::CatchUp,
            load(1),
            step(|world| world.commit(&[update("a", 2, UNHOLDABLE), update("a", 1, "good now")])),
            step(|world| world.commit(&[update("b", 1, UNHOLDABLE)])),
            step(|world| world.commit(&[Change::Move { table: "b".into(), from: 1, to: 2 }])),
            Step::CatchUp,
            load(2),
            step(|world| world.commit(&[update("b", 2, "good again"), Change::Delete { table: "a".into(), id: 2 }])),
        ]
    };
    check(|| scenario(&[("on_bad_value", "dead_letter")], steps()), 1);
}

#[test]
fn a_row_that_cannot_be_held_stops_its_table_alone() {
    let steps = || {
        let bad = |world: &World| world.commit(&[insert("b", 3, UNHOLDABLE), insert("a", 3, "good")]);
        vec![load(1), Step::CatchUp, step(bad), load(2), Step::CatchUp, load(3)]
    };
    check(|| scenario(&[], steps()), 1);
}

#[test]
fn lost_places_and_faults_of_the_source_are_survived() {
    let steps = || {
        vec![
            load(1),
            Step::CatchUp,
            step(|world| world.lose_positions()),
            load(2),
            Step::CatchUp,
            step(|world| {
                for call in [Call::Prepare, Call::Stream, Call::Copy, Call::CopyNext, Call::Discover, Call::Head, Call::Next] {
                    world.fail(call, ErrorKind::Retry);
                }
            }),
            load(3),
        ]
    };
    check(|| scenario(&[], steps()), 1);
}
