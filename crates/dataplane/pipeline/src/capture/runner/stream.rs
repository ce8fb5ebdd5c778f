//! The stream's side of a runner: a task reads and decodes ahead by one item while the runner appends.

use super::{Entry, Phase, Piece, Result, Runner, StreamItem};
use crate::capture::dead_letters::OnBadValue;
use crate::metrics;
use mainstem_connector::{BadRow, ChangeStream, CommitPoint, Seen};
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
            StreamItem::BadRow(bad) => {
                self.bad_rows.push(*bad);
                Ok(())
            }
            StreamItem::TableStale { upstream, reason } => self.take_stale(upstream, &reason).await,
        }
    }

    async fn take_changes(&mut self, batches: Vec<ChangeBatch>, end: Option<CommitPoint>, reader: &Reader) -> Result<()> {
        if let (Some(end), Some(stored)) = (&end, self.ingest.position())
            && self.source.covers(stored, &end.position)
        {
            metrics::REPEATED.add(1);
            // Pieces of it that came before are undone: nothing of them was visible.
            self.ingest.abandon_large();
            self.bad_rows.clear();
            return Ok(());
        }
        let mut piece = Piece::default();
        for bad in std::mem::take(&mut self.bad_rows) {
            self.take_bad_row(&mut piece, &bad).await?;
        }
        self.encode_changes(&mut piece, batches, end.as_ref()).await?;
        let Some(end) = end else { return self.ingest.push_piece(piece).await };
        let records = self.tables.take_changed();
        self.ingest.commit(piece, end.position.clone(), end.commit_time_us, records).await?;
        reader.acknowledge(&end.position);
        self.passed = Some(end.position);
        Ok(())
    }

    /// Decides what becomes of a row that cannot be held.
    async fn take_bad_row(&mut self, piece: &mut Piece, bad: &BadRow) -> Result<()> {
        let upstream = bad.schema.upstream;
        if self.tables.is_excluded(upstream) {
            return Ok(());
        }
        if self.tables.get(upstream).is_none() {
            self.add_streamed(bad.schema.clone()).await?;
        }
        let copied = |seen: &Seen| seen.contains(bad.tx.id);
        let passed_over = match self.tables.get(upstream).map(|e| &e.phase) {
            // Its transaction has ended: the copy that is to come finds what became of the row.
            None | Some(Phase::Failed | Phase::Waiting) => true,
            Some(Phase::Copying) => self.copy_facts.get(&upstream).is_some_and(|(seen, _)| copied(seen)),
            Some(Phase::Finishing { seen, .. }) => copied(seen),
            Some(Phase::Live) => false,
        };
        if !passed_over {
            self.leave_out(piece, bad);
        }
        Ok(())
    }

    /// Stops the table, or writes the row beside it, as the source's options say.
    pub(super) fn leave_out(&mut self, piece: &mut Piece, bad: &BadRow) {
        let upstream = bad.schema.upstream;
        if self.on_bad_value == OnBadValue::StopTable {
            return self.take_failed(upstream, &bad.error);
        }
        let Some(entry) = self.tables.entry(upstream) else { return };
        let generation = entry.record.generation;
        if entry.record.error.is_none() {
            tracing::warn!(table = %entry.record.schema.name, error = %bad.error, "a row is left out and kept as a dead letter");
            entry.change_record(|r| {
                r.error_code = Some(bad.error.code().id.into());
                r.error = Some("rows with values that cannot be held are left out: see mainstem.dead_letters".into());
            });
            self.tables.touch(upstream);
        }
        self.ingest.add_letter(piece, generation, bad);
    }

    async fn encode_changes(&mut self, piece: &mut Piece, batches: Vec<ChangeBatch>, end: Option<&CommitPoint>) -> Result<()> {
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
                (Phase::Live, Some(live)) => self.ingest.add_rows(piece, &entry.record, live, Arc::new(batch))?,
                (Phase::Failed, _) | (Phase::Live, None) => {}
                (Phase::Waiting | Phase::Copying | Phase::Finishing { .. }, _) => {
                    let topic = entry.staging_topic();
                    stage_topic(&self.ingest, entry, &topic).await?;
                    self.ingest.add_staged(piece, &entry.record, &topic, &batch)?;
                }
            }
        }
        Ok(())
    }
}

async fn stage_topic(ingest: &crate::capture::ingest::Ingest, entry: &mut Entry, topic: &str) -> Result<()> {
    if !entry.staged {
        ingest.make_topic(topic).await?;
        entry.staged = true;
    }
    Ok(())
}
