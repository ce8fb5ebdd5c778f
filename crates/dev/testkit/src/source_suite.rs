//! What every source must pass (`docs/rfcs/0004-connector.md`): order, repeats, acknowledgement, copies beside a load, back-pressure,
//! shutdown. A connector's tests bring a `System` that makes changes in the real thing; each check here is then one test there.
//!
//! Every transaction of the suite inserts its number into table `suite_log`, so that a gap, a repeat or another order shows at once.
#![allow(clippy::unwrap_used, clippy::expect_used)] // its functions are the bodies of tests

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use mainstem_connector::{
    ChangeStream, CommitPoint, Copied, ITEM_BYTES_MAX, KEEPALIVE_INTERVAL, Seen, Source, StreamItem, TableCopy,
};
use mainstem_types::{ChangeBatch, Error, ErrorKind, Op, Position, UpstreamId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Every transaction's number, in the order of the commits: (id bigint, primary key; v text).
pub const LOG: &str = "suite_log";
/// Rows that come and go: (id bigint, primary key; v text).
pub const ROWS: &str = "suite_rows";
/// One column per type, besides a first that counts rows.
pub const SAMPLES: &str = "suite_samples";

/// How long an item that must come may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One change of a transaction. Ids and values are the suite's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Insert {
        table: &'static str,
        id: i64,
        v: String,
    },
    Update {
        table: &'static str,
        id: i64,
        v: String,
    },
    /// The key itself changes.
    Move {
        table: &'static str,
        from: i64,
        to: i64,
    },
    Delete {
        table: &'static str,
        id: i64,
    },
    Empty {
        table: &'static str,
    },
    /// Inserts `count` rows from id `from` with `bytes` of text in each.
    Fill {
        table: &'static str,
        from: i64,
        count: i64,
        bytes: usize,
    },
}

/// The real system behind a source, with the three tables above in it, empty.
#[async_trait]
pub trait System: Send + Sync {
    /// A new source over the same system, as after a restart of the process.
    fn open(&self) -> Arc<dyn Source>;
    /// One transaction: the changes, then a pause of `hold` before its end; undone when `commit` is false.
    async fn transaction(&self, changes: &[Change], hold: Duration, commit: bool);
    /// Inserts rows of every type into `SAMPLES`, the same values in the same order at every call. Returns how many.
    async fn insert_samples(&self) -> usize;
    /// What a table of (id, v) holds.
    async fn rows(&self, table: &str) -> BTreeMap<i64, String>;
    /// How far the system believes that we have everything; None when it keeps no such account.
    async fn released(&self) -> Option<Position>;
    /// Sessions of sources that are open in the system.
    async fn sessions(&self) -> usize;
    /// After this long without any reading the system would give a dead reader up.
    fn silence(&self) -> Duration;
}

/// Prepares, reads nothing yet.
async fn prepare(source: &dyn Source) -> Position {
    let prepared = source.prepare(None).await.expect("prepare");
    assert_eq!(prepared.lost, None, "nothing can be lost at the first start");
    prepared.start
}

/// Opens a stream; the system may need a moment to see that the last reader is gone.
pub async fn open_stream(source: &dyn Source, from: &Position) -> Box<dyn ChangeStream> {
    let mut last = None;
    for _ in 0..200 {
        match source.stream(from).await {
            Ok(stream) => return stream,
            Err(error) if error.kind() == ErrorKind::Retry => last = Some(error),
            Err(error) => panic!("a stream does not open: {}", error.chain()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a stream does not open: {:?}", last.map(|e| e.chain()));
}

async fn next(stream: &mut Box<dyn ChangeStream>) -> Result<StreamItem, Error> {
    tokio::time::timeout(PATIENCE, stream.next()).await.expect("an item comes while there are changes")
}

/// The suite's transaction `n`: its number, and rows that come, change, move and go.
fn numbered(n: i64) -> Vec<Change> {
    let row = |id: i64| Change::Insert { table: ROWS, id, v: format!("row {id}") };
    let mut changes = vec![Change::Insert { table: LOG, id: n, v: n.to_string() }, row(n * 10), row(n * 10 + 1)];
    if n > 3 {
        changes.push(Change::Update { table: ROWS, id: (n - 1) * 10, v: format!("seen by {n}") });
        changes.push(Change::Move { table: ROWS, from: (n - 2) * 10, to: -n });
        changes.push(Change::Delete { table: ROWS, id: (n - 3) * 10 + 1 });
    }
    if n % 17 == 0 {
        changes.push(Change::Fill { table: ROWS, from: n * 1_000_000, count: 400, bytes: 200 });
    }
    changes
}

async fn commit(system: &dyn System, changes: &[Change]) {
    system.transaction(changes, Duration::ZERO, true).await;
}

fn ids(batch: &ChangeBatch) -> Vec<i64> {
    batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn is(batch: &ChangeBatch, table: &str) -> bool {
    &*batch.schema.name.name == table
}

/// The numbers of the transactions in an item, in order.
fn numbers(batches: &[ChangeBatch]) -> Vec<i64> {
    batches.iter().filter(|b| is(b, LOG)).flat_map(ids).collect()
}

/// Checks that the numbers go on one by one; returns the last.
fn follows(last: i64, batches: &[ChangeBatch]) -> i64 {
    numbers(batches).into_iter().fold(last, |last, n| {
        assert_eq!(n, last + 1, "transaction {n} comes after {last}");
        n
    })
}

/// Checks what holds for every item: one table a batch, orders rise within a transaction, an item is bounded.
fn check_item(batches: &[ChangeBatch], end: &Option<CommitPoint>) {
    let mut bytes = 0;
    for batch in batches {
        bytes += batch.rows.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum::<usize>();
        assert_eq!(batch.txs.last().map(|(end, _)| *end as usize), Some(batch.len()), "every row has its transaction");
        for row in 1..batch.len() {
            if batch.tx(row) == batch.tx(row - 1) {
                assert!(batch.orders[row] > batch.orders[row - 1], "rows of one table keep their order");
            }
        }
        if end.is_none() {
            assert_eq!(batch.txs.len(), 1, "a piece is of one transaction");
        }
    }
    assert!(bytes <= 2 * ITEM_BYTES_MAX, "{bytes} bytes in one item");
}

/// A stream that is dropped at any item goes on from the last position that is durable, without gap or other order; what was
/// acknowledged does not come again, what was not does.
pub async fn resumes_at_any_item(system: &dyn System) {
    const LAST: i64 = 60;
    let mut source = system.open();
    let (mut durable, mut durable_n) = (prepare(&*source).await, 0);
    for n in 1..=LAST / 2 {
        commit(system, &numbered(n)).await;
    }
    let load = async {
        for n in LAST / 2 + 1..=LAST {
            commit(system, &numbered(n)).await;
        }
    };
    let read = async {
        for round in 1.. {
            if durable_n == LAST {
                break;
            }
            if round % 4 == 0 {
                source = system.open();
            }
            let prepared = source.prepare(Some(&durable)).await.expect("prepare again");
            assert_eq!(prepared.lost, None);
            let mut stream = open_stream(&*source, &durable).await;
            let (mut last, mut whole) = (durable_n, false);
            // Dropped after 1, 2, ... items; in every second round the last of them is not made durable.
            for item in 0..=round % 7 {
                // A new stream tells the shapes again, so that even a small transaction may come in pieces.
                if last == LAST && whole {
                    break;
                }
                let (position, kept) = match next(&mut stream).await.expect("an item") {
                    StreamItem::Changes { batches, end } => {
                        check_item(&batches, &end);
                        last = follows(last, &batches);
                        whole = end.is_some();
                        (end.map(|e| e.position), item < round % 7 || round % 2 == 0)
                    }
                    StreamItem::Progress(position) => (Some(position), true),
                    StreamItem::Schema(_) => (None, true),
                    other => panic!("{other:?}"),
                };
                if let (Some(position), true) = (position, kept) {
                    assert!(source.covers(&position, &durable), "positions never go back");
                    stream.acknowledge(&position);
                    (durable, durable_n) = (position, last);
                }
            }
        }
    };
    tokio::join!(load, read);
    source.remove().await.expect("remove");
}

/// `next` may be dropped while it waits: nothing is lost by it.
pub async fn next_is_cancel_safe(system: &dyn System) {
    const LAST: i64 = 40;
    let source = system.open();
    let start = prepare(&*source).await;
    let mut stream = open_stream(&*source, &start).await;
    let load = async {
        for n in 1..=LAST {
            commit(system, &numbered(n)).await;
        }
    };
    let read = async {
        let (mut last, mut dropped) = (0, 0u64);
        while last < LAST {
            assert!(dropped < 500_000, "the stream stands at {last}");
            match tokio::time::timeout(Duration::from_micros(dropped * 37 % 3000), stream.next()).await {
                Err(_) => dropped += 1,
                Ok(item) => {
                    if let StreamItem::Changes { batches, .. } = item.expect("an item") {
                        last = follows(last, &batches);
                    }
                }
            }
        }
        assert!(dropped > 0);
    };
    tokio::join!(load, read);
    drop(stream);
    source.remove().await.expect("remove");
}

/// What is handed out and not acknowledged stays the system's to keep, and comes again whole.
pub async fn never_acknowledges_by_itself(system: &dyn System) {
    let source = system.open();
    let start = prepare(&*source).await;
    let before = system.released().await;
    let mut stream = open_stream(&*source, &start).await;
    for n in 1..=10 {
        commit(system, &numbered(n)).await;
    }
    let mut last = 0;
    while last < 10 {
        if let StreamItem::Changes { batches, .. } = next(&mut stream).await.expect("an item") {
            last = follows(last, &batches);
        }
    }
    // Long enough for a message that keeps the session alive.
    let _ = tokio::time::timeout(KEEPALIVE_INTERVAL + Duration::from_secs(2), stream.next()).await;
    if let (Some(before), Some(after)) = (before, system.released().await) {
        assert!(source.covers(&before, &after), "{after} was acknowledged, and nobody told so since {before}");
    }
    drop(stream);
    let again = system.open();
    let prepared = again.prepare(Some(&start)).await.expect("prepare again");
    assert_eq!(prepared.lost, None);
    let mut stream = open_stream(&*again, &start).await;
    let mut last = 0;
    while last < 10 {
        if let StreamItem::Changes { batches, .. } = next(&mut stream).await.expect("an item") {
            last = follows(last, &batches);
        }
    }
    drop(stream);
    again.remove().await.expect("remove");
}

/// A commit into silence arrives although nothing follows it.
pub async fn a_lone_commit_needs_no_company(system: &dyn System) {
    let source = system.open();
    let start = prepare(&*source).await;
    let mut stream = open_stream(&*source, &start).await;
    for n in 1..=5 {
        commit(system, &[Change::Insert { table: LOG, id: n, v: "alone".into() }]).await;
        loop {
            if let StreamItem::Changes { batches, end } = next(&mut stream).await.expect("an item") {
                assert_eq!(numbers(&batches), [n]);
                assert!(end.is_some());
                break;
            }
        }
    }
    drop(stream);
    source.remove().await.expect("remove");
}

/// The same row by copy and by stream: equal types, equal values.
pub async fn copy_and_stream_agree(system: &dyn System) {
    let source = system.open();
    let start = prepare(&*source).await;
    let count = system.insert_samples().await;
    let table = found(&*source, SAMPLES).await;
    let mut copy = source.copy(table).await.expect("a copy");
    let mut copied: Vec<ChangeBatch> = Vec::new();
    while let Some(batch) = rows(&mut *copy).await {
        copied.push(batch);
    }
    let seen = copy.seen();
    system.insert_samples().await;
    let mut stream = open_stream(&*source, &start).await;
    let mut streamed: Vec<ChangeBatch> = Vec::new();
    while streamed.iter().map(ChangeBatch::len).sum::<usize>() < count {
        if let StreamItem::Changes { batches, .. } = next(&mut stream).await.expect("an item") {
            for batch in batches.into_iter().filter(|b| is(b, SAMPLES)) {
                streamed.push(batch.filter(|row| !seen.contains(batch.tx(row).id)).expect("filter"));
            }
        }
    }
    streamed.retain(|b| !b.is_empty());
    let schema = copy.schema();
    assert!(schema.columns.len() > 1);
    for batch in copied.iter().chain(&streamed) {
        assert_eq!(batch.schema.columns, schema.columns);
        assert_eq!(batch.rows.schema(), schema.arrow());
    }
    let column = |batches: &[ChangeBatch], at: usize| -> ArrayRef {
        let parts: Vec<&dyn Array> = batches.iter().map(|b| b.rows.column(at).as_ref()).collect();
        arrow::compute::concat(&parts).expect("one type")
    };
    for at in 1..schema.columns.len() {
        assert_eq!(&column(&copied, at), &column(&streamed, at), "column {}", schema.columns[at].name);
    }
    drop((stream, copy));
    source.remove().await.expect("remove");
}

/// The next rows of a copy in which every value can be held.
async fn rows(copy: &mut dyn TableCopy) -> Option<ChangeBatch> {
    match copy.next().await {
        Ok(Some(Copied::Rows(batch))) => Some(batch),
        Ok(None) => None,
        Ok(Some(Copied::BadRow(bad))) => panic!("{}", bad.error.chain()),
        Err(error) => panic!("a copy breaks off: {}", error.chain()),
    }
}

async fn found(source: &dyn Source, table: &str) -> UpstreamId {
    let tables = source.discover().await.expect("discover");
    let table = tables.iter().find(|t| &*t.schema.name.name == table && t.excluded.is_none());
    table.expect("the suite's table is captured").schema.upstream
}

/// One table as a copy and the stream's changes that it did not see make it. Strict: a change that does not fit is a failure.
#[derive(Default)]
pub struct Exact {
    rows: BTreeMap<i64, String>,
}

impl Exact {
    fn text(batch: &ChangeBatch, row: usize) -> String {
        batch.rows.column(1).as_string::<i32>().value(row).to_string()
    }

    fn apply(&mut self, batch: &ChangeBatch, seen: Option<&Seen>) {
        for (row, id) in ids(batch).into_iter().enumerate() {
            if seen.is_some_and(|seen| seen.contains(batch.tx(row).id)) {
                continue;
            }
            let tx = batch.tx(row).id;
            match batch.ops[row] {
                Op::Read | Op::Create => {
                    let old = self.rows.insert(id, Self::text(batch, row));
                    assert_eq!(old, None, "transaction {tx} inserts {id}, which is there");
                }
                Op::Update => {
                    let old = batch.old_image(row).map_or(id, |(old, at)| old.column(0).as_primitive::<Int64Type>().value(at));
                    let held = self.rows.remove(&old);
                    assert!(held.is_some(), "transaction {tx} updates {old}, which is not there");
                    let v = if batch.unchanged_of(row).is_empty() { Some(Self::text(batch, row)) } else { held };
                    assert_eq!(self.rows.insert(id, v.unwrap_or_default()), None, "transaction {tx} moves {old} onto {id}");
                }
                Op::Delete => {
                    assert!(self.rows.remove(&id).is_some(), "transaction {tx} deletes {id}, which is not there");
                }
                Op::Truncate => self.rows.clear(),
            }
        }
    }
}

/// Writers that overlap, hold their transactions open, undo some and empty the table at times.
async fn writer(system: &dyn System, writer: i64, rounds: i64) {
    let base = writer * 1_000_000;
    let mut live: Vec<i64> = Vec::new();
    for n in 0..rounds {
        let id = base + n * 10;
        let mut changes = vec![Change::Insert { table: ROWS, id, v: format!("{writer}.{n}") }];
        let mut after = live.clone();
        after.push(id);
        if let Some(old) = live.first().copied().filter(|_| n % 3 == 0) {
            changes.push(Change::Move { table: ROWS, from: old, to: -id - 1 });
            after[0] = -id - 1;
        }
        if let Some(old) = live.last().copied() {
            changes.push(Change::Update { table: ROWS, id: old, v: format!("again {n}") });
            if n % 4 == 0 && live.len() > 2 {
                changes.push(Change::Delete { table: ROWS, id: live[1] });
                after.retain(|kept| *kept != live[1]);
            }
        }
        let whole = n % 5 != 0;
        let hold = Duration::from_millis(if n % 6 == writer % 6 { 15 } else { 0 });
        system.transaction(&changes, hold, whole).await;
        if whole {
            live = after;
        }
    }
}

/// A copy taken in the middle of a load, and the stream's changes that its `Seen` does not contain, equal the table; once the
/// stream covers `upto`, nothing that the copy saw comes any more.
pub async fn copies_beside_a_load_are_exact(system: &dyn System) {
    let source = system.open();
    let start = prepare(&*source).await;
    let table = found(&*source, ROWS).await;
    commit(system, &[Change::Fill { table: ROWS, from: 500_000_000, count: 20_000, bytes: 40 }]).await;
    let load = async {
        tokio::join!(writer(system, 1, 150), writer(system, 2, 150), writer(system, 3, 150));
        commit(system, &[Change::Empty { table: ROWS }, Change::Insert { table: ROWS, id: 7, v: "after".into() }]).await;
        tokio::join!(writer(system, 4, 60), writer(system, 5, 60));
        source.head().await.expect("head")
    };
    let copies = async {
        let mut copies = Vec::new();
        for _ in 0..6 {
            let mut copy = source.copy(table).await.expect("a copy");
            let mut exact = Exact::default();
            while let Some(batch) = rows(&mut *copy).await {
                exact.apply(&batch, None);
            }
            copies.push((exact, copy.seen(), copy.upto()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        copies
    };
    let mut stream = open_stream(&*source, &start).await;
    let mut staged: Vec<(ChangeBatch, Position)> = Vec::new();
    let (head, mut copies) = {
        let work = async { tokio::join!(load, copies) };
        tokio::pin!(work);
        let mut done = None;
        let mut passed = start.clone();
        let mut open: Vec<ChangeBatch> = Vec::new();
        loop {
            tokio::select! {
                finished = &mut work, if done.is_none() => done = Some(finished),
                item = stream.next() => match item.expect("an item") {
                    StreamItem::Changes { batches, end } => {
                        open.extend(batches.into_iter().filter(|b| is(b, ROWS)));
                        if let Some(end) = end {
                            staged.extend(open.drain(..).map(|b| (b, passed.clone())));
                            passed = end.position;
                        }
                    }
                    StreamItem::Progress(position) => passed = position,
                    StreamItem::Schema(_) => {}
                    other => panic!("{other:?}"),
                },
            }
            if let Some((head, _)) = &done
                && source.covers(&passed, head)
                && copies_covered(&*source, &done, &passed)
            {
                break;
            }
        }
        done.unwrap_or_else(|| unreachable!())
    };
    assert!(source.covers(&head, &start));
    let now = system.rows(ROWS).await;
    for (exact, seen, upto) in &mut copies {
        for (batch, before) in &staged {
            if source.covers(before, upto) {
                let late = (0..batch.len()).find(|row| seen.contains(batch.tx(*row).id));
                assert_eq!(late, None, "the stream covered `upto`, and a transaction that the copy saw came after it");
            }
            exact.apply(batch, Some(seen));
        }
        assert_eq!(exact.rows, now, "the copy of {seen:?}");
    }
    drop(stream);
    source.remove().await.expect("remove");
}

type Copy = (Exact, Seen, Position);

fn copies_covered(source: &dyn Source, done: &Option<(Position, Vec<Copy>)>, passed: &Position) -> bool {
    done.as_ref().is_some_and(|(_, copies)| copies.iter().all(|(_, _, upto)| source.covers(passed, upto)))
}

/// A reader that does not read for longer than the system waits for a dead one finds its session alive and nothing lost.
pub async fn a_slow_reader_keeps_its_session(system: &dyn System) {
    let source = system.open();
    let start = prepare(&*source).await;
    let mut stream = open_stream(&*source, &start).await;
    // Idle first, then with more waiting than the transport buffers.
    commit(system, &numbered(1)).await;
    let mut last = 0;
    while last < 1 {
        if let StreamItem::Changes { batches, .. } = next(&mut stream).await.expect("an item") {
            last = follows(last, &batches);
        }
    }
    tokio::time::sleep(system.silence()).await;
    for n in 2..=5 {
        commit(system, &numbered(n)).await;
        commit(system, &[Change::Fill { table: ROWS, from: n * 100_000_000, count: 5_000, bytes: 1_000 }]).await;
    }
    tokio::time::sleep(system.silence()).await;
    while last < 5 {
        match next(&mut stream).await.expect("the session lived on") {
            StreamItem::Changes { batches, end } => {
                check_item(&batches, &end);
                last = follows(last, &batches);
            }
            _ => continue,
        }
    }
    drop(stream);
    source.remove().await.expect("remove");
}

/// Copies asked for at the same time, of the same table too, are each whole, in whatever order they are read.
pub async fn copies_side_by_side_are_whole(system: &dyn System) {
    let source = system.open();
    prepare(&*source).await;
    commit(system, &[Change::Fill { table: ROWS, from: 1, count: 30_000, bytes: 300 }]).await;
    commit(system, &[Change::Fill { table: LOG, from: 1, count: 100, bytes: 10 }]).await;
    let samples = system.insert_samples().await;
    let mut asked = Vec::new();
    for (table, rows) in [(LOG, 100), (ROWS, 30_000), (SAMPLES, samples), (LOG, 100), (ROWS, 30_000)] {
        asked.push((found(&*source, table).await, rows));
    }
    let read = async |table: UpstreamId| {
        let mut copy = source.copy(table).await.expect("a copy");
        let mut count = 0;
        while let Some(batch) = rows(&mut *copy).await {
            assert_eq!(batch.schema.upstream, table);
            count += batch.len();
        }
        (table, count)
    };
    let reads = futures::future::join_all(asked.iter().map(|(table, _)| read(*table)));
    let copied = tokio::time::timeout(PATIENCE, reads).await.expect("all copies end");
    assert_eq!(copied, asked);
    drop(source);
    system.open().remove().await.expect("remove");
}

/// Dropped in the middle of anything, stream and copy end, and others begin.
pub async fn dropping_ends_everything(system: &dyn System) {
    let source = system.open();
    let start = prepare(&*source).await;
    let table = found(&*source, ROWS).await;
    commit(system, &[Change::Fill { table: ROWS, from: 1, count: 60_000, bytes: 300 }]).await;
    for items in 0..3 {
        let mut copy = source.copy(table).await.expect("a copy");
        let mut stream = open_stream(&*source, &start).await;
        for _ in 0..items {
            let _ = copy.next().await.expect("rows");
            let _ = next(&mut stream).await.expect("an item");
        }
        let _ = tokio::time::timeout(Duration::from_millis(items), stream.next()).await;
        drop((copy, stream));
    }
    drop(source);
    for waited in 0.. {
        match system.sessions().await {
            0 => break,
            left => assert!(waited < 200, "{left} sessions are still open"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    system.open().remove().await.expect("remove");
}

/// A transaction larger than an item comes in bounded pieces, the last of which has the end; nothing comes in between.
pub async fn a_large_transaction_comes_in_pieces(system: &dyn System) {
    const COUNT: i64 = 40_000;
    let source = system.open();
    let start = prepare(&*source).await;
    let mut stream = open_stream(&*source, &start).await;
    commit(system, &numbered(1)).await;
    // A small one begins after the large one and ends before it.
    let large = [Change::Fill { table: ROWS, from: 1_000_000, count: COUNT, bytes: 1_000 }, numbered(3).remove(0)];
    let beside = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        commit(system, &numbered(2)[..1]).await;
    };
    tokio::join!(system.transaction(&large, Duration::from_secs(3), true), beside);
    commit(system, &numbered(4)[..1]).await;
    let (mut last, mut pieces, mut inside, mut rows) = (0, 0, None, 0);
    while last < 4 {
        let StreamItem::Changes { batches, end } = next(&mut stream).await.expect("an item") else { continue };
        check_item(&batches, &end);
        let first = batches.first().map(|b| b.tx(0));
        if inside.is_some() {
            assert_eq!(inside, first, "another transaction comes between the pieces of one");
        }
        last = follows(last, &batches);
        rows += batches.iter().filter(|b| is(b, ROWS)).map(ChangeBatch::len).sum::<usize>() as i64;
        inside = if end.is_none() { first } else { None };
        pieces += i64::from(end.is_none());
    }
    assert_eq!(rows, COUNT + 2);
    assert!(pieces >= 2, "{pieces} pieces");
    drop(stream);
    source.remove().await.expect("remove");
}

/// One test per check of the suite. `$system` makes a fresh system: an expression that is awaited.
#[macro_export]
macro_rules! source_suite {
    ($system:expr) => {
        $crate::source_suite!(@each $system; resumes_at_any_item next_is_cancel_safe never_acknowledges_by_itself
            a_lone_commit_needs_no_company copy_and_stream_agree copies_beside_a_load_are_exact
            copies_side_by_side_are_whole a_slow_reader_keeps_its_session
            dropping_ends_everything a_large_transaction_comes_in_pieces);
    };
    (@each $system:expr; $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let system = $system.await;
                $crate::source_suite::$check(&system).await;
            }
        )*
    };
}
