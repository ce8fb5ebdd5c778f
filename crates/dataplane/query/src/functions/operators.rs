//! Operators whose meaning in Postgres differs from the engine's, decided by the types of their sides.

use super::scalar::is_text;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawWindowExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, binary_expr, lit};
use datafusion::logical_expr::{Operator, WindowFunctionDefinition};
use datafusion::prelude::cast;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use mainstem_types::schema::SOURCE_TYPE_KEY;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Operators {
    functions: HashMap<String, Arc<ScalarUDF>>,
}

impl Operators {
    pub(super) fn new(functions: Vec<ScalarUDF>) -> Self {
        Self { functions: functions.into_iter().map(|f| (f.name().to_string(), Arc::new(f))).collect() }
    }

    fn call(&self, name: &str, args: Vec<Expr>) -> Option<Expr> {
        let function = self.functions.get(name)?.clone();
        Some(Expr::ScalarFunction(ScalarFunction::new_udf(function, args)))
    }

    fn planned(&self, expr: &RawBinaryExpr, schema: &DFSchema) -> Option<Expr> {
        let (left, right) = (expr.left.clone(), expr.right.clone());
        let (lt, rt) = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
        let two = |name: &str| self.call(name, vec![left.clone(), right.clone()]);
        match expr.op {
            BinaryOperator::Arrow => two("pg_json_get"),
            BinaryOperator::LongArrow => two("pg_json_get_text"),
            BinaryOperator::HashArrow => two("pg_json_path"),
            BinaryOperator::HashLongArrow => two("pg_json_path_text"),
            BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply | BinaryOperator::Divide => {
                self.arithmetic(&expr.op, (left, lt), (right, rt))
            }
            BinaryOperator::StringConcat => {
                let plain = |kind: &DataType| !kind.is_nested() && !kind.is_null();
                let touched = (is_text(&lt) || is_text(&rt)) && plain(&lt) && plain(&rt);
                let padded = is_padded(&left, schema) || is_padded(&right, schema);
                if !touched || (is_text(&lt) && is_text(&rt) && !padded) {
                    return None;
                }
                let left = self.call("pg_text", vec![left])?;
                Some(binary_expr(left, Operator::StringConcat, self.call("pg_text", vec![right])?))
            }
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
                if is_padded(&left, schema) || is_padded(&right, schema) =>
            {
                self.padded_comparison(&expr.op, left, right)
            }
            _ => None,
        }
    }

    fn arithmetic(&self, op: &BinaryOperator, (left, lt): (Expr, DataType), (right, rt): (Expr, DataType)) -> Option<Expr> {
        use BinaryOperator::{Divide, Minus, Multiply, Plus};
        let moment = |kind: &DataType| matches!(kind, DataType::Timestamp(..));
        let day = |kind: &DataType| matches!(kind, DataType::Date32);
        let span = |kind: &DataType| matches!(kind, DataType::Interval(_) | DataType::Duration(_));
        let at_midnight = |expr: Expr| cast(expr, DataType::Timestamp(TimeUnit::Microsecond, None));
        match op {
            Divide if lt.is_numeric() && rt.is_numeric() && !(lt.is_integer() && rt.is_integer()) => {
                self.call("pg_divide", vec![left, right])
            }
            Divide if span(&lt) && rt.is_numeric() => {
                let inverse = self.call("pg_divide", vec![lit(1.0), right])?;
                self.call("pg_interval_times", vec![left, inverse])
            }
            Plus | Minus | Multiply if lt.is_integer() && rt.is_integer() => {
                let name = match op {
                    Plus => "pg_plus",
                    Minus => "pg_minus",
                    _ => "pg_multiply",
                };
                self.call(name, vec![left, right])
            }
            Multiply if span(&lt) && rt.is_numeric() => self.call("pg_interval_times", vec![left, right]),
            Multiply if span(&rt) && lt.is_numeric() => self.call("pg_interval_times", vec![right, left]),
            Minus if moment(&lt) && (moment(&rt) || day(&rt)) || (day(&lt) && moment(&rt)) => {
                self.call("pg_between_times", vec![left, right])
            }
            Plus if day(&lt) && span(&rt) => Some(binary_expr(at_midnight(left), Operator::Plus, right)),
            Plus if span(&lt) && day(&rt) => Some(binary_expr(at_midnight(right), Operator::Plus, left)),
            Minus if day(&lt) && span(&rt) => Some(binary_expr(at_midnight(left), Operator::Minus, right)),
            _ => None,
        }
    }

    /// char(n): spaces at the end do not count.
    fn padded_comparison(&self, op: &BinaryOperator, left: Expr, right: Expr) -> Option<Expr> {
        let op = match op {
            BinaryOperator::Eq => Operator::Eq,
            BinaryOperator::NotEq => Operator::NotEq,
            BinaryOperator::Lt => Operator::Lt,
            BinaryOperator::LtEq => Operator::LtEq,
            BinaryOperator::Gt => Operator::Gt,
            _ => Operator::GtEq,
        };
        let bare = |expr: Expr| match expr {
            Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(lit(text.trim_end_matches(' ').to_string())),
            expr => self.call("pg_text", vec![expr]),
        };
        Some(binary_expr(bare(left)?, op, bare(right)?))
    }

    /// `sum` of bigints must not wrap; constants of a CASE are small.
    fn sum_argument(&self, arg: Expr) -> Expr {
        if constant_values(&arg) {
            return arg;
        }
        self.call("pg_sum_input", vec![arg.clone()]).unwrap_or(arg)
    }
}

fn is_padded(expr: &Expr, schema: &DFSchema) -> bool {
    let source = |field: &arrow::datatypes::Field| field.metadata().get(SOURCE_TYPE_KEY).cloned();
    match expr {
        Expr::Column(_) => expr
            .to_field(schema)
            .is_ok_and(|(_, field)| matches!(source(&field).as_deref(), Some("bpchar" | "pg_catalog.bpchar"))),
        _ => false,
    }
}

fn constant_values(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) => true,
        Expr::Case(case) => {
            case.when_then_expr.iter().all(|(_, then)| constant_values(then))
                && case.else_expr.as_deref().is_none_or(constant_values)
        }
        _ => false,
    }
}

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        Ok(match self.planned(&expr, schema) {
            Some(planned) => PlannerResult::Planned(planned),
            None => PlannerResult::Original(expr),
        })
    }

    fn plan_aggregate(&self, mut expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        if expr.func.name() == "sum" {
            expr.args = expr.args.into_iter().map(|arg| self.sum_argument(arg)).collect();
        }
        Ok(PlannerResult::Original(expr))
    }

    fn plan_window(&self, mut expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        if matches!(&expr.func_def, WindowFunctionDefinition::AggregateUDF(function) if function.name() == "sum") {
            expr.args = expr.args.into_iter().map(|arg| self.sum_argument(arg)).collect();
        }
        Ok(PlannerResult::Original(expr))
    }
}
