//! Casts as Postgres does them: how texts are read, what is out of range, how numbers round.

use super::reading::{self, Unread};
use super::scalar::{Simplified, argument, fixed_type, function, is_text, mismatch, own_error, simplified, text_argument};
use super::{forms, jsonb, times};
use crate::codes;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Date32Array, Decimal128Array, Decimal128Builder, Float64Array, Int64Array,
    IntervalMonthDayNanoArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, Float64Type, IntervalUnit, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ScalarUDF;
use mainstem_types::Error;
use std::sync::Arc;

const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };
/// Digits after the point of a numeric without a scale, where the value does not say it beforehand.
pub(super) const FREE_SCALE: i8 = 10;

pub(super) fn all() -> Vec<ScalarUDF> {
    vec![
        plain("pg_date", DataType::Date32, |arrays, _, _| {
            read(arrays, "date", reading::date)
                .map(|all| Arc::new(all.into_iter().map(|d| d.map(days)).collect::<Date32Array>()) as _)
        }),
        plain("pg_time", DataType::Time64(TimeUnit::Microsecond), |arrays, _, _| {
            read(arrays, "time", reading::time).map(|all| Arc::new(Time64MicrosecondArray::from(all)) as _)
        }),
        plain("pg_timestamp", DataType::Timestamp(TimeUnit::Microsecond, None), |arrays, _, _| {
            let all = read(arrays, "timestamp", |text| reading::timestamp(text, false))?;
            Ok(Arc::new(TimestampMicrosecondArray::from(all)))
        }),
        plain("pg_timestamptz", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), |arrays, _, _| {
            let all = read(arrays, "timestamp with time zone", |text| reading::timestamp(text, true))?;
            Ok(Arc::new(TimestampMicrosecondArray::from(all).with_timezone("UTC")))
        }),
        function("pg_interval", |_, _| Ok(times::INTERVAL), |arrays, _, _| interval(arrays)),
        function("pg_numeric", numeric_type, |arrays, _, kind| numeric(arrays, kind)),
        function("pg_float8", |_, _| Ok(DataType::Float64), |arrays, _, _| float(argument(arrays, 0)?)),
        function("pg_uuid", fixed_type(DataType::Utf8), |arrays, _, _| converted(arrays, "uuid", uuid)),
        function("pg_json", fixed_type(DataType::Utf8), |arrays, _, _| {
            converted(arrays, "json", |text| jsonb::parse(text).map(|_| text.to_string()))
        }),
        function("pg_jsonb", fixed_type(DataType::Utf8), |arrays, _, _| {
            converted(arrays, "json", |text| jsonb::parse(text).map(|json| json.to_string()))
        }),
        simplified(
            "pg_bytea",
            fixed_type(DataType::Binary),
            |arrays, _, _| bytes(arrays),
            |kind| match kind {
                kind if is_text(kind) => Simplified::No,
                _ => Simplified::Cast,
            },
        ),
        integer("pg_int2", DataType::Int16),
        integer("pg_int4", DataType::Int32),
        integer("pg_int8", DataType::Int64),
    ]
}

fn days(date: chrono::NaiveDate) -> i32 {
    chrono::Datelike::num_days_from_ce(&date) - 719_163
}

/// A cast that reads texts with `read` and leaves the rest to a plain cast, which filters can be pushed through.
fn plain(name: &'static str, kind: DataType, read: impl super::scalar::Work) -> ScalarUDF {
    simplified(name, fixed_type(kind), read, |kind| if is_text(kind) { Simplified::No } else { Simplified::Cast })
}

fn read<T>(arrays: &[ArrayRef], name: &str, read: impl Fn(&str) -> Result<T, Unread>) -> Result<Vec<Option<T>>> {
    let texts = text_argument(arrays, 0)?;
    texts.iter().map(|text| text.map(|text| read(text).map_err(|e| own_error(e.error(name)))).transpose()).collect()
}

fn converted(arrays: &[ArrayRef], name: &str, convert: impl Fn(&str) -> Option<String>) -> Result<ArrayRef> {
    let texts = text_argument(arrays, 0)?;
    let unread = || own_error(unreadable(name));
    let all = texts.iter().map(|text| text.map(|text| convert(text).ok_or_else(unread)).transpose());
    Ok(Arc::new(all.collect::<Result<StringArray>>()?))
}

pub(super) fn interval(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let values = argument(arrays, 0)?;
    if !is_text(values.data_type()) {
        return Ok(Arc::new(times::intervals(values)?));
    }
    Ok(Arc::new(IntervalMonthDayNanoArray::from(read(arrays, "interval", reading::interval)?)))
}

/// `\\x0aff`, or text in which a backslash stands before itself or three octal digits.
fn bytes(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let texts = text_argument(arrays, 0)?;
    let unread = || own_error(unreadable("bytea"));
    let one = |text: &str| -> Option<Vec<u8>> {
        if let Some(hex) = text.strip_prefix("\\x") {
            let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
            let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            return if digits.len().is_multiple_of(2) { digits.chunks(2).map(pair).collect() } else { None };
        }
        let (mut made, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
        while let Some((first, after)) = rest.split_first() {
            let (byte, after) = match (first, after) {
                (b'\\', [b'\\', after @ ..]) => (b'\\', after),
                (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                    ((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'), after)
                }
                (b'\\', _) => return None,
                (byte, after) => (*byte, after),
            };
            made.push(byte);
            rest = after;
        }
        Some(made)
    };
    let all = texts.iter().map(|text| text.map(|text| one(text).ok_or_else(unread)).transpose()).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(all.into_iter().collect::<BinaryArray>()))
}

/// 32 hex digits, with or without hyphens and braces.
fn uuid(text: &str) -> Option<String> {
    let hex: String = text.trim().trim_start_matches('{').trim_end_matches('}').chars().filter(|c| *c != '-').collect();
    if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let hex = hex.to_ascii_lowercase();
    Some(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

fn unreadable(kind: &str) -> Error {
    Error::fix(codes::INVALID_TEXT, format!("invalid input syntax for type {kind}"))
        .hint("Look for rows whose text does not have that form, or use try_cast(... AS ...), which gives NULL for them.")
}

fn out_of_range(kind: &str) -> Error {
    Error::fix(codes::OUT_OF_RANGE, format!("value is out of range for type {kind}"))
        .hint("Cast to a larger type, for instance ::bigint or ::numeric.")
}

fn integer(name: &'static str, kind: DataType) -> ScalarUDF {
    simplified(
        name,
        fixed_type(kind),
        |arrays, _, kind| rounded(argument(arrays, 0)?, kind),
        |kind| match kind {
            kind if is_text(kind) || kind.is_decimal() || kind.is_floating() => Simplified::No,
            _ => Simplified::Cast,
        },
    )
}

/// Casts to integers round: numerics half away from zero, floats half to even. Texts must be whole numbers.
fn rounded(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    let name = match kind {
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        _ => "bigint",
    };
    let whole: ArrayRef = match array.data_type() {
        text if is_text(text) => {
            let texts = cast(array, &DataType::Utf8)?;
            let unread = || own_error(unreadable(name));
            let number = |text: &str| match text.trim().parse::<i128>() {
                Ok(number) => i64::try_from(number).map_err(|_| own_error(out_of_range(name))),
                Err(error)
                    if matches!(error.kind(), std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow) =>
                {
                    Err(own_error(out_of_range(name)))
                }
                Err(_) => Err(unread()),
            };
            let all = texts.as_string::<i32>().iter().map(|text| text.map(number).transpose());
            Arc::new(all.collect::<Result<Int64Array>>()?)
        }
        // Arrow rounds half away from zero between scales.
        decimal if decimal.is_decimal() => cast_with_options(array, &DataType::Decimal128(38, 0), &STRICT)?,
        float if float.is_floating() => {
            let values = cast(array, &DataType::Float64)?;
            Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even))
        }
        _ => array.clone(),
    };
    cast_with_options(&whole, kind, &STRICT).map_err(|_| own_error(out_of_range(name)))
}

/// The value of a constant text.
pub(super) fn constant_text<'a>(constants: &[Option<&'a ScalarValue>], at: usize) -> Option<&'a str> {
    match constants.get(at).copied().flatten() {
        Some(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text))) => {
            Some(text)
        }
        _ => None,
    }
}

pub(super) fn constant_integer(constants: &[Option<&ScalarValue>], at: usize) -> Option<i64> {
    match constants.get(at).copied().flatten() {
        Some(ScalarValue::Int64(Some(number))) => Some(*number),
        Some(ScalarValue::Int32(Some(number))) => Some((*number).into()),
        Some(ScalarValue::Int16(Some(number))) => Some((*number).into()),
        _ => None,
    }
}

/// `pg_numeric(x [, precision, scale])`. Without them the scale is the value's own where it is known beforehand.
fn numeric_type(fields: &[FieldRef], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    if let (Some(precision), Some(scale)) = (constant_integer(constants, 1), constant_integer(constants, 2)) {
        let (Ok(precision @ 1..=38), Ok(scale)) = (u8::try_from(precision), i8::try_from(scale)) else {
            let error = Error::fix(codes::NOT_SUPPORTED, "numeric has at most 38 digits here");
            return Err(own_error(error.hint("Cast to numeric(38, s).")));
        };
        return Ok(DataType::Decimal128(precision, scale));
    }
    let scale = match fields.first().map(|field| field.data_type()) {
        Some(DataType::Decimal128(_, scale)) => *scale,
        Some(kind) if kind.is_integer() || *kind == DataType::Boolean => 0,
        Some(kind) if kind.is_floating() => 15,
        Some(_) => match constant_text(constants, 0).and_then(parse_decimal) {
            Some((_, scale)) => i8::try_from(scale).unwrap_or(FREE_SCALE).min(37),
            None => FREE_SCALE,
        },
        None => return Err(mismatch("numeric", fields)),
    };
    Ok(DataType::Decimal128(38, scale))
}

/// Digits and scale of a number's text, with or without exponent. The scale is never negative.
pub(super) fn parse_decimal(text: &str) -> Option<(i128, u32)> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let bare = digits.strip_prefix(['-', '+']).unwrap_or(&digits);
    if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()? - exponent;
    match u32::try_from(scale) {
        Ok(scale) => Some((value, scale)),
        Err(_) => Some((value.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?, 0)),
    }
}

/// The value at another scale, rounded half away from zero; None: it does not fit.
pub(super) fn rescaled(value: i128, from: u32, to: u32) -> Option<i128> {
    if to >= from {
        return value.checked_mul(10i128.checked_pow(to - from)?);
    }
    let Some(divisor) = 10i128.checked_pow(from - to) else { return Some(0) };
    let (whole, rest) = (value / divisor, value % divisor);
    let up = rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs();
    Some(if up { whole + value.signum() } else { whole })
}

pub(super) fn numeric(arrays: &[ArrayRef], kind: &DataType) -> Result<ArrayRef> {
    let values = argument(arrays, 0)?;
    let DataType::Decimal128(precision, scale) = *kind else { return Ok(values.clone()) };
    let overflow = || {
        own_error(
            Error::fix(codes::OUT_OF_RANGE, "numeric field overflow")
                .hint("Cast to a numeric with more digits, for instance numeric(38, 10)."),
        )
    };
    if !is_text(values.data_type()) && !values.data_type().is_floating() {
        let exact = cast_with_options(values, kind, &STRICT).map_err(|_| overflow())?;
        exact.as_primitive::<Decimal128Type>().validate_decimal_precision(precision).map_err(|_| overflow())?;
        return Ok(exact);
    }
    let texts: StringArray = if is_text(values.data_type()) {
        text_argument(arrays, 0)?
    } else {
        let floats = cast(values, &DataType::Float64)?;
        // 15 digits, as many as a double surely has.
        floats.as_primitive::<Float64Type>().iter().map(|v| v.map(|v| format!("{v:.14e}"))).collect()
    };
    let mut made = Decimal128Builder::with_capacity(texts.len()).with_precision_and_scale(precision, scale)?;
    let to = u32::from(scale.unsigned_abs());
    let whole = arrays.len() == 1 && is_text(values.data_type());
    for text in &texts {
        let Some(text) = text else {
            made.append_null();
            continue;
        };
        let Some((value, from)) = parse_decimal(text) else {
            let special = matches!(text.trim().to_lowercase().as_str(), "nan" | "infinity" | "-infinity" | "inf" | "-inf");
            return Err(own_error(match special {
                true => Error::fix(codes::NOT_SUPPORTED, "numeric has no NaN and no infinity here").hint("Use double precision."),
                false => unreadable("numeric"),
            }));
        };
        // A cast without a scale must not lose digits.
        if whole && from > to && value % 10i128.checked_pow(from - to).unwrap_or(i128::MAX) != 0 {
            return Err(own_error(
                Error::fix(codes::OUT_OF_RANGE, format!("a numeric has more than {to} digits after its point"))
                    .hint("Name the scale: ::numeric(38, 20)."),
            ));
        }
        made.append_value(rescaled(value, from, to).ok_or_else(overflow)?);
    }
    let made = made.finish();
    made.validate_decimal_precision(precision).map_err(|_| overflow())?;
    Ok(Arc::new(made))
}

/// Doubles: the nearest to a numeric's or a text's digits.
fn float(array: &ArrayRef) -> Result<ArrayRef> {
    let texts = match array.data_type() {
        kind if is_text(kind) => cast(array, &DataType::Utf8)?,
        DataType::Decimal128(_, scale) => {
            if let Some(exact) = exact_floats(array.as_primitive::<Decimal128Type>(), *scale) {
                return Ok(Arc::new(exact));
            }
            Arc::new(forms::text_of(array, None, false)?)
        }
        _ => return Ok(cast_with_options(array, &DataType::Float64, &STRICT)?),
    };
    let number = |text: &str| {
        let text = text.trim();
        let value: f64 = text.parse().map_err(|_| own_error(unreadable("double precision")))?;
        if value.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) {
            return Err(own_error(out_of_range("double precision")));
        }
        Ok(value)
    };
    let all = texts.as_string::<i32>().iter().map(|text| text.map(number).transpose());
    Ok(Arc::new(all.collect::<Result<Float64Array>>()?))
}

/// Digits below 2^53 and powers of ten up to 22 are exact doubles, so that one division rounds rightly.
fn exact_floats(values: &Decimal128Array, scale: i8) -> Option<Float64Array> {
    let exact = |value: i128| value.unsigned_abs() < 1 << 53;
    if !(0..=22).contains(&scale) || !values.iter().flatten().all(exact) {
        return None;
    }
    let divisor = 10f64.powi(scale.into());
    Some(values.unary::<_, Float64Type>(|value| value as f64 / divisor))
}

/// The interval type's unit, for callers that build expressions.
pub(super) fn is_interval(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Interval(IntervalUnit::MonthDayNano | IntervalUnit::DayTime | IntervalUnit::YearMonth) | DataType::Duration(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly() {
        let check = |text: &str, expected: Option<(i128, u32)>| assert_eq!(parse_decimal(text), expected, "{text}");
        check("1.50", Some((150, 2)));
        check(" -0.5 ", Some((-5, 1)));
        check("1e3", Some((1000, 0)));
        check("1.5e-3", Some((15, 4)));
        check(".5", Some((5, 1)));
        check("x", None);
        check("", None);
        check("NaN", None);
        assert_eq!(rescaled(125, 2, 1), Some(13));
        assert_eq!(rescaled(-125, 2, 1), Some(-13));
        assert_eq!(rescaled(124, 2, 1), Some(12));
        assert_eq!(rescaled(12, 1, 3), Some(1200));
        assert_eq!(uuid("{11111111-2222-3333-4444-55555555555A}").as_deref(), Some("11111111-2222-3333-4444-55555555555a"));
        assert_eq!(uuid("x"), None);
        let read = |text: &str| {
            bytes(&[Arc::new(StringArray::from(vec![text])) as ArrayRef]).map(|made| made.as_binary::<i32>().value(0).to_vec())
        };
        assert_eq!(read("\\x00fF").unwrap(), [0, 255]);
        assert_eq!(read("a\\\\\\101").unwrap(), b"a\\A");
        assert!(read("\\x0").is_err() && read("\\9").is_err());
    }
}
