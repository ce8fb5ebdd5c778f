//! One segment file: whole batches from its base offset on. Sealed segments are opened when somebody reads them, not before.

use crate::codes;
use crate::files::ignore_missing;
use crate::index::Indexes;
use bytes::Bytes;
use mainstem_env::{Disk, DiskFile, OpenMode};
use mainstem_eventlog::batch::{BatchHeader, HEADER_BYTES};
use mainstem_eventlog::codes::BAD_BATCH;
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The log itself, then what is derived from it.
const EXTENSIONS: [&str; 3] = ["log", "index", "timeindex"];
/// Read at once when looking for batches.
const CHUNK_BYTES: u64 = 1 << 20;

pub struct Segment {
    pub base: i64,
    /// How often its records went through a compaction. A file's bytes at a position never change: other bytes, another generation.
    pub generation: u32,
    pub dir: Arc<Path>,
    /// Visible bytes; behind them may be those of an open transaction.
    bytes: AtomicU64,
    max_time_ms: AtomicI64,
    /// There while the segment is written and until its index files are synced.
    pub indexes: Mutex<Option<Indexes>>,
}

/// A segment as a checkpoint has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentState {
    pub base: i64,
    #[serde(default)]
    pub generation: u32,
    pub bytes: u64,
    pub max_time_ms: i64,
}

/// The segment that is written.
#[derive(Clone)]
pub struct Active {
    pub segment: Arc<Segment>,
    pub file: Arc<dyn DiskFile>,
    pub position: u64,
}

impl Segment {
    /// As a checkpoint has it.
    pub fn known(dir: Arc<Path>, state: &SegmentState) -> Arc<Self> {
        let (bytes, max_time_ms) = (AtomicU64::new(state.bytes), AtomicI64::new(state.max_time_ms));
        Arc::new(Self { base: state.base, generation: state.generation, dir, bytes, max_time_ms, indexes: Mutex::new(None) })
    }

    /// Without a byte, to be written.
    pub fn empty(dir: Arc<Path>, base: i64) -> Arc<Self> {
        let (bytes, max_time_ms, indexes) = (AtomicU64::new(0), AtomicI64::new(i64::MIN), Mutex::new(Some(Indexes::default())));
        Arc::new(Self { base, generation: 0, dir, bytes, max_time_ms, indexes })
    }

    pub fn state(&self) -> SegmentState {
        let (bytes, max_time_ms) = (self.bytes(), self.max_time_ms());
        SegmentState { base: self.base, generation: self.generation, bytes, max_time_ms }
    }

    pub fn path(&self, extension: &str) -> PathBuf {
        self.dir.join(file_name(self.base, self.generation, extension))
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub fn max_time_ms(&self) -> i64 {
        self.max_time_ms.load(Ordering::Relaxed)
    }

    pub fn publish(&self, bytes: u64, max_time_ms: i64) {
        self.max_time_ms.fetch_max(max_time_ms, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Release);
    }

    /// The index files, or a scan where they are missing or damaged.
    pub fn load_indexes(&self, disk: &dyn Disk, file: &dyn DiskFile) -> Result<Indexes> {
        let read = |extension| disk.read(&self.path(extension)).ok();
        let from_files = read("index").and_then(|offsets| {
            Indexes::decode(&offsets, &read("timeindex").unwrap_or_default(), self.bytes(), self.max_time_ms())
        });
        if let Some(indexes) = from_files {
            return Ok(indexes);
        }
        // Not written: by now a topic of the same name may have the directory.
        let mut indexes = Indexes::default();
        scan(file, &self.path("log"), 0, self.bytes(), |position, header| indexes.note(self.base, position, header))?;
        Ok(indexes)
    }

    /// Removes its files, as far as they are there.
    pub fn remove(&self, disk: &dyn Disk) -> std::io::Result<()> {
        EXTENSIONS.iter().try_for_each(|extension| ignore_missing(disk.remove_file(&self.path(extension))).map(drop))
    }

    /// Writes both index files, without a sync.
    pub fn write_indexes(&self, disk: &dyn Disk, indexes: &Indexes) -> std::io::Result<[Arc<dyn DiskFile>; 2]> {
        let (offsets, times) = indexes.encode();
        let write = |extension, bytes: &[u8]| {
            let file = disk.open(&self.path(extension), OpenMode::Write)?;
            file.write_all_at(bytes, 0)?;
            file.set_len(bytes.len() as u64)?;
            Ok::<_, std::io::Error>(file)
        };
        Ok([write("index", &offsets)?, write("timeindex", &times)?])
    }
}

/// Kafka's name; the generation stands between its parts, where Kafka's tools for single files look over it.
fn file_name(base: i64, generation: u32, extension: &str) -> String {
    if generation == 0 { format!("{base:020}.{extension}") } else { format!("{base:020}.{generation}.{extension}") }
}

/// The base offset and the generation in a segment file's name.
pub fn parse_name(name: &str) -> Option<(i64, u32)> {
    let (base, rest) = name.split_once('.')?;
    let (generation, extension) = rest.split_once('.').unwrap_or(("0", rest));
    (EXTENSIONS.contains(&extension) && base.len() == 20).then_some(())?;
    Some((base.parse().ok()?, generation.parse().ok()?))
}

/// Shows every batch header between two positions, which must be batch boundaries.
pub fn scan(file: &dyn DiskFile, path: &Path, from: u64, to: u64, mut each: impl FnMut(u64, &BatchHeader)) -> Result<()> {
    let mut chunk = Vec::new();
    let mut chunk_at = from;
    let mut at = from;
    while at < to {
        if at + HEADER_BYTES as u64 > chunk_at + chunk.len() as u64 {
            chunk_at = at;
            chunk.resize(CHUNK_BYTES.min(to - at) as usize, 0);
            file.read_exact_at(&mut chunk, at).map_err(|e| codes::read_failed(path, e))?;
        }
        let header = BatchHeader::parse(&chunk[(at - chunk_at) as usize..])?;
        if header.bytes as u64 > to - at {
            return Err(Error::corrupt(BAD_BATCH, format!("a batch in {} reaches beyond the end", path.display())));
        }
        each(at, &header);
        at += header.bytes as u64;
    }
    Ok(())
}

/// Whole batches from the one that holds `offset` on: at least one, no more than about `bytes_max`, none behind `end`, the visible
/// bytes of the file. `from`: a batch boundary at or before the batch looked for. Empty when there is none.
pub fn read(file: &dyn DiskFile, path: &Path, from: u64, end: u64, offset: i64, bytes_max: usize) -> Result<Bytes> {
    let mut at = from;
    let mut wanted = (bytes_max as u64).clamp(16 << 10, 64 << 20) + 4096;
    while at < end {
        let mut chunk = vec![0; wanted.min(end - at) as usize];
        file.read_exact_at(&mut chunk, at).map_err(|e| codes::read_failed(path, e))?;
        let chunk = Bytes::from(chunk);
        let mut skip = 0;
        wanted = CHUNK_BYTES;
        while chunk.len() - skip >= HEADER_BYTES {
            let header = BatchHeader::parse(&chunk[skip..])?;
            if header.end() > offset {
                let found = cut(&chunk.slice(skip..), offset, bytes_max)?;
                if !found.is_empty() {
                    return Ok(found);
                }
                // The batch is larger than the chunk: once more, with all of it.
                wanted = header.bytes as u64;
                break;
            }
            if header.bytes > chunk.len() - skip {
                skip += header.bytes;
                break;
            }
            skip += header.bytes;
        }
        if skip == 0 && at + chunk.len() as u64 >= end {
            break;
        }
        at += skip as u64;
    }
    if at >= end {
        return Ok(Bytes::new());
    }
    Err(Error::corrupt(BAD_BATCH, format!("a batch in {} at byte {at} is cut off", path.display())))
}

/// Of a run of batches: the whole ones from the one that holds `offset` on, at least one, no more than about `bytes_max`. A last batch
/// that is cut off is left out.
pub fn cut(run: &Bytes, offset: i64, bytes_max: usize) -> Result<Bytes> {
    let mut start = None;
    let mut at = 0;
    while run.len() - at >= HEADER_BYTES {
        let header = BatchHeader::parse(&run[at..])?;
        if header.bytes > run.len() - at {
            break;
        }
        if header.end() > offset {
            let from = *start.get_or_insert(at);
            if at > from && at + header.bytes - from > bytes_max {
                break;
            }
        }
        at += header.bytes;
    }
    Ok(start.map_or_else(Bytes::new, |from| run.slice(from..at)))
}
