//! From identity columns to 128-bit keys, a column at a time.
//!
//! Identities of fixed width that fit into 15 bytes are kept exactly, in an order that follows the values (so that keys that come in
//! order make runs that hardly overlap); all others are xxh3-128 over an unambiguous encoding, with a seed of the data directory's own.

use crate::codes;
use arrow::array::{Array, AsArray, BinaryArray, BinaryViewArray, BooleanArray, RecordBatch, StringArray, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimeUnit, TimestampMicrosecondType,
};
use mainstem_types::{ColumnType, Error, Identity, Result, TableSchema};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// Makes keys of one table's rows.
#[derive(Clone, Debug)]
pub(crate) struct KeyCodec {
    /// Indexes of the identity's columns in the table's schema.
    pub columns: Vec<usize>,
    exact: bool,
    seed: u64,
    /// Tells runs of other identities or seeds apart.
    pub fingerprint: u64,
}

enum Cells<'a> {
    Bool(&'a BooleanArray),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    I128(&'a [i128]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Str(&'a StringArray),
    StrView(&'a StringViewArray),
    Bin(&'a BinaryArray),
    BinView(&'a BinaryViewArray),
}

struct KeyColumn<'a> {
    cells: Cells<'a>,
    nulls: Option<&'a NullBuffer>,
    /// Bytes in an exact key; 0 = not of fixed width.
    width: u32,
}

fn width(kind: &ColumnType) -> Option<u32> {
    match kind {
        ColumnType::Bool => Some(1),
        ColumnType::Int16 => Some(2),
        ColumnType::Int32 | ColumnType::Date => Some(4),
        ColumnType::Int64 | ColumnType::Time | ColumnType::Timestamp | ColumnType::TimestampTz => Some(8),
        // Floats have more than one pattern per value only for zero and NaN, and are no sensible keys: hashed like the rest.
        ColumnType::Float32 | ColumnType::Float64 | ColumnType::Decimal { .. } | ColumnType::Text | ColumnType::Bytes => None,
    }
}

impl KeyCodec {
    /// None for a table whose rows are never looked up.
    pub fn new(schema: &TableSchema, seed: u64) -> Option<Self> {
        if schema.identity == Identity::AppendOnly {
            return None;
        }
        let columns = schema.identity_indexes();
        let widths: Option<u32> = columns.iter().map(|at| width(&schema.columns[*at].kind)).sum();
        let exact = columns.len() <= 8 && widths.is_some_and(|w| w <= 15);
        let mut form = vec![u8::from(exact)];
        columns.iter().for_each(|at| form.extend_from_slice(&schema.columns[*at].id.0.to_le_bytes()));
        let fingerprint = xxh3_64_with_seed(&form, seed);
        Some(Self { columns, exact, seed, fingerprint })
    }

    /// The keys of all rows of a batch that has the table's columns.
    pub fn keys(&self, rows: &RecordBatch) -> Result<Vec<u128>> {
        let arrays: Vec<&dyn Array> = self.columns.iter().map(|at| rows.column(*at).as_ref()).collect();
        self.keys_of(&arrays, rows.num_rows())
    }

    /// The keys of rows given as the identity's columns alone, in its order.
    pub fn keys_of(&self, arrays: &[&dyn Array], rows: usize) -> Result<Vec<u128>> {
        let columns = arrays.iter().map(|a| key_column(*a)).collect::<Result<Vec<_>>>()?;
        Ok(if self.exact { exact_keys(&columns, rows) } else { hashed_keys(&columns, rows, self.seed) })
    }
}

fn key_column(array: &dyn Array) -> Result<KeyColumn<'_>> {
    let (cells, width) = match array.data_type() {
        DataType::Boolean => (Cells::Bool(array.as_boolean()), 1),
        DataType::Int16 => (Cells::I16(array.as_primitive::<Int16Type>().values()), 2),
        DataType::Int32 => (Cells::I32(array.as_primitive::<Int32Type>().values()), 4),
        DataType::Date32 => (Cells::I32(array.as_primitive::<Date32Type>().values()), 4),
        DataType::Int64 => (Cells::I64(array.as_primitive::<Int64Type>().values()), 8),
        DataType::Time64(TimeUnit::Microsecond) => (Cells::I64(array.as_primitive::<Time64MicrosecondType>().values()), 8),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (Cells::I64(array.as_primitive::<TimestampMicrosecondType>().values()), 8)
        }
        DataType::Decimal128(_, _) => (Cells::I128(array.as_primitive::<Decimal128Type>().values()), 0),
        DataType::Float32 => (Cells::F32(array.as_primitive::<Float32Type>().values()), 0),
        DataType::Float64 => (Cells::F64(array.as_primitive::<Float64Type>().values()), 0),
        DataType::Utf8 => (Cells::Str(array.as_string()), 0),
        DataType::Utf8View => (Cells::StrView(array.as_string_view()), 0),
        DataType::Binary => (Cells::Bin(array.as_binary()), 0),
        DataType::BinaryView => (Cells::BinView(array.as_binary_view()), 0),
        other => return Err(Error::bug(codes::MISFIT, format!("a key column has the Arrow type {other}, which no column has"))),
    };
    Ok(KeyColumn { cells, nulls: array.nulls(), width })
}

fn exact_keys(columns: &[KeyColumn<'_>], rows: usize) -> Vec<u128> {
    let mut keys = vec![0u128; rows];
    let mut nulls = vec![0u8; if columns.iter().any(|c| c.nulls.is_some()) { rows } else { 0 }];
    for (number, column) in columns.iter().enumerate() {
        let bits = column.width * 8;
        match &column.cells {
            Cells::Bool(cells) => (0..rows).for_each(|row| keys[row] = keys[row] << bits | u128::from(cells.value(row))),
            Cells::I16(cells) => keys.iter_mut().zip(*cells).for_each(|(k, v)| *k = *k << bits | (*v as u16 ^ 1 << 15) as u128),
            Cells::I32(cells) => keys.iter_mut().zip(*cells).for_each(|(k, v)| *k = *k << bits | (*v as u32 ^ 1 << 31) as u128),
            Cells::I64(cells) => keys.iter_mut().zip(*cells).for_each(|(k, v)| *k = *k << bits | (*v as u64 ^ 1 << 63) as u128),
            _ => {}
        }
        let Some(valid) = column.nulls else { continue };
        for row in (0..rows).filter(|row| valid.is_null(*row)) {
            keys[row] &= !0 << bits;
            nulls[row] |= 1 << number;
        }
    }
    if nulls.is_empty() {
        keys.iter_mut().for_each(|key| *key <<= 8);
    } else {
        keys.iter_mut().zip(nulls).for_each(|(key, null)| *key = *key << 8 | u128::from(null));
    }
    keys
}

fn hashed_keys(columns: &[KeyColumn<'_>], rows: usize, seed: u64) -> Vec<u128> {
    let mut scratch = Vec::with_capacity(256);
    let mut keys = Vec::with_capacity(rows);
    for row in 0..rows {
        scratch.clear();
        for column in columns {
            if column.nulls.is_some_and(|n| n.is_null(row)) {
                scratch.push(0);
            } else {
                scratch.push(1);
                put(&mut scratch, &column.cells, row);
            }
        }
        keys.push(xxh3_128_with_seed(&scratch, seed));
    }
    keys
}

fn put(out: &mut Vec<u8>, cells: &Cells<'_>, row: usize) {
    let variable = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match cells {
        Cells::Bool(cells) => out.push(u8::from(cells.value(row))),
        Cells::I16(cells) => out.extend_from_slice(&cells[row].to_le_bytes()),
        Cells::I32(cells) => out.extend_from_slice(&cells[row].to_le_bytes()),
        Cells::I64(cells) => out.extend_from_slice(&cells[row].to_le_bytes()),
        Cells::I128(cells) => out.extend_from_slice(&cells[row].to_le_bytes()),
        Cells::F32(cells) => out.extend_from_slice(&cells[row].to_le_bytes()),
        Cells::F64(cells) => out.extend_from_slice(&cells[row].to_le_bytes()),
        Cells::Str(cells) => variable(out, cells.value(row).as_bytes()),
        Cells::StrView(cells) => variable(out, cells.value(row).as_bytes()),
        Cells::Bin(cells) => variable(out, cells.value(row)),
        Cells::BinView(cells) => variable(out, cells.value(row)),
    }
}
