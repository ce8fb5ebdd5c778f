//! Dates, times and the like, to and from the text that Postgres writes (DateStyle ISO, IntervalStyle postgres, TimeZone UTC).

use crate::codes;
use crate::number::{put_i64, put_padded};
use mainstem_types::{Error, Result};

pub(crate) const DAY_US: i64 = 86_400_000_000;
/// Postgres counts from 2000-01-01.
pub(crate) const PG_EPOCH_DAYS: i32 = 10_957;
pub(crate) const PG_EPOCH_US: i64 = PG_EPOCH_DAYS as i64 * DAY_US;

/// Year, month, day of a day counted from 1970-01-01, proleptic Gregorian (Hinnant's algorithm).
fn civil(days: i64) -> (i64, u64, u64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u64, day as u64)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Writes the day; true when the text must end in ` BC`.
fn put_day(out: &mut Vec<u8>, days: i64) -> bool {
    let (year, month, day) = civil(days);
    let shown = if year <= 0 { 1 - year } else { year };
    put_padded(out, shown as u64, 4);
    out.push(b'-');
    put_padded(out, month, 2);
    out.push(b'-');
    put_padded(out, day, 2);
    year <= 0
}

pub(crate) fn put_date(out: &mut Vec<u8>, days: i32) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            if put_day(out, i64::from(days)) {
                out.extend_from_slice(b" BC");
            }
        }
    }
}

/// A fraction of a second without its trailing zeros; nothing when zero.
fn put_fraction(out: &mut Vec<u8>, us: u64) {
    if us != 0 {
        out.push(b'.');
        put_padded(out, us, 6);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// `us` since midnight, up to 24:00:00.
pub(crate) fn put_time(out: &mut Vec<u8>, us: i64) {
    let us = us.unsigned_abs();
    let seconds = us / 1_000_000;
    put_padded(out, seconds / 3600, 2);
    out.push(b':');
    put_padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    put_padded(out, seconds % 60, 2);
    put_fraction(out, us % 1_000_000);
}

pub(crate) fn put_timestamp(out: &mut Vec<u8>, us: i64, zoned: bool) {
    match us {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        i64::MIN => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let before_christ = put_day(out, us.div_euclid(DAY_US));
    out.push(b' ');
    put_time(out, us.rem_euclid(DAY_US));
    if zoned {
        out.extend_from_slice(b"+00");
    }
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// As Postgres's EncodeInterval with IntervalStyle postgres.
pub(crate) fn put_interval(out: &mut Vec<u8>, months: i32, days: i32, us: i64) {
    let (start, mut before) = (out.len(), false);
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value != 0 {
            if out.len() > start {
                out.push(b' ');
            }
            if before && value > 0 {
                out.push(b'+');
            }
            put_i64(out, i64::from(value));
            out.push(b' ');
            out.extend_from_slice(unit.as_bytes());
            if value != 1 {
                out.push(b's');
            }
            before = value < 0;
        }
    }
    if us != 0 || out.len() == start {
        if out.len() > start {
            out.push(b' ');
        }
        if us < 0 {
            out.push(b'-');
        } else if before {
            out.push(b'+');
        }
        let us = us.unsigned_abs();
        put_padded(out, us / 3_600_000_000, 2);
        out.push(b':');
        put_padded(out, us / 60_000_000 % 60, 2);
        out.push(b':');
        put_padded(out, us / 1_000_000 % 60, 2);
        put_fraction(out, us % 1_000_000);
    }
}

pub(crate) fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for b in bytes {
        out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    }
}

pub(crate) fn put_uuid(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    for (i, b) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        put_hex(out, &[*b]);
    }
}

pub(crate) fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut count = 0;
    for digit in text.iter().filter(|b| !matches!(b, b'-' | b'{' | b'}')) {
        let value = (*digit as char).to_digit(16)? as u8;
        let byte = bytes.get_mut(count / 2)?;
        *byte = *byte << 4 | value;
        count += 1;
    }
    (count == 32).then_some(bytes)
}

/// bytea's text input: `\x` and hex digits, or the older escapes.
pub(crate) fn parse_bytea(text: &str) -> Option<Vec<u8>> {
    let nibble = |b: &u8| (*b as char).to_digit(16).map(|d| d as u8);
    if let Some(hex) = text.strip_prefix("\\x") {
        let pairs = hex.as_bytes().chunks(2);
        return pairs.map(|p| Some(nibble(p.first()?)? << 4 | nibble(p.get(1)?)?)).collect();
    }
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((b, after)) = rest.split_first() {
        rest = after;
        if *b != b'\\' {
            out.push(*b);
        } else if let Some(after) = rest.strip_prefix(b"\\") {
            out.push(b'\\');
            rest = after;
        } else {
            let octal = rest.first_chunk::<3>()?;
            out.push(u8::from_str_radix(std::str::from_utf8(octal).ok()?, 8).ok()?);
            rest = &rest[3..];
        }
    }
    Some(out)
}

fn refuse(kind: &str) -> Error {
    Error::fix(codes::PARAMETER_TEXT, format!("invalid input syntax for type {kind}")).hint("Use the ISO form.")
}

/// `YYYY-MM-DD[ BC]`, `infinity`; days since 1970-01-01.
pub(crate) fn parse_date(text: &str) -> Result<i32> {
    match text.trim() {
        "infinity" => Ok(i32::MAX),
        "-infinity" => Ok(i32::MIN),
        text => {
            let (text, bc) = strip_bc(text);
            day(text, bc).and_then(|d| i32::try_from(d).ok()).ok_or_else(|| refuse("date"))
        }
    }
}

fn strip_bc(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |t| (t.trim_end(), true))
}

fn digits(text: &str) -> Option<i64> {
    (!text.is_empty() && text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn day(text: &str, bc: bool) -> Option<i64> {
    let mut parts = text.splitn(3, '-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let year = if bc { 1 - year } else { year };
    let days = days_from_civil(year, month, day);
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && civil(days) == (year, month as u64, day as u64);
    valid.then_some(days)
}

/// `HH:MM[:SS[.ffffff]]`; microseconds since midnight.
pub(crate) fn parse_time(text: &str) -> Result<i64> {
    time(text.trim()).ok_or_else(|| refuse("time"))
}

fn time(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes, seconds) = (digits(parts.next()?)?, digits(parts.next()?)?, parts.next().unwrap_or("0"));
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let seconds = digits(seconds)?;
    if fraction.len() > 6 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let us = format!("{fraction:0<6}").parse::<i64>().ok()?;
    let total = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + us;
    (hours <= 24 && minutes < 60 && seconds < 60 && total <= DAY_US).then_some(total)
}

/// `YYYY-MM-DD[( |T)HH:MM:SS[.ffffff][Z|+HH[:MM[:SS]]]][ BC]`; microseconds since 1970. Without `zoned` an offset is ignored, as
/// Postgres does.
pub(crate) fn parse_timestamp(text: &str, zoned: bool) -> Result<i64> {
    let kind = if zoned { "timestamp with time zone" } else { "timestamp" };
    match text.trim() {
        "infinity" => Ok(i64::MAX),
        "-infinity" => Ok(i64::MIN),
        text => timestamp(text, zoned).ok_or_else(|| refuse(kind)),
    }
}

fn timestamp(text: &str, zoned: bool) -> Option<i64> {
    let (text, bc) = strip_bc(text);
    let (date, rest) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let mut offset_seconds = 0;
    let clock = match rest.find(['+', '-', 'Z', 'z']) {
        None => rest,
        Some(at) => {
            let (clock, zone) = rest.split_at(at);
            offset_seconds = offset(zone)?;
            clock
        }
    };
    let us = day(date, bc)?.checked_mul(DAY_US)?.checked_add(time(clock.trim_end())?)?;
    us.checked_sub(if zoned { offset_seconds * 1_000_000 } else { 0 })
}

fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.bytes().next()? {
        b'Z' | b'z' => return (zone.len() == 1).then_some(0),
        b'-' => -1,
        _ => 1,
    };
    let digits_only: String = zone.get(1..)?.chars().filter(|c| *c != ':').collect();
    let padded = match digits_only.len() {
        1 => format!("0{digits_only}"),
        2 | 4 | 6 => digits_only,
        _ => return None,
    };
    let part = |i: usize| padded.get(i..i + 2).map_or(Some(0), digits);
    Some(sign * (part(0)? * 3600 + part(2)? * 60 + part(4)?))
}

/// Interval input of the forms Postgres writes: `1 year 2 mons -3 days 04:05:06.7`; (months, days, microseconds).
pub(crate) fn parse_interval(text: &str) -> Result<(i32, i32, i64)> {
    interval(text).ok_or_else(|| refuse("interval"))
}

fn interval(text: &str) -> Option<(i32, i32, i64)> {
    let (mut months, mut days, mut us) = (0i32, 0i32, 0i64);
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        if word.contains(':') {
            let bare = word.strip_prefix(['-', '+']).unwrap_or(word);
            let (hours, rest) = bare.split_once(':')?;
            let clock = digits(hours)?.checked_mul(3_600_000_000)?.checked_add(time(&format!("00:{rest}"))?)?;
            us = us.checked_add(if word.starts_with('-') { -clock } else { clock })?;
            continue;
        }
        let count: i32 = word.parse().ok()?;
        let unit_us = |unit: i64| i64::from(count).checked_mul(unit);
        match words.next()?.trim_end_matches('s') {
            "year" => months = months.checked_add(count.checked_mul(12)?)?,
            "mon" | "month" => months = months.checked_add(count)?,
            "week" => days = days.checked_add(count.checked_mul(7)?)?,
            "day" => days = days.checked_add(count)?,
            "hour" => us = us.checked_add(unit_us(3_600_000_000)?)?,
            "min" | "minute" => us = us.checked_add(unit_us(60_000_000)?)?,
            "sec" | "second" => us = us.checked_add(unit_us(1_000_000)?)?,
            _ => return None,
        }
    }
    Some((months, days, us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(put: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn timestamps() {
        let check = |us: i64, expected: &str| {
            assert_eq!(text(|out| put_timestamp(out, us, true)), expected);
            assert_eq!(parse_timestamp(expected, true).unwrap(), us, "{expected}");
        };
        check(0, "1970-01-01 00:00:00+00");
        check(1_704_164_645_123_456, "2024-01-02 03:04:05.123456+00");
        check(-1_000, "1969-12-31 23:59:59.999+00");
        check(253_402_300_800_000_000, "10000-01-01 00:00:00+00");
        check(-63_517_824_000_000_000, "0044-03-15 00:00:00+00 BC");
        check(i64::MAX, "infinity");
        check(i64::MIN, "-infinity");
        assert_eq!(parse_timestamp("2024-01-02T03:04:05+01:30", true).unwrap(), 1_704_159_245_000_000);
        assert_eq!(parse_timestamp("2024-01-02", false).unwrap(), 1_704_153_600_000_000);
        assert_eq!(parse_timestamp("1970-01-01 01:00+1", true).unwrap(), 0);
        for wrong in ["", "x", "2024-01-02 03:04+123", "2024-02-30", "2024-01-02 25:00", "2024-01-02 03:04:05.1234567", "2024-1"]
        {
            assert!(parse_timestamp(wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn intervals() {
        let check = |months, days, us, expected: &str| {
            assert_eq!(text(|out| put_interval(out, months, days, us)), expected);
            assert_eq!(parse_interval(expected).unwrap(), (months, days, us));
        };
        check(0, 0, 0, "00:00:00");
        check(14, 3, 14_706_789_000, "1 year 2 mons 3 days 04:05:06.789");
        check(-1, 3, 0, "-1 mons +3 days");
        check(0, -1, 3_600_000_000, "-1 days +01:00:00");
        check(0, 1, -1_000_000, "1 day -00:00:01");
        check(0, 0, 360_000_000_000, "100:00:00");
    }

    #[test]
    fn others() {
        assert_eq!(text(|out| put_date(out, 19_724)), "2024-01-02");
        assert_eq!(text(|out| put_date(out, -719_163)), "0001-12-31 BC");
        assert_eq!(text(|out| put_time(out, DAY_US)), "24:00:00");
        assert_eq!(parse_bytea("\\xdeAD").unwrap(), [0xde, 0xad]);
        assert_eq!(parse_bytea("a\\\\b\\001").unwrap(), b"a\\b\x01");
        assert_eq!(parse_bytea("\\xabc"), None);
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        assert_eq!(text(|out| put_uuid(out, &parse_uuid(uuid.as_bytes()).unwrap())), uuid);
    }

    proptest! {
        #[test]
        fn dates_round_trip(days in -700_000_000i64..700_000_000, us in any::<i64>()) {
            let days = (days % 2_400_000) as i32;
            prop_assert_eq!(parse_date(&text(|out| put_date(out, days))).unwrap(), days);
            prop_assert_eq!(parse_timestamp(&text(|out| put_timestamp(out, us, false)), false).unwrap(), us);
        }

        #[test]
        fn no_text_panics(text in ".{0,24}", almost in "[0-9:+. BCT-]{0,24}") {
            for t in [&text, &almost] {
                let _ = (parse_timestamp(t, true), parse_interval(t), parse_date(t), parse_time(t), parse_bytea(t));
            }
        }
    }
}
