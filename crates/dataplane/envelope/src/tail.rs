//! The decoded tail: groups of change batches on their way from a pipeline to the live tables of the same process, above the log and after
//! the ingest policy, so that nothing is decoded that was just encoded (decision 24). Bounded in bytes: a full tail stops the pipeline,
//! and with it the reading of the source.

use async_trait::async_trait;
use mainstem_types::{Barrier, Code, Generation, Position, Result, SourceName, TableBatch, UpstreamId};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Decoded rows on their way, per source. With Arrow copies in the hot tier beside it this keeps a snapshot below the memory budget.
pub const TAIL_BYTES_MAX: usize = 64 << 20;

/// Everything of one barrier. Sent after the append that made it durable returned, in order of `barrier.seq`, without gaps.
pub struct Group {
    pub barrier: Barrier,
    /// The rows up to this barrier, per table in order. None: too large for memory; read them from the log up to the barrier's ends.
    pub batches: Option<Vec<TableBatch>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Group {
    /// Gives the room in the tail back; call when the rows are applied (dropping the group does it too).
    pub fn release(&mut self) {
        self.permit = None;
    }
}

pub struct Sender {
    groups: mpsc::Sender<Group>,
    room: Arc<Semaphore>,
}

pub struct Receiver {
    groups: mpsc::Receiver<Group>,
}

/// A tail for one source.
pub fn channel() -> (Sender, Receiver) {
    let (send, receive) = mpsc::channel(256);
    (Sender { groups: send, room: Arc::new(Semaphore::new(TAIL_BYTES_MAX)) }, Receiver { groups: receive })
}

impl Sender {
    /// Waits for room, then hands the group over. False when the reader is gone.
    pub async fn send(&self, barrier: Barrier, batches: Option<Vec<TableBatch>>) -> bool {
        let bytes: usize = batches.iter().flatten().map(|b| b.changes.bytes()).sum();
        let permits = bytes.clamp(1, TAIL_BYTES_MAX) as u32;
        let Ok(permit) = self.room.clone().acquire_many_owned(permits).await else { return false };
        self.groups.send(Group { barrier, batches, permit: Some(permit) }).await.is_ok()
    }
}

impl Receiver {
    /// The next group; None when the pipeline is gone.
    pub async fn next(&mut self) -> Option<Group> {
        self.groups.recv().await
    }

    /// A group that is already waiting.
    pub fn try_next(&mut self) -> Option<Group> {
        self.groups.try_recv().ok()
    }
}

/// What of a source is visible to queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Visible {
    pub seq: u64,
    pub position: Position,
    pub commit_time_us: i64,
    /// When it became visible, microseconds since 1970-01-01T00:00:00Z.
    pub at_us: i64,
}

/// A live table that is not what it should be and cannot go on: it has to be copied anew.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokenTable {
    pub upstream: UpstreamId,
    /// The youngest generation that it had when it broke; a copy under a higher one mends it.
    pub generation: Generation,
    pub code: Code,
    pub message: String,
}

/// The live tables as a pipeline sees them. Implemented by `warehouse`.
#[async_trait]
pub trait LiveTables: Send + Sync {
    /// Starts (or takes over) the applier of a source. It continues after the last barrier in the log: everything before was replayed.
    async fn attach(&self, source: &SourceName) -> Result<Sender>;

    /// What is visible of a source; None before its first barrier.
    fn visible(&self, source: &SourceName) -> watch::Receiver<Option<Visible>>;

    /// The tables of a source that cannot go on.
    fn broken(&self, source: &SourceName) -> watch::Receiver<Vec<BrokenTable>>;

    /// Forgets a source: its tables disappear from queries and, with `files`, from disk.
    async fn forget(&self, source: &SourceName, files: bool) -> Result<()>;
}
