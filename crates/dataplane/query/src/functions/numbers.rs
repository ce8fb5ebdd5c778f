//! Numbers as Postgres computes them: exact division, averages, sums that do not wrap, integer overflow as an error.

use super::scalar::{Simplified, argument, function, is_text, mismatch, simplified};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Builder, Float64Array};
use arrow::compute::{cast, cast_with_options, kernels::numeric};
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, Float64Type, i256};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

/// Places after the point of quotients and averages: Postgres gives at least 16 significant digits.
const QUOTIENT_SCALE: i8 = 16;

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
            |arrays, _, kind| Ok(cast(argument(arrays, 0)?, kind)?),
            |kind| match kind {
                DataType::Int64 => Simplified::No,
                _ => Simplified::Argument,
            },
        ),
        to_integer("pg_int2", |_, _| Ok(DataType::Int16)),
        to_integer("pg_int4", |_, _| Ok(DataType::Int32)),
        to_integer("pg_int8", |_, _| Ok(DataType::Int64)),
    ]
}

/// bigint sums as numeric, so that they cannot wrap.
fn sum_type(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match fields.first().map(|field| field.data_type()) {
        Some(DataType::Int64) => Ok(DataType::Decimal128(38, 0)),
        Some(kind) => Ok(kind.clone()),
        None => Err(mismatch("sum", fields)),
    }
}

fn to_integer(name: &'static str, type_of: super::scalar::TypeOf) -> ScalarUDF {
    simplified(
        name,
        type_of,
        |arrays, _, kind| rounded(argument(arrays, 0)?, kind),
        |kind| match kind {
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
                Simplified::No
            }
            kind if kind.is_floating() => Simplified::No,
            _ => Simplified::Cast,
        },
    )
}

/// Casts to integers round: numerics half away from zero, floats half to even.
fn rounded(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    let strict = arrow::compute::CastOptions { safe: false, ..Default::default() };
    let whole: ArrayRef = match array.data_type() {
        DataType::Decimal128(..) | DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => {
            // Arrow rounds half away from zero between scales.
            cast_with_options(array, &DataType::Decimal128(38, 0), &strict)?
        }
        float if float.is_floating() => {
            let values = cast(array, &DataType::Float64)?;
            Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even))
        }
        _ => array.clone(),
    };
    Ok(cast_with_options(&whole, kind, &strict)?)
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
    let mut made = Decimal128Builder::with_capacity(left.len()).with_precision_and_scale(*precision, *scale)?;
    for pair in left.as_primitive::<Decimal128Type>().iter().zip(right.as_primitive::<Decimal128Type>()) {
        match pair {
            (Some(_), Some(0)) => zero().map(|()| made.append_null())?,
            (Some(left), Some(right)) => made.append_value(quotient(left, right, factor)?),
            _ => made.append_null(),
        }
    }
    Ok(Arc::new(made.finish()))
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
}
