//! Columns of a change batch as Avro values, both ways: a writer or builder per column is chosen once per batch, then values go
//! straight between Arrow's buffers and the record's bytes.

use crate::avro::{Bad, Reader, put_bytes, put_decimal, put_long};
use crate::codes;
use crate::zoned::{parse_zoned, put_zoned};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, PrimitiveBuilder,
    RecordBatch, RecordBatchOptions, StringArray, StringBuilder,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use mainstem_types::{ColumnType, Error, Result, TableSchema};
use std::sync::Arc;

/// What readers who do not know our headers see in place of a value that did not change and was not sent (Debezium's default).
pub(crate) const PLACEHOLDER: &[u8] = b"__debezium_unavailable_value";

enum Values<'a> {
    Bool(&'a BooleanArray),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    /// Also times and timestamps.
    Int64(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Decimal(&'a [i128]),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Zoned(&'a [i64]),
}

/// One column to be written.
pub(crate) struct Cells<'a> {
    values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Cells<'a> {
    fn of(kind: &ColumnType, array: &'a ArrayRef) -> Option<Self> {
        fn numbers<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<&[T::Native]> {
            array.as_primitive_opt::<T>().map(|a| &a.values()[..])
        }
        if *array.data_type() != kind.arrow() {
            return None;
        }
        let values = match kind {
            ColumnType::Bool => Values::Bool(array.as_boolean_opt()?),
            ColumnType::Int16 => Values::Int16(numbers::<Int16Type>(array)?),
            ColumnType::Int32 => Values::Int32(numbers::<Int32Type>(array)?),
            ColumnType::Int64 => Values::Int64(numbers::<Int64Type>(array)?),
            ColumnType::Float32 => Values::Float32(numbers::<Float32Type>(array)?),
            ColumnType::Float64 => Values::Float64(numbers::<Float64Type>(array)?),
            ColumnType::Decimal { .. } => Values::Decimal(numbers::<Decimal128Type>(array)?),
            ColumnType::Text => Values::Text(array.as_string_opt::<i32>()?),
            ColumnType::Bytes => Values::Bytes(array.as_binary_opt::<i32>()?),
            ColumnType::Date => Values::Int32(numbers::<Date32Type>(array)?),
            ColumnType::Time => Values::Int64(numbers::<Time64MicrosecondType>(array)?),
            ColumnType::Timestamp => Values::Int64(numbers::<TimestampMicrosecondType>(array)?),
            ColumnType::TimestampTz => Values::Zoned(numbers::<TimestampMicrosecondType>(array)?),
        };
        Some(Self { values, nulls: array.nulls() })
    }

    #[inline]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// The value alone; the cell must not be NULL.
    #[inline]
    pub(crate) fn put_value(&self, out: &mut Vec<u8>, row: usize) {
        match &self.values {
            Values::Bool(array) => out.push(u8::from(array.value(row))),
            Values::Int16(numbers) => put_long(out, i64::from(numbers[row])),
            Values::Int32(numbers) => put_long(out, i64::from(numbers[row])),
            Values::Int64(numbers) => put_long(out, numbers[row]),
            Values::Float32(numbers) => out.extend_from_slice(&numbers[row].to_le_bytes()),
            Values::Float64(numbers) => out.extend_from_slice(&numbers[row].to_le_bytes()),
            Values::Decimal(numbers) => put_decimal(out, numbers[row]),
            Values::Text(array) => put_bytes(out, array.value(row).as_bytes()),
            Values::Bytes(array) => put_bytes(out, array.value(row)),
            Values::Zoned(numbers) => put_zoned(out, numbers[row]),
        }
    }

    /// The cell as a union with null.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>, row: usize) {
        if self.is_null(row) {
            out.push(0);
        } else {
            out.push(2);
            self.put_value(out, row);
        }
    }

    fn put_unchanged(&self, out: &mut Vec<u8>) {
        match &self.values {
            Values::Text(_) | Values::Bytes(_) => {
                out.push(2);
                put_bytes(out, PLACEHOLDER);
            }
            _ => out.push(0),
        }
    }
}

/// The columns of a record batch to be written.
pub(crate) struct Image<'a> {
    pub columns: Vec<Cells<'a>>,
}

impl<'a> Image<'a> {
    /// Checks that the batch has the schema's columns.
    pub(crate) fn of(schema: &TableSchema, rows: &'a RecordBatch) -> Result<Self> {
        let columns =
            schema.columns.iter().zip(rows.columns()).map(|(c, array)| Cells::of(&c.kind, array)).collect::<Option<Vec<_>>>();
        match columns {
            Some(columns) if columns.len() == schema.columns.len() && columns.len() == rows.num_columns() => Ok(Self { columns }),
            _ => Err(Error::bug(
                codes::BAD_BATCH,
                format!("the arrays of a change batch of {} are not those of its schema's columns", schema.name),
            )),
        }
    }

    /// A row as a `Value` record.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>, row: usize) {
        for column in &self.columns {
            column.put(out, row);
        }
    }

    /// The same with a placeholder in the columns that did not change.
    pub(crate) fn put_masked(&self, out: &mut Vec<u8>, row: usize, unchanged: &[bool]) {
        for (column, unchanged) in self.columns.iter().zip(unchanged) {
            if *unchanged { column.put_unchanged(out) } else { column.put(out, row) }
        }
    }
}

enum Builder {
    Bool(BooleanBuilder),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Decimal(PrimitiveBuilder<Decimal128Type>, DataType),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Zoned(PrimitiveBuilder<TimestampMicrosecondType>, DataType),
}

impl Builder {
    fn of(kind: &ColumnType) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnType::Int16 => Self::Int16(PrimitiveBuilder::new()),
            ColumnType::Int32 => Self::Int32(PrimitiveBuilder::new()),
            ColumnType::Int64 => Self::Int64(PrimitiveBuilder::new()),
            ColumnType::Float32 => Self::Float32(PrimitiveBuilder::new()),
            ColumnType::Float64 => Self::Float64(PrimitiveBuilder::new()),
            ColumnType::Decimal { .. } => Self::Decimal(PrimitiveBuilder::new(), kind.arrow()),
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::new()),
            ColumnType::Date => Self::Date(PrimitiveBuilder::new()),
            ColumnType::Time => Self::Time(PrimitiveBuilder::new()),
            ColumnType::Timestamp => Self::Timestamp(PrimitiveBuilder::new()),
            ColumnType::TimestampTz => Self::Zoned(PrimitiveBuilder::new(), kind.arrow()),
        }
    }

    fn null(&mut self) {
        match self {
            Self::Bool(b) => b.append_null(),
            Self::Int16(b) => b.append_null(),
            Self::Int32(b) => b.append_null(),
            Self::Int64(b) => b.append_null(),
            Self::Float32(b) => b.append_null(),
            Self::Float64(b) => b.append_null(),
            Self::Decimal(b, _) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
            Self::Timestamp(b) | Self::Zoned(b, _) => b.append_null(),
        }
    }

    /// Reads a union with null.
    fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        const RANGE: Bad = Bad("a number is out of its column's range");
        if !from.branch()? {
            self.null();
            return Ok(());
        }
        match self {
            Self::Bool(b) => b.append_value(match from.fixed::<1>()? {
                [0] => false,
                [1] => true,
                _ => return Err(Bad("a boolean is neither 0 nor 1")),
            }),
            Self::Int16(b) => b.append_value(i16::try_from(from.long()?).map_err(|_| RANGE)?),
            Self::Int32(b) => b.append_value(i32::try_from(from.long()?).map_err(|_| RANGE)?),
            Self::Int64(b) => b.append_value(from.long()?),
            Self::Float32(b) => b.append_value(f32::from_le_bytes(from.fixed()?)),
            Self::Float64(b) => b.append_value(f64::from_le_bytes(from.fixed()?)),
            Self::Decimal(b, _) => b.append_value(from.decimal()?),
            Self::Text(b) => b.append_value(std::str::from_utf8(from.bytes()?).map_err(|_| Bad("a text is not UTF-8"))?),
            Self::Bytes(b) => b.append_value(from.bytes()?),
            Self::Date(b) => b.append_value(i32::try_from(from.long()?).map_err(|_| RANGE)?),
            Self::Time(b) => b.append_value(from.long()?),
            Self::Timestamp(b) => b.append_value(from.long()?),
            Self::Zoned(b, _) => b.append_value(parse_zoned(from.bytes()?)?),
        }
        Ok(())
    }

    /// Passes over a union with null.
    fn skip(&self, from: &mut Reader<'_>) -> Result<(), Bad> {
        if !from.branch()? {
            return Ok(());
        }
        match self {
            Self::Bool(_) => from.take(1).map(drop),
            Self::Float32(_) => from.take(4).map(drop),
            Self::Float64(_) => from.take(8).map(drop),
            Self::Int16(_) | Self::Int32(_) | Self::Int64(_) | Self::Date(_) | Self::Time(_) | Self::Timestamp(_) => {
                from.varint().map(drop)
            }
            Self::Decimal(..) | Self::Text(_) | Self::Bytes(_) | Self::Zoned(..) => from.bytes().map(drop),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Bool(mut b) => Arc::new(b.finish()),
            Self::Int16(mut b) => Arc::new(b.finish()),
            Self::Int32(mut b) => Arc::new(b.finish()),
            Self::Int64(mut b) => Arc::new(b.finish()),
            Self::Float32(mut b) => Arc::new(b.finish()),
            Self::Float64(mut b) => Arc::new(b.finish()),
            Self::Decimal(mut b, kind) => Arc::new(b.finish().with_data_type(kind)),
            Self::Text(mut b) => Arc::new(b.finish()),
            Self::Bytes(mut b) => Arc::new(b.finish()),
            Self::Date(mut b) => Arc::new(b.finish()),
            Self::Time(mut b) => Arc::new(b.finish()),
            Self::Timestamp(mut b) => Arc::new(b.finish()),
            Self::Zoned(mut b, kind) => Arc::new(b.finish().with_data_type(kind)),
        }
    }
}

/// Builds a record batch out of `Value` records.
pub(crate) struct Rows {
    builders: Vec<Builder>,
    rows: usize,
}

impl Rows {
    pub(crate) fn new(schema: &TableSchema) -> Self {
        Self { builders: schema.columns.iter().map(|c| Builder::of(&c.kind)).collect(), rows: 0 }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        self.rows += 1;
        self.builders.iter_mut().try_for_each(|builder| builder.read(from))
    }

    /// Cells under the mask become NULL whatever they say.
    pub(crate) fn read_masked(&mut self, from: &mut Reader<'_>, unchanged: &[bool]) -> Result<(), Bad> {
        self.rows += 1;
        for (builder, unchanged) in self.builders.iter_mut().zip(unchanged) {
            if *unchanged {
                builder.skip(from)?;
                builder.null();
            } else {
                builder.read(from)?;
            }
        }
        Ok(())
    }

    pub(crate) fn skip(&self, from: &mut Reader<'_>) -> Result<(), Bad> {
        self.builders.iter().try_for_each(|builder| builder.skip(from))
    }

    pub(crate) fn nulls(&mut self) {
        self.rows += 1;
        self.builders.iter_mut().for_each(Builder::null);
    }

    pub(crate) fn finish(self, schema: &TableSchema) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let columns = self.builders.into_iter().map(Builder::finish).collect();
        RecordBatch::try_new_with_options(schema.arrow(), columns, &options)
            .map_err(|e| Error::bug(codes::BAD_BATCH, format!("the rows of {} do not form a batch", schema.name)).caused_by(e))
    }
}
