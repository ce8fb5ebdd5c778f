//! The log on this machine's disk: the doors. What happens behind them: `docs/rfcs/0001-log.md`.

use crate::committer::Committer;
use crate::queue::{Append, AskedTopic, Job, Part, Shared, check_part};
pub use crate::settings::LogSettings;
use crate::{codes, recovery};
use async_trait::async_trait;
use mainstem_env::{Disk, Env};
use mainstem_eventlog::{EventLog, Fetched, LogTransaction, PartitionAppend, PartitionInfo, Seal, TopicConfig, TopicPartition};
use mainstem_types::Result;
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// The log on this machine's disk. Dropping it closes it and waits for that.
pub struct LocalLog {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

struct LocalTransaction {
    id: u64,
    shared: Arc<Shared>,
    /// Nothing is left to undo.
    over: bool,
}

impl LocalLog {
    /// Opens the log in `dir`, its own directory, made when missing. Blocks: after a crash it replays the WAL.
    pub fn open(env: Env, dir: &Path, settings: LogSettings) -> Result<Arc<Self>> {
        let settings = settings.sound();
        let disk = env.disk.clone();
        let trouble = |what: &str, error: io::Error| codes::open_failed(dir, what).caused_by(error);
        make_dir(&*disk, dir).map_err(|e| trouble("the directory cannot be made", e))?;
        let lock = disk.lock(&dir.join(".lock")).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => codes::open_failed(dir, "another process has it").hint("Stop that process first."),
            _ => trouble("its lock cannot be taken", e),
        })?;
        let recovered = recovery::recover(&disk, dir, &settings)?;
        let shared = Arc::new(Shared::new(env));
        for writer in recovered.writers.values() {
            shared.partitions.write().insert(writer.partition.at.clone(), writer.partition.clone());
        }
        let no_thread = |e| trouble("no thread can be started", e);
        let committer = Committer::new(shared.clone(), settings, dir.to_path_buf(), recovered, lock).map_err(no_thread)?;
        let thread = mainstem_env::spawn_thread("log-committer", move || committer.run()).map_err(no_thread)?;
        Ok(Arc::new(Self { shared, committer: Mutex::new(Some(thread)) }))
    }

    /// Takes no more appends, undoes open transactions and makes a checkpoint, so that the next start replays nothing. Reads go on.
    pub async fn close(&self) {
        let (answer, wait) = oneshot::channel();
        if self.shared.give(Job::Close { answer: Some(answer) }) {
            let _ = wait.await;
        }
    }

    /// One pass of retention, and compaction until none is due, as they also happen by themselves from time to time.
    pub async fn retain(&self) -> Result<()> {
        self.shared.ask(|answer| Job::Retain { answer }).await
    }
}

/// Makes a directory whose name survives a power cut, and so do those above it, as far as we may read them.
fn make_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.create_dir_all(dir)?;
    for above in dir.ancestors().skip(1) {
        match disk.sync_dir(above) {
            // Not ours, so somebody else made it; the empty path is above a relative one.
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => break,
            other => other?,
        }
    }
    Ok(())
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.shared.give(Job::Close { answer: None });
        if let Some(thread) = self.committer.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn check(&self, parts: Vec<PartitionAppend>) -> Result<Vec<Part>> {
        parts.into_iter().map(|part| check_part(self.find(&part.to)?, part.batches, part.records)).collect()
    }
}

#[async_trait]
impl EventLog for LocalLog {
    async fn create_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        let name = name.to_owned();
        self.shared.ask(|answer| Job::CreateTopic(AskedTopic { name, config, answer })).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.shared.ask(|answer| Job::DeleteTopic { name, answer }).await
    }

    fn partitions(&self) -> Vec<PartitionInfo> {
        let mut all: Vec<PartitionInfo> = self
            .shared
            .partitions
            .read()
            .values()
            .map(|partition| {
                let (start, end, bytes) = partition.bounds();
                PartitionInfo { at: partition.at.clone(), config: partition.config(), start, end, bytes }
            })
            .collect();
        all.sort_by(|a, b| a.at.cmp(&b.at));
        all
    }

    async fn append(&self, parts: Vec<PartitionAppend>, seal: Option<Seal>) -> Result<Vec<i64>> {
        if parts.is_empty() && seal.is_none() {
            return Ok(Vec::new());
        }
        let parts = self.shared.check(parts)?;
        self.shared.ask(|answer| Job::Append(Append { parts, seal, answer })).await
    }

    async fn begin(&self) -> Result<Box<dyn LogTransaction>> {
        Ok(Box::new(LocalTransaction { id: self.shared.transaction(), shared: self.shared.clone(), over: false }))
    }

    async fn read(&self, at: &TopicPartition, offset: i64, bytes_max: usize) -> Result<Fetched> {
        self.shared.find(at)?.read(&self.shared.env.disk, offset, bytes_max).await
    }

    fn subscribe(&self, at: &TopicPartition) -> Result<watch::Receiver<i64>> {
        Ok(self.shared.find(at)?.subscribe())
    }

    fn set_retention_floor(&self, at: &TopicPartition, offset: i64) {
        if let Ok(partition) = self.shared.find(at) {
            partition.set_floor(offset);
        }
    }
}

#[async_trait]
impl LogTransaction for LocalTransaction {
    async fn append(&mut self, parts: Vec<PartitionAppend>) -> Result<Vec<i64>> {
        let parts = self.shared.check(parts)?;
        let transaction = self.id;
        self.shared.ask(|answer| Job::Piece { transaction, append: Append { parts, seal: None, answer } }).await
    }

    async fn commit(mut self: Box<Self>, parts: Vec<PartitionAppend>, seal: Option<Seal>) -> Result<Vec<i64>> {
        let parts = self.shared.check(parts)?;
        let transaction = self.id;
        // From here on the committer undoes what does not commit, also when nobody waits for the answer.
        self.over = true;
        self.shared.ask(|answer| Job::Commit { transaction, append: Append { parts, seal, answer } }).await
    }
}

impl Drop for LocalTransaction {
    fn drop(&mut self) {
        if !self.over {
            self.shared.give(Job::Abort { transaction: self.id });
        }
    }
}
