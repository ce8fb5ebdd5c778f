//! Running a plan: on the engine's threads, batch by batch, until the end, a cancel, a timeout, or nobody listens.

use super::Session;
use crate::plan::Scope;
use crate::sql::errors::from_engine;
use crate::{codes, metrics};
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use mainstem_env::{Clock, JoinOnDrop, Moment};
use mainstem_types::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Batches that may wait for a slow client.
const WAITING_BATCHES_MAX: usize = 2;

type Batches = mpsc::Sender<Result<RecordBatch>>;

pub(super) fn cancel_error() -> Error {
    Error::fix(codes::CANCELLED, "canceling statement due to user request")
}

pub(super) fn timeout_error() -> Error {
    Error::fix(codes::TIMEOUT, "canceling statement due to statement timeout")
        .hint("SET statement_timeout allows it more time; 0 is no limit.")
}

/// Ends when the statement is cancelled, never otherwise.
pub(super) async fn cancelled(receiver: &mut watch::Receiver<bool>) {
    if receiver.wait_for(|cancelled| *cancelled).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Ends when the time is over, never without one.
pub(super) async fn timed_out(clock: Arc<dyn Clock>, timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => clock.sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// What a running query holds; its drop is the query's end.
struct Running {
    session: Arc<Session>,
    _sender: Arc<watch::Sender<bool>>,
    receiver: watch::Receiver<bool>,
    deadline: Option<Moment>,
    _task: JoinOnDrop<()>,
    batches: mpsc::Receiver<Result<RecordBatch>>,
}

impl Running {
    /// The next batch, or the word that ends the statement. Cancel and timeout are watched here, on the client's side: an operator that
    /// computes for long without a pause keeps its thread until the pause, but not the client.
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        let clock = self.session.engine.env.clock.clone();
        let left = self.deadline.map(|deadline| deadline - clock.moment());
        tokio::select! {
            biased;
            () = cancelled(&mut self.receiver) => Some(Err(cancel_error())),
            () = timed_out(clock, left) => Some(Err(timeout_error())),
            batch = self.batches.recv() => batch,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.session.facts.running.lock().active = false;
        metrics::RUNNING.add(-1);
    }
}

/// Starts the plan. Its first batch is awaited here, so that what fails at once fails before any row is promised.
pub(super) async fn run(
    session: &Arc<Session>,
    (sender, receiver): (Arc<watch::Sender<bool>>, watch::Receiver<bool>),
    sql: &str,
    scope: Scope,
    plan: LogicalPlan,
    schema: SchemaRef,
    explain: bool,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let Some(runtime) = session.engine.runtime().cloned() else { return Err(cancel_error()) };
    let (batches, received) = mpsc::channel(WAITING_BATCHES_MAX);
    let timeout = session.inner.lock().variables.statement_timeout();
    let deadline = timeout.map(|timeout| Moment(session.engine.env.clock.moment().0 + timeout));
    let text = sql.to_string();
    let work = async move {
        if let Err(error) = drive(&scope, plan, schema, explain, &text, &batches).await {
            let _ = batches.send(Err(error)).await;
        }
    };
    let task = {
        let _guard = runtime.enter();
        mainstem_env::spawn("query", work)
    };
    metrics::RUNNING.add(1);
    let mut running = Running { session: session.clone(), _sender: sender, receiver, deadline, _task: task, batches: received };
    let first = match running.next().await {
        Some(Err(error)) => return Err(error),
        Some(Ok(batch)) => Some(Ok(batch)),
        None => None,
    };
    let rest = stream::unfold(Some(running), |running| async move {
        let mut running = running?;
        match running.next().await {
            Some(Ok(batch)) => Some((Ok(batch), Some(running))),
            Some(Err(error)) => Some((Err(running.session.failed(error)), None)),
            None => None,
        }
    });
    Ok(match first {
        Some(first) => stream::iter([first]).chain(rest).boxed(),
        None => rest.boxed(),
    })
}

async fn drive(scope: &Scope, plan: LogicalPlan, schema: SchemaRef, explain: bool, sql: &str, batches: &Batches) -> Result<()> {
    let failed = |e| from_engine(e, sql);
    // Planning is work for the processor alone: a yield first lets a cancel that is already there win.
    tokio::task::yield_now().await;
    let physical = scope.state.create_physical_plan(&plan).await.map_err(failed)?;
    let mut rows: SendableRecordBatchStream = execute_stream(physical, scope.state.task_ctx()).map_err(failed)?;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(failed)?;
        if batch.num_rows() == 0 {
            continue;
        }
        let batch = if explain { plan_lines(&batch, &schema)? } else { renamed(&batch, &schema)? };
        metrics::ROWS.add(batch.num_rows() as u64);
        if batches.send(Ok(batch)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn misfit(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::bug(codes::INTERNAL, "a result does not have the columns that were planned").caused_by(error)
}

/// The batch under the result's names; a type that the physical plan changed (text as views or not) is put right.
fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let fits = |(column, field): (&ArrayRef, &arrow::datatypes::FieldRef)| match column.data_type() == field.data_type() {
        true => Ok(column.clone()),
        false => cast(column, field.data_type()),
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
        lines.extend(text.iter().flatten().flat_map(str::lines).map(str::to_string));
    }
    let lines: ArrayRef = Arc::new(StringViewArray::from_iter_values(lines));
    RecordBatch::try_new(schema.clone(), vec![lines]).map_err(misfit)
}
