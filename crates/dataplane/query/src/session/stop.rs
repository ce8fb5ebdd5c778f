//! Makes a running plan stop soon after nobody wants its rows: a task is ended where it pauses, so every operator that can work for long
//! must pause, and one that works without making rows must look whether it should go on.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions, reset_plan_states};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a query is to end. Set once, by whoever held its rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            // Nobody is left to read this.
            true => Err(DataFusionError::Execution("the query was stopped".into())),
            false => Ok(()),
        }
    }
}

/// The plan with pauses where rows multiply, and with join conditions that fail once `stop` is set: a join whose condition no pair of
/// rows meets works through all pairs without a row and so without a pause. Leaves pause already.
pub(super) fn stoppable(plan: Arc<dyn ExecutionPlan>, stop: &Stop) -> Result<Arc<dyn ExecutionPlan>> {
    let made = plan.transform_up(|plan| {
        let watched = |filter: &JoinFilter| {
            let expression = Arc::new(Watched { inner: filter.expression().clone(), stop: stop.clone() });
            JoinFilter::new(expression, filter.column_indices().to_vec(), filter.schema().clone())
        };
        let plan: Arc<dyn ExecutionPlan> = if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
            let filter = join.filter().map(watched);
            let joined: Arc<dyn ExecutionPlan> = Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?);
            let again = Arc::new(Again { input: join.left().clone(), started: Mutex::default() });
            let right = join.right().clone();
            joined.replace_children(vec![again, right], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?
        } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            join.builder().with_filter(join.filter().map(watched)).build_exec()?
        } else if plan.is::<CrossJoinExec>()
            || plan.is::<SortMergeJoinExec>()
            || plan.is::<UnnestExec>()
            || plan.is::<RecursiveQueryExec>()
        {
            plan
        } else {
            return Ok(Transformed::no(plan));
        };
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(made.data)
}

/// The input of a nested loop join, which the join runs a second time when it does not fit into memory: an exchange runs only once, so
/// the second run is that of a fresh copy.
#[derive(Debug)]
struct Again {
    input: Arc<dyn ExecutionPlan>,
    /// Partitions that ran once.
    started: Mutex<HashSet<usize>>,
}

impl DisplayAs for Again {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgainExec")
    }
}

impl ExecutionPlan for Again {
    fn name(&self) -> &str {
        "AgainExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        Ok(Arc::new(Self { input, started: Mutex::default() }))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        match self.started.lock().insert(partition) {
            true => self.input.execute(partition, context),
            false => reset_plan_states(self.input.clone())?.execute(partition, context),
        }
    }
}

/// A join's condition that fails when the query is to end.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    stop: Stop,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}
impl Eq for Watched {}
impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }
    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }
    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(schema)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.stop.check()?;
        self.inner.evaluate(batch)
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }
    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = if children.len() == 1 { children.remove(0) } else { self.inner.clone() };
        Ok(Arc::new(Self { inner, stop: self.stop.clone() }))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
