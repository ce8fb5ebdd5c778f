//! What a table's columns are, in our own terms: one type system between Postgres, Arrow, Avro, Delta and the wire.
//! How each type is held everywhere is fixed in `docs/rfcs/0005-types.md`.

use crate::ids::{ColumnId, TableName, UpstreamId};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Arrow field metadata key that Parquet writers and readers take as `field_id`.
pub const FIELD_ID_KEY: &str = "PARQUET:field_id";
/// Arrow field metadata key with the name of the Postgres type that the wire shows, e.g. `uuid` or `public.mpaa_rating`. (The key's text
/// stands in files and is older than sources of other systems.)
pub const SOURCE_TYPE_KEY: &str = "mainstem.source_type";

/// Under `SOURCE_TYPE_KEY`: a computed numeric that is shown with as many digits as Postgres gives a quotient of its size.
pub const QUOTIENT: &str = "mainstem.quotient";

/// The digits after the point that Postgres gives a quotient: 16 for 1 to 10,000, four less or more for each factor of 10,000, and
/// never less than its operands have (`select_div_scale`, which looks at the first digits of both).
pub fn quotient_scale(value: i128, scale: u32) -> u32 {
    let digits = value.unsigned_abs().checked_ilog10().map_or(0, |digits| digits + 1);
    // The number of whole groups of four digits before the point, or minus that of zeros behind it.
    let weight = (i64::from(digits) - i64::from(scale) - 1).div_euclid(4);
    let weight = if value == 0 { -1 } else { weight };
    u32::try_from(16 - 4 * weight).unwrap_or(0).min(scale)
}

/// The type of a column. Anything without a variant of its own is `Text`: the source's exact text under its type's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    Bool,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    /// Exact, 1 <= precision <= 38, 0 <= scale <= precision.
    Decimal {
        precision: u8,
        scale: i8,
    },
    /// UTF-8. Also json, jsonb, uuid (canonical lower case), enums, and every type kept as its text.
    Text,
    Bytes,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since 1970-01-01T00:00:00, no zone.
    Timestamp,
    /// Microseconds since 1970-01-01T00:00:00Z.
    TimestampTz,
}

impl ColumnType {
    /// The Arrow type in change batches and in the hot tier. (The query layer shows text and bytes as views.)
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Text => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub id: ColumnId,
    pub name: Arc<str>,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether the source declares it NOT NULL. Our own arrays are always nullable: a delete's image has only its key.
    pub not_null: bool,
    /// The source's own name of the type without modifiers, e.g. `int4`, `uuid`, `jsonb`, `public.mpaa_rating`.
    pub source_type: Arc<str>,
    /// The Postgres type that the wire and SQL show for it; None where `source_type` is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pg_type: Option<Arc<str>>,
    /// The source's type modifier as it stores it (Postgres `atttypmod`; -1 = none).
    pub type_modifier: i32,
    /// Text of the value that rows written before the column was added hold (`attmissingval`); None = NULL.
    pub missing_value: Option<Arc<str>>,
}

/// By what a row of a live table is found again: the source's replica identity (decision 16).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// At most one live row per value of these columns.
    Key { columns: Vec<ColumnId> },
    /// No key, but old tuples come whole: rows are a multiset, any equal row will do.
    WholeRow,
    /// Inserts and truncates only.
    AppendOnly,
}

/// A table's columns at one moment. A change makes a new value with a higher `version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    pub upstream: UpstreamId,
    /// The name in the source.
    pub name: TableName,
    /// Counts up with every change the connector sees of this upstream table; 0 first. For humans and logs; equality of
    /// columns decides.
    pub version: u32,
    pub columns: Vec<Column>,
    pub identity: Identity,
    /// What Debezium would take as the record's key: the primary key, else a unique index; empty = null key.
    pub record_key: Vec<ColumnId>,
}

impl TableSchema {
    /// The Arrow schema of this table's change batches: columns in order, all nullable, with field ids and source types.
    pub fn arrow(&self) -> SchemaRef {
        let fields = self.columns.iter().map(Column::field).collect::<Vec<_>>();
        Arc::new(Schema::new(fields))
    }

    /// The Arrow schema that queries see: as `arrow`, with text and bytes as views (no copy of values out of Parquet pages).
    pub fn arrow_views(&self) -> SchemaRef {
        let view = |field: Field| match field.data_type() {
            DataType::Utf8 => field.with_data_type(DataType::Utf8View),
            DataType::Binary => field.with_data_type(DataType::BinaryView),
            _ => field,
        };
        Arc::new(Schema::new(self.columns.iter().map(|c| view(c.field())).collect::<Vec<_>>()))
    }

    pub fn index_of(&self, id: ColumnId) -> Option<usize> {
        self.columns.iter().position(|c| c.id == id)
    }

    /// Indexes of the identity's columns, in the identity's order; all columns for `WholeRow`, none for `AppendOnly`.
    pub fn identity_indexes(&self) -> Vec<usize> {
        match &self.identity {
            Identity::Key { columns } => columns.iter().filter_map(|id| self.index_of(*id)).collect(),
            Identity::WholeRow => (0..self.columns.len()).collect(),
            Identity::AppendOnly => Vec::new(),
        }
    }
}

impl Column {
    /// Name of the Postgres type by which the wire, SQL and Debezium's value types show it.
    pub fn pg_type(&self) -> &Arc<str> {
        self.pg_type.as_ref().unwrap_or(&self.source_type)
    }

    pub fn field(&self) -> Field {
        let metadata = HashMap::from([
            (FIELD_ID_KEY.to_string(), self.id.to_string()),
            (SOURCE_TYPE_KEY.to_string(), self.pg_type().to_string()),
        ]);
        Field::new(self.name.as_ref(), self.kind.arrow(), true).with_metadata(metadata)
    }
}
