//! A segment on its way to disk: the Parquet file of its rows and the run of their keys, written together.

use crate::context::GenerationDir;
use crate::files::{DataFile, FileWriter, file_name};
use crate::keys::KeyCodec;
use crate::run::{Run, RunBuilder};
use arrow::array::RecordBatch;
use mainstem_env::Disk;
use mainstem_types::{Result, TableSchema};
use std::sync::Arc;

pub(crate) struct SegmentWriter<'a> {
    place: &'a GenerationDir,
    schema: &'a TableSchema,
    file: FileWriter,
    keys: Option<(&'a KeyCodec, RunBuilder<'a>)>,
    rows: u32,
}

/// What became of it. The file is synced, its directory is not.
pub(crate) struct Written {
    pub file: Arc<DataFile>,
    pub run: Option<Run>,
}

impl<'a> SegmentWriter<'a> {
    /// Of what is written nothing is left unless it is finished.
    pub fn create(place: &'a GenerationDir, segment: u32, schema: &'a TableSchema, codec: Option<&'a KeyCodec>) -> Result<Self> {
        let disk = place.env.disk.as_ref();
        let name = file_name(&place.env, segment);
        let file = FileWriter::create(place, &name, schema)?;
        let path = place.index_dir.join(format!("{name}.run"));
        let keys = codec.map(|codec| (codec, RunBuilder::new(disk, path, segment, codec.fingerprint)));
        Ok(Self { place, schema, file, keys, rows: 0 })
    }

    /// Rows so far: the number of the next one.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Adds rows with the schema's columns in order.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if let Some((codec, run)) = &mut self.keys {
            run.add(codec.keys(rows)?, self.rows)?;
        }
        self.rows += rows.num_rows() as u32;
        self.file.write(rows)
    }

    pub fn finish(self) -> Result<Written> {
        let run = self.keys.map(|(_, run)| run.finish()).transpose()?;
        match self.file.finish(self.place, self.schema) {
            Ok(file) => Ok(Written { file: Arc::new(file), run }),
            Err(error) => {
                run.into_iter().for_each(|run| drop(self.place.env.disk.remove_file(&run.path)));
                Err(error)
            }
        }
    }
}

impl Written {
    /// Removes the files again: nothing refers to them.
    pub fn discard(self, disk: &dyn Disk) {
        let run = self.run.map(|run| run.path);
        for path in [self.file.path.clone()].into_iter().chain(run) {
            // One that stays is removed by the next start.
            let _ = disk.remove_file(&path);
        }
    }
}
