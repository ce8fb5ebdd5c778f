//! A run of the index made anew from the key columns of its Parquet file.

use crate::context::GenerationDir;
use crate::files::{DataFile, read, unreadable};
use crate::keys::KeyCodec;
use crate::metrics;
use crate::run::{Run, RunBuilder};
use arrow::array::{Array, ArrayRef, new_null_array};
use mainstem_types::{Column, Result, TableSchema};

/// The run of one file, from its key columns. Columns that were added after it are NULL in it.
pub(crate) fn rebuild_run(
    place: &GenerationDir,
    schema: &TableSchema,
    codec: &KeyCodec,
    file: &DataFile,
    segment: u32,
) -> Result<Run> {
    let disk = place.env.disk.as_ref();
    let columns: Vec<_> = codec.columns.iter().map(|at| &schema.columns[*at]).collect();
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_ref()).collect();
    let name = format!("{}-{}.run", file.name, uuid::Builder::from_random_bytes(place.env.random()).into_uuid());
    let mut run = RunBuilder::new(disk, place.index_dir.join(name), segment, codec.fingerprint);
    let mut first = 0;
    for batch in read(file, &names, None)? {
        let batch = batch.map_err(unreadable(&file.path))?;
        let array = |column: &&Column| match batch.column_by_name(&column.name) {
            Some(array) => array.clone(),
            None => new_null_array(&column.kind.arrow(), batch.num_rows()),
        };
        let arrays: Vec<ArrayRef> = columns.iter().map(array).collect();
        let arrays: Vec<&dyn Array> = arrays.iter().map(|a| a.as_ref()).collect();
        run.add(codec.keys_of(&arrays, batch.num_rows())?, first)?;
        first += batch.num_rows() as u32;
    }
    metrics::RUNS_REBUILT.add(1);
    run.finish()
}
