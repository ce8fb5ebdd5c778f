//! Offset and time index of a segment, in Kafka's forms: 8-byte entries (offset above the segment's base, position) and 12-byte
//! entries (greatest time so far, offset of that record's batch above the base), big-endian, one of each per 4 KiB of batches. Both are
//! derived: a missing or damaged file costs a scan, never data.

use mainstem_eventlog::batch::BatchHeader;

/// Bytes of batches between two entries (Kafka: `index.interval.bytes`).
const INTERVAL_BYTES: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of the batch at `position`, above the segment's base.
    pub offset: u32,
    pub position: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    pub time_ms: i64,
    pub offset: u32,
}

/// Both indexes of one segment while it is written.
#[derive(Clone, Debug)]
pub struct Indexes {
    pub offsets: Vec<OffsetEntry>,
    pub times: Vec<TimeEntry>,
    since_bytes: u64,
    pub max_time_ms: i64,
    max_time_offset: u32,
}

/// A state of [`Indexes`] to go back to.
#[derive(Clone, Copy, Debug)]
pub struct IndexMark {
    offsets: usize,
    times: usize,
    since_bytes: u64,
    max_time_ms: i64,
    max_time_offset: u32,
}

impl Default for Indexes {
    fn default() -> Self {
        Self { offsets: Vec::new(), times: Vec::new(), since_bytes: 0, max_time_ms: i64::MIN, max_time_offset: 0 }
    }
}

impl Indexes {
    /// Takes up a batch that stands at `position` of the segment that begins with offset `base`.
    pub fn note(&mut self, base: i64, position: u64, header: &BatchHeader) {
        let last = (header.end() - 1 - base) as u32;
        if header.max_time_ms > self.max_time_ms {
            self.max_time_ms = header.max_time_ms;
            self.max_time_offset = last;
        }
        if self.since_bytes > INTERVAL_BYTES {
            self.offsets.push(OffsetEntry { offset: last, position: position as u32 });
            if self.times.last().is_none_or(|entry| entry.time_ms < self.max_time_ms) {
                self.times.push(TimeEntry { time_ms: self.max_time_ms, offset: self.max_time_offset });
            }
            self.since_bytes = 0;
        }
        self.since_bytes += header.bytes as u64;
    }

    pub fn mark(&self) -> IndexMark {
        IndexMark {
            offsets: self.offsets.len(),
            times: self.times.len(),
            since_bytes: self.since_bytes,
            max_time_ms: self.max_time_ms,
            max_time_offset: self.max_time_offset,
        }
    }

    pub fn back_to(&mut self, mark: &IndexMark) {
        self.offsets.truncate(mark.offsets);
        self.times.truncate(mark.times);
        self.since_bytes = mark.since_bytes;
        self.max_time_ms = mark.max_time_ms;
        self.max_time_offset = mark.max_time_offset;
    }

    /// From the files' bytes, for a segment of `bytes` whose greatest time is known. None when the offset index is not one of that
    /// segment: to be made again by a scan. Entries beyond the end go: they are of appends that were never committed.
    pub fn decode(offsets: &[u8], times: &[u8], bytes: u64, max_time_ms: i64) -> Option<Self> {
        let mut made = Self { max_time_ms, ..Self::default() };
        for entry in offsets.chunks_exact(8) {
            let entry = OffsetEntry { offset: u32_at(entry, 0)?, position: u32_at(entry, 4)? };
            if u64::from(entry.position) >= bytes {
                break;
            }
            if made.offsets.last().is_some_and(|last| last.offset >= entry.offset || last.position >= entry.position) {
                return None;
            }
            made.offsets.push(entry);
        }
        let last_offset = made.offsets.last().map_or(0, |last| last.offset);
        for entry in times.chunks_exact(12) {
            let entry = TimeEntry { time_ms: i64::from_be_bytes(entry[..8].try_into().ok()?), offset: u32_at(entry, 8)? };
            if entry.offset > last_offset || made.times.last().is_some_and(|last| last.time_ms >= entry.time_ms) {
                break;
            }
            made.times.push(entry);
        }
        made.max_time_offset = made.times.last().map_or(0, |last| last.offset);
        made.since_bytes = bytes - made.offsets.last().map_or(0, |last| u64::from(last.position));
        Some(made)
    }

    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let mut offsets = Vec::with_capacity(self.offsets.len() * 8);
        for entry in &self.offsets {
            offsets.extend_from_slice(&entry.offset.to_be_bytes());
            offsets.extend_from_slice(&entry.position.to_be_bytes());
        }
        let mut times = Vec::with_capacity(self.times.len() * 12);
        for entry in &self.times {
            times.extend_from_slice(&entry.time_ms.to_be_bytes());
            times.extend_from_slice(&entry.offset.to_be_bytes());
        }
        (offsets, times)
    }

    /// Where to begin to look for an offset, given above the segment's base.
    pub fn position_of(&self, offset: u64) -> u64 {
        let after = self.offsets.partition_point(|entry| u64::from(entry.offset) <= offset);
        after.checked_sub(1).map_or(0, |at| u64::from(self.offsets[at].position))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
