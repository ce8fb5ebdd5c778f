//! What live tables share, and what one generation of one table is: where it lies and how far it is durable.

use crate::codes::io_error;
use crate::memory::Memory;
use crate::seal::{Damages, Keeper, Owner};
use crate::settings::WarehouseSettings;
use mainstem_env::Env;
use mainstem_types::{Generation, Result, SourceName, TableId};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What all tables of a warehouse share.
#[derive(Clone)]
pub(crate) struct Context {
    pub env: Env,
    pub settings: Arc<WarehouseSettings>,
    /// The data directory.
    pub dir: PathBuf,
    pub seed: u64,
    pub memory: Arc<Memory>,
    pub damages: Arc<Damages>,
}

impl Context {
    pub fn now_ms(&self) -> i64 {
        self.env.clock.now_us() / 1000
    }

    /// When readers outside have had their time with what goes now.
    pub fn retained_until_ms(&self) -> i64 {
        self.now_ms().saturating_add_unsigned(self.settings.file_retention_ms)
    }

    pub fn place(&self, source: &SourceName, table: TableId, generation: Generation) -> GenerationDir {
        let place = |kind: &str| self.dir.join(kind).join(table.to_string()).join(generation.to_string());
        GenerationDir {
            env: self.env.clone(),
            settings: self.settings.clone(),
            source: source.clone(),
            table,
            generation,
            dir: place("tables"),
            index_dir: place("index"),
            seed: self.seed,
            damages: self.damages.clone(),
        }
    }
}

/// How far a generation is durable in its Delta table, and where its topic goes on from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Resume {
    /// Barrier.
    pub seq: u64,
    /// The topic's end at that barrier.
    pub offset: i64,
    /// The generation that the topic's rows belonged to there; 0 = none yet.
    pub topic_generation: u32,
}

/// What a generation is, where it lies, and what it needs from outside.
#[derive(Clone)]
pub(crate) struct GenerationDir {
    pub env: Env,
    pub settings: Arc<WarehouseSettings>,
    pub source: SourceName,
    pub table: TableId,
    pub generation: Generation,
    /// `tables/<table id>/<generation>`
    pub dir: PathBuf,
    /// `index/<table id>/<generation>`
    pub index_dir: PathBuf,
    pub seed: u64,
    pub damages: Arc<Damages>,
}

impl GenerationDir {
    /// What the seals of its files need.
    pub fn keeper(&self) -> Keeper {
        let owner = Owner { source: self.source.clone(), table: self.table, generation: self.generation };
        Keeper { disk: self.env.disk.clone(), owner, damages: self.damages.clone() }
    }

    pub fn create_dirs(&self) -> Result<()> {
        for dir in [&self.dir.join("_delta_log"), &self.index_dir] {
            self.env.disk.create_dir_all(dir).map_err(io_error(dir, "create"))?;
        }
        let outward = [self.dir.parent().and_then(Path::parent), self.dir.parent(), Some(self.dir.as_path())];
        for dir in outward.into_iter().flatten() {
            self.env.disk.sync_dir(dir).map_err(io_error(dir, "sync"))?;
        }
        Ok(())
    }
}
