//! One segment file: whole batches from its base offset on. Sealed segments are opened when somebody reads them, not before.

use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::codes;
use crate::index::Indexes;
use bytes::Bytes;
use mainstem_env::{Disk, DiskFile, OpenMode};
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Read at once when looking for batches.
const CHUNK_BYTES: u64 = 1 << 20;

pub struct Segment {
    pub base: i64,
    pub dir: Arc<Path>,
    /// Visible bytes; behind them may be those of an open transaction.
    bytes: AtomicU64,
    max_time_ms: AtomicI64,
    /// There while the segment is written and until its index files are synced.
    pub indexes: Mutex<Option<Indexes>>,
}

impl Segment {
    pub fn new(dir: Arc<Path>, base: i64, bytes: u64, max_time_ms: i64, indexes: Option<Indexes>) -> Arc<Self> {
        let (bytes, max_time_ms) = (AtomicU64::new(bytes), AtomicI64::new(max_time_ms));
        Arc::new(Self { base, dir, bytes, max_time_ms, indexes: Mutex::new(indexes) })
    }

    pub fn path(&self, extension: &str) -> PathBuf {
        self.dir.join(file_name(self.base, extension))
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
        let mut indexes = Indexes::default();
        scan(file, &self.path("log"), 0, self.bytes(), |position, header| indexes.note(self.base, position, header))?;
        // Best effort: without the files the next reader scans again.
        let _ = self.write_indexes(disk, &indexes);
        Ok(indexes)
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

pub fn file_name(base: i64, extension: &str) -> String {
    format!("{base:020}.{extension}")
}

/// The base offset and the extension in a segment file's name.
pub fn parse_name(name: &str) -> Option<(i64, &str)> {
    let (base, extension) = name.split_once('.')?;
    let known = matches!(extension, "log" | "index" | "timeindex");
    (known && base.len() == 20).then_some(())?;
    Some((base.parse().ok()?, extension))
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
            return Err(Error::corrupt(codes::BAD_BATCH, format!("a batch in {} reaches beyond the end", path.display())));
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
    Err(Error::corrupt(codes::BAD_BATCH, format!("a batch in {} at byte {at} is cut off", path.display())))
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
