//! The parser, held to work that is linear in the text: it goes back and reads again where it guesses, and guesses inside guesses double.

use crate::codes;
use crate::threads::pause;
use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;
use mainstem_types::{Error, Result};
use std::any::{Any, TypeId};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Expressions inside expressions, queries and joins that the parser follows.
const NESTED_MAX: usize = 1000;
/// Beginnings of expressions and of SELECTs that the parser may read, per token and beside them. It reads each once, and a few guesses twice.
const STEPS_PER_TOKEN: usize = 20;
const STEPS: usize = 100_000;

/// The statements of some tokens.
pub(super) fn parse(tokens: Vec<TokenWithSpan>) -> Result<Result<Vec<Statement>, ParserError>> {
    let parsed = parse_nested(tokens.clone(), NESTED_MAX)?;
    // Here and there the parser takes "too deep" for "not this" and goes on elsewhere: with more room it says something else then.
    if let Err(ParserError::ParserError(_)) = &parsed
        && tokens.len() > NESTED_MAX
        && parse_nested(tokens, 4 * NESTED_MAX)? != parsed
    {
        return Ok(Err(ParserError::RecursionLimitExceeded));
    }
    Ok(parsed)
}

fn parse_nested(tokens: Vec<TokenWithSpan>, nested_max: usize) -> Result<Result<Vec<Statement>, ParserError>> {
    let dialect = Postgres { steps: Cell::new(tokens.len() * STEPS_PER_TOKEN + STEPS) };
    let parser = || Parser::new(&dialect).with_recursion_limit(nested_max).with_tokens_with_locations(tokens).parse_statements();
    // The parser has no other way to be stopped.
    match catch_unwind(AssertUnwindSafe(parser)) {
        Ok(parsed) => Ok(parsed),
        Err(payload) if payload.is::<OutOfSteps>() => {
            Err(Error::fix(codes::TOO_COMPLEX, "the statement is nested in too many ways")
                .hint("Write nested subqueries and joins as common table expressions (WITH)."))
        }
        Err(payload) => resume_unwind(payload),
    }
}

struct OutOfSteps;

/// Postgres's words, with two differences: a named argument's name is a name, not any expression (which would be read twice, at each level of
/// nested calls), and steps are counted.
#[derive(Debug)]
struct Postgres {
    steps: Cell<usize>,
}

impl Postgres {
    fn step(&self) {
        pause();
        match self.steps.get().checked_sub(1) {
            Some(left) => self.steps.set(left),
            None => resume_unwind(Box::new(OutOfSteps)),
        }
    }
}

const BASE: PostgreSqlDialect = PostgreSqlDialect {};

/// Methods that answer as the base does.
macro_rules! as_base {
    ($($method:ident($($arg:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(fn $method(&self $(, $arg: $kind)*) -> $result { BASE.$method($($arg),*) })*
    };
}

impl Dialect for Postgres {
    fn dialect(&self) -> TypeId {
        BASE.type_id()
    }
    fn parse_prefix(&self, _: &mut Parser) -> Option<Result<Expr, ParserError>> {
        self.step();
        None
    }
    /// Asked once for each SELECT.
    fn supports_empty_projections(&self) -> bool {
        self.step();
        BASE.supports_empty_projections()
    }
    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }
    as_base! {
        identifier_quote_style(name: &str) -> Option<char>;
        is_delimited_identifier_start(c: char) -> bool;
        is_identifier_start(c: char) -> bool;
        is_identifier_part(c: char) -> bool;
        supports_unicode_string_literal() -> bool;
        is_reserved_for_identifier(word: Keyword) -> bool;
        is_custom_operator_part(c: char) -> bool;
        get_next_precedence(parser: &Parser) -> Option<Result<u8, ParserError>>;
        supports_filter_during_aggregation() -> bool;
        supports_group_by_expr() -> bool;
        prec_value(of: Precedence) -> u8;
        allow_extract_custom() -> bool;
        allow_extract_single_quotes() -> bool;
        supports_create_index_with_clause() -> bool;
        supports_explain_with_utility_options() -> bool;
        supports_listen_notify() -> bool;
        supports_factorial_operator() -> bool;
        supports_bitwise_shift_operators() -> bool;
        supports_comment_on() -> bool;
        supports_load_extension() -> bool;
        supports_named_fn_args_with_colon_operator() -> bool;
        supports_nested_comments() -> bool;
        supports_string_escape_constant() -> bool;
        supports_numeric_literal_underscores() -> bool;
        supports_array_typedef_with_brackets() -> bool;
        supports_geometric_types() -> bool;
        supports_set_names() -> bool;
        supports_alter_column_type_using() -> bool;
        supports_notnull_operator() -> bool;
        supports_interval_options() -> bool;
        supports_insert_table_alias() -> bool;
        supports_create_table_like_parenthesized() -> bool;
        supports_select_wildcard_with_alias() -> bool;
        supports_comma_separated_trim() -> bool;
        supports_xml_expressions() -> bool;
        supports_comment_optimizer_hint() -> bool;
    }
}
