//! Parquet files of a table: written once, synced, never changed; read by row for updates that keep old values.

use crate::codes::{self, io_error};
use crate::context::GenerationDir;
use crate::seal::{BLOCKS_KEY, Seal, Sealer};
use crate::snapshot::ValueRange;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{SortOptions, cast, sort_to_indices, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use mainstem_env::{Disk, DiskFile, Env, OpenMode};
use mainstem_types::schema::FIELD_ID_KEY;
use mainstem_types::{Column, Error, Result, TableSchema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::{Compression, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, Length};
use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Encoded bytes at which a row group ends whatever its rows: they are in memory until then.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// Rows read at once, and about the most bytes that their values take then.
const BATCH_ROWS: u64 = 16 * 1024;
const BATCH_BYTES: u64 = 8 << 20;

/// A Parquet file of a table.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub path: PathBuf,
    /// Its path in the Delta log: relative to the table's directory.
    pub name: String,
    pub bytes: u64,
    /// What its values take in memory, about.
    pub raw_bytes: u64,
    pub rows: u64,
    /// Rows of each row group.
    pub row_groups: Arc<[u64]>,
    pub ranges: Arc<BTreeMap<Arc<str>, ValueRange>>,
    /// Names and ids of the columns that it has, be they the table's still or not.
    columns: Vec<(Box<str>, i32)>,
    pub seal: Arc<Seal>,
}

impl DataFile {
    /// Whether another column had this one's name when the file was written: its values would show.
    pub fn had_another(&self, column: &Column) -> bool {
        self.columns.iter().any(|(name, id)| **name == *column.name && *id != column.id.0)
    }
}

/// A file that is removed unless it came to its end: a disk that is full must not fill with pieces.
struct Unfinished {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    whole: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.whole {
            // One that stays is removed by the next start.
            let _ = self.disk.remove_file(&self.path);
        }
    }
}

/// The segment that a data file's name carries: `<segment>-<uuid>.parquet`.
pub(crate) fn segment_of(name: &str) -> Option<u32> {
    name.strip_suffix(".parquet")?.split_once('-')?.0.parse().ok()
}

pub(crate) fn file_name(env: &Env, segment: u32) -> String {
    format!("{segment:010}-{}.parquet", uuid::Builder::from_random_bytes(env.random()).into_uuid())
}

fn file_error(path: &Path, what: &str) -> impl Fn(ParquetError) -> Error {
    let text = format!("cannot {what} the table file {}", path.display());
    move |e| Error::retry(codes::IO, text.clone()).caused_by(e)
}

pub(crate) fn arrow_error(e: arrow::error::ArrowError) -> Error {
    Error::bug(codes::MISFIT, "a change batch does not fit its table").caused_by(e)
}

/// The error of a reader that met what cannot be read.
pub(crate) fn unreadable(path: &Path) -> impl Fn(arrow::error::ArrowError) -> Error {
    let text = format!("the table file {} cannot be read", path.display());
    move |e| Error::corrupt(codes::CORRUPT, text.clone()).caused_by(e)
}

/// The Arrow type of a column as it lies in the file: a time of day is a plain INT64, because Delta knows no such type.
fn stored_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Time64(_) => DataType::Int64,
        other => other.clone(),
    }
}

/// The Arrow schema of files of this table.
pub(crate) fn stored_schema(schema: &TableSchema) -> SchemaRef {
    let stored = |f: &Arc<Field>| f.as_ref().clone().with_data_type(stored_type(f.data_type()));
    Arc::new(Schema::new(schema.arrow().fields().iter().map(stored).collect::<Vec<_>>()))
}

struct DiskWriter {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Write for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A Parquet file being written.
pub(crate) struct FileWriter {
    name: String,
    stored: SchemaRef,
    writer: ArrowWriter<Sealer<BufWriter<DiskWriter>>>,
    file: Arc<dyn DiskFile>,
    rows: u64,
    unfinished: Unfinished,
}

impl FileWriter {
    pub fn create(place: &GenerationDir, name: &str, schema: &TableSchema) -> Result<Self> {
        let disk = &place.env.disk;
        let path = place.dir.join(name);
        let file = disk.open(&path, OpenMode::CreateNew).map_err(io_error(&path, "create"))?;
        let unfinished = Unfinished { disk: disk.clone(), path: path.clone(), whole: false };
        let properties = WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            .set_dictionary_enabled(true)
            .set_max_row_group_row_count(Some(place.settings.row_group_rows))
            .set_created_by("mainstem".to_string())
            .build();
        let stored = stored_schema(schema);
        let sealer = Sealer::new(BufWriter::with_capacity(1 << 20, DiskWriter { file: file.clone(), at: 0 }));
        let writer = ArrowWriter::try_new(sealer, stored.clone(), Some(properties)).map_err(file_error(&path, "create"))?;
        Ok(Self { name: name.to_string(), stored, writer, file, rows: 0, unfinished })
    }

    /// Rows with the table's columns in order.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let columns = rows.columns().iter().zip(self.stored.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(arrow_error)?;
        let batch = RecordBatch::try_new(self.stored.clone(), columns).map_err(arrow_error)?;
        self.rows += batch.num_rows() as u64;
        let path = &self.unfinished.path;
        self.writer.write(&batch).map_err(file_error(path, "write"))?;
        if self.writer.in_progress_size() > GROUP_BYTES_MAX {
            self.writer.flush().map_err(file_error(path, "write"))?;
        }
        Ok(())
    }

    /// Ends the file and syncs it; the directory is the caller's to sync.
    pub fn finish(mut self, place: &GenerationDir, schema: &TableSchema) -> Result<DataFile> {
        let path = self.unfinished.path.clone();
        self.writer.flush().map_err(file_error(&path, "write"))?;
        // What the writer holds back belongs to the pages.
        self.writer.sync().map_err(io_error(&path, "write"))?;
        let blocks = self.writer.inner_mut().end_data();
        self.writer.append_key_value_metadata(KeyValue::new(BLOCKS_KEY.to_string(), blocks));
        let metadata = self.writer.finish().map_err(file_error(&path, "write"))?;
        self.writer.inner_mut().flush().map_err(io_error(&path, "write"))?;
        self.file.sync().map_err(io_error(&path, "sync"))?;
        let bytes = self.file.len().map_err(io_error(&path, "read"))?;
        let metadata =
            ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new()).map_err(file_error(&path, "read"))?;
        self.unfinished.whole = true;
        let seal = self.writer.inner().seal(&path, place.keeper());
        Ok(data_file(self.name, bytes, &metadata, schema, Arc::new(seal)))
    }
}

fn data_file(name: String, bytes: u64, metadata: &ArrowReaderMetadata, schema: &TableSchema, seal: Arc<Seal>) -> DataFile {
    let raw_bytes = metadata.metadata().row_groups().iter().map(raw_bytes).sum();
    let rows = metadata.metadata().file_metadata().num_rows() as u64;
    let column = |f: &Arc<Field>| Some((f.name().as_str().into(), f.metadata().get(FIELD_ID_KEY)?.parse().ok()?));
    let columns = metadata.schema().fields().iter().filter_map(column).collect();
    let row_groups = metadata.metadata().row_groups().iter().map(|group| group.num_rows() as u64).collect();
    let (path, ranges) = (seal.path().to_path_buf(), Arc::new(ranges(metadata, schema)));
    DataFile { path, name, bytes, raw_bytes, rows, row_groups, ranges, columns, seal }
}

/// What the values of a row group take in memory, about; without texts when the file does not say.
fn raw_bytes(group: &RowGroupMetaData) -> u64 {
    let column = |column: &ColumnChunkMetaData| {
        let width = match column.column_type() {
            Type::BOOLEAN => 1,
            Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 | Type::FIXED_LEN_BYTE_ARRAY => 16,
        };
        width * group.num_rows() as u64 + column.unencoded_byte_array_data_bytes().unwrap_or(0) as u64
    };
    group.columns().iter().map(column).sum()
}

/// Reads at once for what a Parquet reader wants byte by byte.
const HEADER_BYTES: usize = 16 << 10;

/// A data file as a Parquet reader wants it.
struct Pages {
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

/// Reads on from a place in the file.
struct PagesFrom {
    file: Arc<dyn DiskFile>,
    at: u64,
    end: u64,
}

impl Read for PagesFrom {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min((self.end - self.at) as usize);
        self.file.read_exact_at(&mut buffer[..length], self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Pages {
    type T = BufReader<PagesFrom>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let from = PagesFrom { file: self.file.clone(), at: start.min(self.bytes), end: self.bytes };
        Ok(BufReader::with_capacity(HEADER_BYTES, from))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start).map_err(|e| ParquetError::External(e.into()))?;
        Ok(bytes.into())
    }
}

fn open_file(seal: &Arc<Seal>) -> Result<(Pages, ArrowReaderMetadata)> {
    let failed = |e: std::io::Error| e.downcast().unwrap_or_else(io_error(seal.path(), "read"));
    let file = seal.open().map_err(failed)?;
    let bytes = file.len().map_err(io_error(seal.path(), "read"))?;
    let pages = Pages { file, bytes };
    let metadata = ArrowReaderMetadata::load(&pages, ArrowReaderOptions::new()).map_err(|e| {
        Error::corrupt(codes::CORRUPT, format!("the table file {} is not a whole Parquet file", seal.path().display()))
            .caused_by(e)
    })?;
    Ok((pages, metadata))
}

/// Opens a file that a Delta log names, by the seal that it has there.
pub(crate) fn load(place: &GenerationDir, name: &str, bytes: u64, tag: &str, schema: &TableSchema) -> Result<DataFile> {
    let path = place.dir.join(name);
    let damaged =
        || Error::corrupt(codes::CORRUPT, format!("the table file {} has no checksums of this version", path.display()));
    let seal = Seal::of_tag(&path, bytes, tag, place.keeper()).ok_or_else(damaged)?;
    let seal = Arc::new(seal);
    let (_, metadata) = open_file(&seal)?;
    let pairs = metadata.metadata().file_metadata().key_value_metadata();
    let blocks = pairs.into_iter().flatten().find(|pair| pair.key == BLOCKS_KEY).and_then(|pair| pair.value.as_deref());
    let seal = Arc::into_inner(seal).and_then(|seal| seal.with_blocks(blocks?)).ok_or_else(damaged)?;
    Ok(data_file(name.to_string(), bytes, &metadata, schema, Arc::new(seal)))
}

/// Reads columns of a file by name, all rows or the given ones (ascending, each once).
pub(crate) fn read(file: &DataFile, columns: &[&str], rows: Option<&[u32]>) -> Result<ParquetRecordBatchReader> {
    let (pages, metadata) = open_file(&file.seal)?;
    reader(pages, metadata, columns, rows).map_err(file_error(&file.path, "read"))
}

/// The rows of a Parquet file.
pub(crate) fn reader(
    pages: impl ChunkReader + 'static,
    metadata: ArrowReaderMetadata,
    columns: &[&str],
    rows: Option<&[u32]>,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let total = metadata.metadata().file_metadata().num_rows() as usize;
    let roots =
        metadata.schema().fields().iter().enumerate().filter(|(_, f)| columns.contains(&f.name().as_str())).map(|(at, _)| at);
    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots.collect::<Vec<_>>());
    let row_bytes = metadata.metadata().row_groups().iter().map(|g| raw_bytes(g) / (g.num_rows() as u64).max(1)).max();
    let batch = (BATCH_BYTES / row_bytes.unwrap_or(0).max(1)).clamp(1, BATCH_ROWS);
    let mut builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(pages, metadata).with_projection(mask).with_batch_size(batch as usize);
    if let Some(rows) = rows {
        let mut selectors = Vec::with_capacity(rows.len() * 2 + 1);
        let mut at = 0;
        for row in rows.iter().map(|r| *r as usize) {
            if row > at {
                selectors.push(RowSelector::skip(row - at));
            }
            selectors.push(RowSelector::select(1));
            at = row + 1;
        }
        selectors.push(RowSelector::skip(total.saturating_sub(at)));
        builder = builder.with_row_selection(RowSelection::from(selectors));
    }
    builder.build()
}

/// A column of a file in a wanted type.
pub(crate) fn as_type(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    if array.data_type() == kind { Ok(array.clone()) } else { cast(array, kind).map_err(arrow_error) }
}

fn ranges(metadata: &ArrowReaderMetadata, schema: &TableSchema) -> BTreeMap<Arc<str>, ValueRange> {
    let views = schema.arrow_views();
    let mut ranges = BTreeMap::new();
    for (column, field) in schema.columns.iter().zip(views.fields()) {
        if let Some(range) = range(metadata, &column.name, field.data_type()) {
            ranges.insert(column.name.clone(), range);
        }
    }
    ranges
}

/// None when anything about the column's values is unknown. Floats have none: a NaN is in no Parquet statistic, but it compares.
fn range(metadata: &ArrowReaderMetadata, name: &str, shown: &DataType) -> Option<ValueRange> {
    if matches!(shown, DataType::Float32 | DataType::Float64) {
        return None;
    }
    let groups = metadata.metadata().row_groups();
    let converter = StatisticsConverter::try_new(name, metadata.schema(), metadata.parquet_schema()).ok()?;
    let nulls = converter.row_group_null_counts(groups).ok()?;
    let (mins, maxes) = (converter.row_group_mins(groups).ok()?, converter.row_group_maxes(groups).ok()?);
    for (at, group) in groups.iter().enumerate() {
        let all_null = nulls.is_valid(at) && nulls.value(at) == group.num_rows() as u64;
        if nulls.is_null(at) || (!all_null && (mins.is_null(at) || maxes.is_null(at))) {
            return None;
        }
    }
    if matches!(shown, DataType::Utf8View | DataType::BinaryView) {
        let exact = [converter.row_group_is_min_value_exact(groups).ok()?, converter.row_group_is_max_value_exact(groups).ok()?];
        if exact.iter().any(|e| (0..e.len()).any(|at| e.is_valid(at) && !e.value(at))) {
            return None;
        }
    }
    let total = nulls.values().iter().sum();
    Some(ValueRange { min: extreme(&mins, false, shown)?, max: extreme(&maxes, true, shown)?, nulls: total })
}

/// The smallest or largest value as one row; `Some(None)` when there is none but NULL.
fn extreme(values: &ArrayRef, descending: bool, shown: &DataType) -> Option<Option<ArrayRef>> {
    if values.null_count() == values.len() {
        return Some(None);
    }
    let first = sort_to_indices(values, Some(SortOptions { descending, nulls_first: false }), Some(1)).ok()?;
    let value = take(values, &first, None).ok()?;
    let value = match shown {
        DataType::Time64(TimeUnit::Microsecond) => cast(&value, shown).ok()?,
        _ if value.data_type() == shown => value,
        _ => cast(&value, shown).ok()?,
    };
    Some(Some(value))
}
