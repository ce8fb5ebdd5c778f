//! Partitioned and inherited parents: a view over their leaves, by column name.

use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use mainstem_types::TableName;
use mainstem_types::TableSchema;
use std::sync::Arc;

/// The columns of a parent: its own where it has rows of its own, else those that all leaves share, in the first one's order.
pub(crate) fn parent_columns(own: Option<&TableSchema>, leaves: &[&TableSchema]) -> TableSchema {
    let mut made = match own.or(leaves.first().copied()) {
        Some(schema) => schema.clone(),
        None => TableSchema {
            upstream: mainstem_types::UpstreamId(0),
            name: TableName::new("", ""),
            version: 0,
            columns: Vec::new(),
            identity: mainstem_types::Identity::AppendOnly,
            record_key: Vec::new(),
        },
    };
    if own.is_none() {
        made.columns.retain(|column| leaves.iter().all(|leaf| leaf.columns.iter().any(|c| c.name == column.name)));
    }
    made
}

/// `SELECT <columns> FROM leaf UNION ALL ...` over providers that `enforce` has let through.
pub(crate) fn view_over(
    columns: &TableSchema,
    leaves: Vec<(TableName, Arc<dyn TableProvider>)>,
) -> Result<Arc<dyn TableProvider>> {
    let schema = columns.arrow_views();
    let mut plan: Option<LogicalPlan> = None;
    for (name, provider) in leaves {
        let has = provider.schema();
        let table = datafusion::common::TableReference::partial(name.schema.as_ref(), name.name.as_ref());
        let expr = |field: &arrow::datatypes::FieldRef| -> Result<Expr> {
            let column = Expr::Column(Column::new(Some(table.clone()), field.name()));
            Ok(match has.field_with_name(field.name()).map(|f| f.data_type()) {
                Ok(kind) if kind == field.data_type() => column,
                Ok(_) => cast(column, field.data_type().clone()).alias(field.name()),
                Err(_) => lit(null_of(field.data_type())?).alias(field.name()),
            })
        };
        let exprs = schema.fields().iter().map(expr).collect::<Result<Vec<_>>>()?;
        let leaf =
            LogicalPlanBuilder::scan(table.clone(), provider_as_source(provider.clone()), None)?.project(exprs)?.build()?;
        plan = Some(match plan {
            None => leaf,
            Some(plan) => LogicalPlanBuilder::from(plan).union(leaf)?.build()?,
        });
    }
    let plan = match plan {
        Some(plan) => plan,
        None => LogicalPlanBuilder::empty(false).build()?,
    };
    Ok(Arc::new(ViewTable::new(plan, None)))
}

fn null_of(kind: &DataType) -> Result<ScalarValue> {
    ScalarValue::try_from(kind)
}
