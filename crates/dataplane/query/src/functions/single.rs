//! `pg_single`: the value of the only row of a subquery that stands for a value; more rows are an error, as in Postgres.

use super::scalar::own_error;
use crate::codes;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use mainstem_types::Error;
use std::sync::Arc;

pub(super) fn function() -> AggregateUDF {
    AggregateUDF::from(Single { signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Single {
    signature: Signature,
}

impl AggregateUDFImpl for Single {
    fn name(&self) -> &str {
        "pg_single"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }
    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        let field = fields.first().map_or_else(|| Field::new("", DataType::Null, true), |field| field.as_ref().clone());
        Ok(Arc::new(field.with_name("pg_single").with_nullable(true)))
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One { value: ScalarValue::try_from(args.return_field.data_type())?, rows: 0 }))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = Field::new("value", args.return_field.data_type().clone(), true);
        Ok(vec![Arc::new(value), Arc::new(Field::new("rows", DataType::Int64, true))])
    }
}

#[derive(Debug)]
struct One {
    value: ScalarValue,
    rows: i64,
}

impl One {
    fn take(&mut self, values: &ArrayRef, row: usize, rows: i64) -> Result<()> {
        if rows > 0 {
            self.rows += rows;
            self.value = ScalarValue::try_from_array(values, row)?;
        }
        if self.rows > 1 {
            let error = Error::fix(codes::ONE_ROW, "more than one row returned by a subquery used as an expression");
            return Err(own_error(error.hint("Add LIMIT 1, or an aggregate such as max().")));
        }
        Ok(())
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values.first() {
            Some(values) if !values.is_empty() => self.take(values, 0, values.len() as i64),
            _ => Ok(()),
        }
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, rows] = states else { return Ok(()) };
        let rows = rows.as_primitive::<Int64Type>();
        (0..rows.len()).try_for_each(|row| self.take(values, row, rows.value(row)))
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Int64(Some(self.rows))])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.value.size()
    }
}
