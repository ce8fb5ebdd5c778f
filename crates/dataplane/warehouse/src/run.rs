//! A sorted run of the key index: one file, mapped, checksummed, derived from Parquet files and rebuilt from them when it is missing.
//!
//! Layout (little-endian): magic `MSRUN001`, entry count u64, xxh3-64 of entries and segments u64, segment count u64,
//! fingerprint of the key's form u64; then entries
//! of 24 bytes (key u128, segment u32, row u32) sorted by key; then the ids of the segments covered, u32 each.

use crate::codes;
use crate::index::RowAddr;
use mainstem_env::{Disk, DiskFile, Mapped, OpenMode};
use mainstem_types::{Error, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const MAGIC: &[u8; 8] = b"MSRUN001";
const HEADER: usize = 40;
const ENTRY: usize = 24;
/// Bytes written at once.
const BUFFER: usize = 256 << 10;
/// Entries that are sorted in memory: 32 MiB of them, whatever the number of rows.
const CHUNK_ENTRIES: usize = 1 << 20;

/// A key and the row it belongs to. Runs are sorted by both.
pub(crate) type Entry = (u128, RowAddr);

/// A run that was found whole: mapped, its checksum compared, ready to be searched.
pub(crate) struct Run {
    pub path: PathBuf,
    map: Mapped,
    entries: usize,
    pub segments: Vec<u32>,
    /// The key form's fingerprint.
    pub form: u64,
    first: u128,
    last: u128,
}

/// The file of a run while its entries come.
struct RunWriter {
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    at: u64,
    sum: Xxh3,
}

impl RunWriter {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.sum.update(&self.buffer);
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn stream(
    disk: &dyn Disk,
    path: &Path,
    entries: impl Iterator<Item = Entry>,
    segments: &[u32],
    form: u64,
) -> std::io::Result<()> {
    let file = disk.open(path, OpenMode::CreateNew)?;
    let mut writer = RunWriter { file, buffer: Vec::with_capacity(BUFFER + ENTRY), at: HEADER as u64, sum: Xxh3::new() };
    let mut count = 0u64;
    for (key, at) in entries {
        let mut bytes = [0; ENTRY];
        bytes[..16].copy_from_slice(&key.to_le_bytes());
        bytes[16..20].copy_from_slice(&at.segment.to_le_bytes());
        bytes[20..].copy_from_slice(&at.row.to_le_bytes());
        writer.put(&bytes)?;
        count += 1;
    }
    for segment in segments {
        writer.put(&segment.to_le_bytes())?;
    }
    writer.flush()?;
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    for number in [count, writer.sum.digest(), segments.len() as u64, form] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    writer.file.write_all_at(&header, 0)
}

impl Run {
    /// Writes a run of sorted entries as they come; not synced, because a torn one is found by its checksum and rebuilt.
    pub fn write(
        disk: &dyn Disk,
        path: &Path,
        entries: impl Iterator<Item = Entry>,
        segments: &[u32],
        form: u64,
    ) -> Result<Self> {
        if let Err(e) = stream(disk, path, entries, segments, form) {
            // What is there of it is of no use; a start would remove it too.
            let _ = disk.remove_file(path);
            return Err(Error::retry(codes::IO, format!("cannot write the index run {}", path.display())).caused_by(e));
        }
        Self::open(disk, path, form)?
            .ok_or_else(|| Error::corrupt(codes::CORRUPT, format!("the index run {} does not read back", path.display())))
    }

    /// Writes the entries of several runs that `kept` takes into one, in memory for one entry of each.
    pub fn merge(
        disk: &dyn Disk,
        path: &Path,
        runs: &[Arc<Self>],
        kept: impl Fn(&RowAddr) -> bool,
        segments: &[u32],
        form: u64,
    ) -> Result<Self> {
        Self::write(disk, path, Merged::new(runs).filter(|(_, at)| kept(at)), segments, form)
    }

    /// Maps a run. None when its bytes are not what was written, or when its keys were made in another form.
    pub fn open(disk: &dyn Disk, path: &Path, form: u64) -> Result<Option<Self>> {
        let map = disk
            .map(path)
            .map_err(|e| Error::retry(codes::IO, format!("cannot read the index run {}", path.display())).caused_by(e))?;
        let number = |at: usize| map.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let (Some(entries), Some(sum), Some(segments)) = (number(8), number(16), number(24)) else { return Ok(None) };
        let size = (entries as u128) * ENTRY as u128 + (segments as u128) * 4 + HEADER as u128;
        if map.get(..8) != Some(MAGIC.as_slice())
            || size != map.len() as u128
            || number(32) != Some(form)
            || xxh3_64(&map[HEADER..]) != sum
        {
            return Ok(None);
        }
        let entries = entries as usize;
        let tail = map[HEADER + entries * ENTRY..].as_chunks::<4>().0.iter();
        let segments = tail.map(|b| u32::from_le_bytes(*b)).collect();
        let mut run = Self { path: path.to_path_buf(), map, entries, segments, form, first: u128::MAX, last: 0 };
        if entries > 0 {
            (run.first, run.last) = (run.key(0), run.key(entries - 1));
        }
        Ok(Some(run))
    }

    /// A whole file around these bytes as its entries and segments; for fuzzing.
    pub fn around(body: &[u8], form: u64) -> Vec<u8> {
        let body = &body[..body.len() / 4 * 4];
        let (entries, segments) = (body.len() / ENTRY, body.len() % ENTRY / 4);
        let numbers = [entries as u64, xxh3_64(body), segments as u64, form];
        MAGIC.iter().copied().chain(numbers.into_iter().flat_map(u64::to_le_bytes)).chain(body.iter().copied()).collect()
    }

    pub fn len(&self) -> usize {
        self.entries
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.map[at..at + N]);
        bytes
    }

    pub fn key(&self, entry: usize) -> u128 {
        u128::from_le_bytes(self.bytes(HEADER + entry * ENTRY))
    }

    pub fn addr(&self, entry: usize) -> RowAddr {
        let at = HEADER + entry * ENTRY + 16;
        RowAddr { segment: u32::from_le_bytes(self.bytes(at)), row: u32::from_le_bytes(self.bytes(at + 4)) }
    }

    fn entry(&self, entry: usize) -> Option<Entry> {
        (entry < self.entries).then(|| (self.key(entry), self.addr(entry)))
    }

    pub fn may_have(&self, key: u128) -> bool {
        self.first <= key && key <= self.last
    }

    /// First entry at or after `from` whose key is not below `key`: gallops, so that sorted lookups walk the run once.
    pub fn seek(&self, from: usize, key: u128) -> usize {
        let (mut low, mut step) = (from, 1);
        while low + step < self.entries && self.key(low + step) < key {
            low += step;
            step *= 2;
        }
        let mut high = (low + step).min(self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// The entries of several runs in order, each run walked once.
struct Merged<'a> {
    runs: &'a [Arc<Run>],
    /// The next entry of each run that has one, with the run's number and the entry's.
    heads: BinaryHeap<Reverse<(Entry, usize, usize)>>,
}

impl<'a> Merged<'a> {
    fn new(runs: &'a [Arc<Run>]) -> Self {
        let heads = runs.iter().enumerate().filter_map(|(run, r)| Some(Reverse((r.entry(0)?, run, 0)))).collect();
        Self { runs, heads }
    }
}

impl Iterator for Merged<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let mut head = self.heads.peek_mut()?;
        let Reverse((entry, run, at)) = *head;
        match self.runs[run].entry(at + 1) {
            // Entries that follow each other in one run leave it on top, which costs two comparisons.
            Some(next) => *head = Reverse((next, run, at + 1)),
            None => drop(PeekMut::pop(head)),
        }
        Some(entry)
    }
}

/// Makes a run of entries that come in any order, in memory for one chunk of them: the chunks before it wait in files of their own.
pub(crate) struct RunBuilder<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    segment: u32,
    form: u64,
    chunk: Vec<Entry>,
    chunk_entries: usize,
    chunks: Vec<Arc<Run>>,
}

impl<'a> RunBuilder<'a> {
    /// The run of one segment.
    pub fn new(disk: &'a dyn Disk, path: PathBuf, segment: u32, form: u64) -> Self {
        Self { disk, path, segment, form, chunk: Vec::new(), chunk_entries: CHUNK_ENTRIES, chunks: Vec::new() }
    }

    /// Adds the keys of rows that follow each other from `row` on.
    pub fn add(&mut self, keys: Vec<u128>, row: u32) -> Result<()> {
        for (key, row) in keys.into_iter().zip(row..) {
            self.chunk.push((key, RowAddr { segment: self.segment, row }));
            if self.chunk.len() >= self.chunk_entries {
                self.spill()?;
            }
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        self.chunk.sort_unstable();
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{}", self.chunks.len()));
        // It covers no segment: a start that finds it takes it for no part of the index.
        let chunk = Run::write(self.disk, Path::new(&path), self.chunk.drain(..), &[], self.form)?;
        self.chunks.push(Arc::new(chunk));
        Ok(())
    }

    pub fn finish(mut self) -> Result<Run> {
        if self.chunks.is_empty() {
            self.chunk.sort_unstable();
            return Run::write(self.disk, &self.path, self.chunk.drain(..), &[self.segment], self.form);
        }
        self.spill()?;
        self.chunk = Vec::new();
        Run::merge(self.disk, &self.path, &self.chunks, |_| true, &[self.segment], self.form)
    }
}

impl Drop for RunBuilder<'_> {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            // One that stays is removed by the next start.
            let _ = self.disk.remove_file(&chunk.path);
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
