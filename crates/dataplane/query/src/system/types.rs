//! Columns' types as Postgres's catalogs describe them.

use arrow::datatypes::{DataType, Field, IntervalUnit};
use datafusion::logical_expr::ScalarUDF;
use mainstem_types::schema::{QUOTIENT, SOURCE_TYPE_KEY};
use mainstem_types::{Column, ColumnType};
use std::sync::Arc;

/// A type in `pg_type`, with a column's modifier.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PgType {
    pub(super) oid: i32,
    pub(super) name: &'static str,
    /// As `format_type` writes it, without modifier.
    pub(super) long: &'static str,
    pub(super) len: i16,
    pub(super) modifier: i32,
}

const fn of(oid: i32, name: &'static str, long: &'static str, len: i16) -> PgType {
    PgType { oid, name, long, len, modifier: -1 }
}

const TEXT: PgType = of(25, "text", "text", -1);
const KNOWN: &[PgType] = &[
    of(16, "bool", "boolean", 1),
    of(17, "bytea", "bytea", -1),
    of(18, "char", "\"char\"", 1),
    of(19, "name", "name", 64),
    of(20, "int8", "bigint", 8),
    of(21, "int2", "smallint", 2),
    of(23, "int4", "integer", 4),
    TEXT,
    of(26, "oid", "oid", 4),
    of(114, "json", "json", -1),
    of(700, "float4", "real", 4),
    of(701, "float8", "double precision", 8),
    of(1005, "_int2", "smallint[]", -1),
    of(1007, "_int4", "integer[]", -1),
    of(1009, "_text", "text[]", -1),
    of(1016, "_int8", "bigint[]", -1),
    of(1022, "_float8", "double precision[]", -1),
    of(1231, "_numeric", "numeric[]", -1),
    of(1042, "bpchar", "character", -1),
    of(1043, "varchar", "character varying", -1),
    of(1082, "date", "date", 4),
    of(1083, "time", "time without time zone", 8),
    of(1114, "timestamp", "timestamp without time zone", 8),
    of(1184, "timestamptz", "timestamp with time zone", 8),
    of(1186, "interval", "interval", 16),
    of(1700, "numeric", "numeric", -1),
    of(2950, "uuid", "uuid", 16),
    of(3802, "jsonb", "jsonb", -1),
];

fn named(name: &str) -> PgType {
    KNOWN.iter().find(|t| t.name == name).cloned().unwrap_or(TEXT)
}

/// The type of a live table's column: the source's own where our value is one of it, else text.
pub(super) fn of_column(column: &Column) -> PgType {
    let source = column.pg_type().as_ref();
    let source = source.strip_prefix("pg_catalog.").unwrap_or(source);
    let mut found = match &column.kind {
        ColumnType::Bool => named("bool"),
        ColumnType::Int16 => named("int2"),
        ColumnType::Int32 => named("int4"),
        ColumnType::Int64 => named(if source == "oid" { "oid" } else { "int8" }),
        ColumnType::Float32 => named("float4"),
        ColumnType::Float64 => named("float8"),
        ColumnType::Decimal { precision, scale } => {
            let mut numeric = named("numeric");
            numeric.modifier = ((i32::from(*precision) << 16) | i32::from(*scale)) + 4;
            return numeric;
        }
        ColumnType::Text => match source {
            "varchar" | "bpchar" | "uuid" | "json" | "jsonb" | "name" => named(source),
            _ => return TEXT,
        },
        ColumnType::Bytes => named("bytea"),
        ColumnType::Date => named("date"),
        ColumnType::Time => named("time"),
        ColumnType::Timestamp => named("timestamp"),
        ColumnType::TimestampTz => named("timestamptz"),
    };
    found.modifier = column.type_modifier;
    found
}

/// The type of a column that is described by its Arrow field alone.
pub(super) fn of_field(field: &Field) -> PgType {
    if let Some(source) = field.metadata().get(SOURCE_TYPE_KEY).filter(|source| *source != QUOTIENT) {
        return named(source.strip_prefix("pg_catalog.").unwrap_or(source));
    }
    match field.data_type() {
        DataType::Boolean => named("bool"),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => named("int2"),
        DataType::Int32 | DataType::UInt16 => named("int4"),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => named("int8"),
        DataType::Float16 | DataType::Float32 => named("float4"),
        DataType::Float64 => named("float8"),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            named("numeric")
        }
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => named("bytea"),
        DataType::Date32 | DataType::Date64 => named("date"),
        DataType::Time32(_) | DataType::Time64(_) => named("time"),
        DataType::Timestamp(_, None) => named("timestamp"),
        DataType::Timestamp(_, Some(_)) => named("timestamptz"),
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano) => named("interval"),
        DataType::List(item) => match of_field(item).name {
            "int2" => named("_int2"),
            "int4" => named("_int4"),
            "int8" => named("_int8"),
            "float8" => named("_float8"),
            "numeric" => named("_numeric"),
            _ => named("_text"),
        },
        _ => TEXT,
    }
}

/// `to_regtype`: the oid of a type by any of its names.
pub(crate) fn types_by_name() -> Arc<ScalarUDF> {
    let names = KNOWN.iter().flat_map(|t| [t.name, t.long].map(|name| (name.to_string(), t.oid.to_string())));
    super::keys::Lookup::function("to_regtype", names.collect(), true)
}

/// A field's type as `pg_typeof` says it.
pub(crate) fn type_name(field: &Field) -> &'static str {
    of_field(field).long
}

impl PgType {
    /// As `format_type` writes it.
    pub(super) fn formatted(&self) -> String {
        match (self.name, self.modifier) {
            (_, ..=-1) => self.long.to_string(),
            ("numeric", m) if m >= 4 => format!("numeric({},{})", ((m - 4) >> 16) & 0xffff, (m - 4) & 0x7ff),
            ("varchar" | "bpchar", m) if m >= 4 => format!("{}({})", self.long, m - 4),
            ("time" | "timestamp" | "timestamptz", m) => match self.long.split_once(' ') {
                Some((name, rest)) => format!("{name}({m}) {rest}"),
                None => self.long.to_string(),
            },
            _ => self.long.to_string(),
        }
    }

    /// Declared characters, for information_schema.
    pub(super) fn characters(&self) -> Option<i32> {
        (matches!(self.name, "varchar" | "bpchar") && self.modifier >= 4).then(|| self.modifier - 4)
    }

    /// Precision and scale, for information_schema.
    pub(super) fn numeric(&self) -> (Option<i32>, Option<i32>) {
        match self.name {
            "numeric" if self.modifier >= 4 => (Some(((self.modifier - 4) >> 16) & 0xffff), Some((self.modifier - 4) & 0x7ff)),
            "int2" => (Some(16), Some(0)),
            "int4" => (Some(32), Some(0)),
            "int8" => (Some(64), Some(0)),
            "float4" => (Some(24), None),
            "float8" => (Some(53), None),
            _ => (None, None),
        }
    }
}

/// `format_type(oid, modifier)` for types that we know.
pub(crate) fn format_type(oid: i32, modifier: i32) -> Option<String> {
    let mut found = KNOWN.iter().find(|t| t.oid == oid).cloned()?;
    found.modifier = modifier;
    Some(found.formatted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_postgres_does() {
        let check = |oid, modifier, expected: &str| assert_eq!(format_type(oid, modifier).as_deref(), Some(expected));
        check(1700, ((10 << 16) | 2) + 4, "numeric(10,2)");
        check(1700, -1, "numeric");
        check(1043, 24, "character varying(20)");
        check(1114, 3, "timestamp(3) without time zone");
        check(1184, -1, "timestamp with time zone");
        check(23, -1, "integer");
        assert_eq!(format_type(99_999, -1), None);
    }
}
