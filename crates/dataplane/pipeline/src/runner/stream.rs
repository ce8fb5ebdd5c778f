//! The stream's side of a runner: a task reads and decodes ahead by one item while the runner appends.

use super::{Entry, Phase, Piece, Result, Runner, StreamItem};
use crate::metrics;
use mainstem_connector::{ChangeStream, CommitPoint};
use mainstem_env::JoinOnDrop;
use mainstem_types::{ChangeBatch, Error, Position};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Reads a stream in a task of its own.
pub struct Reader {
    items: mpsc::Receiver<Result<StreamItem>>,
    acknowledged: watch::Sender<Option<Position>>,
    _task: JoinOnDrop<()>,
}

impl Reader {
    pub fn start(stream: Box<dyn ChangeStream>) -> Self {
        let (send, items) = mpsc::channel(1);
        let (acknowledged, acks) = watch::channel(None);
        let task = mainstem_env::spawn("stream", read(stream, send, acks));
        Self { items, acknowledged, _task: task }
    }

    pub async fn next(&mut self) -> Result<StreamItem> {
        let ended = || Error::retry(crate::codes::SOURCE_STOPPED, "the source's stream ended");
        self.items.recv().await.unwrap_or_else(|| Err(ended()))
    }

    pub fn acknowledge(&self, position: &Position) {
        self.acknowledged.send_replace(Some(position.clone()));
    }
}

async fn read(
    mut stream: Box<dyn ChangeStream>,
    send: mpsc::Sender<Result<StreamItem>>,
    mut acks: watch::Receiver<Option<Position>>,
) {
    loop {
        // Room first: what comes while the runner is busy stays in the socket and makes one item, not many that wait for each other.
        let room = tokio::select! {
            biased;
            Ok(()) = acks.changed() => {
                acknowledge(&mut *stream, &mut acks);
                continue;
            }
            room = send.reserve() => room,
        };
        let Ok(room) = room else { return };
        // Acknowledgements go on while nothing comes: the source must not keep what is durable here.
        let item = loop {
            tokio::select! {
                biased;
                Ok(()) = acks.changed() => acknowledge(&mut *stream, &mut acks),
                item = stream.next() => break item,
            }
        };
        let failed = item.is_err();
        room.send(item);
        if failed {
            return;
        }
    }
}

fn acknowledge(stream: &mut dyn ChangeStream, acks: &mut watch::Receiver<Option<Position>>) {
    let position = acks.borrow_and_update().clone();
    if let Some(position) = position {
        stream.acknowledge(&position);
    }
}

impl Runner {
    pub(super) async fn take_item(&mut self, item: StreamItem, reader: &Reader) -> Result<()> {
        match item {
            StreamItem::Schema(schema) => self.take_schema(schema).await,
            StreamItem::Changes { batches, end } => self.take_changes(batches, end, reader).await,
            StreamItem::Progress(position) => {
                self.passed = Some(position);
                Ok(())
            }
            StreamItem::TableFailed { upstream, error } => {
                self.take_failed(upstream, &error);
                Ok(())
            }
            StreamItem::TableStale { upstream, reason } => self.take_stale(upstream, &reason).await,
        }
    }

    async fn take_changes(&mut self, batches: Vec<ChangeBatch>, end: Option<CommitPoint>, reader: &Reader) -> Result<()> {
        if let (Some(end), Some(stored), false) = (&end, self.ingest.position(), self.ingest.in_large_transaction())
            && self.source.covers(stored, &end.position)
        {
            metrics::REPEATED.add(1);
            return Ok(());
        }
        let piece = self.encode_changes(batches, end.as_ref()).await?;
        let Some(end) = end else { return self.ingest.push_piece(piece).await };
        let records = self.tables.take_changed();
        self.ingest.commit(piece, end.position.clone(), end.commit_time_us, records).await?;
        reader.acknowledge(&end.position);
        self.passed = Some(end.position);
        Ok(())
    }

    async fn encode_changes(&mut self, batches: Vec<ChangeBatch>, end: Option<&CommitPoint>) -> Result<Piece> {
        let mut piece = Piece::default();
        for batch in batches {
            let upstream = batch.schema.upstream;
            if self.tables.is_excluded(upstream) {
                continue;
            }
            if self.tables.get(upstream).is_none() {
                self.add_streamed(batch.schema.clone()).await?;
            }
            let Some(entry) = self.tables.entry(upstream) else { continue };
            entry.changes_total += batch.len() as u64;
            if let Some(end) = end {
                entry.last_commit_us = Some(end.commit_time_us);
            }
            match (&entry.phase, entry.record.live) {
                (Phase::Live, Some(live)) => self.ingest.add_rows(&mut piece, &entry.record, live, Arc::new(batch))?,
                (Phase::Failed, _) | (Phase::Live, None) => {}
                (Phase::Waiting | Phase::Copying | Phase::Finishing { .. }, _) => {
                    let topic = entry.staging_topic();
                    stage_topic(&self.ingest, entry, &topic).await?;
                    self.ingest.add_staged(&mut piece, &entry.record, &topic, &batch)?;
                }
            }
        }
        Ok(piece)
    }
}

async fn stage_topic(ingest: &crate::ingest::Ingest, entry: &mut Entry, topic: &str) -> Result<()> {
    if !entry.staged {
        ingest.make_topic(topic).await?;
        entry.staged = true;
    }
    Ok(())
}
