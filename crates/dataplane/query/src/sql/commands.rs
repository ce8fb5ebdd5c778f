//! Session commands: transactions, settings, and those that need no work here.

use super::text::{Cursor, string_value};
use crate::codes;
use datafusion::sql::sqlparser::tokenizer::Token;
use mainstem_types::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Every statement sees the newest snapshot.
    Statement,
    /// The first statement's snapshot holds to the end of the transaction.
    Transaction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// None: the session's default.
    Begin {
        isolation: Option<Isolation>,
        tag: &'static str,
    },
    Commit,
    Rollback,
    SetTransaction(Isolation),
    /// The default of the transactions to come.
    SetDefaultIsolation(Isolation),
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    ResetAll,
    Show(String),
    ShowAll,
    DiscardAll,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// FETCH, and MOVE, which shows no rows. `rows` None: all that are left.
    Fetch {
        cursor: String,
        rows: Option<u64>,
        shown: bool,
    },
    /// CLOSE; None: all.
    CloseCursor(Option<String>),
    /// Nothing to do; the tag is answered.
    Nothing(&'static str),
}

/// Parses the statement when it is a session command.
pub(crate) fn parse(sql: &str) -> Result<Option<Command>> {
    let mut c = Cursor::new(sql)?;
    let command = if c.take(&["begin"]) {
        begin(&mut c, "BEGIN")?
    } else if c.take(&["start", "transaction"]) {
        begin(&mut c, "START TRANSACTION")?
    } else if c.take(&["commit"]) || c.take(&["end"]) {
        ending(&mut c)?;
        Command::Commit
    } else if c.take(&["rollback", "to"]) || c.take(&["rollback", "transaction", "to"]) || c.take(&["rollback", "work", "to"]) {
        let _ = c.take(&["savepoint"]);
        Command::RollbackTo(savepoint(&mut c)?)
    } else if c.take(&["rollback"]) || c.take(&["abort"]) {
        ending(&mut c)?;
        Command::Rollback
    } else if c.take(&["savepoint"]) {
        Command::Savepoint(savepoint(&mut c)?)
    } else if c.take(&["release"]) {
        let _ = c.take(&["savepoint"]);
        Command::Release(savepoint(&mut c)?)
    } else if c.take(&["set"]) {
        set(&mut c)?
    } else if c.take(&["reset"]) {
        reset(&mut c)?
    } else if c.take(&["show"]) {
        show(&mut c)?
    } else if c.take(&["discard"]) {
        if c.is(&["all"]) { Command::DiscardAll } else { Command::Nothing("DISCARD") }
    } else if c.take(&["deallocate"]) {
        Command::Nothing(if c.is(&["all"]) { "DEALLOCATE ALL" } else { "DEALLOCATE" })
    } else if c.take(&["unlisten"]) {
        Command::Nothing("UNLISTEN")
    } else if c.take(&["close"]) {
        let all = c.take(&["all"]);
        let cursor = if all { None } else { Some(c.name("a cursor's name", "CLOSE { name | ALL }")?) };
        c.end("CLOSE { name | ALL }")?;
        Command::CloseCursor(cursor)
    } else if c.take(&["fetch"]) {
        fetch(&mut c, true)?
    } else if c.take(&["move"]) {
        fetch(&mut c, false)?
    } else {
        return Ok(None);
    };
    Ok(Some(command))
}

fn unsupported(what: &str) -> Error {
    Error::fix(codes::NOT_SUPPORTED, format!("{what} are not supported"))
}

fn savepoint(c: &mut Cursor) -> Result<String> {
    const SYNTAX: &str = "{ SAVEPOINT | RELEASE SAVEPOINT | ROLLBACK TO SAVEPOINT } name";
    let name = c.name("a savepoint's name", SYNTAX)?;
    c.end(SYNTAX)?;
    Ok(name)
}

/// `DECLARE name [BINARY] [INSENSITIVE] [[NO] SCROLL] CURSOR [{ WITH | WITHOUT } HOLD] FOR query`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeclaredCursor<'a> {
    pub(crate) name: String,
    /// Lives on after its transaction.
    pub(crate) hold: bool,
    /// The query's text.
    pub(crate) query: &'a str,
}

/// The head of the statement when it declares a cursor.
pub(crate) fn declared_cursor(sql: &str) -> Result<Option<DeclaredCursor<'_>>> {
    const SYNTAX: &str = "DECLARE name CURSOR [WITH HOLD] FOR query";
    let mut c = Cursor::new(sql)?;
    if !c.take(&["declare"]) {
        return Ok(None);
    }
    let name = c.name("a cursor's name", SYNTAX)?;
    while c.take(&["insensitive"]) || c.take(&["asensitive"]) || c.take(&["no", "scroll"]) || c.take(&["scroll"]) {}
    if c.is(&["binary"]) {
        return Err(unsupported("binary cursors"));
    }
    c.expect("cursor", SYNTAX)?;
    let hold = c.take(&["with", "hold"]);
    let _ = !hold && c.take(&["without", "hold"]);
    c.expect("for", SYNTAX)?;
    let skipped = c.position() as usize - 1;
    let query = sql.char_indices().nth(skipped).map_or("", |(at, _)| &sql[at..]);
    Ok(Some(DeclaredCursor { name, hold, query }))
}

/// The direction and the cursor of FETCH and MOVE.
fn fetch(c: &mut Cursor, shown: bool) -> Result<Command> {
    const SYNTAX: &str = "FETCH [NEXT | FORWARD] [count | ALL] FROM cursor";
    for backward in ["prior", "first", "last", "absolute", "relative", "backward"] {
        if c.is(&[backward]) {
            let error = Error::fix(codes::NOT_FORWARD, "cursor can only scan forward");
            return Err(error.hint("Declare it again to read its rows from the start."));
        }
    }
    let next = c.take(&["next"]);
    let _ = !next && c.take(&["forward"]);
    let rows = if next {
        Some(1)
    } else if c.take(&["all"]) {
        None
    } else if let Token::Number(number, _) = c.peek().clone() {
        c.advance();
        let rows = number.parse().map_err(|_| c.unexpected("a number of rows", SYNTAX))?;
        if rows == 0 {
            return Err(unsupported("re-reads of the current row (FETCH 0)"));
        }
        Some(rows)
    } else {
        Some(1)
    };
    let _ = c.take(&["from"]) || c.take(&["in"]);
    let cursor = c.name("a cursor's name", SYNTAX)?;
    c.end(SYNTAX)?;
    Ok(Command::Fetch { cursor, rows, shown })
}

fn begin(c: &mut Cursor, tag: &'static str) -> Result<Command> {
    let _ = c.take(&["transaction"]) || c.take(&["work"]);
    Ok(Command::Begin { isolation: modes(c)?, tag })
}

/// Transaction modes; the last isolation level named.
fn modes(c: &mut Cursor) -> Result<Option<Isolation>> {
    let mut isolation = None;
    loop {
        if c.take(&["isolation", "level"]) {
            isolation = Some(level(c)?);
        } else if c.take(&["read", "only"])
            || c.take(&["not", "deferrable"])
            || c.take(&["deferrable"])
            || c.take(&["read", "write"])
        {
            // Every transaction here is read-only; a client that asks for READ WRITE learns it when it writes.
        } else if c.take_token(&Token::Comma) {
        } else {
            c.end("BEGIN [ISOLATION LEVEL REPEATABLE READ] [READ ONLY]")?;
            return Ok(isolation);
        }
    }
}

fn level(c: &mut Cursor) -> Result<Isolation> {
    if c.take(&["read", "committed"]) || c.take(&["read", "uncommitted"]) {
        Ok(Isolation::Statement)
    } else if c.take(&["repeatable", "read"]) || c.take(&["serializable"]) {
        // Nothing is written in a transaction, so a held snapshot is serializable.
        Ok(Isolation::Transaction)
    } else {
        Err(c.unexpected("READ COMMITTED, REPEATABLE READ or SERIALIZABLE", ""))
    }
}

fn ending(c: &mut Cursor) -> Result<()> {
    let _ = c.take(&["transaction"]) || c.take(&["work"]);
    let _ = c.take(&["and", "no", "chain"]);
    if c.is(&["prepared"]) || c.is(&["and", "chain"]) {
        return Err(unsupported("prepared and chained transactions"));
    }
    c.end("")
}

fn set(c: &mut Cursor) -> Result<Command> {
    const SYNTAX: &str = "SET [SESSION | LOCAL] name { TO | = } value";
    if c.take(&["session", "characteristics", "as", "transaction"]) {
        return Ok(match modes(c)? {
            Some(isolation) => Command::SetDefaultIsolation(isolation),
            None => Command::Nothing("SET"),
        });
    }
    if c.take(&["transaction"]) {
        return Ok(modes(c)?.map_or(Command::Nothing("SET"), Command::SetTransaction));
    }
    let local = c.take(&["local"]);
    let _ = !local && c.take(&["session"]);
    if c.take(&["authorization", "default"]) || c.take(&["role", "none"]) {
        return Ok(Command::Nothing("SET"));
    }
    if c.is(&["authorization"]) || c.is(&["role"]) {
        return Err(unsupported("roles"));
    }
    let name = if c.take(&["time", "zone"]) {
        "timezone".to_string()
    } else if c.take(&["names"]) {
        "client_encoding".to_string()
    } else {
        let name = dotted(c, SYNTAX)?;
        if !c.take(&["to"]) {
            c.expect_token(&Token::Eq, SYNTAX)?;
        }
        name
    };
    if c.take(&["default"]) {
        c.end(SYNTAX)?;
        return Ok(Command::Set { name, value: None, local });
    }
    let mut values = Vec::new();
    loop {
        values.push(set_value(c, SYNTAX)?);
        if !c.take_token(&Token::Comma) {
            break;
        }
    }
    c.end(SYNTAX)?;
    Ok(Command::Set { name, value: Some(values.join(", ")), local })
}

fn dotted(c: &mut Cursor, syntax: &str) -> Result<String> {
    let mut name = c.name("a setting's name", syntax)?.to_lowercase();
    while c.take_token(&Token::Period) {
        name = format!("{name}.{}", c.name("a setting's name", syntax)?.to_lowercase());
    }
    Ok(name)
}

fn set_value(c: &mut Cursor, syntax: &str) -> Result<String> {
    let minus = if c.take_token(&Token::Minus) { "-" } else { "" };
    if let Some(text) = string_value(c.peek()) {
        c.advance();
        return Ok(text);
    }
    match c.peek().clone() {
        Token::Number(number, _) => {
            c.advance();
            Ok(format!("{minus}{number}"))
        }
        Token::Word(word) => {
            c.advance();
            Ok(if word.quote_style.is_some() { word.value } else { word.value.to_lowercase() })
        }
        _ => Err(c.unexpected("a value", syntax)),
    }
}

fn reset(c: &mut Cursor) -> Result<Command> {
    const SYNTAX: &str = "RESET { name | ALL }";
    if c.take(&["all"]) {
        c.end(SYNTAX)?;
        return Ok(Command::ResetAll);
    }
    if c.take(&["session", "authorization"]) || c.take(&["role"]) {
        return Ok(Command::Nothing("RESET"));
    }
    let name = if c.take(&["time", "zone"]) { "timezone".into() } else { dotted(c, SYNTAX)? };
    c.end(SYNTAX)?;
    Ok(Command::Set { name, value: None, local: false })
}

fn show(c: &mut Cursor) -> Result<Command> {
    const SYNTAX: &str = "SHOW { name | ALL | SOURCES | CREATE SOURCE name }";
    let command = if c.take(&["all"]) {
        Command::ShowAll
    } else if c.take(&["time", "zone"]) {
        Command::Show("timezone".into())
    } else if c.take(&["transaction", "isolation", "level"]) {
        Command::Show("transaction_isolation".into())
    } else {
        Command::Show(dotted(c, SYNTAX)?)
    };
    c.end(SYNTAX)?;
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_parse() {
        let check = |sql: &str, expected: Option<Command>| assert_eq!(parse(sql).unwrap(), expected, "{sql}");
        let set = |name: &str, value: Option<&str>, local| {
            Some(Command::Set { name: name.into(), value: value.map(Into::into), local })
        };
        check("BEGIN", Some(Command::Begin { isolation: None, tag: "BEGIN" }));
        check(
            "begin transaction isolation level repeatable read, read only",
            Some(Command::Begin { isolation: Some(Isolation::Transaction), tag: "BEGIN" }),
        );
        check(
            "START TRANSACTION ISOLATION LEVEL READ COMMITTED",
            Some(Command::Begin { isolation: Some(Isolation::Statement), tag: "START TRANSACTION" }),
        );
        check("COMMIT", Some(Command::Commit));
        check("end work", Some(Command::Commit));
        check("ABORT", Some(Command::Rollback));
        check("set search_path to shop, public", set("search_path", Some("shop, public"), false));
        check("SET LOCAL statement_timeout = '3s'", set("statement_timeout", Some("3s"), true));
        check("set session DateStyle = ISO", set("datestyle", Some("iso"), false));
        check("SET extra_float_digits = -1", set("extra_float_digits", Some("-1"), false));
        check("SET TIME ZONE 'UTC'", set("timezone", Some("UTC"), false));
        check("set names 'utf8'", set("client_encoding", Some("utf8"), false));
        check("SET x.y TO DEFAULT", set("x.y", None, false));
        check("reset all", Some(Command::ResetAll));
        check("RESET search_path", set("search_path", None, false));
        check("show transaction isolation level", Some(Command::Show("transaction_isolation".into())));
        check("show all", Some(Command::ShowAll));
        check("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", Some(Command::SetTransaction(Isolation::Transaction)));
        check("DISCARD ALL", Some(Command::DiscardAll));
        check("DEALLOCATE \"_pg3_0\"", Some(Command::Nothing("DEALLOCATE")));
        check("select 1", None);
        let fetched = |rows, shown| Some(Command::Fetch { cursor: "c".into(), rows, shown });
        check("FETCH FORWARD 10 FROM \"c\"", fetched(Some(10), true));
        check("fetch next from c", fetched(Some(1), true));
        check("FETCH c", fetched(Some(1), true));
        check("MOVE FORWARD ALL IN c", fetched(None, false));
        check("CLOSE c", Some(Command::CloseCursor(Some("c".into()))));
        check("CLOSE ALL", Some(Command::CloseCursor(None)));
        let declared = declared_cursor("DECLARE \"Ä\" NO SCROLL CURSOR WITH HOLD FOR  SELECT 'ü'").unwrap();
        assert_eq!(declared, Some(DeclaredCursor { name: "Ä".into(), hold: true, query: "SELECT 'ü'" }));
        assert_eq!(declared_cursor("SELECT 1").unwrap(), None);
        assert_eq!(parse("FETCH PRIOR FROM c").unwrap_err().code().sqlstate, "55000");
        check("savepoint a", Some(Command::Savepoint("a".into())));
        check("RELEASE SAVEPOINT A", Some(Command::Release("a".into())));
        check("rollback to \"A\"", Some(Command::RollbackTo("A".into())));
        let error = parse("begin isolation level chaos").unwrap_err();
        assert_eq!((error.code().sqlstate, error.position()), ("42601", Some(23)));
    }
}
