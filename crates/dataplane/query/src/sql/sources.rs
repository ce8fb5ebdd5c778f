//! Statements about sources. Errors say what was expected and where, and never show a literal.

use super::text::{Cursor, string_value};
use crate::codes;
use datafusion::sql::sqlparser::tokenizer::Token;
use mainstem_types::sources::{CreateSource, DropMode};
use mainstem_types::{Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;

const CREATE: &str = "CREATE SOURCE [IF NOT EXISTS] name FROM 'url' [WITH (key = 'value', ...)]";
const ALTER: &str = "ALTER SOURCE name SET (key = 'value', ...)";
const PAUSE: &str = "PAUSE SOURCE name";
const RESUME: &str = "RESUME SOURCE name";
const RESYNC: &str = "RESYNC SOURCE name [TABLE schema.table]";
const DROP: &str = "DROP SOURCE [IF EXISTS] name [KEEP DATA | CASCADE]";
const SHOW: &str = "SHOW CREATE SOURCE name";
const WAIT: &str = "WAIT FOR SOURCE name [UNTIL 'position'] [TIMEOUT '30s']";

/// A parsed statement about sources. No `Debug`: it holds passwords.
pub(crate) enum SourceStatement {
    Create(CreateSource),
    Alter { name: String, options: BTreeMap<String, String> },
    Pause(String),
    Resume(String),
    Resync { name: String, table: Option<String> },
    Drop { name: String, if_exists: bool, mode: DropMode },
    ShowAll,
    ShowCreate(String),
    Wait { name: String, until: Option<String>, timeout: Option<Duration> },
}

/// Parses the statement when it is one about sources.
pub(crate) fn parse(sql: &str) -> Result<Option<SourceStatement>> {
    let mut c = Cursor::new(sql)?;
    let statement = if c.take(&["create", "source"]) {
        create(&mut c)?
    } else if c.take(&["alter", "source"]) {
        alter(&mut c)?
    } else if c.take(&["pause"]) {
        SourceStatement::Pause(just_name(&mut c, PAUSE)?)
    } else if c.take(&["resume"]) {
        SourceStatement::Resume(just_name(&mut c, RESUME)?)
    } else if c.take(&["resync"]) {
        resync(&mut c)?
    } else if c.take(&["drop", "source"]) {
        drop_source(&mut c)?
    } else if c.take(&["show", "sources"]) {
        c.end("SHOW SOURCES")?;
        SourceStatement::ShowAll
    } else if c.take(&["show", "create"]) {
        SourceStatement::ShowCreate(just_name(&mut c, SHOW)?)
    } else if c.take(&["wait"]) {
        wait(&mut c)?
    } else {
        return Ok(None);
    };
    Ok(Some(statement))
}

fn just_name(c: &mut Cursor, syntax: &str) -> Result<String> {
    c.expect("source", syntax)?;
    let name = c.name("the source's name", syntax)?;
    c.end(syntax)?;
    Ok(name)
}

fn create(c: &mut Cursor) -> Result<SourceStatement> {
    let if_not_exists = c.take(&["if", "not", "exists"]);
    let name = c.name("the source's name", CREATE)?;
    c.expect("from", CREATE)?;
    let url = c.string("the database's URL in quotes", CREATE)?;
    let options = if c.take(&["with"]) { options(c, CREATE)? } else { BTreeMap::new() };
    c.end(CREATE)?;
    Ok(SourceStatement::Create(CreateSource { name, if_not_exists, url, options }))
}

fn alter(c: &mut Cursor) -> Result<SourceStatement> {
    let name = c.name("the source's name", ALTER)?;
    c.expect("set", ALTER)?;
    let options = options(c, ALTER)?;
    c.end(ALTER)?;
    Ok(SourceStatement::Alter { name, options })
}

fn resync(c: &mut Cursor) -> Result<SourceStatement> {
    c.expect("source", RESYNC)?;
    let name = c.name("the source's name", RESYNC)?;
    let table = match c.take(&["table"]) {
        false => None,
        true => Some(match string_value(c.peek()) {
            Some(text) => {
                c.advance();
                text
            }
            None => {
                let schema = c.name("schema.table", RESYNC)?;
                c.expect_token(&Token::Period, RESYNC)?;
                format!("{schema}.{}", c.name("the table's name", RESYNC)?)
            }
        }),
    };
    c.end(RESYNC)?;
    Ok(SourceStatement::Resync { name, table })
}

fn drop_source(c: &mut Cursor) -> Result<SourceStatement> {
    let if_exists = c.take(&["if", "exists"]);
    let name = c.name("the source's name", DROP)?;
    let mode = if c.take(&["keep", "data"]) {
        DropMode::KeepData
    } else if c.take(&["cascade"]) {
        DropMode::Cascade
    } else {
        c.take(&["restrict"]);
        DropMode::Restrict
    };
    c.end(DROP)?;
    Ok(SourceStatement::Drop { name, if_exists, mode })
}

fn wait(c: &mut Cursor) -> Result<SourceStatement> {
    c.expect("for", WAIT)?;
    c.expect("source", WAIT)?;
    let name = c.name("the source's name", WAIT)?;
    let (mut until, mut timeout) = (None, None);
    loop {
        if until.is_none() && c.take(&["until"]) {
            until = Some(c.string("a position in quotes", WAIT)?);
        } else if timeout.is_none() && c.take(&["timeout"]) {
            let position = c.position();
            let text = value(c, WAIT)?;
            let parsed = duration(&text, 1000).ok_or_else(|| {
                Error::fix(codes::INVALID_SETTING, "a timeout is a number with ms, s, min or h")
                    .at(position)
                    .hint("Write, for example, TIMEOUT '30s'.")
            })?;
            timeout = Some(parsed);
        } else {
            break;
        }
    }
    c.end(WAIT)?;
    Ok(SourceStatement::Wait { name, until, timeout })
}

/// `(key = 'value', ...)`.
fn options(c: &mut Cursor, syntax: &str) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    c.expect_token(&Token::LParen, syntax)?;
    loop {
        let position = c.position();
        let key = c.name("a key", syntax)?;
        c.expect_token(&Token::Eq, syntax)?;
        let value = value(c, syntax)?;
        if options.insert(key.clone(), value).is_some() {
            return Err(Error::fix(codes::SYNTAX, format!("`{key}` is given twice")).at(position));
        }
        if c.take_token(&Token::Comma) {
            continue;
        }
        c.expect_token(&Token::RParen, syntax)?;
        return Ok(options);
    }
}

fn value(c: &mut Cursor, syntax: &str) -> Result<String> {
    if let Some(text) = string_value(c.peek()) {
        c.advance();
        return Ok(text);
    }
    match c.peek().clone() {
        Token::Number(number, _) => {
            c.advance();
            Ok(number)
        }
        Token::Word(word) if word.quote_style.is_none() => {
            c.advance();
            Ok(word.value.to_lowercase())
        }
        _ => Err(c.unexpected("a value in quotes", syntax)),
    }
}

/// `30s`, `500ms`, `2min`, `1h`, `1d`, or a bare number in units of `unit_ms`.
pub(crate) fn duration(text: &str, unit_ms: u64) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let unit = match unit.trim() {
        "" => unit_ms as f64,
        "us" => 0.001,
        "ms" => 1.0,
        "s" | "sec" => 1000.0,
        "min" | "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit / 1000.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(statement: SourceStatement) -> String {
        match statement {
            SourceStatement::Create(c) => {
                format!("create {} {} {} {:?}", c.name, c.if_not_exists, c.url, c.options)
            }
            SourceStatement::Alter { name, options } => format!("alter {name} {options:?}"),
            SourceStatement::Pause(name) => format!("pause {name}"),
            SourceStatement::Resume(name) => format!("resume {name}"),
            SourceStatement::Resync { name, table } => format!("resync {name} {table:?}"),
            SourceStatement::Drop { name, if_exists, mode } => format!("drop {name} {if_exists} {mode:?}"),
            SourceStatement::ShowAll => "show".into(),
            SourceStatement::ShowCreate(name) => format!("show create {name}"),
            SourceStatement::Wait { name, until, timeout } => format!("wait {name} {until:?} {timeout:?}"),
        }
    }

    #[test]
    fn statements_parse() {
        let check = |sql: &str, expected: &str| {
            let found = match parse(sql) {
                Ok(Some(statement)) => shown(statement),
                Ok(None) => "none".into(),
                Err(error) => format!("{} {} at {:?}", error.code().sqlstate, error.message(), error.position()),
            };
            assert_eq!(found, expected, "{sql}");
        };
        check("create source shop from 'postgres://u:p@h/d'", "create shop false postgres://u:p@h/d {}");
        check(
            "CREATE SOURCE IF NOT EXISTS Shop FROM 'x' WITH (tables = 'public.*', slot = a, n = 3)",
            "create shop true x {\"n\": \"3\", \"slot\": \"a\", \"tables\": \"public.*\"}",
        );
        check("alter source shop set (tables = 'a, b')", "alter shop {\"tables\": \"a, b\"}");
        check("PAUSE SOURCE shop", "pause shop");
        check("resume source \"Shop\"", "resume Shop");
        check("resync source shop", "resync shop None");
        check("resync source shop table public.\"Film\"", "resync shop Some(\"public.Film\")");
        check("drop source if exists shop keep data", "drop shop true KeepData");
        check("drop source shop cascade", "drop shop false Cascade");
        check("drop source shop", "drop shop false Restrict");
        check("show sources", "show");
        check("show create source shop", "show create shop");
        check("wait for source shop", "wait shop None None");
        check("wait for source shop until '0/1' timeout '500ms'", "wait shop Some(\"0/1\") Some(500ms)");
        check("wait for source shop timeout 2", "wait shop None Some(2s)");
        check("select 1", "none");
        check("show server_version", "none");
        check("create source shop 'pw'", "42601 syntax error at or near a string: expected FROM at Some(20)");
        check(
            "create source shop from pw",
            "42601 syntax error at or near \"pw\": expected the database's URL in quotes at Some(25)",
        );
        check("create source s from 'a' with (k = 'v'", "42601 syntax error at end of input: expected \")\" at Some(39)");
        check("create source s from 'a' with (k = 'v', k = 'w')", "42601 `k` is given twice at Some(41)");
        check("pause shop", "42601 syntax error at or near \"shop\": expected SOURCE at Some(7)");
        check("drop source shop keep", "42601 syntax error at or near \"keep\": expected the end of the statement at Some(18)");
        check("wait for source s timeout 'soon'", "22023 a timeout is a number with ms, s, min or h at Some(27)");
    }
}
