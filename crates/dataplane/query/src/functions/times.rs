//! Arithmetic on times: differences as intervals, `age`, `extract`, time zones.

use super::forms::{date, moment};
use super::scalar::{argument, function, mismatch, own_error, text_argument};
use crate::codes;
use arrow::array::timezone::Tz;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Builder, Float64Builder, IntervalMonthDayNanoArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::ScalarUDF;
use mainstem_types::Error;
use std::sync::Arc;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;
pub(super) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

pub(super) fn all() -> Vec<ScalarUDF> {
    let interval = |_: &[FieldRef], _: &[Option<&ScalarValue>]| Ok(INTERVAL);
    vec![
        function("pg_between_times", interval, |arrays, _, _| difference(arrays, plain_difference)),
        function("age", interval, |arrays, _, _| difference(arrays, age)),
        function("pg_interval_times", interval, |arrays, _, _| interval_times(arrays)),
        function("pg_extract", extract_type, extract),
        function("date_part", |_, _| Ok(DataType::Float64), extract),
        function("timezone", zone_type, |arrays, fields, _| in_zone(arrays, fields)),
        function("pg_interval_key", |_, _| Ok(DataType::Decimal128(38, 0)), |arrays, _, kind| interval_keys(arrays, kind)),
        function("date_trunc", trunc_type, date_trunc),
        function("justify_hours", interval, |arrays, _, _| justified(arrays, |v| justify(v, true, false))),
        function("justify_days", interval, |arrays, _, _| justified(arrays, |v| justify(v, false, true))),
        function("justify_interval", interval, |arrays, _, _| justified(arrays, |v| justify(v, true, true))),
        function("pg_make_interval", interval, |arrays, _, _| make_interval(arrays)),
        function(
            "make_timestamp",
            |_, _| Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
            |arrays, _, _| Ok(Arc::new(made_moments(arrays)?)),
        ),
        function(
            "make_timestamptz",
            |_, _| Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            |arrays, _, _| Ok(Arc::new(made_moments(arrays)?.with_timezone("UTC"))),
        ),
        function(
            "make_date",
            |_, _| Ok(DataType::Date32),
            |arrays, _, _| Ok(cast(&(Arc::new(made_moments(arrays)?) as ArrayRef), &DataType::Date32)?),
        ),
        // Infinite dates do not get here.
        function(
            "isfinite",
            |_, _| Ok(DataType::Boolean),
            |arrays, _, _| {
                let values = argument(arrays, 0)?;
                Ok(Arc::new((0..values.len()).map(|row| values.is_valid(row).then_some(true)).collect::<BooleanArray>()))
            },
        ),
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
fn extract_type(fields: &[FieldRef], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let field = match constants.first() {
        Some(Some(ScalarValue::Utf8(Some(field)) | ScalarValue::Utf8View(Some(field)))) => field.to_lowercase(),
        _ => String::new(),
    };
    let scale = match field.as_str() {
        "epoch" if fields.get(1).is_some_and(|value| *value.data_type() == DataType::Date32) => 0,
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

/// The length by which intervals compare: a month has 30 days, a day 24 hours.
fn interval_keys(arrays: &[ArrayRef], kind: &DataType) -> Result<ArrayRef> {
    let values = intervals(argument(arrays, 0)?)?;
    let key = |v: IntervalMonthDayNano| {
        (i128::from(v.months) * 30 + i128::from(v.days)) * i128::from(DAY_US) + i128::from(v.nanoseconds / 1000)
    };
    let mut made = Decimal128Builder::with_capacity(values.len()).with_data_type(kind.clone());
    values.iter().for_each(|value| made.append_option(value.map(key)));
    Ok(Arc::new(made.finish()))
}

/// Each interval divided by a count: what is left of months goes to days, of days to the time (`interval_div`).
pub(super) fn shares(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (values, counts) = (intervals(argument(arrays, 0)?)?, cast(argument(arrays, 1)?, &DataType::Int64)?);
    let one = |value: IntervalMonthDayNano, count: i64| {
        let by = count as f64;
        // To a microsecond, as Postgres rounds what is left.
        let rounded = |value: f64| (value * 1e6).round() / 1e6;
        let (months, days) = ((f64::from(value.months) / by).trunc(), (f64::from(value.days) / by).trunc());
        let month_days = rounded((f64::from(value.months) / by - months) * 30.0);
        let mut seconds = rounded((f64::from(value.days) / by - days + month_days - month_days.trunc()) * 86_400.0);
        let mut whole = days + month_days.trunc();
        if seconds.abs() >= 86_400.0 {
            whole += (seconds / 86_400.0).trunc();
            seconds -= (seconds / 86_400.0).trunc() * 86_400.0;
        }
        let us = ((value.nanoseconds / 1000) as f64 / by + seconds * SECOND_US as f64).round();
        interval(months as i32, whole as i32, us as i64)
    };
    let counts = counts.as_primitive::<arrow::datatypes::Int64Type>();
    let both = values.iter().zip(counts).map(|(value, count)| value.zip(count.filter(|n| *n != 0)).map(|(v, n)| one(v, n)));
    Ok(Arc::new(both.collect::<IntervalMonthDayNanoArray>()))
}

fn justified(arrays: &[ArrayRef], of: impl Fn(IntervalMonthDayNano) -> IntervalMonthDayNano) -> Result<ArrayRef> {
    Ok(Arc::new(intervals(argument(arrays, 0)?)?.iter().map(|value| value.map(&of)).collect::<IntervalMonthDayNanoArray>()))
}

/// Full days out of hours, full months out of days; the parts then have one sign.
fn justify(value: IntervalMonthDayNano, hours: bool, days: bool) -> IntervalMonthDayNano {
    let (mut months, mut whole, mut us) = (i64::from(value.months), i64::from(value.days), value.nanoseconds / 1000);
    if hours {
        whole += us / DAY_US;
        us %= DAY_US;
    }
    if days {
        months += whole / 30;
        whole %= 30;
    }
    if days && months > 0 && (whole < 0 || (whole == 0 && us < 0)) {
        (months, whole) = (months - 1, whole + 30);
    } else if days && months < 0 && (whole > 0 || (whole == 0 && us > 0)) {
        (months, whole) = (months + 1, whole - 30);
    }
    if hours && whole > 0 && us < 0 {
        (whole, us) = (whole - 1, us + DAY_US);
    } else if hours && whole < 0 && us > 0 {
        (whole, us) = (whole + 1, us - DAY_US);
    }
    interval(months as i32, whole as i32, us)
}

/// Numbers of one row, as doubles; None where one is NULL.
fn numbers(arrays: &[ArrayRef]) -> Result<Vec<Option<Vec<f64>>>> {
    let columns = arrays.iter().map(|array| Ok(cast(array, &DataType::Float64)?)).collect::<Result<Vec<_>>>()?;
    let rows = arrays.first().map_or(0, |array| array.len());
    let value = |column: &ArrayRef, row: usize| {
        column.is_valid(row).then(|| column.as_primitive::<arrow::datatypes::Float64Type>().value(row))
    };
    Ok((0..rows).map(|row| columns.iter().map(|column| value(column, row)).collect()).collect())
}

/// Years, months, weeks, days, hours, minutes, seconds.
fn make_interval(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let one = |parts: Vec<f64>| {
        let at = |place: usize| parts.get(place).copied().unwrap_or(0.0);
        let us = (at(4) * 3600.0 + at(5) * 60.0 + at(6)) * SECOND_US as f64;
        interval((at(0) * 12.0 + at(1)) as i32, (at(2) * 7.0 + at(3)) as i32, us.round() as i64)
    };
    Ok(Arc::new(numbers(arrays)?.into_iter().map(|parts| parts.map(one)).collect::<IntervalMonthDayNanoArray>()))
}

/// Year, month, day and, where given, hour, minute, second.
fn made_moments(arrays: &[ArrayRef]) -> Result<TimestampMicrosecondArray> {
    let range = || own_error(Error::fix(codes::DATE_OUT_OF_RANGE, "date or time field value out of range"));
    let one = |parts: Vec<f64>| -> Result<i64> {
        let at = |place: usize| parts.get(place).copied().unwrap_or(0.0);
        let day = NaiveDate::from_ymd_opt(at(0) as i32, at(1) as u32, at(2) as u32).ok_or_else(range)?;
        let us = ((at(3) * 3600.0 + at(4) * 60.0 + at(5)) * SECOND_US as f64).round() as i64;
        if !(0.0..=24.0).contains(&at(3)) || !(0.0..60.0).contains(&at(4)) || !(0.0..=60.0).contains(&at(5)) || us > DAY_US {
            return Err(range());
        }
        Ok(day.and_time(NaiveTime::MIN).and_utc().timestamp_micros() + us)
    };
    numbers(arrays)?.into_iter().map(|parts| parts.map(one).transpose()).collect()
}

/// Intervals stay, dates become moments as in Postgres.
fn trunc_type(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match fields.get(1).map(|field| field.data_type()) {
        Some(DataType::Timestamp(_, None)) if fields.len() == 2 => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
        Some(DataType::Timestamp(_, Some(_)) | DataType::Date32 | DataType::Null) => {
            Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
        }
        Some(DataType::Interval(_) | DataType::Duration(_)) => Ok(INTERVAL),
        _ => Err(mismatch("date_trunc", fields)),
    }
}

/// `date_trunc(unit, value [, zone])`.
fn date_trunc(arrays: &[ArrayRef], _: &[FieldRef], kind: &DataType) -> Result<ArrayRef> {
    let (units, values) = (text_argument(arrays, 0)?, argument(arrays, 1)?);
    let unit = |row: usize| units.is_valid(row).then(|| units.value(row).to_lowercase());
    if let DataType::Interval(_) = kind {
        let values = intervals(values)?;
        let one = |row: usize| {
            unit(row).filter(|_| values.is_valid(row)).map(|unit| trunc_interval(&unit, values.value(row))).transpose()
        };
        return Ok(Arc::new((0..values.len()).map(one).collect::<Result<IntervalMonthDayNanoArray>>()?));
    }
    let us = micros(values)?;
    // Seen by the clock of the zone that is named, and back again.
    let zones = if arrays.len() > 2 { Some(argument(arrays, 2)?.clone()) } else { None };
    let local = match &zones {
        Some(zone) => shifted(zone, &us, true)?,
        None => us.clone(),
    };
    let mut last: Option<(String, Trunc)> = None;
    let mut made = Vec::with_capacity(us.len());
    for row in 0..us.len() {
        if us.is_null(row) || units.is_null(row) {
            made.push(None);
            continue;
        }
        if last.as_ref().is_none_or(|(known, _)| known != units.value(row)) {
            last = Some((units.value(row).to_string(), Trunc::named(&units.value(row).to_lowercase())?));
        }
        made.push(last.as_ref().and_then(|(_, to)| to.of(local.value(row))));
    }
    let made = TimestampMicrosecondArray::from(made);
    let made = match &zones {
        Some(zone) => shifted(zone, &made, false)?,
        None => made,
    };
    Ok(match kind {
        DataType::Timestamp(_, Some(_)) => Arc::new(made.with_timezone("UTC")),
        _ => Arc::new(made.with_timezone_opt(None::<&str>)),
    })
}

fn shifted(zone: &ArrayRef, us: &TimestampMicrosecondArray, to_local: bool) -> Result<TimestampMicrosecondArray> {
    let values: ArrayRef = match to_local {
        true => Arc::new(us.clone().with_timezone("UTC")),
        false => Arc::new(us.clone().with_timezone_opt(None::<&str>)),
    };
    let made = in_zone(&[zone.clone(), values], &[])?;
    Ok(made.as_primitive::<TimestampMicrosecondType>().clone())
}

/// What is cut off.
enum Trunc {
    /// A fixed number of microseconds.
    Us(i64),
    /// To Monday.
    Week,
    /// To the first day of so many months.
    Months(i32),
}

impl Trunc {
    fn named(unit: &str) -> Result<Self> {
        Ok(match unit {
            "microsecond" | "microseconds" => Self::Us(1),
            "millisecond" | "milliseconds" => Self::Us(1000),
            "second" | "seconds" => Self::Us(SECOND_US),
            "minute" | "minutes" => Self::Us(60 * SECOND_US),
            "hour" | "hours" => Self::Us(3600 * SECOND_US),
            "day" | "days" => Self::Us(DAY_US),
            "week" | "weeks" => Self::Week,
            "month" | "months" => Self::Months(1),
            "quarter" | "quarters" => Self::Months(3),
            "year" | "years" => Self::Months(12),
            "decade" | "decades" => Self::Months(120),
            "century" | "centuries" => Self::Months(1200),
            "millennium" | "millennia" => Self::Months(12_000),
            _ => return Err(own_error(Error::fix(codes::INVALID_SETTING, format!("unit \"{unit}\" not recognized")))),
        })
    }

    fn of(&self, us: i64) -> Option<i64> {
        match self {
            Self::Us(unit) => Some(us.div_euclid(*unit) * unit),
            // 1970-01-01 was a Thursday.
            Self::Week => Some(((us.div_euclid(DAY_US) + 3).div_euclid(7) * 7 - 3) * DAY_US),
            Self::Months(size) => {
                let at = moment(us)?;
                // Centuries and millennia begin with the year 1, decades with 0.
                let (size, first) = (*size, if *size >= 1200 { 12 } else { 0 });
                let months = (at.year() * 12 + at.month0() as i32 - first).div_euclid(size) * size + first;
                let day = NaiveDate::from_ymd_opt(months.div_euclid(12), months.rem_euclid(12) as u32 + 1, 1)?;
                Some(day.and_time(NaiveTime::MIN).and_utc().timestamp_micros())
            }
        }
    }
}

fn trunc_interval(unit: &str, value: IntervalMonthDayNano) -> Result<IntervalMonthDayNano> {
    let us = value.nanoseconds / 1000;
    Ok(match Trunc::named(unit)? {
        Trunc::Us(DAY_US) => interval(value.months, value.days, 0),
        Trunc::Us(unit) => interval(value.months, value.days, us / unit * unit),
        Trunc::Week => return Err(own_error(Error::fix(codes::NOT_SUPPORTED, "unit \"week\" not supported for type interval"))),
        Trunc::Months(size) => interval(value.months / size * size, 0, 0),
    })
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
