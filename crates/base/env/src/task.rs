//! Tasks and threads with names. A panic in one is logged with its name and ends only it.

use std::future::Future;
use tokio::task::JoinHandle;

/// A task that is aborted when its handle goes.
pub struct JoinOnDrop<T>(JoinHandle<T>);

impl<T> JoinOnDrop<T> {
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    pub fn abort(&self) {
        self.0.abort();
    }

    /// Waits for the end without giving the handle up; cancel-safe. Not to be called again after it returned.
    pub async fn wait(&mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }

    /// Waits for the end; None when it panicked or was aborted.
    pub async fn join(mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }
}

impl<T> Drop for JoinOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a task on the current runtime. Keep the handle: dropping it stops the task.
#[allow(clippy::disallowed_methods)] // the one place that spawns
pub fn spawn<F>(name: &'static str, future: F) -> JoinOnDrop<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    JoinOnDrop(tokio::spawn(async move {
        tracing::trace!(task = name, "started");
        future.await
    }))
}

/// Runs blocking work (disk, compression, Parquet) off the async threads. None when it panicked.
#[allow(clippy::disallowed_methods)]
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Starts work that may take long on one of a runtime's threads for such work. Nobody can stop it: it must know when it is not wanted any more.
pub fn spawn_work(on: &tokio::runtime::Handle, work: impl FnOnce() + Send + 'static) {
    drop(on.spawn_blocking(work));
}

/// Lets the calling thread stand behind the others of the process when all want to run. `nice` is as in the command of this name: each step
/// is about a fifth less of a processor. Where it is not allowed, nothing changes.
pub fn lower_priority(nice: i32) {
    // No process id: on Linux the thread that calls.
    let _ = rustix::process::setpriority_process(None, nice);
}

/// A long-lived thread of its own, for the log's committer and the like.
#[allow(clippy::disallowed_methods)]
pub fn spawn_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_string()).spawn(work)
}
