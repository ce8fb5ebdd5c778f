//! What encoding costs per row, for a narrow table (pgbench_accounts) in small and large transactions; compression apart. Prints
//! nanoseconds; for profiling by hand, not a test.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a development tool measures with the real clock")]

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use mainstem_envelope::{EncodeContext, SchemaIds, encode};
use mainstem_types::source_block::SourceBlock;
use mainstem_types::{
    ChangeBatch, Column, ColumnId, ColumnType, Identity, Op, SourceName, TableName, TableSchema, Tx, UpstreamId,
};
use std::sync::Arc;
use std::time::Instant;

static BLOCK: SourceBlock = SourceBlock::plain("timing", "mainstem.timing");

/// As many as a pipeline has in one batch.
const ROWS: usize = 8_000;

fn column(id: i32, name: &str, kind: ColumnType) -> Column {
    let not_null = id == 1;
    Column {
        id: ColumnId(id),
        name: name.into(),
        kind,
        not_null,
        source_type: "int4".into(),
        pg_type: None,
        type_modifier: -1,
        missing_value: None,
    }
}

fn batch(rows_per_tx: usize, op: Op) -> ChangeBatch {
    let number = || column(0, "", ColumnType::Int32).kind;
    let schema = TableSchema {
        upstream: UpstreamId(1),
        name: TableName::new("public", "pgbench_accounts"),
        version: 0,
        columns: vec![
            column(1, "aid", number()),
            column(2, "bid", number()),
            column(3, "abalance", number()),
            column(4, "filler", ColumnType::Text),
        ],
        identity: Identity::Key { columns: vec![ColumnId(1)] },
        record_key: vec![ColumnId(1)],
    };
    let filler = " ".repeat(84);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(0..ROWS as i32)),
        Arc::new(Int32Array::from_iter_values((0..ROWS as i32).map(|n| n % 20))),
        Arc::new(Int32Array::from_iter_values((0..ROWS as i32).map(|n| n.wrapping_mul(7919) % 5000))),
        Arc::new(StringArray::from_iter_values((0..ROWS).map(|_| filler.as_str()))),
    ];
    let tx = |at: usize| Tx {
        id: 7_000 + at as u64,
        commit_place: (3 << 32) + at as u64 * 412,
        commit_time_us: 1_760_000_000_000_000 + at as i64 * 731,
    };
    ChangeBatch {
        rows: RecordBatch::try_new(schema.arrow(), columns).unwrap(),
        schema: Arc::new(schema),
        ops: vec![op; ROWS],
        places: (0..ROWS as u64).map(|n| (3 << 32) + n * 103).collect(),
        orders: (0..ROWS).map(|n| (n % rows_per_tx) as u32).collect(),
        txs: (0..ROWS / rows_per_tx).map(|at| (((at + 1) * rows_per_tx) as u32, tx(at))).collect(),
        old: None,
        old_rows: Vec::new(),
        unchanged: Vec::new(),
    }
}

fn main() {
    let source = SourceName::new("shop").unwrap();
    let ids = SchemaIds { key: Some(1), value: 2 };
    let context = EncodeContext {
        source: &source,
        block: &BLOCK,
        database: "bench",
        topic: "shop.public.a",
        ids,
        now_ms: 1_760_000_000_123,
    };
    for (rows_per_tx, op) in [(1, Op::Update), (4, Op::Update), (ROWS, Op::Update), (ROWS, Op::Read)] {
        let batch = batch(rows_per_tx, op);
        let times = (0..200).map(|_| {
            let begin = Instant::now();
            let part = std::hint::black_box(encode(&context, &batch).unwrap());
            (begin.elapsed().as_nanos() as f64 / ROWS as f64, part.batches.len() / ROWS)
        });
        let (best, bytes) = times.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        println!(
            "{rows_per_tx:>6} rows per transaction, op {}: {best:.0} ns per row, compression included ({bytes} B)",
            op.code()
        );
    }
}
