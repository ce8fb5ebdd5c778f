//! Parsing of queries, and the differences between Postgres's SQL and DataFusion's that are mended in the syntax tree.

use super::{bounds, dialect, errors, names, postgres, subqueries, text};
use crate::codes;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, Cte, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    LimitClause, ObjectName, Query, SelectItem, SetExpr, Statement, TableFactor, Value, ValueWithSpan, Visit, VisitMut, Visitor,
    VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{
    CurrentUserVariableToSessionUserFunctionCall, FixArrayLiteral, RewriteArrayAnyAllOperation, RewritePgCatalogOperator,
    SqlStatementRewriteRule, StripCallableQualifier, StripCollate,
};
use mainstem_types::{Error, Result};
use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;

/// What the driver asyncpg asks about types that it does not know (mostly arrays), without the recursion for which there is nothing here:
/// no composites, domains and ranges.
const TYPES_OF_ASYNCPG: &str = "SELECT oid, 'pg_catalog' AS ns, typname AS name, 'b' AS kind, NULL::int AS basetype, \
     CASE WHEN typelem = 0 THEN NULL ELSE typelem END AS elemtype, CASE WHEN typelem = 0 THEN NULL ELSE ',' END AS elemdelim, \
     NULL::int AS range_subtype, NULL::text[] AS attrtypoids, NULL::text[] AS attrnames, 0 AS depth, NULL::text AS basetype_name, \
     CASE WHEN typelem = 0 THEN NULL ELSE format_type(typelem, -1) END AS elemtype_name, NULL::text AS range_subtype_name \
     FROM pg_type WHERE oid = ANY ($1::oid[]) OR oid IN (SELECT typelem FROM pg_type WHERE oid = ANY ($1::oid[])) ORDER BY typelem";

/// Calls, lists and joins in one another, and bytes, of a query over the catalogs that tools may send.
const CATALOG_NESTED_MAX: usize = 8;
const CATALOG_BYTES_MAX: usize = 32 << 10;

/// Parses one query and rewrites it. One per engine.
pub(crate) struct Rewriter {
    /// For queries over the catalogs only: some of its rules give up answers that only tools' queries can do without.
    catalog: PostgresCompatibilityParser,
    rules: Vec<Box<dyn SqlStatementRewriteRule>>,
}

impl fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewriter")
    }
}

impl Default for Rewriter {
    fn default() -> Self {
        let rules: Vec<Box<dyn SqlStatementRewriteRule>> = vec![
            Box::new(RewriteArrayAnyAllOperation),
            Box::new(StripCallableQualifier),
            Box::new(FixArrayLiteral),
            Box::new(CurrentUserVariableToSessionUserFunctionCall),
            Box::new(StripCollate),
            Box::new(RewritePgCatalogOperator),
        ];
        Self { catalog: PostgresCompatibilityParser::new(), rules }
    }
}

impl Rewriter {
    /// One statement. `oid_of` finds a relation's oid by its name as written, for `'shop.film'::regclass`.
    pub(crate) fn parse(&self, sql: &str, oid_of: &dyn Fn(&str) -> Option<i32>) -> Result<Statement> {
        let sql = if sql.contains("typeinfo_tree(") { TYPES_OF_ASYNCPG } else { sql };
        let tokens = text::tokens(sql)?;
        bounds::check_tokens(&tokens, sql)?;
        let mut statements = postgres::parse(words(tokens))?.map_err(|error| errors::syntax(error, sql))?;
        if statements.len() != 1 {
            return Err(Error::fix(codes::SYNTAX, "one statement was expected here"));
        }
        let mut statement = statements.remove(0);
        let nested = bounds::check_tree(&mut statement)?;
        // That parser takes time by a power of the nesting; what tools ask is shallow.
        if nested <= CATALOG_NESTED_MAX
            && sql.len() <= CATALOG_BYTES_MAX
            && reads_catalog_only(&statement)
            && let Ok(mut rewritten) = self.catalog.parse(sql)
            && rewritten.len() == 1
        {
            statement = rewritten.remove(0);
            let _ = VisitMut::visit(&mut statement, &mut ArraysOfQueries);
            let _ = VisitMut::visit(&mut statement, &mut RelationNames);
            names::assign(&mut statement);
            subqueries::rewrite(&mut statement);
            return Ok(statement);
        }
        let mut casts = RegclassCasts { oid_of, unknown: None };
        let _ = VisitMut::visit(&mut statement, &mut casts);
        if let Some(name) = casts.unknown {
            return Err(Error::fix(codes::UNKNOWN_TABLE, format!("relation \"{name}\" does not exist")));
        }
        let _ = VisitMut::visit(&mut statement, &mut Fetches);
        names::assign(&mut statement);
        subqueries::rewrite(&mut statement);
        dialect::rewrite(&mut statement);
        Ok(self.rules.iter().fold(statement, |statement, rule| rule.rewrite(statement)))
    }
}

/// Words of Postgres that the parser does not know, in words that it knows: `TABLE t`, `x ISNULL`.
fn words(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is = |token: &Token, word: &str| matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
    let word = |text: &str, span| TokenWithSpan { token: Token::make_word(text, None), span };
    let space = |span| TokenWithSpan { token: Token::Whitespace(Whitespace::Space), span };
    let mut made = Vec::with_capacity(tokens.len());
    let mut last: Option<Token> = None;
    for token in tokens {
        let starts = last.is_none() || matches!(last, Some(Token::LParen));
        // After a value, not after SELECT or a comma, where it would be a name.
        let follows = last.as_ref().is_some_and(|last| match last {
            Token::Word(w) => {
                !["select", "as", "and", "or", "not", "where", "by", "on"].contains(&w.value.to_lowercase().as_str())
            }
            Token::RParen | Token::Number(..) | Token::SingleQuotedString(_) => true,
            _ => false,
        });
        let span = token.span;
        if starts && is(&token.token, "table") {
            for text in ["SELECT", "*", "FROM"] {
                made.push(if text == "*" { TokenWithSpan { token: Token::Mul, span } } else { word(text, span) });
                made.push(space(span));
            }
        } else if follows && is(&token.token, "isnull") {
            made.extend([word("IS", span), space(span), word("NULL", span)]);
        } else {
            if !matches!(token.token, Token::Whitespace(_)) {
                last = Some(token.token.clone());
            }
            made.push(token);
            continue;
        }
        last = Some(Token::make_word("x", None));
    }
    made
}

/// Whether every table of the statement belongs to the catalogs, and there is one.
fn reads_catalog_only(statement: &Statement) -> bool {
    #[derive(Default)]
    struct Tables {
        catalog: bool,
        other: bool,
        ctes: HashSet<String>,
    }
    impl Visitor for Tables {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let ctes = query.with.iter().flat_map(|with| with.cte_tables.iter());
            self.ctes.extend(ctes.map(|Cte { alias, .. }| alias.name.value.to_lowercase()));
            ControlFlow::Continue(())
        }
        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
            let parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(|i| i.value.to_lowercase()).collect();
            match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                [.., "pg_catalog" | "information_schema", _] => self.catalog = true,
                [name] if name.starts_with("pg_") => self.catalog = true,
                [name] if self.ctes.contains(*name) => {}
                // Table functions come by here too.
                [name] if matches!(*name, "generate_series" | "unnest") => {}
                _ => self.other = true,
            }
            ControlFlow::Continue(())
        }
    }
    let mut tables = Tables::default();
    let _ = Visit::visit(statement, &mut tables);
    tables.catalog && !tables.other
}

/// `'shop.film'::regclass` becomes the table's oid.
struct RegclassCasts<'a> {
    oid_of: &'a dyn Fn(&str) -> Option<i32>,
    unknown: Option<String>,
}

impl VisitorMut for RegclassCasts<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Cast { expr: inner, data_type, .. } = expr else { return ControlFlow::Continue(()) };
        let is_regclass =
            |kind: &DataType| matches!(kind, DataType::Regclass) || kind.to_string().eq_ignore_ascii_case("pg_catalog.regclass");
        // The text of a relation is its name.
        if matches!(data_type, DataType::Text)
            && let Expr::Cast { expr: name, data_type: kind, .. } = inner.as_ref()
            && is_regclass(kind)
            && let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = name.as_ref()
            && (self.oid_of)(text).is_some()
        {
            *expr = *name.clone();
            return ControlFlow::Continue(());
        }
        let regclass = is_regclass(data_type);
        let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(name), span }) = inner.as_ref() else {
            return ControlFlow::Continue(());
        };
        if !regclass {
            return ControlFlow::Continue(());
        }
        match name.parse::<i32>().ok().or_else(|| (self.oid_of)(name)) {
            Some(oid) => *expr = Expr::Value(ValueWithSpan { value: Value::Number(oid.to_string(), false), span: *span }),
            None => self.unknown = Some(name.clone()),
        }
        ControlFlow::Continue(())
    }
}

/// `ARRAY(SELECT ...)` in tools' queries (members of roles, options of relations), and values from empty catalogs: there is nothing of
/// that kind here, so NULL.
struct ArraysOfQueries;

impl VisitorMut for ArraysOfQueries {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let FunctionArguments::Subquery(_) = function.args
            && function.name.to_string().eq_ignore_ascii_case("array")
        {
            *expr = null_of(DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(DataType::Text), None)));
        }
        if let Expr::Subquery(query) = expr
            && reads_what_is_empty(query)
        {
            *expr = null_of(DataType::Text);
        }
        ControlFlow::Continue(())
    }
}

/// `c.oid::regclass` where it is shown: the relation's name. In a comparison it stays a number.
struct RelationNames;

impl RelationNames {
    fn name_of(expr: &Expr) -> Option<Expr> {
        let Expr::Cast { expr, data_type, .. } = expr else { return None };
        let regclass =
            matches!(data_type, DataType::Regclass) || data_type.to_string().eq_ignore_ascii_case("pg_catalog.regclass");
        if !regclass || matches!(expr.as_ref(), Expr::Value(_)) {
            return None;
        }
        Some(dialect::call(crate::system::RELATION_NAME, vec![*expr.clone()]))
    }
}

impl VisitorMut for RelationNames {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
                    && let Some(name) = Self::name_of(expr)
                {
                    *expr = name;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let is_text =
            |kind: &DataType| matches!(kind, DataType::Text) || kind.to_string().eq_ignore_ascii_case("pg_catalog.text");
        if let Expr::Cast { expr: inner, data_type, .. } = expr
            && is_text(data_type)
            && let Some(name) = Self::name_of(inner)
        {
            *expr = name;
        }
        ControlFlow::Continue(())
    }
}

fn null_of(data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(Expr::value(Value::Null)), data_type, array: false, format: None }
}

/// Whether a subquery looks into a catalog of things that there are none of here: defaults of columns, sequences.
fn reads_what_is_empty(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let empty = |name: &ObjectName| {
        let last = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase());
        matches!(last.as_deref(), Some("pg_attrdef" | "pg_sequence"))
    };
    select.from.iter().any(|from| matches!(&from.relation, TableFactor::Table { name, .. } if empty(name)))
}

/// `FETCH FIRST n ROWS ONLY` becomes LIMIT.
struct Fetches;

impl VisitorMut for Fetches {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(fetch) = query.fetch.take_if(|fetch| !fetch.with_ties && !fetch.percent) {
            let rows = fetch.quantity.unwrap_or_else(|| Expr::value(Value::Number("1".into(), false)));
            match &mut query.limit_clause {
                Some(LimitClause::LimitOffset { limit, .. }) => *limit = Some(rows),
                _ => query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: vec![] }),
            }
        }
        ControlFlow::Continue(())
    }
}

/// Types that the text itself gives to parameters: `$1::int8`. By number, from 1.
pub(crate) fn cast_parameters(statement: &Statement) -> Vec<(usize, DataType)> {
    struct Casts(Vec<(usize, DataType)>);
    impl Visitor for Casts {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Cast { expr, data_type, .. } = expr
                && let Some(number) = placeholder(expr)
            {
                self.0.push((number, data_type.clone()));
            }
            ControlFlow::Continue(())
        }
    }
    let mut casts = Casts(Vec::new());
    let _ = Visit::visit(statement, &mut casts);
    casts.0
}

/// Parameters whose types have a Postgres name of their own.
pub(crate) fn named_parameters(statement: &Statement) -> Vec<(usize, &'static str)> {
    struct Named(Vec<(usize, &'static str)>);
    impl Visitor for Named {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let (name, arg) = match expr {
                Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) => match list.args.as_slice() {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))] => (name.to_string(), arg),
                    _ => return ControlFlow::Continue(()),
                },
                Expr::Cast { expr, data_type, .. } => (data_type.to_string().to_lowercase(), expr.as_ref()),
                _ => return ControlFlow::Continue(()),
            };
            let source = match name.as_str() {
                "pg_uuid" => "uuid",
                "pg_json" => "json",
                "pg_jsonb" => "jsonb",
                "oid[]" => "oid[]",
                _ => return ControlFlow::Continue(()),
            };
            self.0.extend(placeholder(arg).map(|number| (number, source)));
            ControlFlow::Continue(())
        }
    }
    let mut named = Named(Vec::new());
    let _ = Visit::visit(statement, &mut named);
    named.0
}

/// The statement with `x = $1` for `x = ANY ($1)`, to learn the type of the elements, and the parameters that are arrays so.
pub(crate) fn with_elements(statement: &Statement) -> Option<(Statement, Vec<usize>)> {
    struct Arrays(Vec<usize>);
    impl VisitorMut for Arrays {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = &*expr else {
                return ControlFlow::Continue(());
            };
            if name.to_string() == "array_contains"
                && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(array)), FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] =
                    list.args.as_slice()
                && let Some(number) = placeholder(array)
            {
                self.0.push(number);
                let (left, right) = (Box::new(value.clone()), Box::new(array.clone()));
                *expr = Expr::BinaryOp { left, op: BinaryOperator::Eq, right };
            }
            ControlFlow::Continue(())
        }
    }
    let (mut statement, mut arrays) = (statement.clone(), Arrays(Vec::new()));
    let _ = VisitMut::visit(&mut statement, &mut arrays);
    (!arrays.0.is_empty()).then_some((statement, arrays.0))
}

/// The highest parameter number of a statement.
pub(crate) fn parameter_count(statement: &Statement) -> usize {
    struct Highest(usize);
    impl Visitor for Highest {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            self.0 = self.0.max(placeholder(expr).unwrap_or(0));
            ControlFlow::Continue(())
        }
    }
    let mut highest = Highest(0);
    let _ = Visit::visit(statement, &mut highest);
    highest.0
}

fn placeholder(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(id), .. }) => id.strip_prefix('$')?.parse().ok(),
        _ => None,
    }
}

/// What kind of statement it is, for what may run here at all.
pub(crate) fn check_read_only(statement: &Statement) -> Result<()> {
    let written = match statement {
        Statement::Query(query) => return check_query(query),
        Statement::Explain { statement, .. } => return check_read_only(statement),
        Statement::ExplainTable { .. } => return Ok(()),
        other => other.to_string().split_whitespace().take(5).collect::<Vec<_>>().join(" ").to_uppercase(),
    };
    let mut words = written.split_whitespace();
    let verb = words.next().unwrap_or("");
    let object = words.find(|word| !["OR", "REPLACE", "TEMP", "TEMPORARY", "UNLOGGED", "UNIQUE"].contains(word));
    match (verb, object.unwrap_or("")) {
        ("INSERT" | "UPDATE" | "DELETE" | "MERGE" | "TRUNCATE", _) | ("CREATE" | "ALTER" | "DROP", "TABLE") => {
            let shown = if object == Some("TABLE") { format!("{verb} TABLE") } else { verb.to_string() };
            let text = format!("{shown} is not possible: live tables follow their source and are read-only here");
            Err(Error::fix(codes::READ_ONLY, text)
                .hint("Write to the source database; the change is visible here within milliseconds."))
        }
        ("CREATE" | "ALTER" | "DROP" | "COMMENT", object) if OBJECTS.contains(&object) => {
            let object = if object == "MATERIALIZED" { "MATERIALIZED VIEW" } else { object };
            Err(Error::fix(codes::NOT_SUPPORTED, format!("{verb} {object} is not supported yet")))
        }
        (verb, _) => Err(Error::fix(codes::NOT_SUPPORTED, format!("{verb} is not supported yet"))),
    }
}

/// Objects that statements make, by the first word of their kind: other words may be names.
const OBJECTS: &[&str] = &[
    "VIEW",
    "MATERIALIZED",
    "FUNCTION",
    "PROCEDURE",
    "AGGREGATE",
    "SCHEMA",
    "INDEX",
    "SEQUENCE",
    "TYPE",
    "DOMAIN",
    "EXTENSION",
    "TRIGGER",
    "POLICY",
    "DATABASE",
    "ROLE",
    "USER",
    "ROUTINE",
    "OPERATOR",
    "SERVER",
    "STATISTICS",
    "ON",
];

fn check_query(query: &Query) -> Result<()> {
    if let SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) = query.body.as_ref() {
        return Err(Error::fix(codes::READ_ONLY, "live tables follow their source and are read-only here")
            .hint("Write to the source database; the change is visible here within milliseconds."));
    }
    Ok(())
}
