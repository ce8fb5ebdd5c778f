//! A live table: the hot batches and the Parquet files of one snapshot, as one scan.

use super::files::{Ranges, SealedReaders, live_rows, numbered, planned};
use super::living::{DeadRows, LivingRows, added_columns};
use crate::metrics;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Result, ScalarValue, Statistics};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory, replace_columns_with_literals,
};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use mainstem_warehouse::{FileView, HotView, Snapshot, TableView};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Rows per piece of a hot batch: small enough that a LIMIT stops early and two threads share the work.
const HOT_ROWS_MAX: usize = 32 * 1024;

pub(super) struct LiveTable {
    view: Arc<TableView>,
    schema: SchemaRef,
    /// Keeps the files on disk for as long as a plan may read them.
    _snapshot: Arc<Snapshot>,
}

impl fmt::Debug for LiveTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveTable({})", self.view.record.name)
    }
}

impl LiveTable {
    pub(super) fn new(snapshot: Arc<Snapshot>, view: Arc<TableView>) -> Self {
        let schema = view.schema.arrow_views();
        Self { view, schema, _snapshot: snapshot }
    }

    /// The hot rows that are alive, projected, in pieces.
    fn hot(&self, projection: Option<&Vec<usize>>) -> Result<Vec<RecordBatch>> {
        let mut pieces = Vec::new();
        for hot in &self.view.hot {
            let batch = self.hot_columns(hot, projection)?;
            let batch = match &hot.deleted {
                Some(dead) if !dead.is_empty() => {
                    let mut alive = vec![true; batch.num_rows()];
                    dead.iter().filter_map(|row| usize::try_from(row).ok()).for_each(|row| {
                        if let Some(bit) = alive.get_mut(row) {
                            *bit = false;
                        }
                    });
                    filter_record_batch(&batch, &BooleanArray::new(BooleanBuffer::from(alive), None))?
                }
                _ => batch,
            };
            let mut from = 0;
            while from < batch.num_rows() {
                let rows = HOT_ROWS_MAX.min(batch.num_rows() - from);
                pieces.push(batch.slice(from, rows));
                from += rows;
            }
        }
        Ok(pieces)
    }

    /// The projected columns of a hot batch, found by name: a batch from before an added column lacks it.
    fn hot_columns(&self, hot: &HotView, projection: Option<&Vec<usize>>) -> Result<RecordBatch> {
        let schema = match projection {
            Some(indexes) => Arc::new(self.schema.project(indexes)?),
            None => self.schema.clone(),
        };
        let rows = hot.batch.num_rows();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            columns.push(match hot.batch.column_by_name(field.name()) {
                Some(array) if array.data_type() == field.data_type() => array.clone(),
                Some(array) => arrow::compute::cast(array, field.data_type())?,
                None => missing(&self.view, field.name(), field.data_type()).to_array_of_size(rows)?,
            });
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// The files that may hold rows for `filters`.
    fn files(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<Arc<FileView>>> {
        let files: Vec<_> = self.view.files.iter().filter(|f| live_rows(f) > 0).cloned().collect();
        let Some(predicate) = self.predicate(state, filters)? else { return Ok(files) };
        // A predicate that pruning cannot use prunes nothing.
        let Ok(pruning) = PruningPredicateBuilder::new().with_file_schema(self.schema.clone()).try_build(predicate) else {
            return Ok(files);
        };
        let Ok(keep) = pruning.prune(&Ranges { files: &files, schema: &self.schema }) else { return Ok(files) };
        let before = files.len();
        let files: Vec<_> = files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect();
        metrics::FILES_PRUNED.add((before - files.len()) as u64);
        Ok(files)
    }

    fn predicate(&self, state: &dyn Session, filters: &[Expr]) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Some(filter) = conjunction(filters.to_vec()) else { return Ok(None) };
        let schema = DFSchema::try_from(self.schema.as_ref().clone())?;
        state.create_physical_expr(filter, &schema).map(Some)
    }

    /// The columns that a scan of the files gives.
    fn file_columns(&self, some_dead: bool) -> TableSchema {
        let columns = TableSchema::builder(self.schema.clone());
        if !some_dead {
            return columns.build();
        }
        let [file, row] = added_columns();
        columns.with_table_partition_cols(vec![file]).with_virtual_columns(vec![row]).build()
    }

    fn files_scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let mut files = self.files(state, filters)?;
        if let Some(limit) = limit.filter(|_| filters.is_empty()) {
            let mut rows = 0;
            let needed = files.iter().take_while(|file| {
                let more = rows < limit as u64;
                rows += live_rows(file);
                more
            });
            let needed = needed.count();
            files.truncate(needed);
        }
        if files.is_empty() {
            return Ok(None);
        }
        metrics::FILES_READ.add(files.len() as u64);
        let dead: DeadRows = files.iter().map(|file| file.deleted.clone().filter(|dead| !dead.is_empty())).collect();
        let some_dead = dead.iter().any(Option::is_some);
        let columns = self.file_columns(some_dead);
        let all_columns = columns.table_schema().clone();
        let url = ObjectStoreUrl::local_filesystem();
        let readers = SealedReaders { metadata: state.runtime_env().cache_manager.get_file_metadata_cache() };
        let mut source = ParquetSource::new(columns)
            .with_table_parquet_options(state.default_table_options().parquet)
            .with_parquet_file_reader_factory(Arc::new(readers));
        if let Some(predicate) = self.predicate(state, filters)? {
            source = source.with_predicate(predicate);
        }
        let rows = files.iter().map(|file| file.rows as usize).sum();
        let mut statistics = Statistics::new_unknown(&all_columns);
        statistics.num_rows = if filters.is_empty() { Precision::Exact(rows) } else { Precision::Inexact(rows) };
        let pieces = files.iter().enumerate().map(|(number, file)| match some_dead {
            true => numbered(planned(file, &self.schema), number),
            false => planned(file, &self.schema),
        });
        let groups = FileGroup::new(pieces.collect()).split_files(state.config().target_partitions().max(1));
        let own = 0..self.schema.fields().len();
        let mut projection = projection.cloned().unwrap_or_else(|| own.clone().collect());
        projection.extend(own.end..all_columns.fields().len());
        let mut config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(Some(projection))?
            // Dead rows must not use it up.
            .with_limit(limit.filter(|_| !some_dead))
            .with_statistics(statistics);
        if self.view.schema.columns.iter().any(|c| c.missing_value.is_some()) {
            config = config.with_expr_adapter(Some(Arc::new(MissingValues { view: self.view.clone() })));
        }
        let scan = DataSourceExec::from_data_source(config.build());
        Ok(Some(if some_dead { Arc::new(LivingRows::new(scan, dead)) } else { scan }))
    }
}

#[async_trait]
impl TableProvider for LiveTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        parts.extend(self.files_scan(state, projection, filters, limit)?);
        let hot = self.hot(projection)?;
        let projected = match projection {
            Some(indexes) => Arc::new(self.schema.project(indexes)?),
            None => self.schema.clone(),
        };
        if !hot.is_empty() {
            let source = MemorySourceConfig::try_new(&[hot], projected.clone(), None)?.with_limit(limit);
            parts.push(DataSourceExec::from_data_source(source));
        }
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(projected))),
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // They choose files, row groups and pages; the filter above still looks at every row.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(self.view.rows as usize);
        Some(statistics)
    }
}

/// The value of a column in rows that were written before it was added: the source's default of that moment, else NULL.
fn missing(view: &TableView, column: &str, kind: &arrow::datatypes::DataType) -> ScalarValue {
    let text = view.schema.columns.iter().find(|c| c.name.as_ref() == column).and_then(|c| c.missing_value.as_deref());
    let value = text.and_then(|text| ScalarValue::Utf8(Some(text.to_string())).cast_to(kind).ok());
    value.or_else(|| ScalarValue::try_from(kind).ok()).unwrap_or(ScalarValue::Null)
}

/// Reads columns that a file does not have as their missing value.
#[derive(Debug)]
struct MissingValues {
    view: Arc<TableView>,
}

#[derive(Debug)]
struct MissingValuesAdapter {
    values: HashMap<String, ScalarValue>,
    rest: Arc<dyn PhysicalExprAdapter>,
}

impl PhysicalExprAdapterFactory for MissingValues {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let absent = logical.fields().iter().filter(|f| physical.field_with_name(f.name()).is_err());
        let values = absent.map(|f| (f.name().clone(), missing(&self.view, f.name(), f.data_type()))).collect();
        let rest = DefaultPhysicalExprAdapterFactory {}.create(logical, physical)?;
        Ok(Arc::new(MissingValuesAdapter { values, rest }))
    }
}

impl PhysicalExprAdapter for MissingValuesAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        self.rest.rewrite(replace_columns_with_literals(expr, &self.values)?)
    }
}
