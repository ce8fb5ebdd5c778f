//! Avro's binary primitives (Apache Avro 1.12 specification, "Binary Encoding"), written to and read from plain bytes.

/// What is wrong with bytes that were to be read; becomes an error where the record is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad(pub &'static str);

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// `int` and `long`: zigzag, then base 128, low group first.
#[inline]
pub(crate) fn put_long(out: &mut Vec<u8>, n: i64) {
    put_varint(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// `bytes` and `string`: length, then the bytes.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// `decimal` on `bytes`: the unscaled number as big-endian two's complement, in as few bytes as Java's `BigInteger` uses.
#[inline]
pub(crate) fn put_decimal(out: &mut Vec<u8>, n: i128) {
    let sign_free = if n < 0 { !n } else { n };
    let bytes = (136 - sign_free.leading_zeros() as usize) / 8;
    put_bytes(out, &n.to_be_bytes()[16 - bytes..]);
}

/// Decimal digits of a number, without an allocation.
pub(crate) struct Digits {
    buffer: [u8; 20],
    start: usize,
}

impl Digits {
    #[inline]
    pub(crate) fn of(mut n: u64) -> Self {
        let mut digits = Self { buffer: [0; 20], start: 20 };
        // Two at a time: the chain of divisions is what costs.
        while n >= 100 {
            let pair = (n % 100) as u8;
            n /= 100;
            digits.start -= 2;
            digits.buffer[digits.start] = b'0' + pair / 10;
            digits.buffer[digits.start + 1] = b'0' + pair % 10;
        }
        loop {
            digits.start -= 1;
            digits.buffer[digits.start] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return digits;
            }
        }
    }

    #[inline]
    pub(crate) fn text(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

/// Reads from the front; every read checks its bounds.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Bad> {
        if length > self.rest.len() {
            return Err(Bad("it ends too early"));
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else { return Err(Bad("it ends too early")) };
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Bad> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed::<1>()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(Bad("a number is longer than ten bytes"))
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64, Bad> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Bad> {
        let length = usize::try_from(self.long()?).map_err(|_| Bad("a length is negative"))?;
        self.take(length)
    }

    pub(crate) fn decimal(&mut self) -> Result<i128, Bad> {
        let bytes = self.bytes()?;
        let (Some(first), true) = (bytes.first(), bytes.len() <= 16) else { return Err(Bad("a decimal has not 1 to 16 bytes")) };
        let mut full = [if first & 0x80 == 0 { 0 } else { 0xff }; 16];
        full[16 - bytes.len()..].copy_from_slice(bytes);
        Ok(i128::from_be_bytes(full))
    }

    /// The branch of a union of two.
    #[inline]
    pub(crate) fn branch(&mut self) -> Result<bool, Bad> {
        match self.long()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Bad("a union has no such branch")),
        }
    }

    /// A `["null", "long"]`.
    pub(crate) fn optional_long(&mut self) -> Result<Option<i64>, Bad> {
        if self.branch()? { self.long().map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_are_zigzag() {
        for (n, expected) in [(0, &[0u8][..]), (-1, &[1]), (1, &[2]), (-64, &[0x7f]), (64, &[0x80, 1])] {
            let mut out = Vec::new();
            put_long(&mut out, n);
            assert_eq!(out, expected, "{n}");
        }
        for n in [i64::MIN, i64::MAX, 1 << 40] {
            let mut out = Vec::new();
            put_long(&mut out, n);
            assert_eq!(Reader::new(&out).long(), Ok(n));
        }
    }

    #[test]
    fn decimals_are_as_short_as_javas() {
        let cases: [(i128, &[u8]); 9] = [
            (0, &[0]),
            (-1, &[0xff]),
            (127, &[0x7f]),
            (128, &[0, 0x80]),
            (-128, &[0x80]),
            (-129, &[0xff, 0x7f]),
            (255, &[0, 0xff]),
            (256, &[1, 0]),
            (-32769, &[0xff, 0x7f, 0xff]),
        ];
        for (n, expected) in cases {
            let mut out = Vec::new();
            put_decimal(&mut out, n);
            assert_eq!(&out[1..], expected, "{n}");
            assert_eq!(Reader::new(&out).decimal(), Ok(n));
        }
        for n in [i128::MAX, i128::MIN, 10i128.pow(38) - 1] {
            let mut out = Vec::new();
            put_decimal(&mut out, n);
            assert_eq!(Reader::new(&out).decimal(), Ok(n));
        }
    }

    #[test]
    fn digits_of_any_number() {
        for n in [0, 7, 10, 99, 100, 101, 12_345, 123_456, u64::MAX] {
            assert_eq!(Digits::of(n).text(), n.to_string().as_bytes());
        }
    }
}
