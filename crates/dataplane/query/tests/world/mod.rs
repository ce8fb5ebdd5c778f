//! A small world for SQL tests: tables in several physical forms, and a source control that does nothing.

use arrow::array::*;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use mainstem_env::Env;
use mainstem_query::{QueryEngine, QuerySettings, SnapshotSource};
use mainstem_types::control::{self, Control, Declaration, Router, SourceDeclaration};
use mainstem_types::sql::{ClientInfo, SqlService, SqlSession};
use mainstem_types::system::{Kind, SystemTable};
use mainstem_types::*;
use mainstem_warehouse::{FileView, HotView, Seal, Snapshot, TableView, ValueRange};
use parquet::arrow::ArrowWriter;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

pub struct World {
    engine: Arc<QueryEngine>,
    plain: Arc<QueryEngine>,
    snapshot: Arc<Mutex<Arc<Snapshot>>>,
    _dir: tempfile::TempDir,
}

struct Nothing;

#[async_trait]
impl Control<SourceDeclaration> for Nothing {
    async fn execute(&self, _: &Principal, declaration: SourceDeclaration) -> Result<control::Outcome> {
        let text = match &declaration {
            SourceDeclaration::ShowCreate { name } => Some(format!("CREATE SOURCE {name} FROM '...'")),
            _ => None,
        };
        Ok(control::Outcome { notices: vec![format!("{:?}", Declaration::Source(declaration))], text })
    }
}

/// What other parts of a server would show.
fn system(snapshots: SnapshotSource) -> Vec<SystemTable> {
    use Kind::{Int8, Text};
    let sources = &[("name", Text), ("connector", Text), ("state", Text)];
    let source_tables =
        &[("source", Text), ("schema_name", Text), ("table_name", Text), ("rows_copied", Int8), ("rows_estimated", Int8)];
    let mut all = mainstem_warehouse::system_tables(snapshots);
    all.push(SystemTable::of_admin("sources", sources, || vec![vec!["shop".into(), "postgres".into(), "streaming".into()]]));
    all.push(SystemTable::of_admin("source_tables", source_tables, || {
        vec![vec!["shop".into(), "public".into(), "copying".into(), 10.into(), 4711.into()]]
    }));
    all
}

fn columns(list: &[(&str, ColumnType, &str)]) -> Vec<Column> {
    let column = |(at, (name, kind, source)): (usize, &(&str, ColumnType, &str))| Column {
        id: ColumnId(at as i32 + 1),
        name: (*name).into(),
        kind: kind.clone(),
        not_null: at == 0,
        source_type: (*source).into(),
        pg_type: None,
        type_modifier: -1,
        missing_value: None,
    };
    list.iter().enumerate().map(column).collect()
}

fn schema(name: &str, columns: Vec<Column>) -> Arc<TableSchema> {
    Arc::new(TableSchema {
        upstream: UpstreamId(1),
        name: TableName::new("public", name),
        version: 0,
        columns,
        identity: Identity::Key { columns: vec![ColumnId(1)] },
        record_key: vec![ColumnId(1)],
    })
}

fn item_schema() -> Arc<TableSchema> {
    schema(
        "item",
        columns(&[
            ("id", ColumnType::Int32, "int4"),
            ("name", ColumnType::Text, "varchar"),
            ("qty", ColumnType::Int64, "int8"),
            ("price", ColumnType::Decimal { precision: 10, scale: 2 }, "numeric"),
            ("at", ColumnType::Time, "time"),
            ("extra", ColumnType::Text, "jsonb"),
        ]),
    )
}

/// Rows `from..to` of the item table, in view types.
fn items(from: i32, to: i32) -> RecordBatch {
    let ids = || from..to;
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(ids().collect::<Int32Array>()),
        Arc::new(ids().map(|i| (i % 7 != 0).then(|| format!("n{}", i % 40))).collect::<StringViewArray>()),
        Arc::new(ids().map(|i| i64::from(i % 5)).collect::<Int64Array>()),
        Arc::new(
            ids()
                .map(|i| (i % 3 != 0).then_some(i128::from(i) * 37 % 10_000))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(10, 2)
                .unwrap(),
        ),
        Arc::new(ids().map(|i| Some(i64::from(i) * 1_000_000)).collect::<Time64MicrosecondArray>()),
        Arc::new(ids().map(|i| (i >= 200).then(|| "{}".to_string())).collect::<StringViewArray>()),
    ];
    RecordBatch::try_new(item_schema().arrow_views(), arrays).unwrap()
}

fn stored(batch: &RecordBatch, without: &[&str]) -> RecordBatch {
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        if without.contains(&field.name().as_str()) {
            continue;
        }
        let kind = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::Time64(_) => DataType::Int64,
            kind => kind.clone(),
        };
        arrays.push(cast(array, &kind).unwrap());
        fields.push(Field::new(field.name(), kind, true));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn file(dir: &Path, name: &str, batch: &RecordBatch, dead: &[u32], without: &[&str]) -> Arc<FileView> {
    let path = dir.join(name);
    let stored = stored(batch, without);
    let properties = parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(32)).build();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), stored.schema(), Some(properties)).unwrap();
    writer.write(&stored).unwrap();
    writer.close().unwrap();
    let ids = batch.column(0).as_any().downcast_ref::<Int32Array>().unwrap();
    let range = ValueRange {
        min: arrow::compute::min(ids).map(|v| Arc::new(Int32Array::from(vec![v])) as ArrayRef),
        max: arrow::compute::max(ids).map(|v| Arc::new(Int32Array::from(vec![v])) as ArrayRef),
        nulls: 0,
    };
    let seal = Seal::of_present(Env::real().disk, &path, SourceName::new("shop").unwrap()).unwrap();
    Arc::new(FileView {
        seal: Arc::new(seal),
        bytes: std::fs::metadata(&path).unwrap().len(),
        path,
        rows: batch.num_rows() as u64,
        row_groups: (0..batch.num_rows()).step_by(32).map(|from| 32.min(batch.num_rows() - from) as u64).collect(),
        deleted: (!dead.is_empty()).then(|| Arc::new(dead.iter().copied().collect::<RoaringBitmap>())),
        ranges: Arc::new(BTreeMap::from([(Arc::from("id"), range)])),
        derived: OnceLock::new(),
    })
}

fn hot(batch: RecordBatch, dead: &[u32]) -> HotView {
    HotView { batch, deleted: (!dead.is_empty()).then(|| Arc::new(dead.iter().copied().collect())) }
}

fn table(
    id: u64,
    name: &str,
    schema: Arc<TableSchema>,
    hot: Vec<HotView>,
    files: Vec<Arc<FileView>>,
    state: TableState,
) -> (TableName, Arc<TableView>) {
    let full = TableName::new("shop", name);
    let mut own = schema.as_ref().clone();
    own.name = TableName::new("public", name);
    let schema = Arc::new(own);
    let alive = |rows: u64, dead: &Option<Arc<RoaringBitmap>>| rows - dead.as_ref().map_or(0, |d| d.len());
    let rows = hot.iter().map(|h| alive(h.batch.num_rows() as u64, &h.deleted)).sum::<u64>()
        + files.iter().map(|f| alive(f.rows, &f.deleted)).sum::<u64>();
    let failed = state == TableState::Failed;
    let record = TableRecord {
        table: TableId(id),
        source: SourceName::new("shop").unwrap(),
        name: full.clone(),
        topic: format!("shop.public.{name}").into(),
        state,
        generation: Generation(1),
        live: Some(Generation(1)),
        schema: schema.clone(),
        dropped_columns: Default::default(),
        parents: Vec::new(),
        without_vectors: false,
        error_code: failed.then(|| "PG-001".into()),
        error: None,
        body: None,
    };
    let view = TableView {
        record: Arc::new(record),
        schema,
        readable: state != TableState::Snapshotting,
        rows_copied: 10,
        hot,
        files,
        rows,
        deleted_rows: 0,
        delta_version: None,
        location: "/nowhere".into(),
        position: Some("0/10".into()),
    };
    (full, Arc::new(view))
}

fn alive(batch: &RecordBatch, dead: &[u32]) -> RecordBatch {
    let keep: BooleanArray = (0..batch.num_rows() as u32).map(|row| Some(!dead.contains(&row))).collect();
    arrow::compute::filter_record_batch(batch, &keep).unwrap()
}

/// Pieces of the item table: (rows, dead ones, in a file).
type Pieces = Vec<(RecordBatch, Vec<u32>, bool)>;

fn snapshot(dir: &Path, pieces: &Pieces) -> Snapshot {
    let (mut hots, mut files) = (Vec::new(), Vec::new());
    for (at, (batch, dead, filed)) in pieces.iter().enumerate() {
        // A file from before a column was added lacks it; its rows have NULL there.
        let without: &[&str] = if batch.column(5).null_count() == batch.num_rows() { &["extra"] } else { &[] };
        match filed {
            true => files.push(file(dir, &format!("{at}.parquet"), batch, dead, without)),
            false => hots.push(hot(batch.clone(), dead)),
        }
    }
    let tiny_schema = || schema("tiny", columns(&[("id", ColumnType::Int32, "int4"), ("name", ColumnType::Text, "uuid")]));
    let tiny = || {
        let arrays: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(StringViewArray::from(vec!["a", "b"]))];
        vec![hot(RecordBatch::try_new(tiny_schema().arrow_views(), arrays).unwrap(), &[])]
    };
    let inserts_only = || {
        let mut schema = tiny_schema().as_ref().clone();
        schema.identity = Identity::AppendOnly;
        Arc::new(schema)
    };
    Snapshot {
        tables: BTreeMap::from([
            table(1, "item", item_schema(), hots, files, TableState::Streaming),
            table(2, "tiny", tiny_schema(), tiny(), vec![], TableState::Streaming),
            table(3, "copying", tiny_schema(), vec![], vec![], TableState::Snapshotting),
            table(4, "broken", tiny_schema(), tiny(), vec![], TableState::Failed),
            table(5, "leaf_a", tiny_schema(), tiny(), vec![], TableState::Streaming),
            table(7, "keyless", inserts_only(), tiny(), vec![], TableState::Streaming),
            table(6, "leaf_b", tiny_schema(), tiny(), vec![], TableState::Streaming),
        ]),
        seqs: BTreeMap::new(),
        parents: BTreeMap::from([(
            TableName::new("shop", "parent"),
            vec![TableName::new("shop", "leaf_a"), TableName::new("shop", "leaf_b")],
        )]),
    }
}

fn engine(snapshot: Arc<Mutex<Arc<Snapshot>>>, partitions: usize) -> Arc<QueryEngine> {
    let settings = QuerySettings { partitions, batch_rows: 64, ..QuerySettings::default() };
    let source: SnapshotSource = Arc::new(move || Ok(snapshot.lock().unwrap().clone()));
    let control = Arc::new(Router { sources: Arc::new(Nothing), users: None });
    QueryEngine::new(Env::real(), source.clone(), control, settings, system(source)).unwrap()
}

impl World {
    pub fn new() -> Self {
        Self::of(
            vec![
                (items(0, 100), (10..20).collect(), true),
                (items(100, 200), vec![], true),
                (items(200, 300), (0..20).collect(), false),
            ],
            2,
        )
    }

    fn of(pieces: Pieces, partitions: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Mutex::new(Arc::new(snapshot(dir.path(), &pieces))));
        let rows: Vec<RecordBatch> = pieces.iter().map(|(batch, dead, _)| alive(batch, dead)).collect();
        let whole = concat_batches(&item_schema().arrow_views(), &rows).unwrap();
        let one = Arc::new(Mutex::new(Arc::new(snapshot(dir.path(), &vec![(whole, vec![], false)]))));
        Self { engine: engine(shared.clone(), partitions), plain: engine(one, 1), snapshot: shared, _dir: dir }
    }

    /// The item table in several physical forms, by name.
    pub fn variants() -> Vec<(String, Self)> {
        let forms: Vec<(&str, Pieces)> = vec![
            ("hot only", vec![(items(0, 150), vec![], false), (items(150, 300), vec![0, 149], false)]),
            ("one clean file", vec![(items(0, 300), vec![], true)]),
            (
                "files with scattered deletes",
                vec![
                    (items(0, 100), (0..100).step_by(3).collect(), true),
                    (items(100, 300), (0..200).step_by(7).collect(), true),
                ],
            ),
            (
                "files and hot rows",
                vec![
                    (items(0, 100), (10..20).collect(), true),
                    (items(100, 200), vec![], true),
                    (items(200, 300), (0..20).collect(), false),
                ],
            ),
            (
                "a file that is all dead",
                vec![
                    (items(0, 100), vec![], true),
                    (items(100, 200), (0..100).collect(), true),
                    (items(200, 300), vec![99], false),
                ],
            ),
        ];
        let mut made = Vec::new();
        for (name, pieces) in forms {
            for partitions in [1, 2, 3] {
                made.push((format!("{name}, {partitions} partitions"), Self::of(pieces.clone(), partitions)));
            }
        }
        made
    }

    pub async fn session(&self) -> Arc<dyn SqlSession> {
        open(&self.engine, "admin").await
    }

    /// A session of somebody else than `admin`.
    pub async fn session_of(&self, user: &str) -> Arc<dyn SqlSession> {
        open(&self.engine, user).await
    }

    /// The same rows in one hot batch without deletes.
    pub async fn plain_session(&self) -> Arc<dyn SqlSession> {
        open(&self.plain, "admin").await
    }

    /// From now on there are no tables.
    pub fn empty(&self) {
        *self.snapshot.lock().unwrap() = Arc::new(Snapshot::default());
    }
}

async fn open(engine: &Arc<QueryEngine>, user: &str) -> Arc<dyn SqlSession> {
    let client = ClientInfo {
        principal: Principal(user.into()),
        database: "main".into(),
        application: "test".into(),
        address: "127.0.0.1".into(),
        number: if user == "admin" { 7 } else { 8 },
    };
    engine.open(client).await.unwrap()
}
