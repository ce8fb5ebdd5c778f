//! Small tables made on the spot: system schema, catalogs, SHOW.

use crate::enforce::Pass;
use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int16Builder, Int32Array, Int64Array, ListBuilder, RecordBatch,
    StringBuilder, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use mainstem_types::schema::SOURCE_TYPE_KEY;
use std::collections::HashMap;
use std::sync::Arc;

/// A column's type, by its Postgres name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Text,
    /// An object id; int4 inside, as in the catalog tables of the library beside ours.
    Oid,
    /// Postgres's `name`.
    Name,
    /// Postgres's one-byte `"char"`.
    Char,
    TimestampTz,
    /// text[]
    Texts,
    /// int2[]
    Int2s,
}

/// A table's name and its columns.
pub(crate) type Columns = (&'static str, &'static [(&'static str, Kind)]);

/// A value; it must fit its column's kind, else it is shown as NULL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}
impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<i32> for Cell {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}
impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::Int(value as i64)
    }
}
impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self::Int(value as i64)
    }
}
impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Named columns and rows of cells.
pub(crate) struct Rows {
    columns: Vec<(&'static str, Kind)>,
    rows: Vec<Vec<Cell>>,
}

impl Rows {
    pub(crate) fn new(columns: &[(&'static str, Kind)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// The table of this name, if it is one of these.
    pub(crate) fn of(tables: &[Columns], name: &str) -> Option<Self> {
        tables.iter().find(|(table, _)| *table == name).map(|(_, columns)| Self::new(columns))
    }

    /// Adds a row; missing cells at its end are NULL.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|(name, kind)| field(name, *kind)).collect::<Vec<_>>()))
    }

    pub(crate) fn batch(&self) -> Result<RecordBatch> {
        let arrays = self.columns.iter().enumerate().map(|(at, (_, kind))| array(*kind, &self.rows, at)).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        Ok(RecordBatch::try_new_with_options(self.schema(), arrays, &options)?)
    }

    pub(crate) fn table(self, _pass: &Pass) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(MemTable::try_new(self.schema(), vec![vec![self.batch()?]])?))
    }
}

fn field(name: &str, kind: Kind) -> Field {
    let (arrow, source) = match kind {
        Kind::Bool => (DataType::Boolean, None),
        Kind::Int2 => (DataType::Int16, None),
        Kind::Int4 => (DataType::Int32, None),
        Kind::Int8 => (DataType::Int64, None),
        Kind::Float4 => (DataType::Float32, None),
        Kind::Text => (DataType::Utf8View, None),
        Kind::Oid => (DataType::Int32, Some("oid")),
        Kind::Name => (DataType::Utf8View, Some("name")),
        Kind::Char => (DataType::Utf8View, Some("char")),
        Kind::TimestampTz => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), None),
        Kind::Int2s => (DataType::List(Arc::new(Field::new_list_field(DataType::Int16, true))), None),
        Kind::Texts => (DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), None),
    };
    let field = Field::new(name, arrow, true);
    match source {
        Some(source) => field.with_metadata(HashMap::from([(SOURCE_TYPE_KEY.to_string(), source.to_string())])),
        None => field,
    }
}

fn array(kind: Kind, rows: &[Vec<Cell>], at: usize) -> ArrayRef {
    let cell = |row: &'_ Vec<Cell>| row.get(at).cloned().unwrap_or(Cell::Null);
    let int = |row| match cell(row) {
        Cell::Int(value) => Some(value),
        _ => None,
    };
    let text = |row| match cell(row) {
        Cell::Text(value) => Some(value),
        _ => None,
    };
    match kind {
        Kind::Bool => {
            Arc::new(rows.iter().map(|row| if let Cell::Bool(b) = cell(row) { Some(b) } else { None }).collect::<BooleanArray>())
        }
        Kind::Int2 => Arc::new(rows.iter().map(|row| int(row).map(|v| v as i16)).collect::<Int16Array>()),
        Kind::Int4 | Kind::Oid => Arc::new(rows.iter().map(|row| int(row).map(|v| v as i32)).collect::<Int32Array>()),
        Kind::Int8 => Arc::new(rows.iter().map(int).collect::<Int64Array>()),
        Kind::Float4 => {
            Arc::new(rows.iter().map(|row| if let Cell::Float(v) = cell(row) { Some(v) } else { None }).collect::<Float32Array>())
        }
        Kind::Text | Kind::Name | Kind::Char => Arc::new(rows.iter().map(text).collect::<StringViewArray>()),
        Kind::TimestampTz => Arc::new(rows.iter().map(int).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Kind::Int2s => {
            let mut lists = ListBuilder::new(Int16Builder::new());
            for row in rows {
                match cell(row) {
                    Cell::Ints(values) => lists.append_value(values.into_iter().map(|v| i16::try_from(v).ok())),
                    _ => lists.append_null(),
                }
            }
            Arc::new(lists.finish())
        }
        Kind::Texts => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            // Privileges and options: there are none, so all are NULL.
            rows.iter().for_each(|_| lists.append_null());
            Arc::new(lists.finish())
        }
    }
}
