//! Checkpoints: what the log is up to a place in the WAL, in one file that is replaced whole; and the thread that makes them, so that
//! appends need not wait while segments are synced.

use crate::codes;
use crate::segment::Segment;
use crate::wal::WalStart;
use crate::writer::Active;
use crate::{TopicConfig, metrics};
use mainstem_env::{Disk, DiskFile};
use mainstem_types::Result;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

pub const FILE_NAME: &str = "checkpoint";
const FIRST_WORD: &str = "mainstem-log";
const VERSION: u32 = 1;
const SYNC_THREADS_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The log was closed here: nothing stands behind it, on no partition.
    pub clean: bool,
    pub wal: WalStart,
    pub next_topic: u32,
    pub topics: Vec<TopicState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicState {
    pub id: u32,
    pub name: String,
    pub config: TopicConfig,
    /// In order of their numbers.
    pub partitions: Vec<PartitionState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    pub start: i64,
    pub end: i64,
    pub segments: Vec<SegmentState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentState {
    pub base: i64,
    pub bytes: u64,
    pub max_time_ms: i64,
}

impl Checkpoint {
    /// One line `mainstem-log <version> <CRC-32C of the rest, hex>`, then JSON.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let body = serde_json::to_vec(self)?;
        let mut out = format!("{FIRST_WORD} {VERSION} {:08x}\n", crc32c::crc32c(&body)).into_bytes();
        out.extend_from_slice(&body);
        Ok(out)
    }

    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let bad = |what: &str| codes::open_failed(path, what);
        let line_end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| bad("no first line"))?;
        let line = std::str::from_utf8(&bytes[..line_end]).map_err(|_| bad("its first line is no text"))?;
        let mut words = line.split(' ');
        if words.next() != Some(FIRST_WORD) {
            return Err(bad("it is no checkpoint of a log"));
        }
        let version: Option<u32> = words.next().and_then(|word| word.parse().ok());
        if version != Some(VERSION) {
            return Err(bad("it was written by another version").hint("start the version that wrote it, or a newer one"));
        }
        let body = &bytes[line_end + 1..];
        let crc = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
        if crc != Some(crc32c::crc32c(body)) {
            return Err(bad("its checksum does not hold"));
        }
        serde_json::from_slice(body).map_err(|e| bad("its content").caused_by(e))
    }
}

/// A checkpoint to be made.
#[derive(Default)]
pub struct Work {
    pub checkpoint: Option<Checkpoint>,
    /// Written since the last checkpoint; true: sealed, its indexes leave memory.
    pub segments: Vec<(Active, bool)>,
    /// Directories in which segments were made.
    pub dirs: Vec<Arc<Path>>,
    /// Segments that retention took, and directories of deleted topics.
    pub gone: Vec<Arc<Segment>>,
    pub gone_dirs: Vec<PathBuf>,
}

/// Makes everything durable that the checkpoint speaks of, then the checkpoint; last it removes what is gone.
pub fn perform(disk: &dyn Disk, dir: &Path, work: &Work) -> io::Result<()> {
    let mut files = Vec::with_capacity(work.segments.len() * 3);
    for (active, sealed) in &work.segments {
        let mut guard = active.segment.indexes.lock();
        let index_files = guard.as_ref().map(|indexes| active.segment.write_indexes(disk, indexes)).transpose();
        // Gone: its topic was deleted in the meantime.
        files.extend(ignore_missing(index_files)?.flatten().into_iter().flatten());
        if *sealed {
            *guard = None;
        }
        drop(guard);
        files.push(active.file.clone());
    }
    sync_all(&files)?;
    for dir in &work.dirs {
        ignore_missing(disk.sync_dir(dir))?;
    }
    if let Some(checkpoint) = &work.checkpoint {
        disk.replace(&dir.join(FILE_NAME), &checkpoint.encode()?)?;
        metrics::CHECKPOINTS.add(1);
    }
    for segment in &work.gone {
        for extension in ["log", "index", "timeindex"] {
            ignore_missing(disk.remove_file(&segment.path(extension)))?;
        }
    }
    for gone in &work.gone_dirs {
        ignore_missing(disk.remove_dir_all(gone))?;
    }
    Ok(())
}

fn ignore_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Syncs files, several at once: one after the other each would wait for a journal commit of its own.
pub fn sync_all(files: &[Arc<dyn DiskFile>]) -> io::Result<()> {
    metrics::SYNCS.add(files.len() as u64);
    let (Some((first, rest)), true) = (files.split_first(), files.len() > 1) else {
        return files.iter().try_for_each(|file| file.sync());
    };
    let share = rest.len().div_ceil(SYNC_THREADS_MAX - 1);
    let mut threads = Vec::new();
    for chunk in rest.chunks(share) {
        let chunk = chunk.to_vec();
        threads.push(mainstem_env::spawn_thread("log-sync", move || chunk.iter().try_for_each(|file| file.sync()))?);
    }
    let mut result = first.sync();
    for thread in threads {
        let one = thread.join().unwrap_or_else(|_| Err(io::Error::other("a sync thread ended without an answer")));
        result = result.and(one);
    }
    result
}

/// The thread that makes checkpoints in order.
pub struct Checkpointer {
    work: mpsc::Sender<Work>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    /// `done` is told the outcome of each, with the place in the WAL from which a replay begins now.
    pub fn start(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        done: impl Fn(io::Result<Option<WalStart>>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Work>();
        let thread = mainstem_env::spawn_thread("log-checkpoint", move || {
            while let Ok(work) = receiver.recv() {
                let start = work.checkpoint.as_ref().map(|checkpoint| checkpoint.wal);
                done(perform(&*disk, &dir, &work).map(|()| start));
            }
        })?;
        Ok(Self { work: sender, thread })
    }

    pub fn give(&self, work: Work) {
        // A thread that is gone has panicked; the next start replays more.
        let _ = self.work.send(work);
    }

    /// Waits until all given work is done.
    pub fn stop(self) {
        drop(self.work);
        let _ = self.thread.join();
    }
}
