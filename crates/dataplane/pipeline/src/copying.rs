//! One table's copy, run beside the stream: a task that hands rows to the runner and never touches the log itself.

use mainstem_connector::{Seen, Source};
use mainstem_types::{ChangeBatch, Error, Generation, Position, Result, TableSchema, UpstreamId};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a copy says, in this order: `Started`, `Rows`*, `Done`; or `Failed` at any point, after which the copy is void.
pub struct CopyEvent {
    pub upstream: UpstreamId,
    /// The generation this copy fills; an event of an older one is dropped.
    pub generation: Generation,
    pub what: CopyStep,
}

pub enum CopyStep {
    Started { schema: Arc<TableSchema>, seen: Seen, upto: Position },
    Rows(ChangeBatch),
    Done,
    Failed(Error),
}

/// Copies one table. Waits when the runner is behind: two batches are on their way at most.
pub async fn copy_table(source: Arc<dyn Source>, upstream: UpstreamId, generation: Generation, events: mpsc::Sender<CopyEvent>) {
    let out = Out { upstream, generation, events };
    if let Err(error) = copy(source, &out).await {
        out.send(CopyStep::Failed(error)).await;
    }
}

struct Out {
    upstream: UpstreamId,
    generation: Generation,
    events: mpsc::Sender<CopyEvent>,
}

impl Out {
    /// False when nobody listens any more.
    async fn send(&self, what: CopyStep) -> bool {
        let event = CopyEvent { upstream: self.upstream, generation: self.generation, what };
        self.events.send(event).await.is_ok()
    }
}

async fn copy(source: Arc<dyn Source>, out: &Out) -> Result<()> {
    let mut copy = source.copy(out.upstream).await?;
    let started = CopyStep::Started { schema: copy.schema(), seen: copy.seen(), upto: copy.upto() };
    if !out.send(started).await {
        return Ok(());
    }
    while let Some(rows) = copy.next().await? {
        if !out.send(CopyStep::Rows(rows)).await {
            return Ok(());
        }
    }
    out.send(CopyStep::Done).await;
    Ok(())
}
