//! Start: the last checkpoint, then the WAL behind it, then everything cut back to exactly that.

use crate::checkpoint::{self, Checkpoint, FILE_NAME, Work};
use crate::codes;
use crate::entry::{self, Entry, PartEntry, PartitionKey};
use crate::partition::{Partition, Publication, TailBudget};
use crate::queue::{Recovered, Topic};
use crate::segment::{Active, Segment, parse_name};
use crate::settings::LogSettings;
use crate::topics::{DELETED, partition_dir, topic_state};
use crate::wal::{SEQUENCE_JUMP, Wal, WalStart};
use crate::writer::{Failure, Writer};
use mainstem_env::{Disk, OpenMode};
use mainstem_eventlog::{TopicConfig, TopicPartition};
use mainstem_types::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const WAL_DIR: &str = "wal";

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    next_topic: u32,
    writers: BTreeMap<PartitionKey, Writer>,
    topics: BTreeMap<String, Topic>,
    deleted: HashSet<u32>,
    tails: Arc<TailBudget>,
}

/// An error of the disk or of what it holds.
enum Trouble {
    Io(io::Error),
    Told(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(error) => Self::Io(error),
            Failure::Refused(error) => Self::Told(error),
        }
    }
}

/// Opens the log's directory, made when missing.
pub fn recover(disk: &Arc<dyn Disk>, dir: &Path, settings: &LogSettings) -> Result<Recovered> {
    try_recover(disk, dir, settings).map_err(|trouble| match trouble {
        Trouble::Told(error) => error,
        Trouble::Io(error) if codes::is_passing(&error) => codes::refused(error),
        Trouble::Io(error) => codes::open_failed(dir, "the disk answers with an error").caused_by(error),
    })
}

fn try_recover(disk: &Arc<dyn Disk>, dir: &Path, settings: &LogSettings) -> Result<Recovered, Trouble> {
    let wal_dir = dir.join(WAL_DIR);
    disk.create_dir_all(&wal_dir)?;
    disk.sync_dir(dir)?;
    let last = read_checkpoint(&**disk, dir)?;
    let mut wal = Wal::open(disk.clone(), &wal_dir, settings.wal_file_bytes)?;
    let mut recovery = Recovery {
        disk,
        dir,
        next_topic: last.next_topic,
        writers: BTreeMap::new(),
        topics: BTreeMap::new(),
        deleted: HashSet::new(),
        tails: Arc::default(),
    };
    wal.replay(last.wal, |payload| recovery.note_deletions(payload))?;
    recovery.load(&last)?;
    let sequence = wal.replay(last.wal, |payload| recovery.apply(payload))?;
    if sequence > last.wal.sequence {
        tracing::info!(records = sequence - last.wal.sequence, "replayed the log's WAL");
    }
    let mut work = Work::default();
    if !last.clean || sequence > last.wal.sequence {
        recovery.cut_files()?;
    }
    for writer in recovery.writers.values_mut() {
        work.segments.extend(writer.take_dirty().into_iter().flatten());
        if std::mem::take(&mut writer.dir_dirty) {
            work.dirs.push(writer.partition.dir.clone());
        }
    }
    let start = wal.restart(sequence + SEQUENCE_JUMP)?;
    let Recovery { writers, topics, tails, next_topic, .. } = recovery;
    let states = topics.iter().map(|(name, topic)| topic_state(name, topic, writers.range((topic.id, 0)..))).collect();
    let checkpoint = Checkpoint { clean: false, wal: start, next_topic, topics: states };
    work.checkpoint = Some(checkpoint.clone());
    checkpoint::perform(&**disk, dir, &work)?;
    wal.trim()?;
    Ok(Recovered { checkpoint, writers, topics, wal, tails })
}

fn read_checkpoint(disk: &dyn Disk, dir: &Path) -> Result<Checkpoint, Trouble> {
    let path = dir.join(FILE_NAME);
    if disk.exists(&path) {
        return Ok(Checkpoint::decode(&disk.read(&path)?, &path)?);
    }
    if disk.list(dir)?.iter().any(|name| is_partition_dir(name)) {
        let error = codes::open_failed(&path, "it is missing, yet there are topics");
        return Err(error.hint("Restore the file from a backup of the same moment as the rest of the directory.").into());
    }
    let wal = WalStart { file: 0, offset: 0, sequence: 1 };
    Ok(Checkpoint { clean: true, wal, next_topic: 1, topics: Vec::new() })
}

fn is_partition_dir(name: &str) -> bool {
    name.ends_with(DELETED) || name.rsplit_once('-').is_some_and(|(_, number)| number.parse::<u32>().is_ok())
}

impl Recovery<'_> {
    fn entries<'p>(&self, payload: &'p [u8]) -> Result<Vec<Entry<'p>>, Trouble> {
        let bad = || codes::open_failed(&self.dir.join(WAL_DIR), "a whole record holds entries of no known form");
        Ok(entry::decode(payload).ok_or_else(bad)?)
    }

    fn note_deletions(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        for entry in self.entries(payload)? {
            if let Entry::TopicDeleted { id } = entry {
                self.deleted.insert(id);
            }
        }
        Ok(())
    }

    fn load(&mut self, checkpoint: &Checkpoint) -> Result<(), Trouble> {
        for topic in checkpoint.topics.iter().filter(|topic| !self.deleted.contains(&topic.id)) {
            for (n, state) in (0..).zip(&topic.partitions) {
                let dir: Arc<Path> = partition_dir(self.dir, &topic.name, n).into();
                let segments: Vec<_> = state.segments.iter().map(|state| Segment::known(dir.clone(), state)).collect();
                let active = segments.last().map(|last| self.open_active(last)).transpose()?;
                let at = TopicPartition::new(&topic.name, n);
                let (bounds, tails) = ((state.start, state.end), self.tails.clone());
                let partition = Partition::new((topic.id, n), at, dir, topic.config.clone(), bounds, segments, tails);
                self.writers.insert((topic.id, n), Writer::new(partition, state.end, active, state.clean_end));
            }
            self.topics.insert(topic.name.clone(), Topic { id: topic.id, config: topic.config.clone() });
        }
        Ok(())
    }

    fn open_active(&self, segment: &Arc<Segment>) -> Result<Active, Trouble> {
        let path = segment.path("log");
        let position = segment.bytes();
        if !self.disk.exists(&path) {
            return Err(codes::open_failed(&path, "a segment is missing").into());
        }
        let file = self.disk.open(&path, OpenMode::Write)?;
        if file.len()? < position {
            return Err(codes::open_failed(&path, "a segment is shorter than what was synced").into());
        }
        Ok(Active { segment: segment.clone(), file, position })
    }

    fn apply(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        for entry in self.entries(payload)? {
            match entry {
                Entry::Part(part) => self.apply_part(&part)?,
                Entry::Topic { id, name, config } if !self.deleted.contains(&id) => self.apply_topic(id, name, config)?,
                Entry::Topic { id, .. } => self.next_topic = self.next_topic.max(id + 1),
                Entry::TopicDeleted { .. } => {}
                Entry::Cut { key, start } => {
                    if let Some(writer) = self.writers.get(&key) {
                        writer.partition.cut(start);
                    }
                }
            }
        }
        Ok(())
    }

    fn apply_topic(&mut self, id: u32, name: String, config: TopicConfig) -> Result<(), Trouble> {
        self.next_topic = self.next_topic.max(id.saturating_add(1));
        for n in 0..config.partitions {
            if let Some(writer) = self.writers.get(&(id, n)) {
                writer.partition.set_config(config.clone());
                continue;
            }
            let dir = partition_dir(self.dir, &name, n);
            self.disk.create_dir_all(&dir)?;
            let at = TopicPartition::new(&name, n);
            let tails = self.tails.clone();
            let partition = Partition::new((id, n), at, dir.into(), config.clone(), (0, 0), Vec::new(), tails);
            self.writers.insert((id, n), Writer::new(partition, 0, None, 0));
        }
        self.topics.insert(name, Topic { id, config });
        Ok(())
    }

    fn apply_part(&mut self, part: &PartEntry<'_>) -> Result<(), Trouble> {
        if self.deleted.contains(&part.key.0) {
            return Ok(());
        }
        let wal_dir = self.dir.join(WAL_DIR);
        let bad = |what: &str| Trouble::Told(codes::open_failed(&wal_dir, what));
        let writer = self.writers.get_mut(&part.key).ok_or_else(|| bad("an append to a topic that never was"))?;
        if writer.active.as_ref().is_none_or(|active| active.segment.base != part.segment) {
            writer.roll(&**self.disk, part.segment, true)?;
        }
        let Some(active) = writer.active.clone() else { return Ok(()) };
        if active.position != part.position || writer.next != part.base_offset {
            return Err(bad("an append does not go on where its partition ends"));
        }
        match part.inline {
            Some(batches) => writer.write(&**self.disk, batches, part.records)?,
            None if active.file.len()? < part.position + part.bytes => {
                return Err(bad("a segment is shorter than what was synced"));
            }
            None => writer.adopt(&**self.disk, part.bytes, part.records)?,
        }
        let max_time_ms = active.segment.indexes.lock().as_ref().map_or(i64::MIN, |indexes| indexes.max_time_ms);
        let bytes = part.position + part.bytes;
        let end = part.base_offset + part.records as i64;
        let run = Publication { segment: active.segment, bytes, max_time_ms, base: part.base_offset, end, batches: None };
        writer.partition.publish(run, 0, 0);
        writer.partition.announce();
        writer.published();
        Ok(())
    }

    /// Removes and cuts what no commit speaks of.
    fn cut_files(&mut self) -> Result<(), Trouble> {
        let mut live: HashSet<PathBuf> = HashSet::new();
        for writer in self.writers.values() {
            let dir = &writer.partition.dir;
            live.insert(dir.to_path_buf());
            let (_, _, segments) = writer.partition.extent();
            let known: HashSet<(i64, u32)> = segments.iter().map(|segment| (segment.base, segment.generation)).collect();
            for name in self.disk.list(dir)? {
                if parse_name(&name).is_some_and(|named| !known.contains(&named)) {
                    self.disk.remove_file(&dir.join(name))?;
                }
            }
            for active in writer.written() {
                if active.file.len()? > active.position {
                    active.file.set_len(active.position)?;
                }
            }
        }
        for name in self.disk.list(self.dir)? {
            let path = self.dir.join(&name);
            if is_partition_dir(&name) && !live.contains(&path) {
                self.disk.remove_dir_all(&path)?;
            }
        }
        self.disk.sync_dir(self.dir)?;
        Ok(())
    }
}
