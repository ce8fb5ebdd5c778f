//! Texts as dates, times and intervals, by the rules of Postgres's input functions with `DateStyle = ISO, MDY`.

use crate::codes;
use arrow::array::timezone::Tz;
use arrow::datatypes::IntervalMonthDayNano;
use chrono::{Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone};
use mainstem_types::Error;

const SECOND_US: i64 = 1_000_000;
pub(super) const DAY_US: i64 = 86_400 * SECOND_US;

/// Why a text cannot be read. The text itself is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It does not have the form: 22007.
    Form,
    /// A field does not fit its range: 22008.
    Range,
    /// `infinity`: Postgres has it, columns here do not.
    Endless,
}

impl Unread {
    /// As an error about the type `name`.
    pub(super) fn error(self, name: &str) -> Error {
        match self {
            Self::Form => Error::fix(codes::INVALID_DATE, format!("invalid input syntax for type {name}"))
                .hint("Write 2024-02-29, 2024-02-29 13:14:15, 13:14:15, or 1 day 02:00:00."),
            Self::Range => Error::fix(codes::DATE_OUT_OF_RANGE, format!("date/time field value out of range for type {name}")),
            Self::Endless => Error::fix(codes::DATE_OUT_OF_RANGE, format!("{name} has no infinity here"))
                .hint("Compare with a date far away, for instance 9999-12-31."),
        }
    }
}

type Read<T> = Result<T, Unread>;

/// What a text says, part by part.
#[derive(Default)]
struct Parts {
    date: Option<NaiveDate>,
    clock_us: Option<i64>,
    zone: Option<Zone>,
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    before_christ: bool,
}

#[derive(Clone, Copy)]
enum Zone {
    Seconds(i32),
    Named(Tz),
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Microseconds since 1970 of a timestamp; `zoned`: a zone counts, and none is UTC.
pub(super) fn timestamp(text: &str, zoned: bool) -> Read<i64> {
    let parts = match special(text)? {
        Some(at) => return Ok(at.and_utc().timestamp_micros()),
        None => parts(text)?,
    };
    let at = date_of(&parts)?.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
    let local = at.checked_add(parts.clock_us.unwrap_or(0)).ok_or(Unread::Range)?;
    let shift = match parts.zone {
        Some(zone) if zoned => offset(zone, local)?,
        _ => 0,
    };
    local.checked_sub(shift).ok_or(Unread::Range)
}

pub(super) fn date(text: &str) -> Read<NaiveDate> {
    match special(text)? {
        Some(at) => Ok(at.date()),
        None => date_of(&parts(text)?),
    }
}

/// Microseconds since midnight.
pub(super) fn time(text: &str) -> Read<i64> {
    if let Some(at) = special(text)? {
        return Ok(at.and_utc().timestamp_micros().rem_euclid(DAY_US));
    }
    match parts(text)?.clock_us {
        // Columns here have no 24:00:00.
        Some(DAY_US..) => Err(Unread::Range),
        Some(us) => Ok(us),
        None => Err(Unread::Form),
    }
}

/// Words for moments. Those that depend on the time of day (`now`, `today`) are put into functions before planning.
fn special(text: &str) -> Read<Option<NaiveDateTime>> {
    match text.trim().to_ascii_lowercase().as_str() {
        "infinity" | "-infinity" | "+infinity" => Err(Unread::Endless),
        "epoch" => Ok(Some(NaiveDateTime::default())),
        _ => Ok(None),
    }
}

fn offset(zone: Zone, local_us: i64) -> Read<i64> {
    let seconds = match zone {
        Zone::Seconds(seconds) => seconds,
        Zone::Named(zone) => {
            let local = chrono::DateTime::from_timestamp_micros(local_us).ok_or(Unread::Range)?.naive_utc();
            zone.offset_from_local_datetime(&local).earliest().map_or(0, |offset| offset.fix().local_minus_utc())
        }
    };
    Ok(i64::from(seconds) * SECOND_US)
}

fn date_of(parts: &Parts) -> Read<NaiveDate> {
    if let Some(date) = parts.date {
        return Ok(date);
    }
    match (parts.year, parts.month, parts.day) {
        (Some(year), Some(month), Some(day)) => ymd(year, month, day, parts.before_christ),
        _ => Err(Unread::Form),
    }
}

fn ymd(year: i32, month: u32, day: u32, before_christ: bool) -> Read<NaiveDate> {
    if year == 0 {
        return Err(Unread::Range);
    }
    NaiveDate::from_ymd_opt(if before_christ { 1 - year } else { year }, month, day).ok_or(Unread::Range)
}

fn parts(text: &str) -> Read<Parts> {
    let lower = text.trim().to_ascii_lowercase();
    let mut made = Parts::default();
    let spaced = separated(&lower);
    let mut tokens = spaced.split([' ', '\t', '\n', ',']).filter(|token| !token.is_empty()).peekable();
    if tokens.peek().is_none() {
        return Err(Unread::Form);
    }
    for token in tokens {
        made.take(token)?;
    }
    if made.date.is_none()
        && let (Some(year), Some(month), Some(day)) = (made.year, made.month, made.day)
    {
        made.date = Some(ymd(year, month, day, made.before_christ)?);
    }
    Ok(made)
}

/// `2024-01-01T10:00` with a space for the T.
fn separated(text: &str) -> String {
    let bytes = text.as_bytes();
    let between = |at: usize| at > 0 && bytes[at - 1].is_ascii_digit() && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
    text.char_indices().map(|(at, c)| if c == 't' && between(at) { ' ' } else { c }).collect()
}

impl Parts {
    fn take(&mut self, token: &str) -> Read<()> {
        let first = token.as_bytes()[0];
        if token.contains(':') && (first.is_ascii_digit()) {
            return self.take_clock(token);
        }
        if matches!(first, b'+' | b'-') {
            self.zone = Some(Zone::Seconds(zone_seconds(token)?));
            return Ok(());
        }
        if first.is_ascii_digit() {
            return self.take_digits(token);
        }
        self.take_word(token)
    }

    fn take_word(&mut self, word: &str) -> Read<()> {
        let head = word.get(..3).unwrap_or("");
        if let Some(at) = MONTHS.iter().position(|month| *month == head) {
            self.month = Some(at as u32 + 1);
        } else if DAYS.contains(&head) || matches!(word, "ad" | "at") {
        } else if word == "bc" {
            self.before_christ = true;
            if let Some(date) = self.date.take() {
                self.date = Some(ymd(date.year(), date.month(), date.day(), true)?);
            }
        } else if let ("am" | "pm", Some(us)) = (word, self.clock_us) {
            let hour = us / (3600 * SECOND_US);
            if hour > 12 {
                return Err(Unread::Range);
            }
            let half = if word == "pm" { 12 } else { 0 };
            self.clock_us = Some(us + ((hour % 12 + half) - hour) * 3600 * SECOND_US);
        } else if matches!(word, "z" | "utc" | "gmt" | "zulu") {
            self.zone = Some(Zone::Seconds(0));
        } else {
            // Names of zones are spelled with capitals: Europe/Berlin, America/New_York.
            let spelled: String = word
                .char_indices()
                .map(|(at, c)| {
                    let starts = at == 0 || matches!(word.as_bytes()[at - 1], b'/' | b'_' | b'-');
                    if starts { c.to_ascii_uppercase() } else { c }
                })
                .collect();
            self.zone = Some(Zone::Named(spelled.parse().map_err(|_| Unread::Form)?));
        }
        Ok(())
    }

    /// `HH:MM[:SS[.f]]`, with a zone or am/pm right behind it.
    fn take_clock(&mut self, token: &str) -> Read<()> {
        let end = token.find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.')).unwrap_or(token.len());
        let (clock, rest) = token.split_at(end);
        self.clock_us = Some(clock_us(clock, true)?);
        match rest {
            "" => Ok(()),
            rest if rest.starts_with(['+', '-']) => {
                self.zone = Some(Zone::Seconds(zone_seconds(rest)?));
                Ok(())
            }
            rest => self.take_word(rest),
        }
    }

    fn take_digits(&mut self, token: &str) -> Read<()> {
        let fields: Vec<&str> = token.split(['-', '/', '.']).collect();
        let number = |text: &str| text.parse::<u32>().map_err(|_| Unread::Form);
        match fields.as_slice() {
            [year, month, day] if year.len() >= 3 && !month.is_empty() => {
                let digits = day.find(|c: char| !c.is_ascii_digit()).unwrap_or(day.len());
                let (day, rest) = day.split_at(digits);
                let month = month_of(month)?;
                self.date = Some(ymd(number(year)? as i32, month, number(day)?, self.before_christ)?);
                // A zone may follow: 2024-01-01Z.
                if rest.is_empty() { Ok(()) } else { self.take_word(rest) }
            }
            [first, second, year] => {
                let year = full_year(year)?;
                // MDY, or a day before the month's name.
                let (month, day) = match second.parse::<u32>() {
                    Ok(day) => (number(first)?, day),
                    Err(_) => (month_of(second)?, number(first)?),
                };
                self.date = Some(ymd(year, month, day, self.before_christ)?);
                Ok(())
            }
            [digits] if digits.bytes().all(|b| b.is_ascii_digit()) => self.take_number(digits),
            _ => Err(Unread::Form),
        }
    }

    fn take_number(&mut self, digits: &str) -> Read<()> {
        let number =
            |range: std::ops::Range<usize>| digits.get(range).and_then(|part| part.parse::<u32>().ok()).ok_or(Unread::Form);
        match digits.len() {
            8 => self.date = Some(ymd(number(0..4)? as i32, number(4..6)?, number(6..8)?, false)?),
            6 if self.date.is_some() => {
                let clock = format!("{}:{}:{}", &digits[..2], &digits[2..4], &digits[4..]);
                self.clock_us = Some(clock_us(&clock, true)?);
            }
            6 => self.date = Some(ymd(full_year(&digits[..2])?, number(2..4)?, number(4..6)?, false)?),
            1 | 2 if self.day.is_none() && (self.month.is_some() || self.year.is_none()) => {
                self.day = Some(number(0..digits.len())?)
            }
            2..=4 if self.year.is_none() && self.month.is_some() => self.year = Some(full_year(digits)?),
            _ => return Err(Unread::Form),
        }
        Ok(())
    }
}

fn month_of(text: &str) -> Read<u32> {
    match text.parse() {
        Ok(month) => Ok(month),
        Err(_) => {
            let head = text.get(..3).unwrap_or("");
            MONTHS.iter().position(|month| *month == head).map(|at| at as u32 + 1).ok_or(Unread::Form)
        }
    }
}

/// Two digits mean 1970 to 2069.
fn full_year(text: &str) -> Read<i32> {
    let year: i32 = text.parse().map_err(|_| Unread::Form)?;
    Ok(match (text.len(), year) {
        (1 | 2, ..70) => year + 2000,
        (1 | 2, _) => year + 1900,
        _ => year,
    })
}

/// `+02`, `-0330`, `+05:30`.
fn zone_seconds(text: &str) -> Read<i32> {
    let (sign, digits) = match text.split_at(1) {
        ("-", digits) => (-1, digits),
        (_, digits) => (1, digits),
    };
    let parts: Vec<&str> = digits.split(':').collect();
    let number = |text: &str| text.parse::<i32>().map_err(|_| Unread::Form);
    let seconds = match parts.as_slice() {
        [hour] if hour.len() <= 2 => number(hour)? * 3600,
        [both] if both.len() == 4 => number(&both[..2])? * 3600 + number(&both[2..])? * 60,
        [hour, minute] => number(hour)? * 3600 + number(minute)? * 60,
        [hour, minute, second] => number(hour)? * 3600 + number(minute)? * 60 + number(second)?,
        _ => return Err(Unread::Form),
    };
    if seconds > 16 * 3600 { Err(Unread::Range) } else { Ok(sign * seconds) }
}

/// `HH:MM[:SS[.f]]` as microseconds; `of_day`: within a day.
fn clock_us(text: &str, of_day: bool) -> Read<i64> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |text: &str| text.parse::<i64>().map_err(|_| Unread::Form);
    let (hour, minute, seconds_us) = match parts.as_slice() {
        [hour, minute] => (number(hour)?, number(minute)?, 0),
        [hour, minute, seconds] => (number(hour)?, number(minute)?, fraction_us(seconds)?),
        _ => return Err(Unread::Form),
    };
    if minute > 59 || seconds_us > 60 * SECOND_US || (of_day && hour > 24) {
        return Err(Unread::Range);
    }
    let us = hour.checked_mul(3600 * SECOND_US).ok_or(Unread::Range)? + minute * 60 * SECOND_US + seconds_us;
    if of_day && us > DAY_US { Err(Unread::Range) } else { Ok(us) }
}

/// Seconds with a fraction, rounded to microseconds.
fn fraction_us(text: &str) -> Read<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(Unread::Form);
    }
    let seconds: f64 = text.parse().map_err(|_| Unread::Form)?;
    Ok((seconds * SECOND_US as f64).round() as i64)
}

/// An interval being added up.
#[derive(Default)]
struct Span {
    months: f64,
    days: f64,
    us: f64,
}

impl Span {
    /// `value` of a unit. Fractions go down to the smaller fields: a month has 30 days there.
    fn add(&mut self, value: f64, unit: &str) -> Read<()> {
        let months = |span: &mut Self, value: f64| {
            span.months += value.trunc();
            span.add_days((value - value.trunc()) * 30.0);
        };
        match unit.strip_suffix('s').filter(|one| one.len() > 1 && !matches!(unit, "us" | "ms" | "hrs")).unwrap_or(unit) {
            "us" | "usec" | "microsecond" => self.us += value,
            "ms" | "msec" | "millisecond" => self.us += value * 1e3,
            "s" | "sec" | "second" => self.us += value * SECOND_US as f64,
            "m" | "min" | "minute" => self.us += value * 60.0 * SECOND_US as f64,
            "h" | "hr" | "hrs" | "hour" => self.us += value * 3600.0 * SECOND_US as f64,
            "d" | "day" => self.add_days(value),
            "w" | "week" => self.add_days(value * 7.0),
            "mon" | "month" => months(self, value),
            "y" | "yr" | "year" => self.months += (value * 12.0).round(),
            "dec" | "decade" => self.months += (value * 120.0).round(),
            "c" | "cent" | "century" | "centurie" => self.months += (value * 1200.0).round(),
            "mil" | "millennium" | "millennia" => self.months += (value * 12_000.0).round(),
            _ => return Err(Unread::Form),
        }
        Ok(())
    }

    fn add_days(&mut self, value: f64) {
        self.days += value.trunc();
        self.us += ((value - value.trunc()) * DAY_US as f64).round();
    }

    fn made(self, sign: f64) -> Read<IntervalMonthDayNano> {
        let (months, days, us) = (self.months * sign, self.days * sign, (self.us * sign).round());
        let fits = |value: f64| value.abs() <= f64::from(i32::MAX);
        if !fits(months) || !fits(days) || us.abs() > (i64::MAX / 1000) as f64 {
            return Err(Unread::Range);
        }
        Ok(IntervalMonthDayNano::new(months as i32, days as i32, us as i64 * 1000))
    }
}

/// An interval in any of Postgres's forms: `1 day 02:00:00`, `1-2`, `P1Y2M`, `3 weeks ago`.
pub(super) fn interval(text: &str) -> Read<IntervalMonthDayNano> {
    let lower = text.trim().to_ascii_lowercase();
    if let Some(iso) = lower.strip_prefix('p') {
        return iso_interval(iso);
    }
    let mut span = Span::default();
    let mut sign = 1.0;
    let mut pending: Option<f64> = None;
    let mut seen = false;
    for token in lower.split_whitespace() {
        seen = true;
        if token == "@" {
        } else if token == "ago" {
            sign = -1.0;
        } else if token.contains(':') {
            if let Some(days) = pending.take() {
                span.add(days, "day")?;
            }
            let (negative, clock) = signed(token);
            let us = clock_us(clock, false)? as f64;
            span.us += if negative { -us } else { us };
        } else if let Some((years, months)) = year_month(token) {
            span.months += years * 12.0 + months;
        } else if token.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
            if pending.is_some() {
                return Err(Unread::Form);
            }
            let end = token.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(token.len());
            let (number, unit) = token.split_at(end);
            let value: f64 = number.parse().map_err(|_| Unread::Form)?;
            if unit.is_empty() {
                pending = Some(value);
            } else {
                span.add(value, unit)?;
            }
        } else {
            span.add(pending.take().ok_or(Unread::Form)?, token)?;
        }
    }
    if let Some(seconds) = pending {
        span.add(seconds, "second")?;
    }
    if seen { span.made(sign) } else { Err(Unread::Form) }
}

fn signed(token: &str) -> (bool, &str) {
    match token.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, token.strip_prefix('+').unwrap_or(token)),
    }
}

/// `2-3`: years and months.
fn year_month(token: &str) -> Option<(f64, f64)> {
    let (negative, bare) = signed(token);
    let (years, months) = bare.split_once('-')?;
    let both = (years.parse::<u32>().ok()?, months.parse::<u32>().ok()?);
    let sign = if negative { -1.0 } else { 1.0 };
    Some((sign * f64::from(both.0), sign * f64::from(both.1)))
}

/// What follows the P: `1y2m3dt4h5m6s`, `2w`.
fn iso_interval(text: &str) -> Read<IntervalMonthDayNano> {
    let mut span = Span::default();
    let (mut clock, mut number) = (false, String::new());
    for c in text.chars() {
        match c {
            't' => clock = true,
            '0'..='9' | '.' | '-' | '+' => number.push(c),
            unit => {
                let value: f64 = std::mem::take(&mut number).parse().map_err(|_| Unread::Form)?;
                let unit = match (unit, clock) {
                    ('y', false) => "year",
                    ('m', false) => "month",
                    ('w', false) => "week",
                    ('d', false) => "day",
                    ('h', true) => "hour",
                    ('m', true) => "minute",
                    ('s', true) => "second",
                    _ => return Err(Unread::Form),
                };
                span.add(value, unit)?;
            }
        }
    }
    if number.is_empty() && !text.is_empty() { span.made(1.0) } else { Err(Unread::Form) }
}

#[cfg(test)]
mod tests {
    use super::super::forms::{clock_text, interval_text};
    use super::*;

    #[test]
    fn dates_are_read_as_postgres_reads_them() {
        let check = |text: &str, expected: Read<&str>| {
            assert_eq!(date(text).map(|d| d.to_string()), expected.map(str::to_string), "{text}");
        };
        check("2024-02-29", Ok("2024-02-29"));
        check(" 20240229 ", Ok("2024-02-29"));
        check("2024-1-5", Ok("2024-01-05"));
        check("1/2/2024", Ok("2024-01-02"));
        check("Jan 5, 2024", Ok("2024-01-05"));
        check("5 Mar 2024", Ok("2024-03-05"));
        check("5-Mar-2024", Ok("2024-03-05"));
        check("2024-02-29 13:00", Ok("2024-02-29"));
        check("2024-13-01", Err(Unread::Range));
        check("2024-02-30", Err(Unread::Range));
        check("abc", Err(Unread::Form));
        check("", Err(Unread::Form));
        check("2024", Err(Unread::Form));
        check("infinity", Err(Unread::Endless));
    }

    #[test]
    fn moments_and_clocks_are_read() {
        let check = |text: &str, zoned, expected: Read<&str>| {
            let shown = |us: i64| chrono::DateTime::from_timestamp_micros(us).unwrap().naive_utc().to_string();
            assert_eq!(timestamp(text, zoned).map(shown), expected.map(str::to_string), "{text}");
        };
        check("2024-01-01", false, Ok("2024-01-01 00:00:00"));
        check("2024-01-01 10:00", false, Ok("2024-01-01 10:00:00"));
        check("2024-01-01T10:00:00.5Z", true, Ok("2024-01-01 10:00:00.500"));
        check("2024-01-01 10:00+02", true, Ok("2024-01-01 08:00:00"));
        check("2024-01-01 10:00:00-03:30", true, Ok("2024-01-01 13:30:00"));
        check("2024-01-01 10:00+02", false, Ok("2024-01-01 10:00:00"));
        check("2024-01-01 10:00 Europe/Berlin", true, Ok("2024-01-01 09:00:00"));
        check("2024-01-01 10:00 PM", false, Ok("2024-01-01 22:00:00"));
        check("2024-01-01 25:00:00", false, Err(Unread::Range));
        check("yesterdayish", false, Err(Unread::Form));
        assert_eq!(time("10:00").map(clock_text), Ok("10:00:00".into()));
        assert_eq!(time("10:61"), Err(Unread::Range));
        assert_eq!(time("x"), Err(Unread::Form));
    }

    #[test]
    fn intervals_are_read_in_all_forms() {
        let check = |text: &str, expected: &str| {
            let made = interval(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(interval_text(made.months, made.days, made.nanoseconds / 1000), expected, "{text}");
        };
        check("1 year 2 months 3 days 04:05:06.7", "1 year 2 mons 3 days 04:05:06.7");
        check("90 minutes", "01:30:00");
        check("1.5 hours", "01:30:00");
        check("2 weeks", "14 days");
        check("1 day ago", "-1 days");
        check("-1 day +02:00", "-1 days +02:00:00");
        check("2-3", "2 years 3 mons");
        check("1 02:03:04", "1 day 02:03:04");
        check("P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06");
        check("1.5 months", "1 mon 15 days");
        check("30", "00:00:30");
        check("-3 mons", "-3 mons");
        assert_eq!(interval("nonsense"), Err(Unread::Form));
        assert_eq!(interval("1 day day"), Err(Unread::Form));
    }
}
