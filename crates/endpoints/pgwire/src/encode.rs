//! Cells of Arrow arrays as Postgres values, text or binary, straight into the send buffer: no value is allocated on the way.

use crate::arrays;
use crate::codes;
use crate::number::{Decimal, put_f32, put_f64, put_i64, put_u64};
use crate::text::{self, DAY_US, PG_EPOCH_DAYS, PG_EPOCH_US, put_date, put_hex, put_interval, put_time, put_timestamp};
use crate::types;
use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use mainstem_types::schema::{QUOTIENT, SOURCE_TYPE_KEY, quotient_scale};
use mainstem_types::{Error, Result};
use std::fmt::Write;

/// For types without a Postgres form.
const OPTIONS: FormatOptions<'static> = FormatOptions::new();

/// One column of one batch, ready to be written cell by cell.
pub(crate) struct Cells<'a> {
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
    oid: u32,
    binary: bool,
    /// A numeric with more places than are shown.
    quotient: bool,
}

pub(crate) enum Kind<'a> {
    Null,
    Bool(&'a BooleanArray),
    /// Integers that are sent as int2, int4, int8 or oid.
    Int8(&'a Int8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    UInt8(&'a UInt8Array),
    UInt16(&'a UInt16Array),
    UInt32(&'a UInt32Array),
    UInt64(&'a UInt64Array),
    Float16(&'a Float16Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal32(&'a Decimal32Array, i8),
    Decimal64(&'a Decimal64Array, i8),
    Decimal128(&'a Decimal128Array, i8),
    Decimal256(&'a Decimal256Array, i8),
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    FixedBinary(&'a FixedSizeBinaryArray),
    Date(&'a Date32Array),
    /// Counts of a unit: times of day, timestamps (also Date64). Value times `.1` divided by `.2` is microseconds.
    Time32(&'a [i32], i64),
    Time64(&'a [i64], i64, i64),
    Timestamp(&'a [i64], i64, i64),
    Duration(&'a [i64], i64, i64),
    Months(&'a IntervalYearMonthArray),
    DayTime(&'a IntervalDayTimeArray),
    MonthDayNano(&'a IntervalMonthDayNanoArray),
    Dictionary(&'a dyn AnyDictionaryArray, Box<Cells<'a>>),
    List(Ranges<'a>, Box<Cells<'a>>),
    Struct(Vec<Cells<'a>>),
    /// Maps, unions and the like, in Arrow's own text.
    Other(&'a dyn Array),
}

/// Where the items of each list are.
pub(crate) enum Ranges<'a> {
    Small(&'a [i32]),
    Large(&'a [i64]),
    Fixed(usize),
}

impl Ranges<'_> {
    pub fn of(&self, row: usize) -> std::ops::Range<usize> {
        match self {
            Self::Small(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::Large(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::Fixed(size) => row * size..(row + 1) * size,
        }
    }
}

/// (multiplier, divisor) to microseconds.
fn scale_us(unit: &TimeUnit) -> (i64, i64) {
    match unit {
        TimeUnit::Second => (1_000_000, 1),
        TimeUnit::Millisecond => (1_000, 1),
        TimeUnit::Microsecond => (1, 1),
        TimeUnit::Nanosecond => (1, 1_000),
    }
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::bug(codes::ENCODE, "a result column could not be written for the client").caused_by(cause)
}

fn out_of_range(kind: &str) -> Error {
    Error::fix(codes::RANGE, format!("a result value is out of range for type {kind}"))
}

impl<'a> Cells<'a> {
    /// `oid` is the column's type on the wire (`types::oid_of` of its field).
    pub fn new(array: &'a dyn Array, oid: u32, binary: bool) -> Result<Self> {
        let nulls = array.logical_nulls().filter(|n| n.null_count() > 0);
        Ok(Self { nulls, kind: kind_of(array, oid, binary)?, oid, binary, quotient: false })
    }

    /// The cells of a result's column, with what its field says of them.
    pub fn of(array: &'a dyn Array, field: &Field, binary: bool) -> Result<Self> {
        let cells = Self::new(array, types::oid_of(field), binary)?;
        let quotient = field.metadata().get(SOURCE_TYPE_KEY).is_some_and(|source| source == QUOTIENT);
        Ok(Self { quotient, ..cells })
    }

    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.nulls.as_ref().is_some_and(|n| n.is_null(row))
    }

    pub fn oid(&self) -> u32 {
        self.oid
    }

    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List(..))
    }

    /// Length and bytes, as in a DataRow; length -1 for NULL.
    pub fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if self.is_null(row) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            return Ok(());
        }
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        self.value(row, out)?;
        let length = i32::try_from(out.len() - at - 4).map_err(|_| out_of_range("text"))?;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// The bytes of a cell that is not NULL.
    pub fn value(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match &self.kind {
            Kind::Null => {}
            Kind::Bool(a) if self.binary => out.push(u8::from(a.value(row))),
            Kind::Bool(a) => out.push(if a.value(row) { b't' } else { b'f' }),
            Kind::Int8(a) => self.integer(i64::from(a.value(row)), out)?,
            Kind::Int16(a) => self.integer(i64::from(a.value(row)), out)?,
            Kind::Int32(a) => self.integer(i64::from(a.value(row)), out)?,
            Kind::Int64(a) => self.integer(a.value(row), out)?,
            Kind::UInt8(a) => self.integer(i64::from(a.value(row)), out)?,
            Kind::UInt16(a) => self.integer(i64::from(a.value(row)), out)?,
            Kind::UInt32(a) => self.integer(i64::from(a.value(row)), out)?,
            Kind::UInt64(a) if self.binary => Decimal::from_i128(i128::from(a.value(row)), 0).put_binary(out),
            Kind::UInt64(a) => put_u64(out, a.value(row)),
            Kind::Float16(a) => self.float4(a.value(row).to_f32(), out),
            Kind::Float32(a) => self.float4(a.value(row), out),
            Kind::Float64(a) if self.binary => out.extend_from_slice(&a.value(row).to_be_bytes()),
            Kind::Float64(a) => put_f64(out, a.value(row)),
            Kind::Decimal32(a, scale) => self.decimal(&Decimal::from_i128(i128::from(a.value(row)), *scale), out),
            Kind::Decimal64(a, scale) => self.decimal(&Decimal::from_i128(i128::from(a.value(row)), *scale), out),
            Kind::Decimal128(a, scale) if self.quotient => {
                let held = u32::from(scale.unsigned_abs());
                let shown = quotient_scale(a.value(row), held);
                self.decimal(&Decimal::from_i128(a.value(row) / 10i128.pow(held - shown), shown as i8), out);
            }
            Kind::Decimal128(a, scale) => self.decimal(&Decimal::from_i128(a.value(row), *scale), out),
            Kind::Decimal256(a, scale) => self.decimal(&Decimal::from_i256(a.value(row), *scale), out),
            Kind::Utf8(a) => self.text(a.value(row), out)?,
            Kind::LargeUtf8(a) => self.text(a.value(row), out)?,
            Kind::Utf8View(a) => self.text(a.value(row), out)?,
            Kind::Binary(a) => self.bytea(a.value(row), out),
            Kind::LargeBinary(a) => self.bytea(a.value(row), out),
            Kind::BinaryView(a) => self.bytea(a.value(row), out),
            Kind::FixedBinary(a) => self.bytea(a.value(row), out),
            Kind::Dictionary(a, values) => {
                let key = dictionary_key(*a, row).ok_or_else(|| failed("dictionary key out of range"))?;
                values.value(key, out)?;
            }
            Kind::List(ranges, items) if self.binary && self.oid != types::TEXT => {
                arrays::put_binary(items, ranges.of(row), out)?;
            }
            Kind::List(ranges, items) => arrays::put_text(items, ranges.of(row), out)?,
            Kind::Struct(fields) => arrays::put_record(fields, row, out)?,
            Kind::Other(array) => {
                let formatter = ArrayFormatter::try_new(*array, &OPTIONS).map_err(failed)?;
                write!(Utf8Sink(out), "{}", formatter.value(row)).map_err(failed)?;
            }
            _ => self.temporal(row, out)?,
        }
        Ok(())
    }

    fn temporal(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match &self.kind {
            Kind::Date(a) => self.date(a.value(row), out),
            Kind::Time32(a, factor) => self.time(i64::from(a[row]) * factor, out),
            Kind::Time64(a, factor, divisor) => self.time(a[row].saturating_mul(*factor) / divisor, out),
            Kind::Timestamp(a, factor, divisor) => {
                let us = a[row].checked_mul(*factor).ok_or_else(|| out_of_range("timestamp"))?.div_euclid(*divisor);
                self.timestamp(us, out)
            }
            Kind::Duration(a, factor, divisor) => {
                let us = a[row].checked_mul(*factor).ok_or_else(|| out_of_range("interval"))? / divisor;
                self.interval(0, 0, us, out);
                Ok(())
            }
            Kind::Months(a) => {
                self.interval(a.value(row), 0, 0, out);
                Ok(())
            }
            Kind::DayTime(a) => {
                let value = a.value(row);
                self.interval(0, value.days, i64::from(value.milliseconds) * 1_000, out);
                Ok(())
            }
            Kind::MonthDayNano(a) => {
                let value = a.value(row);
                self.interval(value.months, value.days, value.nanoseconds / 1_000, out);
                Ok(())
            }
            _ => Err(failed("no form for this array")),
        }
    }

    fn integer(&self, value: i64, out: &mut Vec<u8>) -> Result<()> {
        if !self.binary {
            put_i64(out, value);
            return Ok(());
        }
        match self.oid {
            types::INT2 => out.extend_from_slice(&i16::try_from(value).map_err(|_| out_of_range("smallint"))?.to_be_bytes()),
            types::INT4 => out.extend_from_slice(&i32::try_from(value).map_err(|_| out_of_range("integer"))?.to_be_bytes()),
            // Catalogs hold OIDs in signed integers too.
            types::OID => out.extend_from_slice(&(value as u32).to_be_bytes()),
            _ => out.extend_from_slice(&value.to_be_bytes()),
        }
        Ok(())
    }

    fn float4(&self, value: f32, out: &mut Vec<u8>) {
        if self.binary {
            out.extend_from_slice(&value.to_be_bytes());
        } else {
            put_f32(out, value);
        }
    }

    fn decimal(&self, value: &Decimal, out: &mut Vec<u8>) {
        if self.binary { value.put_binary(out) } else { value.put_text(out) }
    }

    fn text(&self, value: &str, out: &mut Vec<u8>) -> Result<()> {
        match self.oid {
            types::UUID if self.binary => {
                out.extend_from_slice(&text::parse_uuid(value.as_bytes()).ok_or_else(|| out_of_range("uuid"))?);
            }
            types::JSONB if self.binary => {
                out.push(1);
                out.extend_from_slice(value.as_bytes());
            }
            _ => out.extend_from_slice(value.as_bytes()),
        }
        Ok(())
    }

    fn bytea(&self, value: &[u8], out: &mut Vec<u8>) {
        if self.binary {
            out.extend_from_slice(value);
        } else {
            out.extend_from_slice(b"\\x");
            put_hex(out, value);
        }
    }

    fn date(&self, days: i32, out: &mut Vec<u8>) -> Result<()> {
        if !self.binary {
            put_date(out, days);
            return Ok(());
        }
        let days = match days {
            i32::MAX | i32::MIN => days,
            _ => days.checked_sub(PG_EPOCH_DAYS).ok_or_else(|| out_of_range("date"))?,
        };
        out.extend_from_slice(&days.to_be_bytes());
        Ok(())
    }

    fn time(&self, us: i64, out: &mut Vec<u8>) -> Result<()> {
        if !(0..=DAY_US).contains(&us) {
            return Err(out_of_range("time"));
        }
        if self.binary {
            out.extend_from_slice(&us.to_be_bytes());
        } else {
            put_time(out, us);
        }
        Ok(())
    }

    fn timestamp(&self, us: i64, out: &mut Vec<u8>) -> Result<()> {
        if !self.binary {
            put_timestamp(out, us, self.oid == types::TIMESTAMPTZ);
            return Ok(());
        }
        let us = match us {
            i64::MAX | i64::MIN => us,
            _ => us.checked_sub(PG_EPOCH_US).ok_or_else(|| out_of_range("timestamp"))?,
        };
        out.extend_from_slice(&us.to_be_bytes());
        Ok(())
    }

    fn interval(&self, months: i32, days: i32, us: i64, out: &mut Vec<u8>) {
        if self.binary {
            out.extend_from_slice(&us.to_be_bytes());
            out.extend_from_slice(&days.to_be_bytes());
            out.extend_from_slice(&months.to_be_bytes());
        } else {
            put_interval(out, months, days, us);
        }
    }
}

/// Lets `fmt` write into the send buffer.
struct Utf8Sink<'a>(&'a mut Vec<u8>);

impl Write for Utf8Sink<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn dictionary_key(array: &dyn AnyDictionaryArray, row: usize) -> Option<usize> {
    let keys = array.keys();
    macro_rules! key {
        ($($kind:ty),*) => {$(
            if let Some(keys) = keys.as_primitive_opt::<$kind>() {
                return usize::try_from(keys.value(row)).ok();
            }
        )*};
    }
    key!(Int32Type, Int8Type, Int16Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type);
    None
}

fn kind_of<'a>(array: &'a dyn Array, oid: u32, binary: bool) -> Result<Kind<'a>> {
    Ok(match array.data_type() {
        DataType::Null => Kind::Null,
        DataType::Boolean => Kind::Bool(array.as_boolean()),
        DataType::Int8 => Kind::Int8(array.as_primitive()),
        DataType::Int16 => Kind::Int16(array.as_primitive()),
        DataType::Int32 => Kind::Int32(array.as_primitive()),
        DataType::Int64 => Kind::Int64(array.as_primitive()),
        DataType::UInt8 => Kind::UInt8(array.as_primitive()),
        DataType::UInt16 => Kind::UInt16(array.as_primitive()),
        DataType::UInt32 => Kind::UInt32(array.as_primitive()),
        DataType::UInt64 => Kind::UInt64(array.as_primitive()),
        DataType::Float16 => Kind::Float16(array.as_primitive()),
        DataType::Float32 => Kind::Float32(array.as_primitive()),
        DataType::Float64 => Kind::Float64(array.as_primitive()),
        DataType::Decimal32(_, scale) => Kind::Decimal32(array.as_primitive(), *scale),
        DataType::Decimal64(_, scale) => Kind::Decimal64(array.as_primitive(), *scale),
        DataType::Decimal128(_, scale) => Kind::Decimal128(array.as_primitive(), *scale),
        DataType::Decimal256(_, scale) => Kind::Decimal256(array.as_primitive(), *scale),
        DataType::Utf8 => Kind::Utf8(array.as_string()),
        DataType::LargeUtf8 => Kind::LargeUtf8(array.as_string()),
        DataType::Utf8View => Kind::Utf8View(array.as_string_view()),
        DataType::Binary => Kind::Binary(array.as_binary()),
        DataType::LargeBinary => Kind::LargeBinary(array.as_binary()),
        DataType::BinaryView => Kind::BinaryView(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => Kind::FixedBinary(array.as_fixed_size_binary()),
        _ => nested_or_temporal(array, oid, binary)?,
    })
}

fn nested_or_temporal<'a>(array: &'a dyn Array, oid: u32, binary: bool) -> Result<Kind<'a>> {
    let items = |values: &'a ArrayRef, item: &Field| match types::element_of(oid) {
        Some(element) => Cells::new(values, element, binary).map(Box::new),
        None => Cells::new(values, types::oid_of(item), false).map(Box::new),
    };
    Ok(match array.data_type() {
        DataType::Date32 => Kind::Date(array.as_primitive()),
        DataType::Date64 => Kind::Timestamp(array.as_primitive::<Date64Type>().values(), 1_000, 1),
        DataType::Time32(TimeUnit::Second) => Kind::Time32(array.as_primitive::<Time32SecondType>().values(), 1_000_000),
        DataType::Time32(_) => Kind::Time32(array.as_primitive::<Time32MillisecondType>().values(), 1_000),
        DataType::Time64(TimeUnit::Nanosecond) => Kind::Time64(array.as_primitive::<Time64NanosecondType>().values(), 1, 1_000),
        DataType::Time64(_) => Kind::Time64(array.as_primitive::<Time64MicrosecondType>().values(), 1, 1),
        DataType::Timestamp(unit, _) => {
            let (factor, divisor) = scale_us(unit);
            Kind::Timestamp(timestamp_values(array, unit), factor, divisor)
        }
        DataType::Duration(unit) => {
            let (factor, divisor) = scale_us(unit);
            Kind::Duration(duration_values(array, unit), factor, divisor)
        }
        DataType::Interval(IntervalUnit::YearMonth) => Kind::Months(array.as_primitive()),
        DataType::Interval(IntervalUnit::DayTime) => Kind::DayTime(array.as_primitive()),
        DataType::Interval(IntervalUnit::MonthDayNano) => Kind::MonthDayNano(array.as_primitive()),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            Kind::Dictionary(dictionary, Box::new(Cells::new(dictionary.values(), oid, binary)?))
        }
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            Kind::List(Ranges::Small(list.value_offsets()), items(list.values(), item)?)
        }
        DataType::LargeList(item) => {
            let list = array.as_list::<i64>();
            Kind::List(Ranges::Large(list.value_offsets()), items(list.values(), item)?)
        }
        DataType::FixedSizeList(item, size) => {
            let list = array.as_fixed_size_list();
            Kind::List(Ranges::Fixed(usize::try_from(*size).unwrap_or(0)), items(list.values(), item)?)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().zip(fields);
            let cells = columns.map(|(column, field)| Cells::new(column, types::oid_of(field), false));
            Kind::Struct(cells.collect::<Result<_>>()?)
        }
        _ => Kind::Other(array),
    })
}

fn timestamp_values<'a>(array: &'a dyn Array, unit: &TimeUnit) -> &'a [i64] {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    }
}

fn duration_values<'a>(array: &'a dyn Array, unit: &TimeUnit) -> &'a [i64] {
    match unit {
        TimeUnit::Second => array.as_primitive::<DurationSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<DurationMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<DurationMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<DurationNanosecondType>().values(),
    }
}
