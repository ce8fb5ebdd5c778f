//! Records of topics. Checksums and lengths are put right first: what stands behind them is to be reached, not the check.

use bytes::Bytes;
use mainstem_env::Env;
use mainstem_envelope::{Decoder, Schemas};
use mainstem_eventlog::{EventLog, RecordBatchBuilder, Value};
use mainstem_log::{LocalLog, LogSettings};
use mainstem_types::{Barrier, Column, ColumnId, ColumnType, Identity, TableName, TableRecord, TableSchema, UpstreamId};
use std::sync::{Arc, LazyLock};

/// Where the fields of a record batch lie (Kafka's format, "Record Batch").
const LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;

/// Record batches as they are, and as one whole batch.
pub fn batch(bytes: &[u8]) {
    let _ = mainstem_eventlog::records(&Bytes::copy_from_slice(bytes));
    if bytes.len() > ATTRIBUTES_AT {
        let mut whole = bytes.to_vec();
        let length = (bytes.len() - LENGTH_AT - 4) as i32;
        whole[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
        let sum = crc32c::crc32c(&whole[ATTRIBUTES_AT..]);
        whole[CRC_AT..CRC_AT + 4].copy_from_slice(&sum.to_be_bytes());
        let whole = Bytes::from(whole);
        let _ = mainstem_eventlog::records(&whole);
        mainstem_log::decode_any(&whole);
    }
}

/// Values of `_mainstem.barriers` and `_mainstem.tables`.
pub fn control(bytes: &[u8]) {
    let _ = Barrier::decode(bytes);
    let _ = TableRecord::decode(bytes);
}

/// Headers that the decoder reads, chosen by the first byte's bits.
const HEADERS: [&str; 5] =
    ["mainstem.order", "mainstem.unchanged", "mainstem.before", "mainstem.generation", "__debezium.newkey"];

/// An envelope of a table with a column of every type: a first byte that chooses headers, one that says how long each is, their bytes,
/// then the Avro value without its schema id.
pub fn envelope(bytes: &[u8]) {
    let [chosen, length, rest @ ..] = bytes else { return };
    let (mut headers, mut rest) = (Vec::new(), rest);
    for (at, name) in HEADERS.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1) {
        let (value, after) = rest.split_at(rest.len().min(usize::from(*length) * usize::from(at != 4)));
        headers.push((*name, value));
        rest = after;
    }
    let (schemas, id) = &*SCHEMAS;
    let value: Vec<u8> = [0].iter().chain(&id.to_be_bytes()).chain(rest).copied().collect();
    let mut builder = RecordBatchBuilder::new(0);
    builder.push(0, None, Some(&value), &headers);
    let _ = Decoder::new(schemas.clone()).decode(&builder.finish(), 0, i64::MAX);
}

/// Schemas that know one table, in a log of their own, and the id of its value schema.
static SCHEMAS: LazyLock<(Arc<Schemas>, i32)> = LazyLock::new(|| {
    let made = || -> Result<_, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let log = LocalLog::open(Env::real(), dir.path(), LogSettings::default())?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let schemas = Schemas::load(log.clone()).await?;
            let (ids, records) =
                schemas.ids("shop.public.fuzzed", &schema(), &mainstem_postgres::connector().spec().source_block)?;
            log.append(records.into_iter().collect(), None).await?;
            schemas.refresh().await?;
            Ok((Arc::new(schemas), ids.value))
        })
    };
    made().unwrap_or_else(|e| panic!("no log for the schemas: {e}"))
});

fn schema() -> TableSchema {
    let kinds = [
        ColumnType::Int32,
        ColumnType::Bool,
        ColumnType::Int16,
        ColumnType::Int64,
        ColumnType::Float32,
        ColumnType::Float64,
        ColumnType::Decimal { precision: 38, scale: 10 },
        ColumnType::Text,
        ColumnType::Bytes,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
    ];
    let column = |(at, kind): (usize, ColumnType)| Column {
        id: ColumnId(at as i32 + 1),
        name: format!("c{at}").into(),
        kind,
        not_null: at == 0,
        source_type: "any".into(),
        pg_type: None,
        type_modifier: -1,
        missing_value: None,
    };
    TableSchema {
        upstream: UpstreamId(1),
        name: TableName::new("public", "fuzzed"),
        version: 0,
        columns: kinds.into_iter().enumerate().map(column).collect(),
        identity: Identity::Key { columns: vec![ColumnId(1)] },
        record_key: vec![ColumnId(1)],
    }
}
