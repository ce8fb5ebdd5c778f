//! `->`, `->>`, `#>`, `#>>` and what is near them. A json or jsonb value is its text: members are slices of it, so they keep the source's form.

use super::scalar::{argument, function, text_argument, text_type};
use arrow::array::{Array, ArrayRef, Int32Array, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

/// Deeper nesting than this is not followed.
const DEPTH_MAX: usize = 512;

pub(super) fn all() -> Vec<ScalarUDF> {
    let mut all = vec![
        function("pg_json_get", text_type, |arrays, _, _| get(arrays, false, false)),
        function("pg_json_get_text", text_type, |arrays, _, _| get(arrays, false, true)),
        function("pg_json_path", text_type, |arrays, _, _| get(arrays, true, false)),
        function("pg_json_path_text", text_type, |arrays, _, _| get(arrays, true, true)),
    ];
    for name in ["json_array_length", "jsonb_array_length"] {
        all.push(function(name, |_, _| Ok(DataType::Int32), |arrays, _, _| lengths(arrays)));
    }
    for name in ["json_typeof", "jsonb_typeof"] {
        all.push(function(name, text_type, |arrays, _, _| types(arrays)));
    }
    all
}

fn get(arrays: &[ArrayRef], path: bool, as_text: bool) -> Result<ArrayRef> {
    let (values, keys) = (text_argument(arrays, 0)?, text_argument(arrays, 1)?);
    let number = argument(arrays, 1)?.data_type().is_integer();
    let mut made = StringBuilder::new();
    for row in 0..values.len() {
        if values.is_null(row) || keys.is_null(row) {
            made.append_null();
            continue;
        }
        let key = keys.value(row);
        let found = if path {
            steps(key).iter().try_fold(values.value(row), |value, step| member(value, step, step.parse().ok()))
        } else if number {
            key.parse().ok().and_then(|index| element(values.value(row), index))
        } else {
            member(values.value(row), key, None)
        };
        match found {
            Some(found) if as_text => made.append_option(text(found)),
            found => made.append_option(found),
        }
    }
    Ok(Arc::new(made.finish()))
}

/// The steps of `{a,0,"b c"}`; a bare text is one step.
fn steps(path: &str) -> Vec<String> {
    let inner = path.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(path);
    if inner.trim().is_empty() {
        return Vec::new();
    }
    inner.split(',').map(|step| step.trim().trim_matches('"').to_string()).collect()
}

/// A scalar as bare text, `null` as NULL, the rest as it is written.
fn text(value: &str) -> Option<String> {
    match value.as_bytes().first() {
        Some(b'"') => Some(unescaped(value)),
        Some(b'n') => None,
        _ => Some(value.to_string()),
    }
}

/// A member by its key, or by its index when the value is an array.
fn member<'a>(value: &'a str, key: &str, index: Option<i64>) -> Option<&'a str> {
    let value = value.trim();
    if value.starts_with('[') {
        return index.and_then(|index| element(value, index));
    }
    let mut found = None;
    // The last of equal keys wins.
    each(value, '{', |name, part| {
        if name.is_some_and(|name| unescaped(name) == key) {
            found = Some(part);
        }
    })?;
    found
}

/// An element; a negative index counts from the end.
fn element(value: &str, index: i64) -> Option<&str> {
    let mut parts = Vec::new();
    each(value.trim(), '[', |_, part| parts.push(part))?;
    let at = if index < 0 { parts.len().checked_sub(usize::try_from(-index).ok()?)? } else { usize::try_from(index).ok()? };
    parts.get(at).copied()
}

/// Calls `seen` with every member (name with its quotes, value) of an object or element of an array. None: it is not one.
fn each<'a>(value: &'a str, open: char, mut seen: impl FnMut(Option<&'a str>, &'a str)) -> Option<()> {
    let bytes = value.as_bytes();
    if !value.starts_with(open) {
        return None;
    }
    let mut at = skip_space(bytes, 1);
    while !matches!(bytes.get(at)?, b'}' | b']') {
        let mut name = None;
        if open == '{' {
            let end = string_end(bytes, at)?;
            name = value.get(at..end);
            at = skip_space(bytes, end);
            if bytes.get(at)? != &b':' {
                return None;
            }
            at = skip_space(bytes, at + 1);
        }
        let end = value_end(bytes, at)?;
        seen(name, value.get(at..end)?);
        at = skip_space(bytes, end);
        if bytes.get(at)? == &b',' {
            at = skip_space(bytes, at + 1);
        }
    }
    Some(())
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start)? != &b'"' {
        return None;
    }
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value that begins at `start` ends; None when the text ends first.
fn value_end(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0usize);
    loop {
        match bytes.get(at) {
            Some(b'"') => {
                at = string_end(bytes, at)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            Some(b'{' | b'[') => {
                depth += 1;
                at += 1;
                if depth > DEPTH_MAX {
                    return None;
                }
            }
            Some(b'}' | b']') if depth > 0 => {
                depth -= 1;
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            Some(b',' | b'}' | b']') | None if depth == 0 => return (at > start).then_some(at),
            Some(byte) if depth == 0 && byte.is_ascii_whitespace() => return Some(at),
            None => return None,
            Some(_) => at += 1,
        }
    }
}

/// A JSON string's value.
pub(super) fn unescaped(quoted: &str) -> String {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    if !inner.contains('\\') {
        return inner.to_string();
    }
    let (mut text, mut chars) = (String::with_capacity(inner.len()), inner.chars());
    let hex =
        |chars: &mut std::str::Chars| u16::from_str_radix(&chars.by_ref().take(4).collect::<String>(), 16).unwrap_or(0xfffd);
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('u') => {
                let first = hex(&mut chars);
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first) && chars.as_str().starts_with("\\u") {
                    chars.by_ref().take(2).for_each(drop);
                    units.push(hex(&mut chars));
                }
                text.push_str(&String::from_utf16_lossy(&units));
            }
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}

fn lengths(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let values = text_argument(arrays, 0)?;
    let length = |value: &str| {
        let mut count = 0;
        each(value.trim(), '[', |_, _| count += 1).map(|()| count)
    };
    let of = |value: Option<&str>| match value {
        Some(value) => match length(value) {
            Some(count) => Ok(Some(count)),
            None => Err(DataFusionError::Plan("Cannot get array length of a non-array".into())),
        },
        None => Ok(None),
    };
    Ok(Arc::new(values.iter().map(of).collect::<Result<Int32Array>>()?))
}

fn types(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let mut made = StringBuilder::new();
    for value in &text_argument(arrays, 0)? {
        made.append_option(value.map(|value| match value.trim().as_bytes().first() {
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b'"') => "string",
            Some(b't' | b'f') => "boolean",
            Some(b'n') => "null",
            _ => "number",
        }));
    }
    Ok(Arc::new(made.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_slices() {
        let value = r#"{"a": 1, "b": {"c": "x\ny \u00e9"}, "l": [1, "two", null, [3]], "a": 2}"#;
        let check = |found: Option<&str>, expected: Option<&str>| assert_eq!(found, expected);
        check(member(value, "a", None), Some("2"));
        check(member(value, "b", None), Some(r#"{"c": "x\ny \u00e9"}"#));
        check(member(value, "none", None), None);
        check(element(member(value, "l", None).unwrap(), 1), Some("\"two\""));
        check(element(member(value, "l", None).unwrap(), -1), Some("[3]"));
        check(element("[]", 0), None);
        check(member("12", "a", None), None);
        check(member("{\"a\": [1, 2", "a", None), None);
        assert_eq!(text(r#""x\ny \u00e9 \ud83d\ude00""#).unwrap(), "x\ny é 😀");
        assert_eq!(text("null"), None);
        assert_eq!(steps("{b,\"c d\",0}"), ["b", "c d", "0"]);
    }
}
