//! SQL text as tokens with places: splitting into statements, positions for errors, and text that is safe to show.

use crate::codes;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use mainstem_types::{Error, Result};

/// Tokens of a text, white space and comments included.
pub(crate) fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>> {
    let mut tokens = Vec::new();
    match Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location_into_buf(&mut tokens) {
        Ok(()) => Ok(tokens),
        Err(error) => {
            let position = position(sql, error.location);
            Err(Error::fix(codes::SYNTAX, format!("syntax error: {}", lower_first(&error.message)))
                .at(position)
                .hint("Check that quotes and comments are closed."))
        }
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

/// Byte offset of a place that the tokenizer named (lines and columns count from 1, columns in characters).
pub(crate) fn offset(sql: &str, location: Location) -> usize {
    let (line, column) = (location.line.max(1) as usize, location.column.max(1) as usize);
    let start = match line {
        1 => 0,
        _ => sql.match_indices('\n').nth(line - 2).map_or(sql.len(), |(at, _)| at + 1),
    };
    let rest = sql.get(start..).unwrap_or("");
    start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(at, _)| at)
}

/// 1-based character position of a place.
pub(crate) fn position(sql: &str, location: Location) -> u32 {
    let upto = sql.get(..offset(sql, location)).unwrap_or("");
    upto.chars().count() as u32 + 1
}

/// Statements of a text, each as it was written, without the semicolon. Linear in the text.
pub(crate) fn split(sql: &str) -> Result<Vec<String>> {
    // Most texts are one statement, and show it.
    let one = sql.trim();
    let one = one.strip_suffix(';').unwrap_or(one).trim_end();
    if !one.is_empty() && !one.contains(';') && !one.contains("--") && !one.contains("/*") {
        return Ok(vec![one.to_string()]);
    }
    let mut statements = Vec::new();
    let mut from = 0;
    let mut something = false;
    let mut places = Places::new(sql);
    for token in tokens(sql)? {
        match token.token {
            Token::SemiColon => {
                let at = places.offset(token.span.start);
                if something {
                    statements.push(sql.get(from..at).unwrap_or("").trim().to_string());
                }
                from = at + 1;
                something = false;
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => something = true,
        }
    }
    if something {
        statements.push(sql.get(from..).unwrap_or("").trim().to_string());
    }
    Ok(statements)
}

/// Byte offsets of places that come in the order of the text: all of them in one walk over it.
struct Places<'a> {
    rest: std::str::CharIndices<'a>,
    at: Location,
    end: usize,
}

impl<'a> Places<'a> {
    fn new(sql: &'a str) -> Self {
        Self { rest: sql.char_indices(), at: Location { line: 1, column: 1 }, end: sql.len() }
    }

    fn offset(&mut self, place: Location) -> usize {
        while (self.at.line, self.at.column) < (place.line, place.column) {
            match self.rest.next() {
                Some((_, '\n')) => self.at = Location { line: self.at.line + 1, column: 1 },
                Some(_) => self.at.column += 1,
                None => break,
            }
        }
        self.rest.clone().next().map_or(self.end, |(at, _)| at)
    }
}

/// The text with every literal replaced, for people who look at what runs.
pub(crate) fn without_literals(sql: &str) -> String {
    let Ok(tokens) = tokens(sql) else {
        return sql.split_whitespace().next().unwrap_or("").to_string() + " ...";
    };
    let mut shown = String::with_capacity(sql.len());
    for token in tokens {
        match token.token {
            Token::EOF => {}
            Token::Whitespace(_) => {
                if !shown.ends_with(' ') {
                    shown.push(' ');
                }
            }
            token if is_string(&token) => shown.push_str("'?'"),
            Token::Number(..) => shown.push('?'),
            token => shown.push_str(&token.to_string()),
        }
    }
    shown.trim().to_string()
}

fn is_string(token: &Token) -> bool {
    string_value(token).is_some()
        || matches!(token, Token::NationalStringLiteral(_) | Token::HexStringLiteral(_) | Token::SingleQuotedByteStringLiteral(_))
}

/// The value of a string literal.
pub(crate) fn string_value(token: &Token) -> Option<String> {
    match token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) | Token::UnicodeStringLiteral(text) => {
            Some(text.clone())
        }
        Token::DollarQuotedString(text) => Some(text.value.clone()),
        _ => None,
    }
}

/// A token as an error may show it: a literal may hold a password.
pub(crate) fn shown(token: &Token) -> String {
    match token {
        Token::EOF => "end of input".into(),
        token if is_string(token) => "a string".into(),
        Token::Word(word) if word.quote_style.is_some() => "a quoted name".into(),
        token => format!("\"{token}\""),
    }
}

/// Walks over the words of one statement.
pub(crate) struct Cursor<'a> {
    sql: &'a str,
    tokens: Vec<TokenWithSpan>,
    at: usize,
    /// Whether errors name the token that they met.
    names_tokens: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(sql: &'a str) -> Result<Self> {
        let mut tokens = tokens(sql)?;
        tokens.retain(|t| !matches!(t.token, Token::Whitespace(_) | Token::SemiColon | Token::EOF));
        Ok(Self { sql, tokens, at: 0, names_tokens: true })
    }

    /// Its errors repeat nothing of the text.
    pub(crate) fn secretive(self) -> Self {
        Self { names_tokens: false, ..self }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(crate) fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::EOF, |t| &t.token)
    }

    pub(crate) fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    /// 1-based character position of the next token.
    pub(crate) fn position(&self) -> u32 {
        match self.tokens.get(self.at) {
            Some(token) => position(self.sql, token.span.start),
            None => self.sql.trim_end().chars().count() as u32 + 1,
        }
    }

    /// Whether the next tokens are these unquoted words.
    pub(crate) fn is(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, word)| match self.tokens.get(self.at + i).map(|t| &t.token) {
            Some(Token::Word(found)) => found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word),
            _ => false,
        })
    }

    /// Takes these words when they come next.
    pub(crate) fn take(&mut self, words: &[&str]) -> bool {
        let is = self.is(words);
        if is {
            self.at += words.len();
        }
        is
    }

    pub(crate) fn take_token(&mut self, token: &Token) -> bool {
        let is = self.peek() == token;
        if is {
            self.at += 1;
        }
        is
    }

    pub(crate) fn expect(&mut self, word: &str, syntax: &str) -> Result<()> {
        if self.take(&[word]) { Ok(()) } else { Err(self.unexpected(&word.to_uppercase(), syntax)) }
    }

    pub(crate) fn expect_token(&mut self, token: &Token, syntax: &str) -> Result<()> {
        if self.take_token(token) { Ok(()) } else { Err(self.unexpected(&format!("\"{token}\""), syntax)) }
    }

    /// A name: folded to lower case unless quoted.
    pub(crate) fn name(&mut self, what: &str, syntax: &str) -> Result<String> {
        match self.peek() {
            Token::Word(word) => {
                let name = if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() };
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected(what, syntax)),
        }
    }

    pub(crate) fn string(&mut self, what: &str, syntax: &str) -> Result<String> {
        match string_value(self.peek()) {
            Some(text) => {
                self.at += 1;
                Ok(text)
            }
            None => Err(self.unexpected(what, syntax)),
        }
    }

    pub(crate) fn end(&self, syntax: &str) -> Result<()> {
        if *self.peek() == Token::EOF { Ok(()) } else { Err(self.unexpected("the end of the statement", syntax)) }
    }

    /// What was expected here; `syntax` becomes the hint.
    pub(crate) fn unexpected(&self, expected: &str, syntax: &str) -> Error {
        let message = match self.peek() {
            Token::EOF => format!("syntax error at end of input: expected {expected}"),
            _ if !self.names_tokens => format!("syntax error: expected {expected}"),
            token => format!("syntax error at or near {}: expected {expected}", shown(token)),
        };
        let error = Error::fix(codes::SYNTAX, message).at(self.position());
        if syntax.is_empty() { error } else { error.hint(format!("Syntax: {syntax}.")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_split_outside_quotes_and_comments() {
        let check = |sql: &str, expected: &[&str]| assert_eq!(split(sql).unwrap(), expected, "{sql}");
        check("", &[]);
        check(" ; ;", &[]);
        check("-- nothing\n", &[]);
        check("select 1", &["select 1"]);
        check(" select 1 ;\n", &["select 1"]);
        check("select 1 --;", &["select 1 --;"]);
        check("select 1; select 'a;b' ;", &["select 1", "select 'a;b'"]);
        check("select 'ä;' ; select $$;$$; select 2 -- ; end", &["select 'ä;'", "select $$;$$", "select 2 -- ; end"]);
        check("select \"a;b\" /* ; */;\nselect\n2", &["select \"a;b\" /* ; */", "select\n2"]);
    }

    #[test]
    fn an_open_quote_is_an_error_with_its_place() {
        let error = split("select 1;\nselect 'abc").unwrap_err();
        assert_eq!((error.code().sqlstate, error.position()), ("42601", Some(18)));
    }

    #[test]
    fn literals_are_not_shown() {
        let check = |sql: &str, expected: &str| assert_eq!(without_literals(sql), expected);
        check("CREATE SOURCE s FROM 'postgres://u:pw@h/d'", "CREATE SOURCE s FROM '?'");
        check("select  a from t where x = 12 and y = E'z'", "select a from t where x = ? and y = '?'");
        check("select 'pw", "select ...");
    }
}
