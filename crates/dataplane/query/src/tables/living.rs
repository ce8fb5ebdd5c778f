//! Leaves out the dead rows of what a scan of files reads.
//!
//! The scan gives two columns more than the table has, the file's number and the row's number in its file; by them the rows are looked up in
//! the files' deletion vectors, batch by batch. A selection of rows given to the Parquet reader would do the same, but costs it a
//! structure per run of living rows and partition: with every tenth row dead, a quarter of the query.

use arrow::array::{Array, AsArray, BooleanArray, PrimitiveArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::FilterBuilder;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, UInt32Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::parquet::arrow::RowNumber;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, CardinalityEffect, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::StreamExt;
use roaring::RoaringBitmap;
use std::fmt;
use std::sync::Arc;

/// Longer than any name that a source's column can have.
const FILE_COLUMN: &str = "file number for deletion vectors (longer than any name of a column)";
const ROW_COLUMN: &str = "row number for deletion vectors (longer than any name of a column)";

/// The columns that the scan has beside the table's: the file's number as a partition column, the row's as a virtual one.
pub(super) fn added_columns() -> [FieldRef; 2] {
    [
        Arc::new(Field::new(FILE_COLUMN, DataType::UInt32, false)),
        Arc::new(Field::new(ROW_COLUMN, DataType::Int64, false).with_extension_type(RowNumber)),
    ]
}

/// Dead rows of the files of a scan, by their numbers in it.
pub(super) type DeadRows = Arc<[Option<Arc<RoaringBitmap>>]>;

/// A plan's node that lets through the rows that are live. The last two columns of its input are `added_columns`.
#[derive(Debug)]
pub(super) struct LivingRows {
    input: Arc<dyn ExecutionPlan>,
    dead: DeadRows,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl LivingRows {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, dead: DeadRows) -> Self {
        let schema = input.schema();
        let columns = schema.fields().len().saturating_sub(added_columns().len());
        let schema = Arc::new(Schema::new(schema.fields().iter().take(columns).cloned().collect::<Vec<_>>()));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, dead, schema, properties: Arc::new(properties) }
    }

    fn dead_total(&self) -> usize {
        self.dead.iter().flatten().map(|dead| dead.len() as usize).sum()
    }
}

impl DisplayAs for LivingRows {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LivingRowsExec: dead={}", self.dead_total())
    }
}

impl ExecutionPlan for LivingRows {
    fn name(&self) -> &str {
        "LivingRowsExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        // Else a sort would come before it, and sort the dead rows too.
        vec![false]
    }
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // An exchange below would carry the dead rows too, and mix the rows of a file.
        vec![false]
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = if children.len() == 1 { children.remove(0) } else { self.input.clone() };
        Ok(Arc::new(Self::new(input, self.dead.clone())))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (dead, schema) = (self.dead.clone(), self.schema.clone());
        let living = self.input.execute(partition, context)?.filter_map(move |batch| {
            let living = batch.and_then(|batch| living(&batch, &dead, &schema));
            std::future::ready(living.transpose())
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), living)))
    }
    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }
    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut made = Statistics::new_unknown(&self.schema);
        let rows = inputs.first().map_or(Precision::Absent, |input| input.num_rows);
        let rows = rows.map(|rows| rows.saturating_sub(self.dead_total()));
        // Which of the dead rows are in one partition is not known.
        made.num_rows = if args.partition().is_none() { rows } else { rows.to_inexact() };
        Ok(Arc::new(made))
    }
    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }
    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(filters, &self.children())
    }
    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }
}

/// The table's columns of the rows that are alive; None when none is.
fn living(batch: &RecordBatch, dead: &DeadRows, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
    let Some((columns, [files, rows])) = batch.columns().split_last_chunk::<2>() else {
        return internal_err!("a scan of files lacks the columns for dead rows");
    };
    let (files, rows) = (column::<UInt32Type>(files)?, column::<Int64Type>(rows)?);
    let made = |columns: Vec<_>, rows: usize| {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?))
    };
    let mask = mask(files.values(), rows.values(), dead);
    match mask.as_ref().map_or(batch.num_rows(), BooleanBuffer::count_set_bits) {
        0 => Ok(None),
        all if all == batch.num_rows() => made(columns.to_vec(), all),
        some => {
            let mask = BooleanArray::new(mask.unwrap_or_else(|| BooleanBuffer::new_set(batch.num_rows())), None);
            let only = FilterBuilder::new(&mask).optimize().build();
            let columns = columns.iter().map(|column| only.filter(column)).collect::<Result<_, _>>();
            made(columns?, some)
        }
    }
}

fn column<T: ArrowPrimitiveType>(array: &dyn Array) -> Result<&PrimitiveArray<T>> {
    match array.as_primitive_opt::<T>() {
        Some(array) => Ok(array),
        None => internal_err!("a scan of files gives {} for a number", array.data_type()),
    }
}

/// Which rows are alive; None: all.
fn mask(files: &[u32], rows: &[i64], dead: &DeadRows) -> Option<BooleanBuffer> {
    let dead_of = |file: u32| dead.get(file as usize).and_then(Option::as_ref);
    let row = |at: i64| u32::try_from(at).unwrap_or(u32::MAX);
    let (Some(file), Some(first), Some(last)) = (files.first(), rows.first(), rows.last()) else { return None };
    let one_file = files.last() == Some(file) && files.iter().all(|other| other == file);
    // Row numbers only grow within a piece of a file, so these are all rows between the first and the last.
    if one_file && last.checked_sub(*first) == Some(rows.len() as i64 - 1) {
        let mut gone = dead_of(*file)?.range(row(*first)..=row(*last)).peekable();
        gone.peek()?;
        let mut words = vec![u64::MAX; rows.len().div_ceil(64)];
        for at in gone.map(|gone| i64::from(gone) - first) {
            if let Some(word) = words.get_mut(at as usize / 64) {
                *word &= !(1 << (at % 64));
            }
        }
        return Some(BooleanBuffer::new(words.into(), 0, rows.len()));
    }
    let alive = |at: usize| !dead_of(files[at]).is_some_and(|dead| dead.contains(row(rows[at])));
    Some(BooleanBuffer::collect_bool(rows.len(), alive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, UInt32Array};

    fn check(rows: &[(u32, i64)], expected: &[(u32, i64)]) {
        let bitmap = |rows: &[u32]| Some(Arc::new(rows.iter().copied().collect::<RoaringBitmap>()));
        let dead: DeadRows = Arc::new([bitmap(&[0, 2, 70, 71, 200]), None, bitmap(&[1])]);
        let files: ArrayRef = Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(file, _)| *file)));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, row)| *row)));
        let field = |name: &str, kind| Field::new(name, kind, false);
        let table = Schema::new(vec![field("f", DataType::UInt32), field("r", DataType::Int64)]);
        let mut fields = table.fields().to_vec();
        fields.extend(added_columns());
        let columns = vec![files.clone(), numbers.clone(), files.clone(), numbers.clone()];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let made = living(&batch, &dead, &Arc::new(table)).unwrap();
        let made = made.map_or(Vec::new(), |batch| {
            let (files, rows) = (column::<UInt32Type>(batch.column(0)).unwrap(), column::<Int64Type>(batch.column(1)).unwrap());
            files.values().iter().copied().zip(rows.values().iter().copied()).collect()
        });
        assert_eq!(made, expected, "{rows:?}");
        // A scan that needs no column still counts its rows.
        let batch = batch.project(&[2, 3]).unwrap();
        let made = living(&batch, &dead, &Arc::new(Schema::empty())).unwrap();
        assert_eq!(made.map_or(0, |batch| batch.num_rows()), expected.len(), "{rows:?}");
    }

    fn rows(file: u32, numbers: impl IntoIterator<Item = i64>) -> Vec<(u32, i64)> {
        numbers.into_iter().map(|row| (file, row)).collect()
    }

    #[test]
    fn only_the_dead_rows_of_the_right_file_go() {
        check(&[], &[]);
        check(&rows(0, 0..3), &rows(0, [1]));
        check(&rows(0, 3..70), &rows(0, 3..70));
        check(&rows(0, 65..75), &rows(0, (65..70).chain(72..75)));
        check(&rows(0, 70..72), &[]);
        check(&rows(1, 0..100), &rows(1, 0..100));
        check(&rows(7, 0..3), &rows(7, 0..3));
        // Pages were left out: the rows have gaps.
        check(&rows(0, [1, 2, 3, 70, 200, 201]), &rows(0, [1, 3, 201]));
        let both = [rows(0, 70..73), rows(1, 0..2), rows(2, 0..2)].concat();
        check(&both, &[rows(0, [72]), rows(1, 0..2), rows(2, [0])].concat());
    }
}
