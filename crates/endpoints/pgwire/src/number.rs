//! Numbers as Postgres prints them, and numeric's binary form. Nothing here allocates per value.

use crate::codes;
use mainstem_types::{Error, Result};
use std::fmt::Write;

/// Digits of the largest 256-bit number, with room.
const DIGITS_MAX: usize = 80;

struct Stack {
    bytes: [u8; 40],
    length: usize,
}

impl Write for Stack {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

pub(crate) fn put_u64(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

pub(crate) fn put_i64(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    put_u64(out, n.unsigned_abs());
}

/// At least `width` digits, zeros in front.
pub(crate) fn put_padded(out: &mut Vec<u8>, n: u64, width: u32) {
    let mut limit = 10u64.saturating_pow(width.saturating_sub(1));
    while n < limit && limit > 1 {
        out.push(b'0');
        limit /= 10;
    }
    put_u64(out, n);
}

pub(crate) fn put_f64(out: &mut Vec<u8>, value: f64) {
    put_float(out, value, 15);
}

pub(crate) fn put_f32(out: &mut Vec<u8>, value: f32) {
    if value.is_nan() || value.is_infinite() {
        return put_f64(out, f64::from(value));
    }
    let mut stack = Stack { bytes: [0; 40], length: 0 };
    let _ = write!(stack, "{value:e}");
    put_shortest(out, &stack.bytes[..stack.length], 6);
}

fn put_float(out: &mut Vec<u8>, value: f64, exponent_max: i32) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let mut stack = Stack { bytes: [0; 40], length: 0 };
    let _ = write!(stack, "{value:e}");
    put_shortest(out, &stack.bytes[..stack.length], exponent_max);
}

/// Lays out the shortest digits (`-1.25e-7`) as Postgres does: scientific below 1e-4 and from 10^`exponent_max`.
fn put_shortest(out: &mut Vec<u8>, text: &[u8], exponent_max: i32) {
    let text = match text.strip_prefix(b"-") {
        Some(rest) => {
            out.push(b'-');
            rest
        }
        None => text,
    };
    let split = text.iter().position(|b| *b == b'e').unwrap_or(text.len());
    let exponent: i32 =
        std::str::from_utf8(text.get(split + 1..).unwrap_or_default()).ok().and_then(|e| e.parse().ok()).unwrap_or(0);
    let (first, rest) = (text.first().copied().unwrap_or(b'0'), text.get(2..split).unwrap_or_default());
    if exponent < -4 || exponent >= exponent_max {
        out.push(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        return put_padded(out, u64::from(exponent.unsigned_abs()), 2);
    }
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.push(first);
        return out.extend_from_slice(rest);
    }
    let whole = exponent as usize;
    out.push(first);
    if rest.len() <= whole {
        out.extend_from_slice(rest);
        out.resize(out.len() + whole - rest.len(), b'0');
    } else {
        out.extend_from_slice(&rest[..whole]);
        out.push(b'.');
        out.extend_from_slice(&rest[whole..]);
    }
}

/// A decimal as its sign, its digits and how many of them stand after the point.
pub(crate) struct Decimal {
    negative: bool,
    digits: [u8; DIGITS_MAX],
    start: usize,
    scale: i32,
}

impl Decimal {
    pub fn from_i128(value: i128, scale: i8) -> Self {
        let n = value.unsigned_abs();
        Self::from_limbs(value < 0, [n as u64, (n >> 64) as u64, 0, 0], scale)
    }

    pub fn from_i256(value: arrow::datatypes::i256, scale: i8) -> Self {
        let negative = value.is_negative();
        let (low, high) = if negative { value.wrapping_neg() } else { value }.to_parts();
        let high = high as u128;
        Self::from_limbs(negative, [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64], scale)
    }

    fn from_limbs(negative: bool, mut limbs: [u64; 4], scale: i8) -> Self {
        const CHUNK: u128 = 10_000_000_000_000_000_000;
        let (mut digits, mut start) = ([b'0'; DIGITS_MAX], DIGITS_MAX);
        let mut top = 4;
        while top > 0 && limbs[top - 1] == 0 {
            top -= 1;
        }
        while top > 0 {
            let mut rest = 0u128;
            for limb in limbs[..top].iter_mut().rev() {
                let n = (rest << 64) | u128::from(*limb);
                *limb = (n / CHUNK) as u64;
                rest = n % CHUNK;
            }
            while top > 0 && limbs[top - 1] == 0 {
                top -= 1;
            }
            let mut chunk = rest as u64;
            for _ in 0..19 {
                if top == 0 && chunk == 0 {
                    break;
                }
                start -= 1;
                digits[start] = b'0' + (chunk % 10) as u8;
                chunk /= 10;
            }
        }
        Self { negative, digits, start, scale: i32::from(scale) }
    }

    fn digits(&self) -> &[u8] {
        &self.digits[self.start..]
    }

    pub fn put_text(&self, out: &mut Vec<u8>) {
        let digits = self.digits();
        if self.negative {
            out.push(b'-');
        }
        if self.scale <= 0 {
            out.extend_from_slice(if digits.is_empty() { b"0" } else { digits });
            let zeros = if digits.is_empty() { 0 } else { -self.scale as usize };
            return out.resize(out.len() + zeros, b'0');
        }
        let scale = self.scale as usize;
        let whole = digits.len().saturating_sub(scale);
        out.extend_from_slice(if whole == 0 { b"0" } else { &digits[..whole] });
        out.push(b'.');
        out.resize(out.len() + scale.saturating_sub(digits.len()), b'0');
        out.extend_from_slice(&digits[whole..]);
    }

    /// `numeric_send`: count, weight, sign, display scale, then digits of base 10000.
    pub fn put_binary(&self, out: &mut Vec<u8>) {
        let digits = self.digits();
        // Decimal digits before the point; negative when zeros follow it.
        let before = digits.len() as i32 - self.scale;
        let weight = (before + 3).div_euclid(4) - 1;
        let mut groups = [0u16; DIGITS_MAX / 4 + 2];
        let mut count = 0;
        for (i, digit) in digits.iter().enumerate() {
            // Power of ten of this digit, then its group counted from the first and its place in it.
            let power = before - 1 - i as i32;
            let group = (weight - power.div_euclid(4)) as usize;
            if let Some(g) = groups.get_mut(group) {
                *g += u16::from(digit - b'0') * 10u16.pow(power.rem_euclid(4) as u32);
                count = if *g != 0 { group + 1 } else { count };
            }
        }
        let weight = if count == 0 { 0 } else { weight };
        out.extend_from_slice(&(count as u16).to_be_bytes());
        out.extend_from_slice(&(weight as i16).to_be_bytes());
        out.extend_from_slice(&(if self.negative { 0x4000u16 } else { 0 }).to_be_bytes());
        out.extend_from_slice(&(self.scale.max(0) as u16).to_be_bytes());
        groups[..count].iter().for_each(|g| out.extend_from_slice(&g.to_be_bytes()));
    }
}

/// Reads `numeric_recv`'s form as text that [`parse_decimal`] takes.
pub(crate) fn numeric_text(bytes: &[u8]) -> Result<String> {
    let refuse = || Error::fix(codes::PARAMETER_BINARY, "malformed binary numeric");
    let word = |i: usize| bytes.get(2 * i..2 * i + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes).ok_or_else(refuse);
    let (count, weight, sign) = (word(0)? as usize, i32::from(word(1)? as i16), word(2)?);
    word(3)?;
    if bytes.len() != 8 + 2 * count || !(-100..=100).contains(&weight) || !matches!(sign, 0 | 0x4000) {
        return Err(refuse());
    }
    let mut text = String::from(if sign == 0 { "" } else { "-" });
    let last = weight.min(-1).min(weight - count as i32 + 1);
    for place in (last..=weight.max(0)).rev() {
        let digit = usize::try_from(weight - place).ok().filter(|i| *i < count).map_or(Ok(0), |i| word(4 + i))?;
        if digit > 9999 {
            return Err(refuse());
        }
        let _ = write!(text, "{digit:04}");
        if place == 0 {
            text.push('.');
        }
    }
    Ok(text)
}

/// Decimal text (`-12.5`, `1e3`) as an integer of `scale` places after the point. Never rounds: digits that do not fit are an error.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let refuse = || Error::fix(codes::PARAMETER_TEXT, "invalid input syntax for type numeric");
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().ok().filter(|e| e.abs() < 1000).ok_or_else(refuse)?),
        None => (text, 0),
    };
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(refuse());
    }
    let too_large = || Error::fix(codes::RANGE, format!("numeric parameter does not fit numeric({precision},{scale})"));
    let mut value = 0i128;
    // Power of ten of the digit at hand, relative to the target's last place.
    let mut power = whole.len() as i32 - 1 + exponent + i32::from(scale);
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(digit - b'0');
        if power >= 0 {
            value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or_else(too_large)?;
        } else if digit != 0 {
            return Err(too_large().hint(format!("Cast the parameter in the statement, for example $1::numeric(38,{}).", -power)));
        }
        power -= 1;
    }
    if value != 0 && power >= 0 {
        let factor = 10i128.checked_pow(power as u32 + 1).ok_or_else(too_large)?;
        value = value.checked_mul(factor).ok_or_else(too_large)?;
    }
    if value >= 10i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX) {
        return Err(too_large());
    }
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::i256;
    use proptest::prelude::*;

    fn text(put: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_as_postgres() {
        let check = |value: f64, expected: &str| assert_eq!(text(|out| put_f64(out, value)), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.5, "1.5");
        check(0.1, "0.1");
        check(100.0, "100");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(1e20, "1e+20");
        check(123456789012345.0, "123456789012345");
        check(1e15, "1e+15");
        check(1234567890123456.0, "1.234567890123456e+15");
        check(1.25e-7, "1.25e-07");
        check(f64::MAX, "1.7976931348623157e+308");
        check(5e-324, "5e-324");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
        let check = |value: f32, expected: &str| assert_eq!(text(|out| put_f32(out, value)), expected);
        check(1.1, "1.1");
        check(123456.0, "123456");
        check(1e6, "1e+06");
        check(1234567.0, "1.234567e+06");
        check(f32::INFINITY, "Infinity");
    }

    #[test]
    fn decimals() {
        let check = |value: i128, scale: i8, expected: &str, binary: &[u16]| {
            let decimal = Decimal::from_i128(value, scale);
            assert_eq!(text(|out| decimal.put_text(out)), expected);
            let mut out = Vec::new();
            decimal.put_binary(&mut out);
            assert_eq!(out.chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect::<Vec<_>>(), binary, "{expected}");
        };
        check(0, 0, "0", &[0, 0, 0, 0]);
        check(0, 2, "0.00", &[0, 0, 0, 2]);
        check(12345, 2, "123.45", &[2, 0, 0, 2, 123, 4500]);
        check(-5, 3, "-0.005", &[1, 0xffff, 0x4000, 3, 50]);
        check(1, 8, "0.00000001", &[1, 0xfffe, 0, 8, 1]);
        check(100_000_000, 0, "100000000", &[1, 2, 0, 0, 1]);
        check(12, -3, "12000", &[2, 1, 0, 0, 1, 2000]);
        let nines = 10i128.pow(38) - 1;
        assert_eq!(text(|out| Decimal::from_i128(-nines, 38).put_text(out)), format!("-0.{}", "9".repeat(38)));
        assert_eq!(text(|out| Decimal::from_i256(i256::MIN, 0).put_text(out)), i256::MIN.to_string());
    }

    #[test]
    fn decimal_parameters() {
        let check =
            |text: &str, scale: i8, expected: Option<i128>| assert_eq!(parse_decimal(text, 20, scale).ok(), expected, "{text}");
        check("12.5", 2, Some(1250));
        check("-.5", 1, Some(-5));
        check("1e3", 0, Some(1000));
        check("1.500", 1, Some(15));
        check("1.55", 1, None);
        check("", 0, None);
        check("1x", 0, None);
        check("NaN", 0, None);
        check("100000000000000000000", 0, None);
        check("1e30", 0, None);
    }

    proptest! {
        #[test]
        fn decimals_round_trip(value in any::<i128>(), scale in 0i8..=38) {
            let value = value % 10i128.pow(38);
            let decimal = Decimal::from_i128(value, scale);
            let shown = text(|out| decimal.put_text(out));
            prop_assert_eq!(parse_decimal(&shown, 38, scale).unwrap(), value);
            let mut binary = Vec::new();
            decimal.put_binary(&mut binary);
            prop_assert_eq!(parse_decimal(&numeric_text(&binary).unwrap(), 38, scale).unwrap(), value);
        }

        #[test]
        fn wide_decimals_agree(low in any::<u128>(), high in any::<i128>()) {
            let value = i256::from_parts(low, high);
            prop_assert_eq!(text(|out| Decimal::from_i256(value, 0).put_text(out)), value.to_string());
        }

        #[test]
        fn floats_round_trip(bits in any::<u64>(), small in any::<u32>()) {
            let (value, single) = (f64::from_bits(bits), f32::from_bits(small));
            prop_assume!(value.is_finite() && single.is_finite());
            prop_assert_eq!(text(|out| put_f64(out, value)).parse::<f64>().unwrap().to_bits(), bits);
            prop_assert_eq!(text(|out| put_f32(out, single)).parse::<f32>().unwrap().to_bits(), small);
        }

        #[test]
        fn no_numeric_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in ".{0,12}") {
            let _ = numeric_text(&bytes).map(|t| parse_decimal(&t, 38, 10));
            let _ = parse_decimal(&text, 38, 10);
        }
    }
}
