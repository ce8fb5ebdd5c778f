//! One table's copy, run beside the stream: a task that hands rows to the runner and never touches the log itself.

use mainstem_connector::{BadRow, Copied, ITEM_BYTES_MAX, Seen, Source};
use mainstem_types::{ChangeBatch, Error, Generation, Position, Result, TableSchema, UpstreamId};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes of copied rows on their way to the runner, over all copies of a source.
pub const COPIED_BYTES_MAX: usize = 2 * ITEM_BYTES_MAX;

/// What a copy says, in this order: `Started`, `Rows` and `BadRow`s, `Done`; or `Failed` at any point, after which the copy is void.
pub struct CopyEvent {
    pub upstream: UpstreamId,
    /// The generation this copy fills; an event of an older one is dropped.
    pub generation: Generation,
    pub what: CopyStep,
    /// Its share of `COPIED_BYTES_MAX`, given back with the event.
    _room: OwnedSemaphorePermit,
}

pub enum CopyStep {
    Started {
        schema: Arc<TableSchema>,
        seen: Seen,
        upto: Position,
    },
    Rows(ChangeBatch),
    /// Left out of the rows.
    BadRow(Box<BadRow>),
    Done,
    Failed(Error),
}

/// Copies one table. Waits when the runner is behind.
pub async fn copy_table(source: Arc<dyn Source>, upstream: UpstreamId, generation: Generation, out: Out) {
    let one = Sender { upstream, generation, out };
    if let Err(error) = copy(source, &one).await {
        one.send(CopyStep::Failed(error), 0).await;
    }
}

/// Where all copies of a source send their events. `room` has `COPIED_BYTES_MAX` permits.
#[derive(Clone)]
pub struct Out {
    pub events: mpsc::Sender<CopyEvent>,
    pub room: Arc<Semaphore>,
}

struct Sender {
    upstream: UpstreamId,
    generation: Generation,
    out: Out,
}

impl Sender {
    /// False when nobody listens any more.
    async fn send(&self, what: CopyStep, bytes: usize) -> bool {
        let wanted = bytes.min(COPIED_BYTES_MAX) as u32;
        let Ok(room) = self.out.room.clone().acquire_many_owned(wanted).await else { return false };
        let event = CopyEvent { upstream: self.upstream, generation: self.generation, what, _room: room };
        self.out.events.send(event).await.is_ok()
    }
}

async fn copy(source: Arc<dyn Source>, out: &Sender) -> Result<()> {
    let mut copy = source.copy(out.upstream).await?;
    let started = CopyStep::Started { schema: copy.schema(), seen: copy.seen(), upto: copy.upto() };
    if !out.send(started, 0).await {
        return Ok(());
    }
    while let Some(copied) = copy.next().await? {
        let (step, bytes) = match copied {
            Copied::Rows(rows) => {
                let bytes = rows.bytes();
                (CopyStep::Rows(rows), bytes)
            }
            Copied::BadRow(bad) => {
                let bytes = bad.values.iter().flatten().map(String::len).sum();
                (CopyStep::BadRow(bad), bytes)
            }
        };
        if !out.send(step, bytes).await {
            return Ok(());
        }
    }
    out.send(CopyStep::Done, 0).await;
    Ok(())
}
