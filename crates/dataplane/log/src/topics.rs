//! Topics, retention and what compactions lead to, as the committer does them.

use crate::checkpoint::{Checkpoint, PartitionState, TopicState};
use crate::committer::Committer;
use crate::compaction::{Compacted, Setback};
use crate::entry::{Entry, PartitionKey};
use crate::partition::Partition;
use crate::queue::{AskedTopic, Topic};
use crate::retention::{Span, new_start};
use crate::segment::Segment;
use crate::writer::Writer;
use crate::{codes, metrics};
use mainstem_eventlog::codes::{BAD_TOPIC, PARTITION_HELD};
use mainstem_eventlog::{TopicConfig, TopicPartition};
use mainstem_types::{Error, Result};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Partitions of one topic at most: each has files.
const PARTITIONS_MAX: i32 = 10_000;
const NAME_BYTES_MAX: usize = 200;
/// Topics made with one WAL record: the smallest WAL file holds as many, whatever their names.
const TOPICS_AT_ONCE: usize = 100;
/// Ends the name of a directory that is to be removed.
pub const DELETED: &str = ".deleted";

pub fn partition_dir(dir: &Path, name: &str, partition: i32) -> PathBuf {
    dir.join(format!("{name}-{partition}"))
}

/// Kafka's rule for names, which are file names as well.
fn check_topic(name: &str, config: &TopicConfig) -> Result<()> {
    let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !legal || name.is_empty() || name == "." || name == ".." || name.len() > NAME_BYTES_MAX {
        return Err(Error::fix(BAD_TOPIC, format!("a topic cannot be named {name:?}"))
            .hint("Use letters, digits, '.', '_' and '-', at most 200 of them."));
    }
    if !(1..=PARTITIONS_MAX).contains(&config.partitions) {
        let text = format!("topic {name} cannot have {} partitions, only 1 to {PARTITIONS_MAX}", config.partitions);
        return Err(Error::fix(BAD_TOPIC, text));
    }
    Ok(())
}

impl Committer {
    /// Makes all topics that were asked for by now: a sync of the directory and one of the WAL are for many.
    pub(crate) fn create_topics(&mut self) {
        let mut asked = std::mem::take(&mut self.asked).into_iter();
        while asked.len() > 0 {
            let some: Vec<AskedTopic> = asked.by_ref().take(TOPICS_AT_ONCE).collect();
            let mut fresh = BTreeMap::new();
            for AskedTopic { name, config, .. } in &some {
                if check_topic(name, config).is_ok() && !self.topics.contains_key(name) {
                    fresh.entry(name.clone()).or_insert_with(|| config.clone());
                }
            }
            let made = if fresh.is_empty() { Ok(()) } else { self.make_topics(fresh) };
            for AskedTopic { name, config, answer } in some {
                let outcome = check_topic(&name, &config).and_then(|()| match (self.topics.get(&name), &made) {
                    (Some(topic), _) if topic.config == config => Ok(()),
                    (None, Err(error)) => Err(codes::again(error)),
                    _ => self.alter_topic(&name, config),
                });
                let _ = answer.send(outcome);
            }
        }
    }

    fn make_topics(&mut self, fresh: BTreeMap<String, TopicConfig>) -> Result<()> {
        self.admit(0)?;
        if fresh.keys().any(|name| self.deleted_names.contains(name)) {
            // Files of the earlier topic of this name may still be written or removed by their old paths.
            self.settle();
        }
        let disk = &self.shared.env.disk;
        let dirs = |name: &str, config: &TopicConfig| -> Vec<PathBuf> {
            (0..config.partitions).map(|n| partition_dir(&self.dir, name, n)).collect()
        };
        let mut all = fresh.iter().flat_map(|(name, config)| dirs(name, config));
        let made = all.try_for_each(|dir| disk.create_dir_all(&dir)).and_then(|()| disk.sync_dir(&self.dir));
        if let Err(error) = made {
            return Err(if codes::is_passing(&error) { codes::refused(error) } else { self.poison(error) });
        }
        let entry = |(id, (name, config)): (u32, (&String, &TopicConfig))| Entry::Topic {
            id,
            name: name.clone(),
            config: config.clone(),
        };
        let entries: Vec<Entry<'_>> = (self.next_topic..).zip(&fresh).map(entry).collect();
        self.commit_entries(&entries)?;
        let mut partitions = self.shared.partitions.write();
        for (name, config) in fresh {
            let id = self.next_topic;
            self.next_topic += 1;
            for n in 0..config.partitions {
                let (at, dir) = (TopicPartition::new(&name, n), partition_dir(&self.dir, &name, n).into());
                let partition = Partition::new((id, n), at.clone(), dir, config.clone(), (0, 0), Vec::new(), self.tails.clone());
                self.writers.insert((id, n), Writer::new(partition.clone(), 0, None, 0));
                partitions.insert(at, partition);
            }
            self.topics.insert(name, Topic { id, config });
        }
        Ok(())
    }

    fn alter_topic(&mut self, name: &str, config: TopicConfig) -> Result<()> {
        let Some((id, partitions)) = self.topics.get(name).map(|topic| (topic.id, topic.config.partitions)) else {
            return Ok(());
        };
        if partitions != config.partitions {
            let text = format!("topic {name} has {partitions} partitions, which cannot become {}", config.partitions);
            return Err(Error::fix(BAD_TOPIC, text).hint("Make another topic, or delete this one first."));
        }
        self.commit_entries(&[Entry::Topic { id, name: name.to_owned(), config: config.clone() }])?;
        for (_, writer) in self.writers.range((id, 0)..=(id, i32::MAX)) {
            writer.partition.set_config(config.clone());
        }
        self.topics.insert(name.to_owned(), Topic { id, config });
        Ok(())
    }

    pub(crate) fn delete_topic(&mut self, name: &str) -> Result<()> {
        let Some((id, partitions)) = self.topics.get(name).map(|topic| (topic.id, topic.config.partitions)) else {
            return Ok(());
        };
        if self.writers.range((id, 0)..=(id, i32::MAX)).any(|(_, writer)| writer.held_by.is_some()) {
            let text = format!("an open transaction has topic {name}; delete it when that has ended");
            return Err(Error::retry(PARTITION_HELD, text));
        }
        self.commit_entries(&[Entry::TopicDeleted { id }])?;
        self.topics.remove(name);
        self.deleted_names.insert(name.to_owned());
        let disk = self.shared.env.disk.clone();
        let mut outcome: io::Result<()> = Ok(());
        for n in 0..partitions {
            let at = TopicPartition::new(name, n);
            if let Some(partition) = self.shared.partitions.write().remove(&at) {
                partition.forget();
                // They go with the directory.
                self.pending.forget_dir(&partition.dir);
            }
            self.writers.remove(&(id, n));
            // Under another name at once, so that a topic of the same name never meets these files.
            let gone = self.dir.join(format!("{name}-{n}.{id}{DELETED}"));
            outcome = outcome.and(disk.rename(&partition_dir(&self.dir, name, n), &gone));
            self.pending.gone_dirs.push(gone);
        }
        outcome.and_then(|()| disk.sync_dir(&self.dir)).map_err(|error| self.poison(error))
    }

    /// One pass of retention over all partitions.
    pub(crate) fn retain(&mut self) -> Result<()> {
        let now_ms = self.shared.env.clock.now_us() / 1000;
        let mut cuts = Vec::new();
        for (key, writer) in &self.writers {
            let (_, _, segments) = writer.partition.extent();
            let span = |s: &Arc<Segment>| Span { base: s.base, bytes: s.bytes(), max_time_ms: s.max_time_ms() };
            let spans: Vec<Span> = segments.iter().map(span).collect();
            let config = self.settings.bounds(writer.partition.config());
            cuts.extend(new_start(&config, &spans, writer.partition.floor(), now_ms).map(|start| (*key, start)));
        }
        if cuts.is_empty() {
            return Ok(());
        }
        let entries: Vec<Entry<'_>> = cuts.iter().map(|(key, start)| Entry::Cut { key: *key, start: *start }).collect();
        self.commit_entries(&entries)?;
        for (key, start) in cuts {
            if let Some(writer) = self.writers.get(&key) {
                let gone = writer.partition.cut(start);
                metrics::RETAINED_SEGMENTS.add(gone.len() as u64);
                self.pending.gone.extend(gone);
            }
        }
        Ok(())
    }

    /// Begins a compaction where most is to be gained, unless one runs. `answer` comes when no partition needs one any more.
    pub(crate) fn compact(&mut self, answer: Option<oneshot::Sender<Result<()>>>) {
        let room = (!self.poisoned && !self.cleaner.is_running()).then(|| self.room());
        self.cleaner.start(&self.shared, &self.settings, &self.writers, room, answer);
    }

    /// A compaction has ended.
    pub(crate) fn compacted(&mut self, key: PartitionKey, outcome: Result<Compacted, Setback>) {
        self.cleaner.ended();
        match outcome {
            Ok(compacted) => {
                self.install(key, compacted);
                return self.compact(None);
            }
            // The topic was deleted meanwhile.
            Err(_) if !self.writers.contains_key(&key) => {}
            Err(Setback::Stopped) => {}
            Err(Setback::Io(error)) => tracing::warn!(%error, "a compaction ended early; it is tried again"),
            Err(Setback::Unsynced(error)) => drop(self.poison(error)),
            Err(Setback::Told(error)) => self.cleaner.failed(key, &error),
        }
        self.cleaner.tell_done();
    }

    /// Readers see the new segments from now on; what a start sees, the next checkpoint says.
    fn install(&mut self, key: PartitionKey, compacted: Compacted) {
        let Compacted { old, new, clean_end } = compacted;
        let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|segment| segment.bytes()).sum::<u64>();
        let Some(writer) = self.writers.get_mut(&key) else { return };
        let fresh = new.segments();
        let saved = bytes(&old).saturating_sub(bytes(&fresh));
        if self.poisoned || !writer.partition.swap(&old, fresh) {
            return;
        }
        new.keep();
        writer.clean_end = clean_end;
        self.pending.replaced.extend(old);
        self.changed = true;
        metrics::COMPACTIONS.add(1);
        metrics::COMPACTED_BYTES.add(saved);
    }

    /// What a checkpoint made now says.
    pub(crate) fn state(&self, clean: bool) -> Checkpoint {
        let topics = self.topics.iter().map(|(name, topic)| topic_state(name, topic, self.writers.range((topic.id, 0)..)));
        Checkpoint { clean, wal: self.wal.position(), next_topic: self.next_topic, topics: topics.collect() }
    }
}

/// `writers`: from the topic's first on.
pub fn topic_state<'a>(name: &str, topic: &Topic, writers: impl Iterator<Item = (&'a PartitionKey, &'a Writer)>) -> TopicState {
    let state = |writer: &Writer| {
        let (start, end, segments) = writer.partition.extent();
        let segments = segments.iter().map(|segment| segment.state()).collect();
        PartitionState { start, end, clean_end: writer.clean_end, segments }
    };
    let partitions = writers.take_while(|(key, _)| key.0 == topic.id).map(|(_, writer)| state(writer)).collect();
    TopicState { id: topic.id, name: name.to_owned(), config: topic.config.clone(), partitions }
}
