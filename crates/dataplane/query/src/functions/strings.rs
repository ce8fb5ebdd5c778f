//! Functions of texts that the engine lacks or does otherwise.

use super::casts::{parse_decimal, rescaled};
use super::forms::text_of;
use super::scalar::{argument, fixed_type, function, own_error, text_argument, text_type};
use crate::codes;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Builder, Int32Array, ListBuilder, NullArray, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ScalarUDF;
use mainstem_types::Error;
use regex::{Regex, RegexBuilder};
use std::sync::Arc;

/// Bytes that one call may make for one batch of rows. Postgres stops at 1 GB per value; here the memory is shared by all queries.
pub(super) const MADE_BYTES_MAX: usize = 256 << 20;
/// Scale of `to_number` where the pattern is not a constant.
const NUMBER_SCALE: i8 = 10;

pub(super) fn all() -> Vec<ScalarUDF> {
    let list = |kind: DataType| DataType::List(Arc::new(Field::new_list_field(kind, true)));
    let texts = list(DataType::Utf8);
    vec![
        function("format", text_type, format),
        function("quote_literal", text_type, |arrays, fields, _| {
            let texts = text_of(argument(arrays, 0)?, fields.first(), false)?;
            Ok(Arc::new(texts.iter().map(|text| text.map(literal)).collect::<StringArray>()))
        }),
        function("quote_nullable", text_type, |arrays, fields, _| {
            let texts = text_of(argument(arrays, 0)?, fields.first(), false)?;
            Ok(Arc::new(texts.iter().map(|text| Some(text.map_or("NULL".to_string(), literal))).collect::<StringArray>()))
        }),
        function("quote_ident", text_type, |arrays, _, _| {
            Ok(Arc::new(text_argument(arrays, 0)?.iter().map(|text| text.map(crate::system::quoted)).collect::<StringArray>()))
        }),
        function("to_number", number_type, to_number),
        function("num_nulls", fixed_type(DataType::Int32), |arrays, _, _| count_nulls(arrays, true)),
        function("num_nonnulls", fixed_type(DataType::Int32), |arrays, _, _| count_nulls(arrays, false)),
        function("repeat", text_type, |arrays, _, _| repeat(arrays)),
        function("lpad", text_type, |arrays, _, _| pad(arrays, true)),
        function("rpad", text_type, |arrays, _, _| pad(arrays, false)),
        function("chr", text_type, |arrays, _, _| chr(arrays)),
        function("pg_like_pattern", text_type, |arrays, _, _| like_patterns(arrays)),
        function("pg_subscripts", fixed_type(list(DataType::Int32)), |arrays, _, _| subscripts(argument(arrays, 0)?)),
        function("array_to_string", text_type, |arrays, fields, _| joined(arrays, fields)),
        function("split_part", text_type, |arrays, _, _| split_part(arrays)),
        function("regexp_split_to_array", fixed_type(texts.clone()), |arrays, _, _| {
            matched(arrays, |regex, text| vec![regex.split(text).map(|part| Some(part.to_string())).collect::<Vec<_>>()])
        }),
        function("pg_regexp_first", fixed_type(texts.clone()), |arrays, _, _| {
            matched(arrays, |regex, text| vec![vec![regex.find(text).map(|found| found.as_str().to_string())]])
        }),
        function("pg_regexp_matches", fixed_type(list(texts)), |arrays, _, _| all_matches(arrays)),
    ]
}

pub(super) fn too_long() -> datafusion::common::DataFusionError {
    own_error(Error::fix(codes::TOO_LONG, "requested length too large").hint("A call may make 256 MiB for a batch of rows."))
}

/// A text as SQL writes it.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

fn wrong(text: impl Into<String>) -> datafusion::common::DataFusionError {
    own_error(Error::fix(codes::INVALID_SETTING, text))
}

/// `format(pattern, ...)`: `%s`, `%I`, `%L`, `%%`, with a place (`%2$s`) and a width (`%-10s`).
fn format(arrays: &[ArrayRef], fields: &[FieldRef], _: &DataType) -> Result<ArrayRef> {
    let patterns = text_argument(arrays, 0)?;
    let rest = arrays.iter().zip(fields).skip(1);
    let args = rest.map(|(array, field)| text_of(array, Some(field), true)).collect::<Result<Vec<_>>>()?;
    let mut made = StringBuilder::new();
    for (row, pattern) in patterns.iter().enumerate() {
        match pattern {
            Some(pattern) => made.append_value(formatted(pattern, &args, row)?),
            None => made.append_null(),
        }
    }
    Ok(Arc::new(made.finish()))
}

fn formatted(pattern: &str, args: &[StringArray], row: usize) -> Result<String> {
    let (mut text, mut next) = (String::new(), 0);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            text.push('%');
            continue;
        }
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars>| {
            let mut number = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                number.push(digit);
            }
            number.parse::<usize>().ok()
        };
        let mut left = chars.next_if_eq(&'-').is_some();
        let mut width = digits(&mut chars);
        if !left && chars.next_if_eq(&'$').is_some() {
            next = width
                .unwrap_or(0)
                .checked_sub(1)
                .ok_or_else(|| wrong("format specifies argument 0, but arguments are numbered from 1"))?;
            left = chars.next_if_eq(&'-').is_some();
            width = digits(&mut chars);
        }
        let arg = args.get(next).ok_or_else(|| wrong("too few arguments for format()"))?;
        let value = arg.is_valid(row).then(|| arg.value(row));
        next += 1;
        let shown = match chars.next() {
            Some('s') => value.unwrap_or("").to_string(),
            Some('I') => {
                crate::system::quoted(value.ok_or_else(|| wrong("null values cannot be formatted as an SQL identifier"))?)
            }
            Some('L') => value.map_or("NULL".into(), literal),
            _ => {
                return Err(wrong("unrecognized format() type specifier: it has %s, %I and %L"));
            }
        };
        let width = width.unwrap_or(0);
        if width > MADE_BYTES_MAX {
            return Err(too_long());
        }
        text.push_str(&if left { format!("{shown:<width$}") } else { format!("{shown:>width$}") });
    }
    Ok(text)
}

/// The scale that a constant pattern names.
fn number_type(_: &[FieldRef], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let scale = super::casts::constant_text(constants, 1).map_or(NUMBER_SCALE, |pattern| {
        let fraction = pattern.split_once(['.', 'D', 'd']).map_or("", |(_, fraction)| fraction);
        fraction.chars().filter(|c| matches!(c, '0' | '9')).count().min(30) as i8
    });
    Ok(DataType::Decimal128(38, scale))
}

/// `to_number`: digits, point and sign of the text; the pattern says what else stands there.
fn to_number(arrays: &[ArrayRef], _: &[FieldRef], kind: &DataType) -> Result<ArrayRef> {
    let (texts, patterns) = (text_argument(arrays, 0)?, text_argument(arrays, 1)?);
    let DataType::Decimal128(precision, scale) = *kind else {
        return Err(wrong("to_number"));
    };
    let mut made = Decimal128Builder::new().with_precision_and_scale(precision, scale)?;
    for (text, pattern) in texts.iter().zip(&patterns) {
        let (Some(text), Some(_)) = (text, pattern) else {
            made.append_null();
            continue;
        };
        let negative = text.contains('-') || (text.contains('<') && text.contains('>'));
        let digits: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
        let unread = || own_error(Error::fix(codes::INVALID_TEXT, "invalid input syntax for type numeric"));
        let (value, from) = parse_decimal(&digits).ok_or_else(unread)?;
        let value = rescaled(value, from, u32::from(scale.unsigned_abs())).ok_or_else(unread)?;
        made.append_value(if negative { -value } else { value });
    }
    Ok(Arc::new(made.finish()))
}

fn count_nulls(arrays: &[ArrayRef], null: bool) -> Result<ArrayRef> {
    let rows = arrays.first().map_or(1, |array| array.len());
    let all: Vec<_> = arrays.iter().map(|array| (array.logical_nulls(), array.as_any().is::<NullArray>())).collect();
    let is_null = |row: usize| all.iter().filter(|(nulls, all)| *all || nulls.as_ref().is_some_and(|n| n.is_null(row))).count();
    let count = |row| {
        if null { is_null(row) } else { arrays.len() - is_null(row) }
    };
    Ok(Arc::new((0..rows).map(|row| Some(count(row) as i32)).collect::<Int32Array>()))
}

fn counts(arrays: &[ArrayRef], at: usize) -> Result<ArrayRef> {
    Ok(cast(argument(arrays, at)?, &DataType::Int64)?)
}

fn repeat(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (texts, counts) = (text_argument(arrays, 0)?, counts(arrays, 1)?);
    let mut made = StringBuilder::new();
    let mut left = MADE_BYTES_MAX;
    for (text, count) in texts.iter().zip(counts.as_primitive::<Int64Type>()) {
        let (Some(text), Some(count)) = (text, count) else {
            made.append_null();
            continue;
        };
        let count = usize::try_from(count).unwrap_or(0);
        left = text.len().checked_mul(count).and_then(|bytes| left.checked_sub(bytes)).ok_or_else(too_long)?;
        made.append_value(text.repeat(count));
    }
    Ok(Arc::new(made.finish()))
}

/// `lpad` and `rpad`: to a number of characters, with spaces or another text, and cut to it.
fn pad(arrays: &[ArrayRef], front: bool) -> Result<ArrayRef> {
    let (texts, widths) = (text_argument(arrays, 0)?, counts(arrays, 1)?);
    let fills = if arrays.len() > 2 { Some(text_argument(arrays, 2)?) } else { None };
    let mut made = StringBuilder::new();
    let mut left = MADE_BYTES_MAX;
    for (row, (text, width)) in texts.iter().zip(widths.as_primitive::<Int64Type>()).enumerate() {
        let fill = fills.as_ref().map_or(Some(" "), |fills| fills.is_valid(row).then(|| fills.value(row)));
        let (Some(text), Some(width), Some(fill)) = (text, width, fill) else {
            made.append_null();
            continue;
        };
        let width = usize::try_from(width).unwrap_or(0);
        let length = text.chars().count();
        // At most four bytes a character.
        left = width.checked_mul(4).and_then(|bytes| left.checked_sub(bytes)).ok_or_else(too_long)?;
        let kept: String = text.chars().take(width).collect();
        let filled: String = fill.chars().cycle().take(if fill.is_empty() { 0 } else { width.saturating_sub(length) }).collect();
        made.append_value(if front { filled + &kept } else { kept + &filled });
    }
    Ok(Arc::new(made.finish()))
}

fn chr(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let codes_of = counts(arrays, 0)?;
    let one = |code: Option<i64>| match code {
        None => Ok(None),
        Some(0) => Err(own_error(Error::fix(codes::TOO_LONG, "null character not permitted"))),
        Some(code) => match u32::try_from(code).ok().and_then(char::from_u32) {
            Some(c) => Ok(Some(c.to_string())),
            None => Err(own_error(Error::fix(codes::TOO_LONG, "requested character is not valid for encoding UTF8"))),
        },
    };
    Ok(Arc::new(codes_of.as_primitive::<Int64Type>().iter().map(one).collect::<Result<StringArray>>()?))
}

/// A LIKE pattern with another escape than `\\`, as one with `\\`.
fn like_patterns(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (patterns, marks) = (text_argument(arrays, 0)?, text_argument(arrays, 1)?);
    let one = |(pattern, mark): (Option<&str>, Option<&str>)| {
        let (pattern, mark) = pattern.zip(mark)?;
        let (mut made, mut chars, mark) = (String::new(), pattern.chars(), mark.chars().next());
        while let Some(c) = chars.next() {
            match c {
                c if Some(c) == mark => {
                    made.push('\\');
                    made.extend(chars.next());
                }
                '\\' => made.push_str("\\\\"),
                c => made.push(c),
            }
        }
        Some(made)
    };
    Ok(Arc::new(patterns.iter().zip(&marks).map(one).collect::<StringArray>()))
}

/// The places of an array's elements, from 1.
fn subscripts(array: &ArrayRef) -> Result<ArrayRef> {
    let Some(lists) = array.as_list_opt::<i32>() else {
        return Err(wrong("generate_subscripts needs an array"));
    };
    let mut made = ListBuilder::new(arrow::array::Int32Builder::new());
    for row in 0..lists.len() {
        match lists.is_valid(row) {
            true => made.append_value((1..=lists.value_length(row)).map(Some)),
            false => made.append_null(),
        }
    }
    Ok(Arc::new(made.finish()))
}

/// `array_to_string(array, mark [, null])`. An array that comes as its text, as those of the catalogs do, is that text.
fn joined(arrays: &[ArrayRef], fields: &[FieldRef]) -> Result<ArrayRef> {
    let (array, marks) = (argument(arrays, 0)?, text_argument(arrays, 1)?);
    let nulls = if arrays.len() > 2 { Some(text_argument(arrays, 2)?) } else { None };
    let Some(lists) = array.as_list_opt::<i32>() else {
        return Ok(Arc::new(text_of(array, fields.first(), true)?));
    };
    let DataType::List(item) = array.data_type() else {
        return Err(wrong("array_to_string needs an array"));
    };
    let items = text_of(lists.values(), Some(item), true)?;
    let text = |row: usize| {
        let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
        let null = nulls.as_ref().filter(|nulls| nulls.is_valid(row)).map(|nulls| nulls.value(row));
        let parts = range.filter_map(|at| if items.is_valid(at) { Some(items.value(at)) } else { null });
        parts.collect::<Vec<_>>().join(marks.value(row))
    };
    let known = |row: usize| lists.is_valid(row) && marks.is_valid(row);
    Ok(Arc::new((0..lists.len()).map(|row| known(row).then(|| text(row))).collect::<StringArray>()))
}

fn split_part(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let (texts, marks, places) = (text_argument(arrays, 0)?, text_argument(arrays, 1)?, counts(arrays, 2)?);
    let mut made = StringBuilder::new();
    for ((text, mark), place) in texts.iter().zip(&marks).zip(places.as_primitive::<Int64Type>()) {
        let (Some(text), Some(mark), Some(place)) = (text, mark, place) else {
            made.append_null();
            continue;
        };
        if place == 0 {
            return Err(wrong("field position must not be zero"));
        }
        let parts: Vec<&str> = if mark.is_empty() { vec![text] } else { text.split(mark).collect() };
        let at = usize::try_from(place.unsigned_abs()).unwrap_or(usize::MAX);
        let found = if place > 0 { parts.get(at - 1) } else { parts.len().checked_sub(at).and_then(|at| parts.get(at)) };
        made.append_value(found.copied().unwrap_or(""));
    }
    Ok(Arc::new(made.finish()))
}

/// A pattern with its flags; the last one compiled is kept.
struct Patterns {
    last: Option<(String, String, Regex)>,
}

impl Patterns {
    fn get(&mut self, pattern: &str, flags: &str) -> Result<&Regex> {
        if !matches!(&self.last, Some((p, f, _)) if p == pattern && f == flags) {
            let regex = RegexBuilder::new(pattern).case_insensitive(flags.contains('i')).size_limit(10 << 20).build();
            let regex = regex.map_err(|_| own_error(Error::fix(codes::INVALID_REGEX, "invalid regular expression")))?;
            self.last = Some((pattern.to_string(), flags.to_string(), regex));
        }
        match &self.last {
            Some((_, _, regex)) => Ok(regex),
            None => Err(wrong("no pattern")),
        }
    }
}

type Groups = Vec<Option<String>>;

/// For each text the first list that `find` makes.
fn matched(arrays: &[ArrayRef], find: impl Fn(&Regex, &str) -> Vec<Groups>) -> Result<ArrayRef> {
    let mut made = ListBuilder::new(StringBuilder::new());
    each_text(arrays, |regex, text| {
        match regex.zip(text).map(|(regex, text)| find(regex, text)).and_then(|lists| lists.into_iter().next()) {
            Some(groups) => made.append_value(groups),
            None => made.append_null(),
        }
    })?;
    Ok(Arc::new(made.finish()))
}

fn all_matches(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let mut made = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    each_text(arrays, |regex, text| {
        let Some((regex, text)) = regex.zip(text) else {
            return made.append_null();
        };
        for found in regex.captures_iter(text) {
            // The groups, or the whole match of a pattern that has none.
            let from = usize::from(found.len() > 1);
            let groups: Groups = (from..found.len()).map(|at| found.get(at).map(|m| m.as_str().to_string())).collect();
            made.values().append_value(groups);
        }
        made.append(true);
    })?;
    Ok(Arc::new(made.finish()))
}

fn each_text(arrays: &[ArrayRef], mut see: impl FnMut(Option<&Regex>, Option<&str>)) -> Result<()> {
    let (texts, patterns) = (text_argument(arrays, 0)?, text_argument(arrays, 1)?);
    let flags = if arrays.len() > 2 { Some(text_argument(arrays, 2)?) } else { None };
    let mut compiled = Patterns { last: None };
    for row in 0..texts.len() {
        let flags = flags.as_ref().map_or("", |flags| if flags.is_valid(row) { flags.value(row) } else { "" });
        let regex = if patterns.is_valid(row) { Some(compiled.get(patterns.value(row), flags)?) } else { None };
        see(regex, texts.is_valid(row).then(|| texts.value(row)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_filled_in() {
        let args = [StringArray::from(vec![Some("a b")]), StringArray::from(vec![None::<&str>]), StringArray::from(vec!["it's"])];
        let check = |pattern: &str, expected: &str| assert_eq!(formatted(pattern, &args, 0).unwrap(), expected, "{pattern}");
        check("%s|%s|%s", "a b||it's");
        check("%I %%", "\"a b\" %");
        check("%3$L %2$L", "'it''s' NULL");
        check("%10s|", "       a b|");
        check("%-5s|", "a b  |");
        for wrong in ["%s%s%s%s", "%d", "%0$s", "%2$I"] {
            assert!(formatted(wrong, &args, 0).is_err(), "{wrong}");
        }
        assert_eq!(literal("a\\b"), "E'a\\\\b'");
    }
}
