//! Files of a table written anew as one, without their dead rows.

use crate::context::GenerationDir;
use crate::delta::DeltaTable;
use crate::files::{DataFile, arrow_error, read, stored_schema, unreadable};
use crate::keys::KeyCodec;
use crate::rows::{Moved, Rows, live_rows};
use crate::segment_writer::{SegmentWriter, Written};
use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
use mainstem_types::{Result, TableSchema};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Files of one generation on their way into one.
pub(crate) struct Merge {
    pub place: GenerationDir,
    pub delta: Arc<Mutex<DeltaTable>>,
    /// As committed last, or as it is to be.
    pub schema: Arc<TableSchema>,
    pub codec: Option<KeyCodec>,
    pub files: Vec<Arc<DataFile>>,
    pub moved: Vec<Moved>,
    /// The id that the new file will have as a segment.
    pub target: u32,
}

impl Merge {
    /// The rewriting of one file without its dead rows.
    pub fn of_one(rows: &mut Rows, segment: u32, file: Arc<DataFile>, dead: Arc<RoaringBitmap>) -> Self {
        rows.next_segment += 1;
        Self {
            place: rows.place.clone(),
            delta: rows.delta.clone(),
            schema: rows.schema.clone(),
            codec: rows.codec.clone(),
            files: vec![file],
            moved: vec![Moved { segment, dead, base: 0 }],
            target: rows.next_segment - 1,
        }
    }

    /// Writes the live rows, file by file. None when it was stopped; nothing is left of it then.
    pub fn write(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Written>> {
        // The index may have been deleted by hand.
        self.place.create_dirs()?;
        let stored = stored_schema(&self.schema);
        let names: Vec<&str> = self.schema.columns.iter().map(|c| c.name.as_ref()).collect();
        let mut writer = SegmentWriter::create(&self.place, self.target, &self.schema, self.codec.as_ref())?;
        for (file, moved) in self.files.iter().zip(&mut self.moved) {
            moved.base = writer.rows();
            let mut start = 0;
            for batch in read(file, &names, None)? {
                if stop() {
                    return Ok(None);
                }
                let batch = project(&batch.map_err(unreadable(&file.path))?, &stored)?;
                writer.write(&live_rows(&batch, start, &moved.dead)?)?;
                start += batch.num_rows() as u32;
            }
        }
        writer.finish().map(Some)
    }
}

/// The table's columns, as they were committed last, from a file that may be older: what it does not have is NULL.
fn project(batch: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch> {
    let column = |field: &Arc<arrow::datatypes::Field>| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    let columns = stored.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(stored.clone(), columns, &options).map_err(arrow_error)
}
