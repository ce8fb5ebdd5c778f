//! Small tables made on the spot: system schema, catalogs, SHOW.

use super::sealed::sealed;
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
use mainstem_types::system::{Cell, Kind, SystemTable};
use mainstem_types::{Principal, TableName};
use std::collections::HashMap;
use std::sync::Arc;

/// A table's name and its columns.
pub(crate) type Columns = (&'static str, &'static [(&'static str, Kind)]);

/// Named columns and rows of cells.
pub(crate) struct Rows {
    columns: Vec<(&'static str, Kind)>,
    rows: Vec<Vec<Cell>>,
}

impl Rows {
    pub(crate) fn new(columns: &[(&'static str, Kind)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// What a part of the server shows to a principal.
    pub(crate) fn of_system(table: &SystemTable, principal: &Principal) -> Self {
        Self { columns: table.columns.to_vec(), rows: table.rows(principal) }
    }

    /// The table of this name, if it is one of these.
    pub(crate) fn of(tables: &[Columns], name: &str) -> Option<Self> {
        tables.iter().find(|(table, _)| *table == name).map(|(_, columns)| Self::new(columns))
    }

    /// Adds a row; missing cells at its end are NULL.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Adds a row of the named cells; the others are what most relations have: false, 0, and NULL where that is no value.
    pub(crate) fn add<const N: usize>(&mut self, cells: [(&str, Cell); N]) {
        let mut row: Vec<Cell> = self.columns.iter().map(|(_, kind)| usual(*kind)).collect();
        for (name, cell) in cells {
            let place = self.columns.iter().position(|(known, _)| *known == name).and_then(|at| row.get_mut(at));
            debug_assert!(place.is_some(), "there is no column {name}");
            if let Some(place) = place {
                *place = cell;
            }
        }
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

    /// The table `name` of these rows.
    pub(crate) fn table(self, pass: &Pass, name: &TableName) -> Result<Arc<dyn TableProvider>> {
        sealed(pass, name, Arc::new(MemTable::try_new(self.schema(), vec![vec![self.batch()?]])?))
    }
}

fn usual(kind: Kind) -> Cell {
    match kind {
        Kind::Bool => Cell::Bool(false),
        Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Oid => Cell::Int(0),
        Kind::Float4 | Kind::Text | Kind::Name | Kind::Char | Kind::TimestampTz | Kind::Texts | Kind::Int2s => Cell::Null,
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
