//! Operators whose meaning in Postgres differs from the engine's, decided by the types of their sides.

use super::casts::is_interval;
use super::scalar::is_text;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawWindowExpr};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, WindowFunctionDefinition, binary_expr, lit,
};
use datafusion::prelude::cast;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use mainstem_types::schema::SOURCE_TYPE_KEY;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) type FunctionsByName = Arc<HashMap<String, Arc<ScalarUDF>>>;

#[derive(Debug)]
pub(crate) struct Operators {
    functions: FunctionsByName,
}

impl Operators {
    pub(super) fn new(functions: FunctionsByName) -> Self {
        Self { functions }
    }

    fn call(&self, name: &str, args: Vec<Expr>) -> Option<Expr> {
        let function = self.functions.get(name)?.clone();
        Some(Expr::ScalarFunction(ScalarFunction::new_udf(function, args)))
    }

    /// A call about a column; other expressions stay.
    fn of_column(&self, name: &str, expr: Expr) -> Expr {
        match expr {
            Expr::Column(_) => self.call(name, vec![expr.clone()]).unwrap_or(expr),
            expr => expr,
        }
    }

    /// What to order by in the place of an expression whose own order is not Postgres's.
    fn order_key(&self, expr: &Expr, schema: &DFSchema) -> Option<Expr> {
        let interval = |expr: Expr| self.call("pg_interval_key", vec![expr]);
        match held_as(expr, schema) {
            Some(Held::Number) => self.call("pg_number_key", vec![expr.clone()]),
            Some(Held::Interval) => interval(self.call("pg_interval", vec![expr.clone()])?),
            None if is_interval(&expr.get_type(schema).ok()?) => interval(expr.clone()),
            None => None,
        }
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
            BinaryOperator::Question => two("pg_json_exists"),
            BinaryOperator::AtArrow if is_text(&lt) => two("pg_json_contains"),
            BinaryOperator::ArrowAt if is_text(&lt) => self.call("pg_json_contains", vec![right, left]),
            BinaryOperator::PGStartsWith => Some(datafusion::functions::expr_fn::starts_with(left, right)),
            BinaryOperator::PGOverlap => Some(datafusion::functions_nested::expr_fn::array_has_any(left, right)),
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo => {
                let (left, lt) = self.held((left, lt), &rt, schema);
                let (right, rt) = self.held((right, rt), &lt, schema);
                let made = self.arithmetic(&expr.op, (left.clone(), lt), (right.clone(), rt));
                // What was read from its text has another type than the engine was asked with.
                let changed = left != expr.left || right != expr.right;
                made.or_else(|| changed.then(|| binary_expr(left, engine_operator(&expr.op), right)))
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
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq => self.comparison(&expr.op, (left, lt), (right, rt), schema),
            _ => None,
        }
    }

    /// The side as what its text holds: numerics without precision and intervals come as their source's text, and a constant text
    /// beside a date is a date.
    fn held(&self, (expr, kind): (Expr, DataType), other: &DataType, schema: &DFSchema) -> (Expr, DataType) {
        let reader = match held_as(&expr, schema) {
            Some(Held::Number) => "pg_numeric",
            Some(Held::Interval) => "pg_interval",
            None if is_text(&kind) && is_constant(&expr) && (is_interval(other) || is_moment(other)) => "pg_interval",
            None => return (expr, kind),
        };
        let Some(read) = self.call(reader, vec![expr.clone()]) else { return (expr, kind) };
        match read.get_type(schema) {
            Ok(kind) => (read, kind),
            Err(_) => (expr, kind),
        }
    }

    /// Comparisons whose sides do not compare as the engine would: constant texts beside dates, intervals, numbers held as text.
    fn comparison(
        &self,
        op: &BinaryOperator,
        left: (Expr, DataType),
        right: (Expr, DataType),
        schema: &DFSchema,
    ) -> Option<Expr> {
        let held = (held_as(&left.0, schema), held_as(&right.0, schema));
        let ((left, lt), (right, rt)) = (left, right);
        if held.0 == Some(Held::Number) || held.1 == Some(Held::Number) {
            let key = |expr| self.call("pg_number_key", vec![self.call("pg_text", vec![expr])?]);
            return Some(binary_expr(key(left)?, engine_operator(op), key(right)?));
        }
        let spans = |held: Option<Held>, kind: &DataType| held == Some(Held::Interval) || is_interval(kind);
        if spans(held.0, &lt) || spans(held.1, &rt) {
            let key = |expr| self.call("pg_interval_key", vec![self.call("pg_interval", vec![expr])?]);
            return Some(binary_expr(key(left)?, engine_operator(op), key(right)?));
        }
        let read = |expr: &Expr, kind: &DataType, other: &DataType| {
            (is_text(kind) && is_constant(expr))
                .then(|| reader_of(other))
                .flatten()
                .and_then(|reader| self.call(reader, vec![expr.clone()]))
        };
        match (read(&left, &lt, &rt), read(&right, &rt, &lt)) {
            (Some(left), _) => Some(binary_expr(left, engine_operator(op), right)),
            (_, Some(right)) => Some(binary_expr(left, engine_operator(op), right)),
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
            // The engine keeps all places, until there is no room for whole digits.
            Multiply if matches!((&lt, &rt), (DataType::Decimal128(_, a), DataType::Decimal128(_, b)) if a + b > 28) => {
                self.call("pg_decimal_multiply", vec![left, right])
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
        let op = engine_operator(op);
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

/// What a text of the source holds where columns here have no type for it yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Number,
    Interval,
}

fn held_as(expr: &Expr, schema: &DFSchema) -> Option<Held> {
    if !matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..)) {
        return None;
    }
    let (_, field) = expr.to_field(schema).ok()?;
    if !is_text(field.data_type()) {
        return None;
    }
    match field.metadata().get(SOURCE_TYPE_KEY).map(|name| name.trim_start_matches("pg_catalog.")) {
        Some("numeric") => Some(Held::Number),
        Some("interval") => Some(Held::Interval),
        _ => None,
    }
}

fn is_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

fn is_moment(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(..) | DataType::Date32)
}

/// What reads a constant text beside a value of a type.
fn reader_of(kind: &DataType) -> Option<&'static str> {
    match kind {
        DataType::Date32 => Some("pg_date"),
        DataType::Time64(_) => Some("pg_time"),
        DataType::Timestamp(_, None) => Some("pg_timestamp"),
        DataType::Timestamp(_, Some(_)) => Some("pg_timestamptz"),
        DataType::Int16 => Some("pg_int2"),
        DataType::Int32 => Some("pg_int4"),
        DataType::Int64 => Some("pg_int8"),
        DataType::Float64 => Some("pg_float8"),
        DataType::Decimal128(..) => Some("pg_numeric"),
        DataType::Binary | DataType::BinaryView => Some("pg_bytea"),
        _ => None,
    }
}

fn engine_operator(op: &BinaryOperator) -> Operator {
    match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        _ => Operator::GtEq,
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
        if matches!(expr.func.name(), "min" | "max") {
            expr.args = expr.args.into_iter().map(|arg| self.of_column("pg_held", arg)).collect();
        }
        Ok(PlannerResult::Original(expr))
    }

    fn plan_window(&self, mut expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        if matches!(&expr.func_def, WindowFunctionDefinition::AggregateUDF(function) if function.name() == "sum") {
            expr.args = expr.args.into_iter().map(|arg| self.sum_argument(arg)).collect();
        }
        for sort in &mut expr.order_by {
            sort.expr = self.of_column("pg_held", sort.expr.clone());
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// The plan with its ORDER BYs by what texts hold, and intervals by their length.
pub(crate) fn ordered(plan: LogicalPlan, functions: &FunctionsByName) -> Result<LogicalPlan> {
    let operators = Operators { functions: functions.clone() };
    let made = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Sort(mut sort) = plan else { return Ok(Transformed::no(plan)) };
        let schema = sort.input.schema().clone();
        let mut changed = false;
        for item in &mut sort.expr {
            if let Some(key) = operators.order_key(&item.expr, &schema) {
                (item.expr, changed) = (key, true);
            }
        }
        Ok(Transformed::new_transformed(LogicalPlan::Sort(sort), changed))
    })?;
    Ok(made.data)
}
