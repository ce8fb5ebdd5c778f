//! Which copies run when: what is asked for waits in one queue, and a few workers with a session each serve it. Many small tables share
//! a session, a snapshot and their round trips; a large one is read by several sessions side by side. Sessions are kept for the next tables
//! and closed when there are none.

use crate::catalog::{self, Relation, quoted};
use crate::codes;
use crate::copy::{self, BEGIN, Copy, Out, Snapshot, WAITING_BYTES_MAX};
use crate::database::Database;
use crate::wire::{Cells, Session, protocol, quote_text};
use futures::future::join_all;
use mainstem_connector::TableCopy;
use mainstem_env::{JoinOnDrop, Moment, spawn};
use mainstem_types::{Error, ErrorKind, Result, TableName, UpstreamId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// Workers at most; where there are several the first keeps to small tables, so that large ones never hold up all the others.
const WORKERS_MAX: usize = 3;
/// A table of fewer bytes (with TOAST) is copied together with others.
const SMALL_BYTES: i64 = 1 << 20;
/// Tables under one snapshot: their locks are held for well under a second.
const TOGETHER_MAX: usize = 32;
/// How long the first request waits for company: what a group costs depends little on its tables.
const COMPANY_WAIT: Duration = Duration::from_millis(5);
/// A session that nobody needs is closed after this time.
const IDLE: Duration = Duration::from_secs(5);
/// Attempts to get a lock that somebody else waits for or holds, and the pause between them.
const ATTEMPTS_MAX: u32 = 120;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

/// The copies of one source. Dropping it ends them.
pub struct Copiers {
    queue: Arc<Queue>,
    workers: Mutex<Vec<JoinOnDrop<()>>>,
    connections: Arc<Connections>,
}

/// The sessions that copies use, all together: `copy_connections` at most.
struct Connections {
    free: Arc<Semaphore>,
    /// Workers that wait for one, and all who do.
    waiting: watch::Sender<(usize, usize)>,
}

/// One of the sessions.
struct Connection {
    session: Session,
    _place: OwnedSemaphorePermit,
}

/// Somebody waits for a session: a worker, or one more reader of a large table.
struct Waits<'a>(&'a Connections, usize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|(workers, all)| (*workers, *all) = (*workers - self.1, *all - 1));
    }
}

impl Connections {
    async fn open(&self, inner: &Database, is_worker: bool) -> Result<Connection> {
        let worker = usize::from(is_worker);
        self.waiting.send_modify(|(workers, all)| (*workers, *all) = (*workers + worker, *all + 1));
        let waits = Waits(self, worker);
        let place = self.free.clone().acquire_owned().await;
        drop(waits);
        let place = place.map_err(|_| Error::retry(codes::COPY_VOID, "the copies were stopped"))?;
        let session = inner.settings.target.connect(&inner.env, false).await?;
        Ok(Connection { session, _place: place })
    }

    fn worker_waits(&self) -> bool {
        self.waiting.borrow().0 > 0
    }

    /// Returns when somebody waits for a session.
    async fn wanted(&self) {
        let _ = self.waiting.subscribe().wait_for(|(_, all)| *all > 0).await; // the sender lives as long as we do
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Small, as far as is known.
    Together,
    /// Somebody is in the way of its lock: others do not wait with it.
    Alone,
    Large,
}

struct Request {
    oid: u32,
    way: Way,
    attempts: u32,
    not_before: Moment,
    answer: oneshot::Sender<Result<Copy>>,
}

struct Queue {
    waiting: Mutex<VecDeque<Request>>,
    changed: watch::Sender<()>,
}

impl Queue {
    fn push(&self, request: Request) {
        self.waiting.lock().push_back(request);
        self.changed.send_replace(());
    }

    /// Whether a worker that takes large tables, or not, has nothing to wait for.
    fn is_empty(&self, large: bool) -> bool {
        !self.waiting.lock().iter().any(|r| large || r.way != Way::Large)
    }

    /// Whether there are requests, but not enough for a group.
    fn wants_company(&self) -> bool {
        let small = self.waiting.lock().iter().filter(|r| r.way == Way::Together).take(TOGETHER_MAX).count();
        (1..TOGETHER_MAX).contains(&small)
    }

    /// What is to be served next by one worker.
    fn take(&self, large: bool, now: Moment) -> Vec<Request> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|r| !r.answer.is_closed());
        let due = |r: &Request| r.not_before <= now && (large || r.way != Way::Large);
        let Some(first) = waiting.iter().position(due) else { return Vec::new() };
        if waiting[first].way != Way::Together {
            return waiting.remove(first).into_iter().collect();
        }
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for request in waiting.drain(..) {
            let fits = request.way == Way::Together && due(&request) && taken.len() < TOGETHER_MAX;
            if fits { taken.push(request) } else { left.push_back(request) }
        }
        *waiting = left;
        taken
    }
}

impl Copiers {
    /// Copies over at most so many connections.
    pub fn new(connections: usize) -> Self {
        let queue = Queue { waiting: Mutex::default(), changed: watch::channel(()).0 };
        let connections = Connections { free: Arc::new(Semaphore::new(connections)), waiting: watch::channel((0, 0)).0 };
        Self { queue: Arc::new(queue), workers: Mutex::default(), connections: Arc::new(connections) }
    }

    /// Returns once the table's snapshot is taken.
    pub async fn copy(&self, inner: &Arc<Database>, table: UpstreamId) -> Result<Box<dyn TableCopy>> {
        let oid = u32::try_from(table.0).map_err(|_| gone(table.0))?;
        // From here on the stream's rows of this table count again: those it left out committed before the snapshot.
        inner.registry.start(oid);
        self.start_workers(inner);
        let (answer, copy) = oneshot::channel();
        self.queue.push(Request { oid, way: Way::Together, attempts: 0, not_before: Moment(Duration::ZERO), answer });
        let copy = copy.await.unwrap_or_else(|_| Err(Error::retry(codes::COPY_VOID, "the copies were stopped")));
        copy.map(|copy| Box::new(copy) as Box<dyn TableCopy>)
    }

    fn start_workers(&self, inner: &Arc<Database>) {
        let mut workers = self.workers.lock();
        // One that panicked is replaced.
        workers.retain(|w| !w.is_finished());
        let count = inner.settings.copy_connections.min(WORKERS_MAX);
        while workers.len() < count {
            let worker = Worker {
                inner: inner.clone(),
                queue: self.queue.clone(),
                connections: self.connections.clone(),
                large: count == 1 || !workers.is_empty(),
                room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
                session: None,
            };
            workers.push(spawn("postgres copies", worker.run()));
        }
    }
}

fn gone(oid: u64) -> Error {
    Error::fix(codes::NO_TABLE, format!("table with oid {oid} is gone from the source"))
}

struct Worker {
    inner: Arc<Database>,
    queue: Arc<Queue>,
    connections: Arc<Connections>,
    /// Whether it takes large tables.
    large: bool,
    room: Arc<Semaphore>,
    session: Option<Connection>,
}

impl Worker {
    async fn run(mut self) {
        let mut changed = self.queue.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if self.queue.wants_company() {
                self.inner.env.clock.sleep(COMPANY_WAIT).await;
            }
            let mut requests = self.queue.take(self.large, self.inner.env.clock.moment());
            if requests.is_empty() {
                let pause = if self.queue.is_empty(self.large) { IDLE } else { ATTEMPT_PAUSE };
                tokio::select! {
                    _ = changed.changed() => {}
                    () = self.inner.env.clock.sleep(pause) => if pause == IDLE { self.session = None },
                    () = self.connections.wanted(), if self.session.is_some() => self.session = None,
                }
                continue;
            }
            if let Err(error) = self.serve(&mut requests).await {
                self.session = None; // it may hold an open transaction
                for request in requests {
                    let same = Error::new(error.kind(), error.code(), error.message());
                    let _ = request.answer.send(Err(same)); // nobody waits any more
                }
            }
        }
    }

    /// A session that is in no transaction.
    async fn session(&mut self) -> Result<&mut Session> {
        if self.session.as_ref().is_none_or(|c| c.session.is_spent()) {
            self.session = None;
            self.session = Some(self.connections.open(&self.inner, true).await?);
        }
        self.current()
    }

    /// The session with the transaction that was begun on it.
    fn current(&mut self) -> Result<&mut Session> {
        let connection = self.session.as_mut().ok_or_else(|| Error::retry(codes::UNREACHABLE, "no session"))?;
        Ok(&mut connection.session)
    }

    /// Copies what is asked for, or puts it back into the queue. After an error the requests that are left have no answer yet.
    async fn serve(&mut self, requests: &mut Vec<Request>) -> Result<()> {
        copy::wait_for_older_transactions(&self.inner).await?;
        let before = self.look(requests).await?;
        self.sort_out(requests, &before);
        let names: Vec<String> = requests.iter().filter_map(|r| before.get(&r.oid)).map(|(name, _)| quoted(name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        // The lock comes before the snapshot (LOCK TABLE takes none): nothing rewrites, empties or alters the table any more, and the
        // snapshot sees all that did before. The other way round it would read an emptied table in its old shape (decision 13). Whoever
        // holds locks does not wait for others: with NOWAIT we are in no deadlock.
        let wait = if names.len() > 1 { " NOWAIT" } else { "" };
        let lock = format!("SET LOCAL lock_timeout = '1s'; LOCK TABLE ONLY {} IN ACCESS SHARE MODE", names.join(", ONLY "));
        if let Err(error) = self.session().await?.query(&format!("{BEGIN}; {lock}{wait}")).await {
            return self.locked_out(requests, error).await;
        }
        let inner = self.inner.clone();
        let session = self.current()?;
        let snapshot = copy::take_snapshot(&inner, session).await?;
        let oids: Vec<u32> = requests.iter().map(|r| r.oid).collect();
        let now = catalog::read_within(session, &oids).await?;
        let mut ready = Vec::new();
        for request in requests.drain(..) {
            match now.get(&request.oid) {
                Some(relation) if before.get(&request.oid).is_some_and(|(name, _)| *name == relation.name) => {
                    ready.push((request, relation))
                }
                // The name that was locked is another table's by now.
                Some(_) => self.put_back(request, Way::Together),
                None => drop(request.answer.send(Err(gone(u64::from(request.oid))))),
            }
        }
        // The stream's next word on where it is lets these tables go live.
        inner.feedback.ask_keepalive(snapshot.lsn);
        match ready.as_slice() {
            [(request, _)] if request.way == Way::Large => self.copy_large(ready.remove(0), &snapshot, &lock).await,
            _ => self.copy_together(ready, &snapshot).await,
        }
    }

    /// Names and sizes with TOAST, as they are before anything is locked.
    async fn look(&mut self, requests: &[Request]) -> Result<BTreeMap<u32, (TableName, i64)>> {
        let oids = requests.iter().map(|r| r.oid.to_string()).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT c.oid, n.nspname, c.relname, coalesce(pg_table_size(c.oid), 0) FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({oids})"
        );
        let mut found = BTreeMap::new();
        for row in self.session().await?.query(&sql).await? {
            let cells = Cells(&row);
            found.insert(cells.number(0)?, (TableName::new(cells.text(1)?, cells.text(2)?), cells.number(3)?));
        }
        Ok(found)
    }

    /// Leaves those that can be copied now, together.
    fn sort_out(&self, requests: &mut Vec<Request>, found: &BTreeMap<u32, (TableName, i64)>) {
        for request in std::mem::take(requests) {
            match found.get(&request.oid) {
                None => drop(request.answer.send(Err(gone(u64::from(request.oid))))),
                Some((_, size)) if *size >= SMALL_BYTES && request.way == Way::Together => {
                    self.queue.push(Request { way: Way::Large, ..request });
                }
                Some(_) => requests.push(request),
            }
        }
    }

    fn put_back(&self, request: Request, way: Way) {
        let not_before = Moment(self.inner.env.clock.moment().0 + ATTEMPT_PAUSE);
        self.queue.push(Request { way, attempts: request.attempts + 1, not_before, ..request });
    }

    /// Somebody holds or waits for a lock on one of the tables, or one may not be read.
    async fn locked_out(&mut self, requests: &mut Vec<Request>, error: Error) -> Result<()> {
        if error.code() == codes::UNREACHABLE {
            return Err(error);
        }
        self.current()?.query("ROLLBACK").await?;
        if requests.len() > 1 {
            requests.drain(..).for_each(|request| self.queue.push(Request { way: Way::Alone, ..request }));
            return Ok(());
        }
        if let Some(request) = requests.pop() {
            self.again(request, error);
        }
        Ok(())
    }

    /// Tries once more a little later, where that may help.
    fn again(&self, request: Request, error: Error) {
        let waits = error.kind() == ErrorKind::Retry && error.code() != codes::UNREACHABLE;
        if waits && request.attempts < ATTEMPTS_MAX {
            tracing::info!(error = error.chain(), attempts = request.attempts, "a copy waits");
            let way = request.way;
            self.put_back(request, way);
        } else {
            let _ = request.answer.send(Err(error)); // nobody waits any more
        }
    }

    /// The copy of a locked table, handed to whoever asked for it. None when nobody waits any more.
    fn answer(
        &self,
        request: Request,
        now: &Relation,
        snapshot: &Snapshot,
        place: &crate::position::Place,
        pieces: usize,
    ) -> Option<Out> {
        let schema = self.inner.registry.intern(now);
        self.inner.registry.copied(now);
        let (out, copy) = copy::channel(&self.inner, schema, snapshot, place.position(), pieces, self.room.clone());
        request.answer.send(Ok(copy)).is_ok().then_some(out)
    }

    /// Reads locked tables one after another; all their statements are one message.
    async fn copy_together(&mut self, tables: Vec<(Request, &Relation)>, snapshot: &Snapshot) -> Result<()> {
        let place = self.inner.place(snapshot.lsn).await?;
        let (mut outs, mut sql) = (VecDeque::new(), String::new());
        for (request, now) in tables {
            if let Some(out) = self.answer(request, now, snapshot, &place, 1) {
                sql += &copy::whole(now);
                sql += "; ";
                outs.push_back(out);
            }
        }
        let session = self.current()?;
        if let Err(error) = read_all(session, &format!("{sql}COMMIT"), &mut outs).await {
            self.session = None;
            let mut error = Some(error);
            for out in outs {
                let void = || Error::retry(codes::COPY_VOID, format!("the copy of {} was broken off by another's", out.table()));
                out.fail(error.take().unwrap_or_else(void)).await;
            }
        }
        Ok(())
    }

    /// Reads a locked table in pieces: by our session, which has the snapshot, and by others as they become free.
    async fn copy_large(&mut self, table: (Request, &Relation), snapshot: &Snapshot, lock: &str) -> Result<()> {
        let (request, now) = table;
        let inner = self.inner.clone();
        let place = inner.place(snapshot.lsn).await?;
        let pieces = match copy::pieces(self.current()?, now, inner.settings.copy_piece_bytes).await {
            Ok(pieces) => pieces,
            Err(error) => {
                self.session = None; // it is in a transaction
                self.again(request, error);
                return Ok(());
            }
        };
        let Some(out) = self.answer(request, now, snapshot, &place, pieces.len()) else {
            self.session = None; // as above
            return Ok(());
        };
        let others = pieces.len().min(inner.settings.copy_connections) - 1;
        let large = Arc::new(Large {
            pieces: Mutex::new(VecDeque::from(pieces)),
            begin: format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}; {lock}", quote_text(&snapshot.exported)),
            connections: self.connections.clone(),
            ended: watch::channel(false).0,
            inner,
        });
        let others: Vec<_> = (0..others).map(|_| spawn("postgres copy", large.clone().help(out.clone()))).collect();
        if let Some(ours) = self.session.take() {
            self.session = large.read(ours, &out, || false).await;
        }
        large.ended.send_replace(true);
        drop(out); // the copy ends with its last reader
        join_all(others.into_iter().map(JoinOnDrop::join)).await;
        Ok(())
    }
}

/// A large table that is being read under one snapshot.
struct Large {
    inner: Arc<Database>,
    connections: Arc<Connections>,
    /// The COPY statements that nobody has taken.
    pieces: Mutex<VecDeque<String>>,
    /// Takes part in the snapshot. Each reader has the lock: the first may end before another begins its last piece, and a TRUNCATE in
    /// between would empty what that reads.
    begin: String,
    /// No piece is left for anybody.
    ended: watch::Sender<bool>,
}

impl Large {
    /// Takes pieces until there are none or `leave` says so. Gives the session back when it can be used again.
    async fn read(&self, mut connection: Connection, out: &Out, leave: impl Fn() -> bool) -> Option<Connection> {
        while !leave() {
            let next = self.pieces.lock().pop_front();
            let Some(sql) = next else { break };
            let read = tokio::select! {
                read = read_piece(&mut connection.session, &sql, out) => read,
                () = out.given_up() => return None,
            };
            if let Err(error) = read {
                out.fail(error).await;
                return None;
            }
        }
        connection.session.query("COMMIT").await.ok().map(|_| connection)
    }

    /// One more reader, for as long as a session is free: between two pieces it makes way for a worker that has none.
    async fn help(self: Arc<Self>, out: Out) {
        let mut ended = self.ended.subscribe();
        while !self.pieces.lock().is_empty() {
            let opened = tokio::select! {
                opened = self.connections.open(&self.inner, false) => opened,
                _ = ended.wait_for(|ended| *ended) => return,
                () = out.given_up() => return,
            };
            let Ok(mut connection) = opened else { return };
            // Whoever waits for the table's lock is before us, or the snapshot ended with the last piece: the first reader goes on alone.
            if connection.session.query(&self.begin).await.is_err() {
                return;
            }
            self.read(connection, &out, || self.connections.worker_waits()).await;
        }
    }
}

/// Runs the statements, whose COPYs are those of `outs` in order; each leaves `outs` when it has ended. An error is the session's: what is
/// left then is void, and the first of it was the cause.
async fn read_all(session: &mut Session, sql: &str, outs: &mut VecDeque<Out>) -> Result<()> {
    session.copies_out(sql).await?;
    while let Some(out) = outs.front() {
        if !session.next_copy().await? {
            return Err(protocol("fewer COPY than were asked for"));
        }
        if let Err(error) = out.read(session).await? {
            out.fail(error).await;
        }
        outs.pop_front();
    }
    session.next_copy().await.map(|_| ())
}

async fn read_piece(session: &mut Session, sql: &str, out: &Out) -> Result<()> {
    session.copy_out(sql).await?;
    out.read(session).await??;
    session.next_copy().await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests as (oid, way, due at second); what a worker takes at second 10.
    fn check(waiting: &[(u32, Way, u64)], large: bool, expected: &[u32]) -> usize {
        let queue = Queue { waiting: Mutex::default(), changed: watch::channel(()).0 };
        let mut asking = Vec::new();
        for (oid, way, due) in waiting {
            let (answer, asks) = oneshot::channel();
            // Nobody waits for table 99 any more.
            asking.extend((*oid != 99).then_some(asks));
            queue.push(Request { oid: *oid, way: *way, attempts: 0, not_before: Moment(Duration::from_secs(*due)), answer });
        }
        let taken: Vec<u32> = queue.take(large, Moment(Duration::from_secs(10))).iter().map(|r| r.oid).collect();
        assert_eq!(taken, expected);
        queue.waiting.lock().len()
    }

    #[test]
    fn what_is_served_together() {
        use Way::{Alone, Large, Together};
        assert_eq!(check(&[], true, &[]), 0);
        assert_eq!(check(&[(1, Together, 0), (2, Large, 0), (3, Together, 0), (4, Together, 11)], true, &[1, 3]), 2);
        assert_eq!(check(&[(2, Large, 0), (1, Together, 0)], true, &[2]), 1);
        assert_eq!(check(&[(2, Large, 0), (5, Alone, 0), (1, Together, 0)], false, &[5]), 2);
        assert_eq!(check(&[(2, Large, 0), (4, Together, 11)], false, &[]), 2);
        assert_eq!(check(&[(99, Together, 0), (1, Together, 0)], false, &[1]), 0);
        let many: Vec<_> = (100..200).map(|oid| (oid, Together, 0)).collect();
        let first: Vec<u32> = (100..100 + TOGETHER_MAX as u32).collect();
        assert_eq!(check(&many, false, &first), 100 - TOGETHER_MAX);
    }
}
