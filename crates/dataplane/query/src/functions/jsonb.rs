//! JSON as a tree: what `jsonb` makes of a text, containment, and JSON made of SQL's values.

use super::casts::is_interval;
use super::forms::text_of;
use super::scalar::{argument, fixed_type, function, text_argument, text_type};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;
use mainstem_types::schema::SOURCE_TYPE_KEY;
use std::fmt;
use std::sync::Arc;

/// Deeper nesting than this is refused.
const DEPTH_MAX: usize = 256;

pub(super) fn all() -> Vec<ScalarUDF> {
    let texts = || fixed_type(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))));
    let mut all = vec![
        function("pg_json_contains", |_, _| Ok(DataType::Boolean), |arrays, _, _| contains(arrays)),
        function("pg_json_exists", |_, _| Ok(DataType::Boolean), |arrays, _, _| exists(arrays)),
        // The members of an aggregate, already JSON, as one array or object.
        function("pg_json_list", text_type, |arrays, _, _| listed(arrays, '[', ']')),
        function("pg_json_members", text_type, |arrays, _, _| listed(arrays, '{', '}')),
        function("pg_json_member", text_type, |arrays, fields, _| built(arrays, fields, |row| pairs(row, " : "))),
    ];
    all.push(function("json_build_object", text_type, |arrays, fields, _| {
        built(arrays, fields, |row| format!("{{{}}}", pairs(row, " : ")))
    }));
    all.push(function("jsonb_build_object", text_type, |arrays, fields, _| {
        built(arrays, fields, |row| format!("{{{}}}", pairs(row, ": ")))
    }));
    for name in ["json_build_array", "jsonb_build_array"] {
        all.push(function(name, text_type, |arrays, fields, _| built(arrays, fields, |row| format!("[{}]", row.join(", ")))));
    }
    for name in ["to_json", "to_jsonb"] {
        all.push(function(name, text_type, |arrays, fields, _| {
            Ok(Arc::new(values(argument(arrays, 0)?, fields.first())?.into_iter().collect::<StringArray>()))
        }));
    }
    all.push(function("pg_json_elements", texts(), |arrays, _, _| elements(arrays, |json| Some(json.to_string()))));
    all.push(function("pg_json_elements_text", texts(), |arrays, _, _| elements(arrays, Json::bare)));
    all.push(function("pg_json_keys", texts(), |arrays, _, _| keys(arrays)));
    all
}

/// A value; scalars keep their text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    Text(String),
    /// Number, `true`, `false` or `null`.
    Bare(String),
}

/// The value of a whole text; None: it is no JSON.
pub(super) fn parse(text: &str) -> Option<Json> {
    let mut parser = Parser { bytes: text.as_bytes(), text, at: 0 };
    let value = parser.value(0)?;
    parser.space();
    (parser.at == text.len()).then_some(value)
}

struct Parser<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(is);
        is
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.space();
        match self.bytes.get(self.at)? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Json::Text),
            _ => self.bare(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut members: Vec<(String, Json)> = Vec::new();
        if self.take(b'}') {
            return Some(Json::Object(members));
        }
        loop {
            self.space();
            let key = self.string()?;
            if !self.take(b':') {
                return None;
            }
            let value = self.value(depth + 1)?;
            // The last of equal keys wins.
            members.retain(|(known, _)| *known != key);
            members.push((key, value));
            if self.take(b'}') {
                members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
                return Some(Json::Object(members));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Some(Json::Array(items));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        if self.bytes.get(self.at) != Some(&b'"') {
            return None;
        }
        let start = self.at;
        self.at += 1;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(super::json::unescaped(self.text.get(start..self.at)?));
                }
                b'\\' => {
                    if !matches!(self.bytes.get(self.at + 1)?, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u') {
                        return None;
                    }
                    self.at += 2;
                }
                ..=0x1f => return None,
                _ => self.at += 1,
            }
        }
    }

    fn bare(&mut self) -> Option<Json> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        let text = self.text.get(start..self.at)?;
        let number = || {
            let digits = text.strip_prefix('-').unwrap_or(text);
            digits.starts_with(|c: char| c.is_ascii_digit())
                && !(digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit())
                && text.parse::<f64>().is_ok()
        };
        (matches!(text, "true" | "false" | "null") || number()).then(|| Json::Bare(text.to_string()))
    }
}

/// As `jsonb` is shown.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Bare(text) => f.write_str(text),
            Self::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (at, (key, value)) in members.iter().enumerate() {
                    write!(f, "{}{}: {value}", if at > 0 { ", " } else { "" }, quoted(key))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl Json {
    /// A scalar's text without quotes; NULL for `null`.
    fn bare(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Bare(text) if text == "null" => None,
            json => Some(json.to_string()),
        }
    }

    /// Postgres's `@>`.
    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(own), Self::Object(wanted)) => {
                wanted.iter().all(|(key, value)| own.iter().any(|(known, has)| known == key && has.contains(value)))
            }
            (Self::Array(own), Self::Array(wanted)) => wanted.iter().all(|value| own.iter().any(|has| has.contains(value))),
            // A scalar is contained in an array that has it.
            (Self::Array(own), Self::Text(_) | Self::Bare(_)) => own.contains(other),
            (own, other) => own == other,
        }
    }
}

/// A text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut made = String::with_capacity(text.len() + 2);
    made.push('"');
    for c in text.chars() {
        match c {
            '"' => made.push_str("\\\""),
            '\\' => made.push_str("\\\\"),
            '\n' => made.push_str("\\n"),
            '\r' => made.push_str("\\r"),
            '\t' => made.push_str("\\t"),
            '\u{8}' => made.push_str("\\b"),
            '\u{c}' => made.push_str("\\f"),
            c if c < ' ' => made.push_str(&format!("\\u{:04x}", c as u32)),
            c => made.push(c),
        }
    }
    made.push('"');
    made
}

fn contains(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (left, right) = (text_argument(arrays, 0)?, text_argument(arrays, 1)?);
    let one = |(left, right): (Option<&str>, Option<&str>)| Some(parse(left?)?.contains(&parse(right?)?));
    Ok(Arc::new(left.iter().zip(&right).map(one).collect::<BooleanArray>()))
}

fn exists(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (left, right) = (text_argument(arrays, 0)?, text_argument(arrays, 1)?);
    let one = |(left, right): (Option<&str>, Option<&str>)| {
        let key = right?;
        Some(match parse(left?)? {
            Json::Object(members) => members.iter().any(|(known, _)| known == key),
            Json::Array(items) => items.contains(&Json::Text(key.to_string())),
            json => json == Json::Text(key.to_string()),
        })
    };
    Ok(Arc::new(left.iter().zip(&right).map(one).collect::<BooleanArray>()))
}

/// Each value as JSON; None where it is NULL.
fn values(array: &ArrayRef, field: Option<&FieldRef>) -> Result<Vec<Option<String>>> {
    let source = field.and_then(|field| field.metadata().get(SOURCE_TYPE_KEY)).map(String::as_str);
    let json = matches!(source, Some("json" | "jsonb"));
    let kind = array.data_type();
    let texts = text_of(array, field, false)?;
    if let DataType::List(item) = kind {
        let lists = array.as_list::<i32>();
        let items = values(lists.values(), Some(item))?;
        let list = |row: usize| {
            let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
            let parts: Vec<&str> = items[range].iter().map(|item| item.as_deref().unwrap_or("null")).collect();
            format!("[{}]", parts.join(","))
        };
        return Ok((0..lists.len()).map(|row| lists.is_valid(row).then(|| list(row))).collect());
    }
    let bare = json || kind.is_numeric() || *kind == DataType::Boolean;
    let moment = matches!(kind, DataType::Timestamp(..)) && !is_interval(kind);
    let one = |text: &str| match (bare, moment) {
        // The numbers that JSON does not have are strings.
        (true, _) if kind.is_floating() && text.contains(['N', 'I']) => quoted(text),
        (true, _) => text.to_string(),
        (_, true) => quoted(&moment_text(text)),
        _ => quoted(text),
    };
    Ok(texts.iter().map(|text| text.map(one)).collect())
}

/// `2024-01-01T10:00:00+00:00`, as JSON has it.
fn moment_text(text: &str) -> String {
    let text = text.replacen(' ', "T", 1);
    match text.strip_suffix("+00") {
        Some(start) => format!("{start}+00:00"),
        None => text,
    }
}

/// One text per row of the arguments' JSON.
fn built(arrays: &[ArrayRef], fields: &[FieldRef], make: impl Fn(&[String]) -> String) -> Result<ArrayRef> {
    let columns = arrays.iter().zip(fields).map(|(array, field)| values(array, Some(field))).collect::<Result<Vec<_>>>()?;
    let rows = arrays.first().map_or(1, |array| array.len());
    let row = |at: usize| {
        let row: Vec<String> = columns.iter().map(|column| column[at].clone().unwrap_or_else(|| "null".into())).collect();
        make(&row)
    };
    Ok(Arc::new((0..rows).map(|at| Some(row(at))).collect::<StringArray>()))
}

/// Keys are texts, whatever they were.
fn pairs(row: &[String], colon: &str) -> String {
    let key = |key: &str| if key.starts_with('"') { key.to_string() } else { quoted(key) };
    row.chunks(2)
        .map(|pair| format!("{}{colon}{}", key(&pair[0]), pair.get(1).map_or("null", String::as_str)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn listed(arrays: &[ArrayRef], open: char, close: char) -> Result<ArrayRef> {
    let array = argument(arrays, 0)?;
    let Some(lists) = array.as_list_opt::<i32>() else {
        return Err(DataFusionError::Plan("No function matches: an array is needed".into()));
    };
    let mut made = StringBuilder::new();
    let space = if open == '{' { " " } else { "" };
    for row in 0..lists.len() {
        if lists.is_null(row) {
            made.append_null();
            continue;
        }
        let items = text_argument(&[lists.value(row)], 0)?;
        let parts: Vec<&str> = items.iter().map(|item| item.unwrap_or("null")).collect();
        made.append_value(format!("{open}{space}{}{space}{close}", parts.join(", ")));
    }
    Ok(Arc::new(made.finish()))
}

fn elements(arrays: &[ArrayRef], text: impl Fn(&Json) -> Option<String>) -> Result<ArrayRef> {
    let values = text_argument(arrays, 0)?;
    let mut made = ListBuilder::new(StringBuilder::new());
    for value in &values {
        match value.and_then(parse) {
            Some(Json::Array(items)) => made.append_value(items.iter().map(&text)),
            Some(_) => return Err(DataFusionError::Plan("Cannot extract elements from an object or a scalar".into())),
            None => made.append_null(),
        }
    }
    Ok(Arc::new(made.finish()))
}

fn keys(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let values = text_argument(arrays, 0)?;
    let mut made = ListBuilder::new(StringBuilder::new());
    for value in &values {
        match value.and_then(parse) {
            Some(Json::Object(members)) => made.append_value(members.into_iter().map(|(key, _)| Some(key))),
            Some(_) => return Err(DataFusionError::Plan("Cannot call jsonb_object_keys on an array or a scalar".into())),
            None => made.append_null(),
        }
    }
    Ok(Arc::new(made.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_and_shown_as_jsonb() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(parse(text).map(|j| j.to_string()).as_deref(), expected, "{text}");
        check(r#"{"b":1,"a":[1, "x",null], "b": 2}"#, Some(r#"{"a": [1, "x", null], "b": 2}"#));
        check(r#"{"bb":1,"c":{}}"#, Some(r#"{"c": {}, "bb": 1}"#));
        check(r#" "a\"b\u0041" "#, Some(r#""a\"bA""#));
        check("-1.5e3", Some("-1.5e3"));
        for wrong in ["", "x", "{", "[1,]", "01", "{\"a\"}", "1 2", "\"a", "'a'", "[1", "nul"] {
            check(wrong, None);
        }
        check(&"[".repeat(100_000), None);
        let contains = |a: &str, b: &str| parse(a).unwrap().contains(&parse(b).unwrap());
        assert!(contains(r#"{"a": 1, "b": {"c": [1, 2]}}"#, r#"{"b": {"c": [2]}}"#));
        assert!(!contains(r#"{"a": 1}"#, r#"{"a": 2}"#));
        assert!(contains("[1, 2]", "1"));
    }
}
