//! A sorted run of the key index: one file, mapped, checksummed, derived from Parquet files and rebuilt from them when it is missing.
//!
//! Layout (little-endian): magic `MSRUN001`, entry count u64, xxh3-64 of entries and segments u64, segment count u64,
//! fingerprint of the key's form u64; then entries
//! of 24 bytes (key u128, segment u32, row u32) sorted by key; then the ids of the segments covered, u32 each.

use crate::codes;
use crate::index::RowAddr;
use mainstem_env::{Disk, Mapped, OpenMode};
use mainstem_types::{Error, Result};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"MSRUN001";
const HEADER: usize = 40;
const ENTRY: usize = 24;

/// See the module.
pub(crate) struct Run {
    pub path: PathBuf,
    map: Mapped,
    entries: usize,
    pub segments: Vec<u32>,
    first: u128,
    last: u128,
}

/// Bytes of a run. `entries` need not be sorted.
fn encode(entries: &mut [(u128, RowAddr)], segments: &[u32], fingerprint: u64) -> Vec<u8> {
    entries.sort_unstable_by_key(|(key, at)| (*key, at.segment, at.row));
    let mut bytes = Vec::with_capacity(HEADER + entries.len() * ENTRY + segments.len() * 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&(segments.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&fingerprint.to_le_bytes());
    for (key, at) in entries.iter() {
        bytes.extend_from_slice(&key.to_le_bytes());
        bytes.extend_from_slice(&at.segment.to_le_bytes());
        bytes.extend_from_slice(&at.row.to_le_bytes());
    }
    for segment in segments {
        bytes.extend_from_slice(&segment.to_le_bytes());
    }
    let sum = xxh3_64(&bytes[HEADER..]);
    bytes[16..24].copy_from_slice(&sum.to_le_bytes());
    bytes
}

impl Run {
    /// Writes a run; not synced, because a torn one is found by its checksum and rebuilt.
    pub fn write(disk: &dyn Disk, path: &Path, mut entries: Vec<(u128, RowAddr)>, segments: &[u32], form: u64) -> Result<Self> {
        let bytes = encode(&mut entries, segments, form);
        drop(entries);
        let failed = |e| Error::retry(codes::IO, format!("cannot write the index run {}", path.display())).caused_by(e);
        let file = disk.open(path, OpenMode::CreateNew).map_err(failed)?;
        file.write_all_at(&bytes, 0).map_err(failed)?;
        drop(bytes);
        Self::open(disk, path, form)?
            .ok_or_else(|| Error::corrupt(codes::CORRUPT, format!("the index run {} does not read back", path.display())))
    }

    /// None when the bytes are not a whole run of this form of keys.
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
        let mut run = Self { path: path.to_path_buf(), map, entries, segments, first: u128::MAX, last: 0 };
        if entries > 0 {
            (run.first, run.last) = (run.key(0), run.key(entries - 1));
        }
        Ok(Some(run))
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
