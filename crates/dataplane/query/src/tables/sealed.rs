//! The seal on every table: a reader that keeps the pass it was opened with, and reads what the pass leaves of the rows.

use crate::enforce::Pass;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, DataFusionError, Result, Statistics, internal_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use mainstem_types::TableName;
use std::sync::Arc;

#[derive(Debug)]
struct Sealed {
    pass: Pass,
    table: Arc<dyn TableProvider>,
}

/// The only way by which a table of this crate becomes one that a plan can read. Fails when the pass is for another table.
pub(super) fn sealed(pass: &Pass, name: &TableName, table: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    if pass.table() != name {
        return internal_err!("the pass for {} does not open {name}", pass.table());
    }
    Ok(Arc::new(Sealed { pass: pass.clone(), table }))
}

#[async_trait]
impl TableProvider for Sealed {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(only) = self.pass.only() else { return self.table.scan(state, projection, filters, limit).await };
        // All columns, because the pass may look at any; a limit must not be used up by rows that it leaves out.
        let schema = self.schema();
        let mut all = filters.to_vec();
        all.push(only.clone());
        let scan = self.table.scan(state, None, &all, None).await?;
        let predicate = state.create_physical_expr(only.clone(), &DFSchema::try_from(schema.as_ref().clone())?)?;
        let kept: Arc<dyn ExecutionPlan> = Arc::new(FilterExec::try_new(predicate, scan)?);
        let Some(indexes) = projection else { return Ok(kept) };
        let field = |at: &usize| schema.fields().get(*at).map(|field| field.name().clone());
        let names = indexes.iter().map(field).collect::<Option<Vec<_>>>();
        let names = names.ok_or_else(|| DataFusionError::Internal("a column that the table does not have".into()))?;
        let columns = names.into_iter().map(|name| Ok((col(&name, &schema)?, name))).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, kept)?))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }

    /// Counts of all rows may not answer for those that the pass leaves.
    fn statistics(&self) -> Option<Statistics> {
        self.table.statistics().filter(|_| self.pass.only().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::prelude::{SessionContext, col, lit};

    fn table() -> Arc<dyn TableProvider> {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, true)]));
        let column = |values: Vec<i32>| Arc::new(Int32Array::from(values)) as arrow::array::ArrayRef;
        let batch = RecordBatch::try_new(schema.clone(), vec![column(vec![1, 2, 3, 4]), column(vec![1, 1, 2, 2])]).unwrap();
        Arc::new(MemTable::try_new(schema, vec![vec![batch]]).unwrap())
    }

    #[tokio::test]
    async fn a_filter_of_the_pass_holds_for_rows_counts_and_limits() {
        let name = TableName::new("s", "t");
        let pass = Pass::of_rows(&name, col("b").eq(lit(2)));
        let context = SessionContext::new();
        context.register_table("t", sealed(&pass, &name, table()).unwrap()).unwrap();
        let check = async |sql: &str, expected: &[i64]| {
            let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
            let mut found = Vec::new();
            for batch in &batches {
                let column = arrow::compute::cast(batch.column(0), &DataType::Int64).unwrap();
                found.extend(arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&column).values().to_vec());
            }
            assert_eq!(found, expected, "{sql}");
        };
        check("SELECT a FROM t ORDER BY a", &[3, 4]).await;
        check("SELECT a FROM t ORDER BY a LIMIT 1", &[3]).await;
        check("SELECT count(*) FROM t", &[2]).await;
        check("SELECT count(a) FROM t", &[2]).await;
        check("SELECT max(a) FROM t WHERE a < 4", &[3]).await;
        check("SELECT count(*) FROM (SELECT 1 FROM t LIMIT 3) x", &[2]).await;
        check("SELECT a FROM t WHERE b = 1", &[]).await;
    }

    #[test]
    fn a_pass_opens_its_own_table_only() {
        let pass = Pass::of_rows(&TableName::new("s", "other"), lit(true));
        assert!(sealed(&pass, &TableName::new("s", "t"), table()).is_err());
    }
}
