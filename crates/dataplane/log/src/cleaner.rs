//! Which partition is compacted when, and how the outcome takes effect, as the committer does it. The work itself runs on a thread beside.

use crate::committer::Committer;
use crate::compaction::{Compacted, KEY_BYTES_MAX, Pass, Setback, clean_and_dirty, is_due};
use crate::entry::PartitionKey;
use crate::metrics;
use crate::queue::Job;
use crate::segment::Segment;
use mainstem_types::{ErrorKind, Result};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// One pass at a time.
#[derive(Default)]
pub struct Cleaner {
    running: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// Partitions in which a pass found damage: left alone until a restart.
    damaged: HashSet<PartitionKey>,
    /// Who waits until there is nothing left to do.
    waiting: Vec<oneshot::Sender<Result<()>>>,
}

impl Cleaner {
    /// Ends a pass that runs, and waits for that.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.running.take() {
            let _ = thread.join();
        }
    }
}

impl Committer {
    /// Begins a pass where most is to be gained, unless one runs. `answer` comes when no partition needs one any more.
    pub(crate) fn compact(&mut self, answer: Option<oneshot::Sender<Result<()>>>) {
        self.cleaner.waiting.extend(answer);
        if self.cleaner.running.is_some() {
            return;
        }
        match self.most_dirty().map(|(key, pass)| self.start_pass(key, pass)) {
            Some(Ok(thread)) => self.cleaner.running = Some(thread),
            Some(Err(error)) => {
                tracing::warn!(%error, "no thread for a compaction");
                self.told_done();
            }
            None => self.told_done(),
        }
    }

    fn told_done(&mut self) {
        self.cleaner.waiting.drain(..).for_each(|answer| drop(answer.send(Ok(()))));
    }

    fn most_dirty(&self) -> Option<(PartitionKey, Pass)> {
        if self.poisoned {
            return None;
        }
        let room = self.room();
        let mut best: Option<(f64, PartitionKey, Pass)> = None;
        for (key, writer) in self.writers.iter().filter(|(key, _)| !self.cleaner.damaged.contains(key)) {
            if !writer.partition.is_compact() {
                continue;
            }
            let (_, _, mut sealed) = writer.partition.extent();
            let Some(active) = sealed.pop() else { continue };
            let ends = sealed.iter().skip(1).chain([&active]).map(|next| next.base);
            let (clean, dirty) = clean_and_dirty(ends.zip(sealed.iter().map(|segment| segment.bytes())), writer.clean_end);
            let ratio = dirty as f64 / (clean + dirty).max(1) as f64;
            // For a while both the old and the new are there.
            let possible = is_due(clean, dirty) && clean + dirty <= room;
            if possible && best.as_ref().is_none_or(|(most, ..)| ratio > *most) {
                let pass = Pass {
                    sealed,
                    active,
                    clean_end: writer.clean_end,
                    segment_bytes_max: self.settings.segment_bytes_max,
                    key_bytes_max: KEY_BYTES_MAX,
                    now_ms: self.shared.env.clock.now_us() / 1000,
                    disk: self.shared.env.disk.clone(),
                    stop: self.cleaner.stop.clone(),
                };
                best = Some((ratio, *key, pass));
            }
        }
        best.map(|(_, key, pass)| (key, pass))
    }

    fn start_pass(&self, key: PartitionKey, pass: Pass) -> io::Result<JoinHandle<()>> {
        let queue = self.shared.clone();
        mainstem_env::spawn_thread("log-compaction", move || {
            let outcome = pass.run();
            queue.give(Job::Compacted { key, outcome });
        })
    }

    /// A pass has ended.
    pub(crate) fn compacted(&mut self, key: PartitionKey, outcome: Result<Compacted, Setback>) {
        self.cleaner.running = None;
        match outcome {
            Ok(compacted) => {
                self.install(key, compacted);
                return self.compact(None);
            }
            // The topic was deleted meanwhile.
            Err(_) if !self.writers.contains_key(&key) => {}
            Err(Setback::Stopped) => {}
            Err(Setback::Io(error)) => tracing::warn!(%error, "a compaction ended early; it is tried again"),
            Err(Setback::Unsynced(error)) => drop(self.poison(error)),
            Err(Setback::Told(error)) => {
                if error.kind() == ErrorKind::Corrupt {
                    self.cleaner.damaged.insert(key);
                }
                tracing::error!(code = error.code().id, error = %error.chain(), "a topic cannot be compacted");
            }
        }
        self.told_done();
    }

    /// Readers see the new segments from now on; what a start sees, the next checkpoint says.
    fn install(&mut self, key: PartitionKey, compacted: Compacted) {
        let Compacted { old, new, clean_end } = compacted;
        let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|segment| segment.bytes()).sum::<u64>();
        let Some(writer) = self.writers.get_mut(&key) else { return };
        let fresh = new.segments();
        let saved = bytes(&old).saturating_sub(bytes(&fresh));
        if self.poisoned || !writer.partition.swap(&old, fresh) {
            return;
        }
        new.keep();
        writer.clean_end = clean_end;
        self.pending.replaced.extend(old);
        self.changed = true;
        metrics::COMPACTIONS.add(1);
        metrics::COMPACTED_BYTES.add(saved);
    }
}
