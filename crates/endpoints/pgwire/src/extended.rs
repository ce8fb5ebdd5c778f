//! The extended query protocol: Parse, Bind, Describe, Execute, Close, Sync.

use crate::codes;
use crate::connection::Stop;
use crate::message::{Bind, Message, Target};
use crate::metrics;
use crate::parameter::Slot;
use crate::session::{Rows, Session, guarded, is_binary, row_tag};
use crate::types;
use mainstem_types::sql::{Outcome, Parameter, PreparedStatement};
use mainstem_types::{Error, Result};
use std::sync::Arc;

/// A prepared statement of the wire.
pub(crate) struct Statement {
    sql: String,
    /// None for an empty text and for DEALLOCATE, which is ours.
    prepared: Option<Arc<dyn PreparedStatement>>,
    /// Types under which the client sends the parameters.
    oids: Vec<u32>,
}

pub(crate) struct Portal {
    statement: Arc<Statement>,
    parameters: Vec<Parameter>,
    formats: Vec<i16>,
    progress: Progress,
}

enum Progress {
    Ready,
    Rows(Rows),
    Ended,
}

fn no_statement(name: &str) -> Error {
    let what = if name.is_empty() { "unnamed prepared statement".into() } else { format!("prepared statement \"{name}\"") };
    Error::fix(codes::NO_STATEMENT, format!("{what} does not exist"))
}

fn no_portal(name: &str) -> Error {
    Error::fix(codes::NO_PORTAL, format!("portal \"{name}\" does not exist"))
}

/// Format codes are 0 and 1, and none, one, or one for each.
fn check_formats(formats: &[i16], count: usize, what: &str) -> Result<()> {
    if formats.iter().any(|f| !matches!(f, 0 | 1)) {
        return Err(Error::fix(codes::PROTOCOL, format!("unknown {what} format code")));
    }
    if formats.len() > 1 && formats.len() != count {
        return Err(Error::fix(
            codes::PROTOCOL,
            format!("bind message has {} {what} formats but {count} {what}s", formats.len()),
        ));
    }
    Ok(())
}

impl Session<'_> {
    pub async fn extended(&mut self, message: Message) -> Result<(), Stop> {
        match message {
            Message::Parse { name, sql, types } => self.parse(name, sql, types).await?,
            Message::Bind(bind) => self.bind(bind)?,
            Message::Describe(Target::Statement(name)) => self.describe_statement(&name)?,
            Message::Describe(Target::Portal(name)) => self.describe_portal(&name)?,
            Message::Execute { portal, rows_max } => self.execute(&portal, rows_max).await?,
            Message::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(&name)),
                    Target::Portal(name) => drop(self.portals.remove(&name)),
                }
                self.connection.reply.empty(b'3');
            }
            _ => {}
        }
        self.connection.flush_when_full().await
    }

    pub async fn sync(&mut self) -> Result<(), Stop> {
        self.skipping = false;
        // Portals live as long as their transaction.
        if self.session.transaction_status() == b'I' {
            self.portals.clear();
        }
        self.ready().await
    }

    async fn parse(&mut self, name: String, sql: String, declared: Vec<u32>) -> Result<(), Stop> {
        self.connection.reply.about(&sql);
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(&name) {
            return Err(Error::fix(codes::STATEMENT_TAKEN, format!("prepared statement \"{name}\" already exists")).into());
        }
        let texts = self.session.split(&sql)?;
        if texts.len() > 1 {
            return Err(Error::fix(codes::MANY_COMMANDS, "cannot insert multiple commands into a prepared statement").into());
        }
        let ours = sql.trim_start().get(..10).is_some_and(|w| w.eq_ignore_ascii_case("deallocate"));
        let (mut prepared, mut oids) = (None, Vec::new());
        if !texts.is_empty() && !ours {
            let kinds: Vec<_> = declared.iter().map(|oid| types::arrow_of(*oid)).collect();
            let session = &*self.session;
            let planned = guarded(self.connection, session, session.prepare(&sql, &kinds)).await?;
            let inferred =
                planned.parameter_types().iter().enumerate().map(|(i, kind)| types::of(kind, planned.parameter_source(i)));
            // 0 and 705 (unknown) leave the type to us.
            let said = |i: usize| declared.get(i).copied().filter(|oid| !matches!(oid, 0 | 705));
            oids = inferred.enumerate().map(|(i, oid)| said(i).unwrap_or(oid)).collect();
            prepared = Some(planned);
        }
        self.statements.insert(name, Arc::new(Statement { sql, prepared, oids }));
        self.connection.reply.empty(b'1');
        Ok(())
    }

    fn bind(&mut self, bind: Bind) -> Result<()> {
        let statement = self.statements.get(&bind.statement).cloned().ok_or_else(|| no_statement(&bind.statement))?;
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(Error::fix(codes::PORTAL_TAKEN, format!("portal \"{}\" already exists", bind.portal)));
        }
        let kinds = statement.prepared.as_ref().map_or(&[][..], |p| p.parameter_types());
        if bind.values.len() != kinds.len() {
            let (got, want) = (bind.values.len(), kinds.len());
            let message = format!("bind message supplies {got} parameters, but the prepared statement requires {want}");
            return Err(Error::fix(codes::PROTOCOL, message));
        }
        check_formats(&bind.formats, kinds.len(), "parameter")?;
        let columns = statement.prepared.as_ref().and_then(|p| p.columns());
        check_formats(&bind.result_formats, columns.map_or(bind.result_formats.len(), |c| c.fields().len()), "result")?;
        let mut parameters = Vec::with_capacity(kinds.len());
        for (i, (kind, oid)) in kinds.iter().zip(&statement.oids).enumerate() {
            let slot = Slot { oid: *oid, kind, number: i + 1, binary: is_binary(&bind.formats, i) };
            parameters.push(slot.read(bind.values.get(i).and_then(Option::as_ref))?);
        }
        let portal = Portal { statement, parameters, formats: bind.result_formats, progress: Progress::Ready };
        self.portals.insert(bind.portal, portal);
        self.connection.reply.empty(b'2');
        Ok(())
    }

    fn describe_statement(&mut self, name: &str) -> Result<()> {
        let statement = self.statements.get(name).ok_or_else(|| no_statement(name))?;
        self.connection.reply.message(b't', |out| {
            out.extend_from_slice(&(statement.oids.len() as u16).to_be_bytes());
            statement.oids.iter().for_each(|oid| out.extend_from_slice(&oid.to_be_bytes()));
        });
        match statement.prepared.as_ref().and_then(|p| p.columns()) {
            Some(columns) => self.connection.reply.row_description(&columns, |_| false),
            None => self.connection.reply.empty(b'n'),
        }
        Ok(())
    }

    fn describe_portal(&mut self, name: &str) -> Result<()> {
        // A cursor of SQL is a portal to clients.
        if !self.portals.contains_key(name)
            && let Some(columns) = self.session.cursor(name)
        {
            self.connection.reply.row_description(&columns, |_| false);
            return Ok(());
        }
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        match portal.statement.prepared.as_ref().and_then(|p| p.columns()) {
            Some(columns) => self.connection.reply.row_description(&columns, |i| is_binary(&portal.formats, i)),
            None => self.connection.reply.empty(b'n'),
        }
        Ok(())
    }

    async fn execute(&mut self, name: &str, rows_max: u32) -> Result<(), Stop> {
        // Out of the map while it runs; an error leaves it out.
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        if matches!(portal.progress, Progress::Ready) {
            self.first_execute(&mut portal).await?;
        } else if matches!(portal.progress, Progress::Ended) {
            self.connection.reply.complete(&row_tag(&portal.statement.sql, 0));
        }
        if let Progress::Rows(rows) = &mut portal.progress {
            let limit = if rows_max == 0 { u64::MAX } else { u64::from(rows_max) };
            let sent = rows.send(self.connection, &*self.session, limit).await?;
            if sent.suspended {
                self.connection.reply.empty(b's');
            } else {
                self.connection.reply.complete(&row_tag(&portal.statement.sql, sent.rows));
                portal.progress = Progress::Ended;
            }
        }
        self.portals.insert(name.to_string(), portal);
        Ok(())
    }

    async fn first_execute(&mut self, portal: &mut Portal) -> Result<(), Stop> {
        metrics::STATEMENTS.add(1);
        portal.progress = Progress::Ended;
        let Some(prepared) = &portal.statement.prepared else {
            match self.deallocate(&portal.statement.sql)? {
                Some(tag) => self.connection.reply.complete(tag),
                None => self.connection.reply.empty(b'I'),
            }
            return Ok(());
        };
        let work = prepared.execute(std::mem::take(&mut portal.parameters));
        match guarded(self.connection, &*self.session, work).await? {
            Outcome::Empty => self.connection.reply.empty(b'I'),
            Outcome::Done { tag, notices } => self.done(&tag, &notices),
            Outcome::Rows { schema, batches, notices } => {
                notices.iter().for_each(|n| self.connection.reply.notice(n));
                portal.progress = Progress::Rows(Rows::new(schema, batches, &portal.formats));
            }
        }
        Ok(())
    }
}
