//! Reads a Delta log of ours back: the last checkpoint, then every commit after it.

use super::clean::{Tombstone, version_of};
use super::{Committed, DeltaTable, schema::SCHEMA_KEY, vectors};
use crate::codes;
use crate::files::{io_error, segment_of};
use crate::rows::Home;
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
}

impl Replay {
    pub fn take(&mut self, action: Value) {
        let Value::Object(action) = action else { return };
        for (kind, body) in action {
            match kind.as_str() {
                "add" => {
                    if let Some(path) = body["path"].as_str() {
                        self.adds.insert(path.to_string(), body);
                    }
                }
                "remove" => {
                    // In a checkpoint, a file may be there again with another deletion vector.
                    if let Some(path) = body["path"].as_str()
                        && self.adds.get(path).is_some_and(|add| vector_id(add) == vector_id(&body))
                    {
                        self.adds.remove(path);
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
    /// Loads what is committed. A directory without a commit is an empty table.
    pub fn load(home: &Home) -> Result<Self> {
        let mut table = Self::new(home);
        let log = home.dir.join("_delta_log");
        if !home.env.disk.exists(&log) {
            return Ok(table);
        }
        let names = home.env.disk.list(&log).map_err(io_error(&log, "list"))?;
        let mut versions: Vec<u64> = names.iter().filter_map(|n| n.strip_suffix(".json")?.parse().ok()).collect();
        versions.sort_unstable();
        let mut replay = Replay::default();
        table.checkpoint = table.load_checkpoint(&mut replay)?;
        let first = table.checkpoint.map_or(0, |v| v + 1);
        table.version = table.checkpoint;
        for (expected, version) in (first..).zip(versions.into_iter().filter(|v| *v >= first)) {
            let path = table.commit_path(version);
            if expected != version {
                return Err(corrupt(&path, &format!("version {expected} before it is missing")));
            }
            let bytes = home.env.disk.read(&path).map_err(io_error(&path, "read"))?;
            for action in serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>() {
                replay.take(action.map_err(|e| corrupt(&path, "not a Delta commit").caused_by(e))?);
            }
            table.version = Some(version);
        }
        table.adopt(replay, home)?;
        table.expire();
        let checkpoints = names.iter().filter(|n| n.ends_with(".checkpoint.parquet")).filter_map(|n| version_of(n));
        table.checkpoints = checkpoints.map(|version| (version, table.commit_time_ms(version))).collect();
        table.checkpoints.sort_unstable();
        Ok(table)
    }

    /// When a version was committed; long ago when its commit does not say.
    fn commit_time_ms(&self, version: u64) -> i64 {
        let bytes = self.env.disk.read(&self.commit_path(version)).unwrap_or_default();
        let first = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>().next();
        first.and_then(Result::ok).and_then(|action| action["commitInfo"]["timestamp"].as_i64()).unwrap_or(0)
    }

    fn adopt(&mut self, replay: Replay, home: &Home) -> Result<()> {
        if self.version.is_none() {
            return Ok(());
        }
        let own = replay.metadata["configuration"][SCHEMA_KEY].as_str().unwrap_or_default();
        let schema: TableSchema =
            serde_json::from_str(own).map_err(|e| corrupt(&self.dir, "the table's schema is missing").caused_by(e))?;
        self.schema = Some(Arc::new(schema));
        let number = |kind: &str| replay.txns.get(&format!("{}{kind}", self.app)).copied();
        let Some(seq) = number("") else { return Err(corrupt(&self.dir, "no commit names a barrier of this table")) };
        self.resume.seq = seq as u64;
        self.resume.offset = number("/offset").unwrap_or(0);
        self.resume.topic_generation = number("/topic-generation").unwrap_or(0) as u32;
        for (name, add) in replay.adds {
            let segment = segment_of(&name).ok_or_else(|| corrupt(&self.dir, &format!("`{name}` is no file of ours")))?;
            let dead = match add.get("deletionVector").filter(|v| !v.is_null()) {
                Some(descriptor) => vectors::read(home.env.disk.as_ref(), &self.dir, descriptor)?,
                None => Default::default(),
            };
            self.files.insert(segment, Committed { add, dead: Arc::new(dead) });
        }
        (self.protocol, self.metadata, self.tombstones) = (replay.protocol, replay.metadata, replay.tombstones);
        Ok(())
    }

    /// Names and segments of the live files.
    pub fn names(&self) -> impl Iterator<Item = (u32, &str)> {
        self.files.iter().filter_map(|(segment, file)| Some((*segment, file.add["path"].as_str()?)))
    }
}
