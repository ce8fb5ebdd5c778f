//! Parquet files of a live table: which of them a filter needs, and which of their row groups have living rows.

use arrow::array::{ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DataFusionError, Result, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, ParquetAccessPlan, ParquetFileReaderFactory, RowGroupAccess,
};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::physical_optimizer::pruning::PruningStatistics;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use mainstem_warehouse::{FileView, Seal};
use object_store::ObjectMeta;
use object_store::path::Path as Location;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::HashSet;
use std::sync::Arc;

/// Readers of data files: each reads through its file's seal, so that what is not what was written is an error.
#[derive(Debug)]
pub(crate) struct SealedReaders {
    pub(crate) metadata: Arc<FileMetadataCache>,
}

impl ParquetFileReaderFactory for SealedReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let seal = file.extensions.get::<Arc<Seal>>();
        let seal = seal.ok_or_else(|| DataFusionError::Internal("a data file has no seal".to_string()))?;
        let readers = CachedParquetFileReaderFactory::new(Arc::new(seal.store()?), self.metadata.clone());
        readers.create_reader(partition, file, footer_bytes, metrics)
    }
}

/// What a reader derives from a file view, kept beside it: made by the first query, used by all until the view changes.
struct Derived {
    groups: Option<ParquetAccessPlan>,
    /// The last plan piece with the columns for which its statistics were made.
    planned: Mutex<Option<(SchemaRef, PartitionedFile)>>,
}

/// Rows of the file that are alive.
pub(crate) fn live_rows(file: &FileView) -> u64 {
    file.rows.saturating_sub(file.deleted.as_ref().map_or(0, |d| d.len()))
}

/// The plan piece of a file: where it is, which row groups have living rows, and the ranges of its values.
pub(crate) fn planned(file: &FileView, schema: &SchemaRef) -> PartitionedFile {
    let derived = file.derived.get_or_init(|| Arc::new(Derived { groups: groups(file), planned: Mutex::new(None) }));
    let Some(derived) = derived.downcast_ref::<Derived>() else {
        // Somebody else's derivation sits there: right, only slower.
        return piece(file, schema, groups(file));
    };
    let mut last = derived.planned.lock();
    if let Some((columns, piece)) = &*last
        && (Arc::ptr_eq(columns, schema) || columns == schema)
    {
        return piece.clone();
    }
    let made = piece(file, schema, derived.groups.clone());
    *last = Some((schema.clone(), made.clone()));
    made
}

fn piece(file: &FileView, schema: &SchemaRef, groups: Option<ParquetAccessPlan>) -> PartitionedFile {
    let meta = ObjectMeta {
        location: Location::from(file.path.to_string_lossy().trim_start_matches('/')),
        last_modified: Default::default(),
        size: file.bytes,
        e_tag: None,
        version: None,
    };
    let piece = PartitionedFile::new_from_meta(meta).with_statistics(Arc::new(statistics(file, schema)));
    let piece = piece.with_extension(file.seal.clone());
    match groups {
        Some(groups) => piece.with_extension(groups),
        None => piece,
    }
}

/// The piece with the file's number in its scan, as `living::added_columns` has it.
pub(crate) fn numbered(mut piece: PartitionedFile, number: usize) -> PartitionedFile {
    piece.partition_values = vec![ScalarValue::UInt32(u32::try_from(number).ok())];
    piece
}

/// Per-file statistics. Ranges are marked exact because that is what lets the reader leave the file out; dead rows only widen them.
/// They never answer a MIN or MAX: the scan as a whole states row counts alone.
fn statistics(file: &FileView, schema: &SchemaRef) -> Statistics {
    let column = |name: &str| {
        let mut made = ColumnStatistics::new_unknown();
        let Some(range) = file.ranges.get(name) else { return made };
        let value = |array: &Option<ArrayRef>| {
            array.as_ref().and_then(|a| ScalarValue::try_from_array(a, 0).ok()).map_or(Precision::Absent, Precision::Exact)
        };
        made.min_value = value(&range.min);
        made.max_value = value(&range.max);
        // An exact count would let "is not null" be decided by dead rows.
        made.null_count = match file.deleted.as_ref().is_none_or(|d| d.is_empty()) {
            true => Precision::Exact(range.nulls as usize),
            false => Precision::Inexact(range.nulls as usize),
        };
        made
    };
    Statistics {
        num_rows: Precision::Exact(file.rows as usize),
        total_byte_size: Precision::Inexact(file.bytes as usize),
        column_statistics: schema.fields().iter().map(|f| column(f.name())).collect(),
    }
}

/// The row groups without those whose rows are all dead. None: all.
fn groups(file: &FileView) -> Option<ParquetAccessPlan> {
    let dead = file.deleted.as_ref().filter(|dead| !dead.is_empty())?;
    let mut from = 0;
    let groups: Vec<_> = file
        .row_groups
        .iter()
        .map(|rows| {
            let group = access(dead, from, *rows);
            from += rows;
            group
        })
        .collect();
    groups.contains(&RowGroupAccess::Skip).then(|| ParquetAccessPlan::new(groups))
}

/// What to do with a row group that begins at row `from` of its file.
fn access(dead: &RoaringBitmap, from: u64, rows: u64) -> RowGroupAccess {
    let row = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
    match dead.range_cardinality(row(from)..row(from + rows)) == rows {
        true => RowGroupAccess::Skip,
        false => RowGroupAccess::Scan,
    }
}

/// The value ranges of many files, column by column, for DataFusion's pruning predicates.
pub(crate) struct Ranges<'a> {
    pub(crate) files: &'a [Arc<FileView>],
    pub(crate) schema: &'a SchemaRef,
}

impl Ranges<'_> {
    fn collect(&self, column: &Column, of: impl Fn(&mainstem_warehouse::ValueRange) -> Option<ArrayRef>) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(column.name()).ok()?;
        let unknown = new_null_array(field.data_type(), 1);
        let value = |file: &Arc<FileView>| {
            let value = file.ranges.get(column.name()).and_then(&of);
            value.filter(|v| v.len() == 1 && v.data_type() == field.data_type()).unwrap_or_else(|| unknown.clone())
        };
        let values: Vec<ArrayRef> = self.files.iter().map(value).collect();
        concat(&values.iter().map(|v| v.as_ref()).collect::<Vec<_>>()).ok()
    }
}

impl PruningStatistics for Ranges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.collect(column, |range| range.min.clone())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.collect(column, |range| range.max.clone())
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = self.files.iter().map(|f| f.ranges.get(column.name()).map(|range| range.nulls));
        Some(Arc::new(nulls.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        // Dead rows included, as in `null_counts`: all-NULL means all rows of the file.
        Some(Arc::new(self.files.iter().map(|f| Some(f.rows)).collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dead: &[u32], from: u64, rows: u64, expected: RowGroupAccess) {
        assert_eq!(access(&dead.iter().copied().collect(), from, rows), expected, "dead {dead:?}, {rows} rows from {from}");
    }

    #[test]
    fn only_row_groups_without_a_living_row_are_left_out() {
        check(&[], 0, 5, RowGroupAccess::Scan);
        check(&[0, 4], 0, 5, RowGroupAccess::Scan);
        check(&[0, 1, 2, 3, 4], 0, 5, RowGroupAccess::Skip);
        check(&[0, 1, 2, 3, 4], 5, 5, RowGroupAccess::Scan);
        check(&[5, 6, 7, 8], 5, 5, RowGroupAccess::Scan);
        check(&[4, 5, 6, 7, 8, 9, 10], 5, 5, RowGroupAccess::Skip);
    }
}
