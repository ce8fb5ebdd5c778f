//! Compaction of one partition of a compact topic, as Kafka's log cleaner does it: the last record per key stays, with its offset. The
//! sealed segments are written anew beside the old ones; the next checkpoint decides which of them there are.

use crate::files::sync_all;
use crate::index::Indexes;
use crate::segment::{self, Segment, SegmentState};
use bytes::Bytes;
use mainstem_env::{Disk, DiskFile, OpenMode};
use mainstem_eventlog::batch::{self, HEADER_BYTES, RecordView};
use mainstem_types::Error;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of keys, with what a map entry costs beside them, that one pass remembers; with more it cleans as far as they reach.
pub const KEY_BYTES_MAX: usize = 64 << 20;
const KEY_ENTRY_BYTES: usize = 64;
/// How long a tombstone stays once all that it deletes is gone, for readers who saw that (Kafka: `delete.retention.ms`).
const TOMBSTONE_MS: i64 = 24 * 60 * 60 * 1000;
/// Read and written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What is to be done, fixed when it begins.
pub struct Pass {
    /// All sealed segments, and the one that is written.
    pub sealed: Vec<Arc<Segment>>,
    pub active: Arc<Segment>,
    /// Below it an earlier pass left one record per key.
    pub clean_end: i64,
    pub segment_bytes_max: u64,
    pub key_bytes_max: usize,
    pub now_ms: i64,
    pub disk: Arc<dyn Disk>,
    pub stop: Arc<AtomicBool>,
}

/// Segments that can take the place of others; durable.
pub struct Compacted {
    pub old: Vec<Arc<Segment>>,
    pub new: Fresh,
    pub clean_end: i64,
}

/// Files that nothing names yet. They go with this, unless taken.
pub struct Fresh {
    disk: Arc<dyn Disk>,
    segments: Vec<Arc<Segment>>,
}

/// Why a pass did not end.
pub enum Setback {
    Stopped,
    /// Nothing is lost: a later pass may do better.
    Io(io::Error),
    /// A failed sync.
    Unsynced(io::Error),
    /// Of the records.
    Told(Error),
}

impl From<io::Error> for Setback {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl Fresh {
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.clone()
    }

    /// Something names them now.
    pub fn keep(mut self) {
        self.segments.clear();
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        for segment in &self.segments {
            // A start after a crash removes what stays.
            let _ = segment.remove(&*self.disk);
        }
    }
}

/// The last offset per key, of the records from some offset on.
struct LastWords {
    offsets: HashMap<Box<[u8]>, i64>,
    bytes: usize,
    /// Records from here on are not in it.
    end: i64,
}

/// Bytes in sealed segments below and not below `clean_end`. `sealed`: (end offset, bytes) of each.
pub fn clean_and_dirty(sealed: impl Iterator<Item = (i64, u64)>, clean_end: i64) -> (u64, u64) {
    sealed.fold(
        (0, 0),
        |(clean, dirty), (end, bytes)| if end <= clean_end { (clean + bytes, dirty) } else { (clean, dirty + bytes) },
    )
}

/// Half of the bytes are new: each byte is rewritten about twice over its life (Kafka: `min.cleanable.dirty.ratio`).
pub fn is_due(clean: u64, dirty: u64) -> bool {
    dirty > 0 && dirty >= clean
}

impl Pass {
    pub fn run(self) -> Result<Compacted, Setback> {
        let words = self.last_words()?;
        let clean_end = words.end.min(self.active.base);
        let inputs = self.sealed.partition_point(|segment| segment.base < clean_end);
        let old = self.sealed[..inputs].to_vec();
        let mut out = Output::new(&self, &old);
        let keep = |view: &RecordView<'_>, horizon_ms: Option<i64>| {
            // A topic may have been made compact after records without a key were in it: they stay.
            let Some(key) = view.key else { return true };
            let is_last = words.offsets.get(key).is_none_or(|last| *last <= view.offset);
            let expired = view.value.is_none() && horizon_ms.is_some_and(|horizon_ms| self.now_ms >= horizon_ms);
            is_last && !expired
        };
        for segment in &old {
            self.each_batch(segment, |batch| {
                let end = batch::BatchHeader::parse(&batch)?.end();
                // What a tombstone further up deletes may still be there.
                let horizon_ms = (end <= clean_end).then(|| self.now_ms.saturating_add(TOMBSTONE_MS));
                out.put(batch::retain(&batch, horizon_ms, keep)?)?;
                Ok(true)
            })?;
        }
        Ok(Compacted { old, new: out.finish()?, clean_end })
    }

    fn last_words(&self) -> Result<LastWords, Setback> {
        let mut words = LastWords { offsets: HashMap::new(), bytes: 0, end: i64::MAX };
        let first = self.sealed.iter().skip(1).chain([&self.active]).take_while(|next| next.base <= self.clean_end).count();
        for segment in self.sealed.iter().skip(first).chain([&self.active]) {
            let more = self.each_batch(segment, |batch| {
                if batch::BatchHeader::parse(&batch)?.end() > self.clean_end {
                    batch::visit(&batch, |view| {
                        if view.offset >= self.clean_end {
                            words.note(&view, self.key_bytes_max);
                        }
                        Ok(())
                    })?;
                }
                Ok(words.end == i64::MAX)
            })?;
            if !more {
                break;
            }
        }
        Ok(words)
    }

    /// Shows the batches of a segment one by one while `each` answers true; returns its last answer.
    fn each_batch(&self, segment: &Segment, mut each: impl FnMut(Bytes) -> Result<bool, Setback>) -> Result<bool, Setback> {
        let path = segment.path("log");
        let file = self.disk.open(&path, OpenMode::Read)?;
        let (mut at, end) = (0, segment.bytes());
        while at < end {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Setback::Stopped);
            }
            let run = segment::read(&*file, &path, at, end, 0, CHUNK_BYTES)?;
            if run.is_empty() {
                break;
            }
            for item in batch::headers(&run) {
                let (from, header) = item?;
                if !each(run.slice(from..from + header.bytes))? {
                    return Ok(false);
                }
            }
            at += run.len() as u64;
        }
        Ok(true)
    }
}

impl LastWords {
    /// At least one key has room.
    fn note(&mut self, view: &RecordView<'_>, key_bytes_max: usize) {
        let Some(key) = view.key.filter(|_| self.end == i64::MAX) else { return };
        if let Some(last) = self.offsets.get_mut(key) {
            *last = view.offset;
        } else if self.offsets.is_empty() || self.bytes + key.len() + KEY_ENTRY_BYTES <= key_bytes_max {
            self.bytes += key.len() + KEY_ENTRY_BYTES;
            self.offsets.insert(key.into(), view.offset);
        } else {
            self.end = view.offset;
        }
    }
}

/// The new segments while they are written.
struct Output {
    fresh: Fresh,
    dir: Arc<Path>,
    generation: u32,
    segment_bytes_max: u64,
    /// Of the next segment; None: that of its first batch.
    base: Option<i64>,
    open: Option<OpenSegment>,
    files: Vec<Arc<dyn DiskFile>>,
}

struct OpenSegment {
    base: i64,
    file: Arc<dyn DiskFile>,
    written: u64,
    buffer: Vec<u8>,
    indexes: Indexes,
}

impl Output {
    fn new(pass: &Pass, old: &[Arc<Segment>]) -> Self {
        Self {
            fresh: Fresh { disk: pass.disk.clone(), segments: Vec::new() },
            dir: pass.active.dir.clone(),
            generation: old.iter().map(|segment| segment.generation).max().unwrap_or_default().saturating_add(1),
            segment_bytes_max: pass.segment_bytes_max,
            base: old.first().map(|segment| segment.base),
            open: None,
            files: Vec::new(),
        }
    }

    /// Adds a batch, if it is one.
    fn put(&mut self, batch: Bytes) -> Result<(), Setback> {
        if batch.len() < HEADER_BYTES {
            return Ok(());
        }
        let header = batch::BatchHeader::parse(&batch)?;
        let full = |open: &OpenSegment| {
            let far = header.end() - open.base > i64::from(i32::MAX);
            open.position() + batch.len() as u64 > self.segment_bytes_max || far
        };
        if self.open.as_ref().is_some_and(full) {
            self.seal()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(self.base.unwrap_or(header.base_offset))?,
        };
        open.indexes.note(open.base, open.position(), &header);
        open.buffer.extend_from_slice(&batch);
        if open.buffer.len() >= CHUNK_BYTES {
            open.write()?;
        }
        self.open = Some(open);
        Ok(())
    }

    fn begin(&mut self, base: i64) -> Result<OpenSegment, Setback> {
        self.base = None;
        let state = SegmentState { base, generation: self.generation, bytes: 0, max_time_ms: i64::MIN };
        let segment = Segment::known(self.dir.clone(), &state);
        // Of a pass that came to nothing.
        segment.remove(&*self.fresh.disk)?;
        let file = self.fresh.disk.open(&segment.path("log"), OpenMode::CreateNew)?;
        self.fresh.segments.push(segment);
        Ok(OpenSegment { base, file, written: 0, buffer: Vec::new(), indexes: Indexes::default() })
    }

    fn seal(&mut self) -> Result<(), Setback> {
        let (Some(mut open), Some(segment)) = (self.open.take(), self.fresh.segments.last()) else { return Ok(()) };
        open.write()?;
        segment.publish(open.written, open.indexes.max_time_ms);
        self.files.extend(segment.write_indexes(&*self.fresh.disk, &open.indexes)?);
        self.files.push(open.file);
        Ok(())
    }

    fn finish(mut self) -> Result<Fresh, Setback> {
        self.seal()?;
        sync_all(&self.files).and_then(|()| self.fresh.disk.sync_dir(&self.dir)).map_err(Setback::Unsynced)?;
        Ok(self.fresh)
    }
}

impl OpenSegment {
    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)] // a test says what is wrong by failing; seeded randomness
mod tests {
    use super::*;
    use mainstem_eventlog::RecordBatchBuilder;
    use mainstem_testkit::disk::SimDisk;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeMap;

    type Words = BTreeMap<i64, (u8, Option<u8>)>;

    /// Segments of random batches, and what they say.
    fn segments(disk: &Arc<dyn Disk>, rng: &mut StdRng, count: usize) -> (Vec<Arc<Segment>>, Words) {
        let dir: Arc<Path> = Path::new("/t-0").into();
        disk.create_dir_all(&dir).unwrap();
        let (mut segments, mut said, mut next) = (Vec::new(), Words::new(), 0);
        for _ in 0..count {
            let segment = Segment::empty(dir.clone(), next);
            let file = disk.open(&segment.path("log"), OpenMode::CreateNew).unwrap();
            let mut bytes = Vec::new();
            for _ in 0..rng.random_range(1..5) {
                let mut builder = RecordBatchBuilder::new(0);
                let base = next;
                for _ in 0..rng.random_range(1..5) {
                    let word = (rng.random_range(0..12), rng.random_bool(0.7).then(|| rng.random()));
                    builder.push(0, Some(&[word.0]), word.1.as_ref().map(std::slice::from_ref), &[]);
                    said.insert(next, word);
                    next += 1;
                }
                let mut batch = builder.finish().to_vec();
                batch::set_base_offset(&mut batch, base);
                bytes.extend(batch);
            }
            file.write_all_at(&bytes, 0).unwrap();
            segment.publish(bytes.len() as u64, 0);
            segments.push(segment);
        }
        (segments, said)
    }

    fn content(disk: &dyn Disk, segments: &[Arc<Segment>]) -> Words {
        let read = |segment: &Arc<Segment>| batch::records(&disk.read(&segment.path("log")).unwrap().into()).unwrap();
        let word =
            |record: mainstem_eventlog::RecordRef| (record.offset, (record.key.unwrap()[0], record.value.map(|value| value[0])));
        segments.iter().flat_map(read).map(word).collect()
    }

    /// Passes that remember a few keys only, one after the other until all is clean: after each, nothing is lost that a reader needs,
    /// and below the place reached there is one record per key.
    fn check(seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let (mut segments, said) = segments(&disk, &mut rng, 6);
        let (mut clean_end, mut now_ms) = (0, 0);
        let active = segments.pop().unwrap();
        while clean_end < active.base {
            let pass = Pass {
                sealed: segments.clone(),
                active: active.clone(),
                clean_end,
                segment_bytes_max: rng.random_range(1..500),
                key_bytes_max: rng.random_range(0..8) * 65,
                now_ms,
                disk: disk.clone(),
                stop: Arc::default(),
            };
            let compacted = pass.run().unwrap_or_else(|_| panic!("seed {seed}: a setback"));
            assert!(compacted.clean_end > clean_end && compacted.clean_end <= active.base, "seed {seed}: no progress");
            clean_end = compacted.clean_end;
            segments.splice(..compacted.old.len(), compacted.new.segments());
            compacted.new.keep();
            assert!(segments.is_sorted_by(|a, b| a.base < b.base), "seed {seed}");
            let there = content(&*disk, &[&segments[..], std::slice::from_ref(&active)].concat());
            let mut last: BTreeMap<u8, (i64, Option<u8>)> = BTreeMap::new();
            for (offset, (key, value)) in &said {
                last.insert(*key, (*offset, *value));
            }
            let mut clean_keys = std::collections::BTreeSet::new();
            for (offset, word) in &there {
                assert_eq!(said.get(offset), Some(word), "seed {seed}");
                assert!(*offset >= clean_end || clean_keys.insert(word.0), "seed {seed}: key {} twice below {clean_end}", word.0);
            }
            for (key, (offset, value)) in last {
                let kept = there.contains_key(&offset);
                let older = there.range(..offset).any(|(_, word)| word.0 == key);
                assert!(kept || (value.is_none() && !older), "seed {seed}: the last word of {key} at {offset} is gone");
            }
            now_ms += [0, TOMBSTONE_MS][rng.random_range(0..2)];
        }
    }

    #[test]
    fn the_last_words_stay() {
        (0..500).for_each(check);
    }

    #[test]
    fn when_it_is_worth_it() {
        let sealed = [(10, 100), (20, 50), (30, 60)];
        let check = |clean_end, expected: (u64, u64), due| {
            let (clean, dirty) = clean_and_dirty(sealed.into_iter(), clean_end);
            assert_eq!(((clean, dirty), is_due(clean, dirty)), (expected, due), "clean up to {clean_end}");
        };
        check(0, (0, 210), true);
        check(10, (100, 110), true);
        check(19, (100, 110), true);
        check(20, (150, 60), false);
        check(30, (210, 0), false);
        assert!(!is_due(0, 0));
    }
}
