//! Values as text in Postgres's forms: casts to text, `concat`, `pg_typeof`.

use super::scalar::{argument, function, is_text, text_type};
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, FieldRef, Float32Type, Float64Type, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ScalarUDF;
use mainstem_types::schema::{QUOTIENT, SOURCE_TYPE_KEY, quotient_scale};
use std::fmt::Write;
use std::sync::Arc;

pub(super) fn all() -> Vec<ScalarUDF> {
    vec![
        function("pg_text", text_type, |arrays, fields, _| Ok(Arc::new(text_of(argument(arrays, 0)?, fields.first(), false)?))),
        function("concat", text_type, |arrays, fields, _| concat(arrays, fields)),
        function("pg_size_pretty", text_type, |arrays, _, _| {
            let bytes = cast(argument(arrays, 0)?, &DataType::Int64)?;
            let bytes = bytes.as_primitive::<arrow::datatypes::Int64Type>();
            Ok(Arc::new(bytes.iter().map(|bytes| bytes.map(size_text)).collect::<StringArray>()))
        }),
        function("pg_typeof", text_type, |arrays, fields, _| {
            let name = fields.first().map_or("unknown", |field| crate::system::type_name(field));
            Ok(Arc::new(StringArray::from(vec![name; arrays.first().map_or(1, |a| a.len())])))
        }),
    ]
}

/// `pg_size_pretty`: a unit is left when ten of the next are reached.
fn size_text(bytes: i64) -> String {
    let (mut value, mut half_up) = (bytes, false);
    for unit in ["bytes", "kB", "MB", "GB", "TB"] {
        let limit = if unit == "bytes" { 10 * 1024 } else { 20 * 1024 - 1 };
        if value.abs() < limit {
            let shown = if half_up { (value + value.signum()) / 2 } else { value };
            return format!("{shown} {unit}");
        }
        value >>= if half_up { 10 } else { 9 };
        half_up = true;
    }
    format!("{} PB", (value + value.signum()) / 2)
}

/// `concat`: NULLs are left out; booleans are `t` and `f`.
fn concat(arrays: &[ArrayRef], fields: &[FieldRef]) -> Result<ArrayRef> {
    let parts = arrays.iter().zip(fields).map(|(array, field)| text_of(array, Some(field), true)).collect::<Result<Vec<_>>>()?;
    let rows = arrays.first().map_or(1, |a| a.len());
    let mut made = StringBuilder::new();
    for row in 0..rows {
        parts.iter().filter(|part| part.is_valid(row)).try_for_each(|part| made.write_str(part.value(row))).ok();
        made.append_value("");
    }
    Ok(Arc::new(made.finish()))
}

/// An array as text. `output`: the form of output functions (`t`), not that of casts (`true`).
pub(super) fn text_of(array: &ArrayRef, field: Option<&FieldRef>, output: bool) -> Result<StringArray> {
    let source = field.and_then(|field| field.metadata().get(SOURCE_TYPE_KEY)).map(String::as_str);
    let micros = || cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None));
    Ok(match array.data_type() {
        kind if is_text(kind) && matches!(source, Some("bpchar" | "pg_catalog.bpchar")) => {
            let text = cast(array, &DataType::Utf8)?;
            text.as_string::<i32>().iter().map(|value| value.map(|v| v.trim_end_matches(' '))).collect()
        }
        DataType::Boolean => {
            let (yes, no) = if output { ("t", "f") } else { ("true", "false") };
            array.as_boolean().iter().map(|value| value.map(|v| if v { yes } else { no })).collect()
        }
        DataType::Float16 | DataType::Float32 => {
            let values = cast(array, &DataType::Float32)?;
            values.as_primitive::<Float32Type>().iter().map(|v| v.map(|v| float(&format!("{v:e}"), f64::from(v), 6))).collect()
        }
        DataType::Float64 => {
            array.as_primitive::<Float64Type>().iter().map(|v| v.map(|v| float(&format!("{v:e}"), v, 15))).collect()
        }
        DataType::Date32 => array.as_primitive::<Date32Type>().iter().map(|v| v.and_then(date).map(date_text)).collect(),
        DataType::Date64 | DataType::Timestamp(_, None) => {
            let values = micros()?;
            values
                .as_primitive::<TimestampMicrosecondType>()
                .iter()
                .map(|v| v.and_then(moment).map(|m| moment_text(m, "")))
                .collect()
        }
        DataType::Timestamp(_, Some(_)) => {
            let utc = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
            let values = utc.as_primitive::<TimestampMicrosecondType>();
            values.iter().map(|v| v.and_then(moment).map(|m| moment_text(m, "+00"))).collect()
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let values = cast(array, &DataType::Time64(TimeUnit::Microsecond))?;
            values.as_primitive::<Time64MicrosecondType>().iter().map(|v| v.map(clock_text)).collect()
        }
        DataType::Duration(_) => {
            let values = super::times::intervals(array)?;
            values.iter().map(|v| v.map(|v| interval_text(v.months, v.days, v.nanoseconds / 1000))).collect()
        }
        DataType::Interval(IntervalUnit::MonthDayNano | IntervalUnit::DayTime | IntervalUnit::YearMonth) => {
            let values = super::times::intervals(array)?;
            values.iter().map(|v| v.map(|v| interval_text(v.months, v.days, v.nanoseconds / 1000))).collect()
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let values = cast(array, &DataType::Binary)?;
            let hex = |bytes: &[u8]| {
                bytes.iter().fold("\\x".to_string(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                })
            };
            values.as_binary::<i32>().iter().map(|v| v.map(hex)).collect()
        }
        DataType::Decimal128(_, scale) if source == Some(QUOTIENT) => {
            let held = u32::from(scale.unsigned_abs());
            let values = array.as_primitive::<Decimal128Type>();
            let text = |value: i128| -> Result<String> {
                let shown = quotient_scale(value, held);
                let cut = ScalarValue::Decimal128(Some(value / 10i128.pow(held - shown)), 38, shown as i8).to_array()?;
                Ok(cast(&cut, &DataType::Utf8)?.as_string::<i32>().value(0).to_string())
            };
            values.iter().map(|value| value.map(text).transpose()).collect::<Result<StringArray>>()?
        }
        DataType::List(item) => list_text(array, item)?,
        _ => cast(array, &DataType::Utf8)?.as_string::<i32>().clone(),
    })
}

/// `{1,2,"a b",NULL}`.
fn list_text(array: &ArrayRef, item: &FieldRef) -> Result<StringArray> {
    let lists = array.as_list::<i32>();
    let items = text_of(lists.values(), Some(item), true)?;
    let text = |row: usize| {
        let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
        let parts = range.map(|at| if items.is_null(at) { "NULL".to_string() } else { element_text(items.value(at)) });
        format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
    };
    Ok((0..lists.len()).map(|row| lists.is_valid(row).then(|| text(row))).collect())
}

fn element_text(text: &str) -> String {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace();
    if !text.is_empty() && !text.contains(special) && !text.eq_ignore_ascii_case("null") {
        return text.to_string();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Rust's shortest `d.ddde-x` as Postgres writes it: with an exponent below 1e-4 and from 1e`digits` on.
fn float(scientific: &str, value: f64, digits: i32) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_string();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..digits).contains(&exponent) {
        return format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let plain: String = mantissa.chars().filter(|c| *c != '.').collect();
    if exponent < 0 {
        return format!("{sign}0.{}{plain}", "0".repeat((-exponent - 1) as usize));
    }
    let whole = exponent as usize + 1;
    if plain.len() <= whole {
        return format!("{sign}{plain}{}", "0".repeat(whole - plain.len()));
    }
    format!("{sign}{}.{}", &plain[..whole], &plain[whole..])
}

pub(super) fn date(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(719_163)?)
}

pub(super) fn moment(us: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(us).map(|moment| moment.naive_utc())
}

fn year_text(year: i32) -> (i32, &'static str) {
    if year > 0 { (year, "") } else { (1 - year, " BC") }
}

fn date_text(date: NaiveDate) -> String {
    let (year, era) = year_text(date.year());
    format!("{year:04}-{:02}-{:02}{era}", date.month(), date.day())
}

fn moment_text(moment: NaiveDateTime, zone: &str) -> String {
    let (year, era) = year_text(moment.year());
    let us = i64::from(moment.num_seconds_from_midnight()) * 1_000_000 + i64::from(moment.nanosecond() / 1000);
    format!("{year:04}-{:02}-{:02} {}{zone}{era}", moment.month(), moment.day(), clock_text(us))
}

/// Microseconds as `HH:MM:SS[.ffffff]`.
pub(super) fn clock_text(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs();
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let mut text = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let _ = write!(text, ".{fraction:06}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

/// Interval style `postgres`.
pub(super) fn interval_text(months: i32, days: i32, us: i64) -> String {
    let (mut parts, mut negative) = (Vec::new(), false);
    for (count, one) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            let plus = if negative && count > 0 { "+" } else { "" };
            parts.push(format!("{plus}{count} {one}{}", if count == 1 { "" } else { "s" }));
            negative = count < 0;
        }
    }
    if us != 0 || parts.is_empty() {
        let plus = if negative && us > 0 { "+" } else { "" };
        parts.push(format!("{plus}{}", clock_text(us)));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_and_intervals_are_written_as_postgres_does() {
        let check = |value: f64, expected: &str| assert_eq!(float(&format!("{value:e}"), value, 15), expected);
        check(1e20, "1e+20");
        check(1e14, "100000000000000");
        check(1e15, "1e+15");
        check(2.25, "2.25");
        check(-0.0001, "-0.0001");
        check(0.000_01, "1e-05");
        check(0.0, "0");
        check(f64::NAN, "NaN");
        assert_eq!(interval_text(14, 3, 14_706_700_000), "1 year 2 mons 3 days 04:05:06.7");
        assert_eq!(interval_text(0, 0, 0), "00:00:00");
        assert_eq!(interval_text(-3, 1, -1_000_000), "-3 mons +1 day -00:00:01");
    }
}
