//! Certificates that libpq accepts and the rules of the web's certificates do not allow for: of version 1, without an alternative name, or
//! their own root. Read here as far as these need: names, dates, and the signature of a direct issuer.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::SignatureVerificationAlgorithm;
use std::net::IpAddr;

/// What is read of a certificate; all ranges are checked.
pub struct Certificate<'a> {
    /// What is signed.
    body: &'a [u8],
    /// The contents of the algorithm identifier, and the signature.
    algorithm: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    /// Seconds since 1970.
    valid: (u64, u64),
    /// SubjectPublicKeyInfo, whole and in parts.
    pub key_info: &'a [u8],
    key_algorithm: &'a [u8],
    key: &'a [u8],
    extensions: &'a [u8],
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BITS: u8 = 0x03;
const OBJECT: u8 = 0x06;
/// id-at-commonName, id-ce-subjectAltName, id-ce-basicConstraints, id-ce-nameConstraints, id-ce-extKeyUsage.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// id-kp-serverAuth, anyExtendedKeyUsage.
const SERVER: [&[u8]; 2] = [&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01], &[0x55, 0x1d, 0x25, 0x00]];

impl<'a> Certificate<'a> {
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let (whole, rest) = element(der, SEQUENCE)?;
        if !rest.is_empty() {
            return None;
        }
        let (_, after_body) = element(whole, SEQUENCE)?;
        let body = &whole[..whole.len() - after_body.len()];
        let (algorithm, rest) = element(after_body, SEQUENCE)?;
        let signature = bits(element(rest, BITS)?.0)?;
        let (fields, _) = element(body, SEQUENCE)?;
        // Version (absent in 1) and serial number.
        let fields = element(fields, 0xa0).map_or(fields, |(_, rest)| rest);
        let (_, fields) = element(fields, 0x02)?;
        let (inner, fields) = element(fields, SEQUENCE)?;
        if inner != algorithm {
            return None;
        }
        let (issuer, fields) = element(fields, SEQUENCE)?;
        let (validity, fields) = element(fields, SEQUENCE)?;
        let (subject, fields) = element(fields, SEQUENCE)?;
        let (key_parts, rest) = element(fields, SEQUENCE)?;
        let key_info = &fields[..fields.len() - rest.len()];
        let mut fields = rest;
        let (key_algorithm, key) = element(key_parts, SEQUENCE)?;
        let key = bits(element(key, BITS)?.0)?;
        let (from, rest) = time(validity)?;
        let (until, _) = time(rest)?;
        let mut extensions: &[u8] = &[];
        while let Some((&tag, _)) = fields.split_first() {
            let (content, rest) = element(fields, tag)?;
            if tag == 0xa3 {
                extensions = element(content, SEQUENCE)?.0;
            }
            fields = rest;
        }
        Some(Self { body, algorithm, signature, issuer, subject, valid: (from, until), key_info, key_algorithm, key, extensions })
    }

    pub fn is_valid_at(&self, seconds: u64) -> bool {
        (self.valid.0..=self.valid.1).contains(&seconds)
    }

    /// Whether `issuer` signed it: names fit, `issuer` may sign, and the signature holds.
    pub fn is_signed_by(&self, issuer: &Certificate<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let fits = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && algorithm.public_key_alg_id().as_ref() == issuer.key_algorithm
        };
        self.issuer == issuer.subject
            && issuer.may_sign()
            && issuer.extension(NAME_CONSTRAINTS).is_none()
            && algorithms.all.iter().filter(fits).any(|a| a.verify_signature(issuer.key, self.body, self.signature).is_ok())
    }

    /// A certificate authority; one without extensions is of a time that knew no other.
    fn may_sign(&self) -> bool {
        if self.extensions.is_empty() {
            return true;
        }
        // BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, ... }
        let constraints = self.extension(CONSTRAINTS).and_then(|value| Some(element(value, SEQUENCE)?.0));
        matches!(constraints, Some([0x01, 0x01, 0xff, ..]))
    }

    /// A server's certificate that the rules of the web refuse for its form alone: a certificate authority's, or one of version 1. What says
    /// that it is for something else (a client's) is none.
    pub fn is_old_style_server(&self) -> bool {
        let mut serves = true;
        if let Some((mut uses, _)) = self.extension(USAGE).and_then(|value| element(value, SEQUENCE)) {
            serves = false;
            while let Some((usage, rest)) = element(uses, OBJECT) {
                serves |= SERVER.contains(&usage);
                uses = rest;
            }
        }
        serves && self.may_sign()
    }

    /// Of version 1, which has no extensions.
    pub fn is_plain(&self) -> bool {
        self.extensions.is_empty()
    }

    /// Whether its key made this signature, by one of `algorithms`.
    pub fn made(&self, signature: &[u8], message: &[u8], algorithms: &[&dyn SignatureVerificationAlgorithm]) -> bool {
        let fits = |a: &&&dyn SignatureVerificationAlgorithm| a.public_key_alg_id().as_ref() == self.key_algorithm;
        algorithms.iter().filter(fits).any(|a| a.verify_signature(self.key, message, signature).is_ok())
    }

    fn extension(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.extensions;
        while let Some((extension, next)) = element(rest, SEQUENCE) {
            let (object, mut value) = element(extension, OBJECT)?;
            if object == wanted {
                if let Some((_, after)) = element(value, 0x01) {
                    value = after; // critical
                }
                return Some(element(value, 0x04)?.0);
            }
            rest = next;
        }
        None
    }

    /// Whether it is for this host as libpq sees it: by an alternative name, or by the common name where it has none of the host's kind.
    pub fn names(&self, host: &str) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        let octets = address.map(|a| match a {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        });
        let mut names = self.extension(ALTERNATIVE_NAME).and_then(|value| element(value, SEQUENCE)).map_or(&[][..], |(n, _)| n);
        let mut of_kind = false;
        while let Some((&tag, _)) = names.split_first() {
            let Some((name, rest)) = element(names, tag) else { return false };
            names = rest;
            let (dns, ip) = (tag == 0x82, tag == 0x87);
            of_kind |= if octets.is_some() { ip } else { dns };
            if dns && like(name, host, address.is_some()) || ip && octets.as_deref() == Some(name) {
                return true;
            }
        }
        !of_kind && self.common_name().is_some_and(|name| like(name, host, address.is_some()))
    }

    /// The last of them, the most specific.
    fn common_name(&self) -> Option<&'a [u8]> {
        let (mut rest, mut found) = (self.subject, None);
        while let Some((set, next)) = element(rest, SET) {
            let (pair, _) = element(set, SEQUENCE)?;
            let (object, value) = element(pair, OBJECT)?;
            let (&tag, _) = value.split_first()?;
            // UTF8String, PrintableString, IA5String, TeletexString.
            if object == COMMON_NAME && matches!(tag, 0x0c | 0x13 | 0x16 | 0x14) {
                found = Some(element(value, tag)?.0);
            }
            rest = next;
        }
        found
    }
}

/// Whether a name of a certificate is the host's. `*.` stands for one label of a name, never for part of an address.
fn like(name: &[u8], host: &str, is_address: bool) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    let host = host.strip_suffix('.').unwrap_or(host);
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(suffix) = name.strip_prefix('*').filter(|rest| rest.starts_with('.') && !is_address) else { return false };
    let Some(dot) = host.find('.') else { return false };
    dot > 0 && host[dot..].eq_ignore_ascii_case(suffix)
}

/// The content of a BIT STRING of whole bytes.
fn bits(content: &[u8]) -> Option<&[u8]> {
    content.strip_prefix(&[0])
}

/// UTCTime or GeneralizedTime in UTC, as seconds since 1970; dates before that are 0.
fn time(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&tag, _) = bytes.split_first()?;
    let (text, rest) = element(bytes, tag)?;
    let digits = std::str::from_utf8(text.strip_suffix(b"Z")?).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
    let (year, digits) = match (tag, digits.len()) {
        (0x17, 12) => {
            let year: i64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (0x18, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| digits[at..at + 2].parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, counted in years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + part(4)? * 3600 + part(6)? * 60 + part(8)?;
    Some((u64::try_from(seconds).unwrap_or(0), rest))
}

/// One DER element of the given tag: (content, what follows it).
pub fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let mut length = first as usize;
    if first & 0x80 != 0 {
        let count = (first & 0x7f) as usize;
        if count > 4 || rest.len() < count {
            return None;
        }
        length = rest[..count].iter().fold(0, |n, b| n << 8 | *b as usize);
        rest = &rest[count..];
    }
    (rest.len() >= length).then(|| rest.split_at(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_hosts() {
        let check = |name: &str, host: &str, expected: bool| {
            assert_eq!(like(name.as_bytes(), host, host.parse::<IpAddr>().is_ok()), expected, "{name} {host}")
        };
        check("db.example.com", "DB.example.com", true);
        check("*.example.com", "db.example.com", true);
        check("*.example.com", "a.db.example.com", false);
        check("*.example.com", "example.com", false);
        check("*.example.com", ".example.com", false);
        check("*", "localhost", false);
        check("*.0.0.1", "127.0.0.1", false);
        check("127.0.0.1", "127.0.0.1", true);
        check("db.example.com\0.evil", "db.example.com", false);
    }

    #[test]
    fn dates() {
        let check = |tag: u8, text: &str, expected: Option<u64>| {
            let bytes = [&[tag, text.len() as u8], text.as_bytes()].concat();
            assert_eq!(time(&bytes).map(|(t, _)| t), expected, "{text}");
        };
        check(0x17, "700101000000Z", Some(0));
        check(0x17, "240229120000Z", Some(1_709_208_000));
        check(0x18, "20500301000001Z", Some(2_529_705_601));
        check(0x17, "241329120000Z", None);
        check(0x17, "2402291200Z", None);
        check(0x18, "20500301000001+", None);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            if let Some(read) = Certificate::parse(&bytes) {
                read.names("localhost");
            }
        }
    }
}
