//! `to_date` and `to_timestamp`: texts read by Postgres's template patterns.

use super::reading::Unread;
use super::scalar::{argument, fixed_type, function, is_text, own_error, text_argument};
use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub(super) fn all() -> Vec<ScalarUDF> {
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    vec![
        function("to_date", fixed_type(DataType::Date32), |arrays, _, _| {
            let moments: ArrayRef = Arc::new(read(arrays, "date")?);
            Ok(cast(&moments, &DataType::Date32)?)
        }),
        function("to_timestamp", fixed_type(zoned), |arrays, _, _| {
            if arrays.len() > 1 {
                return Ok(Arc::new(read(arrays, "timestamp with time zone")?.with_timezone("UTC")));
            }
            let values = argument(arrays, 0)?;
            if is_text(values.data_type()) {
                return Err(super::scalar::mismatch("to_timestamp", &[]));
            }
            // Seconds since 1970.
            let seconds = cast(values, &DataType::Float64)?;
            let us = |seconds: f64| (seconds * 1e6).round() as i64;
            let made: TimestampMicrosecondArray = seconds.as_primitive::<Float64Type>().iter().map(|s| s.map(us)).collect();
            Ok(Arc::new(made.with_timezone("UTC")))
        }),
    ]
}

fn read(arrays: &[ArrayRef], name: &str) -> Result<TimestampMicrosecondArray> {
    let (texts, patterns) = (text_argument(arrays, 0)?, text_argument(arrays, 1)?);
    let one = |(text, pattern): (Option<&str>, Option<&str>)| {
        let Some((text, pattern)) = text.zip(pattern) else { return Ok(None) };
        let at = moment(text, pattern).map_err(|e| own_error(e.error(name)))?;
        Ok(Some(at.and_utc().timestamp_micros()))
    };
    texts.iter().zip(&patterns).map(one).collect()
}

type Read<T> = std::result::Result<T, Unread>;

/// Longest first.
const FIELDS: &[&str] = &[
    "MONTH", "YYYY", "HH24", "HH12", "MON", "DDD", "DAY", "A.M.", "P.M.", "YY", "MM", "DD", "HH", "MI", "SS", "MS", "US", "AM",
    "PM", "DY", "TZ",
];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// The number that a text begins with, of so many digits at most.
fn digits(rest: &mut &str, most: usize) -> Read<u32> {
    let end = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (number, after) = rest.split_at(end);
    *rest = after;
    number.parse().map_err(|_| Unread::Form)
}

/// What a text says, field by field.
struct Fields {
    year: i32,
    month: u32,
    day: u32,
    ordinal: Option<u32>,
    hour: u32,
    minute: u32,
    second: u32,
    us: u32,
    afternoon: Option<bool>,
}

impl Fields {
    /// Reads one field from the front of `rest`. `open`: what follows in the pattern is no field, so a year may have any digits.
    fn take(&mut self, field: &str, rest: &mut &str, open: bool) -> Read<()> {
        match field {
            "YYYY" => self.year = digits(rest, if open { 9 } else { 4 })? as i32,
            "YY" => {
                let short = digits(rest, 2)? as i32;
                self.year = if short < 70 { 2000 + short } else { 1900 + short };
            }
            "MM" => self.month = digits(rest, 2)?,
            "DD" => self.day = digits(rest, 2)?,
            "DDD" => self.ordinal = Some(digits(rest, 3)?),
            "HH24" | "HH12" | "HH" => self.hour = digits(rest, 2)?,
            "MI" => self.minute = digits(rest, 2)?,
            "SS" => self.second = digits(rest, 2)?,
            "MS" | "US" => {
                let before = rest.len();
                let number = digits(rest, if field == "MS" { 3 } else { 6 })?;
                let given = before - rest.len();
                self.us = number * 10u32.pow(6 - given as u32);
            }
            "MON" | "MONTH" => {
                let head = rest.get(..3).ok_or(Unread::Form)?.to_ascii_lowercase();
                self.month = MONTHS.iter().position(|known| *known == head).ok_or(Unread::Form)? as u32 + 1;
                *rest = rest.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            }
            "DAY" | "DY" | "TZ" => *rest = rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
            _ => {
                self.afternoon = Some(rest.to_ascii_lowercase().starts_with('p'));
                *rest = rest.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '.');
            }
        }
        Ok(())
    }

    fn made(self) -> Read<NaiveDateTime> {
        let hour = match self.afternoon {
            Some(_) if !(1..=12).contains(&self.hour) => return Err(Unread::Range),
            Some(afternoon) => self.hour % 12 + if afternoon { 12 } else { 0 },
            None => self.hour,
        };
        let date = match self.ordinal {
            Some(ordinal) => NaiveDate::from_yo_opt(self.year, ordinal),
            None => NaiveDate::from_ymd_opt(self.year, self.month, self.day),
        };
        let time = NaiveTime::from_hms_micro_opt(hour, self.minute, self.second, self.us);
        Ok(date.ok_or(Unread::Range)?.and_time(time.ok_or(Unread::Range)?))
    }
}

/// What a text says under a pattern. Fields that the pattern does not name are those of 0001-01-01 00:00:00.
fn moment(text: &str, pattern: &str) -> Read<NaiveDateTime> {
    let (ordinal, afternoon) = (None, None);
    let mut fields = Fields { year: 1, month: 1, day: 1, ordinal, hour: 0, minute: 0, second: 0, us: 0, afternoon };
    let (mut rest, mut left) = (text.trim_start(), pattern);
    while !left.is_empty() && !rest.is_empty() {
        let upper = left.to_ascii_uppercase();
        if upper.starts_with("FM") {
            left = &left[2..];
            continue;
        }
        if let Some(field) = FIELDS.iter().find(|field| upper.starts_with(**field)) {
            left = &left[field.len()..];
            rest = rest.trim_start();
            fields.take(field, &mut rest, !left.starts_with(|c: char| c.is_ascii_alphabetic()))?;
            continue;
        }
        // Anything else stands for one character; letters and digits of the text are not skipped.
        let mut chars = left.chars();
        let separator = chars.next();
        left = chars.as_str();
        let next = rest.chars().next();
        if next == separator || next.is_some_and(|c| !c.is_alphanumeric()) {
            rest = &rest[next.map_or(0, char::len_utf8)..];
        }
    }
    fields.made()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_follow_their_templates() {
        let check = |text: &str, pattern: &str, expected: Read<&str>| {
            assert_eq!(moment(text, pattern).map(|m| m.to_string()), expected.map(str::to_string), "{text} {pattern}");
        };
        check("2024-03-01 12:30", "YYYY-MM-DD HH24:MI", Ok("2024-03-01 12:30:00"));
        check("01/03/2024", "DD/MM/YYYY", Ok("2024-03-01 00:00:00"));
        check("5 Mar 2024", "DD Mon YYYY", Ok("2024-03-05 00:00:00"));
        check("20240301", "YYYYMMDD", Ok("2024-03-01 00:00:00"));
        check("March 5, 24 01:02:03.5 PM", "FMMonth DD, YY HH12:MI:SS.MS AM", Ok("2024-03-05 13:02:03.500"));
        check("2024-060", "YYYY-DDD", Ok("2024-02-29 00:00:00"));
        check("2024-13-45", "YYYY-MM-DD", Err(Unread::Range));
        check("abc", "YYYY-MM-DD", Err(Unread::Form));
        check("é", "YYYY", Err(Unread::Form));
    }
}
