//! The commit WAL: preallocated, recycled files of records. A record counts when its checksum holds and its sequence number is the
//! next one, so bytes of an earlier life of the file are never taken for new ones.

use crate::metrics;
use mainstem_env::{Disk, DiskFile, OpenMode};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// CRC-32C over the rest (u32), payload bytes (u32), sequence (u64), then the payload; little-endian.
pub const RECORD_HEADER_BYTES: usize = 16;
/// Free files kept for the next round; more are removed.
const FREE_FILES_MAX: usize = 3;
/// Read at once when looking for records behind a gap.
const SCAN_BYTES: u64 = 1 << 20;
/// Sequence numbers left out at a start, so that a record which was cut off can never be continued by its own successor.
pub const SEQUENCE_JUMP: u64 = 1 << 32;

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalStart {
    pub file: u64,
    pub offset: u64,
    pub sequence: u64,
}

struct WalFile {
    number: u64,
    bytes: u64,
    file: Arc<dyn DiskFile>,
    last_sequence: u64,
}

pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    /// Files with records that may be needed, oldest first; the last is written.
    live: VecDeque<WalFile>,
    free: Vec<WalFile>,
    offset: u64,
    sequence: u64,
    next_number: u64,
    buffer: Vec<u8>,
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.wal"))
}

/// Header and payload of the record at `offset`, if it is whole and has the sequence number.
fn record_at(file: &WalFile, offset: u64, sequence: u64, payload: &mut Vec<u8>) -> io::Result<bool> {
    let mut header = [0; RECORD_HEADER_BYTES];
    if offset + RECORD_HEADER_BYTES as u64 > file.bytes {
        return Ok(false);
    }
    file.file.read_exact_at(&mut header, offset)?;
    let Some((crc, length, found)) = parse_header(&header) else { return Ok(false) };
    if found != sequence || length == 0 || offset + (RECORD_HEADER_BYTES as u64) + u64::from(length) > file.bytes {
        return Ok(false);
    }
    payload.resize(length as usize, 0);
    file.file.read_exact_at(payload, offset + RECORD_HEADER_BYTES as u64)?;
    Ok(crc32c::crc32c_append(crc32c::crc32c(&header[4..]), payload) == crc)
}

/// Whether a whole record with one of these sequence numbers stands anywhere from a byte on.
fn has_record(file: &WalFile, from: u64, sequences: &Range<u64>) -> io::Result<bool> {
    let (mut payload, mut chunk) = (Vec::new(), Vec::new());
    let mut at = from;
    while at + RECORD_HEADER_BYTES as u64 <= file.bytes {
        chunk.resize(SCAN_BYTES.min(file.bytes - at) as usize, 0);
        file.file.read_exact_at(&mut chunk, at)?;
        for (n, window) in chunk.windows(RECORD_HEADER_BYTES).enumerate() {
            let header = window.try_into().ok().and_then(parse_header);
            let Some((_, _, sequence)) = header.filter(|(_, _, sequence)| sequences.contains(sequence)) else { continue };
            if record_at(file, at + n as u64, sequence, &mut payload)? {
                return Ok(true);
            }
        }
        at += (chunk.len() - (RECORD_HEADER_BYTES - 1)) as u64;
    }
    Ok(false)
}

fn parse_header(header: &[u8; RECORD_HEADER_BYTES]) -> Option<(u32, u32, u64)> {
    let crc = u32::from_le_bytes(header[..4].try_into().ok()?);
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?);
    Some((crc, length, u64::from_le_bytes(header[8..].try_into().ok()?)))
}

impl Wal {
    /// Opens the files that are there. Nothing is written before [`restart`](Self::restart).
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, file_bytes: u64) -> io::Result<Self> {
        let mut free = Vec::new();
        for name in disk.list(dir)? {
            let Some(number) = name.strip_suffix(".wal").and_then(|n| n.parse::<u64>().ok()) else { continue };
            let file = disk.open(&dir.join(&name), OpenMode::Write)?;
            free.push(WalFile { number, bytes: file.len()?, file, last_sequence: 0 });
        }
        free.sort_by_key(|file| file.number);
        let next_number = free.last().map_or(1, |file| file.number + 1);
        let dir = dir.to_path_buf();
        Ok(Self { disk, dir, file_bytes, live: VecDeque::new(), free, offset: 0, sequence: 1, next_number, buffer: Vec::new() })
    }

    /// Shows the payload of every whole record from `start` on; returns the sequence number after the last.
    pub fn replay<E: From<io::Error>>(&self, start: WalStart, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<u64, E> {
        self.walk(start, &mut Vec::new(), |_, payload| each(payload))
    }

    /// The same; `each` also gets where the record ends: the number of its file and the byte in it.
    fn walk<E: From<io::Error>>(
        &self,
        start: WalStart,
        payload: &mut Vec<u8>,
        mut each: impl FnMut((u64, u64), &[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let (mut sequence, mut offset) = (start.sequence, start.offset);
        let mut current = self.free.iter().position(|file| file.number == start.file);
        loop {
            let here = match current {
                Some(at) => record_at(&self.free[at], offset, sequence, payload)?,
                None => false,
            };
            if !here {
                // The next record may be the first of another file.
                current = None;
                for (at, file) in self.free.iter().enumerate() {
                    if record_at(file, 0, sequence, payload)? {
                        current = Some(at);
                    }
                }
                offset = 0;
            }
            let Some(at) = current else { return Ok(sequence) };
            offset += (RECORD_HEADER_BYTES + payload.len()) as u64;
            each((self.free[at].number, offset), payload)?;
            sequence += 1;
        }
    }

    /// Where records that were committed are missing, if a replay from `start` would leave out any: the file, and what is wrong with it.
    /// Only the last record can be one that was being written, so one that stands behind a gap proves that what is missing was committed.
    /// `file_bytes`: the size each file was made with; 0: not known.
    pub fn damage(&self, start: WalStart, file_bytes: u64) -> io::Result<Option<(PathBuf, &'static str)>> {
        let mut ended = (start.file, start.offset);
        let mut payload = Vec::new();
        let sequence = self.walk(start, &mut payload, |at, _| {
            ended = at;
            Ok::<_, io::Error>(())
        })?;
        let path = path_of(&self.dir, ended.0);
        let Some(last) = self.free.iter().find(|file| file.number == ended.0) else { return Ok(Some((path, "is missing"))) };
        if last.bytes < file_bytes.max(ended.1) {
            return Ok(Some((path, "is shorter than it was made")));
        }
        let later = sequence + 1..sequence.saturating_add(SEQUENCE_JUMP);
        for file in &self.free {
            let from = if file.number == ended.0 { ended.1 } else { 0 };
            if has_record(file, from, &later)? {
                return Ok(Some((path, "has a record that is not what was written, and whole ones follow")));
            }
        }
        Ok(None)
    }

    /// Begins anew with `sequence` in a file of the right size, and returns where the first record will stand. Nothing is overwritten
    /// or removed yet: that place must be in a durable checkpoint before [`trim`](Self::trim) or a commit.
    pub fn restart(&mut self, sequence: u64) -> io::Result<WalStart> {
        self.sequence = sequence;
        // The right one goes to the end, from where the next file is taken.
        match self.free.iter().position(|file| file.bytes == self.file_bytes) {
            Some(at) => {
                let last = self.free.len() - 1;
                self.free.swap(at, last);
                self.next_file()?;
            }
            None => {
                let file = self.create()?;
                self.live.push_back(file);
                self.offset = 0;
            }
        }
        Ok(self.position())
    }

    /// Removes files of another size and more than are worth keeping.
    pub fn trim(&mut self) -> io::Result<()> {
        for file in std::mem::take(&mut self.free) {
            self.release(file)?;
        }
        Ok(())
    }

    /// Where the next record stands at the earliest.
    pub fn position(&self) -> WalStart {
        WalStart { file: self.live.back().map_or(0, |file| file.number), offset: self.offset, sequence: self.sequence }
    }

    fn release(&mut self, file: WalFile) -> io::Result<()> {
        if file.bytes == self.file_bytes && self.free.len() < FREE_FILES_MAX {
            self.free.push(file);
            return Ok(());
        }
        self.disk.remove_file(&path_of(&self.dir, file.number))
    }

    fn next_file(&mut self) -> io::Result<()> {
        let file = match self.free.pop() {
            Some(file) => file,
            None => self.create()?,
        };
        self.live.push_back(file);
        self.offset = 0;
        Ok(())
    }

    fn create(&mut self) -> io::Result<WalFile> {
        let path = path_of(&self.dir, self.next_number);
        let file = self.disk.open(&path, OpenMode::Write)?;
        let made = file.preallocate(self.file_bytes).and_then(|()| file.sync()).and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(error) = made {
            drop(file);
            let _ = self.disk.remove_file(&path);
            return Err(error);
        }
        let number = self.next_number;
        self.next_number += 1;
        Ok(WalFile { number, bytes: self.file_bytes, file, last_sequence: 0 })
    }

    /// An empty payload to fill; `commit` writes it.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        self.buffer.clear();
        self.buffer.resize(RECORD_HEADER_BYTES, 0);
        &mut self.buffer
    }

    pub fn is_payload_empty(&self) -> bool {
        self.buffer.len() == RECORD_HEADER_BYTES
    }

    /// Of the filled payload, as a record.
    pub fn payload_bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Makes room for the filled payload. An error leaves everything as it was. False: it can never fit.
    pub fn reserve(&mut self) -> io::Result<bool> {
        if self.buffer.len() as u64 > self.file_bytes {
            return Ok(false);
        }
        if self.offset + self.buffer.len() as u64 > self.file_bytes {
            self.next_file()?;
        }
        Ok(true)
    }

    /// Writes and syncs the filled payload as one record, after `reserve`. After an error nobody knows what the disk holds.
    pub fn commit(&mut self) -> io::Result<()> {
        let length = (self.buffer.len() - RECORD_HEADER_BYTES) as u32;
        self.buffer[4..8].copy_from_slice(&length.to_le_bytes());
        self.buffer[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = crc32c::crc32c(&self.buffer[4..]);
        self.buffer[..4].copy_from_slice(&crc.to_le_bytes());
        let Some(file) = self.live.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        file.file.write_all_at(&self.buffer, self.offset)?;
        file.file.sync()?;
        file.last_sequence = self.sequence;
        self.offset += self.buffer.len() as u64;
        self.sequence += 1;
        metrics::SYNCS.add(1);
        metrics::COMMITS.add(1);
        metrics::WAL_BYTES.add(self.buffer.len() as u64);
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }

    /// Frees the files whose records all stand before a durable checkpoint.
    pub fn recycle(&mut self, checkpoint: WalStart) -> io::Result<()> {
        while self.live.len() > 1 && self.live.front().is_some_and(|file| file.last_sequence < checkpoint.sequence) {
            if let Some(file) = self.live.pop_front() {
                self.release(file)?;
            }
        }
        Ok(())
    }
}
