//! `io.debezium.time.ZonedTimestamp`: ISO 8601 text in UTC with six digits of fraction. Reversible for every 64-bit number of
//! microseconds; years outside 0..=9999 carry a sign, as Java's `ISO_OFFSET_DATE_TIME` writes them.

use crate::avro::{Bad, put_bytes};

const DAY_US: i64 = 86_400_000_000;

/// Year, month, day of a day number since 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

/// Writes `n` with at least `width` digits; returns the end.
fn put_number(buffer: &mut [u8], at: usize, n: u64, width: usize) -> usize {
    let mut digits = width;
    while n >= 10u64.pow(digits as u32) {
        digits += 1;
    }
    let mut rest = n;
    for place in buffer[at..at + digits].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    at + digits
}

/// Appends the text as an Avro string.
pub(crate) fn put_zoned(out: &mut Vec<u8>, us: i64) {
    let (year, month, day) = civil_from_days(us.div_euclid(DAY_US));
    let of_day = us.rem_euclid(DAY_US) as u64;
    let mut text = [0u8; 40];
    let mut at = 0;
    if !(0..=9999).contains(&year) {
        text[0] = if year < 0 { b'-' } else { b'+' };
        at = 1;
    }
    at = put_number(&mut text, at, year.unsigned_abs(), 4);
    let seconds = of_day / 1_000_000;
    let parts = [
        (b'-', u64::from(month), 2),
        (b'-', u64::from(day), 2),
        (b'T', seconds / 3600, 2),
        (b':', seconds / 60 % 60, 2),
        (b':', seconds % 60, 2),
        (b'.', of_day % 1_000_000, 6),
    ];
    for (before, n, width) in parts {
        text[at] = before;
        at = put_number(&mut text, at + 1, n, width);
    }
    text[at] = b'Z';
    put_bytes(out, &text[..=at]);
}

/// Reads what [`put_zoned`] writes, and nothing else.
pub(crate) fn parse_zoned(text: &[u8]) -> Result<i64, Bad> {
    parse(text).ok_or(Bad("a timestamp is not in its form"))
}

fn parse(text: &[u8]) -> Option<i64> {
    let (negative, unsigned) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    // The part after the year has a fixed length: -MM-DDTHH:MM:SS.ffffffZ
    let (year, rest) = unsigned.split_at_checked(unsigned.len().checked_sub(23)?)?;
    if !(4..=6).contains(&year.len()) || rest.last() != Some(&b'Z') {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')));
    let part = |at: usize, before: u8, width: usize, max: i64| {
        (rest[at] == before).then(|| number(&rest[at + 1..at + 1 + width])).flatten().filter(|n| *n <= max)
    };
    let year = number(year)? * if negative { -1 } else { 1 };
    let (month, day) = (part(0, b'-', 2, 12)?, part(3, b'-', 2, 31)?);
    let (hour, minute, second) = (part(6, b'T', 2, 23)?, part(9, b':', 2, 59)?, part(12, b':', 2, 59)?);
    let fraction = part(15, b'.', 6, 999_999)?;
    if month == 0 || day == 0 {
        return None;
    }
    let of_day = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction;
    i64::try_from(i128::from(days_from_civil(year, month, day)) * i128::from(DAY_US) + i128::from(of_day)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::Reader;

    #[test]
    fn known_instants() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_529_501_823_123_456, "2018-06-20T13:37:03.123456Z"),
            (253_402_300_800_000_000, "+10000-01-01T00:00:00.000000Z"),
            (-62_167_219_200_000_000, "0000-01-01T00:00:00.000000Z"),
            (-62_167_219_200_000_001, "-0001-12-31T23:59:59.999999Z"),
        ];
        for (us, expected) in cases {
            let mut out = Vec::new();
            put_zoned(&mut out, us);
            let text = Reader::new(&out).bytes().unwrap();
            assert_eq!(std::str::from_utf8(text).unwrap(), expected);
            assert_eq!(parse_zoned(text), Ok(us));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "Z", "2018-06-20", "2018-06-20T13:37:03Z", "2018-13-20T13:37:03.123456Z", "20x8-06-20T13:37:03.123456Z"]
        {
            assert!(parse_zoned(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_number_of_microseconds_survives(us: i64) {
            let mut out = Vec::new();
            put_zoned(&mut out, us);
            proptest::prop_assert_eq!(parse_zoned(Reader::new(&out).bytes().unwrap()), Ok(us));
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = parse_zoned(&text);
        }
    }
}
