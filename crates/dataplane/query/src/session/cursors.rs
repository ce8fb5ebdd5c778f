//! Cursors of SQL: DECLARE, FETCH, MOVE, CLOSE. A cursor is a running query whose rows wait; it reads forward only.

use super::run::{self, Interrupt};
use super::{Block, Session};
use crate::codes;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use mainstem_env::Moment;
use mainstem_types::sql::Outcome;
use mainstem_types::{Error, Result};
use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

pub(super) struct OpenCursor {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
    /// The rest of a batch of which some rows were fetched.
    rest: Option<RecordBatch>,
    hold: bool,
    /// Since when it holds its snapshot.
    since: Moment,
}

impl OpenCursor {
    /// Up to `wanted` rows; None at the end.
    async fn next(&mut self, wanted: usize) -> Option<Result<RecordBatch>> {
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match self.batches.next().await? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error)),
            },
        };
        if batch.num_rows() <= wanted {
            return Some(Ok(batch));
        }
        self.rest = Some(batch.slice(wanted, batch.num_rows() - wanted));
        Some(Ok(batch.slice(0, wanted)))
    }
}

/// The cursors of one session, by name. One that is being read is not in it.
pub(super) type Cursors = HashMap<String, OpenCursor>;

fn unknown(name: &str) -> Error {
    Error::fix(codes::UNKNOWN_CURSOR, format!("cursor \"{name}\" does not exist"))
        .hint("A cursor lives as long as its transaction, unless it is declared WITH HOLD.")
}

/// A cursor out of the map while its rows are read; back in it afterwards, unless it failed.
struct Lent {
    session: Weak<Session>,
    name: String,
    cursor: Option<OpenCursor>,
    interrupt: Interrupt,
    left: Option<u64>,
}

impl Lent {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.left == Some(0) {
            return None;
        }
        let wanted = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let cursor = self.cursor.as_mut()?;
        let fetched = self.interrupt.or(cursor.next(wanted)).await;
        let batch = match (fetched, self.session.upgrade()) {
            (Ok(batch), _) => batch?,
            (Err(error), Some(session)) => Err(session.failed(error)),
            (Err(error), None) => Err(error),
        };
        match &batch {
            Ok(batch) => self.left = self.left.map(|left| left.saturating_sub(batch.num_rows() as u64)),
            Err(_) => self.cursor = None,
        }
        Some(batch)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(session) = self.session.upgrade() else { return };
        session.facts.running.lock().active = false;
        if let Some(cursor) = self.cursor.take() {
            let ended = !cursor.hold && session.inner.lock().block == Block::None;
            if !ended {
                session.cursors.lock().insert(std::mem::take(&mut self.name), cursor);
            }
        }
    }
}

impl Session {
    /// Whether a cursor of this name may be declared now.
    pub(super) fn check_cursor(&self, name: &str, hold: bool) -> Result<()> {
        if !hold && self.inner.lock().block == Block::None {
            return Err(Error::fix(codes::NO_TRANSACTION, "DECLARE CURSOR can only be used in transaction blocks")
                .hint("BEGIN starts one; a cursor WITH HOLD needs none."));
        }
        if self.cursors.lock().contains_key(name) {
            return Err(Error::fix(codes::CURSOR_TAKEN, format!("cursor \"{name}\" already exists")));
        }
        Ok(())
    }

    pub(super) fn open_cursor(
        &self,
        name: &str,
        hold: bool,
        schema: SchemaRef,
        batches: BoxStream<'static, Result<RecordBatch>>,
    ) {
        let since = self.engine.env.clock.moment();
        self.cursors.lock().insert(name.to_string(), OpenCursor { schema, batches, rest: None, hold, since });
        self.facts.running.lock().active = false;
    }

    pub(super) fn cursor_columns(&self, name: &str) -> Option<SchemaRef> {
        self.cursors.lock().get(name).map(|cursor| cursor.schema.clone())
    }

    /// The next rows of a cursor; for MOVE only their number.
    pub(super) async fn fetch(&self, name: &str, rows: Option<u64>, shown: bool, interrupt: Interrupt) -> Result<Outcome> {
        let cursor = self.cursors.lock().remove(name).ok_or_else(|| unknown(name))?;
        let age_max = Duration::from_millis(self.engine.settings.snapshot_age_ms_max);
        if self.engine.env.clock.moment() - cursor.since > age_max {
            return Err(run::snapshot_too_old("the cursor"));
        }
        let schema = cursor.schema.clone();
        let mut lent = Lent { session: self.me.clone(), name: name.to_string(), cursor: Some(cursor), interrupt, left: rows };
        if !shown {
            let mut moved = 0;
            while let Some(batch) = lent.next().await {
                moved += batch?.num_rows();
            }
            return Ok(Outcome::Done { tag: format!("MOVE {moved}"), notices: Vec::new() });
        }
        let batches = stream::unfold(lent, |mut lent| async move { Some((lent.next().await?, lent)) });
        Ok(Outcome::Rows { schema, batches: run::sealed(batches.boxed()), notices: Vec::new() })
    }

    pub(super) fn close_cursor(&self, name: Option<&str>) -> Result<Outcome> {
        let mut cursors = self.cursors.lock();
        let tag = match name {
            Some(name) => {
                cursors.remove(name).ok_or_else(|| unknown(name))?;
                "CLOSE CURSOR"
            }
            None => {
                cursors.clear();
                "CLOSE CURSOR ALL"
            }
        };
        Ok(Outcome::Done { tag: tag.into(), notices: Vec::new() })
    }

    /// At the end of a transaction: those that were declared to live on do, if it was committed.
    pub(super) fn end_cursors(&self, committed: bool) {
        self.cursors.lock().retain(|_, cursor| cursor.hold && committed);
    }
}
