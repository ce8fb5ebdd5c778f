//! The committer's side of a partition: gives out offsets and writes segments, visible or not yet.

use crate::entry::{PartEntry, PartitionKey};
use crate::index::{IndexMark, Indexes};
use crate::partition::Partition;
use crate::segment::{self, Active, Segment};
use bytes::{Bytes, BytesMut};
use mainstem_env::{Disk, OpenMode};
use mainstem_eventlog::batch;
use mainstem_eventlog::codes::UNKNOWN_PARTITION;
use mainstem_types::{Error, Result};
use std::io;
use std::sync::Arc;

pub struct Writer {
    pub partition: Arc<Partition>,
    /// One past the last offset given out.
    pub next: i64,
    pub active: Option<Active>,
    /// Segments made since the last publication.
    invisible: Vec<Arc<Segment>>,
    /// Segments sealed since the last checkpoint, and whether the active one was written since.
    sealed: Vec<Active>,
    dirty: bool,
    /// A segment was made whose name is not yet durable.
    pub dir_dirty: bool,
    /// The open transaction that has the partition.
    pub held_by: Option<u64>,
    /// Below this offset a compaction left one record per key.
    pub clean_end: i64,
}

/// A state of a writer to go back to.
pub struct Mark {
    next: i64,
    active: Option<(Active, Option<IndexMark>)>,
    invisible: usize,
}

/// A run of batches as staged: written, not yet committed.
pub struct Extent {
    pub key: PartitionKey,
    pub active: Active,
    pub position: u64,
    pub bytes: u64,
    pub base: i64,
    pub records: u64,
    pub max_time_ms: i64,
    /// None for pieces of a transaction.
    pub batches: Option<Bytes>,
    /// The bytes go into the WAL, the segment need not be synced.
    pub inline: bool,
}

impl Extent {
    pub fn entry(&self) -> PartEntry<'_> {
        PartEntry {
            key: self.key,
            segment: self.active.segment.base,
            position: self.position,
            bytes: self.bytes,
            base_offset: self.base,
            records: self.records,
            inline: self.batches.as_deref().filter(|_| self.inline),
        }
    }
}

/// Gives the batches their offsets, in place where nobody else holds the bytes.
fn number(batches: Bytes, mut offset: i64) -> Result<(Bytes, i64)> {
    let mut batches = batches.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let (mut at, mut max_time_ms) = (0, i64::MIN);
    while at < batches.len() {
        let header = batch::BatchHeader::parse(&batches[at..])?;
        batch::set_base_offset(&mut batches[at..], offset);
        offset += i64::from(header.last_offset_delta) + 1;
        max_time_ms = max_time_ms.max(header.max_time_ms);
        at += header.bytes;
    }
    Ok((batches.freeze(), max_time_ms))
}

impl Writer {
    pub fn new(partition: Arc<Partition>, next: i64, active: Option<Active>, clean_end: i64) -> Self {
        let (invisible, sealed) = (Vec::new(), Vec::new());
        Self { partition, next, active, invisible, sealed, dirty: false, dir_dirty: false, held_by: None, clean_end }
    }

    /// Numbers and writes batches (checked before) behind everything staged. After an error go back to a mark.
    pub fn stage(&mut self, disk: &dyn Disk, batches: Bytes, records: u64, segment_bytes_max: u64) -> Result<Extent, Failure> {
        let base = self.next;
        let bytes = batches.len() as u64;
        let (batches, max_time_ms) = number(batches, base)?;
        let full = |active: &Active| {
            let far = base.saturating_add_unsigned(records) - active.segment.base > i64::from(i32::MAX);
            active.position > 0 && (active.position + bytes > segment_bytes_max || far)
        };
        if self.active.as_ref().is_none_or(full) {
            self.roll(disk, base, false)?;
        }
        self.write(disk, &batches, records)?;
        let active = self.active.clone().ok_or(io::ErrorKind::NotFound)?;
        let position = active.position - bytes;
        let key = self.partition.key;
        Ok(Extent { key, active, position, bytes, base, records, max_time_ms, batches: Some(batches), inline: false })
    }

    /// Begins a segment. `keep`: what its file holds is wanted (recovery); else it is of an append that was never committed.
    pub fn roll(&mut self, disk: &dyn Disk, base: i64, keep: bool) -> io::Result<()> {
        let segment = Segment::empty(self.partition.dir.clone(), base);
        let file = disk.open(&segment.path("log"), OpenMode::Write)?;
        if !keep && file.len()? > 0 {
            file.set_len(0)?;
        }
        self.dir_dirty = true;
        self.invisible.push(segment.clone());
        if let Some(sealed) = self.active.replace(Active { segment, file, position: 0 }) {
            self.sealed.push(sealed);
        }
        Ok(())
    }

    /// Writes numbered batches at the end of the active segment.
    pub fn write(&mut self, disk: &dyn Disk, batches: &[u8], records: u64) -> Result<(), Failure> {
        let Some(active) = &mut self.active else { return Err(io::Error::from(io::ErrorKind::NotFound).into()) };
        self.dirty = true;
        active.file.write_all_at(batches, active.position)?;
        let mut guard = active.segment.indexes.lock();
        let indexes = match &mut *guard {
            Some(indexes) => indexes,
            empty => empty.insert(active.segment.load_indexes(disk, &*active.file)?),
        };
        for item in batch::headers(batches) {
            let (at, header) = item?;
            indexes.note(active.segment.base, active.position + at as u64, &header);
        }
        active.position += batches.len() as u64;
        self.next += records as i64;
        Ok(())
    }

    /// Takes up batches that are already in the active segment (recovery).
    pub fn adopt(&mut self, disk: &dyn Disk, bytes: u64, records: u64) -> Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        self.dirty = true;
        let mut guard = active.segment.indexes.lock();
        let indexes = match &mut *guard {
            Some(indexes) => indexes,
            empty => empty.insert(active.segment.load_indexes(disk, &*active.file)?),
        };
        let (from, to) = (active.position, active.position + bytes);
        let base = active.segment.base;
        segment::scan(&*active.file, &active.segment.path("log"), from, to, |at, header| indexes.note(base, at, header))?;
        active.position = to;
        self.next += records as i64;
        Ok(())
    }

    pub fn mark(&self) -> Mark {
        let active = self.active.clone().map(|active| {
            let index = active.segment.indexes.lock().as_ref().map(Indexes::mark);
            (active, index)
        });
        Mark { next: self.next, active, invisible: self.invisible.len() }
    }

    /// Undoes everything staged since the mark; best effort on the files, which recovery cuts as well.
    pub fn back_to(&mut self, disk: &dyn Disk, mark: Mark) {
        for segment in self.invisible.drain(mark.invisible..) {
            self.sealed.retain(|sealed| !Arc::ptr_eq(&sealed.segment, &segment));
            let _ = segment.remove(disk);
        }
        self.next = mark.next;
        self.active = mark.active.map(|(active, index)| {
            self.sealed.retain(|sealed| !Arc::ptr_eq(&sealed.segment, &active.segment));
            let _ = active.file.set_len(active.position);
            if let (Some(indexes), Some(index)) = (&mut *active.segment.indexes.lock(), &index) {
                indexes.back_to(index);
            }
            active
        });
        self.dirty = true;
    }

    /// What was staged is visible now.
    pub fn published(&mut self) {
        self.invisible.clear();
    }

    /// The segments written since the last checkpoint, and the active one.
    pub fn written(&self) -> impl Iterator<Item = &Active> {
        self.sealed.iter().chain(&self.active)
    }

    /// Segments to be synced by a checkpoint, each with whether it is sealed; None when nothing was written since the last.
    pub fn take_dirty(&mut self) -> Option<Vec<(Active, bool)>> {
        if !std::mem::take(&mut self.dirty) && self.sealed.is_empty() {
            return None;
        }
        let sealed = self.sealed.drain(..).map(|active| (active, true));
        Some(sealed.chain(self.active.clone().map(|active| (active, false))).collect())
    }
}

/// Why something could not be staged.
pub enum Failure {
    Io(io::Error),
    Refused(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<io::ErrorKind> for Failure {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Io(kind.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The refusal for a partition that is not there.
pub fn unknown(what: &dyn std::fmt::Display) -> Error {
    Error::fix(UNKNOWN_PARTITION, format!("there is no topic partition {what}")).hint("Make the topic first.")
}
