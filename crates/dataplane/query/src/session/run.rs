//! Running a plan: on the engine's threads, batch by batch, until the end, a cancel, a timeout, or nobody listens.

use super::stop::{Stop, stoppable};
use super::{Session, SessionFacts};
use crate::plan::Scope;
use crate::sql::errors::from_engine;
use crate::sql::names;
use crate::threads::{Wish, unwound};
use crate::{codes, metrics};
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringViewArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::FormatOptions;
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use mainstem_env::{Clock, JoinOnDrop, Moment};
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// Batches that may wait for a slow client.
const WAITING_BATCHES_MAX: usize = 2;

pub(super) fn snapshot_too_old(what: &str) -> Error {
    Error::fix(codes::SNAPSHOT_TOO_OLD, format!("{what} has held its snapshot for too long"))
        .hint("Start it again; query.snapshot_age_ms_max says how long one may hold.")
}

type Batches = mpsc::Sender<Result<RecordBatch>>;

pub(super) fn cancel_error() -> Error {
    Error::fix(codes::CANCELLED, "canceling statement due to user request")
}

pub(super) fn timeout_error() -> Error {
    Error::fix(codes::TIMEOUT, "canceling statement due to statement timeout")
        .hint("SET statement_timeout allows it more time; 0 is no limit.")
}

/// What may end a statement before its work does: a cancel or its timeout.
pub(crate) struct Interrupt {
    /// Held so that the receiver never reads "nobody can cancel".
    pub(crate) _sender: Arc<watch::Sender<bool>>,
    pub(crate) cancelled: watch::Receiver<bool>,
    /// When the statement began; None for work before it.
    pub(crate) begun: Option<Moment>,
    pub(crate) deadline: Option<Moment>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Interrupt {
    /// What `work` gives, unless the interrupt comes first.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        let (clock, deadline) = (self.clock.clone(), self.deadline);
        let timed_out = async move {
            match deadline {
                Some(deadline) => clock.sleep(deadline - clock.moment()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.cancelled.wait_for(|cancelled| *cancelled) => Err(cancel_error()),
            () = timed_out => Err(timeout_error()),
            done = work => Ok(done),
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(begun) = self.begun {
            metrics::DURATION.observe(self.clock.moment() - begun);
        }
    }
}

/// What a running query holds; its drop is the query's end.
struct Running {
    /// Weak, because a session may hold the rows itself: a cursor.
    session: Weak<Session>,
    facts: Arc<SessionFacts>,
    /// None while nobody waits: a cursor between two fetches.
    interrupt: Option<Interrupt>,
    stop: Stop,
    batches: mpsc::Receiver<Result<RecordBatch>>,
    _rest: Rest,
    _wish: Wish,
}

/// The task of a query that has given more rows than its client took.
type Rest = Arc<Mutex<Option<JoinOnDrop<()>>>>;

/// Counted as long as a query has work under way: on the engine's side, so that the number says what the threads do.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::RUNNING.add(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::RUNNING.add(-1);
    }
}

impl Running {
    /// The next batch, or the word that ends the statement. Cancel and timeout are watched here, on the client's side, so that the client
    /// never waits for an operator; the operators end at their next pause (see `stop`).
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        match &mut self.interrupt {
            Some(interrupt) => interrupt.or(self.batches.recv()).await.unwrap_or_else(|error| Some(Err(error))),
            None => self.batches.recv().await,
        }
    }

    fn failed(&self, error: Error) -> Error {
        match self.session.upgrade() {
            Some(session) => session.failed(error),
            None => error,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.facts.running.lock().active = false;
        self.stop.set();
    }
}

/// A query that is ready to run.
pub(super) struct Work {
    pub(super) sql: String,
    pub(super) scope: Scope,
    pub(super) plan: LogicalPlan,
    /// The columns that were promised.
    pub(super) schema: SchemaRef,
    pub(super) notices: Vec<String>,
    /// EXPLAIN: its rows are lines of text.
    pub(super) explain: bool,
}

/// Columns and notices of a query whose rows begin.
pub(super) type Head = (SchemaRef, Vec<String>);

/// Makes a plan and runs it, on a thread of its own until the client is slower than it. Its first batch is awaited here, so that what fails
/// at once fails before any row is promised. The rows of a cursor outlive the statement that declares it, so only that first wait can be
/// interrupted here.
pub(super) async fn run(
    session: &Arc<Session>,
    interrupt: Interrupt,
    make: impl FnOnce() -> Result<Work> + Send + 'static,
    cursor: bool,
) -> Result<(Head, BoxStream<'static, Result<RecordBatch>>)> {
    let (batches, received) = mpsc::channel(WAITING_BATCHES_MAX);
    let (stop, counted) = (Stop::default(), Counted::new());
    let (rest, head) = (Rest::default(), Arc::new(Mutex::new(None)));
    let (watched, kept, said) = (stop.clone(), rest.clone(), head.clone());
    let started = session.engine.threads.start(move |mark| {
        let handle = mark.handle.clone();
        let lagging = Arc::new(Notify::new());
        let told = lagging.clone();
        let mut driver = Box::pin(async move {
            let _held = (mark, counted);
            let work = async {
                let work = make()?;
                *said.lock() = Some((work.schema.clone(), work.notices.clone()));
                drive(work, &batches, &watched, &told).await
            };
            // A panic must not pass for the end of the rows.
            let work = AssertUnwindSafe(work).catch_unwind();
            let done = tokio::select! {
                biased;
                () = batches.closed() => Ok(Ok(())),
                done = work => done,
            };
            if let Err(error) = done.unwrap_or_else(|payload| Err(unwound(payload))) {
                let _ = batches.send(Err(error)).await;
            }
        });
        // The channel has room for what a small query gives: its thread is free at its end. A client that takes its time holds no thread.
        let lags = handle.block_on(async {
            tokio::select! {
                biased;
                () = &mut driver => false,
                () = lagging.notified() => true,
            }
        });
        if lags {
            let _entered = handle.enter();
            *kept.lock() = Some(mainstem_env::spawn("query", driver));
        }
    })?;
    let (weak, facts) = (Arc::downgrade(session), session.facts.clone());
    let mut running =
        Running { session: weak, facts, interrupt: Some(interrupt), stop, batches: received, _rest: rest, _wish: started.wish };
    let first = match running.next().await {
        Some(Err(error)) => return Err(error),
        Some(Ok(batch)) => Some(Ok(batch)),
        None => None,
    };
    let Some(head) = head.lock().take() else { return Err(cancel_error()) };
    if cursor {
        running.interrupt = None;
    }
    let rest = stream::unfold(running, |mut running| async move {
        let batch = running.next().await?.map_err(|error| running.failed(error));
        Some((batch, running))
    });
    Ok((head, stream::iter(first).chain(rest).boxed()))
}

/// Rows for whoever asks: after an error and after the end there are no more, and a panic is an error.
pub(super) fn sealed(rows: BoxStream<'static, Result<RecordBatch>>) -> BoxStream<'static, Result<RecordBatch>> {
    let rows = AssertUnwindSafe(rows).catch_unwind().map(|batch| batch.unwrap_or_else(|payload| Err(unwound(payload))));
    let until_error = rows.scan(false, |failed, batch| {
        let ended = std::mem::replace(failed, batch.is_err());
        futures::future::ready((!ended).then_some(batch))
    });
    until_error.fuse().boxed()
}

/// Runs the work. What does not fit into memory before it has given a row runs a second time, carefully.
async fn drive(work: Work, batches: &Batches, stop: &Stop, lagging: &Notify) -> Result<()> {
    let mut sent = false;
    let pool = work.scope.state.runtime_env().memory_pool.clone();
    let before = pool.reserved();
    match attempt(&work, &work.scope.state, (batches, lagging), stop, &mut sent).await {
        Err(error) if error.code() == codes::OUT_OF_MEMORY && !sent => {
            metrics::CAREFUL.add(1);
            // The tasks of the first run give their memory back when they end; other queries may have taken some meanwhile.
            for _ in 0..RELEASE_WAITS_MAX {
                if pool.reserved() <= before {
                    break;
                }
                work.scope.engine.env.clock.sleep(RELEASE_WAIT).await;
            }
            attempt(&work, &careful(&work.scope.state, &work.plan), (batches, lagging), stop, &mut sent).await
        }
        done => done,
    }
}

/// How long a careful run waits for the memory of the first.
const RELEASE_WAIT: Duration = Duration::from_millis(10);
const RELEASE_WAITS_MAX: usize = 200;

/// Rows per batch of a careful run.
const CAREFUL_ROWS: usize = 1024;

/// Settings under which a query needs the least memory: one sort at a time has all of it, small batches leave room for a merge, and joins
/// sort their sides, which can spill, where a hash table could not. A join by sorting needs two partitions to be chosen.
fn careful(state: &SessionState, plan: &LogicalPlan) -> SessionState {
    let joins = plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(_)))).unwrap_or(false);
    let mut state = state.clone();
    let rows = CAREFUL_ROWS.min(state.config().batch_size());
    let partitions = if joins { 2 } else { 1 };
    let config = state.config_mut();
    *config = config.clone().with_batch_size(rows).with_target_partitions(partitions);
    config.options_mut().optimizer.prefer_hash_join = false;
    state
}

async fn attempt(
    work: &Work,
    state: &SessionState,
    (batches, lagging): (&Batches, &Notify),
    stop: &Stop,
    sent: &mut bool,
) -> Result<()> {
    let failed = |e| from_engine(e, &work.sql);
    let physical = state.create_physical_plan(&work.plan).await.and_then(|plan| stoppable(plan, stop)).map_err(failed)?;
    let mut rows: SendableRecordBatchStream = execute_stream(physical, state.task_ctx()).map_err(failed)?;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(failed)?;
        if batch.num_rows() == 0 {
            continue;
        }
        let batch = if work.explain { plan_lines(&batch, &work.schema)? } else { renamed(&batch, &work.schema)? };
        metrics::ROWS.add(batch.num_rows() as u64);
        *sent = true;
        if batches.capacity() == 0 {
            lagging.notify_one();
        }
        if batches.send(Ok(batch)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// A value that does not fit its column is an error, never NULL.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

fn misfit(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::bug(codes::INTERNAL, "a result does not have the columns that were planned").caused_by(error)
}

/// The batch under the result's names; a type that the physical plan changed (text as views or not) is put right.
fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let fits = |(column, field): (&ArrayRef, &arrow::datatypes::FieldRef)| match column.data_type() == field.data_type() {
        true => Ok(column.clone()),
        false => cast_with_options(column, field.data_type(), &STRICT),
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(fits).collect::<std::result::Result<Vec<_>, _>>();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns.map_err(misfit)?, &options).map_err(misfit)
}

/// EXPLAIN as Postgres gives it: one line of the plan per row.
fn plan_lines(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let text = cast(batch.column(batch.num_columns() - 1), &DataType::Utf8View).map_err(misfit)?;
    let mut lines = Vec::new();
    if let Some(text) = text.as_any().downcast_ref::<StringViewArray>() {
        lines.extend(text.iter().flatten().flat_map(str::lines).map(names::shown_in));
    }
    let lines: ArrayRef = Arc::new(StringViewArray::from_iter_values(lines));
    RecordBatch::try_new(schema.clone(), vec![lines]).map_err(misfit)
}
