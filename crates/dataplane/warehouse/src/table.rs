//! A live table: the record that the pipeline keeps of it, the generation that readers see and the one being filled.

use crate::codes;
use crate::context::Context;
use crate::delta::Noted;
use crate::rows::Rows;
use crate::snapshot::{FileView, TableView};
use mainstem_env::Env;
use mainstem_envelope::tail::BrokenTable;
use mainstem_types::{Error, Generation, Result, TableBatch, TableRecord, TableSchema, TableState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

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
    /// What the log says of a generation that could not be opened: it stays said.
    pub unopened: Option<(Generation, Noted)>,
    /// Why it cannot go on; later changes are left in the log.
    pub broken: Option<Arc<Error>>,
    /// It broke with these live rows, maybe in the middle of a barrier: they are shown until others are whole, and never committed.
    pub spoiled: bool,
    /// Generations up to this one were half built before the last start and are thrown away.
    pub discarded: u32,
    position: Option<String>,
    view: Option<Arc<TableView>>,
    context: Context,
}

impl Table {
    pub fn new(context: Context, record: Arc<TableRecord>) -> Self {
        Self {
            record,
            live: None,
            filling: None,
            offset: 0,
            topic_generation: 0,
            unopened: None,
            broken: None,
            spoiled: false,
            discarded: 0,
            position: None,
            view: None,
            context,
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
        let known = self.rows().any(|r| r.place.generation == generation);
        let newest = self.rows().map(|r| r.place.generation).max();
        if known || newest.is_some_and(|n| generation < n) || generation.0 <= self.discarded {
            return;
        }
        // Nobody outside was ever shown it.
        gone.extend(self.filling.take().map(|rows| retire(rows, 0)));
        self.topic_generation = self.topic_generation.max(generation.0);
        self.broken = None;
        self.filling = Some(Rows::new(self.context.place(&self.record.source, self.record.table, generation), schema.clone()));
        self.touch();
    }

    pub fn apply(&mut self, batch: &TableBatch, gone: &mut Vec<Gone>) {
        if self.broken.is_some() {
            return;
        }
        self.begin(batch.generation, &batch.changes.schema, gone);
        self.topic_generation = self.topic_generation.max(batch.generation.0);
        let filling = self.filling.as_ref().is_some_and(|r| r.place.generation == batch.generation);
        let rows = if filling { self.filling.as_mut() } else { self.live.as_mut() };
        let Some(rows) = rows.filter(|r| r.place.generation == batch.generation) else { return };
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

    /// What others are to know when it cannot go on.
    pub fn report(&self) -> Option<BrokenTable> {
        let error = self.broken.as_ref()?;
        let generation = self.rows().map(|rows| rows.place.generation).max().unwrap_or(self.record.generation);
        let upstream = self.record.schema.upstream;
        Some(BrokenTable { upstream, generation, code: error.code(), message: error.message().to_string() })
    }

    /// Takes a barrier's word on this table; its rows up to the barrier are applied.
    pub fn set_record(&mut self, record: &Arc<TableRecord>, gone: &mut Vec<Gone>) {
        self.record = record.clone();
        self.touch();
        if record
            .live
            .is_some_and(|live| live.0 <= self.discarded && self.live.as_ref().is_none_or(|l| l.place.generation != live))
        {
            let text = format!("generation {} of {} was thrown away at the last start", record.generation, record.name);
            return self.fail(Error::bug(codes::MISFIT, text).hint("Run RESYNC SOURCE ... TABLE ... to build the table anew."));
        }
        if self.broken.is_some() {
            // A generation that broke while it was filled is not whole: readers keep the one before.
            return;
        }
        if let Some(live) = record.live
            && self.filling.as_ref().is_some_and(|r| r.place.generation == live)
        {
            let until = self.context.retained_until_ms();
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
        let evolved = self.rows_mut().find(|r| r.place.generation == record.generation).map(|r| r.evolve(&record.schema));
        if let Some(Err(error)) = evolved {
            self.fail(error);
        }
        self.rows_mut().for_each(|rows| rows.set_without_vectors(record.without_vectors));
        if let Some(live) = &mut self.live {
            live.changed |= live.delta_version.is_none();
        }
    }

    /// After a replay: columns that were added or dropped since the last row.
    pub fn catch_up_record(&mut self) {
        let record = self.record.clone();
        if let Some(live) = self.live.as_mut().filter(|l| l.place.generation == record.generation)
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
        let place =
            self.context.place(&self.record.source, self.record.table, self.record.live.unwrap_or(self.record.generation));
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
            location: live.map_or(place.dir, |l| l.place.dir.clone()),
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
        let place = |kind: &str| self.context.dir.join(kind).join(self.record.table.to_string());
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
    Gone { dirs: [rows.place.dir, rows.place.index_dir], views, after_ms }
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
