//! Output columns named as Postgres names them: `count`, not `count(*)`; two may have the same name.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, Query, Select, SelectItem, SetExpr, Statement, VisitMut, VisitorMut,
};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// What follows a name that had to be made unique for the planner, and is cut off again from the result's names.
const MARK: char = '\u{1}';

/// Gives every unnamed expression of every SELECT Postgres's name for it, and makes equal names differ by a mark.
pub(crate) fn assign(statement: &mut Statement) {
    let _ = statement.visit(&mut Assign);
}

/// A column's name as the client sees it.
pub(crate) fn shown(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// A line of a plan without the marks.
pub(crate) fn shown_in(line: &str) -> String {
    let mut parts = line.split(MARK);
    let first = parts.next().unwrap_or("").to_string();
    parts.fold(first, |shown, part| shown + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

struct Assign;

impl VisitorMut for Assign {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        set_expr(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn set_expr(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => name_items(select),
        SetExpr::SetOperation { left, right, .. } => {
            set_expr(left);
            set_expr(right);
        }
        _ => {}
    }
}

fn name_items(select: &mut Select) {
    let wildcard = select.projection.iter().any(|i| matches!(i, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let mut taken: HashSet<String> = HashSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => {
                let name = folded(alias);
                if !taken.insert(name.clone()) {
                    *alias = marked(&name, at);
                }
            }
            SelectItem::UnnamedExpr(expr) => {
                let plain = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                let name = name_of(expr).unwrap_or_else(|| "?column?".to_string());
                // `a.id, b.id` differ for the planner by their tables, `id, *` and `id, id` do not.
                let key = if plain && !wildcard { format!("{MARK}{expr}") } else { name.clone() };
                let first = taken.insert(key) && !(plain && wildcard);
                if plain && first {
                    continue;
                }
                let alias = if first && name != "?column?" { quoted(&name) } else { marked(&name, at) };
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            _ => {}
        }
    }
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

fn marked(name: &str, at: usize) -> Ident {
    Ident::with_quote('"', format!("{name}{MARK}{at}"))
}

/// Postgres's name for an unnamed expression (`FigureColname`).
fn name_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(folded(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded),
        Expr::Function(Function { name, .. }) => name.0.last().and_then(|part| part.as_ident()).map(folded),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => name_of(inner),
        Expr::Cast { expr, data_type, .. } => name_of(expr).or_else(|| Some(type_name(&data_type.to_string()))),
        Expr::Extract { .. } => Some("extract".into()),
        Expr::Case { else_result, .. } => else_result.as_deref().and_then(name_of).or_else(|| Some("case".into())),
        Expr::Exists { .. } => Some("exists".into()),
        Expr::Array(_) => Some("array".into()),
        Expr::Substring { .. } => Some("substring".into()),
        Expr::Trim { .. } => Some("btrim".into()),
        Expr::Position { .. } => Some("position".into()),
        Expr::Ceil { .. } => Some("ceil".into()),
        Expr::Floor { .. } => Some("floor".into()),
        Expr::Overlay { .. } => Some("overlay".into()),
        Expr::AtTimeZone { .. } => Some("timezone".into()),
        Expr::TypedString(typed) => Some(type_name(&typed.data_type.to_string())),
        Expr::Interval(_) => Some("interval".into()),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr)) => name_of(expr),
                Some(SelectItem::ExprWithAlias { alias, .. }) => Some(folded(alias)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn type_name(text: &str) -> String {
    let text = text.to_lowercase();
    let text = text.strip_prefix("pg_catalog.").unwrap_or(&text);
    let name = text.split('(').next().unwrap_or(text).trim();
    match name {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "double precision" | "double" | "float" => "float8",
        "real" => "float4",
        "boolean" => "bool",
        "decimal" | "dec" => "numeric",
        "character varying" => "varchar",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        name => name,
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::{dialect::PostgreSqlDialect, parser::Parser};

    #[test]
    fn unnamed_columns_get_postgres_names() {
        let check = |sql: &str, expected: &str| {
            let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
            assign(&mut statement);
            assert_eq!(statement.to_string().replace(MARK, "~"), expected, "{sql}");
        };
        check("SELECT a, b FROM t", "SELECT a, b FROM t");
        check("SELECT count(*) FROM t", "SELECT count(*) AS \"count\" FROM t");
        check("SELECT t.a, u.a FROM t, u", "SELECT t.a, u.a FROM t, u");
        check("SELECT a, a FROM t", "SELECT a, a AS \"a~1\" FROM t");
        check("SELECT a, * FROM t", "SELECT a AS \"a~0\", * FROM t");
        check("SELECT 1, 2", "SELECT 1 AS \"?column?~0\", 2 AS \"?column?~1\"");
        check("SELECT sum(a), sum(b) FROM t", "SELECT sum(a) AS \"sum\", sum(b) AS \"sum~1\" FROM t");
        check("SELECT x AS a, y AS A FROM t", "SELECT x AS a, y AS \"a~1\" FROM t");
        check("SELECT 'x'::text", "SELECT 'x'::TEXT AS \"text\"");
        check("SELECT (SELECT max(a) FROM t)", "SELECT (SELECT max(a) AS \"max\" FROM t) AS \"max\"");
    }
}
