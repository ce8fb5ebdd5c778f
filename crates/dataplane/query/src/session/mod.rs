//! A client's session: settings, transaction, the statement that runs.

mod cursors;
mod prepared;
mod run;
mod stop;
mod variables;

pub(crate) use run::Interrupt;
pub(crate) use variables::spelled;

use crate::codes;
use crate::engine::QueryEngine;
use crate::functions::Setter;
use crate::metrics;
use crate::plan::{Notice, Scope};
use crate::sql::commands::{Command, Isolation};
use crate::sql::{bounds, commands, declarations, rewrite, text};
use crate::threads::caught;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use cursors::Cursors;
use datafusion::sql::sqlparser::ast::Statement;
use mainstem_env::Moment;
use mainstem_types::sql::{ClientInfo, Outcome, PreparedStatement, SqlSession};
use mainstem_types::{Error, Principal, Result};
use mainstem_warehouse::Snapshot;
use parking_lot::Mutex;
use prepared::{Holder, Kind, Prepared};
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
pub(crate) use variables::Variables;

/// What others may know of a session: a row of `mainstem.sessions`.
pub(crate) struct SessionFacts {
    pub(crate) principal: Principal,
    pub(crate) client: ClientInfo,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub(crate) started_us: i64,
    pub(crate) running: Mutex<Running>,
    /// Says `true` to the statement that runs now.
    cancel: Mutex<Option<Arc<watch::Sender<bool>>>>,
}

impl SessionFacts {
    /// Stops the statement that runs; nothing happens when none does.
    pub(crate) fn cancel(&self) {
        if let Some(sender) = &*self.cancel.lock() {
            let _ = sender.send(true);
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Running {
    /// The last statement.
    sql: Arc<str>,
    pub(crate) active: bool,
    pub(crate) started_us: i64,
    pub(crate) in_transaction: bool,
}

impl Running {
    /// The last statement as others may see it: without its literals.
    pub(crate) fn statement(&self) -> String {
        text::without_literals(&self.sql)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    None,
    Open,
    Failed,
}

struct Inner {
    variables: Variables,
    block: Block,
    isolation: Isolation,
    /// The snapshot of a REPEATABLE READ transaction, from its first query on, and when it was taken.
    pinned: Option<(Arc<Snapshot>, Moment)>,
    /// Savepoints of the transaction, oldest first.
    savepoints: Vec<String>,
    /// Notices that are told once, and were.
    heard: HashSet<String>,
}

pub(crate) struct Session {
    engine: Arc<QueryEngine>,
    number: u64,
    facts: Arc<SessionFacts>,
    inner: Mutex<Inner>,
    /// Beside `inner`, never locked inside it: dropping a cursor ends its query.
    cursors: Mutex<Cursors>,
    me: Weak<Session>,
}

impl Session {
    pub(crate) fn open(engine: Arc<QueryEngine>, number: u64, client: ClientInfo) -> Arc<Self> {
        let facts = Arc::new(SessionFacts {
            principal: client.principal.clone(),
            started_us: engine.env.clock.now_us(),
            client: client.clone(),
            running: Mutex::default(),
            cancel: Mutex::default(),
        });
        engine.sessions.lock().insert(number, facts.clone());
        metrics::SESSIONS.add(1);
        let initial = BTreeMap::from([
            ("application_name".to_string(), client.application),
            ("is_superuser".to_string(), if client.principal.is_admin() { "on" } else { "off" }.to_string()),
            ("session_authorization".to_string(), client.principal.to_string()),
            ("statement_timeout".to_string(), engine.settings.statement_timeout_ms.to_string()),
        ]);
        let inner = Inner {
            variables: Variables::new(initial),
            block: Block::None,
            isolation: Isolation::Statement,
            pinned: None,
            savepoints: Vec::new(),
            heard: HashSet::new(),
        };
        Arc::new_cyclic(|me| Self { engine, number, facts, inner: Mutex::new(inner), cursors: Mutex::default(), me: me.clone() })
    }

    /// The world of one statement, of the transaction's snapshot or of the newest.
    fn scope(&self) -> Result<Scope> {
        let mut inner = self.inner.lock();
        let snapshot = if inner.block != Block::None && inner.isolation == Isolation::Transaction {
            let now = self.engine.env.clock.moment();
            let max = Duration::from_millis(self.engine.settings.snapshot_age_ms_max);
            match &inner.pinned {
                Some((_, since)) if now - *since > max => {
                    inner.pinned = None;
                    inner.block = Block::Failed;
                    return Err(run::snapshot_too_old("the transaction"));
                }
                Some((snapshot, _)) => snapshot.clone(),
                None => {
                    let snapshot = (self.engine.snapshots)()?;
                    inner.pinned = Some((snapshot.clone(), now));
                    snapshot
                }
            }
        } else {
            (self.engine.snapshots)()?
        };
        let me = self.me.clone();
        let setter: Setter = Arc::new(move |name, value, local| match me.upgrade() {
            Some(session) => session.set_config(name, value, local),
            None => Err(Error::bug(codes::INTERNAL, "the session has ended")),
        });
        Ok(Scope::new(self.engine.clone(), self.facts.clone(), snapshot, inner.variables.clone(), setter))
    }

    /// Those of a statement's notices that the client is to be told.
    fn heard(&self, notices: Vec<Notice>) -> Vec<String> {
        let mut inner = self.inner.lock();
        notices.into_iter().filter(|n| !n.once || inner.heard.insert(n.text.clone())).map(|n| n.text).collect()
    }

    /// SET from within a query.
    fn set_config(&self, name: &str, value: Option<String>, local: bool) -> Result<String> {
        let mut inner = self.inner.lock();
        // Outside a transaction a local setting ends with the statement that makes it.
        if !local || inner.block != Block::None {
            inner.variables.assign(name, value.clone(), local)?;
        }
        Ok(inner.variables.get(name).map(str::to_string).or(value).unwrap_or_default())
    }

    /// Refuses everything but the end of the transaction once it has failed.
    fn check_block(&self, kind: &Kind) -> Result<()> {
        let ends = matches!(kind, Kind::Command(Command::Commit | Command::Rollback | Command::RollbackTo(_)));
        if self.inner.lock().block == Block::Failed && !ends {
            return Err(Error::fix(
                codes::IN_FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    fn begin(&self, isolation: Option<Isolation>) -> Vec<String> {
        let mut inner = self.inner.lock();
        if inner.block == Block::Open {
            return vec!["there is already a transaction in progress".into()];
        }
        let default = match inner.variables.get("default_transaction_isolation") {
            Some("repeatable read" | "serializable") => Isolation::Transaction,
            _ => Isolation::Statement,
        };
        inner.isolation = isolation.unwrap_or(default);
        inner.block = Block::Open;
        inner.pinned = None;
        inner.variables.begin();
        self.facts.running.lock().in_transaction = true;
        Vec::new()
    }

    fn end(&self, commit: bool) -> Outcome {
        let mut inner = self.inner.lock();
        let committed = commit && inner.block == Block::Open;
        let notices = match inner.block {
            Block::None => vec!["there is no transaction in progress".to_string()],
            _ => Vec::new(),
        };
        let tag = if commit && inner.block != Block::Failed { "COMMIT" } else { "ROLLBACK" };
        inner.block = Block::None;
        inner.isolation = Isolation::Statement;
        inner.pinned = None;
        inner.savepoints.clear();
        inner.variables.end(committed);
        drop(inner);
        self.end_cursors(committed);
        self.facts.running.lock().in_transaction = false;
        Outcome::Done { tag: tag.into(), notices }
    }

    /// Runs a session command that returns no rows.
    fn command(&self, command: &Command) -> Result<Outcome> {
        let done = |tag: &str| Ok(Outcome::Done { tag: tag.to_string(), notices: Vec::new() });
        match command {
            Command::Begin { isolation, tag } => Ok(Outcome::Done { tag: tag.to_string(), notices: self.begin(*isolation) }),
            Command::Commit => Ok(self.end(true)),
            Command::Rollback => Ok(self.end(false)),
            Command::SetTransaction(isolation) => {
                let mut inner = self.inner.lock();
                if inner.block == Block::None {
                    let notices = vec!["SET TRANSACTION can only be used in transaction blocks".to_string()];
                    return Ok(Outcome::Done { tag: "SET".into(), notices });
                }
                inner.isolation = *isolation;
                done("SET")
            }
            Command::SetDefaultIsolation(isolation) => {
                self.inner.lock().variables.assign("default_transaction_isolation", Some(level(*isolation).into()), false)?;
                done("SET")
            }
            Command::Set { name, value, local } => {
                self.inner.lock().variables.assign(name, value.clone(), *local)?;
                done(if value.is_some() { "SET" } else { "RESET" })
            }
            Command::ResetAll => {
                self.inner.lock().variables.reset_all();
                done("RESET")
            }
            Command::DiscardAll => {
                let mut inner = self.inner.lock();
                if inner.block != Block::None {
                    return Err(Error::fix(codes::NOT_SUPPORTED, "DISCARD ALL cannot run inside a transaction block"));
                }
                inner.variables.reset_all();
                drop(inner);
                self.cursors.lock().clear();
                done("DISCARD ALL")
            }
            Command::Savepoint(_) | Command::Release(_) | Command::RollbackTo(_) => self.savepoint(command),
            Command::CloseCursor(name) => self.close_cursor(name.as_deref()),
            Command::Nothing(tag) => done(tag),
            Command::Show(_) | Command::ShowAll | Command::Fetch { .. } => {
                Err(Error::bug(codes::INTERNAL, "the command returns rows"))
            }
        }
    }

    /// Nothing is written here, so a savepoint only marks where a failed transaction may go on. Settings made since stay.
    fn savepoint(&self, command: &Command) -> Result<Outcome> {
        let mut inner = self.inner.lock();
        let outside = |tag: &str| {
            Error::fix(codes::NO_TRANSACTION, format!("{tag} can only be used in transaction blocks")).hint("BEGIN starts one.")
        };
        let unknown = |name: &str| Error::fix(codes::UNKNOWN_SAVEPOINT, format!("savepoint \"{name}\" does not exist"));
        let place = |inner: &Inner, name: &str| inner.savepoints.iter().rposition(|known| known == name);
        let tag = match command {
            Command::Savepoint(_) if inner.block == Block::None => return Err(outside("SAVEPOINT")),
            Command::Savepoint(name) => {
                inner.savepoints.push(name.clone());
                "SAVEPOINT"
            }
            Command::Release(_) if inner.block == Block::None => return Err(outside("RELEASE SAVEPOINT")),
            Command::Release(name) => {
                let at = place(&inner, name).ok_or_else(|| unknown(name))?;
                inner.savepoints.truncate(at);
                "RELEASE"
            }
            Command::RollbackTo(_) if inner.block == Block::None => return Err(outside("ROLLBACK TO SAVEPOINT")),
            Command::RollbackTo(name) => {
                let at = place(&inner, name).ok_or_else(|| unknown(name))?;
                inner.savepoints.truncate(at + 1);
                inner.block = Block::Open;
                "ROLLBACK"
            }
            _ => return Err(Error::bug(codes::INTERNAL, "not a savepoint command")),
        };
        Ok(Outcome::Done { tag: tag.into(), notices: Vec::new() })
    }

    /// The value that SHOW gives.
    fn show(&self, name: &str) -> Option<String> {
        let inner = self.inner.lock();
        if name == "transaction_isolation" && inner.block != Block::None {
            return Some(level(inner.isolation).to_string());
        }
        inner.variables.get(name).map(str::to_string)
    }

    /// Notes the statement that begins, and gives what may end it early.
    fn started(&self, sql: &str) -> Interrupt {
        metrics::STATEMENTS.add(1);
        let now = self.engine.env.clock.now_us();
        {
            let mut running = self.facts.running.lock();
            running.sql = sql.into();
            running.active = true;
            running.started_us = now;
        }
        let mut interrupt = self.interrupt();
        interrupt.begun = Some(self.engine.env.clock.moment());
        interrupt
    }

    /// What may end the work that begins: a cancel, or the session's time for a statement.
    fn interrupt(&self) -> Interrupt {
        let (sender, cancelled) = watch::channel(false);
        let sender = Arc::new(sender);
        *self.facts.cancel.lock() = Some(sender.clone());
        let clock = self.engine.env.clock.clone();
        let timeout = self.inner.lock().variables.statement_timeout();
        let deadline = timeout.map(|timeout| Moment(clock.moment().0 + timeout));
        Interrupt { _sender: sender, cancelled, begun: None, deadline, clock }
    }

    /// The failure of a statement: counts, and fails the transaction block.
    fn failed(&self, error: Error) -> Error {
        metrics::FAILED.add(1);
        if error.code().sqlstate == "57014" {
            metrics::CANCELLED.add(1);
        }
        if error.kind() == mainstem_types::ErrorKind::Bug {
            tracing::error!(error = %error.chain(), "a statement failed inside");
        }
        self.fail_transaction();
        error
    }

    /// `once`: it is executed at once, with the plan that is made here.
    async fn prepared(&self, sql: &str, parameter_types: &[Option<DataType>], once: bool) -> Result<Arc<Prepared>> {
        let Some(me) = self.me.upgrade() else {
            return Err(Error::bug(codes::INTERNAL, "the session has ended"));
        };
        let mut interrupt = self.interrupt();
        let (text, types) = (sql.to_string(), parameter_types.to_vec());
        let make = move || {
            let (kind, scope) = me.parse(&text)?;
            me.check_block(&kind)?;
            Prepared::new(me.clone(), &text, kind, scope, &types, once)
        };
        let made = match bounds::check_text(sql) {
            // A word to the session waits for no thread.
            Ok(()) if sql.len() <= COMMAND_BYTES_MAX && is_command(sql) => caught(make).and_then(|made| made),
            Ok(()) => self.engine.threads.run(&mut interrupt, make).await,
            Err(error) => Err(error),
        };
        made.map_err(|error| self.failed(error))
    }

    /// What the text asks for, with the scope in which a query was parsed.
    fn parse(&self, sql: &str) -> Result<(Kind, Option<Scope>)> {
        if let Some(statement) = self.engine.parsed.get(sql) {
            return Ok((Kind::Query(statement, None), None));
        }
        if text::Cursor::new(sql)?.is_empty() {
            return Ok((Kind::Empty, None));
        }
        if declarations::shows_sources(sql)? {
            return self.parse("SELECT * FROM mainstem.sources");
        }
        if let Some(declaration) = declarations::parse(sql, &self.facts.principal)? {
            return Ok((Kind::Declaration(declaration), None));
        }
        if let Some(command) = commands::parse(sql)? {
            return Ok((Kind::Command(command), None));
        }
        let scope = self.scope()?;
        if let Some(commands::DeclaredCursor { name, hold, query }) = commands::declared_cursor(sql)? {
            let skipped = sql.chars().count() - query.chars().count();
            let (statement, _) = parse_query(&scope, query).map_err(|error| match error.position() {
                Some(position) => error.at(position + skipped as u32),
                None => error,
            })?;
            return Ok((Kind::Query(statement, Some(Holder { name, hold })), Some(scope)));
        }
        let (statement, of_text_alone) = parse_query(&scope, sql)?;
        if of_text_alone {
            self.engine.parsed.put(sql, &statement);
        }
        Ok((Kind::Query(statement, None), Some(scope)))
    }
}

/// A query, and whether it is the same for everybody who sends this text.
fn parse_query(scope: &Scope, sql: &str) -> Result<(Arc<Statement>, bool)> {
    let of_text_alone = Cell::new(true);
    let oid_of = |name: &str| {
        of_text_alone.set(false);
        scope.oid_of(name)
    };
    let statement = Arc::new(scope.engine.rewriter.parse(sql, &oid_of)?);
    rewrite::check_read_only(&statement)?;
    Ok((statement, of_text_alone.get()))
}

/// Longer texts are no commands that people or drivers send.
const COMMAND_BYTES_MAX: usize = 1024;

/// Whether a text is a session command, which is read and done in no time.
fn is_command(sql: &str) -> bool {
    let first = sql.split_whitespace().next().unwrap_or("");
    if ["select", "with"].iter().any(|word| first.eq_ignore_ascii_case(word)) {
        return false;
    }
    text::Cursor::new(sql).is_ok_and(|words| words.is_empty()) || matches!(commands::parse(sql), Ok(Some(_)))
}

fn level(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Statement => "read committed",
        Isolation::Transaction => "repeatable read",
    }
}

#[async_trait]
impl SqlSession for Session {
    fn split(&self, sql: &str) -> Result<Vec<String>> {
        bounds::check_text(sql)?;
        text::split(sql)
    }

    async fn prepare(&self, sql: &str, parameter_types: &[Option<DataType>]) -> Result<Arc<dyn PreparedStatement>> {
        Ok(self.prepared(sql, parameter_types, false).await?)
    }

    async fn prepare_once(&self, sql: &str) -> Result<Arc<dyn PreparedStatement>> {
        Ok(self.prepared(sql, &[], true).await?)
    }

    fn cancel(&self) {
        self.facts.cancel();
    }

    fn cursor(&self, name: &str) -> Option<SchemaRef> {
        self.cursor_columns(name)
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.show(&name.to_lowercase())
    }

    fn transaction_status(&self) -> u8 {
        match self.inner.lock().block {
            Block::None => b'I',
            Block::Open => b'T',
            Block::Failed => b'E',
        }
    }

    fn fail_transaction(&self) {
        let mut inner = self.inner.lock();
        if inner.block == Block::Open {
            inner.block = Block::Failed;
            // A savepoint may bring the transaction back, on the same snapshot.
            if inner.savepoints.is_empty() {
                inner.pinned = None;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.engine.sessions.lock().remove(&self.number);
        metrics::SESSIONS.add(-1);
    }
}
