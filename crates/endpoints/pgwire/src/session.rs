//! One logged-in client: the message loop and the simple query protocol. The extended protocol is in `extended`.

use crate::codes;
use crate::connection::{Connection, Stop};
use crate::copy;
use crate::encode::Cells;
use crate::extended::{Portal, Statement};
use crate::message::{self, MESSAGE_BYTES_MAX, Message};
use crate::metrics;
use crate::server::Shared;
use crate::startup::Client;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use mainstem_types::sql::{ClientInfo, Outcome, SqlSession};
use mainstem_types::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::watch;

/// Settings that drivers are told of at start-up and whenever they change, with their values when the session has no word on
/// them. The first three come from the log-in.
const REPORTED: [(&str, &str); 13] = [
    ("server_version", ""),
    ("application_name", ""),
    ("session_authorization", ""),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("is_superuser", "off"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
];

pub(crate) struct Session<'a> {
    pub connection: &'a mut Connection,
    pub session: Arc<dyn SqlSession>,
    reported: Vec<(&'static str, String)>,
    pub statements: HashMap<String, Arc<Statement>>,
    pub portals: HashMap<String, Portal>,
    /// After an error in the extended protocol: until Sync.
    pub skipping: bool,
}

/// Forgets the session's number however it ends.
struct Registered<'a>(&'a Shared, i32);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.unregister(self.1);
    }
}

impl Session<'_> {
    /// Serves a client until it leaves, the server stops or something fatal happens; returns what to tell it.
    pub async fn run(
        shared: Arc<Shared>,
        connection: &mut Connection,
        client: Client,
        address: SocketAddr,
        stopped: watch::Receiver<bool>,
    ) -> Stop {
        let (number, secret) = shared.register(client.long_key);
        let registered = Registered(&shared, number);
        let info = ClientInfo {
            principal: client.principal.clone(),
            database: client.database.clone(),
            application: client.application.clone(),
            address: address.to_string(),
            number,
        };
        let backend = match shared.backend() {
            Ok(backend) => backend,
            Err(stop) => return stop,
        };
        let opened = match caught(backend.service.open(info)).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return Stop::Fatal(error),
            Err(stop) => return stop,
        };
        shared.attach(number, opened.clone());
        let authorization = client.principal.to_string();
        let reported = REPORTED.map(|(name, value)| match name {
            "server_version" => (name, shared.settings.server_version.clone()),
            "application_name" => (name, client.application.clone()),
            "session_authorization" => (name, authorization.clone()),
            _ => (name, value.to_string()),
        });
        let (statements, portals) = (HashMap::new(), HashMap::new());
        let mut session =
            Session { connection, session: opened, reported: reported.into(), statements, portals, skipping: false };
        let stop = match caught(session.greet(&client.settings, number, &secret)).await {
            Ok(Ok(())) => session.serve(stopped, &|| backend.users.exists(&authorization)).await,
            Ok(Err(stop)) | Err(stop) => stop,
        };
        if matches!(stop, Stop::Gone) {
            session.session.cancel();
        }
        drop(registered);
        stop
    }

    async fn greet(&mut self, settings: &[(String, String)], number: i32, secret: &[u8]) -> Result<(), Stop> {
        for (name, value) in settings {
            // As a statement, so that the session has one way to be set. A driver's wish that is not known here is no reason
            // to send the driver away.
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
            let sql = format!("SET {name} = '{}'", value.replace('\'', "''"));
            let set = async { self.session.prepare(&sql, &[]).await?.execute(Vec::new()).await };
            if !plain || set.await.is_err() {
                self.connection.reply.notice(&format!("setting \"{name}\" was not taken at start-up"));
            }
        }
        for (name, value) in &mut self.reported {
            if let Some(word) = self.session.setting(&name.to_ascii_lowercase()) {
                *value = word;
            }
            self.connection.reply.parameter_status(name, value);
        }
        self.connection.reply.message(b'K', |out| {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(secret);
        });
        self.connection.reply.ready(self.session.transaction_status());
        self.connection.flush().await
    }

    /// `exists` says whether the session's user is still there.
    async fn serve(&mut self, mut stopped: watch::Receiver<bool>, exists: &(dyn Fn() -> bool + Sync)) -> Stop {
        loop {
            let stop = async {
                let _ = stopped.wait_for(|s| *s).await;
            };
            let frame = tokio::select! {
                biased;
                () = stop => return Stop::Fatal(Error::retry(codes::SHUTDOWN, "terminating connection: the server is stopping")),
                frame = self.connection.frame(MESSAGE_BYTES_MAX) => frame,
            };
            let (tag, body) = match frame {
                Ok(frame) => frame,
                Err(stop) => return stop,
            };
            if !exists() {
                return Stop::Fatal(Error::denied(codes::DROPPED, "terminating connection: its user was dropped"));
            }
            match caught(self.handle(tag, body)).await {
                Ok(Ok(())) => {}
                Ok(Err(stop)) | Err(stop) => return stop,
            }
        }
    }

    async fn handle(&mut self, tag: u8, body: Bytes) -> Result<(), Stop> {
        if !b"QPBDCESHXpdcfF".contains(&tag) {
            return Err(Stop::Fatal(Error::fix(codes::PROTOCOL, format!("invalid frontend message type {tag}"))));
        }
        if self.skipping && !matches!(tag, b'S' | b'X') {
            return Ok(());
        }
        let message = match message::read(tag, body) {
            Ok(message) => message,
            Err(error) => {
                metrics::PROTOCOL_ERRORS.add(1);
                if Message::tag_is_extended(tag) {
                    return self.skip(&error).await;
                }
                self.fail(&error);
                return self.ready().await;
            }
        };
        match message {
            Message::Query(sql) => self.query(&sql).await,
            Message::Sync => self.sync().await,
            Message::Flush => self.connection.flush().await,
            Message::Terminate => Err(Stop::Gone),
            Message::Copy => Ok(()),
            Message::Password(_) => Err(Stop::Fatal(Error::fix(codes::PROTOCOL, "unexpected password message"))),
            Message::FunctionCall => {
                self.fail(&Error::fix(codes::UNSUPPORTED, "function call messages are not served").hint("Use SELECT."));
                self.ready().await
            }
            message => match self.extended(message).await {
                Err(Stop::Error(error)) => self.skip(&error).await,
                done => done,
            },
        }
    }

    /// After an error in the extended protocol nothing but Sync is answered, not even Flush: the error goes out now, or a client
    /// that has asked for a Flush and waits would never see it.
    async fn skip(&mut self, error: &Error) -> Result<(), Stop> {
        self.fail(error);
        self.skipping = true;
        self.connection.flush().await
    }

    /// Tells the client of an error and the session that its transaction block, if it is in one, has failed.
    pub fn fail(&mut self, error: &Error) {
        if matches!(error.kind(), ErrorKind::Bug | ErrorKind::Corrupt) {
            tracing::error!(error = error.chain(), "statement failed");
        }
        self.session.fail_transaction();
        self.connection.reply.error(error, "ERROR");
    }

    pub async fn ready(&mut self) -> Result<(), Stop> {
        self.report();
        self.connection.reply.ready(self.session.transaction_status());
        self.connection.flush().await
    }

    async fn query(&mut self, sql: &str) -> Result<(), Stop> {
        self.statements.remove("");
        self.portals.remove("");
        self.connection.reply.about(sql);
        match self.statements_of(sql).await {
            Err(Stop::Error(error)) => self.fail(&error),
            done => done?,
        }
        if self.session.transaction_status() == b'I' {
            self.portals.clear();
        }
        self.ready().await
    }

    /// Runs the statements of a text one after another; the first error ends it.
    async fn statements_of(&mut self, sql: &str) -> Result<(), Stop> {
        let statements = self.session.split(sql)?;
        if statements.is_empty() {
            self.connection.reply.empty(b'I');
        }
        let (mut at, mut before) = (0, 0);
        for text in &statements {
            let found = at + sql.get(at..).and_then(|rest| rest.find(text.as_str())).unwrap_or(0);
            before += sql.get(at..found).map_or(0, |s| s.chars().count()) as u32;
            at = found;
            self.statement(text).await.map_err(|stop| match stop {
                Stop::Error(error) => Stop::Error(match error.position() {
                    Some(position) => error.at(position + before),
                    None => error,
                }),
                stop => stop,
            })?;
            at += text.len();
            before += text.chars().count() as u32;
        }
        Ok(())
    }

    async fn statement(&mut self, text: &str) -> Result<(), Stop> {
        metrics::STATEMENTS.add(1);
        if let Some(tag) = self.deallocate(text)? {
            self.connection.reply.complete(tag);
            return Ok(());
        }
        if let Some(copy) = copy::parse(text)? {
            return self.copy_out(&copy).await;
        }
        let outcome = self.run_plain(text).await?;
        match outcome {
            Outcome::Empty => self.connection.reply.empty(b'I'),
            Outcome::Done { tag, notices } => self.done(&tag, &notices),
            Outcome::Rows { schema, batches, notices } => {
                notices.iter().for_each(|n| self.connection.reply.notice(n));
                self.connection.reply.row_description(&schema, |_| false);
                let mut rows = Rows::new(schema, batches, &[]);
                let sent = rows.send(self.connection, &*self.session, u64::MAX).await?;
                self.connection.reply.complete(&row_tag(text, sent.rows));
            }
        }
        Ok(())
    }

    /// Prepares and executes a statement without parameters.
    pub async fn run_plain(&mut self, text: &str) -> Result<Outcome, Stop> {
        let session = &*self.session;
        let prepared = guarded(self.connection, session, session.prepare_once(text)).await?;
        if !prepared.parameter_types().is_empty() {
            return Err(Error::fix(codes::NO_PARAMETER, "there is no parameter $1 in a statement sent without parameters").into());
        }
        guarded(self.connection, session, prepared.execute(Vec::new())).await
    }

    pub fn done(&mut self, tag: &str, notices: &[String]) {
        notices.iter().for_each(|n| self.connection.reply.notice(n));
        self.report();
        if tag.starts_with("DISCARD") {
            self.statements.clear();
            self.portals.clear();
        }
        self.connection.reply.complete(tag);
    }

    /// Tells the client of the settings that have changed: by SET, or by a SELECT of set_config.
    pub fn report(&mut self) {
        for (name, value) in &mut self.reported {
            if let Some(word) = self.session.setting(&name.to_ascii_lowercase()).filter(|word| word != value) {
                self.connection.reply.parameter_status(name, &word);
                *value = word;
            }
        }
    }

    /// DEALLOCATE of a statement of the wire, whose names live here; None for anything else.
    pub fn deallocate(&mut self, text: &str) -> Result<Option<&'static str>> {
        let mut words = text.trim_end_matches(';').split_whitespace();
        if !words.next().is_some_and(|w| w.eq_ignore_ascii_case("deallocate")) {
            return Ok(None);
        }
        let mut name = words.next().unwrap_or_default();
        if name.eq_ignore_ascii_case("prepare") {
            name = words.next().unwrap_or_default();
        }
        if name.eq_ignore_ascii_case("all") {
            self.statements.clear();
            return Ok(Some("DEALLOCATE ALL"));
        }
        let name = match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => name.to_lowercase(),
        };
        match self.statements.remove(&name) {
            Some(_) => Ok(Some("DEALLOCATE")),
            None => Err(Error::fix(codes::NO_STATEMENT, format!("prepared statement \"{name}\" does not exist"))),
        }
    }
}

/// Runs `work`; a panic in it becomes the end of this client's connection only.
async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Stop> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| {
        metrics::PANICS.add(1);
        tracing::error!("a session panicked; only its connection ends");
        let error = Error::bug(codes::PANIC, "internal error: this session had to end; the server goes on");
        Stop::Fatal(error.hint("Connect again; please report this with the server's log."))
    })
}

/// Waits for the engine and watches the client meanwhile: one that goes away stops its statement.
pub(crate) async fn guarded<T>(
    connection: &mut Connection,
    session: &dyn SqlSession,
    work: impl Future<Output = Result<T>>,
) -> Result<T, Stop> {
    tokio::select! {
        biased;
        done = work => done.map_err(Stop::Error),
        () = connection.gone() => {
            metrics::CLIENTS_GONE.add(1);
            session.cancel();
            Err(Stop::Gone)
        }
    }
}

/// The command tag of a statement that returned rows.
pub(crate) fn row_tag(sql: &str, rows: u64) -> String {
    let word = sql.split_whitespace().find(|w| !w.starts_with("--")).unwrap_or_default().to_ascii_uppercase();
    match word.as_str() {
        "SHOW" | "EXPLAIN" => word,
        "FETCH" => format!("FETCH {rows}"),
        _ => format!("SELECT {rows}"),
    }
}

/// A result on its way to the client; may be stopped after any row and go on later.
pub(crate) struct Rows {
    schema: SchemaRef,
    binary: Vec<bool>,
    batches: BoxStream<'static, Result<RecordBatch>>,
    /// The batch at hand and its first row not sent.
    current: Option<(RecordBatch, usize)>,
}

pub(crate) struct Sent {
    pub rows: u64,
    /// Stopped by the limit; there may be more.
    pub suspended: bool,
}

impl Rows {
    /// `formats` as in Bind: none = all text, one = for all columns, else one per column.
    pub fn new(schema: SchemaRef, batches: BoxStream<'static, Result<RecordBatch>>, formats: &[i16]) -> Self {
        let binary = (0..schema.fields().len()).map(|i| is_binary(formats, i)).collect();
        Self { schema, binary, batches, current: None }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch with rows, after those sent; None at the end.
    pub async fn next(
        &mut self,
        connection: &mut Connection,
        session: &dyn SqlSession,
    ) -> Result<Option<(RecordBatch, usize)>, Stop> {
        loop {
            let (batch, row) = match self.current.take() {
                Some(current) => current,
                None => match guarded(connection, session, self.batches.next().map(Option::transpose)).await? {
                    Some(batch) => (batch, 0),
                    None => return Ok(None),
                },
            };
            if batch.num_columns() != self.schema.fields().len() {
                return Err(Error::bug(codes::ENCODE, "a result has other columns than it was described with").into());
            }
            if row < batch.num_rows() {
                return Ok(Some((batch, row)));
            }
        }
    }

    /// Sends up to `limit` rows as they come.
    pub async fn send(&mut self, connection: &mut Connection, session: &dyn SqlSession, limit: u64) -> Result<Sent, Stop> {
        let mut sent = Sent { rows: 0, suspended: false };
        while let Some((batch, first)) = self.next(connection, session).await? {
            let columns = batch.columns().iter().zip(self.schema.fields().iter().zip(&self.binary));
            let cells = columns.map(|(array, (field, binary))| Cells::of(array, field, *binary)).collect::<Result<Vec<_>>>()?;
            for row in first..batch.num_rows() {
                connection.reply.try_message(b'D', |out| {
                    out.extend_from_slice(&(cells.len() as u16).to_be_bytes());
                    cells.iter().try_for_each(|cell| cell.put(row, out))
                })?;
                sent.rows += 1;
                connection.flush_when_full().await?;
                if sent.rows == limit {
                    metrics::ROWS.add(sent.rows);
                    drop(cells);
                    self.current = Some((batch, row + 1));
                    sent.suspended = true;
                    return Ok(sent);
                }
            }
        }
        metrics::ROWS.add(sent.rows);
        Ok(sent)
    }
}

pub(crate) fn is_binary(formats: &[i16], column: usize) -> bool {
    match formats {
        [] => false,
        [one] => *one == 1,
        many => many.get(column) == Some(&1),
    }
}
