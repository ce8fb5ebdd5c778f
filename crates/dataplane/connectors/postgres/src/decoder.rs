//! From replication messages to stream items. Knows nothing of sockets: live streaming, bulk reading and the replay of spooled
//! transactions all feed it.

use crate::pgoutput::{self, Message};
use crate::position::{Place, widen};
use crate::registry::{Match, Registry};
use crate::rows::{Event, Gathered, Taken};
use crate::spool::{Replay, Spool};
use crate::wire::protocol;
use crate::{catalog, metrics};
use mainstem_connector::{CommitPoint, ITEM_BYTES_MAX, StreamItem};
use mainstem_types::{Result, TableSchema, Tx, UpstreamId};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What a table's Relation message told.
enum Known {
    Schema(Arc<TableSchema>, pgoutput::Relation),
    /// Its rows cannot be understood until the next Relation message.
    Unreadable,
}

/// A transaction of which Begin was read and Commit was not.
struct Open {
    tx: Tx,
    order: u32,
    /// Position of its end, when it is known from the start (streamed transactions).
    end_lsn: u64,
    /// It was handed out already: a bulk read began before the place where we are.
    repeated: bool,
}

pub struct Decoder {
    registry: Arc<Registry>,
    place: Place,
    known: HashMap<u32, Known>,
    gathered: Gathered,
    open: Option<Open>,
    /// Inside Stream Start .. Stop: the top-level transaction.
    block: Option<u32>,
    spool: Spool,
    replay: Option<Replay>,
    /// The end of the last whole transaction gathered.
    end: Option<CommitPoint>,
    /// A full transaction id near those that come.
    near_xid: u64,
    /// The highest position handed out.
    passed: u64,
    pub items: VecDeque<StreamItem>,
    /// A Relation message that waits for the catalog.
    pub question: Option<pgoutput::Relation>,
}

impl Decoder {
    pub fn new(registry: Arc<Registry>, from: Place, near_xid: u64, spool: Spool) -> Self {
        Self {
            registry,
            place: from,
            known: HashMap::new(),
            gathered: Gathered::default(),
            open: None,
            block: None,
            spool,
            replay: None,
            end: None,
            near_xid,
            passed: from.lsn,
            items: VecDeque::new(),
            question: None,
        }
    }

    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Whole transactions are gathered and not handed out.
    pub fn has_whole(&self) -> bool {
        self.end.is_some()
    }

    /// Commit time of the last of them, microseconds since 1970.
    pub fn whole_commit_time_us(&self) -> Option<i64> {
        self.end.as_ref().map(|end| end.commit_time_us)
    }

    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    pub fn in_block(&self) -> bool {
        self.block.is_some()
    }

    pub fn is_full(&self) -> bool {
        self.gathered.bytes() >= ITEM_BYTES_MAX
    }

    pub fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// Takes one message. When it asks a question (a Relation that we do not know), nothing more may be fed until `answer`.
    pub fn message(&mut self, lsn: u64, bytes: &[u8]) -> Result<()> {
        let (subxid, message) = pgoutput::parse(bytes, self.block.is_some())?;
        if let (Some(xid), Some(subxid)) = (self.block, subxid) {
            return self.spool.add(xid, subxid, lsn, bytes);
        }
        match message {
            Message::Begin { commit_lsn, commit_time_us, xid } => self.begin(xid, commit_lsn, commit_time_us, 0),
            Message::Commit { end_lsn, .. } => self.commit(end_lsn)?,
            Message::StreamStart { xid } => {
                metrics::STREAMED_BLOCKS.add(1);
                self.block = Some(xid);
            }
            Message::StreamStop => self.block = None,
            Message::StreamAbort { xid, subxid } => self.spool.abort(xid, subxid),
            Message::StreamCommit { xid, commit_lsn, end_lsn, commit_time_us } => {
                self.begin(xid, commit_lsn, commit_time_us, end_lsn);
                self.replay = Some(self.spool.commit(xid));
            }
            other => self.change(lsn, bytes.len(), other)?,
        }
        self.hand_out_piece()
    }

    fn begin(&mut self, xid: u32, commit_lsn: u64, commit_time_us: i64, end_lsn: u64) {
        let id = widen(xid, self.near_xid);
        self.near_xid = self.near_xid.max(id);
        self.open = Some(Open {
            tx: Tx { id, commit_place: commit_lsn, commit_time_us },
            order: 0,
            end_lsn,
            repeated: commit_lsn < self.passed,
        });
    }

    fn commit(&mut self, end_lsn: u64) -> Result<()> {
        let open = self.open.take().ok_or_else(|| protocol("a commit without its begin"))?;
        if open.repeated {
            return Ok(());
        }
        self.end = Some(CommitPoint { position: self.place.at(end_lsn).position(), commit_time_us: open.tx.commit_time_us });
        self.passed = self.passed.max(end_lsn);
        Ok(())
    }

    /// A transaction larger than an item leaves in pieces.
    fn hand_out_piece(&mut self) -> Result<()> {
        if self.is_full() && self.open.is_some() && self.end.is_none() {
            let batches = self.gathered.take()?;
            self.items.push_back(StreamItem::Changes { batches, end: None });
        }
        Ok(())
    }

    /// Hands out the whole transactions gathered.
    pub fn flush(&mut self) -> Result<()> {
        if let Some(end) = self.end.take() {
            let batches = self.gathered.take()?;
            self.items.push_back(StreamItem::Changes { batches, end: Some(end) });
        }
        Ok(())
    }

    /// Goes on with a streamed transaction that committed, until an item, a question, or its end.
    pub fn replay(&mut self) -> Result<()> {
        let Some(mut replay) = self.replay.take() else { return Ok(()) };
        loop {
            let Some(message) = replay.next()? else {
                let end = self.open.as_ref().map_or(0, |o| o.end_lsn);
                self.commit(end)?;
                return self.flush();
            };
            let (_, parsed) = pgoutput::parse(message.bytes, true)?;
            // A Relation message of an undone subtransaction still tells what the server believes that we know.
            if !message.aborted || matches!(parsed, Message::Relation(_)) {
                self.change(message.lsn, message.bytes.len(), parsed)?;
                self.hand_out_piece()?;
            }
            if !self.items.is_empty() || self.question.is_some() {
                self.replay = Some(replay);
                return Ok(());
            }
        }
    }

    fn change(&mut self, lsn: u64, bytes: usize, message: Message<'_>) -> Result<()> {
        match message {
            Message::Relation(relation) => {
                if !self.is_clear(&relation) {
                    self.question = Some(relation);
                }
                Ok(())
            }
            Message::Insert { relation, new } => self.row(relation, bytes, lsn, |rows, event| rows.insert(&new, event)),
            Message::Update { relation, old, new } => {
                self.row(relation, bytes, lsn, |rows, event| rows.update(old.as_ref(), &new, event))
            }
            Message::Delete { relation, old } => self.row(relation, bytes, lsn, |rows, event| rows.delete(&old, event)),
            Message::Truncate { relations } => {
                for relation in relations {
                    self.row(relation, 0, lsn, |rows, event| {
                        rows.truncate(event);
                        Ok(Taken::Whole)
                    })?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn row(
        &mut self,
        oid: u32,
        bytes: usize,
        lsn: u64,
        append: impl FnOnce(&mut crate::rows::TableRows, Event) -> Result<Taken>,
    ) -> Result<()> {
        let open = self.open.as_mut().ok_or_else(|| protocol("a row outside a transaction"))?;
        let event = Event { tx: open.tx, lsn, order: open.order };
        open.order += 1;
        if open.repeated {
            return Ok(());
        }
        let schema = match self.known.get(&oid) {
            Some(Known::Schema(schema, _)) => schema,
            Some(Known::Unreadable) => return Ok(()),
            None => return Err(protocol("a row of a table that was not announced")),
        };
        if self.registry.is_stopped(oid) {
            return Ok(());
        }
        metrics::ROWS_STREAMED.add(1);
        self.gathered.count(bytes);
        match append(self.gathered.table(oid, schema), event) {
            Ok(Taken::Whole) => Ok(()),
            Ok(Taken::Bad(bad)) => {
                self.items.push_back(StreamItem::BadRow(bad));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What the catalog says to the open question; `None` when the table is gone.
    pub fn answer(&mut self, found: Option<&catalog::Relation>) -> Result<()> {
        let Some(said) = self.question.take() else { return Ok(()) };
        let oid = said.oid;
        let tx = self.open.as_ref().map_or(self.near_xid, |open| open.tx.id);
        match self.registry.resolve(&said, found, tx) {
            Match::Schema(schema) => {
                let before = self.known.insert(oid, Known::Schema(schema.clone(), said));
                if matches!(&before, Some(Known::Schema(old, _)) if Arc::ptr_eq(old, &schema)) {
                    return Ok(());
                }
                self.before_schema()?;
                self.items.push_back(StreamItem::Schema(schema));
            }
            Match::Stale { new, reason, schema } => {
                self.gathered.forget(oid);
                if new && found.is_some() {
                    self.tell_stale(oid, reason);
                }
                self.read_as(said, schema);
            }
        }
        Ok(())
    }

    /// What was handed out of a table may be wrong: its rows stop, and those after its next copy have the columns it has now.
    pub fn stale(&mut self, oid: u32, reason: String) {
        self.gathered.forget(oid);
        self.tell_stale(oid, reason);
        if let Some(Known::Schema(_, said)) = self.known.remove(&oid) {
            let newest = self.registry.newest(&said);
            self.read_as(said, newest);
        }
    }

    fn tell_stale(&mut self, oid: u32, reason: String) {
        self.registry.stop(oid, reason.clone());
        self.items.push_back(StreamItem::TableStale { upstream: UpstreamId(u64::from(oid)), reason });
    }

    /// How the rows after a Relation message are read from now on; without a schema they cannot be.
    fn read_as(&mut self, said: pgoutput::Relation, schema: Option<Arc<TableSchema>>) {
        let oid = said.oid;
        let known = match schema {
            Some(schema) => {
                self.items.push_back(StreamItem::Schema(schema.clone()));
                Known::Schema(schema, said)
            }
            None => Known::Unreadable,
        };
        self.known.insert(oid, known);
    }

    /// Rows that came before a schema leave before it.
    fn before_schema(&mut self) -> Result<()> {
        if self.end.is_some() {
            return self.flush();
        }
        if !self.gathered.is_empty() {
            let batches = self.gathered.take()?;
            self.items.push_back(StreamItem::Changes { batches, end: None });
        }
        Ok(())
    }

    /// Whether a Relation message says nothing that the catalog should be asked about.
    fn is_clear(&self, said: &pgoutput::Relation) -> bool {
        // Under FULL all columns are flagged: a key that comes, goes or changes does not show in the message.
        let full = said.identity == b'f';
        // After a change behind the log's back the same words may be clear again.
        matches!(self.known.get(&said.oid), Some(Known::Schema(_, known)) if *known == *said && !full)
    }

    /// Whether a Relation message in the buffer would ask a question.
    pub fn is_news(&self, bytes: &[u8]) -> bool {
        match pgoutput::parse(bytes, false) {
            Ok((_, Message::Relation(said))) => !self.is_clear(&said),
            _ => true,
        }
    }

    /// Nothing happened for us up to `lsn`. Only between transactions and with nothing gathered.
    pub fn progress(&mut self, lsn: u64) {
        if lsn > self.passed && self.open.is_none() && self.end.is_none() {
            self.passed = lsn;
            self.items.push_back(StreamItem::Progress(self.place.at(lsn).position()));
        }
    }
}
