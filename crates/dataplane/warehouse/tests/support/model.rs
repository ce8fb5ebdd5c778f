//! Tables as plain rows of cells: what live tables must equal.

use arrow::array::*;
use arrow::datatypes::{DataType, Schema};
use mainstem_types::{Column, ColumnId, ColumnType, Identity, TableName, TableSchema, UpstreamId};
use mainstem_warehouse::TableView;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::sync::Arc;

/// A value. Numbers of every kind are integers: days, microseconds, unscaled decimals, quarters for floats, 0 and 1 for bool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
}

pub type Row = Vec<Cell>;

pub fn column(id: i32, name: &str, kind: ColumnType) -> Column {
    let source_type = format!("{kind:?}").to_lowercase().into();
    Column {
        id: ColumnId(id),
        name: name.into(),
        kind,
        not_null: false,
        source_type,
        pg_type: None,
        type_modifier: -1,
        missing_value: None,
    }
}

pub fn schema(name: &str, columns: Vec<Column>, identity: Identity) -> Arc<TableSchema> {
    let record_key = if let Identity::Key { columns } = &identity { columns.clone() } else { Vec::new() };
    let name = TableName::new("public", name);
    Arc::new(TableSchema { upstream: UpstreamId(7), name, version: 0, columns, identity, record_key })
}

/// Rows as Arrow, in the types of change batches.
pub fn arrow_rows(schema: &TableSchema, rows: &[Row]) -> RecordBatch {
    let columns = (0..schema.columns.len()).map(|at| {
        let ints: Vec<Option<i64>> = rows.iter().map(|r| if let Cell::Int(n) = r[at] { Some(n) } else { None }).collect();
        let texts: Vec<Option<&str>> =
            rows.iter().map(|r| if let Cell::Text(t) = &r[at] { Some(t.as_str()) } else { None }).collect();
        let i64s = || Int64Array::from(ints.clone());
        let array: ArrayRef = match &schema.columns[at].kind {
            ColumnType::Bool => Arc::new(ints.iter().map(|n| n.map(|n| n == 1)).collect::<BooleanArray>()),
            ColumnType::Int16 => Arc::new(ints.iter().map(|n| n.map(|n| n as i16)).collect::<Int16Array>()),
            ColumnType::Int32 => Arc::new(ints.iter().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()),
            ColumnType::Int64 => Arc::new(i64s()),
            ColumnType::Float32 => Arc::new(ints.iter().map(|n| n.map(|n| n as f32 / 4.0)).collect::<Float32Array>()),
            ColumnType::Float64 => Arc::new(ints.iter().map(|n| n.map(|n| n as f64 / 4.0)).collect::<Float64Array>()),
            ColumnType::Decimal { precision, scale } => Arc::new(
                ints.iter()
                    .map(|n| n.map(i128::from))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(*precision, *scale)
                    .unwrap(),
            ),
            ColumnType::Text => Arc::new(StringArray::from(texts)),
            ColumnType::Bytes => Arc::new(BinaryArray::from(texts.iter().map(|t| t.map(str::as_bytes)).collect::<Vec<_>>())),
            ColumnType::Date => Arc::new(ints.iter().map(|n| n.map(|n| n as i32)).collect::<Date32Array>()),
            ColumnType::Time => Arc::new(ints.iter().copied().collect::<Time64MicrosecondArray>()),
            ColumnType::Timestamp => Arc::new(ints.iter().copied().collect::<TimestampMicrosecondArray>()),
            ColumnType::TimestampTz => Arc::new(ints.iter().copied().collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        };
        array
    });
    RecordBatch::try_new(schema.arrow(), columns.collect()).unwrap()
}

/// The live rows of a view, as text per row and sorted.
pub fn shown(view: &TableView) -> Vec<String> {
    read(view).unwrap()
}

/// The same, or why a file cannot be read.
pub fn read(view: &TableView) -> std::io::Result<Vec<String>> {
    for file in &view.files {
        file.seal.verify()?;
    }
    Ok(rows_of(view))
}

fn rows_of(view: &TableView) -> Vec<String> {
    let schema = view.schema.arrow_views();
    let mut rows = Vec::new();
    for hot in &view.hot {
        assert_eq!(hot.batch.schema(), schema);
        print(&hot.batch, |row| hot.deleted.as_ref().is_some_and(|d| d.contains(row)), &mut rows);
    }
    for file in &view.files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file.path).unwrap()).unwrap();
        let mut first = 0;
        for batch in reader.build().unwrap() {
            let batch = project(&batch.unwrap(), &schema);
            print(&batch, |row| file.deleted.as_ref().is_some_and(|d| d.contains(row + first)), &mut rows);
            first += batch.num_rows() as u32;
        }
        assert_eq!(u64::from(first), file.rows);
    }
    assert_eq!(rows.len() as u64, view.rows, "the row count of {}", view.record.name);
    rows.sort();
    rows
}

/// By name, missing columns NULL: as the query layer reads files.
fn project(batch: &RecordBatch, schema: &Arc<Schema>) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => arrow::compute::cast(column, field.data_type()).unwrap(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

fn print(batch: &RecordBatch, dead: impl Fn(u32) -> bool, out: &mut Vec<String>) {
    let cells: Vec<ArrayRef> = batch.columns().iter().map(|c| arrow::compute::cast(c, &plain(c.data_type())).unwrap()).collect();
    for row in (0..batch.num_rows()).filter(|row| !dead(*row as u32)) {
        let text = |c: &ArrayRef| {
            if c.is_null(row) { "~".to_string() } else { arrow::util::display::array_value_to_string(c, row).unwrap() }
        };
        out.push(cells.iter().map(text).collect::<Vec<_>>().join("|"));
    }
}

fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, None),
        other => other.clone(),
    }
}

/// The model's rows in the same form.
pub fn expected(schema: &TableSchema, rows: &[Row]) -> Vec<String> {
    let mut out = Vec::new();
    print(&arrow_rows(schema, rows), |_| false, &mut out);
    out.sort();
    out
}
