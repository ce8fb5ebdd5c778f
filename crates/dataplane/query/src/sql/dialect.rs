//! Postgres's SQL that the engine reads otherwise or not at all, put into words that it knows.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor, UnaryOperator,
    Value, ValueWithSpan, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// Rewrites a query that is not about catalogs alone. After `names::assign`: what is written here must not name columns.
pub(crate) fn rewrite(statement: &mut Statement) {
    let _ = VisitMut::visit(statement, &mut Dialect);
}

struct Dialect;

impl VisitorMut for Dialect {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            series_in_projection(select);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        name_series(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(made) = rewritten(expr) {
            *expr = made;
        }
        ControlFlow::Continue(())
    }
}

/// A set in FROM has one column, under its alias or the function's name.
fn name_series(factor: &mut TableFactor) {
    let TableFactor::Table { name, alias, args: Some(_), .. } = factor else { return };
    if !name.to_string().to_lowercase().ends_with("generate_series") {
        return;
    }
    let alias = alias.get_or_insert_with(|| TableAlias {
        explicit: true,
        name: Ident::new("generate_series"),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.is_empty() {
        alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
}

/// `SELECT generate_series(1, 3)` gives rows.
fn series_in_projection(select: &mut Select) {
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
        if let Expr::Function(function) = expr
            && function_name(function).as_deref() == Some("generate_series")
        {
            *expr = call("unnest", vec![expr.clone()]);
        }
    }
}

fn function_name(function: &Function) -> Option<String> {
    let ident = function.name.0.last()?.as_ident()?;
    Some(if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() })
}

fn named(name: &str) -> ObjectName {
    ObjectName::from(vec![Ident::new(name)])
}

pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: named(name),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn text(value: impl Into<String>) -> Expr {
    Expr::value(Value::SingleQuotedString(value.into()))
}

fn number(value: impl ToString) -> Expr {
    Expr::value(Value::Number(value.to_string(), false))
}

fn string_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

/// What stands for an expression; None: it stays.
fn rewritten(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Function(function) => of_function(function),
        Expr::Cast { expr, data_type, .. } => of_cast(expr, data_type),
        Expr::Extract { field, expr, .. } => {
            Some(call("pg_extract", vec![text(field.to_string().trim_matches('\'').to_lowercase()), *expr.clone()]))
        }
        Expr::AtTimeZone { timestamp, time_zone } => Some(call("timezone", vec![*time_zone.clone(), *timestamp.clone()])),
        Expr::SimilarTo { negated, expr, pattern, escape_char: None } => {
            let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
            let pattern = text(regex_of_similar(string_of(pattern)?));
            Some(Expr::Nested(Box::new(Expr::BinaryOp { left: expr.clone(), op, right: Box::new(pattern) })))
        }
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => Some(Expr::Nested(Box::new(Expr::BinaryOp {
            left: expr.clone(),
            op: BinaryOperator::PGBitwiseXor,
            right: Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number(1)) }),
        }))),
        Expr::Substring { expr, substring_from: Some(from), substring_for: None, .. } if string_of(from).is_some() => {
            let found = call("regexp_match", vec![*expr.clone(), *from.clone()]);
            Some(call("array_element", vec![found, number(1)]))
        }
        _ => None,
    }
}

fn of_function(function: &Function) -> Option<Expr> {
    let name = function_name(function)?;
    let renamed = |to: &str| Some(Expr::Function(Function { name: named(to), ..function.clone() }));
    let args = || match &function.args {
        FunctionArguments::List(list) => {
            let plain = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            };
            list.args.iter().map(plain).collect::<Option<Vec<_>>>()
        }
        _ => None,
    };
    match name.as_str() {
        // Exact, with the sum and the count that the engine computes anyway.
        "avg" => Some(call("pg_avg", vec![renamed("sum")?, renamed("count")?])),
        "every" => renamed("bool_and"),
        "variance" => renamed("var_samp"),
        "gen_random_uuid" => renamed("uuid"),
        "mod" => {
            let mut args = args()?.into_iter();
            let (left, right, None) = (args.next()?, args.next()?, args.next()) else { return None };
            let (left, right) = (Box::new(Expr::Nested(Box::new(left))), Box::new(Expr::Nested(Box::new(right))));
            Some(Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::Modulo, right })))
        }
        "age" => {
            let mut args = args()?;
            if args.len() != 1 {
                return None;
            }
            args.insert(0, call("current_date", Vec::new()));
            Some(call("age", args))
        }
        _ => None,
    }
}

fn of_cast(inner: &Expr, to: &DataType) -> Option<Expr> {
    if let Expr::Value(ValueWithSpan { value, .. }) = inner
        && !matches!(value, Value::Number(..) | Value::Boolean(_))
    {
        // A text needs no form, NULL none either; a parameter takes the type that it is cast to.
        return of_text_cast(text_length(to), inner, to);
    }
    let spelled = to.to_string().to_uppercase();
    match spelled.as_str() {
        "TEXT" | "VARCHAR" | "CHARACTER VARYING" => Some(call("pg_text", vec![inner.clone()])),
        "SMALLINT" | "INT2" => Some(call("pg_int2", vec![inner.clone()])),
        "INT" | "INTEGER" | "INT4" => Some(call("pg_int4", vec![inner.clone()])),
        "BIGINT" | "INT8" => Some(call("pg_int8", vec![inner.clone()])),
        _ => of_text_cast(text_length(to), &call("pg_text", vec![inner.clone()]), to),
    }
}

/// varchar(n) and char(n) cut; char(n) fills with spaces.
fn of_text_cast(length: Option<u64>, inner: &Expr, to: &DataType) -> Option<Expr> {
    let length = length?;
    if matches!(inner, Expr::Value(ValueWithSpan { value: Value::Placeholder(_) | Value::Null, .. })) {
        return None;
    }
    let cut = call("left", vec![inner.clone(), number(length)]);
    let fills = !to.to_string().to_uppercase().contains("VAR");
    Some(if fills { call("rpad", vec![cut, number(length)]) } else { cut })
}

fn text_length(to: &DataType) -> Option<u64> {
    let spelled = to.to_string().to_uppercase();
    let is_text =
        ["VARCHAR(", "CHARACTER VARYING(", "CHAR(", "CHARACTER(", "BPCHAR("].iter().any(|start| spelled.starts_with(start));
    match spelled.split_once('(') {
        Some((_, rest)) if is_text => rest.trim_end_matches(')').trim().parse().ok(),
        None if matches!(spelled.as_str(), "CHAR" | "CHARACTER") => Some(1),
        _ => None,
    }
}

/// SQL's pattern as a regular expression for the whole text.
fn regex_of_similar(pattern: &str) -> String {
    let mut regex = String::from("^(?:");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '\\' => {
                regex.push('\\');
                regex.extend(chars.next());
            }
            '.' | '^' | '$' => {
                regex.push('\\');
                regex.push(c);
            }
            c => regex.push(c),
        }
    }
    regex.push_str(")$");
    regex
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::{dialect::PostgreSqlDialect, parser::Parser};

    #[test]
    fn postgres_words_are_put_into_the_engines() {
        let check = |sql: &str, expected: &str| {
            let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
            rewrite(&mut statement);
            assert_eq!(statement.to_string(), expected, "{sql}");
        };
        check(
            "SELECT avg(DISTINCT a) FILTER (WHERE b) FROM t",
            "SELECT pg_avg(sum(DISTINCT a) FILTER (WHERE b), count(DISTINCT a) FILTER (WHERE b)) FROM t",
        );
        check("SELECT a::text, 'x'::text, $1::int, b::int", "SELECT pg_text(a), 'x'::TEXT, $1::INT, pg_int4(b)");
        check("SELECT a::varchar(3), 'ab'::char(4)", "SELECT left(pg_text(a), 3), rpad(left('ab', 4), 4)");
        check("SELECT * FROM generate_series(1, 3) AS g", "SELECT * FROM generate_series(1, 3) AS g (g)");
        check("SELECT 1 WHERE a SIMILAR TO '(x|y)%.'", "SELECT 1 WHERE (a ~ '^(?:(x|y).*\\.)$')");
        check("SELECT extract(epoch FROM a)", "SELECT pg_extract('epoch', a)");
        check("SELECT mod(a + 1, 2)", "SELECT ((a + 1) % (2))");
    }
}
