//! What copies of tables are made of (decisions 9-13): the wait until one can be right, the snapshot, the COPY statements, and their rows
//! as batches. `copiers` says which copies run when.

use crate::catalog::Relation;
use crate::codes;
use crate::database::Database;
use crate::metrics;
use crate::position::parse_lsn;
use crate::rows::{Event, TableRows, Taken};
use crate::wire::{Cells, Session, protocol, quote_name};
use async_trait::async_trait;
use mainstem_connector::{Copied, ITEM_BYTES_MAX, Seen, TableCopy};
use mainstem_types::{Error, Position, Result, TableName, TableSchema, Tx};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Rows of one batch.
const BATCH_ROWS_MAX: usize = 64 << 10;
/// Bytes of decoded rows that wait to be taken, over all tables and sessions of a worker.
pub const WAITING_BYTES_MAX: usize = 2 * ITEM_BYTES_MAX;
/// Batches of one table that wait to be taken; their bytes are bounded by `WAITING_BYTES_MAX`.
const BATCHES_WAITING: usize = 16;

/// A batch on its way, with its share of `WAITING_BYTES_MAX`.
type Waiting = Result<(Copied, OwnedSemaphorePermit)>;

pub struct Copy {
    schema: Arc<TableSchema>,
    seen: Seen,
    upto: Position,
    batches: mpsc::Receiver<Waiting>,
    /// Pieces not yet read to their end: a reader that dies must not look like the end of the table.
    left: Arc<AtomicUsize>,
    /// Of the batch handed out last: whoever asks for the next one is done with it.
    _taken: Option<OwnedSemaphorePermit>,
}

#[async_trait]
impl TableCopy for Copy {
    fn schema(&self) -> Arc<TableSchema> {
        self.schema.clone()
    }
    fn seen(&self) -> Seen {
        self.seen.clone()
    }
    fn upto(&self) -> Position {
        self.upto.clone()
    }
    async fn next(&mut self) -> Result<Option<Copied>> {
        self._taken = None;
        match self.batches.recv().await {
            Some(waiting) => {
                let (copied, room) = waiting?;
                self._taken = Some(room);
                Ok(Some(copied))
            }
            None if self.left.load(Ordering::Acquire) == 0 => Ok(None),
            None => Err(Error::retry(codes::COPY_VOID, format!("the copy of {} broke off", self.schema.name))),
        }
    }
}

/// Returns once every transaction of this database that had an id at the call has ended: changes that it made before the table was
/// published are not in the stream, so the snapshot must see them.
pub async fn wait_for_older_transactions(inner: &Database) -> Result<()> {
    let here = "SELECT x FROM pg_snapshot_xip(pg_current_snapshot()) x WHERE NOT EXISTS (SELECT 1 FROM pg_locks l \
        JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_database d ON d.oid = a.datid \
        WHERE l.locktype = 'transactionid' AND l.granted AND l.transactionid::text = (x::text::numeric % 4294967296)::text \
        AND d.datname <> current_database()) AND NOT EXISTS (SELECT 1 FROM pg_prepared_xacts p \
        WHERE p.transaction::text = (x::text::numeric % 4294967296)::text AND p.database <> current_database())";
    let rows = inner.query(here).await?;
    let mut waiting: Vec<String> = rows.into_iter().filter_map(|mut r| r.pop().flatten()).collect();
    let (mut pause, mut told) = (Duration::from_millis(5), Duration::ZERO);
    let mut waited = Duration::ZERO;
    while !waiting.is_empty() {
        inner.env.clock.sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(250));
        let still: BTreeSet<String> = running(inner).await?.into_iter().collect();
        waiting.retain(|x| still.contains(x));
        if waited > told + Duration::from_secs(5) && !waiting.is_empty() {
            told = waited;
            tell_blockers(inner, &waiting).await?;
        }
    }
    Ok(())
}

/// Full ids of the transactions that run now, in any database.
pub async fn running(inner: &Database) -> Result<Vec<String>> {
    let rows = inner.query("SELECT pg_snapshot_xip(pg_current_snapshot())").await?;
    Ok(rows.into_iter().filter_map(|mut r| r.pop().flatten()).collect())
}

pub async fn tell_blockers(inner: &Database, waiting: &[String]) -> Result<()> {
    let list = waiting.join(", ");
    let sql = format!(
        "SELECT coalesce(a.pid::text, 'prepared ' || p.gid), coalesce(age(clock_timestamp(), a.xact_start), \
         age(clock_timestamp(), p.prepared)) FROM (SELECT (x::numeric % 4294967296)::text AS xid FROM unnest('{{{list}}}'::text[]) x) w \
         LEFT JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid::text = w.xid \
         LEFT JOIN pg_stat_activity a ON a.pid = l.pid LEFT JOIN pg_prepared_xacts p ON p.transaction::text = w.xid"
    );
    for row in inner.query(&sql).await? {
        let (who, age) = (row.first().cloned().flatten(), row.get(1).cloned().flatten());
        tracing::warn!(
            pid = who.unwrap_or_default(),
            age = age.unwrap_or_default(),
            "an older transaction holds up a slot or a copy"
        );
    }
    Ok(())
}

/// What all sessions and tables of a copy share.
pub struct Snapshot {
    /// For SET TRANSACTION SNAPSHOT.
    pub exported: String,
    pub seen: Seen,
    pub lsn: u64,
}

pub const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

pub async fn take_snapshot(inner: &Database, session: &mut Session) -> Result<Snapshot> {
    let sql = "SELECT pg_export_snapshot(), pg_current_snapshot(), pg_current_wal_insert_lsn()";
    let row = session.query_one(sql).await?;
    let cells = Cells(&row);
    let seen = parse_seen(cells.text(1)?).ok_or_else(|| protocol("a malformed snapshot"))?;
    let lsn = parse_lsn(cells.text(2)?).ok_or_else(|| protocol("a malformed LSN"))?;
    Ok(Snapshot { exported: cells.text(0)?.to_string(), seen, lsn: inner.end_of_record(lsn).await? })
}

/// `xmin:xmax:xip,xip` in xid8.
fn parse_seen(text: &str) -> Option<Seen> {
    let mut parts = text.split(':');
    let (below, from) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let except = parts.next()?.split(',').filter(|x| !x.is_empty()).map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Seen { below, from, except })
}

fn column_list(table: &Relation) -> String {
    table.columns.iter().map(|c| quote_name(&c.column.name)).collect::<Vec<_>>().join(", ")
}

/// The COPY statement that reads a whole table.
pub fn whole(table: &Relation) -> String {
    let name = table.quoted();
    match column_list(table) {
        columns if columns.is_empty() => format!("COPY (SELECT FROM ONLY {name}) TO STDOUT"),
        columns => format!("COPY {name} ({columns}) TO STDOUT"),
    }
}

/// The COPY statements that together read a table once. Heap pages are read by ranges of ctid, which the shared snapshot makes right
/// although rows move.
pub async fn pieces(session: &mut Session, table: &Relation, piece_bytes: i64) -> Result<Vec<String>> {
    let size = session.query_one(&format!("SELECT pg_relation_size({}), current_setting('block_size')", table.oid)).await?;
    let (bytes, page): (i64, i64) = (Cells(&size).number(0)?, Cells(&size).number(1)?);
    if table.columns.is_empty() || bytes < piece_bytes {
        return Ok(vec![whole(table)]);
    }
    let (name, columns) = (table.quoted(), column_list(table));
    let pages = bytes / page.max(1);
    let step = (piece_bytes / page.max(1)).max(1);
    let starts = (0..pages.max(1)).step_by(step as usize);
    let piece = |start: i64| {
        let end = if start + step >= pages { String::new() } else { format!(" AND ctid < '({},0)'", start + step) };
        format!("COPY (SELECT {columns} FROM ONLY {name} WHERE ctid >= '({start},0)'{end}) TO STDOUT")
    };
    Ok(starts.map(piece).collect())
}

/// The writing end of a `Copy`: one per session that reads the table.
#[derive(Clone)]
pub struct Out {
    schema: Arc<TableSchema>,
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    left: Arc<AtomicUsize>,
    event: Event,
}

/// A copy that reads `pieces` pieces under a snapshot. `room` has `WAITING_BYTES_MAX` permits.
pub fn channel(
    inner: &Database,
    schema: Arc<TableSchema>,
    snapshot: &Snapshot,
    upto: Position,
    pieces: usize,
    room: Arc<Semaphore>,
) -> (Out, Copy) {
    let (sender, batches) = mpsc::channel(BATCHES_WAITING);
    let left = Arc::new(AtomicUsize::new(pieces));
    let tx = Tx { id: 0, commit_place: snapshot.lsn, commit_time_us: inner.env.clock.now_us() };
    let out = Out { schema: schema.clone(), sender, room, left: left.clone(), event: Event { tx, lsn: snapshot.lsn, order: 0 } };
    (out, Copy { schema, seen: snapshot.seen.clone(), upto, batches, left, _taken: None })
}

impl Out {
    pub fn table(&self) -> &TableName {
        &self.schema.name
    }

    /// Returns when nobody reads the copy any more.
    pub async fn given_up(&self) {
        self.sender.closed().await;
    }

    pub async fn fail(&self, error: Error) {
        let _ = self.sender.send(Err(error)).await; // nobody waits any more: the copy was dropped
    }

    /// Reads the rows of the COPY that has begun on the session, to its end. The outer error is the session's. The inner one is this
    /// table's alone: the rest of its rows was passed over.
    pub async fn read(&self, session: &mut Session) -> Result<Result<()>> {
        metrics::COPY_PIECES.add(1);
        let mut rows = TableRows::new(self.schema.clone());
        let (mut bytes, mut scratch, mut failed) = (0, Vec::new(), None);
        while let Some(range) = session.copy_next().await? {
            if failed.is_some() {
                continue;
            }
            let line = session.bytes(range);
            bytes += line.len();
            match rows.copied(line, &mut scratch, self.event) {
                Ok(Taken::Whole) => {}
                Ok(Taken::Bad(bad)) => {
                    let length = line.len();
                    failed = self.send(Copied::BadRow(bad), length).await.err();
                }
                Err(error) => failed = Some(error),
            }
            if failed.is_none() && (bytes >= ITEM_BYTES_MAX || rows.len() >= BATCH_ROWS_MAX) {
                let full = std::mem::replace(&mut rows, TableRows::new(self.schema.clone()));
                failed = self.hand_out(full, std::mem::take(&mut bytes)).await.err();
            }
        }
        if let Some(error) = failed {
            return Ok(Err(error));
        }
        let last = self.hand_out(rows, bytes).await;
        if last.is_ok() {
            self.left.fetch_sub(1, Ordering::AcqRel);
        }
        Ok(last)
    }

    async fn hand_out(&self, rows: TableRows, bytes: usize) -> Result<()> {
        if rows.len() == 0 {
            return Ok(());
        }
        metrics::ROWS_COPIED.add(rows.len() as u64);
        self.send(Copied::Rows(rows.finish()?), bytes).await
    }

    async fn send(&self, copied: Copied, bytes: usize) -> Result<()> {
        let given_up = || Error::retry(codes::COPY_VOID, "the copy was given up");
        let room = tokio::select! {
            room = self.room.clone().acquire_many_owned(bytes.clamp(1, WAITING_BYTES_MAX) as u32) => room,
            () = self.given_up() => return Err(given_up()),
        };
        let room = room.map_err(|_| given_up())?;
        self.sender.send(Ok((copied, room))).await.map_err(|_| given_up())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots() {
        let seen = parse_seen("10:20:12,15").unwrap();
        let told: Vec<u64> = (8..22).filter(|id| seen.contains(*id)).collect();
        assert_eq!(told, [8, 9, 10, 11, 13, 14, 16, 17, 18, 19]);
        assert!(parse_seen("10:10:").unwrap().except.is_empty());
        assert!(parse_seen("10").is_none());
    }
}
