//! Text of one value -> Arrow. COPY and pgoutput are both read in text, so a copy and the stream share this decoder and give equal
//! values by construction. Nothing is allocated per value, rounded, or turned into NULL: a value that its column cannot hold yet is
//! an error that names its kind, never its content (decision 20).

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int16Builder,
    Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::DataType;
use mainstem_types::ColumnType;
use std::sync::Arc;

/// Why a value cannot be held; completes "a value of this column ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit(pub &'static str);

const MALFORMED: Misfit = Misfit("is not in the form its type has");
const NOT_A_NUMBER: Misfit = Misfit("is NaN or infinite, which its type cannot hold here yet");
const TOO_WIDE: Misfit = Misfit("has more digits than its type declares");
const INFINITE: Misfit = Misfit("is infinity, which its type cannot hold here yet");
const BEFORE_CHRIST: Misfit = Misfit("lies before the year 1, which its type cannot hold here yet");
const BEYOND: Misfit = Misfit("lies beyond the years that microseconds in 64 bits can tell");
const END_OF_DAY: Misfit = Misfit("is 24:00:00, which its type cannot hold here yet");
const NOT_UTF8: Misfit = Misfit("is not UTF-8");

/// Collects the values of one column.
#[derive(Debug)]
pub enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampTz(TimestampMicrosecondBuilder),
}

impl ColumnBuilder {
    pub fn new(kind: &ColumnType) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnType::Int16 => Self::Int16(Int16Builder::new()),
            ColumnType::Int32 => Self::Int32(Int32Builder::new()),
            ColumnType::Int64 => Self::Int64(Int64Builder::new()),
            ColumnType::Float32 => Self::Float32(Float32Builder::new()),
            ColumnType::Float64 => Self::Float64(Float64Builder::new()),
            ColumnType::Decimal { precision, scale } => {
                let builder = Decimal128Builder::new().with_data_type(DataType::Decimal128(*precision, *scale));
                Self::Decimal(builder, *precision, *scale)
            }
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::new()),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::new()),
            ColumnType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
            ColumnType::TimestampTz => Self::TimestampTz(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    pub fn append_null(&mut self) {
        match self {
            Self::Bool(b) => b.append_null(),
            Self::Int16(b) => b.append_null(),
            Self::Int32(b) => b.append_null(),
            Self::Int64(b) => b.append_null(),
            Self::Float32(b) => b.append_null(),
            Self::Float64(b) => b.append_null(),
            Self::Decimal(b, ..) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
            Self::Timestamp(b) | Self::TimestampTz(b) => b.append_null(),
        }
    }

    /// Appends the value whose output text this is. On an error nothing was appended.
    pub fn append(&mut self, text: &[u8]) -> Result<(), Misfit> {
        match self {
            Self::Bool(b) => b.append_value(boolean(text)?),
            Self::Int16(b) => b.append_value(i16::try_from(integer(text)?).map_err(|_| MALFORMED)?),
            Self::Int32(b) => b.append_value(i32::try_from(integer(text)?).map_err(|_| MALFORMED)?),
            Self::Int64(b) => b.append_value(integer(text)?),
            Self::Float32(b) => b.append_value(utf8(text)?.parse().map_err(|_| MALFORMED)?),
            Self::Float64(b) => b.append_value(utf8(text)?.parse().map_err(|_| MALFORMED)?),
            Self::Decimal(b, precision, scale) => b.append_value(decimal(text, *precision, *scale)?),
            Self::Text(b) => b.append_value(utf8(text)?),
            Self::Bytes(b) => append_hex(b, text)?,
            Self::Date(b) => b.append_value(date(text)?),
            Self::Time(b) => b.append_value(time(text)?),
            Self::Timestamp(b) => b.append_value(timestamp(text)?),
            Self::TimestampTz(b) => b.append_value(timestamp_tz(text)?),
        }
        Ok(())
    }

    pub fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Int16(b) => Arc::new(b.finish()),
            Self::Int32(b) => Arc::new(b.finish()),
            Self::Int64(b) => Arc::new(b.finish()),
            Self::Float32(b) => Arc::new(b.finish()),
            Self::Float64(b) => Arc::new(b.finish()),
            Self::Decimal(b, ..) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Bytes(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Timestamp(b) | Self::TimestampTz(b) => Arc::new(b.finish()),
        }
    }
}

fn utf8(text: &[u8]) -> Result<&str, Misfit> {
    std::str::from_utf8(text).map_err(|_| NOT_UTF8)
}

fn boolean(text: &[u8]) -> Result<bool, Misfit> {
    match text {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(MALFORMED),
    }
}

/// Digits only, at most 18 of them.
fn digits(text: &[u8]) -> Result<i64, Misfit> {
    if text.is_empty() || text.len() > 18 {
        return Err(MALFORMED);
    }
    text.iter().try_fold(0i64, |n, b| match b {
        b'0'..=b'9' => Ok(n * 10 + i64::from(b - b'0')),
        _ => Err(MALFORMED),
    })
}

fn integer(text: &[u8]) -> Result<i64, Misfit> {
    let (negative, figures) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if figures.len() <= 18 {
        let n = digits(figures)?;
        return Ok(if negative { -n } else { n });
    }
    utf8(text)?.parse().map_err(|_| MALFORMED)
}

/// Exact: the digits are taken as they stand, and as many of them as the type declares.
fn decimal(text: &[u8], precision: u8, scale: i8) -> Result<i128, Misfit> {
    let (negative, figures) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if matches!(figures.first(), Some(b'N' | b'I')) {
        return Err(NOT_A_NUMBER);
    }
    let (mut n, mut significant, mut fraction, mut point) = (0i128, 0u32, 0i32, false);
    for &b in figures {
        match b {
            b'0'..=b'9' => {
                significant += u32::from(significant > 0 || b != b'0');
                if significant > 38 {
                    return Err(TOO_WIDE);
                }
                n = n * 10 + i128::from(b - b'0');
                fraction += i32::from(point);
            }
            b'.' if !point => point = true,
            _ => return Err(MALFORMED),
        }
    }
    let missing = i32::from(scale) - fraction;
    if figures.is_empty() || missing < 0 {
        return Err(if figures.is_empty() { MALFORMED } else { TOO_WIDE });
    }
    if n != 0 && significant as i32 + missing > i32::from(precision) {
        return Err(TOO_WIDE);
    }
    let n = if n == 0 { 0 } else { n * 10i128.pow(missing as u32) };
    Ok(if negative { -n } else { n })
}

fn append_hex(builder: &mut BinaryBuilder, text: &[u8]) -> Result<(), Misfit> {
    use std::io::Write;
    let figures = text.strip_prefix(b"\\x").ok_or(MALFORMED)?;
    if figures.len() % 2 != 0 || !figures.iter().all(u8::is_ascii_hexdigit) {
        return Err(MALFORMED);
    }
    let nibble = |b: u8| (b & 0x0f) + if b > b'9' { 9 } else { 0 };
    let mut piece = [0u8; 512];
    for part in figures.chunks(2 * piece.len()) {
        for (at, pair) in part.chunks_exact(2).enumerate() {
            piece[at] = nibble(pair[0]) << 4 | nibble(pair[1]);
        }
        builder.write_all(&piece[..part.len() / 2]).map_err(|_| MALFORMED)?;
    }
    builder.append_value(b"");
    Ok(())
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// `YYYY-MM-DD` at the start; what follows it.
fn date_part(text: &[u8]) -> Result<(i64, &[u8]), Misfit> {
    if matches!(text.first(), Some(b'i')) || text.starts_with(b"-i") {
        return Err(INFINITE);
    }
    if text.ends_with(b" BC") {
        return Err(BEFORE_CHRIST);
    }
    let dash = text.iter().position(|b| *b == b'-').ok_or(MALFORMED)?;
    let rest = text.get(dash..dash + 6).ok_or(MALFORMED)?;
    let (year, month, day) = (digits(&text[..dash])?, digits(&rest[1..3])?, digits(&rest[4..6])?);
    if rest[3] != b'-' || dash > 7 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(MALFORMED);
    }
    Ok((days_from_civil(year, month, day), &text[dash + 6..]))
}

/// `HH:MM:SS[.ffffff]` at the start, in microseconds; what follows it.
fn time_part(text: &[u8]) -> Result<(i64, &[u8]), Misfit> {
    let whole = text.get(..8).ok_or(MALFORMED)?;
    let (hours, minutes, seconds) = (digits(&whole[..2])?, digits(&whole[3..5])?, digits(&whole[6..8])?);
    if whole[2] != b':' || whole[5] != b':' {
        return Err(MALFORMED);
    }
    let mut us = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000;
    let mut rest = &text[8..];
    if let Some((b'.', fraction)) = rest.split_first() {
        let count = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=6).contains(&count) {
            return Err(MALFORMED);
        }
        us += digits(&fraction[..count])? * 10i64.pow(6 - count as u32);
        rest = &fraction[count..];
    }
    Ok((us, rest))
}

fn ended<T>(value: T, rest: &[u8]) -> Result<T, Misfit> {
    if rest.is_empty() { Ok(value) } else { Err(MALFORMED) }
}

fn date(text: &[u8]) -> Result<i32, Misfit> {
    let (days, rest) = date_part(text)?;
    ended(i32::try_from(days).map_err(|_| BEYOND)?, rest)
}

const DAY_US: i64 = 86_400_000_000;

fn time(text: &[u8]) -> Result<i64, Misfit> {
    let (us, rest) = time_part(text)?;
    if us >= DAY_US {
        return Err(if us == DAY_US { END_OF_DAY } else { MALFORMED });
    }
    ended(us, rest)
}

fn date_and_time(text: &[u8]) -> Result<(i64, &[u8]), Misfit> {
    let (days, rest) = date_part(text)?;
    let rest = rest.strip_prefix(b" ").ok_or(MALFORMED)?;
    let (us, rest) = time_part(rest)?;
    let us = days.checked_mul(DAY_US).and_then(|d| d.checked_add(us)).ok_or(BEYOND)?;
    Ok((us, rest))
}

fn timestamp(text: &[u8]) -> Result<i64, Misfit> {
    let (us, rest) = date_and_time(text)?;
    ended(us, rest)
}

/// Our sessions run in UTC, so the offset is `+00`.
fn timestamp_tz(text: &[u8]) -> Result<i64, Misfit> {
    let (us, rest) = date_and_time(text)?;
    if rest == b"+00" { Ok(us) } else { Err(MALFORMED) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMicrosecondType;
    use arrow::util::display::array_value_to_string;
    use proptest::prelude::*;

    fn decode(kind: ColumnType, text: &str) -> Result<String, Misfit> {
        let mut builder = ColumnBuilder::new(&kind);
        builder.append(text.as_bytes())?;
        let array = builder.finish();
        assert_eq!(array.len(), 1);
        assert_eq!(array.data_type(), &kind.arrow());
        if let Some(times) = array.as_primitive_opt::<TimestampMicrosecondType>().filter(|_| kind == ColumnType::TimestampTz) {
            return Ok(times.value(0).to_string());
        }
        Ok(array_value_to_string(&array, 0).unwrap())
    }

    fn check(kind: ColumnType, text: &str, expected: Result<&str, Misfit>) {
        assert_eq!(decode(kind, text), expected.map(str::to_string), "{text}");
    }

    const fn decimal_type(precision: u8, scale: i8) -> ColumnType {
        ColumnType::Decimal { precision, scale }
    }

    #[test]
    fn boundaries() {
        use ColumnType::*;
        check(Bool, "t", Ok("true"));
        check(Bool, "x", Err(MALFORMED));
        check(Int16, "-32768", Ok("-32768"));
        check(Int16, "32768", Err(MALFORMED));
        check(Int64, "-9223372036854775808", Ok("-9223372036854775808"));
        check(Int64, "9223372036854775807", Ok("9223372036854775807"));
        check(Int64, "9223372036854775808", Err(MALFORMED));
        check(Int32, "", Err(MALFORMED));
        check(Float64, "-Infinity", Ok("-inf"));
        check(Float64, "NaN", Ok("NaN"));
        check(Float32, "3.4028235e+38", Ok("3.4028235e38"));
        check(decimal_type(5, 2), "-123.45", Ok("-123.45"));
        check(decimal_type(5, 2), "1234.00", Err(TOO_WIDE));
        check(decimal_type(2, 2), "0.99", Ok("0.99"));
        check(decimal_type(38, 0), "99999999999999999999999999999999999999", Ok("99999999999999999999999999999999999999"));
        check(decimal_type(38, 38), "-0.99999999999999999999999999999999999999", Ok("-0.99999999999999999999999999999999999999"));
        check(decimal_type(5, 2), "NaN", Err(NOT_A_NUMBER));
        check(decimal_type(5, 2), "-Infinity", Err(NOT_A_NUMBER));
        check(Bytes, "\\x", Ok(""));
        check(Bytes, "\\x00ffAb", Ok("00ffab"));
        check(Bytes, "\\x0", Err(MALFORMED));
        check(Date, "1970-01-01", Ok("1970-01-01"));
        check(Date, "0001-01-01", Ok("0001-01-01"));
        check(Date, "2000-02-29", Ok("2000-02-29"));
        check(Date, "9999-12-31", Ok("9999-12-31"));
        check(Date, "infinity", Err(INFINITE));
        check(Date, "-infinity", Err(INFINITE));
        check(Date, "0044-03-15 BC", Err(BEFORE_CHRIST));
        check(Time, "23:59:59.999999", Ok("23:59:59.999999"));
        check(Time, "24:00:00", Err(END_OF_DAY));
        check(Timestamp, "2024-05-06 07:08:09.1", Ok("2024-05-06T07:08:09.100"));
        check(Timestamp, "294276-12-31 23:59:59", Err(BEYOND));
        check(TimestampTz, "1969-12-31 23:59:59.999999+00", Ok("-1"));
        check(TimestampTz, "1969-12-31 23:59:59+01", Err(MALFORMED));
        check(Text, "", Ok(""));
    }

    #[test]
    fn days_agree_with_the_calendar() {
        let mut day = days_from_civil(1, 1, 1);
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        for year in 1..=2400 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for (month, length) in [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].iter().enumerate() {
                for d in 1..=*length {
                    assert_eq!(days_from_civil(year, month as i64 + 1, d), day);
                    day += 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            use ColumnType::*;
            for kind in [Bool, Int16, Int32, Int64, Float32, Float64, decimal_type(38, 10), Text, Bytes, Date, Time, Timestamp, TimestampTz] {
                let mut builder = ColumnBuilder::new(&kind);
                let appended = builder.append(&bytes).is_ok();
                prop_assert_eq!(builder.finish().len(), usize::from(appended));
            }
        }

        #[test]
        fn integers_survive(n: i64) {
            check(ColumnType::Int64, &n.to_string(), Ok(&n.to_string()));
        }

        #[test]
        fn digits_survive(n in -99_999_999_999_999_999_999_999_999_999_999_999_999i128..=99_999_999_999_999_999_999_999_999_999_999_999_999) {
            check(decimal_type(38, 0), &n.to_string(), Ok(&n.to_string()));
        }
    }
}
