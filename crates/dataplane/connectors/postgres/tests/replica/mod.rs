//! A simple replica: what copy and stream give, applied row by row, to be compared with the server's own rows.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests
#![allow(clippy::disallowed_methods)] // tests run on the real machine
#![allow(dead_code)] // each test file uses a part of it

use arrow::array::AsArray;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use mainstem_connector::{BadRow, ChangeStream, Copied, Options, Seen, Source, SourceSettings, StreamItem};
use mainstem_env::Env;
use mainstem_postgres::connector;
use mainstem_types::{ChangeBatch, ErrorKind, Op, Position, SourceName, TableBody, TableSchema, UpstreamId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub type Cell = Option<String>;

pub fn settings(url: &str, options: &[(&str, &str)]) -> SourceSettings {
    let mut settings = SourceSettings {
        name: SourceName::new("shop").unwrap(),
        url: url.to_string(),
        options: Options(options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()),
        owned: BTreeSet::new(),
        spool_dir: None,
    };
    let first = connector().open(Env::real(), settings.clone()).unwrap();
    settings.owned = first.remote_objects().into_iter().collect();
    settings
}

pub fn open(url: &str, options: &[(&str, &str)]) -> Arc<dyn Source> {
    let mut settings = settings(url, options);
    let name = format!("mainstem-spool-test-{}-{}", std::process::id(), url.replace(['/', ':', '@', '?'], "_"));
    settings.spool_dir = Some(std::env::temp_dir().join(name));
    connector().open(Env::real(), settings).unwrap()
}

pub fn cells(batch: &arrow::array::RecordBatch, row: usize) -> Vec<Cell> {
    let shown = |c: &arrow::array::ArrayRef| match c.data_type() {
        DataType::Timestamp(_, Some(_)) => c.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        _ => array_value_to_string(c, row).unwrap(),
    };
    let cell = |c: &arrow::array::ArrayRef| (!c.is_null(row)).then(|| shown(c));
    batch.columns().iter().map(cell).collect()
}

/// Tables as copy and stream say.
#[derive(Default)]
pub struct Replica {
    pub rows: BTreeMap<u64, Vec<Vec<Cell>>>,
    pub schemas: BTreeMap<u64, Arc<TableSchema>>,
    pub seen: BTreeMap<u64, Seen>,
    pub position: Option<Position>,
    /// Items that end between two transactions, and pieces of one.
    pub wholes: usize,
    pub pieces: usize,
    /// Rows that could not be held: code, op, values.
    pub bad: Vec<String>,
    /// There was one: rows may be missed.
    left_out: bool,
    pub stale: Vec<u64>,
    pub progress: usize,
    pub bodies: BTreeMap<u64, TableBody>,
}

impl Replica {
    pub async fn copy(&mut self, source: &dyn Source, table: UpstreamId) {
        let mut copy = source.copy(table).await.unwrap();
        let mut rows = Vec::new();
        while let Some(copied) = copy.next().await.unwrap() {
            let batch = match copied {
                Copied::Rows(batch) => batch,
                Copied::BadRow(bad) => {
                    self.take_bad(&bad);
                    continue;
                }
            };
            assert!(batch.ops.iter().all(|op| *op == Op::Read));
            rows.extend((0..batch.len()).map(|r| cells(&batch.rows, r)));
        }
        self.schemas.insert(table.0, copy.schema());
        self.seen.insert(table.0, copy.seen());
        self.rows.insert(table.0, rows);
    }

    pub async fn copy_all(&mut self, source: &dyn Source) {
        for found in source.discover().await.unwrap().iter() {
            if found.excluded.is_none() {
                self.copy(source, found.schema.upstream).await;
            }
        }
    }

    /// Looks at the catalog; tables written anew behind the log's back are stale, as for the pipeline.
    pub async fn look(&mut self, source: &dyn Source) {
        for found in source.discover().await.unwrap().iter() {
            let (id, now) = (found.schema.upstream.0, found.body.clone().unwrap());
            let before = self.bodies.insert(id, now.clone());
            if before.is_some_and(|before| before.rewritten(&now, &found.schema).is_some()) {
                self.stale.push(id);
            }
        }
    }

    /// A column that is new to rows held before it has its missing value in them.
    pub fn reshape(&mut self, schema: &Arc<TableSchema>) {
        let id = schema.upstream.0;
        let old = self.schemas.insert(id, schema.clone());
        let (Some(old), Some(rows)) = (old, self.rows.get_mut(&id)) else { return };
        for row in rows {
            let value = |c: &mainstem_types::Column| match old.index_of(c.id) {
                Some(at) => row[at].clone(),
                None => c.missing_value.as_ref().map(|v| v.to_string()),
            };
            *row = schema.columns.iter().map(value).collect();
        }
    }

    pub fn apply(&mut self, batch: &ChangeBatch) {
        let id = batch.schema.upstream.0;
        let indexes = batch.schema.identity_indexes();
        let key = |row: &[Cell]| indexes.iter().map(|i| row[*i].clone()).collect::<Vec<_>>();
        for at in 0..batch.len() {
            if self.seen.get(&id).is_none_or(|seen| seen.contains(batch.tx(at).id)) {
                continue;
            }
            let new = cells(&batch.rows, at);
            let rows = self.rows.entry(id).or_default();
            let old = batch.old_image(at).map_or_else(|| new.clone(), |(old, row)| cells(old, row));
            let find = |rows: &Vec<Vec<Cell>>| {
                let wanted = key(&old);
                rows.iter().rposition(|r| indexes.iter().zip(&wanted).all(|(i, w)| r[*i] == *w))
            };
            match batch.ops[at] {
                Op::Create | Op::Read => rows.push(new),
                Op::Delete => {
                    let found = find(rows);
                    assert!(found.is_some() || self.left_out, "a deleted row is there");
                    found.map(|found| rows.remove(found));
                }
                Op::Update => {
                    let Some(found) = find(rows) else {
                        assert!(self.left_out && batch.unchanged_of(at).is_empty(), "an updated row is there");
                        rows.push(new);
                        continue;
                    };
                    let kept = rows[found].clone();
                    rows[found] = new;
                    for column in batch.unchanged_of(at) {
                        let i = batch.schema.index_of(*column).unwrap();
                        assert_eq!(rows[found][i], None);
                        rows[found][i] = kept[i].clone();
                    }
                }
                Op::Truncate => rows.clear(),
            }
        }
    }

    /// Reads on until everything committed before the call is here.
    pub async fn catch_up(&mut self, source: &dyn Source, stream: &mut Box<dyn ChangeStream>) {
        let head = source.head().await.unwrap();
        while self.position.as_ref().is_none_or(|p| !source.covers(p, &head)) {
            let item = tokio::time::timeout(Duration::from_secs(60), stream.next()).await.expect("the stream goes on").unwrap();
            self.take(item, stream);
        }
    }

    pub fn take(&mut self, item: StreamItem, stream: &mut Box<dyn ChangeStream>) {
        match item {
            StreamItem::Schema(schema) => self.reshape(&schema),
            StreamItem::Changes { batches, end } => {
                batches.iter().for_each(|b| self.apply(b));
                match end {
                    Some(end) => {
                        self.wholes += 1;
                        stream.acknowledge(&end.position);
                        self.position = Some(end.position);
                    }
                    None => self.pieces += 1,
                }
            }
            StreamItem::Progress(position) => {
                self.progress += 1;
                stream.acknowledge(&position);
                self.position = Some(position);
            }
            StreamItem::BadRow(bad) => self.take_bad(&bad),
            StreamItem::TableStale { upstream, .. } => self.stale.push(upstream.0),
        }
    }

    fn take_bad(&mut self, bad: &BadRow) {
        let values: Vec<_> = bad.values.iter().map(|value| value.as_deref().unwrap_or("-")).collect();
        self.left_out = true;
        self.bad.push(format!("{} {} {}", bad.error.code().id, bad.op.code(), values.join(" ")));
    }

    /// Against a fresh copy of every table held.
    pub async fn compare(&self, source: &dyn Source) {
        let mut now = Replica::default();
        now.copy_all(source).await;
        for (id, rows) in &self.rows {
            let (mut have, mut want) = (rows.clone(), now.rows[id].clone());
            have.sort();
            want.sort();
            let name = &now.schemas[id].name;
            assert_eq!(have.len(), want.len(), "{name}: number of rows");
            assert_eq!(have, want, "{name}");
        }
    }
}

pub async fn begin(source: &Arc<dyn Source>) -> (Replica, Box<dyn ChangeStream>) {
    let prepared = source.prepare(None).await.unwrap();
    assert_eq!(prepared.lost, None);
    let mut replica = Replica::default();
    let stream = source.stream(&prepared.start).await.unwrap();
    replica.copy_all(&**source).await;
    replica.look(&**source).await;
    (replica, stream)
}

pub async fn reopen(source: &Arc<dyn Source>, position: &Position) -> Box<dyn ChangeStream> {
    for _ in 0..100 {
        match source.stream(position).await {
            Ok(stream) => return stream,
            Err(error) if error.kind() == ErrorKind::Retry => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{}", error.chain()),
        }
    }
    panic!("the slot stayed in use");
}

/// The values of an integer column.
pub fn cells_of_column(batch: &arrow::array::RecordBatch, column: usize) -> Vec<i64> {
    batch.column(column).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
}
