//! Reads a Delta log of ours back: the last checkpoint, then every commit after it that is what we wrote.

use super::clean::{Tombstone, version_of};
use super::{Committed, DeltaTable, Noted, schema, sums, vectors};
use crate::codes::{self, io_error};
use crate::context::{GenerationDir, Resume};
use crate::files::segment_of;
use crate::metrics;
use mainstem_types::{Error, Result, TableSchema};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Actions as they add up.
#[derive(Default)]
pub(super) struct Replay {
    pub adds: BTreeMap<String, Value>,
    pub protocol: Value,
    pub metadata: Value,
    pub txns: BTreeMap<String, i64>,
    pub tombstones: Vec<Tombstone>,
    /// The wrapping sum of the checksums of `adds`.
    files_sum: u64,
}

impl Replay {
    pub fn take(&mut self, action: Value) {
        let Value::Object(action) = action else { return };
        for (kind, body) in action {
            match kind.as_str() {
                "add" => {
                    if let Some(path) = body["path"].as_str() {
                        let path = path.to_string();
                        self.files_sum = self.files_sum.wrapping_add(sums::file_sum(&body));
                        let before = self.adds.insert(path, body).map_or(0, |before| sums::file_sum(&before));
                        self.files_sum = self.files_sum.wrapping_sub(before);
                    }
                }
                "remove" => {
                    // In a checkpoint, a file may be there again with another deletion vector.
                    if let Some(path) = body["path"].as_str()
                        && self.adds.get(path).is_some_and(|add| vector_id(add) == vector_id(&body))
                        && let Some(add) = self.adds.remove(path)
                    {
                        self.files_sum = self.files_sum.wrapping_sub(sums::file_sum(&add));
                    }
                    self.tombstones.extend(Tombstone::of(&body));
                }
                "protocol" => self.protocol = body,
                "metaData" => self.metadata = body,
                "txn" => {
                    if let (Some(app), Some(version)) = (body["appId"].as_str(), body["version"].as_i64()) {
                        self.txns.insert(app.to_string(), version);
                    }
                }
                _ => {}
            }
        }
    }

    /// How far the source is, as the transaction identifiers of a table say it. None: no commit named a barrier.
    fn resume(&self, app: &str) -> Option<Resume> {
        let number = |kind: &str| self.txns.get(&format!("{app}{kind}")).copied();
        Some(Resume {
            seq: number("")? as u64,
            offset: number("/offset").unwrap_or(0),
            topic_generation: number("/topic-generation").unwrap_or(0) as u32,
        })
    }

    fn state(&self, app: &str) -> u64 {
        sums::state_sum(self.files_sum, schema::own(&self.metadata), &self.resume(app).unwrap_or_default())
    }
}

/// What tells two versions of a file apart.
fn vector_id(action: &Value) -> (Option<&str>, Option<i64>) {
    let vector = &action["deletionVector"];
    (vector["pathOrInlineDv"].as_str(), vector["offset"].as_i64())
}

fn corrupt(path: &Path, what: &str) -> Error {
    Error::corrupt(codes::CORRUPT, format!("{}: {what}", path.display()))
        .hint("Run RESYNC SOURCE ... TABLE ... to build the table anew.")
}

impl DeltaTable {
    /// Loads what is committed: all that follows from commits of ours, each of which is what was written. What comes after is removed,
    /// and the log of Mainstem has to have it. A directory without a commit is an empty table. `noted`: what our own log says of it.
    pub fn load(place: &GenerationDir, noted: &Noted) -> Result<Self> {
        let mut table = Self::new(place);
        let log = place.dir.join("_delta_log");
        let mut names = Vec::new();
        if place.env.disk.exists(&log) {
            names = place.env.disk.list(&log).map_err(io_error(&log, "list"))?;
        }
        let last = names.iter().filter_map(|n| n.strip_suffix(".json")?.parse::<u64>().ok()).max();
        let mut replay = Replay::default();
        table.load_checkpoint(noted.checkpoint, &mut replay)?;
        table.version = table.checkpoint.map(|checkpoint| checkpoint.version);
        table.check_state(&replay, noted)?;
        while let Some(version) = Some(table.next_version()).filter(|next| last.is_some_and(|last| *next <= last)) {
            let Some(commit) = table.read_commit(version)? else {
                table.cut_off(version, &names)?;
                break;
            };
            let state = commit.first().and_then(|info| info["commitInfo"][sums::STATE_KEY].as_str().map(str::to_string));
            commit.into_iter().for_each(|action| replay.take(action));
            if state != Some(format!("{:016x}", replay.state(&table.app))) {
                return Err(corrupt(&table.commit_path(version), "it does not follow from the commits before it"));
            }
            table.version = Some(version);
            table.check_state(&replay, noted)?;
        }
        if let (None, Some(version)) = (table.version, noted.version) {
            return Err(corrupt(&table.commit_path(version), "neither it nor what came before it is there"));
        }
        table.adopt(replay, place)?;
        table.expire();
        table.checkpoints = names
            .iter()
            .filter(|n| n.ends_with(".checkpoint.parquet"))
            .filter_map(|n| version_of(n))
            .filter(|version| table.checkpoint.is_some_and(|youngest| *version <= youngest.version))
            .map(|version| (version, table.commit_time_ms(version)))
            .collect();
        table.checkpoints.sort_unstable();
        Ok(table)
    }

    /// The version that our own log names has to be the one that it was.
    fn check_state(&self, replay: &Replay, noted: &Noted) -> Result<()> {
        match self.version {
            Some(version) if self.version == noted.version && replay.state(&self.app) != noted.state => {
                Err(corrupt(&self.commit_path(version), "it is not the one that was committed last"))
            }
            _ => Ok(()),
        }
    }

    /// A commit's actions; None when it is not there or not what we wrote.
    fn read_commit(&self, version: u64) -> Result<Option<Vec<Value>>> {
        let path = self.commit_path(version);
        if !self.env.disk.exists(&path) {
            return Ok(None);
        }
        let bytes = self.env.disk.read(&path).map_err(io_error(&path, "read"))?;
        if !sums::is_ours(&bytes, version) {
            return Ok(None);
        }
        Ok(serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>().collect::<Result<_, _>>().ok())
    }

    /// Removes what does not follow from the commits before `version`: it would be in the way of the next commit.
    fn cut_off(&self, version: u64, names: &[String]) -> Result<()> {
        let log = self.dir.join("_delta_log");
        tracing::error!(file = %self.commit_path(version).display(), "a commit of a live table is gone or not what was written; the table goes on from the one before it");
        metrics::DAMAGES.add(1);
        for name in names.iter().filter(|name| version_of(name).is_some_and(|v| v >= version)) {
            let path = log.join(name);
            self.env.disk.remove_file(&path).map_err(io_error(&path, "remove"))?;
        }
        Ok(())
    }

    /// When a version was committed; long ago when its commit does not say.
    fn commit_time_ms(&self, version: u64) -> i64 {
        let bytes = self.env.disk.read(&self.commit_path(version)).unwrap_or_default();
        let first = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>().next();
        first.and_then(Result::ok).and_then(|action| action["commitInfo"]["timestamp"].as_i64()).unwrap_or(0)
    }

    fn adopt(&mut self, replay: Replay, place: &GenerationDir) -> Result<()> {
        if self.version.is_none() {
            return Ok(());
        }
        let schema: TableSchema = serde_json::from_str(schema::own(&replay.metadata))
            .map_err(|e| corrupt(&self.dir, "the table's schema is missing").caused_by(e))?;
        self.schema = Some(Arc::new(schema));
        self.state = replay.state(&self.app);
        let Some(resume) = replay.resume(&self.app) else {
            return Err(corrupt(&self.dir, "no commit names a barrier of this table"));
        };
        self.resume = resume;
        for (name, add) in replay.adds {
            let segment = segment_of(&name).ok_or_else(|| corrupt(&self.dir, &format!("`{name}` is no file of ours")))?;
            let dead = match add.get("deletionVector").filter(|v| !v.is_null()) {
                Some(descriptor) => vectors::read(place.env.disk.as_ref(), &self.dir, descriptor)?,
                None => Default::default(),
            };
            self.files.insert(segment, Committed::new(add, Arc::new(dead)));
        }
        (self.protocol, self.metadata, self.tombstones) = (replay.protocol, replay.metadata, replay.tombstones);
        Ok(())
    }

    /// The live files as the log has them: segment, name, bytes and seal.
    pub fn entries(&self) -> impl Iterator<Item = (u32, &str, u64, &str)> {
        self.files.iter().map(|(segment, file)| (*segment, file.path(), file.bytes(), file.seal()))
    }
}

/// The table that a first commit makes whose checksums are taken for right; for fuzzing.
pub(crate) fn unchecked(place: &GenerationDir, commit: &[u8]) -> Result<DeltaTable> {
    let (mut table, mut replay) = (DeltaTable::new(place), Replay::default());
    for action in serde_json::Deserializer::from_slice(commit).into_iter::<Value>() {
        replay.take(action.map_err(|e| corrupt(&place.dir, "not a Delta commit").caused_by(e))?);
    }
    table.version = Some(0);
    table.adopt(replay, place)?;
    Ok(table)
}
