//! The copies' side of a runner: start them, append their rows, and make a table live once the stream has passed what its copy saw.

use super::{COPIES_MAX, Entry, Phase, Piece, Result, Runner};
use crate::capture::copying::{CopyEvent, CopyStep, copy_table};
use crate::metrics;
use arrow::array::RecordBatch;
use mainstem_connector::Seen;
use mainstem_envelope::TopicItem;
use mainstem_eventlog::{PartitionReader, TopicPartition};
use mainstem_types::{ChangeBatch, Error, ErrorKind, Generation, Position, TableRecord, TableSchema, TableState, UpstreamId};
use std::sync::Arc;
use std::time::Duration;

/// For how long a table that broke is not copied again for breaking again.
const MEND_PAUSE_FIRST: Duration = Duration::from_secs(600);
/// Copied rows beyond which no more are gathered into an append.
const GATHER_BYTES_MAX: usize = 4 << 20;

impl Runner {
    /// Starts copies for waiting tables while there is room.
    pub(super) fn start_copies(&mut self) {
        self.copies.retain(|_, task| !task.is_finished());
        if self.ingest.in_large_transaction() {
            return;
        }
        let mut room = COPIES_MAX;
        let mut waiting = Vec::new();
        for (upstream, entry) in self.tables.unsettled() {
            match entry.phase {
                Phase::Copying => room = room.saturating_sub(1),
                Phase::Waiting => waiting.push(upstream),
                _ => {}
            }
        }
        for upstream in waiting.into_iter().take(room) {
            let Some(entry) = self.tables.entry(upstream) else { continue };
            entry.phase = Phase::Copying;
            entry.change_record(|r| r.generation = Generation(r.generation.0 + 1));
            metrics::COPIES.add(1);
            let task = copy_table(self.source.clone(), upstream, entry.record.generation, self.copy_out.clone());
            self.copies.insert(upstream, mainstem_env::spawn("copy", task));
        }
    }

    pub(super) fn stop_copies(&mut self) {
        self.copies.clear();
        let half = |e: &Entry| matches!(e.phase, Phase::Copying | Phase::Finishing { .. });
        let half: Vec<_> = self.tables.unsettled().filter(|(_, e)| half(e)).map(|(id, _)| id).collect();
        for upstream in half {
            self.tables.entry(upstream).into_iter().for_each(|e| e.phase = Phase::Waiting);
        }
    }

    /// After a new start: what earlier copies left half done is thrown away; their tables are copied behind a new generation.
    pub(super) async fn clean_unfinished(&mut self) -> Result<()> {
        let waiting: Vec<_> = self.tables.unsettled().filter(|(_, e)| e.phase == Phase::Waiting).map(|(id, _)| id).collect();
        for upstream in waiting {
            let Some(entry) = self.tables.entry(upstream) else { continue };
            let running = format!("_mainstem.staging.{}.{}", entry.record.table, entry.record.generation);
            self.ingest.drop_topic(&running).await?;
            self.ingest.drop_topic(&entry.staging_topic()).await?;
            entry.staged = false;
        }
        Ok(())
    }

    /// Copies a table anew beside the one that readers see.
    pub(super) async fn rebuild(&mut self, upstream: UpstreamId, reason: &str) -> Result<()> {
        self.copies.remove(&upstream);
        let Some(entry) = self.tables.entry(upstream) else { return Ok(()) };
        tracing::info!(table = %entry.record.schema.name, reason, "table is copied anew");
        self.ingest.drop_topic(&entry.staging_topic()).await?;
        entry.phase = Phase::Waiting;
        entry.staged = false;
        entry.change_record(|r| r.state = TableState::Waiting);
        self.tables.touch(upstream);
        Ok(())
    }

    /// Copies tables anew whose live form is broken: at once, and then after pauses that double, so that what breaks each time does not
    /// load the source for ever.
    pub(super) async fn mend_broken(&mut self) -> Result<()> {
        if self.broken.borrow().is_empty() {
            return Ok(());
        }
        let broken = self.broken.borrow().clone();
        let now = self.env.clock.moment();
        for table in broken {
            let present =
                |e: &&Entry| e.record.generation == table.generation && !matches!(e.phase, Phase::Waiting | Phase::Failed);
            let last = self.mended.get(&table.upstream).copied();
            if self.tables.get(table.upstream).filter(present).is_none() || last.is_some_and(|(at, pause)| now - at < pause) {
                continue;
            }
            let pause = last.map_or(MEND_PAUSE_FIRST, |(_, pause)| pause * 2);
            self.mended.insert(table.upstream, (now, pause));
            self.rebuild(table.upstream, "its live table is damaged").await?;
            if let Some(entry) = self.tables.entry(table.upstream) {
                entry.change_record(|r| {
                    r.error_code = Some(table.code.id.into());
                    r.error = Some(format!("{}; it is copied anew", table.message).into());
                });
            }
        }
        Ok(())
    }

    /// Takes what copies have to say, as much as is there already, into one append.
    pub(super) async fn take_copy_events(&mut self, first: CopyEvent) -> Result<()> {
        let (mut piece, mut bytes) = (Piece::default(), 0);
        let mut next = Some(first);
        while let Some(event) = next {
            if let CopyStep::Rows(rows) = &event.what {
                bytes += rows.bytes();
            }
            self.take_copy_event(event, &mut piece).await?;
            next = if bytes < GATHER_BYTES_MAX { self.copy_events.try_recv().ok() } else { None };
        }
        if piece.is_empty() { Ok(()) } else { self.append_beside(piece).await }
    }

    async fn take_copy_event(&mut self, event: CopyEvent, piece: &mut Piece) -> Result<()> {
        let CopyEvent { upstream, generation, what, .. } = event;
        let current = self.tables.get(upstream).is_some_and(|e| e.phase == Phase::Copying && e.record.generation == generation);
        if !current {
            return Ok(());
        }
        match what {
            CopyStep::Started { schema, seen, upto } => self.copy_started(upstream, schema, (seen, upto), piece).await,
            CopyStep::Rows(rows) => self.copy_rows(upstream, rows, piece),
            CopyStep::BadRow(bad) => {
                self.leave_out(piece, &bad);
                Ok(())
            }
            CopyStep::Done => self.copy_done(upstream),
            CopyStep::Failed(error) => self.copy_failed(upstream, &error).await,
        }
    }

    async fn copy_started(
        &mut self,
        upstream: UpstreamId,
        schema: Arc<TableSchema>,
        facts: (Seen, Position),
        piece: &mut Piece,
    ) -> Result<()> {
        let Some(entry) = self.tables.entry(upstream) else { return Ok(()) };
        entry.start_generation(schema.clone());
        self.copy_facts.insert(upstream, facts);
        self.ingest.make_topic(&entry.record.topic).await?;
        self.ingest.add_generation(piece, &entry.record, &empty_batch(&schema))?;
        self.looked = None;
        self.tables.touch(upstream);
        Ok(())
    }

    fn copy_rows(&mut self, upstream: UpstreamId, rows: ChangeBatch, piece: &mut Piece) -> Result<()> {
        let Some(entry) = self.tables.entry(upstream) else { return Ok(()) };
        entry.rows_copied += rows.len() as u64;
        self.ingest.add_rows(piece, &entry.record, entry.record.generation, Arc::new(rows))?;
        mainstem_env::fault::point("copy.mid");
        Ok(())
    }

    fn copy_done(&mut self, upstream: UpstreamId) -> Result<()> {
        self.copies.remove(&upstream);
        let facts = self.copy_facts.remove(&upstream);
        if let (Some(entry), Some((seen, upto))) = (self.tables.entry(upstream), facts) {
            entry.phase = Phase::Finishing { seen, upto };
        }
        Ok(())
    }

    async fn copy_failed(&mut self, upstream: UpstreamId, error: &Error) -> Result<()> {
        match error.kind() {
            ErrorKind::Retry => {
                tracing::warn!(error = %error.chain(), "a table's copy was interrupted");
                self.rebuild(upstream, "its copy was interrupted").await
            }
            _ => {
                self.take_failed(upstream, error);
                Ok(())
            }
        }
    }

    /// Appends rows that do not move the source's position.
    async fn append_beside(&mut self, piece: Piece) -> Result<()> {
        let Some(position) = self.ingest.position().cloned() else { return Ok(()) };
        let records = self.tables.take_changed();
        self.ingest.commit(piece, position, 0, records).await
    }

    /// Makes tables live whose copy is whole and whose staged changes have all arrived.
    pub(super) async fn finish_copies(&mut self) -> Result<()> {
        let Some(passed) = self.passed.clone() else { return Ok(()) };
        let ready = |e: &Entry| matches!(&e.phase, Phase::Finishing { upto, .. } if self.source.covers(&passed, upto));
        let ready: Vec<UpstreamId> = self.tables.unsettled().filter(|(_, e)| ready(e)).map(|(id, _)| id).collect();
        if ready.is_empty() {
            return Ok(());
        }
        // All of them at one barrier; a record that says live must not go out with an earlier one.
        for upstream in &ready {
            self.move_staged(*upstream).await?;
        }
        for upstream in ready {
            let Some(entry) = self.tables.entry(upstream) else { continue };
            entry.phase = Phase::Live;
            entry.change_record(|r| {
                r.state = TableState::Streaming;
                r.live = Some(r.generation);
                (r.error_code, r.error) = (None, None);
            });
            tracing::info!(table = %entry.record.schema.name, rows = entry.rows_copied, "table is live");
            self.tables.touch(upstream);
        }
        let records = self.tables.take_changed();
        self.ingest.commit(Piece::default(), passed, 0, records).await
    }

    async fn move_staged(&mut self, upstream: UpstreamId) -> Result<()> {
        let Some(entry) = self.tables.entry(upstream).filter(|e| e.staged) else { return Ok(()) };
        let Phase::Finishing { seen, .. } = entry.phase.clone() else { return Ok(()) };
        let (record, staging) = (entry.record.clone(), entry.staging_topic());
        entry.staged = false;
        self.append_staged(&record, &staging, &seen).await?;
        self.ingest.drop_topic(&staging).await
    }

    /// Staged changes that the copy did not see follow the copied rows, in commit order.
    async fn append_staged(&mut self, record: &TableRecord, staging: &str, seen: &Seen) -> Result<()> {
        let log = self.log.clone();
        let mut reader = PartitionReader::new(log.as_ref(), TopicPartition::new(staging, 0), 0);
        while let Some(batches) = reader.batches().await? {
            let (items, _) = self.decoder.decode(&batches, 0, i64::MAX)?;
            let mut piece = Piece::default();
            for item in items {
                let TopicItem::Changes(batch) = item else { continue };
                let kept = batch.filter(|row| !seen.contains(batch.tx(row).id))?;
                metrics::STAGED_DROPPED.add((batch.len() - kept.len()) as u64);
                if !kept.is_empty() {
                    self.ingest.add_rows(&mut piece, record, record.generation, Arc::new(kept))?;
                }
            }
            if !piece.is_empty() {
                self.append_beside(piece).await?;
            }
        }
        Ok(())
    }
}

/// An empty batch of a table: what the generation marker is encoded from.
fn empty_batch(schema: &Arc<TableSchema>) -> ChangeBatch {
    ChangeBatch {
        rows: RecordBatch::new_empty(schema.arrow()),
        schema: schema.clone(),
        ops: Vec::new(),
        places: Vec::new(),
        orders: Vec::new(),
        txs: Vec::new(),
        old: None,
        old_rows: Vec::new(),
        unchanged: Vec::new(),
    }
}
