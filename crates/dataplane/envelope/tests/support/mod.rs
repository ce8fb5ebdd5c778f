//! Random table schemas and change batches, and change batches as plain events that can be compared.

#![allow(dead_code, reason = "each test file uses its part")]

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;
use async_trait::async_trait;
use bytes::Bytes;
use mainstem_envelope::{EncodeContext, SchemaIds, Schemas, TopicItem};
use mainstem_eventlog::{EventLog, Fetched, LogTransaction, PartitionAppend, PartitionInfo, Seal, TopicConfig, TopicPartition};
use mainstem_types::source_block::{SourceBlock, SourceFact, SourceField};
use mainstem_types::{
    ChangeBatch, Column, ColumnId, ColumnType, Identity, Op, Result, SourceName, TableName, TableSchema, Tx, UpstreamId,
};
use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

pub const TOPIC: &str = "shop.public.t\u{fc}r";

/// Patches base offsets as an append does, and puts batches one after another.
pub fn placed(parts: &[&PartitionAppend], mut base: i64) -> Bytes {
    let mut out = Vec::new();
    for part in parts {
        let mut rest = part.batches.to_vec();
        while !rest.is_empty() {
            let length = 12 + i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
            let tail = rest.split_off(length);
            let last = i32::from_be_bytes(rest[23..27].try_into().unwrap());
            rest[..8].copy_from_slice(&base.to_be_bytes());
            base += i64::from(last) + 1;
            out.extend_from_slice(&rest);
            rest = tail;
        }
    }
    out.into()
}

/// As Debezium's PostgreSQL connector writes it.
pub static BLOCK: SourceBlock = SourceBlock {
    connector: "postgresql",
    namespace: "io.debezium.connector.postgresql",
    fields: &[
        SourceField::plain("version", SourceFact::Version),
        SourceField::plain("connector", SourceFact::Connector),
        SourceField::plain("name", SourceFact::Source),
        SourceField::plain("ts_ms", SourceFact::CommitMs),
        SourceField::optional("snapshot", SourceFact::Snapshot),
        SourceField::plain("db", SourceFact::Database),
        SourceField::optional("sequence", SourceFact::Sequence),
        SourceField::optional("ts_us", SourceFact::CommitUs),
        SourceField::optional("ts_ns", SourceFact::CommitNs),
        SourceField::plain("schema", SourceFact::Schema),
        SourceField::plain("table", SourceFact::Table),
        SourceField::optional("txId", SourceFact::Transaction),
        SourceField::optional("lsn", SourceFact::Place),
        SourceField::optional("xmin", SourceFact::NoNumber),
    ],
};

/// The part of a log that schemas need, in memory: real record batches with real offsets, no disk.
#[derive(Default)]
pub struct MemoryLog {
    topics: Mutex<HashMap<String, (Vec<u8>, i64)>>,
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn create_topic(&self, name: &str, _: TopicConfig) -> Result<()> {
        self.topics.lock().entry(name.into()).or_default();
        Ok(())
    }
    async fn delete_topic(&self, _: &str) -> Result<()> {
        panic!("schemas do not need it")
    }
    fn partitions(&self) -> Vec<PartitionInfo> {
        panic!("schemas do not need it")
    }
    async fn append(&self, parts: Vec<PartitionAppend>, _: Option<Seal>) -> Result<Vec<i64>> {
        let mut topics = self.topics.lock();
        let place = |part: &PartitionAppend| {
            let (bytes, end) = topics.entry(part.to.topic.to_string()).or_default();
            let base = *end;
            bytes.extend_from_slice(&placed(&[part], base));
            *end += i64::from(part.records);
            base
        };
        Ok(parts.iter().map(place).collect())
    }
    async fn begin(&self) -> Result<Box<dyn LogTransaction>> {
        panic!("schemas do not need it")
    }
    async fn read(&self, at: &TopicPartition, offset: i64, _: usize) -> Result<Fetched> {
        let (bytes, end) = self.topics.lock().get(&*at.topic).cloned().unwrap_or_default();
        let batches = if offset < end { bytes.into() } else { Bytes::new() };
        Ok(Fetched { batches, end, start: 0 })
    }
    fn subscribe(&self, _: &TopicPartition) -> Result<watch::Receiver<i64>> {
        panic!("schemas do not need it")
    }
    fn set_retention_floor(&self, _: &TopicPartition, _: i64) {}
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Schemas that know one table, and its ids.
pub fn schemas_with(schema: &TableSchema) -> (Arc<Schemas>, SchemaIds) {
    runtime().block_on(async {
        let log = Arc::new(MemoryLog::default());
        let schemas = Schemas::load(log.clone()).await.unwrap();
        let (ids, records) = schemas.ids(TOPIC, schema, &BLOCK).unwrap();
        log.append(records.into_iter().collect(), None).await.unwrap();
        schemas.refresh().await.unwrap();
        (Arc::new(schemas), ids)
    })
}

pub fn context<'a>(source: &'a SourceName, ids: SchemaIds) -> EncodeContext<'a> {
    EncodeContext { source, block: &BLOCK, database: "sakila", topic: TOPIC, ids, now_ms: 1_760_000_000_123 }
}

/// One event as plain values: what must survive.
#[derive(Debug, PartialEq)]
pub struct PlainEvent {
    pub op: Op,
    pub row: Vec<String>,
    pub old: Option<Vec<String>>,
    pub unchanged: Vec<ColumnId>,
    pub tx: Tx,
    pub place: u64,
    pub order: u32,
}

/// A cell as exact text (floats by their bits).
pub fn cell(array: &ArrayRef, row: usize) -> String {
    use arrow::array::AsArray;
    use arrow::datatypes::*;
    if array.is_null(row) {
        return "NULL".into();
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => format!("{:08x}", array.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Float64 => format!("{:016x}", array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value(row).to_string(),
        DataType::Utf8 => format!("text {}", array.as_string::<i32>().value(row)),
        DataType::Binary => array.as_binary::<i32>().value(row).iter().map(|b| format!("{b:02x}")).collect(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).to_string(),
        DataType::Time64(_) => array.as_primitive::<Time64MicrosecondType>().value(row).to_string(),
        DataType::Timestamp(_, _) => array.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        other => panic!("{other}"),
    }
}

pub fn plain_cells(batch: &RecordBatch, row: usize) -> Vec<String> {
    batch.columns().iter().map(|column| cell(column, row)).collect()
}

pub fn plain_events(batch: &ChangeBatch) -> Vec<PlainEvent> {
    let event = |row: usize| PlainEvent {
        op: batch.ops[row],
        row: plain_cells(&batch.rows, row),
        old: batch.old_image(row).map(|(old, at)| plain_cells(old, at)),
        unchanged: batch.unchanged_of(row).to_vec(),
        tx: batch.tx(row),
        place: batch.places[row],
        order: batch.orders[row],
    };
    (0..batch.len()).map(event).collect()
}

pub fn plain_items(items: &[TopicItem]) -> Vec<PlainEvent> {
    let events = |item: &TopicItem| match item {
        TopicItem::Changes(batch) => plain_events(batch),
        TopicItem::Generation(_) => Vec::new(),
    };
    items.iter().flat_map(events).collect()
}

fn kind() -> impl Strategy<Value = ColumnType> {
    prop_oneof![
        Just(ColumnType::Bool),
        Just(ColumnType::Int16),
        Just(ColumnType::Int32),
        Just(ColumnType::Int64),
        Just(ColumnType::Float32),
        Just(ColumnType::Float64),
        (1u8..=38)
            .prop_flat_map(|precision| (Just(precision), 0..=precision as i8))
            .prop_map(|(precision, scale)| ColumnType::Decimal { precision, scale }),
        Just(ColumnType::Text),
        Just(ColumnType::Bytes),
        Just(ColumnType::Date),
        Just(ColumnType::Time),
        Just(ColumnType::Timestamp),
        Just(ColumnType::TimestampTz),
    ]
}

fn source_type(kind: &ColumnType) -> &'static str {
    match kind {
        ColumnType::Text => "jsonb",
        _ => "any",
    }
}

/// Tables with all types, names that are hard for Avro, all identities, and record keys inside and outside of the identity.
pub fn schema() -> impl Strategy<Value = TableSchema> {
    let name = prop_oneof![
        Just("id".to_string()),
        Just("a-b".to_string()),
        Just("a_b".to_string()),
        Just("a b".to_string()),
        Just("1\u{fc}\"'\\".to_string()),
        "\\PC{0,6}",
    ];
    let columns = vec((name, kind(), any::<bool>()), 0..7);
    (columns, 0..3u8, vec(any::<prop::sample::Index>(), 0..3), vec(any::<prop::sample::Index>(), 0..3)).prop_map(
        |(columns, identity, identity_columns, key_columns)| {
            let column = |(at, (name, kind, not_null)): (usize, (String, ColumnType, bool))| Column {
                // Ids have gaps, as after dropped columns, and one needs two bytes as a varint.
                id: ColumnId(at as i32 * 70 + 1),
                name: format!("{name}{}", if at % 2 == 0 { "" } else { "#" }).into(),
                source_type: source_type(&kind).into(),
                kind,
                not_null,
                pg_type: None,
                type_modifier: -1,
                missing_value: (at == 1).then(|| "m".into()),
            };
            let columns = columns.into_iter().enumerate().map(column).collect::<Vec<_>>();
            let pick = |indexes: Vec<prop::sample::Index>| {
                let mut ids = Vec::new();
                for index in indexes.iter().filter(|_| !columns.is_empty()) {
                    let id = columns[index.index(columns.len())].id;
                    if !ids.contains(&id) {
                        ids.push(id);
                    }
                }
                ids
            };
            let identity = match identity {
                0 => Identity::Key { columns: pick(identity_columns) },
                1 => Identity::WholeRow,
                _ => Identity::AppendOnly,
            };
            let record_key = pick(key_columns);
            TableSchema {
                upstream: UpstreamId(16_384),
                name: TableName::new("public", "t\u{fc}r"),
                version: 3,
                columns,
                identity,
                record_key,
            }
        },
    )
}

fn array(kind: &ColumnType, seeds: &[Option<(i128, String)>]) -> ArrayRef {
    use arrow::array::*;
    let numbers = || seeds.iter().map(|seed| seed.as_ref().map(|(n, _)| *n));
    let longs = || numbers().map(|n| n.map(|n| n as i64));
    match kind {
        ColumnType::Bool => Arc::new(numbers().map(|n| n.map(|n| n & 1 == 1)).collect::<BooleanArray>()),
        ColumnType::Int16 => Arc::new(numbers().map(|n| n.map(|n| n as i16)).collect::<Int16Array>()),
        ColumnType::Int32 => Arc::new(numbers().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()),
        ColumnType::Int64 => Arc::new(longs().collect::<Int64Array>()),
        ColumnType::Float32 => Arc::new(numbers().map(|n| n.map(|n| f32::from_bits(n as u32))).collect::<Float32Array>()),
        ColumnType::Float64 => Arc::new(numbers().map(|n| n.map(|n| f64::from_bits(n as u64))).collect::<Float64Array>()),
        ColumnType::Decimal { precision, .. } => {
            let bound = 10i128.pow(u32::from(*precision));
            let values = numbers().map(|n| n.map(|n| n % bound)).collect::<Decimal128Array>();
            Arc::new(values.with_data_type(kind.arrow()))
        }
        ColumnType::Text => Arc::new(seeds.iter().map(|s| s.as_ref().map(|(_, text)| text.as_str())).collect::<StringArray>()),
        ColumnType::Bytes => Arc::new(seeds.iter().map(|s| s.as_ref().map(|(n, _)| n.to_le_bytes())).collect::<BinaryArray>()),
        ColumnType::Date => Arc::new(numbers().map(|n| n.map(|n| n as i32)).collect::<Date32Array>()),
        ColumnType::Time => Arc::new(longs().collect::<Time64MicrosecondArray>()),
        ColumnType::Timestamp => Arc::new(longs().collect::<TimestampMicrosecondArray>()),
        ColumnType::TimestampTz => Arc::new(longs().collect::<TimestampMicrosecondArray>().with_data_type(kind.arrow())),
    }
}

fn seed() -> impl Strategy<Value = Option<(i128, String)>> {
    // Values near each other make keys that stay; some seeds are of full range.
    let number = prop_oneof![(0i128..3), any::<i128>(), any::<i64>().prop_map(i128::from), Just(i128::from(i64::MIN))];
    prop_oneof![1 => Just(None), 4 => (number, "\\PC{0,5}").prop_map(Some)]
}

#[derive(Clone, Debug)]
struct EventSeed {
    op: u8,
    new_tx: bool,
    tx: Tx,
    place: u64,
    order: u32,
    has_old: bool,
    unchanged: Vec<bool>,
}

fn event_seed(columns: usize) -> impl Strategy<Value = EventSeed> {
    let tx =
        (any::<u64>(), any::<u64>(), any::<i64>()).prop_map(|(id, commit_place, us)| Tx { id, commit_place, commit_time_us: us });
    let order = prop_oneof![Just(0u32), 1..300u32, any::<u32>()];
    let unchanged = prop_oneof![2 => Just(vec![false; columns]), 1 => vec(any::<bool>(), columns)];
    (0..7u8, any::<bool>(), tx, any::<u64>(), order, any::<bool>(), unchanged).prop_map(
        |(op, new_tx, tx, place, order, has_old, unchanged)| EventSeed { op, new_tx, tx, place, order, has_old, unchanged },
    )
}

/// Random changes of a random table, of every kind that its identity allows.
pub fn batch() -> impl Strategy<Value = ChangeBatch> {
    schema().prop_flat_map(|schema| {
        let columns = schema.columns.len();
        (0..12usize)
            .prop_flat_map(move |rows| {
                let cells = || vec(vec(seed(), rows), columns);
                (Just(schema.clone()), vec(event_seed(columns), rows), cells(), cells())
            })
            .prop_map(|(schema, events, cells, old_cells)| assemble(schema, &events, cells, old_cells))
    })
}

type Seeds = Vec<Vec<Option<(i128, String)>>>;

fn assemble(schema: TableSchema, events: &[EventSeed], mut cells: Seeds, mut old_cells: Seeds) -> ChangeBatch {
    let in_identity = (0..schema.columns.len()).map(|at| schema.identity_indexes().contains(&at)).collect::<Vec<_>>();
    let (mut ops, mut txs, mut old_rows, mut unchanged) = (Vec::new(), Vec::<(u32, Tx)>::new(), Vec::new(), Vec::new());
    for (row, event) in events.iter().enumerate() {
        let op = match event.op {
            0 => Op::Read,
            1 => Op::Create,
            2..=4 if schema.identity != Identity::AppendOnly => Op::Update,
            5 if schema.identity != Identity::AppendOnly => Op::Delete,
            6 => Op::Truncate,
            _ => Op::Create,
        };
        if op == Op::Update && event.has_old {
            old_rows.push(row as u32);
        }
        for at in 0..schema.columns.len() {
            if op == Op::Truncate || (op == Op::Delete && !in_identity[at]) {
                cells[at][row] = None;
            }
            if !in_identity[at] {
                old_cells[at][row] = None;
            }
        }
        if op == Op::Update && event.unchanged.contains(&true) {
            let ids = (0..schema.columns.len()).filter(|at| event.unchanged[*at]);
            unchanged.push((row as u32, ids.clone().map(|at| schema.columns[at].id).collect()));
            ids.for_each(|at| cells[at][row] = None);
        }
        match txs.last_mut() {
            Some((end, _)) if !event.new_tx => *end += 1,
            _ => txs.push((row as u32 + 1, event.tx)),
        }
        ops.push(op);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(events.len()));
    let build = |cells: &Seeds| {
        let arrays = schema.columns.iter().zip(cells).map(|(c, seeds)| array(&c.kind, seeds)).collect();
        RecordBatch::try_new_with_options(schema.arrow(), arrays, &options).unwrap()
    };
    let rows = build(&cells);
    let whole = build(&old_cells);
    let indexes = UInt32Array::from(old_rows.clone());
    let taken = whole.columns().iter().map(|column| take(column, &indexes, None).unwrap()).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(old_rows.len()));
    let old = (!old_rows.is_empty()).then(|| RecordBatch::try_new_with_options(schema.arrow(), taken, &options).unwrap());
    ChangeBatch {
        rows,
        places: events.iter().map(|e| e.place).collect(),
        orders: events.iter().map(|e| e.order).collect(),
        schema: Arc::new(schema),
        ops,
        txs,
        old,
        old_rows,
        unchanged,
    }
}

/// A batch without events.
pub fn empty_batch(schema: &TableSchema) -> ChangeBatch {
    let arrays = schema.columns.iter().map(|c| new_null_array(&c.kind.arrow(), 0)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(0));
    ChangeBatch {
        rows: RecordBatch::try_new_with_options(schema.arrow(), arrays, &options).unwrap(),
        schema: Arc::new(schema.clone()),
        ops: Vec::new(),
        places: Vec::new(),
        orders: Vec::new(),
        txs: Vec::new(),
        old: None,
        old_rows: Vec::new(),
        unchanged: Vec::new(),
    }
}
