//! A live table: the record that the pipeline keeps of it, the generation that readers see and the one being filled.

use crate::codes;
use crate::memory::Memory;
use crate::rows::{Home, Rows};
use crate::settings::WarehouseSettings;
use crate::snapshot::{FileView, TableView};
use mainstem_env::Env;
use mainstem_types::{Error, Generation, Result, SourceName, TableBatch, TableId, TableRecord, TableSchema, TableState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// What all tables of a warehouse share.
#[derive(Clone)]
pub(crate) struct Ground {
    pub env: Env,
    pub settings: Arc<WarehouseSettings>,
    /// The data directory.
    pub dir: PathBuf,
    pub seed: u64,
    pub memory: Arc<Memory>,
}

impl Ground {
    pub fn now_ms(&self) -> i64 {
        self.env.clock.now_us() / 1000
    }

    /// When readers outside have had their time with what goes now.
    pub fn retained_until_ms(&self) -> i64 {
        self.now_ms().saturating_add_unsigned(self.settings.file_retention_ms)
    }

    pub fn home(&self, source: &SourceName, table: TableId, generation: Generation) -> Home {
        let place = |kind: &str| self.dir.join(kind).join(table.to_string()).join(generation.to_string());
        Home {
            env: self.env.clone(),
            settings: self.settings.clone(),
            source: source.clone(),
            table,
            generation,
            dir: place("tables"),
            index_dir: place("index"),
            seed: self.seed,
        }
    }
}

/// Directories that go when the last view of their files is gone and readers outside have had their time.
pub(crate) struct Gone {
    pub dirs: [PathBuf; 2],
    pub views: Vec<Weak<FileView>>,
    pub after_ms: i64,
}

pub(crate) struct Table {
    pub record: Arc<TableRecord>,
    pub live: Option<Rows>,
    pub filling: Option<Rows>,
    /// One past the last offset of its topic that was applied.
    pub offset: i64,
    /// The generation that the topic's rows belong to now; 0 = none yet.
    pub topic_generation: u32,
    /// Why it cannot go on; later changes are left in the log.
    pub broken: Option<Arc<Error>>,
    /// It broke with these live rows, maybe in the middle of a barrier: they are shown until others are whole, and never committed.
    pub spoiled: bool,
    /// Generations up to this one were half built before the last start and are thrown away.
    pub discarded: u32,
    position: Option<String>,
    view: Option<Arc<TableView>>,
    ground: Ground,
}

impl Table {
    pub fn new(ground: Ground, record: Arc<TableRecord>) -> Self {
        Self {
            record,
            live: None,
            filling: None,
            offset: 0,
            topic_generation: 0,
            broken: None,
            spoiled: false,
            discarded: 0,
            position: None,
            view: None,
            ground,
        }
    }

    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut Rows> {
        self.live.iter_mut().chain(self.filling.iter_mut())
    }

    pub fn rows(&self) -> impl Iterator<Item = &Rows> {
        self.live.iter().chain(self.filling.iter())
    }

    /// Bytes in memory that a flush or a spill would free.
    pub fn memory(&self) -> usize {
        if self.broken.is_some() { 0 } else { self.rows().map(Rows::memory).sum() }
    }

    /// Shown anew at the next snapshot.
    pub fn touch(&mut self) {
        self.view = None;
    }

    /// Makes room for a generation that is to be filled; a younger one throws away what it replaces.
    pub fn begin(&mut self, generation: Generation, schema: &Arc<TableSchema>, gone: &mut Vec<Gone>) {
        let known = self.rows().any(|r| r.home.generation == generation);
        let newest = self.rows().map(|r| r.home.generation).max();
        if known || newest.is_some_and(|n| generation < n) || generation.0 <= self.discarded {
            return;
        }
        // Nobody outside was ever shown it.
        gone.extend(self.filling.take().map(|rows| retire(rows, 0)));
        self.topic_generation = self.topic_generation.max(generation.0);
        self.broken = None;
        self.filling = Some(Rows::new(self.ground.home(&self.record.source, self.record.table, generation), schema.clone()));
        self.touch();
    }

    pub fn apply(&mut self, batch: &TableBatch, gone: &mut Vec<Gone>) {
        if self.broken.is_some() {
            return;
        }
        self.begin(batch.generation, &batch.changes.schema, gone);
        self.topic_generation = self.topic_generation.max(batch.generation.0);
        let filling = self.filling.as_ref().is_some_and(|r| r.home.generation == batch.generation);
        let rows = if filling { self.filling.as_mut() } else { self.live.as_mut() };
        let Some(rows) = rows.filter(|r| r.home.generation == batch.generation) else { return };
        let done = rows.apply(&batch.changes, filling);
        self.touch();
        if let Err(error) = done {
            self.fail(error);
        }
    }

    pub fn fail(&mut self, error: Error) {
        tracing::error!(table = %self.record.name, error = %error.chain(), "the live table cannot go on and stays as it is");
        self.broken = Some(Arc::new(error));
        self.spoiled = true;
        self.touch();
    }

    /// Takes a barrier's word on this table; its rows up to the barrier are applied.
    pub fn set_record(&mut self, record: &Arc<TableRecord>, gone: &mut Vec<Gone>) {
        self.record = record.clone();
        self.touch();
        if record
            .live
            .is_some_and(|live| live.0 <= self.discarded && self.live.as_ref().is_none_or(|l| l.home.generation != live))
        {
            let text = format!("generation {} of {} was thrown away at the last start", record.generation, record.name);
            return self.fail(Error::bug(codes::MISFIT, text).hint("Run RESYNC SOURCE ... TABLE ... to build the table anew."));
        }
        if self.broken.is_some() {
            // A generation that broke while it was filled is not whole: readers keep the one before.
            return;
        }
        if let Some(live) = record.live
            && self.filling.as_ref().is_some_and(|r| r.home.generation == live)
        {
            let until = self.ground.retained_until_ms();
            gone.extend(self.live.take().map(|rows| retire(rows, until)));
            self.live = self.filling.take();
            self.spoiled = false;
        } else if record.live.is_some() && self.live.is_none() && record.live == Some(record.generation) {
            // A table without a single row or event.
            self.begin(record.generation, &record.schema, gone);
            self.live = self.filling.take();
        }
        if record.live != Some(record.generation) && matches!(record.state, TableState::Snapshotting) {
            self.begin(record.generation, &record.schema, gone);
        }
        let evolved = self.rows_mut().find(|r| r.home.generation == record.generation).map(|r| r.evolve(&record.schema));
        if let Some(Err(error)) = evolved {
            self.fail(error);
        }
        if let Some(live) = &mut self.live {
            live.changed |= live.delta_version.is_none();
        }
    }

    /// After a replay: columns that were added or dropped since the last row.
    pub fn catch_up_record(&mut self) {
        let record = self.record.clone();
        if let Some(live) = self.live.as_mut().filter(|l| l.home.generation == record.generation)
            && let Err(error) = live.evolve(&record.schema)
        {
            self.fail(error);
        }
    }

    pub fn set_position(&mut self, position: &str) {
        self.position = Some(position.to_string());
    }

    pub fn view(&mut self) -> Result<Arc<TableView>> {
        if let Some(view) = &self.view {
            return Ok(view.clone());
        }
        let (mut hot, mut files) = (Vec::new(), Vec::new());
        if let Some(live) = &mut self.live {
            (hot, files) = live.show()?;
        }
        let live = self.live.as_ref();
        let home = self.ground.home(&self.record.source, self.record.table, self.record.live.unwrap_or(self.record.generation));
        let view = Arc::new(TableView {
            record: self.shown_record(),
            schema: live.map_or_else(|| self.record.schema.clone(), |l| l.schema.clone()),
            readable: live.is_some(),
            rows_copied: self.filling.as_ref().or(live).map_or(0, |r| r.live_rows),
            hot,
            files,
            rows: live.map_or(0, |l| l.live_rows),
            deleted_rows: live.map_or(0, |l| l.total_rows().saturating_sub(l.live_rows)),
            delta_version: live.and_then(|l| l.delta_version),
            location: live.map_or(home.dir, |l| l.home.dir.clone()),
            position: self.position.clone(),
        });
        self.view = Some(view.clone());
        Ok(view)
    }

    /// The pipeline's word, or ours when the table broke here.
    fn shown_record(&self) -> Arc<TableRecord> {
        let Some(error) = &self.broken else { return self.record.clone() };
        let mut record = self.record.as_ref().clone();
        record.state = TableState::Failed;
        record.error_code = Some(error.code().id.into());
        record.error = Some(error.message().into());
        Arc::new(record)
    }

    /// Gives everything up, older generations included; the files may go at `after_ms`.
    pub fn retire(self, after_ms: i64, gone: &mut Vec<Gone>) {
        let place = |kind: &str| self.ground.dir.join(kind).join(self.record.table.to_string());
        let dirs = [place("tables"), place("index")];
        let mut views: Vec<_> = gone.extract_if(.., |g| g.dirs[0].starts_with(&dirs[0])).flat_map(|g| g.views).collect();
        views.extend(self.live.into_iter().chain(self.filling).flat_map(|rows| retire(rows, 0).views));
        gone.push(Gone { dirs, views, after_ms });
    }
}

/// What is left to remove of a generation.
fn retire(rows: Rows, after_ms: i64) -> Gone {
    let mut views = rows.gone_views;
    for segment in rows.segments.values() {
        if let crate::segment::Body::File(filed) = &segment.body {
            views.extend(filed.handed_out());
        }
    }
    Gone { dirs: [rows.home.dir, rows.home.index_dir], views, after_ms }
}

impl Gone {
    /// True when nothing reads there any more.
    pub fn is_free(&self, now_ms: i64) -> bool {
        self.after_ms <= now_ms && self.views.iter().all(|v| v.strong_count() == 0)
    }

    pub fn remove(&self, env: &Env) {
        for dir in &self.dirs {
            remove_dir(env, dir);
        }
    }
}

pub(crate) fn remove_dir(env: &Env, dir: &Path) {
    if env.disk.exists(dir)
        && let Err(error) = env.disk.remove_dir_all(dir)
    {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove files of a table that is gone; the next start tries again");
    }
}
