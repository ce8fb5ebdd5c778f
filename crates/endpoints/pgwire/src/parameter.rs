//! Parameters of a Bind message, text or binary, as one-row Arrow arrays.

use crate::arrays;
use crate::codes;
use crate::message::Fields;
use crate::number::{numeric_text, parse_decimal};
use crate::text::{self, PG_EPOCH_DAYS, PG_EPOCH_US};
use crate::types;
use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::*;
use bytes::Bytes;
use mainstem_types::{Error, Result};
use std::sync::Arc;

/// The OID under which the client sent it, the engine's type for it, and its number for messages.
pub(crate) struct Slot<'a> {
    pub oid: u32,
    pub kind: &'a DataType,
    pub number: usize,
    pub binary: bool,
}

impl Slot<'_> {
    fn text_error(&self) -> Error {
        Error::fix(codes::PARAMETER_TEXT, format!("invalid input syntax for parameter ${} of type {}", self.number, self.kind))
    }

    fn binary_error(&self) -> Error {
        Error::fix(
            codes::PARAMETER_BINARY,
            format!("incorrect binary data format in parameter ${} of type {}", self.number, self.kind),
        )
    }

    /// The value as an array of exactly `kind`. None is NULL.
    pub fn read(&self, value: Option<&Bytes>) -> Result<ArrayRef> {
        let Some(value) = value else { return Ok(new_null_array(self.kind, 1)) };
        if let DataType::List(item) = self.kind {
            return self.list(item, value);
        }
        if self.binary { self.read_binary(value) } else { self.read_text(value) }
    }

    fn read_text(&self, value: &[u8]) -> Result<ArrayRef> {
        let raw = std::str::from_utf8(value).map_err(|_| Error::fix(codes::ENCODING, "a parameter is not valid UTF-8"))?;
        let text = raw.trim();
        let wrong = || self.text_error();
        macro_rules! number {
            ($array:ident) => {
                Arc::new($array::from_iter_values([text.parse().map_err(|_| wrong())?]))
            };
        }
        Ok(match self.kind {
            DataType::Boolean => Arc::new(BooleanArray::from(vec![parse_bool(text).ok_or_else(wrong)?])),
            DataType::Int8 => number!(Int8Array),
            DataType::Int16 => number!(Int16Array),
            DataType::Int32 => number!(Int32Array),
            DataType::Int64 => number!(Int64Array),
            DataType::UInt8 => number!(UInt8Array),
            DataType::UInt16 => number!(UInt16Array),
            DataType::UInt32 => number!(UInt32Array),
            DataType::UInt64 => number!(UInt64Array),
            DataType::Float32 => number!(Float32Array),
            DataType::Float64 => number!(Float64Array),
            DataType::Decimal128(precision, scale) => self.decimal(text, *precision, *scale)?,
            DataType::Decimal256(precision, scale) => {
                let value = parse_decimal(text, (*precision).min(38), *scale)?;
                self.exact(Arc::new(Decimal256Array::from_iter_values([i256::from_i128(value)])), |a| {
                    a.with_precision_and_scale(*precision, *scale)
                })?
            }
            DataType::Date32 => Arc::new(Date32Array::from_iter_values([text::parse_date(text)?])),
            DataType::Date64 => self.micros(i64::from(text::parse_date(text)?).saturating_mul(text::DAY_US))?,
            DataType::Time32(_) | DataType::Time64(_) => self.micros(text::parse_time(text)?)?,
            DataType::Timestamp(_, zone) => self.micros(text::parse_timestamp(text, zone.is_some())?)?,
            DataType::Interval(_) | DataType::Duration(_) => self.interval(text::parse_interval(text)?)?,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                self.bytes(&text::parse_bytea(raw).ok_or_else(wrong)?)?
            }
            DataType::Null => new_null_array(self.kind, 1),
            _ => self.string(raw)?,
        })
    }

    fn read_binary(&self, value: &Bytes) -> Result<ArrayRef> {
        let wrong = || self.binary_error();
        match (self.oid, self.kind) {
            (types::NUMERIC, _) => return self.text_of(&numeric_text(value)?),
            (types::UUID, _) => {
                let mut text = Vec::with_capacity(36);
                text::put_uuid(&mut text, value.first_chunk().filter(|_| value.len() == 16).ok_or_else(wrong)?);
                return self.read_text(&text);
            }
            (types::JSONB, _) => return self.read_text(value.strip_prefix(&[1]).ok_or_else(wrong)?),
            (types::BYTEA, _) => return self.bytes(value),
            (types::BOOL, _) => {
                return match value[..] {
                    [0] => self.text_of("f"),
                    [1] => self.text_of("t"),
                    _ => Err(wrong()),
                };
            }
            (types::FLOAT4, _) => return self.text_of(&f32::from_be_bytes(fixed(value).ok_or_else(wrong)?).to_string()),
            (types::FLOAT8, _) => return self.text_of(&f64::from_be_bytes(fixed(value).ok_or_else(wrong)?).to_string()),
            (types::INT2, _) => return self.text_of(&i16::from_be_bytes(fixed(value).ok_or_else(wrong)?).to_string()),
            (types::INT4, _) => return self.text_of(&i32::from_be_bytes(fixed(value).ok_or_else(wrong)?).to_string()),
            (types::INT8, _) => return self.text_of(&i64::from_be_bytes(fixed(value).ok_or_else(wrong)?).to_string()),
            (types::OID, _) => return self.text_of(&u32::from_be_bytes(fixed(value).ok_or_else(wrong)?).to_string()),
            _ => {}
        }
        self.temporal_binary(value)
    }

    fn temporal_binary(&self, value: &Bytes) -> Result<ArrayRef> {
        let wrong = || self.binary_error();
        let long = || fixed(value).map(i64::from_be_bytes).ok_or_else(wrong);
        match self.oid {
            types::DATE => {
                let days = match fixed(value).map(i32::from_be_bytes).ok_or_else(wrong)? {
                    days @ (i32::MAX | i32::MIN) => days,
                    days => days.checked_add(PG_EPOCH_DAYS).ok_or_else(wrong)?,
                };
                match self.kind {
                    DataType::Date32 => Ok(Arc::new(Date32Array::from_iter_values([days]))),
                    DataType::Date64 | DataType::Timestamp(..) => self.micros(i64::from(days).saturating_mul(text::DAY_US)),
                    _ => self.via(|out| text::put_date(out, days)),
                }
            }
            types::TIME => {
                let us = Some(long()?).filter(|us| (0..=text::DAY_US).contains(us)).ok_or_else(wrong)?;
                match self.kind {
                    DataType::Time32(_) | DataType::Time64(_) => self.micros(us),
                    _ => self.via(|out| text::put_time(out, us)),
                }
            }
            types::TIMESTAMP | types::TIMESTAMPTZ => {
                let us = match long()? {
                    us @ (i64::MAX | i64::MIN) => us,
                    us => us.checked_add(PG_EPOCH_US).ok_or_else(wrong)?,
                };
                match self.kind {
                    DataType::Timestamp(..) | DataType::Date64 => self.micros(us),
                    _ => self.via(|out| text::put_timestamp(out, us, self.oid == types::TIMESTAMPTZ)),
                }
            }
            types::INTERVAL => {
                let mut fields = Fields(value.clone());
                let high = fields.u32().map_err(|_| wrong())?;
                let low = fields.u32().map_err(|_| wrong())?;
                let days = fields.u32().map_err(|_| wrong())? as i32;
                let months = fields.u32().map_err(|_| wrong())? as i32;
                self.interval((months, days, (u64::from(high) << 32 | u64::from(low)) as i64))
            }
            // text, varchar, json, unknown: their binary form is their text.
            _ => self.read_text(value),
        }
    }

    fn text_of(&self, text: &str) -> Result<ArrayRef> {
        self.read_text(text.as_bytes())
    }

    fn via(&self, put: impl Fn(&mut Vec<u8>)) -> Result<ArrayRef> {
        let mut text = Vec::new();
        put(&mut text);
        self.read_text(&text)
    }

    fn exact<A: Array + 'static>(
        &self,
        array: Arc<A>,
        shape: impl Fn(A) -> std::result::Result<A, arrow::error::ArrowError>,
    ) -> Result<ArrayRef> {
        let array = Arc::into_inner(array).ok_or_else(|| self.text_error())?;
        Ok(Arc::new(shape(array).map_err(|_| self.text_error())?))
    }

    fn decimal(&self, text: &str, precision: u8, scale: i8) -> Result<ArrayRef> {
        let value = parse_decimal(text, precision, scale)?;
        self.exact(Arc::new(Decimal128Array::from_iter_values([value])), |a| a.with_precision_and_scale(precision, scale))
    }

    /// A date, time or timestamp in the unit of `kind`. What the unit cannot hold exactly is an error.
    fn micros(&self, us: i64) -> Result<ArrayRef> {
        let too_large = || Error::fix(codes::RANGE, format!("parameter ${} is out of range for {}", self.number, self.kind));
        let exact = |divisor: i64| if us % divisor == 0 { Ok(us / divisor) } else { Err(too_large()) };
        let of_unit = |unit: &TimeUnit| match unit {
            TimeUnit::Second => exact(1_000_000),
            TimeUnit::Millisecond => exact(1_000),
            TimeUnit::Microsecond => Ok(us),
            TimeUnit::Nanosecond => us.checked_mul(1_000).ok_or_else(too_large),
        };
        let value = match self.kind {
            DataType::Date64 => exact(1_000)?,
            DataType::Time32(unit) | DataType::Time64(unit) | DataType::Timestamp(unit, _) => of_unit(unit)?,
            _ => return Err(self.text_error()),
        };
        if let DataType::Time32(unit) = self.kind {
            let value = i32::try_from(value).map_err(|_| too_large())?;
            return Ok(match unit {
                TimeUnit::Second => Arc::new(Time32SecondArray::from_iter_values([value])),
                _ => Arc::new(Time32MillisecondArray::from_iter_values([value])),
            });
        }
        let array = Int64Array::from_iter_values([value]).into_data().into_builder().data_type(self.kind.clone());
        array.build().map(make_array).map_err(|_| self.text_error())
    }

    fn interval(&self, (months, days, us): (i32, i32, i64)) -> Result<ArrayRef> {
        let too_large = || Error::fix(codes::RANGE, format!("parameter ${} is out of range for {}", self.number, self.kind));
        match self.kind {
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                let nanoseconds = us.checked_mul(1_000).ok_or_else(too_large)?;
                let value = IntervalMonthDayNano { months, days, nanoseconds };
                Ok(Arc::new(IntervalMonthDayNanoArray::from_iter_values([value])))
            }
            DataType::Interval(IntervalUnit::YearMonth) if days == 0 && us == 0 => {
                Ok(Arc::new(IntervalYearMonthArray::from_iter_values([months])))
            }
            DataType::Interval(IntervalUnit::DayTime) if months == 0 && us % 1_000 == 0 => {
                let milliseconds = i32::try_from(us / 1_000).map_err(|_| too_large())?;
                Ok(Arc::new(IntervalDayTimeArray::from_iter_values([IntervalDayTime { days, milliseconds }])))
            }
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
                self.via(|out| text::put_interval(out, months, days, us))
            }
            _ => Err(too_large()),
        }
    }

    fn bytes(&self, value: &[u8]) -> Result<ArrayRef> {
        match self.kind {
            DataType::Binary => Ok(Arc::new(BinaryArray::from_vec(vec![value]))),
            DataType::LargeBinary => Ok(Arc::new(LargeBinaryArray::from_vec(vec![value]))),
            DataType::BinaryView => Ok(Arc::new(BinaryViewArray::from_iter_values([value]))),
            _ => Err(self.text_error()),
        }
    }

    fn string(&self, value: &str) -> Result<ArrayRef> {
        match self.kind {
            DataType::Utf8 => Ok(Arc::new(StringArray::from_iter_values([value]))),
            DataType::LargeUtf8 => Ok(Arc::new(LargeStringArray::from_iter_values([value]))),
            DataType::Utf8View => Ok(Arc::new(StringViewArray::from_iter_values([value]))),
            _ => Err(Error::fix(
                codes::UNSUPPORTED,
                format!("parameter ${} has type {}, which no client form is known for", self.number, self.kind),
            )),
        }
    }

    fn list(&self, item: &FieldRef, value: &Bytes) -> Result<ArrayRef> {
        let wrong = || if self.binary { self.binary_error() } else { self.text_error() };
        let (oid, items) = if self.binary {
            binary_items(value).ok_or_else(wrong)?
        } else {
            let text = std::str::from_utf8(value).map_err(|_| wrong())?;
            let items = arrays::parse_text(text).ok_or_else(wrong)?.into_iter().map(|i| i.map(Bytes::from)).collect();
            (types::element_of(self.oid).unwrap_or(types::TEXT), items)
        };
        let slot = Slot { oid, kind: item.data_type(), number: self.number, binary: self.binary };
        let values = items.iter().map(|value| slot.read(value.as_ref())).collect::<Result<Vec<_>>>()?;
        let parts: Vec<&dyn Array> = values.iter().map(|v| v.as_ref()).collect();
        let values = if parts.is_empty() {
            new_empty_array(item.data_type())
        } else {
            arrow::compute::concat(&parts).map_err(|_| wrong())?
        };
        let offsets = OffsetBuffer::from_lengths([values.len()]);
        Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, None).map_err(|_| wrong())?))
    }
}

/// `array_recv` of at most one dimension: the element type and the elements.
fn binary_items(value: &Bytes) -> Option<(u32, Vec<Option<Bytes>>)> {
    let mut fields = Fields(value.clone());
    let dimensions = fields.u32().ok()?;
    let (_, oid) = (fields.u32().ok()?, fields.u32().ok()?);
    if dimensions == 0 {
        return Some((oid, Vec::new()));
    }
    let count = fields.u32().ok()? as usize;
    fields.u32().ok()?;
    if dimensions != 1 || count > fields.0.len() / 4 {
        return None;
    }
    let mut item = || match fields.u32().ok()? as i32 {
        -1 => Some(None),
        n => fields.bytes(usize::try_from(n).ok()?).ok().map(Some),
    };
    let items = (0..count).map(|_| item()).collect::<Option<Vec<_>>>()?;
    Some((oid, items))
}

fn fixed<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Cells;
    use proptest::prelude::*;

    /// Every type: text in, binary out, binary in, text out.
    #[test]
    fn text_and_binary_agree() {
        for (oid, text) in [
            (types::BOOL, "t"),
            (types::INT2, "-32768"),
            (types::INT4, "2147483647"),
            (types::INT8, "-9223372036854775808"),
            (types::FLOAT4, "1.1"),
            (types::FLOAT8, "1e+20"),
            (types::FLOAT8, "-Infinity"),
            (types::NUMERIC, "-12345678901234567890.0000100000"),
            (types::TEXT, "h\u{e9}llo "),
            (types::BYTEA, "\\x00ff"),
            (types::DATE, "2024-02-29"),
            (types::TIME, "23:59:59.999999"),
            (types::TIMESTAMP, "1999-12-31 23:59:59.5"),
            (types::TIMESTAMPTZ, "0044-03-15 12:00:00+00 BC"),
            (types::TIMESTAMPTZ, "infinity"),
            (types::INTERVAL, "1 year 2 mons -3 days +04:05:06.7"),
            (types::UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (types::JSONB, "{\"a\": 1}"),
            (1007, "{1,NULL,3}"),
            (1009, "{a,\"b c\",NULL,\"\"}"),
            (1007, "{}"),
        ] {
            let kind = types::arrow_of(oid).unwrap();
            let slot = |binary| Slot { oid, kind: &kind, number: 1, binary };
            let array = slot(false).read(Some(&Bytes::from(text))).unwrap();
            assert_eq!(array.data_type(), &kind);
            let mut binary = Vec::new();
            Cells::new(&array, oid, true).unwrap().value(0, &mut binary).unwrap();
            let again = slot(true).read(Some(&Bytes::from(binary))).unwrap();
            let mut shown = Vec::new();
            Cells::new(&again, oid, false).unwrap().value(0, &mut shown).unwrap();
            assert_eq!(String::from_utf8(shown).unwrap(), text, "{oid}");
            assert!(slot(true).read(None).unwrap().is_null(0));
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), binary in any::<bool>()) {
            for oid in [16u32, 17, 20, 21, 23, 25, 26, 114, 700, 701, 1082, 1083, 1114, 1184, 1186, 1700, 2950, 3802, 1007, 1009, 1231] {
                let kind = types::arrow_of(oid).unwrap();
                if let Ok(array) = (Slot { oid, kind: &kind, number: 1, binary }).read(Some(&Bytes::from(bytes.clone()))) {
                    for binary in [false, true] {
                        let _ = Cells::new(&array, oid, binary).unwrap().value(0, &mut Vec::new());
                    }
                }
            }
        }
    }
}
