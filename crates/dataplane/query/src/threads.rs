//! The threads on which statements are parsed, planned, run and formatted: with stacks made for recursion and behind everything else, so
//! that no statement can hold up capture, log-ins, cancels or probes.

use crate::session::Interrupt;
use crate::{codes, metrics};
use mainstem_env::{Clock, Moment};
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};

/// Address space of one thread's stack; memory is taken where it is touched. Parsing, planning and the end of a tree recurse as deep as the
/// tree: `sql::bounds` allows what was measured to fit several times over.
const STACK_BYTES: usize = 256 << 20;
/// How far behind the other threads of the process these stand (`nice`): a third of their share when all want to run.
const NICE: i32 = 5;
/// Statements that work on a thread of their own at a time; sessions are fewer.
const THREADS_MAX: usize = 512;
/// Statements that nobody waits for any more and that work on, beyond which new ones are refused: they hold memory and processors.
const ABANDONED_MAX: usize = 8;
/// Younger ones are about to find their next pause.
const ABANDONED_AFTER: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Threads {
    /// None only while it is being dropped.
    runtime: Option<Runtime>,
    abandoned: Arc<Abandoned>,
}

/// Work that goes on though nobody waits for it, by a number of its own.
struct Abandoned {
    works: Mutex<(u64, BTreeMap<u64, Moment>)>,
    clock: Arc<dyn Clock>,
}

impl Threads {
    /// Fails when threads cannot be started. `workers` run the parts of queries that are run in parallel.
    pub(crate) fn new(clock: Arc<dyn Clock>, workers: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .max_blocking_threads(THREADS_MAX)
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(|| mainstem_env::lower_priority(NICE))
            .enable_all()
            .build()
            .map_err(|e| Error::retry(codes::INTERNAL, "the threads for queries could not be started").caused_by(e))?;
        Ok(Self { runtime: Some(runtime), abandoned: Arc::new(Abandoned { works: Mutex::default(), clock }) })
    }

    /// Starts `work` on a thread of its own.
    pub(crate) fn start<T: Send + 'static>(&self, work: impl FnOnce(Mark) -> T + Send + 'static) -> Result<Started<T>> {
        let Some(handle) = self.runtime.as_ref().map(Runtime::handle) else {
            return Err(Error::retry(codes::INTERNAL, "the server is stopping"));
        };
        self.abandoned.check()?;
        let state = Arc::new(Mutex::new(State::Wanted));
        let mark = Mark { state: state.clone(), abandoned: self.abandoned.clone(), handle: handle.clone() };
        // Work that nobody waits for before a thread took it is not begun.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let begin = move || {
            if !sender.is_closed() {
                WANTED.set(Some(mark.state.clone()));
                let done = caught(|| work(mark));
                WANTED.set(None);
                let _ = sender.send(done);
            }
        };
        mainstem_env::spawn_work(handle, begin);
        Ok(Started { result: receiver, wish: Wish { state, abandoned: self.abandoned.clone() } })
    }

    /// Runs `work`, which has no pause, until it is done or the interrupt comes: then it is left to itself, and counted as long as it goes on.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        interrupt: &mut Interrupt,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut started = self.start(move |_mark| work())?;
        interrupt.or(started.result()).await??
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for its threads here could block an async thread for as long as a query runs.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

thread_local! {
    /// Whether the work of this thread is wanted; None between two of them.
    static WANTED: RefCell<Option<Arc<Mutex<State>>>> = const { RefCell::new(None) };
}

/// What unwinds work that nobody waits for.
struct Unwanted;

/// Ends the work of this thread when nobody waits for it any more. Called by what planning calls over and over: it has no pause of its own.
/// On threads that run parts of a query nothing happens; a part ends where it pauses.
pub(crate) fn pause() {
    let unwanted = WANTED.with_borrow(|state| state.as_ref().is_some_and(|state| matches!(*state.lock(), State::Abandoned(_))));
    if unwanted {
        resume_unwind(Box::new(Unwanted));
    }
}

/// Gives what `work` gives; a panic in it is an error.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(unwound)
}

/// The error of work that was unwound. A panic is counted.
pub(crate) fn unwound(payload: Box<dyn Any + Send>) -> Error {
    if payload.is::<Unwanted>() {
        return Error::fix(codes::CANCELLED, "canceling statement due to user request");
    }
    metrics::PANICS.add(1);
    Error::bug(codes::PANIC, "the query engine failed inside").hint("Please report the statement with the server's log.")
}

enum State {
    Wanted,
    Abandoned(u64),
    Done,
}

/// Held by the work as long as it goes on.
pub(crate) struct Mark {
    state: Arc<Mutex<State>>,
    abandoned: Arc<Abandoned>,
    /// The runtime of these threads.
    pub(crate) handle: Handle,
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let State::Abandoned(number) = *state {
            self.abandoned.ended(number);
        }
        *state = State::Done;
    }
}

/// Held by who waits for the work: its drop says that nobody does any more.
pub(crate) struct Wish {
    state: Arc<Mutex<State>>,
    abandoned: Arc<Abandoned>,
}

impl Drop for Wish {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let State::Wanted = *state {
            *state = State::Abandoned(self.abandoned.begun());
        }
    }
}

/// Work under way.
pub(crate) struct Started<T> {
    result: tokio::sync::oneshot::Receiver<Result<T>>,
    pub(crate) wish: Wish,
}

impl<T> Started<T> {
    /// What the work gave. Not to be called again after it returned.
    pub(crate) async fn result(&mut self) -> Result<T> {
        (&mut self.result).await.unwrap_or_else(|_| Err(Error::retry(codes::INTERNAL, "the server is stopping")))
    }
}

impl Abandoned {
    fn begun(&self) -> u64 {
        let mut works = self.works.lock();
        works.0 += 1;
        let number = works.0;
        works.1.insert(number, self.clock.moment());
        metrics::ABANDONED.set(works.1.len() as i64);
        number
    }

    fn ended(&self, number: u64) {
        let mut works = self.works.lock();
        works.1.remove(&number);
        metrics::ABANDONED.set(works.1.len() as i64);
    }

    fn check(&self) -> Result<()> {
        let works = self.works.lock();
        if works.1.len() < ABANDONED_MAX {
            return Ok(());
        }
        let now = self.clock.moment();
        if works.1.values().filter(|since| now - **since > ABANDONED_AFTER).count() < ABANDONED_MAX {
            return Ok(());
        }
        Err(Error::retry(codes::TOO_BUSY, "too many statements that were stopped have not ended yet")
            .hint("Try again later; the metric mainstem_query_abandoned says how many there are."))
    }
}
