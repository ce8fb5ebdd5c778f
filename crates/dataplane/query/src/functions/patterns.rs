//! `to_char`: times and numbers by Postgres's template patterns.

use super::forms::moment;
use super::scalar::{argument, function, mismatch, own_error, text_argument, text_type};
use super::times::{epoch, intervals};
use crate::codes;
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use chrono::{Datelike, NaiveDateTime, Timelike};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use mainstem_types::Error;
use std::sync::Arc;

pub(super) fn all() -> Vec<ScalarUDF> {
    vec![function("to_char", text_type, |arrays, fields, _| to_char(arrays, fields))]
}

fn to_char(arrays: &[ArrayRef], fields: &[FieldRef]) -> Result<ArrayRef> {
    let (values, patterns) = (argument(arrays, 0)?, text_argument(arrays, 1)?);
    let mut made = StringBuilder::new();
    match values.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            let zone = if let DataType::Timestamp(_, zone) = values.data_type() { zone.clone() } else { None };
            let us = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
            for (us, pattern) in us.as_primitive::<TimestampMicrosecondType>().iter().zip(&patterns) {
                made.append_option(us.and_then(moment).zip(pattern).map(|(at, pattern)| time_text(at, pattern)));
            }
        }
        DataType::Interval(_) | DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_) => {
            let start = epoch();
            for (value, pattern) in intervals(values)?.iter().zip(&patterns) {
                // Hours are not cut at 24; the day's patterns show them as they are.
                let text = value.zip(pattern).map(|(v, pattern)| {
                    let us = v.nanoseconds / 1000;
                    let hours = us / 3_600_000_000;
                    let pattern = if hours.unsigned_abs() < 24 { pattern.to_string() } else { with_hours(pattern, hours) };
                    time_text(start + chrono::Duration::microseconds(us), &pattern)
                });
                made.append_option(text);
            }
        }
        kind if kind.is_numeric() => {
            let text = super::forms::text_of(&plain_number(values)?, None, true)?;
            for (number, pattern) in text.iter().zip(&patterns) {
                if pattern.is_some_and(|pattern| {
                    pattern.contains("EEEE") || pattern.to_uppercase().contains("RN") || pattern.contains('V')
                }) {
                    return Err(own_error(Error::fix(codes::NOT_SUPPORTED, "to_char has no EEEE, RN and V here")));
                }
                made.append_option(number.zip(pattern).map(|(number, pattern)| number_text(number, pattern)));
            }
        }
        DataType::Null => (0..values.len()).for_each(|_| made.append_null()),
        _ => return Err(mismatch("to_char", fields)),
    }
    Ok(Arc::new(made.finish()))
}

/// The pattern of an interval with its hours written out.
fn with_hours(pattern: &str, hours: i64) -> String {
    let text = format!("\"{hours:02}\"");
    ["HH24", "hh24"].iter().fold(pattern.to_string(), |pattern, name| pattern.replace(name, &text))
}

/// Floats as decimals, so that no exponent is in their text.
fn plain_number(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(if values.data_type().is_floating() { cast(values, &DataType::Decimal128(38, 15))? } else { values.clone() })
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// What is left of a number's text: longest first, as Postgres matches them.
const KEYWORDS: &[&str] = &[
    "A.D.", "B.C.", "a.d.", "b.c.", "A.M.", "P.M.", "a.m.", "p.m.", "MONTH", "Month", "month", "HH24", "HH12", "hh24", "hh12",
    "YYYY", "yyyy", "IYYY", "iyyy", "Y,YYY", "SSSS", "IDDD", "DDD", "ddd", "MON", "Mon", "mon", "DAY", "Day", "day", "YYY",
    "yyy", "IYY", "AD", "BC", "ad", "bc", "AM", "PM", "am", "pm", "HH", "hh", "MI", "mi", "SS", "ss", "MS", "ms", "US", "us",
    "MM", "mm", "DD", "dd", "DY", "Dy", "dy", "YY", "yy", "IY", "IW", "iw", "WW", "ww", "CC", "ID", "TZ", "tz", "OF", "FF1",
    "FF2", "FF3", "FF4", "FF5", "FF6", "Q", "q", "W", "w", "D", "d", "J", "Y", "y", "I",
];

pub(super) fn time_text(at: NaiveDateTime, pattern: &str) -> String {
    let mut text = String::new();
    let mut rest = pattern;
    let mut fill = true;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("FM").or_else(|| rest.strip_prefix("fm")) {
            (fill, rest) = (false, after);
            continue;
        }
        if let Some(after) = rest.strip_prefix('"') {
            let (quoted, after) = after.split_once('"').unwrap_or((after, ""));
            text.push_str(quoted);
            rest = after;
            continue;
        }
        if let Some(keyword) = KEYWORDS.iter().find(|keyword| rest.starts_with(**keyword)) {
            rest = &rest[keyword.len()..];
            let (made, number) = part(at, keyword, fill);
            text.push_str(&made);
            for suffix in ["TH", "th"] {
                if number && let Some(after) = rest.strip_prefix(suffix) {
                    let ending = ordinal(&made);
                    text.push_str(&if suffix == "TH" { ending.to_uppercase() } else { ending.to_string() });
                    rest = after;
                }
            }
            fill = true;
            continue;
        }
        let mut chars = rest.chars();
        text.extend(chars.next());
        rest = chars.as_str();
    }
    text
}

fn ordinal(number: &str) -> &'static str {
    let teen = number.len() > 1 && number.as_bytes()[number.len() - 2] == b'1';
    match number.as_bytes().last() {
        Some(b'1') if !teen => "st",
        Some(b'2') if !teen => "nd",
        Some(b'3') if !teen => "rd",
        _ => "th",
    }
}

/// One keyword's text, and whether it is a number.
fn part(at: NaiveDateTime, keyword: &str, fill: bool) -> (String, bool) {
    let number = |value: i64, width: usize| (if fill { format!("{value:0width$}") } else { value.to_string() }, true);
    let name = |full: &str, width: usize| {
        let cased = match keyword.chars().take(2).collect::<String>().as_str() {
            two if two.chars().all(char::is_uppercase) => full.to_uppercase(),
            two if two.chars().all(char::is_lowercase) => full.to_lowercase(),
            _ => full.to_string(),
        };
        (if fill { format!("{cased:width$}") } else { cased }, false)
    };
    let month = MONTHS.get(at.month0() as usize).copied().unwrap_or("");
    let day = DAYS.get(at.weekday().num_days_from_sunday() as usize).copied().unwrap_or("");
    let year = i64::from(if at.year() > 0 { at.year() } else { 1 - at.year() });
    let week = at.iso_week();
    let us = i64::from(at.nanosecond() / 1000);
    match keyword.to_uppercase().as_str() {
        "YYYY" => number(year, 4),
        "Y,YYY" => (format!("{},{:03}", year / 1000, year % 1000), true),
        "YYY" => number(year % 1000, 3),
        "YY" => number(year % 100, 2),
        "Y" => number(year % 10, 1),
        "IYYY" => number(week.year().into(), 4),
        "IYY" => number(i64::from(week.year()) % 1000, 3),
        "IY" => number(i64::from(week.year()) % 100, 2),
        "I" => number(i64::from(week.year()) % 10, 1),
        "MONTH" => name(month, 9),
        "MON" => name(&month[..month.len().min(3)], 0),
        "MM" => number(at.month().into(), 2),
        "DAY" => name(day, 9),
        "DY" => name(&day[..day.len().min(3)], 0),
        "DDD" => number(at.ordinal().into(), 3),
        "DD" => number(at.day().into(), 2),
        "D" => number(i64::from(at.weekday().num_days_from_sunday()) + 1, 1),
        "ID" => number(at.weekday().number_from_monday().into(), 1),
        "IW" => number(week.week().into(), 2),
        "WW" => number(i64::from((at.ordinal() - 1) / 7 + 1), 2),
        "W" => number(i64::from((at.day() - 1) / 7 + 1), 1),
        "CC" => number((year + 99) / 100, 2),
        "Q" => number(i64::from(at.month0() / 3 + 1), 1),
        "J" => number(i64::from(at.num_days_from_ce()) + 1_721_425, 1),
        "HH24" => number(at.hour().into(), 2),
        "HH12" | "HH" => number(i64::from((at.hour() + 11) % 12 + 1), 2),
        "MI" => number(at.minute().into(), 2),
        "SS" => number(at.second().into(), 2),
        "SSSS" => number(at.num_seconds_from_midnight().into(), 1),
        "MS" | "FF3" => number(us / 1000, 3),
        "US" | "FF6" => number(us, 6),
        "FF1" => number(us / 100_000, 1),
        "FF2" => number(us / 10_000, 2),
        "FF4" => number(us / 100, 4),
        "FF5" => number(us / 10, 5),
        "AM" | "PM" => half(keyword, if at.hour() < 12 { "AM" } else { "PM" }),
        "A.M." | "P.M." => half(keyword, if at.hour() < 12 { "A.M." } else { "P.M." }),
        "AD" | "BC" => half(keyword, if at.year() > 0 { "AD" } else { "BC" }),
        "A.D." | "B.C." => half(keyword, if at.year() > 0 { "A.D." } else { "B.C." }),
        "TZ" => half(keyword, "UTC"),
        "OF" => ("+00".into(), false),
        _ => (keyword.to_string(), false),
    }
}

fn half(keyword: &str, text: &str) -> (String, bool) {
    (if keyword.starts_with(char::is_lowercase) { text.to_lowercase() } else { text.to_string() }, false)
}

/// A number's plain text by a pattern of 9, 0, `.`, `,`, D, G, S, MI, PR, L, FM and text between quotes.
pub(super) fn number_text(number: &str, pattern: &str) -> String {
    let (body, fill) = match pattern.strip_prefix("FM").or_else(|| pattern.strip_prefix("fm")) {
        Some(body) => (body, false),
        None => (pattern, true),
    };
    let (body, mark) = sign_mark(body);
    let point = body.find(['.', 'D', 'd']);
    let (whole, fraction) = body.split_at(point.unwrap_or(body.len()));
    let decimals = fraction.chars().filter(|c| matches!(c, '0' | '9')).count();
    let (negative, digits, decimal_digits) = rounded(number, decimals);
    let places = whole.chars().filter(|c| matches!(c, '0' | '9')).count();
    let fits = digits.len() <= places || digits == "0";
    let mut front = whole_part(whole, if fits { &digits } else { "" }, places, fill, !fits, point.is_some());
    let tail = fraction_text(fraction, &decimal_digits, if fill { Some(decimals) } else { None }, fits);
    let blank = if fill { " " } else { "" };
    let (before, after) = match (mark, negative) {
        (SignMark::Angle, true) => ("<", ">"),
        (SignMark::Angle, false) => (blank, blank),
        (SignMark::Last | SignMark::MinusLast, true) => ("", "-"),
        (SignMark::Last, false) => ("", "+"),
        (SignMark::MinusLast, false) => ("", blank),
        (SignMark::First, false) => ("+", ""),
        (SignMark::First | SignMark::Usual, true) => ("-", ""),
        (SignMark::Usual, false) => (blank, ""),
    };
    // The sign stands right before the first digit.
    let at = front.len() - front.trim_start_matches(' ').len();
    front.insert_str(at, before);
    format!("{front}{tail}{after}")
}

/// How a pattern wants the sign shown.
#[derive(Clone, Copy)]
enum SignMark {
    Usual,
    /// S in front.
    First,
    /// S at the end.
    Last,
    /// MI
    MinusLast,
    /// PR
    Angle,
}

/// The pattern without its sign mark.
fn sign_mark(body: &str) -> (&str, SignMark) {
    let ends = |mark: &str| {
        body.len() >= mark.len()
            && body.is_char_boundary(body.len() - mark.len())
            && body[body.len() - mark.len()..].eq_ignore_ascii_case(mark)
    };
    match body {
        _ if ends("PR") => (&body[..body.len() - 2], SignMark::Angle),
        _ if ends("MI") => (&body[..body.len() - 2], SignMark::MinusLast),
        _ if ends("S") => (&body[..body.len() - 1], SignMark::Last),
        _ if body.starts_with(['S', 's']) => (&body[1..], SignMark::First),
        _ => (body, SignMark::Usual),
    }
}

/// The point and what follows it. `all`: show this many decimals; None (FM) = zeros at the end only where the pattern has a 0.
fn fraction_text(fraction: &str, decimal_digits: &str, all: Option<usize>, fits: bool) -> String {
    let last_zero = fraction.rfind('0').map_or(0, |at| fraction[..=at].chars().filter(|c| matches!(c, '0' | '9')).count());
    let keep = all.unwrap_or_else(|| decimal_digits.trim_end_matches('0').len().max(last_zero));
    let mut tail = String::new();
    let mut given = decimal_digits.chars();
    let mut count = 0;
    for c in fraction.chars() {
        match c {
            '.' | 'D' | 'd' => tail.push('.'),
            '0' | '9' => {
                let digit = given.next().unwrap_or('0');
                count += 1;
                if count <= keep {
                    tail.push(if fits { digit } else { '#' });
                }
            }
            '"' => {}
            c => tail.push(c),
        }
    }
    tail
}

/// Sign, digits before and after the point, rounded half away from zero.
fn rounded(number: &str, decimals: usize) -> (bool, String, String) {
    let (negative, plain) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals)).collect();
    if fraction.as_bytes().get(decimals).is_some_and(|next| *next >= b'5') {
        let mut carry = true;
        for digit in digits.iter_mut().rev().filter(|d| d.is_ascii_digit()) {
            if !carry {
                break;
            }
            carry = *digit == b'9';
            *digit = if carry { b'0' } else { *digit + 1 };
        }
        if carry {
            digits.insert(0, b'1');
        }
    }
    let text = String::from_utf8_lossy(&digits).into_owned();
    let (whole, fraction) = text.split_at(text.len() - decimals);
    let whole = whole.trim_start_matches('0');
    let zero = whole.is_empty() && fraction.bytes().all(|b| b == b'0');
    (negative && !zero, if whole.is_empty() { "0".into() } else { whole.to_string() }, fraction.to_string())
}

/// The part before the point.
fn whole_part(pattern: &str, digits: &str, places: usize, fill: bool, overflow: bool, has_point: bool) -> String {
    let zero = digits == "0";
    // A lone zero before a point is not written, unless the pattern has a 0 there; without a point it is.
    let given = if zero && has_point { 0 } else { digits.len() };
    let mut text = String::new();
    let (mut seen, mut started) = (0, overflow);
    for c in pattern.chars() {
        match c {
            '0' | '9' => {
                started |= c == '0' || places - seen <= given;
                let left = places - seen;
                seen += 1;
                if overflow {
                    text.push('#');
                } else if left <= given {
                    text.push(digits.chars().nth(given - left).unwrap_or('0'));
                } else if started {
                    text.push('0');
                } else if fill {
                    text.push(' ');
                }
            }
            ',' | 'G' | 'g' => {
                if started {
                    text.push(',');
                } else if fill {
                    text.push(' ');
                }
            }
            'L' | 'l' => {
                if fill {
                    text.push(' ');
                }
            }
            '"' => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_their_patterns() {
        let check = |number: &str, pattern: &str, expected: &str| {
            assert_eq!(number_text(number, pattern), expected, "{number} {pattern}")
        };
        check("12.34", "FM999,999.00", "12.34");
        check("-0.5", "FM999,999.00", "-.50");
        check("12.34", "999.99", "  12.34");
        check("-0.5000", "999.99", "   -.50");
        check("10", "0000", " 0010");
        check("-7", "0000", "-0007");
        check("12345.678", "FM999G999D99", "12,345.68");
        check("1234", "99", " ##");
        check("0", "9", " 0");
        check("1234567.5", "FM9,999,999.99", "1,234,567.5");
        check("5", "999MI", "  5 ");
        check("-5", "S99", " -5");
    }

    #[test]
    fn times_follow_their_patterns() {
        let at = chrono::NaiveDate::from_ymd_opt(2024, 2, 29).unwrap().and_hms_micro_opt(13, 14, 15, 120_000).unwrap();
        let check = |pattern: &str, expected: &str| assert_eq!(time_text(at, pattern), expected, "{pattern}");
        check("YYYY-MM-DD HH24:MI:SS", "2024-02-29 13:14:15");
        check("FMDay, FMMonth DD HH12:MI AM", "Thursday, February 29 01:14 PM");
        check("Month|", "February |");
        check("IYYY-IW Q DDD", "2024-09 1 060");
        check("\"Week\" WW DDth MS US", "Week 09 29th 120 120000");
    }
}
