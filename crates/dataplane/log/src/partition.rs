//! What readers see of a partition: its visible segments, the newest batches in memory, and its end.

use crate::codes;
use crate::entry::PartitionKey;
use crate::index::Indexes;
use crate::metrics;
use crate::segment::{self, Segment};
use bytes::{Bytes, BytesMut};
use mainstem_env::{Disk, DiskFile, OpenMode};
use mainstem_eventlog::codes::{BAD_BATCH, OFFSET_OUT_OF_RANGE};
use mainstem_eventlog::{Cleanup, Fetched, TopicConfig, TopicPartition};
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::sync::watch;

/// Bytes of all memory tails of one log.
#[derive(Default)]
pub struct TailBudget(AtomicU64);

pub struct Partition {
    pub key: PartitionKey,
    pub at: TopicPartition,
    pub dir: Arc<Path>,
    config: Mutex<TopicConfig>,
    visible: Mutex<Visible>,
    end: watch::Sender<i64>,
    /// Below this, consumers need nothing any more; -1 until told.
    floor: AtomicI64,
    /// The segment read last: readers mostly go on where they were.
    reading: Mutex<Option<Reading>>,
    tails: Arc<TailBudget>,
}

struct Visible {
    start: i64,
    end: i64,
    segments: Vec<Arc<Segment>>,
    tail: VecDeque<TailRun>,
    tail_bytes: u64,
}

struct TailRun {
    base: i64,
    end: i64,
    batches: Bytes,
}

#[derive(Clone)]
struct Reading {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Of a sealed segment.
    indexes: Option<Arc<Indexes>>,
}

/// What becomes visible of one segment.
pub struct Publication {
    pub segment: Arc<Segment>,
    /// Of the segment, all it holds now.
    pub bytes: u64,
    pub max_time_ms: i64,
    pub base: i64,
    pub end: i64,
    /// For the memory tail.
    pub batches: Option<Bytes>,
}

/// Either what the memory tail held, or the segment to look in.
enum Found {
    Here(Fetched),
    In(Place),
}

struct Place {
    segment: Arc<Segment>,
    /// Base of the segment after it.
    next: Option<i64>,
    start: i64,
    end: i64,
}

impl Partition {
    pub fn new(
        key: PartitionKey,
        at: TopicPartition,
        dir: Arc<Path>,
        config: TopicConfig,
        (start, end): (i64, i64),
        segments: Vec<Arc<Segment>>,
        tails: Arc<TailBudget>,
    ) -> Arc<Self> {
        let visible = Mutex::new(Visible { start, end, segments, tail: VecDeque::new(), tail_bytes: 0 });
        let (config, end, floor) = (Mutex::new(config), watch::Sender::new(end), AtomicI64::new(-1));
        Arc::new(Self { key, at, dir, config, visible, end, floor, reading: Mutex::new(None), tails })
    }

    pub fn config(&self) -> TopicConfig {
        self.config.lock().clone()
    }

    pub fn is_compact(&self) -> bool {
        self.config.lock().cleanup == Cleanup::Compact
    }

    pub fn set_config(&self, config: TopicConfig) {
        *self.config.lock() = config;
    }

    /// None until one was told.
    pub fn floor(&self) -> Option<i64> {
        Some(self.floor.load(Ordering::Acquire)).filter(|floor| *floor >= 0)
    }

    pub fn set_floor(&self, floor: i64) {
        self.floor.store(floor.max(0), Ordering::Release);
    }

    pub fn subscribe(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    /// Start, end, and the visible segments.
    pub fn extent(&self) -> (i64, i64, Vec<Arc<Segment>>) {
        let visible = self.visible.lock();
        (visible.start, visible.end, visible.segments.clone())
    }

    pub fn bounds(&self) -> (i64, i64, u64) {
        let visible = self.visible.lock();
        (visible.start, visible.end, visible.segments.iter().map(|segment| segment.bytes()).sum())
    }

    /// Makes a durable append visible.
    pub fn publish(&self, run: Publication, tail_bytes_max: u64, tail_total_bytes_max: u64) {
        let mut visible = self.visible.lock();
        run.segment.publish(run.bytes, run.max_time_ms);
        if visible.segments.last().is_none_or(|last| last.base < run.segment.base) {
            visible.segments.push(run.segment);
        }
        visible.end = run.end;
        match run.batches {
            Some(batches) => {
                let bytes = batches.len() as u64;
                visible.tail_bytes += bytes;
                let total = self.tails.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
                visible.tail.push_back(TailRun { base: run.base, end: run.end, batches });
                let crowded = total > tail_total_bytes_max;
                while visible.tail_bytes > tail_bytes_max || (crowded && visible.tail.len() > 1) {
                    self.forget_oldest(&mut visible);
                }
            }
            // The tail has no holes.
            None => while self.forget_oldest(&mut visible) {},
        }
        metrics::TAIL_BYTES.set(self.tails.0.load(Ordering::Relaxed) as i64);
        drop(visible);
    }

    /// Tells subscribers of the end, once all partitions of an append are visible.
    pub fn announce(&self) {
        let end = self.visible.lock().end;
        self.end.send_if_modified(|old| std::mem::replace(old, end) != end);
    }

    fn forget_oldest(&self, visible: &mut Visible) -> bool {
        let Some(run) = visible.tail.pop_front() else { return false };
        let bytes = run.batches.len() as u64;
        visible.tail_bytes -= bytes;
        self.tails.0.fetch_sub(bytes, Ordering::Relaxed);
        true
    }

    /// Forgets segments below a new start and returns them.
    pub fn cut(&self, start: i64) -> Vec<Arc<Segment>> {
        let mut visible = self.visible.lock();
        // A segment whose successor begins at the start or before holds nothing that is still there.
        let gone = visible.segments.iter().skip(1).take_while(|next| next.base <= start).count();
        visible.start = visible.start.max(start);
        while visible.tail.front().is_some_and(|run| run.end <= start) {
            self.forget_oldest(&mut visible);
        }
        visible.segments.drain(..gone).collect()
    }

    /// Puts segments in the place of the first ones, if these are still what it begins with, and others come after.
    pub fn swap(&self, old: &[Arc<Segment>], new: Vec<Arc<Segment>>) -> bool {
        let mut visible = self.visible.lock();
        let same = visible.segments.iter().zip(old).all(|(segment, old)| Arc::ptr_eq(segment, old));
        if !same || visible.segments.len() <= old.len() {
            return false;
        }
        visible.segments.splice(..old.len(), new);
        true
    }

    /// The topic is gone: what its memory tail held counts no more.
    pub fn forget(&self) {
        let mut visible = self.visible.lock();
        while self.forget_oldest(&mut visible) {}
    }

    /// See `EventLog::read`.
    pub async fn read(self: &Arc<Self>, disk: &Arc<dyn Disk>, offset: i64, bytes_max: usize) -> Result<Fetched> {
        match self.look(offset, bytes_max)? {
            Found::Here(fetched) => Ok(fetched),
            Found::In(_) => {
                let (partition, disk) = (self.clone(), disk.clone());
                let read = mainstem_env::blocking(move || partition.read_segment(&*disk, offset, bytes_max)).await;
                read.unwrap_or_else(|| Err(Error::bug(codes::READ_FAILED, "a read of the log ended without an answer")))
            }
        }
    }

    fn look(&self, offset: i64, bytes_max: usize) -> Result<Found> {
        let visible = self.visible.lock();
        let (start, end) = (visible.start, visible.end);
        if offset < start || offset > end {
            let text = format!("offset {offset} of {} is not between its start {start} and its end {end}", self.at);
            return Err(
                Error::fix(OFFSET_OUT_OF_RANGE, text).hint("Begin again at the start or the end; retention may have deleted it.")
            );
        }
        if offset == end {
            return Ok(Found::Here(Fetched { batches: Bytes::new(), end, start }));
        }
        let at = visible.tail.partition_point(|run| run.end <= offset);
        let Some(first) = visible.tail.get(at).filter(|run| run.base <= offset) else {
            // Before the first: a compaction left nothing of those that began lower.
            let at = visible.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1);
            let lost = || Error::bug(codes::READ_FAILED, format!("no segment of {} holds offset {offset}", self.at));
            let segment = visible.segments.get(at).cloned().ok_or_else(lost)?;
            let next = visible.segments.get(at + 1).map(|segment| segment.base);
            return Ok(Found::In(Place { segment, next, start, end }));
        };
        let mut batches = segment::cut(&first.batches, offset, bytes_max)?;
        let reached_end = |part: &Bytes, run: &TailRun| part.as_ptr_range().end == run.batches.as_ptr_range().end;
        if reached_end(&batches, first) && visible.tail.len() > at + 1 && batches.len() < bytes_max {
            let mut joined = BytesMut::from(&batches[..]);
            for run in visible.tail.iter().skip(at + 1) {
                if joined.len() + run.batches.len() > bytes_max {
                    break;
                }
                joined.extend_from_slice(&run.batches);
            }
            batches = joined.freeze();
        }
        metrics::READ_BYTES.add(batches.len() as u64);
        Ok(Found::Here(Fetched { batches, end, start }))
    }

    fn read_segment(&self, disk: &dyn Disk, mut offset: i64, bytes_max: usize) -> Result<Fetched> {
        loop {
            let place = match self.look(offset, bytes_max)? {
                Found::Here(fetched) => return Ok(fetched),
                Found::In(place) => place,
            };
            let batches = match self.read_in(disk, &place.segment, offset, bytes_max) {
                Ok(batches) => batches,
                Err(error) => match self.look(offset, bytes_max)? {
                    Found::In(now) if Arc::ptr_eq(&now.segment, &place.segment) => return Err(error),
                    // Retention or a compaction was faster: its records are elsewhere by now.
                    _ => continue,
                },
            };
            if !batches.is_empty() {
                metrics::READ_BYTES.add(batches.len() as u64);
                metrics::READ_DISK_BYTES.add(batches.len() as u64);
                return Ok(Fetched { batches, end: place.end, start: place.start });
            }
            // A compaction left nothing from here to the end of the segment. Of the last segment it takes nothing.
            offset = place.next.filter(|next| *next > offset).ok_or_else(|| {
                Error::corrupt(BAD_BATCH, format!("offset {offset} of {} is missing from its segment", self.at))
            })?;
        }
    }

    fn read_in(&self, disk: &dyn Disk, segment: &Arc<Segment>, offset: i64, bytes_max: usize) -> Result<Bytes> {
        let reading = self.open(disk, segment)?;
        let visible = segment.bytes();
        let above = offset.saturating_sub(segment.base).max(0) as u64;
        let from = match &reading.indexes {
            Some(indexes) => indexes.position_of(above),
            None => segment.indexes.lock().as_ref().map_or(0, |indexes| indexes.position_of(above)),
        };
        segment::read(&*reading.file, &segment.path("log"), from, visible, offset, bytes_max)
    }

    fn open(&self, disk: &dyn Disk, segment: &Arc<Segment>) -> Result<Reading> {
        let known = self.reading.lock().clone().filter(|reading| Arc::ptr_eq(&reading.segment, segment));
        let in_memory = segment.indexes.lock().is_some();
        if let Some(reading) = known.filter(|reading| in_memory || reading.indexes.is_some()) {
            return Ok(reading);
        }
        let path = segment.path("log");
        let file = disk.open(&path, OpenMode::Read).map_err(|e| codes::read_failed(&path, e))?;
        let indexes = if in_memory { None } else { Some(Arc::new(segment.load_indexes(disk, &*file)?)) };
        let reading = Reading { segment: segment.clone(), file, indexes };
        *self.reading.lock() = Some(reading.clone());
        Ok(reading)
    }
}
