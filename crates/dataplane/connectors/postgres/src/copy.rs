//! The copy of one table beside the stream (decisions 9-13): wait until it can be right, one exported snapshot, ranges of ctid read
//! by a few sessions side by side, all in the text that the stream has too.

use crate::catalog::{Cells, Relation};
use crate::codes;
use crate::metrics;
use crate::position::parse_lsn;
use crate::rows::{Event, TableRows};
use crate::settings::Settings;
use crate::source::Inner;
use crate::wire::{Session, protocol, quote_name, quote_text};
use async_trait::async_trait;
use mainstem_connector::{ITEM_BYTES_MAX, Seen, TableCopy};
use mainstem_env::{JoinOnDrop, spawn};
use mainstem_types::{ChangeBatch, Error, ErrorKind, Position, Result, TableSchema, Tx, UpstreamId};
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Rows of one batch.
const BATCH_ROWS_MAX: usize = 64 << 10;
/// Batches that wait to be taken, over all sessions of a copy.
const BATCHES_WAITING: usize = 2;
/// Attempts to get a lock that somebody else waits for or holds.
const LOCK_ATTEMPTS: u32 = 120;

struct Copy {
    schema: Arc<TableSchema>,
    seen: Seen,
    upto: Position,
    batches: mpsc::Receiver<Result<ChangeBatch>>,
    /// Pieces not yet read to their end: a reader that dies must not look like the end of the table.
    left: Arc<AtomicUsize>,
    _readers: Vec<JoinOnDrop<()>>,
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
    async fn next(&mut self) -> Result<Option<ChangeBatch>> {
        match self.batches.recv().await {
            Some(batch) => batch.map(Some),
            None if self.left.load(Ordering::Acquire) == 0 => Ok(None),
            None => Err(Error::retry(codes::COPY_VOID, format!("the copy of {} broke off", self.schema.name))),
        }
    }
}

pub async fn start(inner: &Arc<Inner>, table: UpstreamId) -> Result<Box<dyn TableCopy>> {
    let oid = u32::try_from(table.0).map_err(|_| gone(table))?;
    // From here on the stream's rows of this table count again: those it left out committed before the snapshot below.
    inner.registry.start(oid);
    wait_for_older_transactions(inner).await?;
    let mut attempts = 0;
    loop {
        match attempt(inner, oid).await {
            Err(error)
                if attempts < LOCK_ATTEMPTS
                    && error.kind() == ErrorKind::Retry
                    && matches!(error.code().id, "PG-015" | "PG-006") =>
            {
                attempts += 1;
                tracing::info!(error = error.chain(), attempts, "a copy waits");
                inner.env.clock.sleep(Duration::from_millis(500)).await;
            }
            other => return other,
        }
    }
}

fn gone(table: UpstreamId) -> Error {
    Error::fix(codes::NO_TABLE, format!("table with oid {table} is gone from the source"))
}

/// Returns once every transaction of this database that had an id at the call has ended: changes that it made before the table was
/// published are not in the stream, so the snapshot must see them.
async fn wait_for_older_transactions(inner: &Inner) -> Result<()> {
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
pub async fn running(inner: &Inner) -> Result<Vec<String>> {
    let rows = inner.query("SELECT pg_snapshot_xip(pg_current_snapshot())").await?;
    Ok(rows.into_iter().filter_map(|mut r| r.pop().flatten()).collect())
}

pub async fn tell_blockers(inner: &Inner, waiting: &[String]) -> Result<()> {
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

/// The snapshot that all sessions of a copy share.
struct Snapshot {
    /// For SET TRANSACTION SNAPSHOT.
    exported: String,
    seen: Seen,
    lsn: u64,
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

async fn attempt(inner: &Arc<Inner>, oid: u32) -> Result<Box<dyn TableCopy>> {
    let before = inner.relation(oid).await?.ok_or_else(|| gone(UpstreamId(u64::from(oid))))?;
    let mut session = inner.settings.target.connect(&inner.env, false).await?;
    let name = format!("{}.{}", quote_name(&before.name.schema), quote_name(&before.name.name));
    let lock = format!("SET LOCAL lock_timeout = '1s'; LOCK TABLE ONLY {name} IN ACCESS SHARE MODE");
    // The lock comes before the snapshot (LOCK TABLE takes none): nothing rewrites, empties or alters the table any more, and the snapshot
    // sees all that did before. The other way round it would read an emptied table in its old shape (decision 13).
    session.query(&format!("{BEGIN}; {lock}")).await?;
    let now = inner.relation(oid).await?.ok_or_else(|| gone(UpstreamId(u64::from(oid))))?;
    if now.name != before.name {
        return Err(Error::retry(codes::COPY_VOID, format!("{} changed its name while its copy began", before.name)));
    }
    let snapshot = take_snapshot(&mut session).await?;
    let schema = inner.registry.intern(&now);
    inner.registry.copied(&now);
    let ranges = ranges(&mut session, &now, &name, &inner.settings).await?;
    let upto = inner.place(snapshot.lsn).await?.position();
    let (sender, batches) = mpsc::channel(BATCHES_WAITING);
    let count = ranges.len().min(inner.settings.copy_connections).max(1);
    let mut sessions = vec![session];
    while sessions.len() < count {
        let mut other = inner.settings.target.connect(&inner.env, false).await?;
        // Each has the lock from here on: the first may end before another begins its last piece, and a TRUNCATE in between would
        // empty what that reads.
        other.query(&format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}; {lock}", quote_text(&snapshot.exported))).await?;
        sessions.push(other);
    }
    let left = Arc::new(AtomicUsize::new(ranges.len()));
    let queue = Arc::new(Mutex::new(VecDeque::from(ranges)));
    let event = Event {
        tx: Tx { id: 0, commit_lsn: snapshot.lsn, commit_time_us: inner.env.clock.now_us() },
        lsn: snapshot.lsn,
        order: 0,
    };
    let readers = sessions.into_iter().map(|session| {
        let reader =
            Reader { session, schema: schema.clone(), queue: queue.clone(), sender: sender.clone(), left: left.clone(), event };
        spawn("postgres copy", reader.run())
    });
    let readers = readers.collect();
    Ok(Box::new(Copy { schema, seen: snapshot.seen, upto, batches, left, _readers: readers }))
}

async fn take_snapshot(session: &mut Session) -> Result<Snapshot> {
    let sql = "SELECT pg_export_snapshot(), pg_current_snapshot(), pg_current_wal_insert_lsn()";
    let row = session.query_one(sql).await?;
    let cells = Cells(&row);
    let seen = parse_seen(cells.text(1)?).ok_or_else(|| protocol("a malformed snapshot"))?;
    let lsn = parse_lsn(cells.text(2)?).ok_or_else(|| protocol("a malformed LSN"))?;
    Ok(Snapshot { exported: cells.text(0)?.to_string(), seen, lsn })
}

/// `xmin:xmax:xip,xip` in xid8.
fn parse_seen(text: &str) -> Option<Seen> {
    let mut parts = text.split(':');
    let (below, from) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let except = parts.next()?.split(',').filter(|x| !x.is_empty()).map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Seen { below, from, except })
}

/// The COPY statements that together read the table once. Heap pages are read by ranges of ctid, which the shared snapshot makes
/// right although rows move.
async fn ranges(session: &mut Session, table: &Relation, name: &str, settings: &Settings) -> Result<Vec<String>> {
    let columns = table.columns.iter().map(|c| quote_name(&c.column.name)).collect::<Vec<_>>().join(", ");
    let size = session.query_one(&format!("SELECT pg_relation_size({}), current_setting('block_size')", table.oid)).await?;
    let (bytes, page): (i64, i64) = (Cells(&size).number(0)?, Cells(&size).number(1)?);
    if columns.is_empty() {
        return Ok(vec![format!("COPY (SELECT FROM ONLY {name}) TO STDOUT")]);
    }
    if bytes < settings.copy_piece_bytes || settings.copy_connections < 2 {
        return Ok(vec![format!("COPY {name} ({columns}) TO STDOUT")]);
    }
    let pages = bytes / page.max(1);
    let step = (settings.copy_piece_bytes / page.max(1)).max(1);
    let starts = (0..pages.max(1)).step_by(step as usize);
    let piece = |start: i64| {
        let end = if start + step >= pages { String::new() } else { format!(" AND ctid < '({},0)'", start + step) };
        format!("COPY (SELECT {columns} FROM ONLY {name} WHERE ctid >= '({start},0)'{end}) TO STDOUT")
    };
    Ok(starts.map(piece).collect())
}

/// One session that takes pieces from the queue until there are none.
struct Reader {
    session: Session,
    schema: Arc<TableSchema>,
    queue: Arc<Mutex<VecDeque<String>>>,
    sender: mpsc::Sender<Result<ChangeBatch>>,
    left: Arc<AtomicUsize>,
    event: Event,
}

impl Reader {
    async fn run(mut self) {
        loop {
            let next = self.queue.lock().pop_front();
            let Some(sql) = next else { break };
            if let Err(error) = self.read(&sql).await {
                let _ = self.sender.send(Err(error)).await; // nobody waits any more: the copy was dropped
                return;
            }
        }
        // The first session holds the snapshot for the others; by now they have it themselves.
        let _ = self.session.query("COMMIT").await;
    }

    async fn read(&mut self, sql: &str) -> Result<()> {
        self.session.copy_out(sql).await?;
        metrics::COPY_PIECES.add(1);
        let mut rows = TableRows::new(self.schema.clone());
        let (mut bytes, mut scratch) = (0, Vec::new());
        while let Some(range) = self.session.copy_next().await? {
            let line = self.session.bytes(range);
            bytes += line.len();
            rows.copied(line, &mut scratch, self.event)?;
            if bytes >= ITEM_BYTES_MAX || rows.len() >= BATCH_ROWS_MAX {
                let full = std::mem::replace(&mut rows, TableRows::new(self.schema.clone()));
                bytes = 0;
                self.hand_out(full).await?;
            }
        }
        self.hand_out(rows).await?;
        self.left.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }

    async fn hand_out(&self, rows: TableRows) -> Result<()> {
        if rows.len() == 0 {
            return Ok(());
        }
        metrics::ROWS_COPIED.add(rows.len() as u64);
        let batch = rows.finish()?;
        self.sender.send(Ok(batch)).await.map_err(|_| Error::retry(codes::COPY_VOID, "the copy was given up"))
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
