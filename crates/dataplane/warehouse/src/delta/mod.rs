//! The Delta log of one generation of a table, written by hand: one writer, strict compare-and-swap on the version, deletes and the
//! barrier's number in the same commit (`docs/rfcs/0006-tables.md`; actions as in the Delta protocol, "Actions").

mod checkpoint;
mod clean;
mod load;
mod schema;
mod sums;
mod vectors;

pub(crate) use load::unchecked;
pub(crate) use sums::{Checkpoint, Noted};
pub(crate) use vectors::framed;

use crate::codes::{self, io_error};
use crate::context::{GenerationDir, Resume};
use crate::files::DataFile;
use mainstem_env::{Env, fault};
use mainstem_types::{Error, Result, TableSchema};
use roaring::RoaringBitmap;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// The committed state of a Delta table and the way to its next version.
pub(crate) struct DeltaTable {
    pub dir: PathBuf,
    env: Env,
    app: String,
    pub version: Option<u64>,
    /// Live files by segment.
    pub files: BTreeMap<u32, Committed>,
    pub schema: Option<Arc<TableSchema>>,
    protocol: Value,
    metadata: Value,
    pub resume: Resume,
    /// The checksum of the last version's state.
    pub state: u64,
    pub checkpoint: Option<Checkpoint>,
    /// Files that commits took out within the retention.
    tombstones: Vec<clean::Tombstone>,
    /// Files to be removed as soon as no version and no snapshot has them.
    superseded: BTreeSet<PathBuf>,
    /// Checkpoints that are there, oldest first, with the time of their version in milliseconds.
    checkpoints: Vec<(u64, i64)>,
    /// Commits before this version were removed; 0 = that is not known.
    log_start: u64,
    retention_ms: u64,
}

/// A file as the Delta log has it.
pub(crate) struct Committed {
    /// The `add` action's body.
    add: Value,
    pub dead: Arc<RoaringBitmap>,
    sum: u64,
}

impl Committed {
    fn new(add: Value, dead: Arc<RoaringBitmap>) -> Self {
        let sum = sums::file_sum(&add);
        Self { add, dead, sum }
    }

    fn path(&self) -> &str {
        self.add["path"].as_str().unwrap_or_default()
    }

    fn bytes(&self) -> u64 {
        self.add["size"].as_u64().unwrap_or(0)
    }

    fn seal(&self) -> &str {
        self.add["tags"][sums::SEAL_TAG].as_str().unwrap_or_default()
    }
}

/// What a flush wants to be committed: the files as they are at its barrier.
pub(crate) struct Change {
    pub files: Vec<(u32, Arc<DataFile>, Arc<RoaringBitmap>)>,
    pub schema: Arc<TableSchema>,
    pub resume: Resume,
}

impl DeltaTable {
    pub fn new(place: &GenerationDir) -> Self {
        Self {
            dir: place.dir.clone(),
            env: place.env.clone(),
            app: format!("mainstem/{}/{}/{}", place.source, place.table, place.generation),
            version: None,
            files: BTreeMap::new(),
            schema: None,
            protocol: Value::Null,
            metadata: Value::Null,
            resume: Resume::default(),
            state: 0,
            checkpoint: None,
            tombstones: Vec::new(),
            superseded: BTreeSet::new(),
            checkpoints: Vec::new(),
            log_start: 0,
            retention_ms: place.settings.file_retention_ms,
        }
    }

    fn commit_path(&self, version: u64) -> PathBuf {
        self.dir.join("_delta_log").join(format!("{version:020}.json"))
    }

    fn next_version(&self) -> u64 {
        self.version.map_or(0, |v| v + 1)
    }

    /// Whether somebody has the next version already, be it ourselves with a commit of which we were told that it failed.
    pub fn is_overtaken(&self) -> bool {
        self.env.disk.exists(&self.commit_path(self.next_version()))
    }

    /// Makes one commit of everything that differs from the last one; durable on return. Data files must be synced already.
    pub fn commit(&mut self, change: &Change) -> Result<()> {
        let now_ms = self.env.clock.now_us() / 1000;
        let mut next = Next { removes: Vec::new(), adds: Vec::new() };
        let kept: BTreeSet<u32> = change.files.iter().map(|(segment, _, _)| *segment).collect();
        for (segment, gone) in self.files.iter().filter(|(segment, _)| !kept.contains(segment)) {
            next.removes.push((*segment, remove_of(&gone.add, now_ms, true)));
        }
        let mut vectors = vectors::Writer::new(&self.env, &self.dir);
        for (segment, file, dead) in &change.files {
            let before = self.files.get(segment);
            if before.is_some_and(|b| Arc::ptr_eq(&b.dead, dead) || b.dead == *dead) {
                continue;
            }
            let mut add = match before {
                Some(before) => before.add.clone(),
                None => add_of(file, now_ms),
            };
            if let Some(before) = before {
                next.removes.push((*segment, remove_of(&before.add, now_ms, true)));
            }
            add["dataChange"] = true.into();
            add["stats"] = schema::stats(file, &change.schema, dead.is_empty()).into();
            if !dead.is_empty() {
                add["deletionVector"] = vectors.add(dead)?;
            }
            next.adds.push((*segment, Committed::new(add, dead.clone())));
        }
        let vectors = vectors.finish()?;
        fault::point("flush.after_dv");
        let operation = if self.version.is_none() { "CREATE TABLE" } else { "MERGE" };
        let committed = self.write_commit(operation, &change.schema, change.resume, next, now_ms);
        if let (Err(_), Some(path), false) = (&committed, &vectors, self.is_overtaken()) {
            let _ = self.env.disk.remove_file(path); // tried again under another name
        }
        committed?;
        fault::point("flush.after_commit");
        Ok(())
    }

    /// Commits that one file has the rows that are live in others; nothing else changes, neither rows nor barrier. Durable on return.
    pub fn rearrange(&mut self, old: &[u32], segment: u32, file: &DataFile) -> Result<()> {
        let now_ms = self.env.clock.now_us() / 1000;
        let Some(schema) = self.schema.clone() else {
            return Err(Error::bug(codes::MISFIT, format!("{} has no version to rearrange", self.dir.display())));
        };
        let remove = |id: &u32| Some((*id, remove_of(&self.files.get(id)?.add, now_ms, false)));
        let removes: Vec<_> = old.iter().filter_map(remove).collect();
        let mut add = add_of(file, now_ms);
        add["dataChange"] = false.into();
        add["stats"] = schema::stats(file, &schema, true).into();
        self.env.disk.sync_dir(&self.dir).map_err(io_error(&self.dir, "sync"))?;
        let adds = vec![(segment, Committed::new(add, Arc::default()))];
        self.write_commit("OPTIMIZE", &schema, self.resume, Next { removes, adds }, now_ms)
    }

    fn write_commit(
        &mut self,
        operation: &str,
        schema: &Arc<TableSchema>,
        resume: Resume,
        next: Next,
        now_ms: i64,
    ) -> Result<()> {
        let version = self.next_version();
        let (protocol, metadata) = self.head(schema, &next, now_ms)?;
        let state = self.state_after(&next, &metadata, &resume);
        let mut actions = vec![sums::commit_info(operation, now_ms, version, state)];
        if protocol != self.protocol {
            actions.push(json!({ "protocol": protocol }));
        }
        if metadata != self.metadata {
            actions.push(json!({ "metaData": metadata }));
        }
        for (kind, number) in self.txns(&resume) {
            actions.push(json!({"txn": {"appId": kind, "version": number, "lastUpdated": now_ms}}));
        }
        actions.extend(next.removes.iter().map(|(_, remove)| json!({ "remove": remove })));
        actions.extend(next.adds.iter().map(|(_, add)| json!({ "add": add.add })));
        let mut text = String::new();
        for action in &actions {
            text.push_str(&action.to_string());
            text.push('\n');
        }
        sums::put_sum(&mut text);
        let path = self.commit_path(version);
        self.env.disk.create_durable(&path, text.as_bytes()).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::fix(codes::FOREIGN_COMMIT, format!("somebody else committed {}", path.display()))
                    .hint("Run RESYNC SOURCE ... TABLE ... to build the table anew: Mainstem is the only writer of its tables.")
            }
            _ => io_error(&path, "write")(e),
        })?;
        for (segment, remove) in &next.removes {
            self.files.remove(segment);
            self.tombstones.extend(clean::Tombstone::of(remove));
        }
        self.files.extend(next.adds);
        (self.protocol, self.metadata, self.schema) = (protocol, metadata, Some(schema.clone()));
        (self.version, self.resume, self.state) = (Some(version), resume, state);
        Ok(())
    }

    /// The checksum of the state that these changes lead to.
    fn state_after(&self, next: &Next, metadata: &Value, resume: &Resume) -> u64 {
        let gone: BTreeSet<u32> = next.removes.iter().map(|(segment, _)| *segment).collect();
        let kept = self.files.iter().filter(|(segment, _)| !gone.contains(segment)).map(|(_, file)| file.sum);
        let files = kept.chain(next.adds.iter().map(|(_, add)| add.sum)).fold(0, u64::wrapping_add);
        sums::state_sum(files, schema::own(metadata), resume)
    }

    /// What the log of Mainstem is to say of this table.
    pub fn noted(&self, resume: Resume) -> Noted {
        Noted { resume, version: self.version, state: self.state, checkpoint: self.checkpoint }
    }

    /// The protocol and the metadata. Features are declared when they are first needed, and stay.
    fn head(&self, schema: &Arc<TableSchema>, next: &Next, now_ms: i64) -> Result<(Value, Value)> {
        let vectors = schema::has_vectors(&self.metadata) || next.adds.iter().any(|(_, add)| !add.dead.is_empty());
        let same = self.schema.as_ref().is_some_and(|s| s.columns == schema.columns && s.identity == schema.identity);
        if same && vectors == schema::has_vectors(&self.metadata) {
            return Ok((self.protocol.clone(), self.metadata.clone()));
        }
        let mapped = schema::needs_mapping(schema) || self.metadata["configuration"].get("delta.columnMapping.mode").is_some();
        let mut metadata = self.metadata.clone();
        if metadata.is_null() {
            let id = uuid::Builder::from_random_bytes(self.env.random()).into_uuid().to_string();
            metadata = json!({
                "id": id, "format": {"provider": "parquet", "options": {}}, "partitionColumns": [], "configuration": {},
                "createdTime": now_ms,
            });
        }
        metadata["schemaString"] = schema::schema_string(schema, mapped).into();
        metadata["configuration"] = schema::configuration(schema, mapped, vectors)?;
        Ok((schema::protocol(&self.protocol, schema, mapped, vectors), metadata))
    }

    /// The barrier's number, and where the topic goes on, as transaction identifiers: they survive checkpoints.
    fn txns(&self, resume: &Resume) -> [(String, i64); 3] {
        [
            (self.app.clone(), resume.seq as i64),
            (format!("{}/offset", self.app), resume.offset),
            (format!("{}/topic-generation", self.app), i64::from(resume.topic_generation)),
        ]
    }
}

struct Next {
    removes: Vec<(u32, Value)>,
    adds: Vec<(u32, Committed)>,
}

fn add_of(file: &DataFile, now_ms: i64) -> Value {
    json!({
        "path": file.name, "partitionValues": {}, "size": file.bytes, "modificationTime": now_ms,
        "tags": {sums::SEAL_TAG: file.seal.tag()},
    })
}

fn remove_of(add: &Value, now_ms: i64, data_change: bool) -> Value {
    let mut remove = json!({
        "path": add["path"], "deletionTimestamp": now_ms, "dataChange": data_change, "extendedFileMetadata": true, "partitionValues": {},
        "size": add["size"],
    });
    if let Some(vector) = add.get("deletionVector") {
        remove["deletionVector"] = vector.clone();
    }
    remove
}
