//! Postgres's SQL that the engine reads otherwise or not at all, put into words that it knows.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, DuplicateTreatment, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, Interval, ObjectName, OrderByExpr,
    OrderByOptions, Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor, TimezoneInfo,
    UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
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

pub(super) fn text(value: impl Into<String>) -> Expr {
    Expr::value(Value::SingleQuotedString(value.into()))
}

pub(super) fn number(value: impl ToString) -> Expr {
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
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } => of_cast(expr, data_type),
        Expr::TypedString(typed) => of_cast(&Expr::Value(typed.value.clone()), &typed.data_type),
        Expr::Interval(interval) => of_interval(interval),
        Expr::Between { expr, negated, low, high } => Some(of_between(expr, *negated, low, high)),
        Expr::InList { expr, list, negated } => of_list(expr, list, *negated),
        Expr::Case { operand: Some(operand), conditions, .. } => of_case(operand, conditions, expr),
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => of_number(digits),
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

/// Whole numbers beyond bigint are numeric, and so are numbers with an exponent.
fn of_number(digits: &str) -> Option<Expr> {
    let whole = digits.bytes().all(|b| b.is_ascii_digit());
    ((whole && digits.parse::<i64>().is_err()) || digits.contains(['e', 'E'])).then(|| call("pg_numeric", vec![text(digits)]))
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
        "nullif" => {
            let args = args()?;
            let [left, right] = args.as_slice() else { return None };
            let equal = CaseWhen { condition: compared(left, BinaryOperator::Eq, right), result: Expr::value(Value::Null) };
            Some(Expr::Nested(Box::new(Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions: vec![equal],
                else_result: Some(Box::new(left.clone())),
            })))
        }
        "array_agg" | "string_agg" => sorted_when_distinct(function),
        "log" if args()?.len() == 1 => renamed("log10"),
        "make_interval" => of_make_interval(function),
        "percentile_disc" => of_percentile(function, args()?.first()?),
        // All of them, not the first alone.
        "array_remove" => renamed("array_remove_all"),
        "array_replace" => renamed("array_replace_all"),
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
        _ => of_sets(function, &name, args()?),
    }
}

/// Functions that make one JSON of many rows, or many rows of one value.
fn of_sets(function: &Function, name: &str, args: Vec<Expr>) -> Option<Expr> {
    match name {
        "json_agg" | "jsonb_agg" => {
            let inner = with_arguments(function, "array_agg", |args| Some(vec![call("to_json", vec![args.first()?.clone()])]))?;
            Some(call("pg_json_list", vec![inner]))
        }
        "json_object_agg" | "jsonb_object_agg" => {
            let inner = with_arguments(function, "array_agg", |args| Some(vec![call("pg_json_member", args.to_vec())]))?;
            Some(call("pg_json_members", vec![inner]))
        }
        "jsonb_array_elements" | "json_array_elements" => Some(call("unnest", vec![call("pg_json_elements", args)])),
        "jsonb_array_elements_text" | "json_array_elements_text" => {
            Some(call("unnest", vec![call("pg_json_elements_text", args)]))
        }
        "jsonb_object_keys" | "json_object_keys" => Some(call("unnest", vec![call("pg_json_keys", args)])),
        "regexp_split_to_table" => Some(call("unnest", vec![call("regexp_split_to_array", args)])),
        "regexp_matches" => {
            let all = args.get(2).and_then(string_of).is_some_and(|flags| flags.contains('g'));
            Some(if all { call("unnest", vec![call("pg_regexp_matches", args)]) } else { call("regexp_match", args) })
        }
        "regexp_substr" => Some(call("array_element", vec![call("pg_regexp_first", args), number(1)])),
        _ => None,
    }
}

/// Values without repetition come sorted, unless an order is named.
fn sorted_when_distinct(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let ordered = list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
    if list.duplicate_treatment != Some(DuplicateTreatment::Distinct) || ordered || function.over.is_some() {
        return None;
    }
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(first)) = list.args.first()? else { return None };
    let options = OrderByOptions { asc: None, nulls_first: None };
    let order = OrderByExpr { expr: first.clone(), options, with_fill: None };
    let mut list = list.clone();
    list.clauses.push(FunctionArgumentClause::OrderBy(vec![order]));
    Some(Expr::Function(Function { args: FunctionArguments::List(list), ..function.clone() }))
}

/// The same call (order, filter) of another function of other arguments.
fn with_arguments(function: &Function, name: &str, make: impl Fn(&[Expr]) -> Option<Vec<Expr>>) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    let args = make(&list.args.iter().map(plain).collect::<Option<Vec<_>>>()?)?;
    let mut list = list.clone();
    list.args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Some(Expr::Function(Function { name: named(name), args: FunctionArguments::List(list), ..function.clone() }))
}

/// `percentile_disc(p) WITHIN GROUP (ORDER BY x)`: the value at that place of the sorted ones.
fn of_percentile(function: &Function, fraction: &Expr) -> Option<Expr> {
    let [OrderByExpr { expr: value, options, .. }] = function.within_group.as_slice() else { return None };
    let known = Expr::IsNotNull(Box::new(value.clone()));
    let filter = match &function.filter {
        Some(filter) => both(Expr::Nested(filter.clone()), BinaryOperator::And, known),
        None => known,
    };
    let filtered = |name: &str| match call(name, vec![value.clone()]) {
        Expr::Function(call) => Expr::Function(Function { filter: Some(Box::new(filter.clone())), ..call }),
        other => other,
    };
    let direction = if options.asc == Some(false) { "DESC" } else { "ASC" };
    let sorted = call("array_sort", vec![filtered("array_agg"), text(direction)]);
    let share = Expr::BinaryOp {
        left: Box::new(Expr::Nested(Box::new(fraction.clone()))),
        op: BinaryOperator::Multiply,
        right: Box::new(filtered("count")),
    };
    let place = call("greatest", vec![number(1), call("pg_int8", vec![call("ceil", vec![share])])]);
    Some(call("array_element", vec![sorted, place]))
}

/// `make_interval(years, months, weeks, days, hours, mins, secs)`, by place or by name.
fn of_make_interval(function: &Function) -> Option<Expr> {
    const NAMES: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];
    let FunctionArguments::List(list) = &function.args else { return None };
    let mut values = vec![number(0); NAMES.len()];
    for (at, arg) in list.args.iter().enumerate() {
        let (place, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (at, value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                (NAMES.iter().position(|known| name.value.eq_ignore_ascii_case(known))?, value)
            }
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
                (NAMES.iter().position(|known| name.value.eq_ignore_ascii_case(known))?, value)
            }
            _ => return None,
        };
        *values.get_mut(place)? = value.clone();
    }
    Some(call("pg_make_interval", values))
}

/// The function that reads or converts to a type as Postgres does, with further arguments.
fn cast_function(to: &DataType) -> Option<(&'static str, Vec<Expr>)> {
    let zoned = |zone: &TimezoneInfo| matches!(zone, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz);
    let digits = |info: &ExactNumberInfo| match info {
        ExactNumberInfo::None => Vec::new(),
        ExactNumberInfo::Precision(precision) => vec![number(precision), number(0)],
        ExactNumberInfo::PrecisionAndScale(precision, scale) => vec![number(precision), number(scale)],
    };
    let bare = |name| Some((name, Vec::new()));
    match to {
        DataType::Date => bare("pg_date"),
        DataType::Time(_, zone) if !zoned(zone) => bare("pg_time"),
        DataType::Timestamp(_, zone) if zoned(zone) => bare("pg_timestamptz"),
        DataType::Timestamp(..) => bare("pg_timestamp"),
        DataType::Interval { .. } => bare("pg_interval"),
        DataType::Uuid => bare("pg_uuid"),
        DataType::JSON => bare("pg_json"),
        DataType::JSONB => bare("pg_jsonb"),
        DataType::Bytea => bare("pg_bytea"),
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => Some(("pg_numeric", digits(info))),
        _ => match to.to_string().to_uppercase().trim_start_matches("PG_CATALOG.") {
            "TEXT" | "VARCHAR" | "CHARACTER VARYING" => bare("pg_text"),
            "SMALLINT" | "INT2" => bare("pg_int2"),
            "INT" | "INTEGER" | "INT4" => bare("pg_int4"),
            "BIGINT" | "INT8" => bare("pg_int8"),
            "DOUBLE PRECISION" | "FLOAT8" | "FLOAT" | "DOUBLE" => bare("pg_float8"),
            "TIMESTAMPTZ" => bare("pg_timestamptz"),
            _ => None,
        },
    }
}

fn of_cast(inner: &Expr, to: &DataType) -> Option<Expr> {
    let length = text_length(to);
    let value = match inner {
        Expr::Value(ValueWithSpan { value, .. }) => Some(value),
        _ => None,
    };
    match value {
        // A parameter takes the type that it is cast to; those without an Arrow type of their own are read.
        Some(Value::Placeholder(_)) => match to {
            DataType::Uuid | DataType::JSON | DataType::JSONB => {}
            _ => return None,
        },
        Some(Value::Null) if !matches!(to, DataType::Uuid | DataType::JSON | DataType::JSONB) => return None,
        Some(Value::Number(..) | Value::Boolean(_)) | None => {}
        // A text is text already; the time of day is asked when the statement runs.
        Some(_) if length.is_some() => return of_text_cast(length, inner, to),
        Some(_) if matches!(cast_function(to), Some(("pg_text", _))) => return None,
        Some(_) => {
            if let Some(moment) = moment_word(string_of(inner)) {
                return of_cast(&moment, to);
            }
        }
    }
    if let Some((name, rest)) = cast_function(to) {
        let mut args = vec![inner.clone()];
        args.extend(rest);
        return Some(call(name, args));
    }
    match value {
        Some(value) if !matches!(value, Value::Number(..) | Value::Boolean(_)) => None,
        _ => of_text_cast(length, &call("pg_text", vec![inner.clone()]), to),
    }
}

/// `'now'`, `'today'` and their kin.
fn moment_word(text: Option<&str>) -> Option<Expr> {
    let today = |shift: i64| {
        let today = Box::new(call("current_date", Vec::new()));
        Expr::Nested(Box::new(Expr::BinaryOp { left: today, op: BinaryOperator::Plus, right: Box::new(number(shift)) }))
    };
    match text?.trim().to_lowercase().as_str() {
        "now" => Some(call("now", Vec::new())),
        "today" => Some(call("current_date", Vec::new())),
        "tomorrow" => Some(today(1)),
        "yesterday" => Some(today(-1)),
        _ => None,
    }
}

/// `interval '1 day'`, `interval '1' day`.
fn of_interval(interval: &Interval) -> Option<Expr> {
    let given = string_of(&interval.value)?;
    let bare = given.trim().parse::<f64>().is_ok();
    Some(call(
        "pg_interval",
        vec![match &interval.leading_field {
            Some(field) if bare && interval.last_field.is_none() => text(format!("{given} {field}")),
            _ => text(given),
        }],
    ))
}

fn compared(left: &Expr, op: BinaryOperator, right: &Expr) -> Expr {
    let nested = |expr: &Expr| Box::new(Expr::Nested(Box::new(expr.clone())));
    Expr::BinaryOp { left: nested(left), op, right: nested(right) }
}

fn both(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
}

/// `a BETWEEN b AND c` by comparisons, so that both ends are read by the type of `a`.
fn of_between(expr: &Expr, negated: bool, low: &Expr, high: &Expr) -> Expr {
    match negated {
        false => both(compared(expr, BinaryOperator::GtEq, low), BinaryOperator::And, compared(expr, BinaryOperator::LtEq, high)),
        true => both(compared(expr, BinaryOperator::Lt, low), BinaryOperator::Or, compared(expr, BinaryOperator::Gt, high)),
    }
}

/// Longer lists stay lists; the engine reads their texts.
const LISTED_TEXTS_MAX: usize = 64;

/// `a IN ('x', 'y')` by comparisons, so that the texts are read by the type of `a`.
fn of_list(expr: &Expr, list: &[Expr], negated: bool) -> Option<Expr> {
    if list.is_empty() || list.len() > LISTED_TEXTS_MAX || !list.iter().all(|item| string_of(item).is_some()) {
        return None;
    }
    let (op, joined) = match negated {
        false => (BinaryOperator::Eq, BinaryOperator::Or),
        true => (BinaryOperator::NotEq, BinaryOperator::And),
    };
    list.iter().map(|item| compared(expr, op.clone(), item)).reduce(|left, right| both(left, joined.clone(), right)).map(nested)
}

fn nested(expr: Expr) -> Expr {
    if matches!(expr, Expr::Nested(_)) { expr } else { Expr::Nested(Box::new(expr)) }
}

/// `CASE a WHEN b THEN c END` by comparisons.
fn of_case(operand: &Expr, conditions: &[CaseWhen], case: &Expr) -> Option<Expr> {
    let Expr::Case { case_token, end_token, else_result, .. } = case else { return None };
    let when = |when: &CaseWhen| CaseWhen {
        condition: compared(operand, BinaryOperator::Eq, &when.condition),
        result: when.result.clone(),
    };
    Some(Expr::Case {
        case_token: case_token.clone(),
        end_token: end_token.clone(),
        operand: None,
        conditions: conditions.iter().map(when).collect(),
        else_result: else_result.clone(),
    })
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
        check("SELECT date '2024-01-01', 'x'::uuid, $1::uuid", "SELECT pg_date('2024-01-01'), pg_uuid('x'), pg_uuid($1)");
        check("SELECT interval '1' day, a::numeric(5,2)", "SELECT pg_interval('1 DAY'), pg_numeric(a, 5, 2)");
        check("SELECT a IN ('x', 'y')", "SELECT ((a) = ('x') OR (a) = ('y'))");
        check("SELECT a BETWEEN 1 AND 2", "SELECT ((a) >= (1) AND (a) <= (2))");
        check("SELECT CASE a WHEN 1 THEN 2 END", "SELECT CASE WHEN (a) = (1) THEN 2 END");
        check("SELECT array_agg(DISTINCT a)", "SELECT array_agg(DISTINCT a ORDER BY a)");
        check("SELECT 9223372036854775808", "SELECT pg_numeric('9223372036854775808')");
        check("SELECT 'today'::date", "SELECT pg_date(current_date())");
        check("SELECT a::varchar(3), 'ab'::char(4)", "SELECT left(pg_text(a), 3), rpad(left('ab', 4), 4)");
        check("SELECT * FROM generate_series(1, 3) AS g", "SELECT * FROM generate_series(1, 3) AS g (g)");
        check("SELECT 1 WHERE a SIMILAR TO '(x|y)%.'", "SELECT 1 WHERE (a ~ '^(?:(x|y).*\\.)$')");
        check("SELECT extract(epoch FROM a)", "SELECT pg_extract('epoch', a)");
        check("SELECT mod(a + 1, 2)", "SELECT ((a + 1) % (2))");
    }
}
