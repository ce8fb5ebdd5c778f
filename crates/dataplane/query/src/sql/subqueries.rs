//! Subqueries in the forms that the engine can join: a value looked up for each row, `EXISTS` as a value, `= ANY (SELECT ...)`. And the
//! few words that queries over the catalogs share with all others.

use super::dialect::{call, number, text};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, GroupByExpr,
    LimitClause, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, UnaryOperator, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};
use std::ops::ControlFlow;

/// Rewrites any query.
pub(super) fn rewrite(statement: &mut Statement) {
    let _ = VisitMut::visit(statement, &mut Subqueries);
}

struct Subqueries;

impl VisitorMut for Subqueries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            for item in &mut select.projection {
                let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
                let _ = VisitMut::visit(expr, &mut ExistsAsValue);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Subquery(query) => single_value(query),
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                if let Expr::Subquery(subquery) = right.as_ref() {
                    *expr = Expr::InSubquery { expr: left.clone(), subquery: subquery.clone(), negated: false };
                }
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
                if let Expr::Subquery(subquery) = right.as_ref() {
                    *expr = Expr::InSubquery { expr: left.clone(), subquery: subquery.clone(), negated: true };
                }
            }
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                escaped(pattern, escape_char);
            }
            Expr::UnaryOp { op: UnaryOperator::PGSquareRoot, expr: inner } => *expr = call("sqrt", vec![*inner.clone()]),
            Expr::UnaryOp { op: UnaryOperator::PGCubeRoot, expr: inner } => *expr = call("cbrt", vec![*inner.clone()]),
            Expr::UnaryOp { op: UnaryOperator::PGAbs, expr: inner } => *expr = call("abs", vec![*inner.clone()]),
            Expr::Function(function) if is_named(function, "generate_subscripts") => {
                if let Some(Expr::Function(made)) = subscripts(function) {
                    *expr = Expr::Function(made);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_named(function: &Function, name: &str) -> bool {
    let last = function.name.0.last().and_then(|part| part.as_ident());
    last.is_some_and(|ident| ident.value.eq_ignore_ascii_case(name))
}

/// The engine knows the escape `\` alone.
fn escaped(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) {
    let Some(ValueWithSpan { value: Value::SingleQuotedString(mark), .. }) = escape.as_ref() else { return };
    if mark != "\\" {
        *pattern = call("pg_like_pattern", vec![pattern.clone(), text(mark.clone())]);
    }
    *escape = None;
}

/// `generate_subscripts(array, 1)`: the places of its elements.
fn subscripts(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let first = match list.args.first()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => expr.clone(),
        _ => return None,
    };
    Some(call("unnest", vec![call("pg_subscripts", vec![first])]))
}

/// Names of aggregates: a SELECT of one gives one row already.
const AGGREGATES: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
    "every",
    "json_agg",
    "jsonb_agg",
    "pg_avg",
    "json_object_agg",
    "jsonb_object_agg",
    "stddev",
    "stddev_samp",
    "stddev_pop",
    "variance",
    "var_samp",
    "var_pop",
    "corr",
    "covar_pop",
    "covar_samp",
    "percentile_cont",
    "percentile_disc",
    "mode",
    "first_value",
    "last_value",
    "pg_single",
    "bit_and",
    "bit_or",
    "median",
];

fn aggregates(expr: &mut Expr) -> bool {
    struct Finds(bool);
    impl VisitorMut for Finds {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Function(function) = expr
                && function.over.is_none()
            {
                self.0 |= AGGREGATES.iter().any(|name| is_named(function, name));
            }
            ControlFlow::Continue(())
        }
    }
    let mut finds = Finds(false);
    let _ = VisitMut::visit(expr, &mut finds);
    finds.0
}

/// A plain SELECT over tables: no groups, no DISTINCT.
fn plain(select: &Select) -> bool {
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(by, with) if by.is_empty() && with.is_empty());
    ungrouped && select.having.is_none() && select.distinct.is_none() && !select.from.is_empty()
}

/// `(SELECT x FROM t WHERE t.id = outer.id)`: the value of the only row, or, ordered with LIMIT 1, of the first. The engine joins a
/// lookup only when an aggregate says that there is one row.
fn single_value(query: &mut Query) {
    let limited = match &query.limit_clause {
        None => false,
        Some(LimitClause::LimitOffset {
            limit: Some(Expr::Value(ValueWithSpan { value: Value::Number(n, _), .. })),
            offset: None,
            ..
        }) if n == "1" => true,
        Some(_) => return,
    };
    if query.with.is_some() || query.fetch.is_some() {
        return;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    if !plain(select) {
        return;
    }
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] = select.projection.as_mut_slice()
    else {
        return;
    };
    let windowed = matches!(value, Expr::Function(function) if function.over.is_some());
    let unnests = matches!(value, Expr::Function(function) if is_named(function, "unnest"));
    if windowed || unnests || aggregates(value) {
        return;
    }
    let order = match query.order_by.as_ref().map(|order| &order.kind) {
        None => Vec::new(),
        Some(OrderByKind::Expressions(by)) => by.clone(),
        Some(OrderByKind::All(_)) => return,
    };
    if !limited {
        *value = call("pg_single", vec![value.clone()]);
    } else {
        let Expr::Function(mut first) = call("first_value", vec![value.clone()]) else { return };
        if let FunctionArguments::List(list) = &mut first.args
            && !order.is_empty()
        {
            list.clauses.push(FunctionArgumentClause::OrderBy(order));
        }
        *value = Expr::Function(first);
        query.limit_clause = None;
    }
    query.order_by = None;
}

/// `EXISTS (...)` where a value is wanted: whether there are rows to count.
struct ExistsAsValue;

impl VisitorMut for ExistsAsValue {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Exists { subquery, negated } = expr else { return ControlFlow::Continue(()) };
        let SetExpr::Select(select) = subquery.body.as_ref() else { return ControlFlow::Continue(()) };
        let limited = subquery.limit_clause.is_some() || subquery.fetch.is_some() || subquery.with.is_some();
        // LIMIT of a positive number does not change whether there is one.
        let only_limit = matches!(&subquery.limit_clause, Some(LimitClause::LimitOffset { limit: Some(Expr::Value(v)), offset: None, .. })
            if !matches!(&v.value, Value::Number(n, _) if n == "0"));
        if !plain(select) || (limited && !only_limit) {
            return ControlFlow::Continue(());
        }
        let mut counted = subquery.clone();
        let SetExpr::Select(select) = counted.body.as_mut() else { return ControlFlow::Continue(()) };
        select.projection = vec![SelectItem::UnnamedExpr(call("count", vec![number(1)]))];
        (counted.limit_clause, counted.order_by) = (None, None);
        let op = if *negated { BinaryOperator::Eq } else { BinaryOperator::Gt };
        let compared = Expr::BinaryOp { left: Box::new(Expr::Subquery(counted)), op, right: Box::new(number(0)) };
        *expr = Expr::Nested(Box::new(compared));
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::{dialect::PostgreSqlDialect, parser::Parser};

    #[test]
    fn subqueries_are_put_into_forms_that_join() {
        let check = |sql: &str, expected: &str| {
            let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
            rewrite(&mut statement);
            assert_eq!(statement.to_string(), expected, "{sql}");
        };
        check("SELECT (SELECT a FROM t WHERE t.b = u.b) FROM u", "SELECT (SELECT pg_single(a) FROM t WHERE t.b = u.b) FROM u");
        check("SELECT (SELECT max(a) FROM t) FROM u", "SELECT (SELECT max(a) FROM t) FROM u");
        check("SELECT (SELECT a FROM t ORDER BY c DESC LIMIT 1)", "SELECT (SELECT first_value(a ORDER BY c DESC) FROM t)");
        check("SELECT EXISTS (SELECT 1 FROM t)", "SELECT ((SELECT count(1) FROM t) > 0)");
        check("SELECT 1 FROM t WHERE EXISTS (SELECT 1 FROM u)", "SELECT 1 FROM t WHERE EXISTS (SELECT 1 FROM u)");
        check("SELECT a = ANY (SELECT b FROM t)", "SELECT a IN (SELECT b FROM t)");
        check("SELECT a LIKE 'x/_' ESCAPE '/'", "SELECT a LIKE pg_like_pattern('x/_', '/')");
    }
}
