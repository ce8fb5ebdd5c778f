//! Statements that declare or command: about sources and about users. Their errors say what was expected and where, and repeat nothing
//! of the text, because any word of it may be part of a password or a URL that is not quoted as it should be.

use super::text::{Cursor, string_value};
use crate::codes;
use datafusion::sql::sqlparser::tokenizer::Token;
use mainstem_types::control::{Declaration, DropMode, SourceDeclaration, UserDeclaration};
use mainstem_types::{Error, Principal, Result};
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
const CREATE_USER: &str = "CREATE { USER | ROLE } name [WITH] PASSWORD 'password'";
const ALTER_USER: &str = "ALTER { USER | ROLE } name [WITH] PASSWORD 'password'";
const DROP_USER: &str = "DROP { USER | ROLE } [IF EXISTS] name";

/// Parses the statement when it is one that declares, by this principal.
pub(crate) fn parse(sql: &str, principal: &Principal) -> Result<Option<Declaration>> {
    let mut c = Cursor::new(sql)?.secretive();
    let source = if c.take(&["create", "source"]) {
        create(&mut c)?
    } else if c.take(&["alter", "source"]) {
        alter(&mut c)?
    } else if c.take(&["pause"]) {
        SourceDeclaration::Pause { name: just_name(&mut c, PAUSE)? }
    } else if c.take(&["resume"]) {
        SourceDeclaration::Resume { name: just_name(&mut c, RESUME)? }
    } else if c.take(&["resync"]) {
        resync(&mut c)?
    } else if c.take(&["drop", "source"]) {
        drop_source(&mut c)?
    } else if c.take(&["show", "create"]) {
        SourceDeclaration::ShowCreate { name: just_name(&mut c, SHOW)? }
    } else if c.take(&["wait"]) {
        wait(&mut c)?
    } else {
        return Ok(user(&mut c, principal)?.map(Declaration::User));
    };
    Ok(Some(Declaration::Source(source)))
}

/// Whether it is SHOW SOURCES.
pub(crate) fn shows_sources(sql: &str) -> Result<bool> {
    let mut c = Cursor::new(sql)?;
    let shows = c.take(&["show", "sources"]);
    if shows {
        c.end("SHOW SOURCES")?;
    }
    Ok(shows)
}

fn user(c: &mut Cursor, principal: &Principal) -> Result<Option<UserDeclaration>> {
    let mut is = |verb: &str| c.take(&[verb, "user"]) || c.take(&[verb, "role"]);
    Ok(Some(if is("create") {
        let name = c.name("the user's name", CREATE_USER)?;
        UserDeclaration::Create { name, password: password(c, CREATE_USER)? }
    } else if is("alter") {
        let me = c.take(&["current_user"]) || c.take(&["session_user"]) || c.take(&["current_role"]);
        let name = if me { principal.to_string() } else { c.name("the user's name", ALTER_USER)? };
        UserDeclaration::Alter { name, password: password(c, ALTER_USER)? }
    } else if is("drop") {
        let if_exists = c.take(&["if", "exists"]);
        let name = c.name("the user's name", DROP_USER)?;
        c.end(DROP_USER)?;
        UserDeclaration::Drop { name, if_exists }
    } else {
        return Ok(None);
    }))
}

/// `[WITH] PASSWORD '...'` and the end. Whoever has a password may log in, so LOGIN says nothing more.
fn password(c: &mut Cursor, syntax: &str) -> Result<String> {
    for word in ["with", "login", "encrypted"] {
        c.take(&[word]);
    }
    let other = matches!(c.peek(), Token::Word(word) if word.quote_style.is_none()) && !c.is(&["password"]);
    if other {
        let error = Error::fix(codes::NOT_SUPPORTED, "attributes of users other than PASSWORD are not supported yet");
        return Err(error.at(c.position()).hint(format!("Syntax: {syntax};")));
    }
    c.expect("password", syntax)?;
    let password = c.string("the password in quotes", syntax)?;
    c.take(&["login"]);
    c.end(syntax)?;
    Ok(password)
}

fn just_name(c: &mut Cursor, syntax: &str) -> Result<String> {
    c.expect("source", syntax)?;
    let name = c.name("the source's name", syntax)?;
    c.end(syntax)?;
    Ok(name)
}

fn create(c: &mut Cursor) -> Result<SourceDeclaration> {
    let if_not_exists = c.take(&["if", "not", "exists"]);
    let name = c.name("the source's name", CREATE)?;
    c.expect("from", CREATE)?;
    let url = c.string("the database's URL in quotes", CREATE)?;
    let options = if c.take(&["with"]) { options(c, CREATE)? } else { BTreeMap::new() };
    c.end(CREATE)?;
    Ok(SourceDeclaration::Create { name, if_not_exists, url, options })
}

fn alter(c: &mut Cursor) -> Result<SourceDeclaration> {
    let name = c.name("the source's name", ALTER)?;
    c.expect("set", ALTER)?;
    let options = options(c, ALTER)?;
    c.end(ALTER)?;
    Ok(SourceDeclaration::Alter { name, options })
}

fn resync(c: &mut Cursor) -> Result<SourceDeclaration> {
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
    Ok(SourceDeclaration::Resync { name, table })
}

fn drop_source(c: &mut Cursor) -> Result<SourceDeclaration> {
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
    Ok(SourceDeclaration::Drop { name, if_exists, mode })
}

fn wait(c: &mut Cursor) -> Result<SourceDeclaration> {
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
    Ok(SourceDeclaration::Wait { name, until, timeout })
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
        if options.insert(key, value).is_some() {
            return Err(Error::fix(codes::SYNTAX, "this option is given twice").at(position));
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

    fn shown(declaration: Declaration) -> String {
        match declaration {
            Declaration::Source(source) => match source {
                SourceDeclaration::Create { name, if_not_exists, url, options } => {
                    format!("create {name} {if_not_exists} {url} {options:?}")
                }
                SourceDeclaration::Alter { name, options } => format!("alter {name} {options:?}"),
                SourceDeclaration::Pause { name } => format!("pause {name}"),
                SourceDeclaration::Resume { name } => format!("resume {name}"),
                SourceDeclaration::Resync { name, table } => format!("resync {name} {table:?}"),
                SourceDeclaration::Drop { name, if_exists, mode } => format!("drop {name} {if_exists} {mode:?}"),
                SourceDeclaration::ShowCreate { name } => format!("show create {name}"),
                SourceDeclaration::Wait { name, until, timeout } => format!("wait {name} {until:?} {timeout:?}"),
            },
            Declaration::User(user) => match user {
                UserDeclaration::Create { name, password } => format!("create user {name} {password}"),
                UserDeclaration::Alter { name, password } => format!("alter user {name} {password}"),
                UserDeclaration::Drop { name, if_exists } => format!("drop user {name} {if_exists}"),
            },
        }
    }

    fn parsed(sql: &str) -> String {
        match parse(sql, &Principal("eve".into())) {
            Ok(Some(declaration)) => shown(declaration),
            Ok(None) => "none".into(),
            Err(error) => format!("{} {} at {:?}", error.code().sqlstate, error.message(), error.position()),
        }
    }

    #[test]
    fn users_parse() {
        let check = |sql: &str, expected: &str| assert_eq!(parsed(sql), expected, "{sql}");
        check("CREATE USER eve PASSWORD 'x'", "create user eve x");
        check("create role \"Eve\" with login encrypted password E'x\\'y'", "create user Eve x'y");
        check("ALTER USER admin PASSWORD 'SCRAM-SHA-256$4096:a=$b:c'", "alter user admin SCRAM-SHA-256$4096:a=$b:c");
        check("alter role current_user with password $$x$$", "alter user eve x");
        check("drop user if exists eve", "drop user eve true");
        check("DROP ROLE eve", "drop user eve false");
        check("drop user a, b", "42601 syntax error: expected the end of the statement at Some(12)");
        check("alter role eve superuser", "0A000 attributes of users other than PASSWORD are not supported yet at Some(16)");
        check("create user eve", "42601 syntax error at end of input: expected PASSWORD at Some(16)");
        check("grant select on x to eve", "none");
    }

    #[test]
    fn errors_repeat_nothing_that_may_be_secret() {
        for sql in [
            "CREATE SOURCE s FROM \"geheim\"",
            "CREATE SOURCE s FROM geheim",
            "CREATE SOURCE s \"geheim\"",
            "CREATE SOURCE s geheim",
            "CREATE SOURCE s FROM 'postgres://u:it'geheim'@h/d'",
            "CREATE SOURCE s FROM 'postgres://u:it'geheim",
            "CREATE SOURCE s FROM 'x' geheim",
            "CREATE SOURCE s FROM 'x' WITH (geheim = 'x', geheim = 'y')",
            "CREATE SOURCE s FROM 'x' WITH (password 'geheim')",
            "CREATE SOURCE s FROM 'x' WITH (password = 'x' \"geheim\")",
            "ALTER SOURCE s SET url = geheim",
            "WAIT FOR SOURCE s TIMEOUT 'geheim'",
            "WAIT FOR SOURCE s UNTIL geheim",
            "CREATE USER eve PASSWORD geheim",
            "CREATE USER eve PASSWORD \"geheim\"",
            "ALTER USER eve geheim",
            "ALTER USER eve \"geheim\"",
            "ALTER USER eve WITH PASSWORD 'x' geheim",
        ] {
            let error = parse(sql, &Principal::admin()).err().unwrap();
            let text = format!("{} {:?}", error.chain(), error.hint_text());
            assert!(!text.contains("geheim"), "{sql}: {text}");
        }
    }

    #[test]
    fn statements_parse() {
        let check = |sql: &str, expected: &str| assert_eq!(parsed(sql), expected, "{sql}");
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
        check("show create source shop", "show create shop");
        check("wait for source shop", "wait shop None None");
        check("wait for source shop until '0/1' timeout '500ms'", "wait shop Some(\"0/1\") Some(500ms)");
        check("wait for source shop timeout 2", "wait shop None Some(2s)");
        check("select 1", "none");
        check("show server_version", "none");
        check("create source shop 'pw'", "42601 syntax error: expected FROM at Some(20)");
        check("create source shop from pw", "42601 syntax error: expected the database's URL in quotes at Some(25)");
        check("create source s from 'a' with (k = 'v'", "42601 syntax error at end of input: expected \")\" at Some(39)");
        check("create source s from 'a' with (k = 'v', k = 'w')", "42601 this option is given twice at Some(41)");
        check("pause shop", "42601 syntax error: expected SOURCE at Some(7)");
        check("drop source shop keep", "42601 syntax error: expected the end of the statement at Some(18)");
        check("wait for source s timeout 'soon'", "22023 a timeout is a number with ms, s, min or h at Some(27)");
    }
}
