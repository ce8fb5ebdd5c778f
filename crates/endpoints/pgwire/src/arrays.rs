//! Lists as Postgres arrays and structs as Postgres records.

use crate::codes;
use crate::encode::Cells;
use mainstem_types::{Error, Result};
use std::ops::Range;

/// `array_out`: `{1,NULL,"a b"}`.
pub(crate) fn put_text(items: &Cells<'_>, range: Range<usize>, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'{');
    for (i, row) in range.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if items.is_null(row) {
            out.extend_from_slice(b"NULL");
            continue;
        }
        let at = out.len();
        items.value(row, out)?;
        if !items.is_list() && needs_quotes(&out[at..]) {
            quote(out, at, b"\\");
        }
    }
    out.push(b'}');
    Ok(())
}

fn needs_quotes(value: &[u8]) -> bool {
    value.is_empty()
        || value.eq_ignore_ascii_case(b"NULL")
        || value.iter().any(|b| matches!(b, b'{' | b'}' | b',' | b'"' | b'\\' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c))
}

/// Puts the bytes from `at` in quotes; `"` is escaped by `escape_quote`, `\` by itself.
fn quote(out: &mut Vec<u8>, at: usize, escape_quote: &[u8]) {
    let value = out.split_off(at);
    out.push(b'"');
    for b in value {
        match b {
            b'"' => out.extend_from_slice(escape_quote),
            b'\\' => out.push(b'\\'),
            _ => {}
        }
        out.push(b);
    }
    out.push(b'"');
}

/// `array_send`: dimensions, null flag, element type, bounds, elements.
pub(crate) fn put_binary(items: &Cells<'_>, range: Range<usize>, out: &mut Vec<u8>) -> Result<()> {
    let count = i32::try_from(range.len()).map_err(|_| Error::fix(codes::RANGE, "an array is too long for the client"))?;
    let nulls = range.clone().any(|row| items.is_null(row));
    out.extend_from_slice(&i32::from(count > 0).to_be_bytes());
    out.extend_from_slice(&i32::from(nulls).to_be_bytes());
    out.extend_from_slice(&items.oid().to_be_bytes());
    if count > 0 {
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&1i32.to_be_bytes());
    }
    range.into_iter().try_for_each(|row| items.put(row, out))
}

/// `record_out`: `(1,,"a b")`.
pub(crate) fn put_record(fields: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'(');
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if field.is_null(row) {
            continue;
        }
        let at = out.len();
        field.value(row, out)?;
        let value = &out[at..];
        if value.is_empty() || value.iter().any(|b| matches!(b, b'(' | b')' | b',' | b'"' | b'\\') || b.is_ascii_whitespace()) {
            quote(out, at, b"\"");
        }
    }
    out.push(b')');
    Ok(())
}

/// Splits array text (`{1,NULL,"a b"}`, one dimension) into its elements.
pub(crate) fn parse_text(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inner.is_empty() {
        return Some(items);
    }
    let mut rest = inner.chars();
    loop {
        let (mut item, mut quoted) = (String::new(), false);
        let last = loop {
            match rest.next() {
                None => break true,
                Some(',') => break false,
                Some(_) if quoted => return None,
                Some('"') if item.is_empty() => {
                    quoted = true;
                    loop {
                        match rest.next()? {
                            '"' => break,
                            '\\' => item.push(rest.next()?),
                            c => item.push(c),
                        }
                    }
                }
                Some('{' | '}' | '"') => return None,
                Some('\\') => item.push(rest.next()?),
                Some(c) => item.push(c),
            }
        };
        if !quoted && item.is_empty() {
            return None;
        }
        items.push(if !quoted && item.eq_ignore_ascii_case("null") { None } else { Some(item) });
        if last {
            return Some(items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_text() {
        let check = |text: &str, expected: Option<&[Option<&str>]>| {
            let expected = expected.map(|items| items.iter().map(|i| i.map(str::to_string)).collect::<Vec<_>>());
            assert_eq!(parse_text(text), expected, "{text}");
        };
        check("{}", Some(&[]));
        check("{1,NULL,\"null\"}", Some(&[Some("1"), None, Some("null")]));
        check(r#"{"a \"b\\",""}"#, Some(&[Some("a \"b\\"), Some("")]));
        for wrong in ["", "{", "{1,}", "{{1}}", "{\"a}", "{\"a\"b}", "1,2"] {
            check(wrong, None);
        }
    }
}
