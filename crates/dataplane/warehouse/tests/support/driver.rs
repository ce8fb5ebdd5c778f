//! Feeds random groups of changes to a warehouse and to the model, over the real envelope, so that a replay decodes what was encoded.

use super::model::{Cell, Row, arrow_rows, column, expected, schema, shown};
use mainstem_env::Env;
use mainstem_envelope::tail::{LiveTables, Sender};
use mainstem_envelope::{EncodeContext, Schemas, barrier_append, encode, encode_generation, table_append};
use mainstem_eventlog::{Cleanup, EventLog, PartitionAppend, TopicConfig, TopicPartition};
use mainstem_log::{LocalLog, LogSettings};
use mainstem_types::barrier::{BARRIER_TOPIC, TABLE_TOPIC};
use mainstem_types::source_block::SourceBlock;
use mainstem_types::*;
use mainstem_warehouse::{Snapshot, Warehouse, WarehouseSettings};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

static BLOCK: SourceBlock = SourceBlock::plain("model", "mainstem.model");

pub struct ModelTable {
    pub record: TableRecord,
    pub rows: Vec<Row>,
}

pub struct Driver {
    pub random: StdRng,
    pub dir: PathBuf,
    pub log: Arc<LocalLog>,
    logs: u32,
    pub settings: WarehouseSettings,
    pub warehouse: Arc<Warehouse>,
    pub tables: Vec<ModelTable>,
    schemas: Arc<Schemas>,
    sender: Sender,
    seq: u64,
    place: u64,
}

fn source() -> SourceName {
    SourceName::new("shop").unwrap()
}

fn key(ids: &[i32]) -> Identity {
    Identity::Key { columns: ids.iter().map(|id| ColumnId(*id)).collect() }
}

/// One table per kind of identity, every column type, and names that Delta takes only with column mapping.
pub fn tables() -> Vec<Arc<TableSchema>> {
    use ColumnType::*;
    let all = [
        ("c_bool", Bool),
        ("c_i16", Int16),
        ("c_i64", Int64),
        ("c_f32", Float32),
        ("c_f64", Float64),
        ("c_dec", Decimal { precision: 12, scale: 2 }),
        ("c_bytes", Bytes),
        ("c_date", Date),
        ("c_time", Time),
        ("c_ts", Timestamp),
        ("c_tstz", TimestampTz),
    ];
    let mut wide = vec![column(1, "id", Int32), column(2, "note", Text), column(3, "doc", Text)];
    wide.extend(all.into_iter().zip(4..).map(|((name, kind), id)| column(id, name, kind)));
    vec![
        schema("wide", wide, key(&[1])),
        schema("composite", vec![column(1, "a", Text), column(2, "v", Int64), column(3, "b", Int64)], key(&[1, 3])),
        schema("bag", vec![column(1, "a", Int32), column(2, "b", Text)], Identity::WholeRow),
        schema("journal", vec![column(1, "a", Int32), column(2, "b", Text)], Identity::AppendOnly),
        schema("odd names", vec![column(1, "the id", Int64), column(2, "Größe", Text), column(3, "größe, 2", Text)], key(&[1])),
    ]
}

impl Driver {
    pub async fn start(seed: u64, dir: &Path, settings: WarehouseSettings) -> Self {
        let log = open_log(dir, 0);
        log.create_topic(BARRIER_TOPIC, topic(Cleanup::Delete)).await.unwrap();
        log.create_topic(TABLE_TOPIC, topic(Cleanup::Compact)).await.unwrap();
        let (warehouse, schemas, sender) = open(dir, &log, &settings).await;
        let random = StdRng::seed_from_u64(seed);
        let mut driver = Self {
            random,
            dir: dir.into(),
            log,
            logs: 0,
            settings,
            warehouse,
            tables: Vec::new(),
            schemas,
            sender,
            seq: 0,
            place: 100,
        };
        for (number, schema) in tables().into_iter().enumerate() {
            let record = TableRecord {
                table: TableId(number as u64 + 1),
                source: source(),
                name: TableName::new("shop", &schema.name.name),
                topic: format!("shop.public.t{number}").into(),
                state: TableState::Snapshotting,
                generation: Generation(0),
                live: None,
                schema,
                dropped_columns: Default::default(),
                parents: Vec::new(),
                without_vectors: false,
                error_code: None,
                error: None,
                body: None,
            };
            driver.log.create_topic(&record.topic, topic(Cleanup::Delete)).await.unwrap();
            driver.tables.push(ModelTable { record, rows: Vec::new() });
            driver.build(number).await;
        }
        driver
    }

    pub async fn build(&mut self, at: usize) {
        let pieces = self.random.random_range(0..3);
        self.build_of(at, pieces).await;
    }

    /// A new generation: marker, rows by copy in so many pieces, with flushes and retention between them, then the swap.
    pub async fn build_of(&mut self, at: usize, pieces: u32) {
        let table = &mut self.tables[at];
        table.record.generation.0 += 1;
        table.record.state = TableState::Snapshotting;
        table.rows.clear();
        let started = Arc::new(table.record.clone());
        let generation = table.record.generation;
        let (ids, schema_part) = self.schemas.ids(&started.topic, &started.schema, &BLOCK).unwrap();
        let empty = changes(&started.schema, &[], &mut self.place);
        let context = context(&started, ids);
        let mut parts: Vec<PartitionAppend> = schema_part.into_iter().collect();
        parts.push(encode_generation(&context, &empty, generation).unwrap());
        self.barrier(parts, Vec::new(), vec![started]).await;
        for _ in 0..pieces {
            let count = self.random.random_range(1..900);
            let mut events = Vec::new();
            for _ in 0..count {
                let row = self.new_row(at);
                self.tables[at].rows.push(row.clone());
                events.push(Event { op: Op::Read, row, old: None, unchanged: Vec::new() });
            }
            self.send(vec![(at, events)], Vec::new()).await;
            if self.random.random_bool(0.5) {
                self.warehouse.flush(None).await.unwrap();
                self.log.retain().await.unwrap();
            }
        }
        let table = &mut self.tables[at];
        table.record.state = TableState::Streaming;
        table.record.live = Some(generation);
        let done = Arc::new(table.record.clone());
        self.barrier(Vec::new(), Vec::new(), vec![done]).await;
    }

    /// A random group of changes over some tables.
    pub async fn change(&mut self) {
        let mut all = Vec::new();
        for at in 0..self.tables.len() {
            if self.random.random_bool(0.7) {
                let count = if self.random.random_bool(0.02) { 2100 } else { self.random.random_range(1..40) };
                let mut events = Vec::new();
                while events.len() < count {
                    self.event(at, &mut events);
                }
                all.push((at, events));
            }
        }
        self.send(all, Vec::new()).await;
    }

    /// A column more, or one less, in place.
    pub async fn alter(&mut self, at: usize) {
        let table = &mut self.tables[at];
        let mut schema = table.record.schema.as_ref().clone();
        schema.version += 1;
        let next = 100 + schema.version as i32;
        if schema.version % 3 == 2 && schema.columns.len() > 3 {
            schema.columns.pop();
            table.rows.iter_mut().for_each(|row| drop(row.pop()));
        } else {
            schema.columns.push(column(next, &format!("added_{next}"), ColumnType::Text));
            table.rows.iter_mut().for_each(|row| row.push(Cell::Null));
        }
        self.set_schema(at, schema).await;
    }

    /// Columns as the source has them now; the model's rows are the caller's.
    pub async fn set_schema(&mut self, at: usize, schema: TableSchema) {
        self.tables[at].record.schema = Arc::new(schema);
        let record = Arc::new(self.tables[at].record.clone());
        self.barrier(Vec::new(), Vec::new(), vec![record]).await;
    }

    /// A clean stop.
    pub async fn stop(&self) {
        self.warehouse.close().await.unwrap();
        self.log.close().await;
    }

    pub async fn reopen(&mut self, clean: bool) {
        if clean {
            self.stop().await;
        }
        // Without a clean stop this is what a killed process leaves: hot rows are gone, the log's files are as they were.
        self.logs += 1;
        let (from, to) = (self.dir.join(format!("log-{}", self.logs - 1)), self.dir.join(format!("log-{}", self.logs)));
        // While retention deletes segments, a copy may be of no one moment; and until the log's next checkpoint it refuses to open
        // without them. Neither is this crate's affair.
        let mut tries = 0..500;
        self.log = loop {
            copy(&from, &to);
            match LocalLog::open(Env::real(), &to, log_settings()) {
                Ok(log) => break log,
                Err(error) if error.code().id == "LOG-008" && tries.next().is_some() => std::fs::remove_dir_all(&to).unwrap(),
                Err(error) => panic!("{error:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let (warehouse, schemas, sender) = open(&self.dir, &self.log, &self.settings).await;
        (self.warehouse, self.schemas, self.sender) = (warehouse, schemas, sender);
    }

    /// Compacts while changes go on. What a snapshot from before shows stays as it is.
    pub async fn compact_beside_changes(&mut self) {
        let held = self.warehouse.snapshot().unwrap();
        let rows = |snapshot: &Snapshot| snapshot.tables.values().map(|t| shown(t)).collect::<Vec<_>>();
        let before = rows(&held);
        let warehouse = self.warehouse.clone();
        let compaction = tokio::spawn(async move { warehouse.compact().await });
        for _ in 0..20 {
            if compaction.is_finished() {
                break;
            }
            let at = self.random.random_range(0..self.tables.len());
            match self.random.random_range(0..20) {
                0 => self.alter(at).await,
                1 => self.build(at).await,
                _ => self.change().await,
            }
        }
        compaction.await.unwrap();
        assert!(rows(&held) == before, "a compaction changed what a snapshot shows");
    }

    /// Writes down what a restart must show.
    pub fn save(&self, path: &Path) {
        let cell = |cell: &Cell| match cell {
            Cell::Null => Value::Null,
            Cell::Int(n) => (*n).into(),
            Cell::Text(text) => text.clone().into(),
        };
        let table = |table: &ModelTable| {
            let rows: Vec<Vec<Value>> = table.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
            json!({"record": table.record, "rows": rows})
        };
        let tables: Vec<Value> = self.tables.iter().map(table).collect();
        let text = json!({"seq": self.seq, "place": self.place, "tables": tables}).to_string();
        std::fs::write(path, text).unwrap();
    }

    /// Goes on from what another process saved before it was killed.
    pub async fn restore(seed: u64, dir: &Path, settings: WarehouseSettings, saved: &Path) -> Self {
        let saved: Value = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
        let cell = |cell: &Value| match cell {
            Value::String(text) => Cell::Text(text.clone()),
            other => other.as_i64().map_or(Cell::Null, Cell::Int),
        };
        let row = |row: &Value| row.as_array().unwrap().iter().map(cell).collect();
        let table = |table: &Value| ModelTable {
            record: serde_json::from_value(table["record"].clone()).unwrap(),
            rows: table["rows"].as_array().unwrap().iter().map(row).collect(),
        };
        let log = open_log(dir, 0);
        let (warehouse, schemas, sender) = open(dir, &log, &settings).await;
        Self {
            random: StdRng::seed_from_u64(seed),
            dir: dir.into(),
            log,
            logs: 0,
            settings,
            warehouse,
            tables: saved["tables"].as_array().unwrap().iter().map(table).collect(),
            schemas,
            sender,
            seq: saved["seq"].as_u64().unwrap(),
            place: saved["place"].as_u64().unwrap(),
        }
    }

    /// Every table equals the model, now.
    pub fn check(&self) {
        let snapshot = self.warehouse.snapshot().unwrap();
        assert_eq!(snapshot.seqs[&source()], self.seq);
        for table in &self.tables {
            let view = &snapshot.tables[&table.record.name];
            assert!(view.readable);
            assert_eq!(view.record.state, TableState::Streaming, "{:?}", view.record.error);
            let (found, wanted) = (shown(view), expected(&table.record.schema, &table.rows));
            if found != wanted {
                let more: Vec<_> = found.iter().filter(|r| !wanted.contains(r)).take(3).collect();
                let less: Vec<_> = wanted.iter().filter(|r| !found.contains(r)).take(3).collect();
                panic!(
                    "{}: {} rows, wanted {}; too many {more:?}, missing {less:?}",
                    view.record.name,
                    found.len(),
                    wanted.len()
                );
            }
        }
    }

    fn new_row(&mut self, at: usize) -> Row {
        let schema = self.tables[at].record.schema.clone();
        let identity = schema.identity_indexes();
        loop {
            let row: Row = schema.columns.iter().map(|c| self.cell(c)).collect();
            let mut row = row;
            if matches!(schema.identity, Identity::Key { .. }) {
                for index in &identity {
                    row[*index] = match schema.columns[*index].kind {
                        ColumnType::Text => Cell::Text(format!("k{}", self.random.random_range(0..9))),
                        _ => Cell::Int(self.random.random_range(-200_000..200_000)),
                    };
                }
                let taken = |r: &Row| identity.iter().all(|i| r[*i] == row[*i]);
                if self.tables[at].rows.iter().any(taken) {
                    continue;
                }
            }
            return row;
        }
    }

    fn cell(&mut self, column: &Column) -> Cell {
        if self.random.random_bool(0.15) {
            return Cell::Null;
        }
        let small = self.random.random_range(-4i64..5);
        match column.kind {
            ColumnType::Text | ColumnType::Bytes => {
                Cell::Text(["", "a", "ü|~", "long text ".repeat(9).as_str()][(small + 4) as usize % 4].into())
            }
            ColumnType::Bool => Cell::Int(small & 1),
            ColumnType::Time => Cell::Int((small + 4) * 3_600_000_001),
            ColumnType::Timestamp | ColumnType::TimestampTz => Cell::Int(1_700_000_000_000_000 + small * 86_400_000_123),
            _ => Cell::Int(small),
        }
    }

    fn event(&mut self, at: usize, events: &mut Vec<Event>) {
        let identity = self.tables[at].record.schema.identity.clone();
        let what = self.random.random_range(0..1000);
        let count = self.tables[at].rows.len();
        if what < 2 {
            self.tables[at].rows.clear();
            let row = vec![Cell::Null; self.tables[at].record.schema.columns.len()];
            events.push(Event { op: Op::Truncate, row, old: None, unchanged: Vec::new() });
        } else if what < 400 || count == 0 || identity == Identity::AppendOnly {
            let row = self.new_row(at);
            self.tables[at].rows.push(row.clone());
            events.push(Event { op: Op::Create, row, old: None, unchanged: Vec::new() });
        } else if what < 600 {
            let victim = self.random.random_range(0..count);
            let row = self.tables[at].rows.swap_remove(victim);
            events.push(Event { op: Op::Delete, row: self.image(at, &row), old: None, unchanged: Vec::new() });
            if self.random.random_bool(0.3) {
                self.tables[at].rows.push(row.clone());
                events.push(Event { op: Op::Create, row, old: None, unchanged: Vec::new() });
            }
        } else if what < 650 && count > 1 && matches!(identity, Identity::Key { .. }) {
            self.swap_keys(at, events);
        } else {
            let victim = self.random.random_range(0..count);
            self.update(at, victim, events);
        }
    }

    /// Two rows exchange their keys, each going straight to the other's.
    fn swap_keys(&mut self, at: usize, events: &mut Vec<Event>) {
        let one = self.random.random_range(0..self.tables[at].rows.len());
        let two = self.random.random_range(0..self.tables[at].rows.len());
        if one == two {
            return;
        }
        let indexes = self.tables[at].record.schema.identity_indexes();
        let before = [self.tables[at].rows[one].clone(), self.tables[at].rows[two].clone()];
        for index in indexes {
            let (a, b) = (before[0][index].clone(), before[1][index].clone());
            self.tables[at].rows[one][index] = b;
            self.tables[at].rows[two][index] = a;
        }
        for (row, old) in [(one, &before[0]), (two, &before[1])] {
            let old = Some(self.image(at, old));
            events.push(Event { op: Op::Update, row: self.tables[at].rows[row].clone(), old, unchanged: Vec::new() });
        }
    }

    fn update(&mut self, at: usize, victim: usize, events: &mut Vec<Event>) {
        let schema = self.tables[at].record.schema.clone();
        let identity = schema.identity_indexes();
        let before = self.tables[at].rows[victim].clone();
        let rekey = self.random.random_bool(0.2);
        let mut row = self.new_row(at);
        if matches!(schema.identity, Identity::Key { .. }) && !rekey {
            identity.iter().for_each(|i| row[*i] = before[*i].clone());
        }
        let mut unchanged = Vec::new();
        let mut sent = row.clone();
        if matches!(schema.identity, Identity::Key { .. }) {
            for (index, column) in schema.columns.iter().enumerate().filter(|(i, _)| !identity.contains(i)) {
                if column.kind == ColumnType::Text && self.random.random_bool(0.5) {
                    unchanged.push(column.id);
                    row[index] = before[index].clone();
                    sent[index] = Cell::Null;
                }
            }
        }
        let imaged = rekey || schema.identity == Identity::WholeRow;
        let old = imaged.then(|| self.image(at, &before));
        self.tables[at].rows[victim] = row;
        events.push(Event { op: Op::Update, row: sent, old, unchanged });
    }

    /// What an old tuple has: identity columns, others NULL.
    fn image(&self, at: usize, row: &Row) -> Row {
        let identity = self.tables[at].record.schema.identity_indexes();
        row.iter().enumerate().map(|(i, cell)| if identity.contains(&i) { cell.clone() } else { Cell::Null }).collect()
    }

    async fn send(&mut self, all: Vec<(usize, Vec<Event>)>, records: Vec<Arc<TableRecord>>) {
        let (mut parts, mut batches) = (Vec::new(), Vec::new());
        for (at, events) in all {
            let record = self.tables[at].record.clone();
            let batch = changes(&record.schema, &events, &mut self.place);
            let (ids, schema_part) = self.schemas.ids(&record.topic, &record.schema, &BLOCK).unwrap();
            parts.extend(schema_part);
            parts.push(encode(&context(&record, ids), &batch).unwrap());
            batches.push(TableBatch { table: record.table, generation: record.generation, changes: Arc::new(batch) });
        }
        self.barrier(parts, batches, records).await;
    }

    pub async fn barrier(&mut self, mut parts: Vec<PartitionAppend>, batches: Vec<TableBatch>, records: Vec<Arc<TableRecord>>) {
        if !records.is_empty() {
            parts.push(table_append(&records.iter().map(Arc::as_ref).collect::<Vec<_>>(), 0));
        }
        self.seq += 1;
        let made = Arc::new(Mutex::new(None));
        let told = made.clone();
        let targets: Vec<(TopicPartition, i64)> = parts.iter().map(|p| (p.to.clone(), i64::from(p.records))).collect();
        let mut barrier = Barrier {
            source: source(),
            seq: self.seq,
            position: Position::new(&format!("0/{}", self.seq)),
            commit_time_us: 5,
            ends: Vec::new(),
            full: false,
            tables: records,
        };
        let seal = Box::new(move |bases: &[i64]| {
            let ends = targets.iter().zip(bases).filter(|((to, _), _)| !to.topic.starts_with('_'));
            let end = |((to, n), base): (&(TopicPartition, i64), &i64)| PartitionEnd {
                topic: to.topic.clone(),
                partition: 0,
                end: base + n,
            };
            barrier.ends = ends.map(end).collect();
            let part = barrier_append(&barrier, 0);
            *told.lock().unwrap() = Some(barrier);
            part
        });
        self.log.append(parts, Some(seal)).await.unwrap();
        let barrier = made.lock().unwrap().take().unwrap();
        // Some groups are too large for the tail: the applier reads them from the log.
        let batches = (self.random.random_bool(0.8)).then_some(batches);
        assert!(self.sender.send(barrier, batches).await);
        let mut visible = self.warehouse.visible(&source());
        let seq = self.seq;
        let seen = visible.wait_for(|v| v.as_ref().is_some_and(|v| v.seq >= seq));
        let seen = tokio::time::timeout(std::time::Duration::from_secs(60), seen).await;
        assert!(seen.is_ok(), "barrier {seq} did not become visible");
    }
}

/// Segments are small and nothing is kept longer than asked for, so that retention has something to take.
fn topic(cleanup: Cleanup) -> TopicConfig {
    TopicConfig { partitions: 1, cleanup, retention_ms: Some(0), retention_bytes: None }
}

fn log_settings() -> LogSettings {
    LogSettings {
        segment_bytes_max: 64 << 10,
        wal_file_bytes: 4 << 20,
        disk_reserve_bytes: 0,
        checkpoint_interval_ms: 100,
        ..Default::default()
    }
}

fn open_log(dir: &Path, number: u32) -> Arc<LocalLog> {
    LocalLog::open(Env::real(), &dir.join(format!("log-{number}")), log_settings()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_name() == "by-name" {
            continue; // links, which are made anew
        }
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            // Gone since it was listed: retention took it.
            false => drop(std::fs::copy(entry.path(), target)),
        }
    }
}

/// Opens a copy of what a stopped driver left, changed before.
pub async fn open_copy(driver: &Driver, dir: &Path, change: impl FnOnce(&Path)) -> Arc<Warehouse> {
    copy(&driver.dir, dir);
    change(dir);
    open(dir, &open_log(dir, driver.logs), &driver.settings).await.0
}

async fn open(dir: &Path, log: &Arc<LocalLog>, settings: &WarehouseSettings) -> (Arc<Warehouse>, Arc<Schemas>, Sender) {
    let schemas = Arc::new(Schemas::load(log.clone()).await.unwrap());
    let warehouse = Warehouse::open(Env::real(), dir, log.clone(), schemas.clone(), settings.clone()).await.unwrap();
    let sender = warehouse.attach(&source()).await.unwrap();
    (warehouse, schemas, sender)
}

fn context(record: &TableRecord, ids: mainstem_envelope::SchemaIds) -> EncodeContext<'_> {
    EncodeContext { source: &record.source, block: &BLOCK, database: "db", topic: &record.topic, ids, now_ms: 1 }
}

struct Event {
    op: Op,
    row: Row,
    old: Option<Row>,
    unchanged: Vec<ColumnId>,
}

fn changes(schema: &Arc<TableSchema>, events: &[Event], place: &mut u64) -> ChangeBatch {
    let rows: Vec<Row> = events.iter().map(|e| e.row.clone()).collect();
    let olds: Vec<Row> = events.iter().filter_map(|e| e.old.clone()).collect();
    let index = |wanted: fn(&Event) -> bool| {
        events.iter().enumerate().filter(move |(_, e)| wanted(e)).map(|(i, _)| i as u32).collect::<Vec<_>>()
    };
    *place += 10_000;
    let read = events.first().is_some_and(|e| e.op == Op::Read);
    let tx = Tx { id: if read { 0 } else { *place }, commit_place: *place, commit_time_us: 5 };
    ChangeBatch {
        schema: schema.clone(),
        rows: arrow_rows(schema, &rows),
        ops: events.iter().map(|e| e.op).collect(),
        places: (0..events.len() as u64).map(|n| *place - 9_000 + n).collect(),
        orders: (0..events.len() as u32).collect(),
        txs: if events.is_empty() { Vec::new() } else { vec![(events.len() as u32, tx)] },
        old: (!olds.is_empty()).then(|| arrow_rows(schema, &olds)),
        old_rows: index(|e| e.old.is_some()),
        unchanged: events
            .iter()
            .enumerate()
            .filter(|(_, e)| !e.unchanged.is_empty())
            .map(|(i, e)| (i as u32, e.unchanged.clone()))
            .collect(),
    }
}
