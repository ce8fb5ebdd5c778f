//! Change events of one table as Arrow columns, in commit order: what flows from a connector to the log and to live tables.

use crate::error::{Code, Error, Result};
use crate::ids::{ColumnId, Generation, TableId};
use crate::schema::TableSchema;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use std::sync::Arc;

/// What happened to a row; the codes are Debezium's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Read by a snapshot.
    Read = b'r',
    Create = b'c',
    Update = b'u',
    Delete = b'd',
    /// The whole table was emptied; its `rows` row is all NULL.
    Truncate = b't',
}

impl Op {
    pub fn code(self) -> &'static str {
        match self {
            Op::Read => "r",
            Op::Create => "c",
            Op::Update => "u",
            Op::Delete => "d",
            Op::Truncate => "t",
        }
    }

    pub fn from_code(code: &[u8]) -> Option<Self> {
        match code {
            b"r" => Some(Op::Read),
            b"c" => Some(Op::Create),
            b"u" => Some(Op::Update),
            b"d" => Some(Op::Delete),
            b"t" => Some(Op::Truncate),
            _ => None,
        }
    }
}

/// The source transaction of a run of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tx {
    /// Top-level transaction id, widened so that it never wraps (Postgres xid8). 0 for snapshot rows.
    pub id: u64,
    /// Where the commit lies in the source's log. For snapshot rows: the snapshot's place.
    pub commit_place: u64,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub commit_time_us: i64,
}

/// Change events of one table, columnar.
///
/// `rows` has one row per event, in the schema's column order and Arrow types (`TableSchema::arrow`):
/// the new row for `Read`, `Create`, `Update`; the old identity columns (others NULL), or under FULL the whole old row, for
/// `Delete`; all NULL for `Truncate`.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    pub schema: Arc<TableSchema>,
    pub rows: RecordBatch,
    pub ops: Vec<Op>,
    /// Place of each event in the source's log. As long as `ops`.
    pub places: Vec<u64>,
    /// Position of each event within its transaction, over all tables, from 0. As long as `ops`.
    pub orders: Vec<u32>,
    /// Runs of rows of the same transaction: (index one past the run's last row, transaction). Ends with `ops.len()`.
    pub txs: Vec<(u32, Tx)>,
    /// Old images of updates that carried one (a changed key: identity columns only; FULL: whole row). `old_rows[i]` is the
    /// event's index in `rows`, ascending; row i of `old` is its old image. An update without one kept its identity.
    pub old: Option<RecordBatch>,
    pub old_rows: Vec<u32>,
    /// Events whose new row lacks values that did not change (TOAST): (event index ascending, their columns). The cells are NULL
    /// in `rows` and the old values stay.
    pub unchanged: Vec<(u32, Vec<ColumnId>)>,
}

impl ChangeBatch {
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Memory of the Arrow buffers and the per-row facts, bytes; used for back-pressure, not for accounting to the byte.
    pub fn bytes(&self) -> usize {
        self.rows.get_array_memory_size() + self.old.as_ref().map_or(0, RecordBatch::get_array_memory_size) + self.ops.len() * 13
    }

    /// The transaction of event `row`.
    pub fn tx(&self, row: usize) -> Tx {
        let run = self.txs.partition_point(|(end, _)| *end as usize <= row);
        self.txs[run].1
    }

    /// The old image of event `row`: (batch, row in it).
    pub fn old_image(&self, row: usize) -> Option<(&RecordBatch, usize)> {
        let at = self.old_rows.binary_search(&(row as u32)).ok()?;
        self.old.as_ref().map(|old| (old, at))
    }

    pub fn unchanged_of(&self, row: usize) -> &[ColumnId] {
        match self.unchanged.binary_search_by_key(&(row as u32), |(r, _)| *r) {
            Ok(at) => &self.unchanged[at].1,
            Err(_) => &[],
        }
    }
}

impl ChangeBatch {
    /// The events for which `keep` says so, with all that belongs to them, in the same order.
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Result<ChangeBatch> {
        let mask: Vec<bool> = (0..self.len()).map(keep).collect();
        if mask.iter().all(|k| *k) {
            return Ok(self.clone());
        }
        // New index of each kept event.
        let mut next = 0;
        let places: Vec<Option<u32>> = mask
            .iter()
            .map(|kept| {
                kept.then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let picked = |values: &[u64]| values.iter().zip(&mask).filter(|(_, k)| **k).map(|(v, _)| *v).collect();
        let mut txs: Vec<(u32, Tx)> = Vec::new();
        for row in (0..self.len()).filter(|row| mask[*row]) {
            let tx = self.tx(row);
            let end = places[row].map_or(0, |p| p + 1);
            match txs.last_mut() {
                Some(last) if last.1 == tx => last.0 = end,
                _ => txs.push((end, tx)),
            }
        }
        let old_mask: Vec<bool> = self.old_rows.iter().map(|row| mask[*row as usize]).collect();
        Ok(ChangeBatch {
            schema: self.schema.clone(),
            rows: filtered(&self.rows, mask.clone())?,
            ops: self.ops.iter().zip(&mask).filter(|(_, k)| **k).map(|(op, _)| *op).collect(),
            places: picked(&self.places),
            orders: self.orders.iter().zip(&mask).filter(|(_, k)| **k).map(|(o, _)| *o).collect(),
            txs,
            old: self.old.as_ref().map(|old| filtered(old, old_mask)).transpose()?,
            old_rows: self.old_rows.iter().filter_map(|row| places[*row as usize]).collect(),
            unchanged: self
                .unchanged
                .iter()
                .filter_map(|(row, columns)| Some((places[*row as usize]?, columns.clone())))
                .collect(),
        })
    }
}

fn filtered(rows: &RecordBatch, mask: Vec<bool>) -> Result<RecordBatch> {
    filter_record_batch(rows, &BooleanArray::from(mask))
        .map_err(|e| Error::bug(BATCH_BROKEN, "a change batch's rows and events are not of one length").caused_by(e))
}

/// A change batch that contradicts itself: ours to mend.
pub const BATCH_BROKEN: Code = Code::new("CORE-001", "XX000");

/// A change batch that knows its place in our house. All of its rows belong to one generation.
#[derive(Clone, Debug)]
pub struct TableBatch {
    pub table: TableId,
    pub generation: Generation,
    pub changes: Arc<ChangeBatch>,
}
