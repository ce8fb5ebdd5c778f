//! Checkpoints: what the log is up to a place in the WAL, in one file that is replaced whole; and the thread that makes them, so that
//! appends need not wait while segments are synced.

use crate::codes;
use crate::files::{ignore_missing, sync_all};
use crate::metrics;
use crate::segment::{Active, Segment, SegmentState};
use crate::wal::WalStart;
use mainstem_env::Disk;
use mainstem_eventlog::TopicConfig;
use mainstem_types::Result;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

pub const FILE_NAME: &str = "checkpoint";
const FIRST_WORD: &str = "mainstem-log";
/// 1 had no generations of segments.
const VERSION: u32 = 2;

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
    #[serde(default)]
    pub clean_end: i64,
    pub segments: Vec<SegmentState>,
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
        if !version.is_some_and(|version| (1..=VERSION).contains(&version)) {
            return Err(bad("it was written by another version").hint("Start the version that wrote it, or a newer one."));
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
    /// Segments whose bytes a compaction wrote anew: the checkpoint before this one still names them.
    pub replaced: Vec<Arc<Segment>>,
    /// Segments that retention took, and directories of deleted topics; the WAL says so already.
    pub gone: Vec<Arc<Segment>>,
    pub gone_dirs: Vec<PathBuf>,
    /// Told when it is done.
    pub settled: Option<mpsc::Sender<()>>,
}

impl Work {
    /// A partition's directory goes as a whole.
    pub fn forget_dir(&mut self, dir: &Arc<Path>) {
        self.replaced.retain(|segment| !Arc::ptr_eq(&segment.dir, dir));
        self.gone.retain(|segment| !Arc::ptr_eq(&segment.dir, dir));
    }
}

/// Makes everything durable that the checkpoint speaks of, then the checkpoint; last it removes what is gone. After an error
/// that passes all files are synced, and a checkpoint with the same directories can be tried. Any other is final.
pub fn perform(disk: &dyn Disk, dir: &Path, work: &Work) -> io::Result<()> {
    let mut files = Vec::with_capacity(work.segments.len() * 3);
    for (active, sealed) in &work.segments {
        let mut guard = active.segment.indexes.lock();
        match guard.as_ref().map(|indexes| active.segment.write_indexes(disk, indexes)).transpose() {
            Ok(written) => files.extend(written.into_iter().flatten()),
            // Gone: its topic was deleted in the meantime. No room: an index is derived, its lack must not keep bytes from being synced.
            Err(error) if error.kind() == io::ErrorKind::NotFound || codes::is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        if *sealed {
            *guard = None;
        }
        drop(guard);
        files.push(active.file.clone());
    }
    // Full or not: what the kernel dropped is not known.
    sync_all(&files).map_err(io::Error::other)?;
    for dir in &work.dirs {
        let unsynced = |error| if mainstem_env::is_out_of_files(&error) { error } else { io::Error::other(error) };
        ignore_missing(disk.sync_dir(dir)).map_err(unsynced)?;
    }
    if let Some(checkpoint) = &work.checkpoint {
        disk.replace(&dir.join(FILE_NAME), &checkpoint.encode()?)?;
        metrics::CHECKPOINTS.add(1);
    }
    let mut files = work.replaced.iter().chain(&work.gone);
    let mut dirs = work.gone_dirs.iter();
    let removed = files
        .try_for_each(|segment| segment.remove(disk))
        .and_then(|()| dirs.try_for_each(|dir| ignore_missing(disk.remove_dir_all(dir)).map(drop)));
    if let Err(error) = removed {
        tracing::warn!(%error, "files that the log needs no more stay until the start after a crash");
    }
    Ok(())
}

/// The thread that makes checkpoints in order.
pub struct Checkpointer {
    work: mpsc::Sender<Work>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    /// `done` gets each work back, with its outcome.
    pub fn start(disk: Arc<dyn Disk>, dir: PathBuf, done: impl Fn(Work, io::Result<()>) + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Work>();
        let thread = mainstem_env::spawn_thread("log-checkpoint", move || {
            while let Ok(mut work) = receiver.recv() {
                let outcome = perform(&*disk, &dir, &work);
                drop(work.settled.take());
                done(work, outcome);
            }
        })?;
        Ok(Self { work: sender, thread })
    }

    pub fn give(&self, work: Work) {
        // A thread that is gone has panicked; the next start replays more.
        let _ = self.work.send(work);
    }

    /// Waits until all work given so far is done.
    pub fn settle(&self) {
        let (settled, wait) = mpsc::channel();
        self.give(Work { settled: Some(settled), ..Work::default() });
        // Nothing is ever sent: the end of the channel is the answer.
        let _ = wait.recv();
    }

    /// Waits until all given work is done, and ends.
    pub fn stop(self) {
        drop(self.work);
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_1_wrote_is_read() {
        let body = r#"{"clean":true,"wal":{"file":3,"offset":7,"sequence":9},"next_topic":2,"topics":[{"id":1,"name":"t","config":{"partitions":1,"cleanup":"compact","retention_ms":null,"retention_bytes":5},"partitions":[{"start":0,"end":8,"segments":[{"base":0,"bytes":77,"max_time_ms":6}]}]}]}"#;
        let text = format!("mainstem-log 1 {:08x}\n{body}", crc32c::crc32c(body.as_bytes()));
        let config = TopicConfig {
            partitions: 1,
            cleanup: mainstem_eventlog::Cleanup::Compact,
            retention_ms: None,
            retention_bytes: Some(5),
        };
        let segments = vec![SegmentState { base: 0, generation: 0, bytes: 77, max_time_ms: 6 }];
        let partitions = vec![PartitionState { start: 0, end: 8, clean_end: 0, segments }];
        let topics = vec![TopicState { id: 1, name: "t".to_owned(), config, partitions }];
        let wal = WalStart { file: 3, offset: 7, sequence: 9 };
        let expected = Checkpoint { clean: true, wal, next_topic: 2, topics };
        let decode = |bytes: &[u8]| Checkpoint::decode(bytes, Path::new("checkpoint")).map_err(|error| error.code().id);
        assert_eq!(decode(text.as_bytes()), Ok(expected.clone()));
        assert_eq!(decode(&expected.encode().unwrap_or_default()), Ok(expected));
        assert_eq!(decode(text.replace("log 1", "log 3").as_bytes()), Err("LOG-008"));
    }
}
