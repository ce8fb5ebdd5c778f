//! Which partition is compacted when. The work itself runs on a thread beside the committer's.

use crate::compaction::{KEY_BYTES_MAX, Pass, clean_and_dirty, is_due};
use crate::entry::PartitionKey;
use crate::queue::{Job, Shared};
use crate::settings::LogSettings;
use crate::writer::Writer;
use mainstem_types::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, HashSet};
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
    /// Begins a pass where most is to be gained, unless one runs. `answer` comes when no partition needs one any more. `room`: bytes that
    /// may be written; None: nothing may.
    pub fn start(
        &mut self,
        shared: &Arc<Shared>,
        settings: &LogSettings,
        writers: &BTreeMap<PartitionKey, Writer>,
        room: Option<u64>,
        answer: Option<oneshot::Sender<Result<()>>>,
    ) {
        self.waiting.extend(answer);
        if self.running.is_some() {
            return;
        }
        let pass = room.and_then(|room| self.most_dirty(shared, settings, writers, room));
        match pass.map(|(key, pass)| start_pass(shared, key, pass)) {
            Some(Ok(thread)) => self.running = Some(thread),
            Some(Err(error)) => {
                tracing::warn!(%error, "no thread for a compaction");
                self.tell_done();
            }
            None => self.tell_done(),
        }
    }

    fn most_dirty(
        &self,
        shared: &Shared,
        settings: &LogSettings,
        writers: &BTreeMap<PartitionKey, Writer>,
        room: u64,
    ) -> Option<(PartitionKey, Pass)> {
        let mut best: Option<(f64, PartitionKey, Pass)> = None;
        for (key, writer) in writers.iter().filter(|(key, _)| !self.damaged.contains(key)) {
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
                    segment_bytes_max: settings.segment_bytes_max,
                    key_bytes_max: KEY_BYTES_MAX,
                    now_ms: shared.env.clock.now_us() / 1000,
                    disk: shared.env.disk.clone(),
                    stop: self.stop.clone(),
                };
                best = Some((ratio, *key, pass));
            }
        }
        best.map(|(_, key, pass)| (key, pass))
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The pass has ended.
    pub fn ended(&mut self) {
        self.running = None;
    }

    /// It ended for a reason that lies in the records: nothing of it counts.
    pub fn failed(&mut self, key: PartitionKey, error: &Error) {
        if error.kind() == ErrorKind::Corrupt {
            self.damaged.insert(key);
        }
        tracing::error!(code = error.code().id, error = %error.chain(), "a topic cannot be compacted");
    }

    pub fn tell_done(&mut self) {
        self.waiting.drain(..).for_each(|answer| drop(answer.send(Ok(()))));
    }

    /// Ends a pass that runs, and waits for that.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.running.take() {
            let _ = thread.join();
        }
    }
}

fn start_pass(shared: &Arc<Shared>, key: PartitionKey, pass: Pass) -> io::Result<JoinHandle<()>> {
    let queue = shared.clone();
    mainstem_env::spawn_thread("log-compaction", move || {
        let outcome = pass.run();
        queue.give(Job::Compacted { key, outcome });
    })
}
