//! Numbers as Postgres computes them: exact division, averages, sums that do not wrap, integer overflow as an error.

use super::casts::{self, constant_integer, rescaled};
use super::scalar::{Simplified, argument, fixed_type, function, is_text, mismatch, own_error, simplified, text_argument};
use crate::codes;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Builder, Float64Array, StringArray};
use arrow::compute::{cast, kernels::numeric};
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, Float64Type, Int64Type, i256};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ScalarUDF;
use mainstem_types::Error;
use mainstem_types::schema::{SOURCE_TYPE_KEY, quotient_scale};
use std::sync::Arc;

/// Places after the point that quotients and averages are held with. How many count depends on the quotient: see `quotient_scale`.
const QUOTIENT_SCALE: i8 = 20;

pub(super) fn all() -> Vec<ScalarUDF> {
    vec![
        function("pg_divide", quotient_type, divide),
        function("pg_avg", quotient_type, average),
        function("pg_plus", wider, |arrays, _, kind| checked(arrays, kind, numeric::add)),
        function("pg_minus", wider, |arrays, _, kind| checked(arrays, kind, numeric::sub)),
        function("pg_multiply", wider, |arrays, _, kind| checked(arrays, kind, numeric::mul)),
        simplified(
            "pg_sum_input",
            sum_type,
            |arrays, _, kind| match argument(arrays, 0)? {
                held if is_text(held.data_type()) && kind.is_decimal() => casts::numeric(arrays, kind),
                values => Ok(cast(values, kind)?),
            },
            |kind| match kind {
                DataType::Int64 => Simplified::No,
                kind if is_text(kind) => Simplified::No,
                _ => Simplified::Argument,
            },
        ),
        simplified(
            "pg_held",
            |fields, _| {
                fields
                    .first()
                    .map(|f| held_type(f).unwrap_or_else(|| f.data_type().clone()))
                    .ok_or_else(|| mismatch("order", fields))
            },
            |arrays, _, kind| match kind {
                DataType::Decimal128(..) => casts::numeric(arrays, kind),
                DataType::Interval(_) => casts::interval(arrays),
                _ => Ok(argument(arrays, 0)?.clone()),
            },
            |kind| if is_text(kind) { Simplified::No } else { Simplified::Argument },
        ),
        function("round", rounded_type, |arrays, _, kind| to_places(arrays, kind, Rounding::Nearest)),
        function("trunc", rounded_type, |arrays, _, kind| to_places(arrays, kind, Rounding::Zero)),
        function("ceil", rounded_type, |arrays, _, kind| to_places(arrays, kind, Rounding::Up)),
        function("ceiling", rounded_type, |arrays, _, kind| to_places(arrays, kind, Rounding::Up)),
        function("floor", rounded_type, |arrays, _, kind| to_places(arrays, kind, Rounding::Down)),
        function("sign", rounded_type, |arrays, _, kind| signs(arrays, kind)),
        function("div", rounded_type, |arrays, fields, kind| {
            let exact = divide(arrays, fields, &quotient_type(fields, &[])?)?;
            to_places(&[exact], kind, Rounding::Zero)
        }),
        function("pg_decimal_multiply", product_type, |arrays, _, kind| products(arrays, kind)),
        function("pg_number_key", fixed_type(DataType::Utf8), |arrays, _, _| {
            Ok(Arc::new(text_argument(arrays, 0)?.iter().map(|text| text.map(order_key)).collect::<StringArray>()))
        }),
        function("width_bucket", fixed_type(DataType::Int32), |arrays, _, _| width_bucket(arrays)),
        function("sqrt", fixed_type(DataType::Float64), |arrays, _, _| {
            of_double(
                arrays,
                |x| if x < 0.0 { Err("cannot take square root of a negative number") } else { Ok(x.sqrt()) },
                codes::INVALID_POWER,
            )
        }),
        function("ln", fixed_type(DataType::Float64), |arrays, _, _| {
            of_double(arrays, |x| logarithm(x).map(f64::ln), codes::INVALID_LOGARITHM)
        }),
        function("log10", fixed_type(DataType::Float64), |arrays, _, _| {
            of_double(arrays, |x| logarithm(x).map(f64::log10), codes::INVALID_LOGARITHM)
        }),
        function("power", fixed_type(DataType::Float64), |arrays, _, _| power(arrays)),
        function("pow", fixed_type(DataType::Float64), |arrays, _, _| power(arrays)),
    ]
}

/// bigint sums as numeric, so that they cannot wrap.
fn sum_type(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match fields.first().map(|field| field.data_type()) {
        Some(DataType::Int64) => Ok(DataType::Decimal128(38, 0)),
        Some(kind) => Ok(held_type(&fields[0]).unwrap_or_else(|| kind.clone())),
        None => Err(mismatch("sum", fields)),
    }
}

/// What a column holds that comes as its source's text.
pub(super) fn held_type(field: &FieldRef) -> Option<DataType> {
    let source = field.metadata().get(SOURCE_TYPE_KEY).map(|name| name.trim_start_matches("pg_catalog."));
    match source {
        Some("numeric") if is_text(field.data_type()) => Some(DataType::Decimal128(38, casts::FREE_SCALE)),
        Some("interval") if is_text(field.data_type()) => Some(super::times::INTERVAL),
        _ => None,
    }
}

fn decimal_of(kind: &DataType) -> Option<i8> {
    match kind {
        DataType::Decimal128(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal32(_, scale) => Some(*scale),
        kind if kind.is_integer() => Some(0),
        _ => None,
    }
}

fn quotient_type(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let kinds: Vec<&DataType> = fields.iter().map(|field| field.data_type()).collect();
    match kinds.as_slice() {
        [left, right] if casts::is_interval(left) && right.is_integer() => Ok(super::times::INTERVAL),
        [left, right] if left.is_floating() || right.is_floating() => Ok(DataType::Float64),
        [DataType::Null, _] => Ok(DataType::Decimal128(38, QUOTIENT_SCALE)),
        [left, right] => match (decimal_of(left), decimal_of(right)) {
            (Some(left), Some(right)) => Ok(DataType::Decimal128(38, left.max(right).max(QUOTIENT_SCALE))),
            _ => Err(mismatch("division", fields)),
        },
        _ => Err(mismatch("division", fields)),
    }
}

/// Quotients; `None` for a divisor of zero is decided by the caller.
fn quotients(arrays: &[ArrayRef], kind: &DataType, zero: fn() -> Result<(), ArrowError>) -> Result<ArrayRef> {
    let (left, right) = (argument(arrays, 0)?, argument(arrays, 1)?);
    let DataType::Decimal128(precision, scale) = kind else {
        let (left, right) = (cast(left, &DataType::Float64)?, cast(right, &DataType::Float64)?);
        let mut made = Vec::with_capacity(left.len());
        for pair in left.as_primitive::<Float64Type>().iter().zip(right.as_primitive::<Float64Type>()) {
            made.push(match pair {
                (Some(_), Some(0.0)) => zero().map(|()| None)?,
                (Some(left), Some(right)) => Some(left / right),
                _ => None,
            });
        }
        return Ok(Arc::new(Float64Array::from(made)));
    };
    let (left_scale, right_scale) = (decimal_of(left.data_type()).unwrap_or(0), decimal_of(right.data_type()).unwrap_or(0));
    let left = cast(left, &DataType::Decimal128(38, left_scale))?;
    let right = cast(right, &DataType::Decimal128(38, right_scale))?;
    let shift = u32::from((scale + right_scale - left_scale).max(0).unsigned_abs());
    let factor = i256::from_i128(10).checked_pow(shift).unwrap_or(i256::ONE);
    let digits = u32::from(left_scale.max(right_scale).max(0).unsigned_abs());
    let held = u32::from(scale.unsigned_abs());
    let mut made = Decimal128Builder::with_capacity(left.len()).with_precision_and_scale(*precision, *scale)?;
    for pair in left.as_primitive::<Decimal128Type>().iter().zip(right.as_primitive::<Decimal128Type>()) {
        match pair {
            (Some(_), Some(0)) => zero().map(|()| made.append_null())?,
            (Some(left), Some(right)) => made.append_value(shown_digits(quotient(left, right, factor)?, held, digits)),
            _ => made.append_null(),
        }
    }
    Ok(Arc::new(made.finish()))
}

/// Rounded to what Postgres would have computed.
fn shown_digits(value: i128, held: u32, digits: u32) -> i128 {
    let shown = quotient_scale(value, held).max(digits).min(held);
    rescaled(value, held, shown).and_then(|rounded| rescaled(rounded, shown, held)).unwrap_or(value)
}

/// Rounded half away from zero.
fn quotient(left: i128, right: i128, factor: i256) -> Result<i128, ArrowError> {
    let overflow = || ArrowError::ArithmeticOverflow("numeric".into());
    let negative = (left < 0) != (right < 0);
    let wide = |value: i128| i256::from_i128(value).wrapping_abs();
    let (left, right) = (wide(left).checked_mul(factor).ok_or_else(overflow)?, wide(right));
    let (whole, rest) = (left.wrapping_div(right), left.wrapping_rem(right));
    let up = rest.wrapping_add(rest) >= right;
    let whole =
        whole.to_i128().and_then(|v| v.checked_add(i128::from(up))).filter(|v| *v < 10i128.pow(38)).ok_or_else(overflow)?;
    Ok(if negative { -whole } else { whole })
}

fn divide(arrays: &[ArrayRef], _: &[FieldRef], kind: &DataType) -> Result<ArrayRef> {
    quotients(arrays, kind, || Err(ArrowError::DivideByZero))
}

/// `pg_avg(sum, count)`: NULL of no rows.
fn average(arrays: &[ArrayRef], fields: &[FieldRef], kind: &DataType) -> Result<ArrayRef> {
    if fields.first().is_some_and(|field| is_text(field.data_type())) {
        return Err(mismatch("avg", fields));
    }
    if *kind == super::times::INTERVAL {
        return super::times::shares(arrays);
    }
    quotients(arrays, kind, || Ok(()))
}

/// The wider of two integer types.
fn wider(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let width = |field: &FieldRef| field.data_type().primitive_width().unwrap_or(8);
    let widest = fields.iter().map(width).max().unwrap_or(8);
    Ok(match widest {
        1 | 2 => DataType::Int16,
        4 => DataType::Int32,
        _ => DataType::Int64,
    })
}

type Kernel = fn(&dyn arrow::array::Datum, &dyn arrow::array::Datum) -> Result<ArrayRef, ArrowError>;

/// Integer arithmetic that fails when the result does not fit.
fn checked(arrays: &[ArrayRef], kind: &DataType, kernel: Kernel) -> Result<ArrayRef> {
    let (left, right) = (cast(argument(arrays, 0)?, kind)?, cast(argument(arrays, 1)?, kind)?);
    Ok(kernel(&left, &right)?)
}

#[derive(Clone, Copy)]
enum Rounding {
    Nearest,
    Zero,
    Up,
    Down,
}

/// Numerics get the places that are named, none without; doubles and integers (as doubles) stay doubles.
fn rounded_type(fields: &[FieldRef], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let kind = fields.first().map(|field| field.data_type()).ok_or_else(|| mismatch("round", fields))?;
    let second = fields.get(1).map(|field| field.data_type());
    match kind {
        kind if kind.is_floating() && second.is_none_or(DataType::is_integer) && fields.len() == 1 => Ok(DataType::Float64),
        kind if kind.is_floating() && second.is_some() => Err(mismatch("round", fields)),
        kind if kind.is_integer() && fields.len() == 1 => Ok(DataType::Float64),
        kind if kind.is_integer() || kind.is_decimal() => {
            let held = match kind {
                DataType::Decimal128(_, scale) => *scale,
                _ => 0,
            };
            let places = match (fields.len(), constant_integer(constants, 1)) {
                (1, _) => 0,
                (_, Some(places)) => places.clamp(0, 20) as i8,
                // Only a constant says it beforehand.
                (_, None) => held,
            };
            Ok(DataType::Decimal128(38, places))
        }
        DataType::Null => Ok(DataType::Decimal128(38, 0)),
        _ => Err(mismatch("round", fields)),
    }
}

fn to_places(arrays: &[ArrayRef], kind: &DataType, how: Rounding) -> Result<ArrayRef> {
    let values = argument(arrays, 0)?;
    let DataType::Decimal128(precision, to) = *kind else {
        let values = cast(values, &DataType::Float64)?;
        let of = match how {
            Rounding::Nearest => f64::round_ties_even,
            Rounding::Zero => f64::trunc,
            Rounding::Up => f64::ceil,
            Rounding::Down => f64::floor,
        };
        return Ok(Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(of)));
    };
    let from = decimal_of(values.data_type()).unwrap_or(0);
    let values = cast(values, &DataType::Decimal128(38, from))?;
    let values = values.as_primitive::<Decimal128Type>();
    let places = match arrays.get(1) {
        Some(places) if !places.data_type().is_decimal() => Some(cast(places, &DataType::Int64)?),
        _ => None,
    };
    let places = places.as_ref().map(|places| places.as_primitive::<Int64Type>());
    let (from, to) = (u32::from(from.unsigned_abs()), u32::from(to.unsigned_abs()));
    let mut made = Decimal128Builder::with_capacity(values.len()).with_precision_and_scale(precision, to as i8)?;
    for row in 0..values.len() {
        if values.is_null(row) || places.is_some_and(|places| places.is_null(row)) {
            made.append_null();
            continue;
        }
        let wanted = places.map_or(0, |places| places.value(row)).clamp(-38, i64::from(to));
        let value = at_places(values.value(row), from, wanted, to, how);
        made.append_value(
            value.ok_or_else(|| own_error(Error::fix(codes::OUT_OF_RANGE, "value is out of range for type numeric")))?,
        );
    }
    Ok(Arc::new(made.finish()))
}

/// The value with `wanted` places (negative: tens, hundreds), held with `to`.
fn at_places(value: i128, from: u32, wanted: i64, to: u32, how: Rounding) -> Option<i128> {
    let drop = u32::try_from(i64::from(from) - wanted).unwrap_or(0);
    let kept = if drop == 0 {
        return rescaled(value, from, to);
    } else {
        let Some(divisor) = 10i128.checked_pow(drop) else { return Some(0) };
        let (whole, rest) = (value.div_euclid(divisor), value.rem_euclid(divisor));
        match how {
            _ if rest == 0 => whole,
            Rounding::Down => whole,
            Rounding::Up => whole + 1,
            Rounding::Zero => whole + i128::from(value < 0),
            Rounding::Nearest if value < 0 => whole + i128::from(rest > divisor - rest),
            Rounding::Nearest => whole + i128::from(rest >= divisor - rest),
        }
    };
    match u32::try_from(wanted) {
        Ok(places) => rescaled(kept, places, to),
        Err(_) => kept.checked_mul(10i128.checked_pow(u32::try_from(-wanted).ok()? + to)?),
    }
}

fn signs(arrays: &[ArrayRef], kind: &DataType) -> Result<ArrayRef> {
    let values = cast(argument(arrays, 0)?, &DataType::Float64)?;
    let sign = |value: f64| if value == 0.0 || value.is_nan() { value } else { value.signum() };
    Ok(cast(&values.as_primitive::<Float64Type>().unary::<_, Float64Type>(sign), kind)?)
}

/// As many places as both sides have; from 28 on so many as leave room for whole digits.
fn product_type(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let scales: Vec<i8> = fields.iter().filter_map(|field| decimal_of(field.data_type())).collect();
    let [left, right] = scales.as_slice() else { return Err(mismatch("multiplication", fields)) };
    let whole = left + right;
    Ok(DataType::Decimal128(38, if whole > 28 { QUOTIENT_SCALE.max(*left).max(*right) } else { whole }))
}

fn products(arrays: &[ArrayRef], kind: &DataType) -> Result<ArrayRef> {
    let DataType::Decimal128(_, to) = *kind else { return Err(mismatch("multiplication", &[])) };
    let (left, right) = (argument(arrays, 0)?, argument(arrays, 1)?);
    let (ls, rs) = (decimal_of(left.data_type()).unwrap_or(0), decimal_of(right.data_type()).unwrap_or(0));
    let (left, right) = (cast(left, &DataType::Decimal128(38, ls))?, cast(right, &DataType::Decimal128(38, rs))?);
    let divisor = i256::from_i128(10).checked_pow(u32::try_from(ls + rs - to).unwrap_or(0)).unwrap_or(i256::ONE);
    let overflow = || own_error(Error::fix(codes::OUT_OF_RANGE, "value is out of range for type numeric"));
    let mut made = Decimal128Builder::with_capacity(left.len()).with_precision_and_scale(38, to)?;
    for pair in left.as_primitive::<Decimal128Type>().iter().zip(right.as_primitive::<Decimal128Type>()) {
        let (Some(left), Some(right)) = pair else {
            made.append_null();
            continue;
        };
        let wide = i256::from_i128(left).checked_mul(i256::from_i128(right)).ok_or_else(overflow)?;
        let (whole, rest) = (wide.wrapping_div(divisor), wide.wrapping_rem(divisor).wrapping_abs());
        let up = if divisor > i256::ONE && rest.wrapping_add(rest) >= divisor { wide.signum() } else { i256::ZERO };
        let value = whole.wrapping_add(up).to_i128().filter(|value| value.unsigned_abs() < 10u128.pow(38));
        made.append_value(value.ok_or_else(overflow)?);
    }
    Ok(Arc::new(made.finish()))
}

/// A text that orders as the number that `number` is the text of, and is equal for equal numbers.
pub(super) fn order_key(number: &str) -> String {
    let text = number.trim();
    let (negative, bare) = match text.strip_prefix('-') {
        Some(bare) => (true, bare),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    match bare.to_ascii_lowercase().as_str() {
        "nan" => return "4".into(),
        "infinity" | "inf" => return if negative { "0" } else { "3" }.into(),
        _ => {}
    }
    let (mantissa, exponent) = bare.split_once(['e', 'E']).unwrap_or((bare, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let first = digits.bytes().position(|b| b != b'0');
    let Some(first) = first else { return "2".into() };
    let size = whole.len() as i64 - first as i64 + exponent.parse::<i64>().unwrap_or(0);
    let key = format!("{:07}{}", size + 1_000_000, digits[first..].trim_end_matches('0'));
    if !negative {
        return format!("2{key}");
    }
    // Larger digits first, and longer before shorter.
    let turned: String = key.chars().map(|c| c.to_digit(10).map_or(c, |d| char::from(b'9' - d as u8))).collect();
    format!("1{turned}~")
}

fn width_bucket(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let column = |at| -> Result<ArrayRef> { Ok(cast(argument(arrays, at)?, &DataType::Float64)?) };
    let (value, low, high, count) = (column(0)?, column(1)?, column(2)?, column(3)?);
    let at = |array: &ArrayRef, row: usize| array.is_valid(row).then(|| array.as_primitive::<Float64Type>().value(row));
    let bucket = |row: usize| {
        let (value, low, high, count) = (at(&value, row)?, at(&low, row)?, at(&high, row)?, at(&count, row)?);
        let (value, low, high) = if low <= high { (value, low, high) } else { (-value, -low, -high) };
        Some(match value {
            value if value < low => 0,
            value if value >= high => count as i32 + 1,
            value => ((value - low) * count / (high - low)).floor() as i32 + 1,
        })
    };
    Ok(Arc::new((0..value.len()).map(bucket).collect::<arrow::array::Int32Array>()))
}

fn of_double(
    arrays: &[ArrayRef],
    of: impl Fn(f64) -> std::result::Result<f64, &'static str>,
    code: mainstem_types::Code,
) -> Result<ArrayRef> {
    let values = cast(argument(arrays, 0)?, &DataType::Float64)?;
    let one = |value: Option<f64>| value.map(|value| of(value).map_err(|text| own_error(Error::fix(code, text)))).transpose();
    Ok(Arc::new(values.as_primitive::<Float64Type>().iter().map(one).collect::<Result<Float64Array>>()?))
}

fn logarithm(value: f64) -> std::result::Result<f64, &'static str> {
    match value {
        0.0 => Err("cannot take logarithm of zero"),
        value if value < 0.0 => Err("cannot take logarithm of a negative number"),
        value => Ok(value),
    }
}

fn power(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (base, exponent) = (cast(argument(arrays, 0)?, &DataType::Float64)?, cast(argument(arrays, 1)?, &DataType::Float64)?);
    let refuse = |text: &str| Err(own_error(Error::fix(codes::INVALID_POWER, text)));
    let one = |(base, exponent): (Option<f64>, Option<f64>)| {
        let (Some(base), Some(exponent)) = (base, exponent) else { return Ok(None) };
        if base == 0.0 && exponent < 0.0 {
            return refuse("zero raised to a negative power is undefined");
        }
        if base < 0.0 && exponent.fract() != 0.0 {
            return refuse("a negative number raised to a non-integer power yields a complex result");
        }
        let made = base.powf(exponent);
        if made.is_infinite() && base.is_finite() && exponent.is_finite() {
            return Err(own_error(Error::fix(codes::OUT_OF_RANGE, "value out of range: overflow")));
        }
        Ok(Some(made))
    };
    let both = base.as_primitive::<Float64Type>().iter().zip(exponent.as_primitive::<Float64Type>());
    Ok(Arc::new(both.map(one).collect::<Result<Float64Array>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_round_half_away_from_zero() {
        let check =
            |left: i128, right: i128, expected: i128| assert_eq!(quotient(left, right, i256::from_i128(100)).unwrap(), expected);
        check(1, 3, 33);
        check(2, 3, 67);
        check(-2, 3, -67);
        check(1, 200, 1);
        assert!(quotient(i128::MAX, 1, i256::from_i128(100)).is_err());
    }

    #[test]
    fn quotients_have_postgres_digits() {
        let check = |text: &str, expected: u32| {
            let (value, scale) = casts::parse_decimal(text).unwrap();
            assert_eq!(quotient_scale(rescaled(value, scale, 20).unwrap(), 20), expected, "{text}");
        };
        check("3.3333", 16);
        check("9999.5", 16);
        check("10000", 12);
        check("333333.3", 12);
        check("0.5", 20);
        check("0", 20);
    }

    #[test]
    fn places_are_kept_or_dropped() {
        let check = |value, from, wanted, to, how, expected| assert_eq!(at_places(value, from, wanted, to, how), Some(expected));
        check(2567, 3, 2, 2, Rounding::Nearest, 257);
        check(-25, 1, 0, 0, Rounding::Nearest, -3);
        check(25, 1, 0, 0, Rounding::Nearest, 3);
        check(1_234_567, 3, -2, 0, Rounding::Nearest, 1200);
        check(-27, 1, 0, 0, Rounding::Zero, -2);
        check(12, 1, 0, 0, Rounding::Up, 2);
        check(-12, 1, 0, 0, Rounding::Down, -2);
        check(5, 0, 2, 2, Rounding::Nearest, 500);
    }

    #[test]
    fn keys_order_as_numbers() {
        let ordered =
            ["-Infinity", "-100", "-9.5", "-9.49", "-0.01", "0.00", "0.001", "0.5", "1.5", "2", "10", "1e3", "Infinity", "NaN"];
        for pair in ordered.windows(2) {
            assert!(order_key(pair[0]) < order_key(pair[1]), "{pair:?}: {} {}", order_key(pair[0]), order_key(pair[1]));
        }
        assert_eq!(order_key("1.50"), order_key("01.5"));
        assert_eq!(order_key("-0"), order_key("0.0"));
    }
}
