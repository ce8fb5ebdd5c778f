//! The one thread that writes the log. It takes everything that is queued, writes it, makes it durable with one WAL record, shows it and
//! answers; what came meanwhile is the next group. No timer: a lone append waits for nothing.

use crate::checkpoint::{self, Checkpointer, Work};
use crate::cleaner::Cleaner;
use crate::entry::{Entry, PartitionKey};
use crate::files::sync_all;
use crate::partition::{Publication, TailBudget};
use crate::queue::{Append, AskedTopic, Job, Part, Recovered, Shared, Topic, check_part};
use crate::segment::Segment;
use crate::settings::{COMPACT_SEGMENT_BYTES_MAX, LogSettings, SMALL_PART_BYTES};
use crate::wal::Wal;
use crate::writer::{Extent, Failure, Mark, Writer, unknown};
use crate::{codes, metrics};
use mainstem_env::{DiskFile, Moment};
use mainstem_eventlog::Seal;
use mainstem_eventlog::codes::{BAD_APPEND, PARTITION_HELD};
use mainstem_types::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Least time between two checkpoints that are made so that segments can be removed.
const FREEING_INTERVAL: Duration = Duration::from_secs(1);

pub struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: LogSettings,
    pub(crate) dir: PathBuf,
    pub(crate) wal: Wal,
    pub(crate) writers: BTreeMap<PartitionKey, Writer>,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) next_topic: u32,
    /// Deleted since the checkpointer last had nothing to do.
    pub(crate) deleted_names: BTreeSet<String>,
    pub(crate) tails: Arc<TailBudget>,
    pub(crate) pending: Work,
    pub(crate) cleaner: Cleaner,
    transactions: HashMap<u64, Transaction>,
    group: Vec<Staged>,
    /// Topics to be made before the next job of another kind.
    pub(crate) asked: Vec<AskedTopic>,
    /// Inline bytes of the group, and what it may still write.
    group_bytes: u64,
    room_bytes: u64,
    pub(crate) poisoned: bool,
    pub(crate) changed: bool,
    wal_bytes_since: u64,
    last_checkpoint: Moment,
    last_retention: Moment,
    checkpointer: Option<Checkpointer>,
    checkpoint_runs: bool,
    /// Given to the checkpointer and not yet back.
    works: usize,
    _lock: Box<dyn Send + Sync>,
}

#[derive(Default)]
struct Transaction {
    extents: Vec<Extent>,
    /// The first of each partition.
    marks: Vec<(PartitionKey, Mark)>,
}

/// An append that is written and waits for the group's commit.
struct Staged {
    extents: Vec<Extent>,
    marks: Vec<(PartitionKey, Mark)>,
    bases: Vec<i64>,
    transaction: Option<u64>,
    answer: oneshot::Sender<Result<Vec<i64>>>,
}

/// An append while it is staged.
#[derive(Default)]
struct Staging {
    extents: Vec<Extent>,
    marks: Vec<(PartitionKey, Mark)>,
    bases: Vec<i64>,
}

impl Committer {
    pub fn new(
        shared: Arc<Shared>,
        settings: LogSettings,
        dir: PathBuf,
        recovered: Recovered,
        lock: Box<dyn Send + Sync>,
    ) -> io::Result<Self> {
        let (queue, disk) = (shared.clone(), shared.env.disk.clone());
        let done = move |work, outcome| {
            queue.give(Job::Checkpointed { work, outcome });
        };
        let now = shared.env.clock.moment();
        Ok(Self {
            checkpointer: Some(Checkpointer::start(disk, dir.clone(), done)?),
            shared,
            settings,
            dir,
            wal: recovered.wal,
            writers: recovered.writers,
            topics: recovered.topics,
            next_topic: recovered.checkpoint.next_topic,
            deleted_names: BTreeSet::new(),
            tails: recovered.tails,
            pending: Work::default(),
            cleaner: Cleaner::default(),
            transactions: HashMap::new(),
            group: Vec::new(),
            asked: Vec::new(),
            group_bytes: 0,
            room_bytes: 0,
            poisoned: false,
            changed: false,
            wal_bytes_since: 0,
            last_checkpoint: now,
            last_retention: now,
            checkpoint_runs: false,
            works: 0,
            _lock: lock,
        })
    }

    /// Until the log is closed.
    pub fn run(mut self) {
        let wait = self.settings.checkpoint_interval_ms.min(self.settings.retention_check_interval_ms);
        let wait = Duration::from_millis(wait);
        let mut jobs = Vec::new();
        let mut closing = None;
        while closing.is_none() {
            self.shared.take(&mut jobs, wait);
            for job in jobs.drain(..) {
                if let Job::Close { answer } = job {
                    closing = Some(answer);
                } else if closing.is_none() {
                    self.handle(job);
                }
            }
            self.create_topics();
            self.flush();
            self.tick();
        }
        self.close();
        if let Some(Some(answer)) = closing {
            let _ = answer.send(());
        }
    }

    fn handle(&mut self, job: Job) {
        if !matches!(job, Job::CreateTopic(_)) {
            self.create_topics();
        }
        if !matches!(job, Job::Append(_) | Job::Commit { .. }) || self.group_bytes >= self.settings.group_bytes_max() {
            self.flush();
        }
        match job {
            Job::Append(append) => self.stage(None, append),
            Job::Commit { transaction, append } => self.stage(Some(transaction), append),
            Job::Piece { transaction, append } => self.piece(transaction, append),
            Job::Abort { transaction } => self.abort(transaction),
            Job::CreateTopic(asked) => self.asked.push(asked),
            Job::DeleteTopic { name, answer } => {
                let _ = answer.send(self.delete_topic(&name));
            }
            Job::Retain { answer } => match self.retain() {
                Ok(()) => self.compact(Some(answer)),
                Err(error) => drop(answer.send(Err(error))),
            },
            Job::Compacted { key, outcome } => self.compacted(key, outcome),
            Job::Checkpointed { work, outcome } => self.checkpointed(work, outcome),
            Job::Close { .. } => {}
        }
    }

    /// An error of the disk: a refusal when it is full, the end of all appends otherwise.
    fn refusal(&mut self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(error) => error,
            Failure::Io(error) if codes::is_passing(&error) => codes::refused(error),
            Failure::Io(error) => self.poison(error),
        }
    }

    pub(crate) fn poison(&mut self, error: io::Error) -> Error {
        if !self.poisoned {
            tracing::error!(code = codes::POISONED.id, dir = %self.dir.display(), %error, "the log takes no more appends");
        }
        self.poisoned = true;
        metrics::POISONED.set(1);
        codes::poisoned().caused_by(error)
    }

    /// Whether `bytes` more may be written.
    pub(crate) fn admit(&mut self, bytes: u64) -> Result<()> {
        if self.poisoned {
            return Err(codes::poisoned());
        }
        if self.group.is_empty() {
            self.room_bytes = self.room();
        }
        self.room_bytes = self.room_bytes.checked_sub(bytes).ok_or_else(codes::full)?;
        Ok(())
    }

    /// Bytes that are free above the reserve. Where the disk cannot say, the write itself tells.
    pub(crate) fn room(&self) -> u64 {
        let free = self.shared.env.disk.free_bytes(&self.dir).unwrap_or(u64::MAX);
        free.saturating_sub(self.settings.disk_reserve_bytes)
    }

    fn stage(&mut self, transaction: Option<u64>, append: Append) {
        let Append { parts, seal, answer } = append;
        let mut staging = Staging::default();
        match self.stage_parts(&mut staging, transaction, parts, seal) {
            Ok(()) => {
                let Staging { mut extents, mut marks, bases } = staging;
                self.group_bytes += choose_inline(&mut extents, self.settings.inline_append_bytes_max);
                if let Some(mut held) = transaction.and_then(|id| self.transactions.remove(&id)) {
                    std::mem::swap(&mut held.extents, &mut extents);
                    extents.append(&mut held.extents);
                    std::mem::swap(&mut held.marks, &mut marks);
                    marks.append(&mut held.marks);
                }
                self.group.push(Staged { extents, marks, bases, transaction, answer });
            }
            Err(failure) => {
                self.undo(staging.marks);
                if let Some(id) = transaction {
                    self.abort(id);
                }
                let _ = answer.send(Err(self.refusal(failure)));
            }
        }
    }

    fn stage_parts(
        &mut self,
        staging: &mut Staging,
        transaction: Option<u64>,
        parts: Vec<Part>,
        seal: Option<Seal>,
    ) -> Result<(), Failure> {
        self.admit(parts.iter().map(|part| part.batches.len() as u64).sum())?;
        for part in parts {
            self.stage_part(staging, transaction, part)?;
        }
        if let Some(seal) = seal {
            let made = catch_unwind(AssertUnwindSafe(|| seal(&staging.bases)));
            let last = made.map_err(|_| Error::bug(BAD_APPEND, "the seal of an append panicked"))?;
            let part = check_part(self.shared.find(&last.to)?, last.batches, last.records)?;
            self.stage_part(staging, transaction, part)?;
        }
        Ok(())
    }

    fn stage_part(&mut self, staging: &mut Staging, transaction: Option<u64>, part: Part) -> Result<(), Failure> {
        let Some(writer) = self.writers.get_mut(&part.partition.key) else { return Err(unknown(&part.partition.at).into()) };
        if writer.held_by.is_some() && writer.held_by != transaction {
            let text = format!("an open transaction has {}; append again when it has ended", part.partition.at);
            return Err(Error::retry(PARTITION_HELD, text).into());
        }
        if !staging.marks.iter().any(|(key, _)| *key == part.partition.key) {
            staging.marks.push((part.partition.key, writer.mark()));
        }
        let disk = &*self.shared.env.disk;
        let compact_bytes_max = if part.partition.is_compact() { COMPACT_SEGMENT_BYTES_MAX } else { u64::MAX };
        let segment_bytes_max = self.settings.segment_bytes_max.min(compact_bytes_max);
        let extent = writer.stage(disk, part.batches, part.records, segment_bytes_max)?;
        staging.bases.push(extent.base);
        staging.extents.push(extent);
        Ok(())
    }

    fn undo(&mut self, marks: Vec<(PartitionKey, Mark)>) {
        for (key, mark) in marks.into_iter().rev() {
            if let Some(writer) = self.writers.get_mut(&key) {
                writer.back_to(&*self.shared.env.disk, mark);
            }
        }
    }

    /// Writes a piece of a transaction; nothing of it is durable or visible before the end.
    fn piece(&mut self, transaction: u64, append: Append) {
        let Append { parts, seal, answer } = append;
        let mut staging = Staging::default();
        let staged = self.stage_parts(&mut staging, Some(transaction), parts, seal);
        let outcome = match staged {
            Ok(()) => {
                let held = self.transactions.entry(transaction).or_default();
                for (key, mark) in staging.marks {
                    if !held.marks.iter().any(|(known, _)| *known == key) {
                        held.marks.push((key, mark));
                    }
                    if let Some(writer) = self.writers.get_mut(&key) {
                        writer.held_by = Some(transaction);
                    }
                }
                for extent in staging.extents {
                    join_extent(&mut held.extents, Extent { batches: None, ..extent });
                }
                Ok(staging.bases)
            }
            Err(failure) => {
                self.undo(staging.marks);
                Err(self.refusal(failure))
            }
        };
        let _ = answer.send(outcome);
    }

    fn abort(&mut self, transaction: u64) {
        let Some(held) = self.transactions.remove(&transaction) else { return };
        for (key, _) in &held.marks {
            if let Some(writer) = self.writers.get_mut(key) {
                writer.held_by = None;
            }
        }
        self.undo(held.marks);
    }

    /// Makes the group durable, shows it, answers.
    pub(crate) fn flush(&mut self) {
        self.group_bytes = 0;
        if self.group.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.group);
        let payload = self.wal.payload();
        for extent in group.iter().flat_map(|staged| &staged.extents) {
            Entry::Part(extent.entry()).encode(payload);
        }
        if self.wal.is_payload_empty() {
            // Transactions that wrote nothing.
            group.into_iter().for_each(|staged| drop(staged.answer.send(Ok(staged.bases))));
            return;
        }
        if let Err(failure) = self.reserve().and_then(|()| self.sync_segments(&group)).and_then(|()| self.commit()) {
            self.refuse(group, failure);
            return;
        }
        for staged in &group {
            self.show(staged);
        }
        for staged in group {
            for extent in &staged.extents {
                if let Some(writer) = self.writers.get(&extent.key) {
                    writer.partition.announce();
                }
            }
            let _ = staged.answer.send(Ok(staged.bases));
        }
    }

    /// Room in the WAL for the payload.
    fn reserve(&mut self) -> Result<(), Failure> {
        match self.wal.reserve()? {
            true => Ok(()),
            false => Err(Error::fix(BAD_APPEND, "an append has more parts than a WAL file holds")
                .hint("Raise wal_file_bytes, or append in smaller steps.")
                .into()),
        }
    }

    /// Syncs what does not go through the WAL. An error is final even when the disk is full: what the kernel dropped is not known.
    fn sync_segments(&mut self, group: &[Staged]) -> Result<(), Failure> {
        let large = || group.iter().flat_map(|staged| &staged.extents).filter(|extent| !extent.inline);
        let mut files: Vec<Arc<dyn DiskFile>> = Vec::new();
        for extent in large() {
            if !files.iter().any(|file| Arc::ptr_eq(file, &extent.active.file)) {
                files.push(extent.active.file.clone());
            }
        }
        sync_all(&files).map_err(|error| Failure::Refused(self.poison(error)))?;
        for extent in large() {
            let Some(writer) = self.writers.get_mut(&extent.key).filter(|writer| writer.dir_dirty) else { continue };
            match self.shared.env.disk.sync_dir(&writer.partition.dir) {
                Ok(()) => writer.dir_dirty = false,
                Err(error) if mainstem_env::is_out_of_files(&error) => return Err(error.into()),
                Err(error) => return Err(Failure::Refused(self.poison(error))),
            }
        }
        Ok(())
    }

    /// Writes and syncs the WAL's payload.
    fn commit(&mut self) -> Result<(), Failure> {
        let bytes = self.wal.payload_bytes();
        let begun = self.shared.env.clock.moment();
        self.wal.commit().map_err(|error| Failure::Refused(self.poison(error)))?;
        metrics::COMMIT_DURATION.observe(self.shared.env.clock.moment() - begun);
        self.wal_bytes_since += bytes;
        self.changed = true;
        Ok(())
    }

    /// One record for things other than appends, after a flush.
    pub(crate) fn commit_entries(&mut self, entries: &[Entry<'_>]) -> Result<()> {
        if self.poisoned {
            return Err(codes::poisoned());
        }
        let payload = self.wal.payload();
        entries.iter().for_each(|entry| entry.encode(payload));
        let outcome = self.reserve().and_then(|()| self.commit());
        outcome.map_err(|failure| self.refusal(failure))
    }

    fn refuse(&mut self, group: Vec<Staged>, failure: Failure) {
        let first = self.refusal(failure);
        for staged in group.into_iter().rev() {
            if !self.poisoned {
                self.undo(staged.marks);
            }
            self.release(staged.transaction, &staged.extents);
            let _ = staged.answer.send(Err(codes::again(&first)));
        }
    }

    fn release(&mut self, transaction: Option<u64>, extents: &[Extent]) {
        for extent in extents.iter().filter(|_| transaction.is_some()) {
            if let Some(writer) = self.writers.get_mut(&extent.key).filter(|writer| writer.held_by == transaction) {
                writer.held_by = None;
            }
        }
    }

    fn show(&mut self, staged: &Staged) {
        metrics::APPENDS.add(1);
        for extent in &staged.extents {
            metrics::APPEND_BYTES.add(extent.bytes);
            metrics::APPEND_RECORDS.add(extent.records);
            let Some(writer) = self.writers.get_mut(&extent.key) else { continue };
            let run = Publication {
                segment: extent.active.segment.clone(),
                bytes: extent.position + extent.bytes,
                max_time_ms: extent.max_time_ms,
                base: extent.base,
                end: extent.base + extent.records as i64,
                batches: extent.batches.clone(),
            };
            writer.partition.publish(run, self.settings.tail_bytes_max, self.settings.tail_total_bytes_max);
            writer.published();
        }
        self.release(staged.transaction, &staged.extents);
    }

    fn tick(&mut self) {
        let now = self.shared.env.clock.moment();
        if now - self.last_retention >= Duration::from_millis(self.settings.retention_check_interval_ms) {
            self.last_retention = now;
            if let Err(error) = self.retain() {
                tracing::warn!(code = error.code().id, error = %error.chain(), "retention deleted nothing");
            }
            self.compact(None);
        }
        self.remove_gone();
        let due = now - self.last_checkpoint >= Duration::from_millis(self.settings.checkpoint_interval_ms);
        let long = self.wal_bytes_since >= self.settings.wal_file_bytes;
        // Not at every tick: on a full disk each would fail.
        let freeing = !self.pending.gone.is_empty() && now - self.last_checkpoint >= FREEING_INTERVAL;
        if self.changed && (due || long || freeing) && !self.checkpoint_runs && !self.poisoned {
            self.last_checkpoint = now;
            let work = self.checkpoint_work(false);
            self.checkpoint_runs = true;
            self.give(work);
        }
    }

    fn give(&mut self, work: Work) {
        self.works += 1;
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.give(work);
        }
    }

    /// Waits until the checkpointer has nothing to do.
    pub(crate) fn settle(&mut self) {
        self.works += 1;
        self.checkpointer.iter().for_each(Checkpointer::settle);
    }

    /// Has directories of deleted topics removed: a start reads that they are gone before it opens anything. Segments that retention took
    /// wait for a checkpoint without them, because a start opens what the last one names.
    fn remove_gone(&mut self) {
        if !self.pending.gone_dirs.is_empty() {
            let gone_dirs = std::mem::take(&mut self.pending.gone_dirs);
            self.give(Work { gone_dirs, ..Work::default() });
        }
    }

    fn checkpoint_work(&mut self, clean: bool) -> Work {
        self.changed = false;
        self.wal_bytes_since = 0;
        let mut work = std::mem::take(&mut self.pending);
        for writer in self.writers.values_mut() {
            work.segments.extend(writer.take_dirty().into_iter().flatten());
            if std::mem::take(&mut writer.dir_dirty) {
                work.dirs.push(writer.partition.dir.clone());
            }
        }
        work.checkpoint = Some(self.state(clean));
        work
    }

    fn checkpointed(&mut self, work: Work, outcome: io::Result<()>) {
        self.works -= 1;
        if self.works == 0 {
            self.deleted_names.clear();
        }
        let Some(checkpoint) = work.checkpoint else { return };
        self.checkpoint_runs = false;
        match outcome {
            Ok(()) => {
                if let Err(error) = self.wal.recycle(checkpoint.wal) {
                    tracing::warn!(%error, "an unneeded WAL file stays");
                }
            }
            // The WAL still has everything, and the checkpoint before this one still names what was replaced.
            Err(error) if codes::is_passing(&error) => {
                // Those of a topic deleted since went with its directory.
                let live = |segment: &Arc<Segment>| self.writers.values().any(|w| Arc::ptr_eq(&w.partition.dir, &segment.dir));
                self.pending.replaced.extend(work.replaced.into_iter().filter(live));
                self.pending.gone.extend(work.gone.into_iter().filter(live));
                self.pending.dirs.extend(work.dirs);
                self.changed = true;
                tracing::warn!(%error, "no checkpoint, for lack of room");
            }
            // A sync that failed must not be tried again.
            Err(error) => drop(self.poison(error)),
        }
    }

    fn close(&mut self) {
        let late = self.shared.close();
        for job in late {
            if let Job::Checkpointed { work, outcome } = job {
                self.checkpointed(work, outcome);
            }
        }
        let open: Vec<u64> = self.transactions.keys().copied().collect();
        open.into_iter().for_each(|id| self.abort(id));
        self.cleaner.stop();
        if let Some(checkpointer) = self.checkpointer.take() {
            checkpointer.stop();
        }
        if self.poisoned {
            return;
        }
        let work = self.checkpoint_work(true);
        if let Err(error) = checkpoint::perform(&*self.shared.env.disk, &self.dir, &work) {
            tracing::warn!(%error, "the log closed without a checkpoint; the next start replays its WAL");
        }
    }
}

/// Decides which parts of an append go into the WAL; returns their bytes.
fn choose_inline(extents: &mut [Extent], inline_append_bytes_max: u64) -> u64 {
    let total: u64 = extents.iter().map(|extent| extent.bytes).sum();
    let part_bytes_max = if total <= inline_append_bytes_max { inline_append_bytes_max } else { SMALL_PART_BYTES };
    let mut inline = 0;
    for extent in extents {
        extent.inline = extent.bytes <= part_bytes_max && inline + extent.bytes <= inline_append_bytes_max;
        inline += if extent.inline { extent.bytes } else { 0 };
    }
    inline
}

/// Adds a piece's extent, as part of the one before where it goes on from there.
fn join_extent(extents: &mut Vec<Extent>, extent: Extent) {
    if let Some(last) = extents.iter_mut().rev().find(|last| last.key == extent.key)
        && Arc::ptr_eq(&last.active.segment, &extent.active.segment)
        && last.position + last.bytes == extent.position
    {
        last.bytes += extent.bytes;
        last.records += extent.records;
        last.max_time_ms = last.max_time_ms.max(extent.max_time_ms);
        return;
    }
    extents.push(extent);
}
