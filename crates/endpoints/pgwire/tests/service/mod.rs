//! The service behind the door under test: a handful of statements with fixed answers, and ways to misbehave.

use arrow::array::*;
use arrow::datatypes::*;
use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use mainstem_types::schema::SOURCE_TYPE_KEY;
use mainstem_types::sql::*;
use mainstem_types::{Code, Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

#[derive(Default)]
pub struct Counts {
    pub sessions: AtomicUsize,
    pub running: AtomicUsize,
    pub batches: AtomicUsize,
    pub cancels: AtomicUsize,
}

#[derive(Default)]
pub struct Fixed(Arc<Counts>);

impl std::ops::Deref for Fixed {
    type Target = Counts;
    fn deref(&self) -> &Counts {
        &self.0
    }
}

impl Fixed {
    pub async fn wait_running(&self) {
        while self.running.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl SqlService for Fixed {
    async fn open(&self, client: ClientInfo) -> Result<Arc<dyn SqlSession>> {
        if client.database != "main" {
            let code = Code::new("SQL-998", "3D000");
            return Err(Error::fix(code, format!("database \"{}\" does not exist", client.database)));
        }
        self.0.sessions.fetch_add(1, SeqCst);
        Ok(Arc::new(Session(Arc::new(State {
            counts: self.0.clone(),
            status: AtomicU8::new(b'I'),
            cancelled: AtomicBool::new(false),
            settings: Mutex::default(),
        }))))
    }
}

struct State {
    counts: Arc<Counts>,
    status: AtomicU8,
    cancelled: AtomicBool,
    settings: Mutex<HashMap<String, String>>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.counts.sessions.fetch_sub(1, SeqCst);
    }
}

struct Session(Arc<State>);

struct Running(Arc<State>);

impl Running {
    fn new(state: &Arc<State>) -> Self {
        state.cancelled.store(false, SeqCst);
        state.counts.running.fetch_add(1, SeqCst);
        Self(state.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.counts.running.fetch_sub(1, SeqCst);
    }
}

fn failure(sqlstate: &'static str, message: &str) -> Error {
    Error::fix(Code::new("SQL-999", sqlstate), message)
}

#[async_trait]
impl SqlSession for Session {
    fn split(&self, sql: &str) -> Result<Vec<String>> {
        Ok(sql.split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_string).collect())
    }

    async fn prepare(&self, sql: &str, declared: &[Option<DataType>]) -> Result<Arc<dyn PreparedStatement>> {
        let sql = sql.split("--").next().unwrap_or_default().trim().to_string();
        if sql == "PANIC prepare" {
            panic!("as asked");
        }
        if self.0.status.load(SeqCst) == b'E' && !["ROLLBACK", "SHOW status"].contains(&sql.as_str()) {
            return Err(failure("25P02", "current transaction is aborted"));
        }
        if let Some((_, at)) = sql.split_once("FAIL ") {
            return Err(failure("42703", "column \"x\" does not exist").hint("Perhaps y.").at(at.parse().unwrap()));
        }
        let (mut parameters, mut rows) = (Vec::new(), None);
        match sql.split_whitespace().collect::<Vec<_>>()[..] {
            ["SELECT", "one"] | ["SELECT", "rows", _] | ["SELECT", "endless" | "broken" | "panic"] => {
                rows = Some(Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)])));
            }
            ["SELECT", "types"] => rows = Some(types().schema()),
            ["SHOW", name] => rows = Some(Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)]))),
            ["ECHO", ref kinds @ ..] => {
                let kind = |(i, name): (usize, &&str)| declared.get(i).cloned().flatten().unwrap_or_else(|| kind(name));
                parameters = kinds.iter().enumerate().map(kind).collect();
                let fields = parameters.iter().map(|kind| Field::new("echo", kind.clone(), true));
                rows = Some(Arc::new(Schema::new(fields.collect::<Vec<_>>())));
            }
            _ => {}
        }
        Ok(Arc::new(Prepared { state: self.0.clone(), sql, parameters, rows }))
    }

    fn cancel(&self) {
        self.0.counts.cancels.fetch_add(1, SeqCst);
        self.0.cancelled.store(true, SeqCst);
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.0.settings.lock().get(name).cloned()
    }

    fn transaction_status(&self) -> u8 {
        self.0.status.load(SeqCst)
    }

    fn cursor(&self, _: &str) -> Option<SchemaRef> {
        None
    }

    fn fail_transaction(&self) {
        let _ = self.0.status.compare_exchange(b'T', b'E', SeqCst, SeqCst);
    }
}

fn kind(name: &str) -> DataType {
    match name {
        "int8" => DataType::Int64,
        "float8" => DataType::Float64,
        "bool" => DataType::Boolean,
        "bytea" => DataType::Binary,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "list" => DataType::List(Arc::new(Field::new("item", DataType::Int32, true))),
        "numeric" => DataType::Decimal128(10, 2),
        "date" => DataType::Date32,
        _ => DataType::Utf8,
    }
}

struct Prepared {
    state: Arc<State>,
    sql: String,
    parameters: Vec<DataType>,
    rows: Option<SchemaRef>,
}

impl Prepared {
    fn numbers(&self, numbers: impl IntoIterator<Item = i32>) -> RecordBatch {
        RecordBatch::try_new(self.rows.clone().unwrap(), vec![Arc::new(Int32Array::from_iter_values(numbers))]).unwrap()
    }

    fn batches(&self, batches: Vec<Result<RecordBatch>>) -> Result<Outcome> {
        let schema = self.rows.clone().unwrap();
        Ok(Outcome::Rows { schema, batches: stream::iter(batches).boxed(), notices: Vec::new() })
    }

    fn endless(&self) -> Result<Outcome> {
        let (running, batch) = (Running::new(&self.state), self.numbers(0..1000));
        let batches = stream::repeat(()).map(move |()| {
            running.0.counts.batches.fetch_add(1, SeqCst);
            if running.0.cancelled.load(SeqCst) { Err(failure("57014", "canceled")) } else { Ok(batch.clone()) }
        });
        // A yield between batches, as an engine's stream has.
        let batches = batches.then(|batch| async {
            tokio::task::yield_now().await;
            batch
        });
        Ok(Outcome::Rows { schema: self.rows.clone().unwrap(), batches: batches.boxed(), notices: Vec::new() })
    }
}

#[async_trait]
impl PreparedStatement for Prepared {
    fn parameter_types(&self) -> &[DataType] {
        &self.parameters
    }

    fn parameter_source(&self, _: usize) -> &str {
        ""
    }
    fn columns(&self) -> Option<SchemaRef> {
        self.rows.clone()
    }

    async fn execute(&self, parameters: Vec<Parameter>) -> Result<Outcome> {
        let status = |to| self.state.status.store(to, SeqCst);
        let mut notices = Vec::new();
        match self.sql.split_whitespace().collect::<Vec<_>>()[..] {
            ["SELECT", "one"] => return self.batches(vec![Ok(self.numbers([1]))]),
            ["SELECT", "rows", n] => {
                let batches = (0..n.parse().unwrap()).map(|n| Ok(self.numbers([n]))).collect();
                return self.batches(batches);
            }
            ["SELECT", "broken"] => {
                return self.batches(vec![Ok(self.numbers([1])), Err(failure("58030", "broke in the middle"))]);
            }
            ["SELECT", "panic"] => {
                let batches = stream::poll_fn(|_| panic!("as asked")).boxed();
                return Ok(Outcome::Rows { schema: self.rows.clone().unwrap(), batches, notices });
            }
            ["SELECT", "endless"] => return self.endless(),
            ["SELECT", "types"] => return self.batches(vec![Ok(types())]),
            ["ECHO", ..] => {
                let batch = RecordBatch::try_new(self.rows.clone().unwrap(), parameters).unwrap();
                return self.batches(vec![Ok(batch)]);
            }
            ["SHOW", name] => {
                let value = match name {
                    "status" => Some((self.state.status.load(SeqCst) as char).to_string()),
                    _ => self.state.settings.lock().get(name).cloned(),
                };
                let column = Arc::new(StringArray::from(vec![value]));
                return self.batches(vec![Ok(RecordBatch::try_new(self.rows.clone().unwrap(), vec![column]).unwrap())]);
            }
            ["SET", name, "=", value] => {
                self.state.settings.lock().insert(name.to_lowercase(), value.trim_matches('\'').to_string());
            }
            ["SLEEP"] => {
                let running = Running::new(&self.state);
                while !running.0.cancelled.load(SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                return Err(failure("57014", "canceling statement due to user request"));
            }
            ["PANIC", _] => panic!("as asked"),
            ["NOTICE"] => notices.push("look here".into()),
            ["BEGIN" | "START", ..] => status(b'T'),
            ["ROLLBACK" | "COMMIT"] => status(b'I'),
            [] => return Ok(Outcome::Empty),
            _ => {}
        }
        let tag = self.sql.split_whitespace().next().unwrap_or_default().to_string();
        Ok(Outcome::Done { tag, notices })
    }
}

/// A row with a value of every type and a row of NULLs.
fn types() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None, Some(3)]), None]);
    let fields: Fields = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)].into();
    let members: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec![Some("a b"), None]))];
    let record = StructArray::new(fields, members, Some(vec![true, false].into()));
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![Some(value), None])) };
    let us = 1_704_164_645_123_456;
    let numeric = Decimal128Array::from(vec![Some(-12345), None]).with_precision_and_scale(10, 2).unwrap();
    let word: DictionaryArray<Int32Type> = [Some("word"), None].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("", Arc::new(Int16Array::from(vec![Some(-2), None]))),
        ("", Arc::new(Int32Array::from(vec![Some(4), None]))),
        ("", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("", Arc::new(Float32Array::from(vec![Some(1.1), None]))),
        ("", Arc::new(Float64Array::from(vec![Some(1e20), None]))),
        ("", Arc::new(numeric)),
        ("", text("héllo")),
        ("", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None]))),
        ("", Arc::new(Date32Array::from(vec![Some(19_724), None]))),
        ("", Arc::new(Time64MicrosecondArray::from(vec![Some(11_045_600_000), None]))),
        ("", Arc::new(TimestampMicrosecondArray::from(vec![Some(us), None]))),
        ("", Arc::new(TimestampMicrosecondArray::from(vec![Some(us), None]).with_timezone("UTC"))),
        ("uuid", text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        ("json", text("{\"a\": 1}")),
        ("jsonb", text("{\"a\": 1}")),
        ("", Arc::new(list)),
        ("", Arc::new(record)),
        ("", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("", Arc::new(StringViewArray::from(vec![Some("view"), None]))),
        ("public.mood", Arc::new(word)),
    ];
    let field = |(i, (source, array)): (usize, &(&str, ArrayRef))| {
        let metadata = HashMap::from([(SOURCE_TYPE_KEY.to_string(), source.to_string())]);
        Field::new(format!("c{i}"), array.data_type().clone(), true).with_metadata(metadata)
    };
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|c| c.1).collect()).unwrap()
}
