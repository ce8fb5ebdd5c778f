//! Arithmetic on times: differences as intervals, `age`, `extract`, time zones.

use super::forms::{date, moment};
use super::scalar::{argument, function, mismatch, text_argument};
use arrow::array::timezone::Tz;
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Builder, Float64Builder, IntervalMonthDayNanoArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{Datelike, Months, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

pub(super) fn all() -> Vec<ScalarUDF> {
    let interval = |_: &[FieldRef], _: &[Option<&ScalarValue>]| Ok(INTERVAL);
    vec![
        function("pg_between_times", interval, |arrays, _, _| difference(arrays, plain_difference)),
        function("age", interval, |arrays, _, _| difference(arrays, age)),
        function("pg_interval_times", interval, |arrays, _, _| interval_times(arrays)),
        function("pg_extract", extract_type, extract),
        function("date_part", |_, _| Ok(DataType::Float64), extract),
        function("timezone", zone_type, |arrays, fields, _| in_zone(arrays, fields)),
    ]
}

fn micros(array: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let zone = if let DataType::Timestamp(_, Some(_)) = array.data_type() { Some("UTC".into()) } else { None };
    Ok(cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone))?.as_primitive::<TimestampMicrosecondType>().clone())
}

fn interval(months: i32, days: i32, us: i64) -> IntervalMonthDayNano {
    IntervalMonthDayNano::new(months, days, us.saturating_mul(1000))
}

/// Intervals, differences of timestamps (as days and a time, as Postgres subtracts them) and times of day.
pub(super) fn intervals(array: &ArrayRef) -> Result<IntervalMonthDayNanoArray> {
    match array.data_type() {
        DataType::Duration(_) => {
            let us = cast(&cast(array, &DataType::Duration(TimeUnit::Microsecond))?, &DataType::Int64)?;
            let us = us.as_primitive::<arrow::datatypes::Int64Type>();
            Ok(us.iter().map(|us| us.map(|us| interval(0, (us / DAY_US) as i32, us % DAY_US))).collect())
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let us = cast(array, &DataType::Time64(TimeUnit::Microsecond))?;
            Ok(us.as_primitive::<Time64MicrosecondType>().iter().map(|us| us.map(|us| interval(0, 0, us))).collect())
        }
        _ => Ok(cast(array, &INTERVAL)?.as_primitive::<IntervalMonthDayNanoType>().clone()),
    }
}

fn difference(arrays: &[ArrayRef], of: fn(i64, i64) -> Option<IntervalMonthDayNano>) -> Result<ArrayRef> {
    let (left, right) = (micros(argument(arrays, 0)?)?, micros(argument(arrays, 1)?)?);
    let both = left.iter().zip(&right).map(|(left, right)| left.zip(right).and_then(|(left, right)| of(left, right)));
    Ok(Arc::new(both.collect::<IntervalMonthDayNanoArray>()))
}

fn plain_difference(left: i64, right: i64) -> Option<IntervalMonthDayNano> {
    let us = left.checked_sub(right)?;
    Some(interval(0, i32::try_from(us / DAY_US).ok()?, us % DAY_US))
}

/// Years, months and days between, by the calendar; the days of the earlier month count, as in `timestamp_age`.
fn age(left: i64, right: i64) -> Option<IntervalMonthDayNano> {
    let (sign, (late, early)) = if left >= right { (1, (left, right)) } else { (-1, (right, left)) };
    let (late, early) = (moment(late)?, moment(early)?);
    let clock = |at: NaiveDateTime| i64::from(at.num_seconds_from_midnight()) * SECOND_US + i64::from(at.nanosecond() / 1000);
    let mut us = clock(late) - clock(early);
    let mut days = late.day() as i32 - early.day() as i32;
    let mut months = (late.year() - early.year()) * 12 + late.month() as i32 - early.month() as i32;
    if us < 0 {
        (us, days) = (us + DAY_US, days - 1);
    }
    if days < 0 {
        let month = if sign > 0 { early.date() } else { late.date().checked_sub_months(Months::new(1))? };
        let first = month.with_day(1)?;
        days += (first.checked_add_months(Months::new(1))? - first).num_days() as i32;
        months -= 1;
    }
    Some(interval(sign * months, sign * days, i64::from(sign) * us))
}

/// Interval times a number: fractions of months become days (of 30 to a month), fractions of days time.
fn interval_times(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let values = intervals(argument(arrays, 0)?)?;
    let factors = cast(argument(arrays, 1)?, &DataType::Float64)?;
    let factors = factors.as_primitive::<arrow::datatypes::Float64Type>();
    let product = |value: IntervalMonthDayNano, factor: f64| {
        let months = f64::from(value.months) * factor;
        let days = f64::from(value.days) * factor + months.fract() * 30.0;
        let us = (value.nanoseconds / 1000) as f64 * factor + days.fract() * DAY_US as f64;
        interval(months.trunc() as i32, days.trunc() as i32, us.round() as i64)
    };
    let both = values.iter().zip(factors).map(|(value, factor)| value.zip(factor).map(|(v, f)| product(v, f)));
    Ok(Arc::new(both.collect::<IntervalMonthDayNanoArray>()))
}

/// numeric; fields of seconds with six places.
fn extract_type(_: &[FieldRef], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let field = match constants.first() {
        Some(Some(ScalarValue::Utf8(Some(field)) | ScalarValue::Utf8View(Some(field)))) => field.to_lowercase(),
        _ => String::new(),
    };
    let scale = match field.as_str() {
        "epoch" | "second" | "seconds" => 6,
        "millisecond" | "milliseconds" => 3,
        _ => 0,
    };
    Ok(DataType::Decimal128(38, scale))
}

fn extract(arrays: &[ArrayRef], fields: &[FieldRef], kind: &DataType) -> Result<ArrayRef> {
    let (names, values) = (text_argument(arrays, 0)?, argument(arrays, 1)?);
    let name = |row: usize| if names.is_null(row) { String::new() } else { names.value(row).to_lowercase() };
    // In millionths, so that both forms come from one computation.
    let millionths: Vec<Option<i128>> = match values.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            let us = micros(values)?;
            (0..us.len())
                .map(|row| us.is_valid(row).then(|| of_moment(&name(row), us.value(row))).transpose())
                .collect::<Result<_>>()?
        }
        DataType::Interval(_) | DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_) => {
            let all = intervals(values)?;
            let of = |row: usize| of_interval(&name(row), all.value(row));
            (0..all.len()).map(|row| all.is_valid(row).then(|| of(row)).transpose()).collect::<Result<_>>()?
        }
        DataType::Null => vec![None; values.len()],
        _ => return Err(mismatch("extract", fields)),
    };
    Ok(match kind {
        DataType::Decimal128(precision, scale) => {
            let divisor = 10i128.pow(6 - u32::from(scale.unsigned_abs()).min(6));
            let mut made = Decimal128Builder::with_capacity(millionths.len()).with_precision_and_scale(*precision, *scale)?;
            millionths.iter().for_each(|value| made.append_option(value.map(|v| v / divisor)));
            Arc::new(made.finish())
        }
        _ => {
            let mut made = Float64Builder::with_capacity(millionths.len());
            millionths.iter().for_each(|value| made.append_option(value.map(|v| v as f64 / 1e6)));
            Arc::new(made.finish())
        }
    })
}

fn unknown_field(name: &str) -> DataFusionError {
    DataFusionError::Plan(format!("unit \"{name}\" not recognized for this type"))
}

fn of_moment(name: &str, us: i64) -> Result<i128> {
    let at = moment(us).ok_or_else(|| DataFusionError::Execution("timestamp out of range".into()))?;
    let (week, year) = (at.iso_week(), i64::from(at.year()));
    let seconds_us = i64::from(at.second()) * SECOND_US + i64::from(at.nanosecond() / 1000);
    let whole = match name {
        "epoch" => return Ok(i128::from(us)),
        "second" | "seconds" => return Ok(seconds_us.into()),
        "millisecond" | "milliseconds" => return Ok(i128::from(seconds_us) * 1000),
        "microsecond" | "microseconds" => seconds_us,
        "minute" | "minutes" => at.minute().into(),
        "hour" | "hours" => at.hour().into(),
        "day" | "days" => at.day().into(),
        "dow" => at.weekday().num_days_from_sunday().into(),
        "isodow" => at.weekday().number_from_monday().into(),
        "doy" => at.ordinal().into(),
        "week" | "weeks" => week.week().into(),
        "month" | "months" => at.month().into(),
        "quarter" => i64::from(at.month0() / 3 + 1),
        "year" | "years" => year,
        "isoyear" => week.year().into(),
        "decade" => year.div_euclid(10),
        "century" | "centuries" => (year + 99).div_euclid(100),
        "millennium" => (year + 999).div_euclid(1000),
        "julian" => i64::from(at.num_days_from_ce()) + 1_721_425,
        "timezone" | "timezone_hour" | "timezone_minute" => 0,
        _ => return Err(unknown_field(name)),
    };
    Ok(i128::from(whole) * 1_000_000)
}

fn of_interval(name: &str, value: IntervalMonthDayNano) -> Result<i128> {
    let (months, days, us) = (i64::from(value.months), i64::from(value.days), value.nanoseconds / 1000);
    let seconds_us = us % (60 * SECOND_US);
    let whole = match name {
        // A year counts 365.25 days, a month 30, as in Postgres.
        "epoch" => {
            let day_us = i128::from(DAY_US);
            return Ok(i128::from(months / 12) * day_us * 1461 / 4
                + i128::from(months % 12 * 30 + days) * day_us
                + i128::from(us));
        }
        "second" | "seconds" => return Ok(seconds_us.into()),
        "millisecond" | "milliseconds" => return Ok(i128::from(seconds_us) * 1000),
        "microsecond" | "microseconds" => seconds_us,
        "minute" | "minutes" => us / (60 * SECOND_US) % 60,
        "hour" | "hours" => us / (3600 * SECOND_US),
        "day" | "days" => days,
        "month" | "months" => months % 12,
        "quarter" => months % 12 / 3 + 1,
        "year" | "years" => months / 12,
        "decade" => months / 120,
        "century" => months / 1200,
        "millennium" => months / 12_000,
        _ => return Err(unknown_field(name)),
    };
    Ok(i128::from(whole) * 1_000_000)
}

fn zone_type(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let zone = match fields.get(1).map(|field| field.data_type()) {
        Some(DataType::Timestamp(_, Some(_))) => None,
        Some(_) => Some("UTC".into()),
        None => return Err(mismatch("timezone", fields)),
    };
    Ok(DataType::Timestamp(TimeUnit::Microsecond, zone))
}

/// `x AT TIME ZONE zone`: a moment as the clock there shows it, or what a clock there shows as a moment.
fn in_zone(arrays: &[ArrayRef], fields: &[FieldRef]) -> Result<ArrayRef> {
    let (zones, values) = (text_argument(arrays, 0)?, argument(arrays, 1)?);
    let to_local = matches!(values.data_type(), DataType::Timestamp(_, Some(_)));
    if !matches!(values.data_type(), DataType::Timestamp(..) | DataType::Date32 | DataType::Null) {
        return Err(mismatch("timezone", fields));
    }
    let us = micros(values)?;
    let mut made = Vec::with_capacity(us.len());
    for row in 0..us.len() {
        let at = if us.is_null(row) || zones.is_null(row) { None } else { moment(us.value(row)) };
        let Some(at) = at else {
            made.push(None);
            continue;
        };
        let name = zones.value(row);
        let zone: Tz = match name.to_uppercase().as_str() {
            "UTC" | "GMT" | "Z" => "+00:00".parse(),
            _ => name.parse(),
        }
        .map_err(|_| {
            DataFusionError::Plan("time zone not recognized: its type is a name such as Europe/Berlin or +02:00".into())
        })?;
        let offset =
            if to_local { Some(zone.offset_from_utc_datetime(&at)) } else { zone.offset_from_local_datetime(&at).earliest() };
        let seconds = i64::from(offset.map_or(0, |offset| offset.fix().local_minus_utc()));
        let shift = if to_local { seconds } else { -seconds };
        made.push(us.value(row).checked_add(shift * SECOND_US));
    }
    let made = TimestampMicrosecondArray::from(made);
    Ok(if to_local { Arc::new(made) } else { Arc::new(made.with_timezone("UTC")) })
}

/// Midnight of the epoch's day plus a time, for patterns over intervals.
pub(super) fn epoch() -> NaiveDateTime {
    date(0).unwrap_or_default().and_time(NaiveTime::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_go_by_the_calendar() {
        let at = |text: &str| text.parse::<NaiveDateTime>().unwrap().and_utc().timestamp_micros();
        let check = |late: &str, early: &str, expected: &str| {
            let made = age(at(late), at(early)).unwrap();
            assert_eq!(super::super::forms::interval_text(made.months, made.days, made.nanoseconds / 1000), expected);
        };
        check("2024-03-01T00:00:00", "2023-01-31T00:00:00", "1 year 1 mon 1 day");
        check("2024-02-29T00:00:00", "2024-02-28T12:00:00", "12:00:00");
        check("2000-01-01T00:00:00", "2001-03-05T01:00:00", "-1 years -2 mons -4 days -01:00:00");
    }

    #[test]
    fn fields_are_extracted() {
        let check =
            |name: &str, us: i64, expected: i128| assert_eq!(of_moment(name, us).unwrap(), expected * 1_000_000, "{name}");
        check("dow", 0, 4);
        check("week", 0, 1);
        check("quarter", 0, 1);
        check("century", 0, 20);
        assert!(of_moment("chaos", 0).is_err());
    }
}
