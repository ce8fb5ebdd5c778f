//! Which Postgres type (OID) an Arrow column is on the wire, and which Arrow type a declared parameter is.

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use mainstem_types::schema::SOURCE_TYPE_KEY;
use std::sync::Arc;

pub(crate) const BOOL: u32 = 16;
pub(crate) const BYTEA: u32 = 17;
pub(crate) const CHAR: u32 = 18;
pub(crate) const NAME: u32 = 19;
pub(crate) const INT8: u32 = 20;
pub(crate) const INT2: u32 = 21;
pub(crate) const INT4: u32 = 23;
pub(crate) const TEXT: u32 = 25;
pub(crate) const OID: u32 = 26;
pub(crate) const JSON: u32 = 114;
pub(crate) const FLOAT4: u32 = 700;
pub(crate) const FLOAT8: u32 = 701;
pub(crate) const BPCHAR: u32 = 1042;
pub(crate) const VARCHAR: u32 = 1043;
pub(crate) const DATE: u32 = 1082;
pub(crate) const TIME: u32 = 1083;
pub(crate) const TIMESTAMP: u32 = 1114;
pub(crate) const TIMESTAMPTZ: u32 = 1184;
pub(crate) const INTERVAL: u32 = 1186;
pub(crate) const NUMERIC: u32 = 1700;
pub(crate) const UUID: u32 = 2950;
pub(crate) const JSONB: u32 = 3802;

/// Element type, array type, bytes of a value (-1 = varies).
const TYPES: &[(u32, u32, i16)] = &[
    (BOOL, 1000, 1),
    (BYTEA, 1001, -1),
    (CHAR, 1002, 1),
    (NAME, 1003, 64),
    (INT8, 1016, 8),
    (INT2, 1005, 2),
    (INT4, 1007, 4),
    (TEXT, 1009, -1),
    (OID, 1028, 4),
    (JSON, 199, -1),
    (FLOAT4, 1021, 4),
    (FLOAT8, 1022, 8),
    (BPCHAR, 1014, -1),
    (VARCHAR, 1015, -1),
    (DATE, 1182, 4),
    (TIME, 1183, 8),
    (TIMESTAMP, 1115, 8),
    (TIMESTAMPTZ, 1185, 8),
    (INTERVAL, 1187, 16),
    (NUMERIC, 1231, -1),
    (UUID, 2951, 16),
    (JSONB, 3807, -1),
];

/// The type whose arrays have type `array`.
pub(crate) fn element_of(array: u32) -> Option<u32> {
    TYPES.iter().find(|t| t.1 == array).map(|t| t.0)
}

/// `pg_type.typlen`.
pub(crate) fn size_of(oid: u32) -> i16 {
    TYPES.iter().find(|t| t.0 == oid).map_or(-1, |t| t.2)
}

/// `atttypmod`: precision and scale of a numeric column; what is computed has none.
pub(crate) fn modifier_of(field: &Field) -> i32 {
    let column = field.metadata().get(SOURCE_TYPE_KEY).is_some_and(|source| source.ends_with("numeric"));
    match field.data_type() {
        DataType::Decimal128(precision, scale) if column && *scale >= 0 => {
            ((i32::from(*precision) << 16) | i32::from(*scale)) + 4
        }
        _ => -1,
    }
}

/// The OID under which a column is described and sent.
pub(crate) fn oid_of(field: &Field) -> u32 {
    of(field.data_type(), field.metadata().get(SOURCE_TYPE_KEY).map_or("", String::as_str))
}

/// `source_type`: the source's own name of the type where the Arrow type does not say it; may be empty.
pub(crate) fn of(kind: &DataType, source_type: &str) -> u32 {
    match kind {
        DataType::Boolean => BOOL,
        DataType::Int32 | DataType::UInt32 | DataType::Int64 if source_type == "oid" => OID,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => INT2,
        DataType::UInt16 | DataType::Int32 => INT4,
        DataType::UInt32 | DataType::Int64 => INT8,
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => NUMERIC,
        DataType::Float16 | DataType::Float32 => FLOAT4,
        DataType::Float64 => FLOAT8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => BYTEA,
        DataType::Date32 => DATE,
        DataType::Time32(_) | DataType::Time64(_) => TIME,
        DataType::Date64 | DataType::Timestamp(_, None) => TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => INTERVAL,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => match source_type {
            "uuid" => UUID,
            "json" => JSON,
            "jsonb" => JSONB,
            "varchar" => VARCHAR,
            "bpchar" => BPCHAR,
            "name" => NAME,
            "char" | "\"char\"" => CHAR,
            _ => TEXT,
        },
        DataType::Dictionary(_, values) => of(values, source_type),
        DataType::List(_) if source_type == "oid[]" => 1028,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let element = oid_of(item);
            TYPES.iter().find(|t| t.0 == element).map_or(TEXT, |t| t.1)
        }
        _ => TEXT,
    }
}

/// The Arrow type of a parameter that the client declared as `oid`; None leaves it to the engine.
pub(crate) fn arrow_of(oid: u32) -> Option<DataType> {
    Some(match oid {
        BOOL => DataType::Boolean,
        BYTEA => DataType::Binary,
        INT8 | OID => DataType::Int64,
        INT2 => DataType::Int16,
        INT4 => DataType::Int32,
        TEXT | VARCHAR | BPCHAR | NAME | CHAR | JSON | JSONB | UUID => DataType::Utf8,
        FLOAT4 => DataType::Float32,
        FLOAT8 => DataType::Float64,
        DATE => DataType::Date32,
        TIME => DataType::Time64(TimeUnit::Microsecond),
        TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        // A declared numeric has no precision; this one holds what drivers send and compares with every column. More digits
        // after the point than this are refused, never rounded.
        NUMERIC => DataType::Decimal128(38, 10),
        _ => DataType::List(Arc::new(Field::new("item", arrow_of(element_of(oid)?)?, true))),
    })
}
