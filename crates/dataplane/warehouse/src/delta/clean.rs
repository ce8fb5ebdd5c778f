//! What goes from a Delta table's directory while it is in use: files that no version younger than the retention refers to, and commits
//! and checkpoints before a checkpoint older than it. Removed files are tombstones in checkpoints until then (Delta protocol, "Checkpoints").

use super::{DeltaTable, vectors};
use crate::codes::io_error;
use mainstem_types::Result;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A file, with the deletion vector it had, that a commit took out.
pub(super) struct Tombstone {
    path: String,
    vector: Option<Value>,
    size: i64,
    removed_ms: i64,
    data_change: bool,
}

impl Tombstone {
    /// From a `remove` action's body.
    pub fn of(remove: &Value) -> Option<Self> {
        Some(Self {
            path: remove["path"].as_str()?.to_string(),
            vector: remove.get("deletionVector").filter(|v| v.is_object()).cloned(),
            size: remove["size"].as_i64().unwrap_or(0),
            removed_ms: remove["deletionTimestamp"].as_i64().unwrap_or(0),
            data_change: remove["dataChange"].as_bool().unwrap_or(true),
        })
    }

    pub fn action(&self) -> Value {
        let mut remove = json!({
            "path": self.path, "deletionTimestamp": self.removed_ms, "dataChange": self.data_change, "extendedFileMetadata": true,
            "partitionValues": {}, "size": self.size,
        });
        if let Some(vector) = &self.vector {
            remove["deletionVector"] = vector.clone();
        }
        remove
    }

    fn names(&self) -> impl Iterator<Item = String> + '_ {
        let vector = self.vector.as_ref().and_then(|v| v["pathOrInlineDv"].as_str()).and_then(vectors::file_name);
        [self.path.clone()].into_iter().chain(vector)
    }
}

/// The version that a name in `_delta_log` begins with.
pub(super) fn version_of(name: &str) -> Option<u64> {
    name.split_once('.')?.0.parse().ok()
}

impl DeltaTable {
    /// Every file that the last version or a tombstone refers to, by name in the table's directory.
    pub fn referenced(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = self.tombstones.iter().flat_map(Tombstone::names).collect();
        for file in self.files.values() {
            names.extend(file.add["path"].as_str().map(str::to_string));
            names.extend(file.add["deletionVector"]["pathOrInlineDv"].as_str().and_then(vectors::file_name));
        }
        names
    }

    /// Lets tombstones go that are older than the retention; their files are superseded then.
    pub(super) fn expire(&mut self) {
        let before = self.retained_from_ms();
        for tombstone in self.tombstones.extract_if(.., |t| t.removed_ms <= before) {
            self.superseded.extend(tombstone.names().map(|name| self.dir.join(name)));
        }
    }

    fn retained_from_ms(&self) -> i64 {
        (self.env.clock.now_us() / 1000).saturating_sub_unsigned(self.retention_ms)
    }

    /// Removes what nobody needs any more. `dropped`: files that the live table let go of. `pinned`: files that snapshots still read.
    pub fn clean(&mut self, dropped: Vec<PathBuf>, pinned: &BTreeSet<PathBuf>) -> Result<()> {
        self.superseded.extend(dropped);
        self.expire();
        if !self.superseded.is_empty() {
            let referenced = self.referenced();
            let named = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| referenced.contains(n));
            // What is referred to comes again with the tombstone that will have been the last to do so.
            let free: Vec<PathBuf> = self.superseded.extract_if(.., |p| !pinned.contains(p)).filter(|p| !named(p)).collect();
            let mut failed = None;
            for path in free {
                match self.env.disk.remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        failed.get_or_insert(io_error(&path, "remove")(e));
                        self.superseded.insert(path);
                    }
                    _ => {}
                }
            }
            failed.map_or(Ok(()), Err)?;
        }
        self.clean_log()
    }

    /// Removes commits and checkpoints, oldest first, from before the youngest checkpoint that is older than the retention.
    fn clean_log(&mut self) -> Result<()> {
        let before = self.retained_from_ms();
        let Some(first) = self.checkpoints.iter().rev().find(|(_, at)| *at <= before).map(|(version, _)| *version) else {
            return Ok(());
        };
        if first <= self.log_start {
            return Ok(());
        }
        let log = self.dir.join("_delta_log");
        let names = self.env.disk.list(&log).map_err(io_error(&log, "list"))?;
        let mut old: Vec<String> = names.into_iter().filter(|name| version_of(name).is_some_and(|v| v < first)).collect();
        old.sort_unstable();
        for name in old {
            let path = log.join(name);
            self.env.disk.remove_file(&path).map_err(io_error(&path, "remove"))?;
        }
        self.checkpoints.retain(|(version, _)| *version >= first);
        self.log_start = first;
        Ok(())
    }
}
