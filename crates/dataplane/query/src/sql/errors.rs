//! DataFusion's errors as ours: SQLSTATE, position, hint, and never a cell's value.

use super::text::position;
use crate::codes;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Location;
use mainstem_types::{Code, Error};
use std::sync::Arc;

/// The error of planning or running `sql`.
pub(crate) fn from_engine(error: DataFusionError, sql: &str) -> Error {
    let place = error.diagnostic().and_then(|d| d.span).map(|span| Location { line: span.start.line, column: span.start.column });
    let place = place.filter(|place| place.line > 0);
    let made = convert(error);
    match (made.position(), place) {
        (None, Some(place)) if made.code() != codes::INTERNAL => made.at(position(sql, place)),
        _ => made,
    }
}

fn convert(error: DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => convert(*inner),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => convert(errors.swap_remove(0)),
        DataFusionError::Shared(shared) => match Arc::try_unwrap(shared) {
            Ok(inner) => convert(inner),
            Err(shared) => from_shared(&shared),
        },
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(inner) => match inner.downcast::<DataFusionError>() {
                Ok(inner) => convert(*inner),
                Err(inner) => Error::bug(codes::INTERNAL, "the query failed inside").caused_by(inner),
            },
        },
        DataFusionError::ArrowError(inner, _) => arrow(*inner),
        DataFusionError::SQL(inner, _) => syntax(*inner, ""),
        DataFusionError::SchemaError(inner, _) => schema(*inner),
        DataFusionError::Plan(text) => plan(&text),
        DataFusionError::NotImplemented(text)
            if ["OuterReferenceColumn", "ScalarSubquery", "Exists("].iter().any(|part| text.contains(part)) =>
        {
            Error::fix(codes::NOT_SUPPORTED, "this form of a correlated subquery is not supported")
                .hint("Write it as a join; for the first rows per group use row_number() OVER (PARTITION BY ...) in a subquery.")
        }
        DataFusionError::NotImplemented(text) => Error::fix(codes::NOT_SUPPORTED, format!("not supported: {}", clean(&text))),
        DataFusionError::ResourcesExhausted(text) => resources(&text),
        DataFusionError::Execution(text) => execution(&text),
        DataFusionError::Configuration(text) => Error::fix(codes::INVALID_SETTING, clean(&text)),
        error @ (DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) | DataFusionError::IoError(_)) => {
            Error::retry(codes::STORAGE, "a file of the table could not be read")
                .hint("Run `mainstem verify`; the server's log names the file.")
                .caused_by(error)
        }
        error => Error::bug(codes::INTERNAL, "the query engine failed inside").caused_by(error),
    }
}

/// An error that several parts of a plan hold: its text must do.
fn from_shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => from_shared(inner),
        DataFusionError::Shared(inner) => from_shared(inner),
        DataFusionError::ResourcesExhausted(text) => resources(text),
        DataFusionError::Execution(text) => execution(text),
        DataFusionError::Plan(text) => plan(text),
        DataFusionError::ArrowError(inner, _) => arrow_text(inner),
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => copied(own),
            None => Error::bug(codes::INTERNAL, "the query failed inside").caused_by(error.to_string()),
        },
        error => Error::bug(codes::INTERNAL, "the query failed inside").caused_by(error.to_string()),
    }
}

/// One of ours that others hold too.
fn copied(error: &Error) -> Error {
    let made = Error::new(error.kind(), error.code(), error.message());
    match error.hint_text() {
        Some(hint) => made.hint(hint),
        None => made,
    }
}

fn arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
            Ok(inner) => convert(*inner),
            Err(inner) => Error::bug(codes::INTERNAL, "the query failed inside").caused_by(inner),
        },
        error => arrow_text(&error),
    }
}

fn arrow_text(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::fix(codes::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(_) => out_of_range(),
        ArrowError::CastError(text) | ArrowError::ParseError(text) | ArrowError::InvalidArgumentError(text) => cast(text),
        ArrowError::ComputeError(text) => execution(text),
        error => Error::bug(codes::INTERNAL, "the query engine failed inside").caused_by(error.to_string()),
    }
}

fn out_of_range() -> Error {
    Error::fix(codes::OUT_OF_RANGE, "a value is out of range of its type")
        .hint("Cast to a larger type, for instance ::bigint or ::numeric.")
}

/// Arrow names the value that it could not read: it is left out here.
fn cast(text: &str) -> Error {
    let kind = text.rsplit_once(" to value of ").map(|(_, kind)| kind.trim_end_matches(" type").to_string());
    if text.contains("Can't cast value") || text.contains("overflow") || text.contains("too large") || text.contains("Precision")
    {
        return out_of_range();
    }
    match kind {
        Some(kind) => Error::fix(codes::INVALID_TEXT, format!("invalid input syntax for type {}", pg_name(&kind))),
        None if text.contains("parsing") || text.contains("Parser error") || text.contains("cast string") => {
            Error::fix(codes::INVALID_TEXT, "invalid input syntax: a text could not be read as the type it is cast to")
        }
        None => Error::fix(codes::TYPE_MISMATCH, "a value cannot be converted to the type that is needed here"),
    }
    .hint("Look for rows whose text does not have that form, or use try_cast(... AS ...), which gives NULL for them.")
}

/// An Arrow type's name as Postgres says it.
fn pg_name(kind: &str) -> &str {
    match kind {
        "Int8" | "Int16" => "smallint",
        "Int32" | "UInt16" => "integer",
        "Int64" | "UInt32" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Boolean" => "boolean",
        "Date32" | "Date64" => "date",
        "Utf8" | "Utf8View" | "LargeUtf8" => "text",
        kind if kind.starts_with("Decimal") => "numeric",
        kind if kind.starts_with("Timestamp") => "timestamp",
        kind if kind.starts_with("Time") => "time",
        kind if kind.starts_with("Interval") => "interval",
        kind => kind,
    }
}

fn resources(text: &str) -> Error {
    if text.contains("disk space") || text.contains("max_temp_directory_size") {
        return Error::retry(codes::SPILL_FULL, "the query spilled more to disk than is allowed")
            .hint("Select less, or raise query.spill_bytes_max.")
            .caused_by(text.to_string());
    }
    Error::retry(codes::OUT_OF_MEMORY, "the query needs more memory than is free for queries")
        .hint("Select fewer columns or rows, try again when less is running, or raise query.memory_bytes_max.")
        .caused_by(text.to_string())
}

fn execution(text: &str) -> Error {
    let lower = text.to_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        return Error::fix(codes::DIVISION_BY_ZERO, "division by zero");
    }
    if lower.contains("more than one row") || lower.contains("returned more than one") {
        return Error::fix(codes::ONE_ROW, "more than one row returned by a subquery used as an expression")
            .hint("Add LIMIT 1, or an aggregate such as max().");
    }
    if lower.contains("overflow") || lower.contains("out of range") {
        return out_of_range();
    }
    if lower.contains("pars") || lower.contains("cast") || lower.contains("invalid") {
        return Error::fix(codes::INVALID_TEXT, "a value does not have the form that a function or a cast needs")
            .hint("Look at the arguments of functions and casts; try_cast(... AS ...) gives NULL for what cannot be read.")
            .caused_by(text.to_string());
    }
    Error::bug(codes::INTERNAL, "the query failed while it ran").caused_by(text.to_string())
}

fn schema(error: SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<String> = valid_fields.iter().map(|c| c.name.clone()).collect();
            let shown = match &field.relation {
                Some(relation) => format!("{relation}.{}", field.name),
                None => field.name.clone(),
            };
            if let Some(relation) = &field.relation
                && !names.is_empty()
                && !valid_fields.iter().any(|c| c.relation.as_ref().is_some_and(|known| known.table() == relation.table()))
            {
                return Error::fix(codes::UNKNOWN_TABLE, format!("missing FROM-clause entry for table \"{relation}\""))
                    .hint("Name the table in FROM, or use the alias that it has there.");
            }
            let made = Error::fix(codes::UNKNOWN_COLUMN, format!("column \"{shown}\" does not exist"));
            match (&field.relation, nearest(&field.name, names.iter().map(String::as_str))) {
                (_, Some(name)) if name.to_lowercase() == field.name.to_lowercase() => {
                    made.hint(format!("There is \"{name}\": names with capitals need double quotes."))
                }
                (_, Some(name)) => made.hint(format!("Perhaps you meant \"{name}\".")),
                (Some(relation), None) if !valid_fields.iter().any(|c| c.relation.as_ref() == Some(relation)) => {
                    made.hint(format!("There is no table or alias \"{relation}\" in FROM."))
                }
                _ if names.is_empty() => made,
                _ => made.hint(format!("There are: {}.", names.iter().take(12).cloned().collect::<Vec<_>>().join(", "))),
            }
        }
        SchemaError::AmbiguousReference { field } => {
            Error::fix(codes::AMBIGUOUS_COLUMN, format!("column reference \"{}\" is ambiguous", field.name))
                .hint("Write the table's name or alias before it.")
        }
        error => Error::fix(codes::AMBIGUOUS_COLUMN, clean(&error.to_string())).hint("Give the columns different names with AS."),
    }
}

/// The nearest of some names, when one is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let near = |candidate: &'a str| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate);
    let allowed = (wanted.chars().count() / 3).clamp(1, 3);
    among.map(near).filter(|(distance, _)| *distance <= allowed).min().map(|(_, candidate)| candidate)
}

const PLAN: &[(&str, Code)] = &[
    ("must be in GROUP BY", codes::GROUPING),
    ("ggregate functions are not allowed", codes::GROUPING),
    ("mbiguous", codes::AMBIGUOUS_COLUMN),
    ("Divide by zero", codes::DIVISION_BY_ZERO),
    ("No function matches", codes::UNKNOWN_FUNCTION),
    ("Invalid function", codes::UNKNOWN_FUNCTION),
    ("table function", codes::UNKNOWN_FUNCTION),
    ("Failed to coerce arguments", codes::UNKNOWN_FUNCTION),
    ("Unsupported SQL type", codes::UNKNOWN_SETTING),
    ("nsupported", codes::NOT_SUPPORTED),
    ("not supported", codes::NOT_SUPPORTED),
    ("not implemented", codes::NOT_SUPPORTED),
    ("laceholder", codes::PARAMETERS),
    ("unique expression names", codes::AMBIGUOUS_COLUMN),
    ("Cannot", codes::TYPE_MISMATCH),
    ("coerc", codes::TYPE_MISMATCH),
    ("type", codes::TYPE_MISMATCH),
];

fn plan(text: &str) -> Error {
    let text = clean(text);
    let code = PLAN.iter().find(|(part, _)| text.contains(part)).map_or(codes::SYNTAX, |(_, code)| *code);
    if let Some(rest) = text.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or("");
        let made = Error::fix(code, format!("function {name} does not exist"));
        let suggested = rest.split_once("Did you mean '").and_then(|(_, rest)| rest.split('\'').next());
        return match suggested.and_then(|suggested| nearest(name, std::iter::once(suggested))) {
            Some(suggested) => made.hint(format!("Perhaps you meant {suggested}.")),
            None => made.hint("SELECT DISTINCT routine_name FROM information_schema.routines lists what there is."),
        };
    }
    let made = Error::fix(code, lower_first(&text));
    match code {
        codes::GROUPING => made.hint("Add the column to GROUP BY, or put it into an aggregate such as max()."),
        codes::UNKNOWN_FUNCTION | codes::TYPE_MISMATCH => made.hint("You might need explicit casts, for instance x::numeric."),
        _ => made,
    }
}

/// Without the engine's own prefixes and chatter.
fn clean(text: &str) -> String {
    let mut text = text.trim();
    for prefix in ["Error during planning: ", "Schema error: ", "This feature is not implemented: ", "Execution error: "] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    let text = text.split("\n\nbacktrace").next().unwrap_or(text);
    text.split("\nCandidate functions").next().unwrap_or(text).trim_end().to_string()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

/// The error of parsing `sql`. The parser names the token that it met: a literal is not shown, it may be a password.
pub(crate) fn syntax(error: ParserError, sql: &str) -> Error {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return Error::fix(codes::TOO_COMPLEX, "the statement is nested too deeply")
                .hint("Split it into several statements.");
        }
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    let (text, place) = match text.rsplit_once(" at Line: ") {
        Some((text, place)) => (text.to_string(), parse_place(place)),
        None => (text, None),
    };
    let message = match text.split_once(", found: ") {
        Some((_, "EOF")) => "syntax error at end of input".to_string(),
        Some((expected, found)) => {
            let found = match found.chars().any(|c| matches!(c, '\'' | '$' | '"')) {
                true => "a string".to_string(),
                false => format!("\"{found}\""),
            };
            let expected = expected.strip_prefix("Expected: ").unwrap_or(expected);
            format!("syntax error at or near {found}: expected {expected}")
        }
        None => match text.contains('\'') {
            true => "syntax error".to_string(),
            false => format!("syntax error: {}", lower_first(&text)),
        },
    };
    let made = Error::fix(codes::SYNTAX, message);
    match place {
        Some(place) => made.at(position(sql, place)),
        None => made.at(sql.trim_end().chars().count() as u32 + 1),
    }
}

/// `1, Column: 8`.
fn parse_place(text: &str) -> Option<Location> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}
