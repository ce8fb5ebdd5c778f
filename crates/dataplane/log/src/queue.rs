//! What the doors of the log ask of its committer, and what both look at.

use crate::checkpoint::{Checkpoint, Work};
use crate::codes;
use crate::compaction::{Compacted, Setback};
use crate::entry::PartitionKey;
use crate::partition::Partition;
use bytes::Bytes;
use mainstem_env::Env;
use mainstem_eventlog::codes::BAD_APPEND;
use mainstem_eventlog::{Seal, TopicConfig, TopicPartition};
use mainstem_types::{Error, Result};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Checked batches for one partition.
pub struct Part {
    pub partition: Arc<Partition>,
    pub batches: Bytes,
    pub records: u64,
}

/// An append, or a piece or the end of a transaction.
pub struct Append {
    pub parts: Vec<Part>,
    pub seal: Option<Seal>,
    pub answer: oneshot::Sender<Result<Vec<i64>>>,
}

/// A topic to be made, altered, or found as it is.
pub struct AskedTopic {
    pub name: String,
    pub config: TopicConfig,
    pub answer: oneshot::Sender<Result<()>>,
}

pub enum Job {
    Append(Append),
    Piece {
        transaction: u64,
        append: Append,
    },
    Commit {
        transaction: u64,
        append: Append,
    },
    Abort {
        transaction: u64,
    },
    CreateTopic(AskedTopic),
    DeleteTopic {
        name: String,
        answer: oneshot::Sender<Result<()>>,
    },
    /// One pass of retention, and compactions until none is due.
    Retain {
        answer: oneshot::Sender<Result<()>>,
    },
    Compacted {
        key: PartitionKey,
        outcome: Result<Compacted, Setback>,
    },
    Checkpointed {
        work: Work,
        outcome: io::Result<()>,
    },
    Close {
        answer: Option<oneshot::Sender<()>>,
    },
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    closed: bool,
}

pub struct Shared {
    pub env: Env,
    pub partitions: RwLock<HashMap<TopicPartition, Arc<Partition>>>,
    pub next_transaction: AtomicU64,
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Shared {
    pub fn new(env: Env) -> Self {
        Self {
            env,
            partitions: RwLock::default(),
            next_transaction: AtomicU64::new(1),
            queue: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    pub fn transaction(&self) -> u64 {
        self.next_transaction.fetch_add(1, Ordering::Relaxed)
    }

    /// False: the log is closed and the job is dropped, with whoever waits for its answer.
    pub fn give(&self, job: Job) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed {
            return false;
        }
        let first = queue.jobs.is_empty();
        queue.jobs.push(job);
        drop(queue);
        if first {
            self.wake.notify_one();
        }
        true
    }

    /// Gives a job and waits for its answer.
    pub async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job) -> Result<T> {
        let (answer, wait) = oneshot::channel();
        if !self.give(job(answer)) {
            return Err(codes::closed());
        }
        wait.await.unwrap_or_else(|_| Err(codes::closed()))
    }

    /// All that is queued; waits for the first.
    pub fn take(&self, jobs: &mut Vec<Job>, wait: Duration) {
        let mut queue = self.queue.lock();
        if queue.jobs.is_empty() {
            self.wake.wait_for(&mut queue, wait);
        }
        std::mem::swap(&mut queue.jobs, jobs);
    }

    /// Refuses jobs from now on and returns those that came too late.
    pub fn close(&self) -> Vec<Job> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        std::mem::take(&mut queue.jobs)
    }

    pub fn find(&self, at: &TopicPartition) -> Result<Arc<Partition>> {
        self.partitions.read().get(at).cloned().ok_or_else(|| crate::writer::unknown(at))
    }
}

/// Batches as a caller gave them, checked as far as offsets go; their checksums are those of who built them.
pub fn check_part(partition: Arc<Partition>, batches: Bytes, records: u32) -> Result<Part> {
    let mut counted = 0_i64;
    for item in mainstem_eventlog::batch::headers(&batches) {
        let (_, header) = item?;
        counted += i64::from(header.last_offset_delta) + 1;
    }
    let contradiction = |what: String| Err(Error::bug(BAD_APPEND, format!("an append to {}: {what}", partition.at)));
    if counted != i64::from(records) || counted == 0 {
        return contradiction(format!("{records} records were announced, its batches hold {counted}"));
    }
    if batches.len() as u64 > crate::settings::PART_BYTES_MAX {
        return contradiction(format!(
            "{} bytes in one part; a transaction of pieces may be as large as the disk",
            batches.len()
        ));
    }
    if partition.is_compact() {
        mainstem_eventlog::batch::visit(&batches, |view| match view.key {
            Some(_) => Ok(()),
            None => Err(codes::key_missing(&partition.at)),
        })?;
    }
    Ok(Part { partition, batches, records: counted as u64 })
}

/// What a topic is, for the committer and recovery.
pub struct Topic {
    pub id: u32,
    pub config: TopicConfig,
}

/// What recovery hands to the committer beside the writers.
pub struct Recovered {
    pub checkpoint: Checkpoint,
    pub writers: std::collections::BTreeMap<PartitionKey, crate::writer::Writer>,
    pub topics: std::collections::BTreeMap<String, Topic>,
    pub wal: crate::wal::Wal,
    pub tails: Arc<crate::partition::TailBudget>,
}
