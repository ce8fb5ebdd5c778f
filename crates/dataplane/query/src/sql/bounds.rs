//! How large a statement may be, found out before anything works on it: each limit is far beyond what people and their tools write, and what
//! passes is parsed, planned and dropped within the stack and the seconds that it may take.

use crate::codes;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, ObjectName, Query, Select,
    SetExpr, SetOperator, SetQuantifier, Statement, TableFactor, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use mainstem_types::{Error, Result};
use std::collections::HashMap;
use std::ops::ControlFlow;

use super::text::position;

/// Bytes of a text. A token takes about a hundred bytes, a node of the tree several hundred.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// White space counts too: each of its characters is a token.
const TOKENS_MAX: usize = 1_000_000;
/// As in the wire's protocol.
const PARAMETERS_MAX: u64 = 65_535;
/// Expressions and queries of a statement; constants take so little that only the text's bound counts for them.
const NODES_MAX: usize = 50_000;
/// Levels of the tree. Planning takes time by the square of it, for some expressions by the cube, and memory of the stack in proportion.
const DEPTH_MAX: usize = 256;
/// Tables and subqueries in FROM of a whole statement, those of a common table expression once for each use, and of one SELECT.
const RELATIONS_MAX: u64 = 2000;
const JOINED_MAX: usize = 200;
/// Subqueries as values, in EXISTS or in IN, within one another: the planner's time grows by a power of them.
const SUBQUERIES_MAX: usize = 12;
/// Expressions within one another that are planned with an operand written out more than once: each doubles what is below it.
const COPIES_MAX: usize = 8;
/// Entries of a SELECT list, as in Postgres.
pub(crate) const COLUMNS_MAX: usize = 1664;
/// Columns of a CUBE and all sets of a GROUP BY, as in Postgres.
const CUBE_MAX: usize = 12;
const GROUPING_SETS_MAX: usize = 4096;
/// Chains of AND, OR and UNION of more links than this are made into balanced trees.
const CHAIN_LONG: usize = 16;

fn too_long(what: &str, most: usize) -> Error {
    Error::fix(codes::TOO_LONG, format!("the statement is too long: at most {most} {what} are possible"))
        .hint("Split it into several statements, or pass long lists as an array parameter: x = ANY ($1).")
}

fn too_complex(what: String) -> Error {
    Error::fix(codes::TOO_COMPLEX, format!("the statement is too complex: {what}")).hint("Split it into several statements.")
}

/// Whether a text may be read. Call before `text::tokens`.
pub(crate) fn check_text(sql: &str) -> Result<()> {
    if sql.len() > TEXT_BYTES_MAX {
        return Err(too_long("bytes", TEXT_BYTES_MAX));
    }
    if sql.len() > TOKENS_MAX && tokens_most(sql) > TOKENS_MAX {
        return Err(too_long("words and spaces", TOKENS_MAX));
    }
    Ok(())
}

/// At least as many as there are tokens in the text: the parts of quoted texts do not count, but those of comments do.
fn tokens_most(sql: &str) -> usize {
    let (mut tokens, mut quoted, mut in_word) = (0, false, false);
    for byte in sql.bytes() {
        let is_word = byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
        if byte == b'\'' {
            quoted = !quoted;
            tokens += 1;
        } else if !(quoted || is_word && in_word) {
            tokens += 1;
        }
        in_word = is_word && !quoted;
    }
    tokens
}

/// Refuses parameters that cannot be.
pub(super) fn check_tokens(tokens: &[TokenWithSpan], sql: &str) -> Result<()> {
    for TokenWithSpan { token, span } in tokens {
        let Token::Placeholder(name) = token else { continue };
        let Some(digits) = name.strip_prefix('$').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())) else { continue };
        if !digits.parse::<u64>().is_ok_and(|number| (1..=PARAMETERS_MAX).contains(&number)) {
            return Err(Error::fix(codes::NO_PARAMETER, format!("there is no parameter {name}"))
                .at(position(sql, span.start))
                .hint(format!("Parameters are $1 to ${PARAMETERS_MAX}.")));
        }
    }
    Ok(())
}

/// Whether as many columns may come out of a query.
pub(crate) fn check_columns(columns: usize) -> Result<()> {
    match columns <= COLUMNS_MAX {
        true => Ok(()),
        false => Err(Error::fix(codes::TOO_MANY_COLUMNS, format!("target lists can have at most {COLUMNS_MAX} entries"))),
    }
}

/// Refuses a tree that is too large, and makes long chains of AND, OR and UNION shallow, which changes nothing of what they mean. Gives how
/// deep calls, lists and joins are nested in one another.
pub(super) fn check_tree(statement: &mut Statement) -> Result<usize> {
    let mut walk = Walk::default();
    match VisitMut::visit(statement, &mut walk) {
        ControlFlow::Continue(()) => Ok(walk.guesses_most),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Visits the tree once, parents first. What is below a node is looked at only after the node was found not to begin a chain that is too long:
/// the visit itself recurses.
#[derive(Default)]
struct Walk {
    nodes: usize,
    depth: usize,
    /// Nesting of what a parser reads twice, see `sql::postgres`.
    guesses: usize,
    guesses_most: usize,
    subqueries: usize,
    copies: usize,
    /// Tables of each query that the visit is in, and of the statement.
    relations: Vec<u64>,
    /// Common table expressions: their queries' places in memory, and what one use of them costs.
    named: HashMap<usize, String>,
    uses: HashMap<String, u64>,
}

type Flow = ControlFlow<Error>;

impl Walk {
    fn enter(&mut self) -> Flow {
        self.nodes += 1;
        self.depth += 1;
        if self.nodes > NODES_MAX {
            return ControlFlow::Break(too_long("expressions", NODES_MAX));
        }
        if self.depth > DEPTH_MAX {
            return ControlFlow::Break(too_deep());
        }
        ControlFlow::Continue(())
    }

    fn relation(&mut self, cost: u64) -> Flow {
        let Some(of_query) = self.relations.last_mut() else { return ControlFlow::Continue(()) };
        *of_query = of_query.saturating_add(cost);
        if *of_query > RELATIONS_MAX {
            return ControlFlow::Break(too_complex(format!("at most {RELATIONS_MAX} tables and subqueries are possible")));
        }
        ControlFlow::Continue(())
    }

    fn guess(&mut self) {
        self.guesses += 1;
        self.guesses_most = self.guesses_most.max(self.guesses);
    }
}

fn too_deep() -> Error {
    too_complex(format!("it is nested, or chained by operators, more than {DEPTH_MAX} deep"))
}

fn guessed(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(_) | Expr::InList { .. } | Expr::InSubquery { .. } | Expr::Position { .. })
}

fn holds_query(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. })
}

impl VisitorMut for Walk {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.named.insert(cte.query.as_ref() as *const Query as usize, cte.alias.name.value.to_lowercase());
        }
        self.relations.push(0);
        let chain = balance_union(&mut query.body);
        if self.depth + chain > DEPTH_MAX {
            dismantle_union(&mut query.body);
            return ControlFlow::Break(too_deep());
        }
        self.enter()
    }

    fn post_visit_query(&mut self, query: &mut Query) -> Flow {
        self.depth -= 1;
        let cost = self.relations.pop().unwrap_or(0);
        if let Some(name) = self.named.remove(&(std::ptr::from_ref(query) as usize)) {
            self.uses.insert(name, cost.max(1));
            return ControlFlow::Continue(());
        }
        self.relation(cost)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        if let Err(error) = check_columns(select.projection.len()).and_then(|()| check_groups(&select.group_by)) {
            return ControlFlow::Break(error);
        }
        let joined: usize = select.from.iter().map(|from| 1 + from.joins.len()).sum();
        if joined > JOINED_MAX {
            return ControlFlow::Break(too_complex(format!("at most {JOINED_MAX} tables and subqueries can be joined")));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        match factor {
            TableFactor::NestedJoin { .. } | TableFactor::Derived { .. } => self.guess(),
            TableFactor::Table { name, .. } => {
                let cost = name_of(name).and_then(|name| self.uses.get(&name)).copied().unwrap_or(1);
                return self.relation(cost);
            }
            _ => {}
        }
        self.relation(1)
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        if let TableFactor::NestedJoin { .. } | TableFactor::Derived { .. } = factor {
            self.guesses -= 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        balance(expr);
        flatten(expr);
        // Looked at now and then, so that a chain is walked few times.
        if self.depth.is_multiple_of(64) && self.depth + chain(expr) > DEPTH_MAX {
            dismantle(expr);
            return ControlFlow::Break(too_deep());
        }
        if guessed(expr) {
            self.guess();
        }
        if holds_query(expr) {
            self.subqueries += 1;
            if self.subqueries > SUBQUERIES_MAX {
                return ControlFlow::Break(too_complex(format!(
                    "more than {SUBQUERIES_MAX} subqueries are within one another in expressions"
                )));
            }
        }
        if copied(expr) {
            self.copies += 1;
            if self.copies > COPIES_MAX {
                let what = format!("more than {COPIES_MAX} of COALESCE, NULLIF, CASE, BETWEEN and IN are within one another");
                return ControlFlow::Break(too_complex(what));
            }
        }
        self.nodes -= usize::from(matches!(expr, Expr::Value(_)) && self.nodes > 0);
        self.enter()
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        self.depth -= 1;
        if guessed(expr) {
            self.guesses -= 1;
        }
        if holds_query(expr) {
            self.subqueries -= 1;
        }
        if copied(expr) {
            self.copies -= 1;
        }
        ControlFlow::Continue(())
    }
}

/// The functions become a CASE, which tests an operand and gives it; the others comparisons of it, one for each value.
fn copied(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => {
            name_of(&function.name).is_some_and(|name| matches!(name.as_str(), "coalesce" | "nullif" | "nvl" | "nvl2" | "ifnull"))
        }
        Expr::Between { .. } | Expr::Case { operand: Some(_), .. } => true,
        Expr::InList { list, .. } => list.len() > 1,
        _ => false,
    }
}

/// The arguments of a call of COALESCE that has nothing but arguments.
fn coalesced(expr: &mut Expr) -> Option<&mut Vec<FunctionArg>> {
    match expr {
        Expr::Function(Function { name, args: FunctionArguments::List(list), filter: None, over: None, .. })
            if list.duplicate_treatment.is_none()
                && list.clauses.is_empty()
                && name_of(name).is_some_and(|name| name == "coalesce") =>
        {
            Some(&mut list.args)
        }
        _ => None,
    }
}

/// `coalesce(coalesce(a, b), c)` is `coalesce(a, b, c)`. Done call by call from the outside, so that no nesting is too deep for it.
fn flatten(expr: &mut Expr) {
    let Some(args) = coalesced(expr) else { return };
    let mut rest: Vec<FunctionArg> = args.drain(..).rev().collect();
    while let Some(mut arg) = rest.pop() {
        match &mut arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(inner)) => match coalesced(inner) {
                Some(inner) => rest.extend(inner.drain(..).rev()),
                None => args.push(arg),
            },
            _ => args.push(arg),
        }
    }
}

fn name_of(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [part] => Some(part.as_ident()?.value.to_lowercase()),
        _ => None,
    }
}

fn check_groups(by: &GroupByExpr) -> Result<()> {
    let GroupByExpr::Expressions(by, _) = by else { return Ok(()) };
    let mut sets: usize = 1;
    for expr in by {
        let own = match expr {
            Expr::Cube(columns) if columns.len() > CUBE_MAX => {
                return Err(Error::fix(codes::TOO_MANY_COLUMNS, format!("CUBE is limited to {CUBE_MAX} elements")));
            }
            Expr::Cube(columns) => 1 << columns.len(),
            Expr::Rollup(columns) => columns.len() + 1,
            Expr::GroupingSets(sets) => sets.len().max(1),
            _ => 1,
        };
        sets = sets.saturating_mul(own);
    }
    match sets <= GROUPING_SETS_MAX {
        true => Ok(()),
        false => Err(too_complex(format!("a GROUP BY can have at most {GROUPING_SETS_MAX} grouping sets"))),
    }
}

fn nothing() -> Expr {
    Expr::value(Value::Null)
}

/// What the parser puts before an operator: the side on which chains grow.
fn first_child(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::BinaryOp { left: inner, .. }
        | Expr::Cast { expr: inner, .. }
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Nested(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner)
        | Expr::IsDistinctFrom(inner, _)
        | Expr::IsNotDistinctFrom(inner, _)
        | Expr::Collate { expr: inner, .. }
        | Expr::AtTimeZone { timestamp: inner, .. }
        | Expr::Between { expr: inner, .. }
        | Expr::InList { expr: inner, .. }
        | Expr::InSubquery { expr: inner, .. }
        | Expr::Like { expr: inner, .. }
        | Expr::ILike { expr: inner, .. }
        | Expr::SimilarTo { expr: inner, .. }
        | Expr::AnyOp { left: inner, .. }
        | Expr::AllOp { left: inner, .. }
        | Expr::CompoundFieldAccess { root: inner, .. }
        | Expr::JsonAccess { value: inner, .. } => Some(inner),
        _ => None,
    }
}

fn first_child_mut(expr: &mut Expr) -> Option<&mut Expr> {
    match expr {
        Expr::BinaryOp { left: inner, .. }
        | Expr::Cast { expr: inner, .. }
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Nested(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner)
        | Expr::Collate { expr: inner, .. }
        | Expr::AtTimeZone { timestamp: inner, .. }
        | Expr::Between { expr: inner, .. }
        | Expr::InList { expr: inner, .. }
        | Expr::Like { expr: inner, .. }
        | Expr::CompoundFieldAccess { root: inner, .. }
        | Expr::JsonAccess { value: inner, .. } => Some(inner),
        _ => None,
    }
}

/// Length of the chain that begins here, counted no further than what is too long.
fn chain(expr: &Expr) -> usize {
    std::iter::successors(Some(expr), |expr| first_child(expr)).take(DEPTH_MAX + 1).count()
}

/// Takes a chain apart link by link: the end of a tree recurses, too.
fn dismantle(expr: &mut Expr) {
    let mut rest = std::mem::replace(expr, nothing());
    while let Some(child) = first_child_mut(&mut rest) {
        rest = std::mem::replace(child, nothing());
    }
}

fn same(left: &BinaryOperator, right: &BinaryOperator) -> bool {
    matches!((left, right), (BinaryOperator::And, BinaryOperator::And) | (BinaryOperator::Or, BinaryOperator::Or))
}

fn next_link<'a>(expr: &'a Expr, op: &BinaryOperator) -> Option<&'a Expr> {
    match expr {
        Expr::BinaryOp { left, op: other, .. } if same(op, other) => Some(left),
        _ => None,
    }
}

/// A long chain of one of AND and OR becomes a tree with as many levels as its length has digits in base two.
fn balance(expr: &mut Expr) {
    let Expr::BinaryOp { op, .. } = &*expr else { return };
    let op = op.clone();
    let length = std::iter::successors(Some(&*expr), |expr| next_link(expr, &op)).count();
    if length <= CHAIN_LONG {
        return;
    }
    let mut operands = Vec::with_capacity(length);
    let mut rest = std::mem::replace(expr, nothing());
    loop {
        match rest {
            Expr::BinaryOp { left, op: other, right } if same(&op, &other) => {
                operands.push(*right);
                rest = *left;
            }
            last => {
                operands.push(last);
                break;
            }
        }
    }
    operands.reverse();
    let join = |left, right| Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) };
    if let Some(balanced) = tree(operands, join) {
        *expr = balanced;
    }
}

/// Pairs neighbours until one is left.
fn tree<T>(mut items: Vec<T>, join: impl Fn(T, T) -> T) -> Option<T> {
    while items.len() > 1 {
        let mut pairs = Vec::with_capacity(items.len().div_ceil(2));
        let mut rest = items.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        items = pairs;
    }
    items.pop()
}

/// As `balance`, for chains of one kind of UNION; gives the length of any chain of queries that is left.
fn balance_union(body: &mut SetExpr) -> usize {
    let of = |body: &SetExpr| match body {
        SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, .. } => Some(*set_quantifier),
        _ => None,
    };
    let links = |body: &SetExpr, kind: Option<SetQuantifier>| {
        let mut length = 0;
        let mut at = body;
        while let SetExpr::SetOperation { left, .. } = at
            && (kind.is_none() || of(at) == kind)
        {
            length += 1;
            at = left;
        }
        length
    };
    let Some(kind) = of(body) else { return links(body, None) };
    let length = links(body, Some(kind));
    if length <= CHAIN_LONG {
        return links(body, None);
    }
    let mut operands = Vec::with_capacity(length + 1);
    let mut rest = std::mem::replace(body, empty());
    loop {
        match rest {
            SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } if set_quantifier == kind => {
                operands.push(*right);
                rest = *left;
            }
            last => {
                operands.push(last);
                break;
            }
        }
    }
    operands.reverse();
    let below = operands.iter().map(|operand| links(operand, None)).max().unwrap_or(0);
    let join = |left, right| SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: kind,
        left: Box::new(left),
        right: Box::new(right),
    };
    if let Some(balanced) = tree(operands, join) {
        *body = balanced;
    }
    below + length.ilog2() as usize + 1
}

fn empty() -> SetExpr {
    SetExpr::Values(datafusion::sql::sqlparser::ast::Values { explicit_row: false, value_keyword: false, rows: Vec::new() })
}

fn dismantle_union(body: &mut SetExpr) {
    let mut rest = std::mem::replace(body, empty());
    while let SetExpr::SetOperation { left, .. } = &mut rest {
        rest = std::mem::replace(left, empty());
    }
}
