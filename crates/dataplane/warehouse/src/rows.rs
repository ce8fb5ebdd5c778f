//! One generation of one table: its segments, its key index, and how rows move from memory to a Parquet file.

use crate::codes::{self, io_error};
use crate::context::{GenerationDir, Resume};
use crate::delta::DeltaTable;
use crate::files::arrow_error;
use crate::index::{HotKeys, Index, RowAddr};
use crate::keys::KeyCodec;
use crate::reindex::rebuild_run;
use crate::run::Run;
use crate::segment::{Body, Piece, Segment};
use crate::segment_writer::{SegmentWriter, Written};
use crate::snapshot::{FileView, HotView};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use mainstem_types::{Error, Identity, Result, TableSchema};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

pub(crate) struct Rows {
    pub place: GenerationDir,
    pub schema: Arc<TableSchema>,
    pub arrow: SchemaRef,
    views: SchemaRef,
    /// None: rows are never looked up.
    pub codec: Option<KeyCodec>,
    /// Files with dead rows are rewritten by a flush rather than given deletion vectors.
    pub without_vectors: bool,
    /// Equal rows may be there several times.
    pub multiset: bool,
    pub segments: BTreeMap<u32, Segment>,
    /// The hot segment that small batches go to.
    pub open: Option<u32>,
    pub next_segment: u32,
    pub index: Index,
    pub live_rows: u64,
    /// Counts up when everything was dropped: a flush that began before must not install its file.
    pub truncations: u64,
    /// Whether something happened since the last freeze.
    pub changed: bool,
    pub flushed: Resume,
    /// Only the flusher commits.
    pub delta: Arc<Mutex<DeltaTable>>,
    pub delta_version: Option<u64>,
    pub hot_bytes: usize,
    /// Views of files that were truncated away but may still be read.
    pub gone_views: Vec<Weak<FileView>>,
    /// Files of the table and of its index that it does without.
    dropped: Vec<PathBuf>,
}

/// A hot segment as it was at a barrier.
pub(crate) struct FrozenSegment {
    pieces: Vec<Piece>,
    moved: Moved,
}

/// A segment whose live rows were written to a file, in their order.
pub(crate) struct Moved {
    pub segment: u32,
    /// Those of its rows that were left out.
    pub dead: Arc<RoaringBitmap>,
    /// Row of the file that the first of the others became.
    pub base: u32,
}

impl Moved {
    /// The rows of the file that died since, `now` being the segment's dead rows.
    pub fn died<'a>(&'a self, now: &'a RoaringBitmap) -> impl Iterator<Item = u32> + 'a {
        let (mut skipped, mut from) = (0, 0);
        (now - self.dead.as_ref()).into_iter().map(move |row| {
            skipped += self.dead.range_cardinality(from..row) as u32;
            from = row;
            self.base + row - skipped
        })
    }
}

/// Hot rows on their way to a file.
pub(crate) struct Frozen {
    pub segments: Vec<FrozenSegment>,
    /// The id that the file will have as a segment.
    pub target: u32,
    pub schema: Arc<TableSchema>,
    codec: Option<KeyCodec>,
    truncations: u64,
}

impl Rows {
    pub fn new(place: GenerationDir, schema: Arc<TableSchema>) -> Self {
        Self {
            codec: KeyCodec::new(&schema, place.seed),
            without_vectors: false,
            multiset: schema.identity == Identity::WholeRow,
            arrow: schema.arrow(),
            views: schema.arrow_views(),
            segments: BTreeMap::new(),
            open: None,
            next_segment: 1,
            index: Index::default(),
            live_rows: 0,
            truncations: 0,
            changed: false,
            flushed: Resume::default(),
            delta: Arc::new(Mutex::new(DeltaTable::new(&place))),
            delta_version: None,
            hot_bytes: 0,
            gone_views: Vec::new(),
            dropped: Vec::new(),
            schema,
            place,
        }
    }

    /// Takes over a schema with added or dropped columns. Anything that needs the rows themselves to change comes as a new generation.
    pub fn evolve(&mut self, schema: &Arc<TableSchema>) -> Result<()> {
        if Arc::ptr_eq(schema, &self.schema) {
            return Ok(());
        }
        if schema.columns == self.schema.columns && schema.identity == self.schema.identity {
            self.schema = schema.clone();
            return Ok(());
        }
        let retyped = |c: &&mainstem_types::Column| {
            self.schema
                .index_of(c.id)
                .is_some_and(|at| self.schema.columns[at].kind != c.kind || self.schema.columns[at].name != c.name)
        };
        let rekeyed = self.identity_ids() != identity_ids(schema) || schema.identity != self.schema.identity;
        if let Some(column) = schema.columns.iter().find(retyped) {
            return Err(self.misfit(&format!("column `{}` changed its name or type", column.name)));
        }
        if rekeyed && self.live_rows > 0 && !(self.multiset && schema.identity == Identity::WholeRow) {
            return Err(self.misfit("its identity changed"));
        }
        let added = schema.columns.iter().filter(|c| self.schema.index_of(c.id).is_none());
        if let Some(column) = added.into_iter().find(|c| self.segments.values().any(|s| s.had_another(c))) {
            // Files are read by name: what the other column held would be this one's.
            return Err(self.misfit(&format!("column `{}` was added, and rows have another of that name", column.name)));
        }
        let arrow = schema.arrow();
        let before = std::mem::replace(&mut self.schema, schema.clone());
        for segment in self.segments.values_mut() {
            if let Body::Hot(hot) = &mut segment.body {
                hot.evolve(&before, schema, &arrow)?;
            }
        }
        self.codec = KeyCodec::new(schema, self.place.seed);
        self.multiset = schema.identity == Identity::WholeRow;
        self.arrow = arrow;
        self.views = schema.arrow_views();
        self.changed = true;
        if rekeyed { self.reindex() } else { Ok(()) }
    }

    /// Makes the index anew: the whole row is the key, and it has other columns now.
    fn reindex(&mut self) -> Result<()> {
        let old = std::mem::take(&mut self.index);
        for run in old.runs {
            self.place.env.disk.remove_file(&run.path).map_err(io_error(&run.path, "remove"))?;
        }
        let Some(codec) = &self.codec else { return Ok(()) };
        for (id, segment) in &self.segments {
            match &segment.body {
                Body::Hot(hot) => {
                    for piece in &hot.pieces {
                        let keys = match hot.frozen {
                            // A flush that fails gives them back, one that succeeds forgets them.
                            true => self.index.frozen.get_or_insert_default(),
                            false => &mut self.index.active,
                        };
                        for (key, row) in codec.keys(&piece.rows)?.into_iter().zip(piece.start..) {
                            if segment.is_live(row) {
                                keys.add(key, RowAddr { segment: *id, row });
                            }
                        }
                    }
                }
                Body::File(filed) => {
                    self.index.add_run(rebuild_run(&self.place, &self.schema, codec, &filed.file, *id)?);
                }
            }
        }
        Ok(())
    }

    fn identity_ids(&self) -> Vec<i32> {
        identity_ids(&self.schema)
    }

    pub fn misfit(&self, what: &str) -> Error {
        let text =
            format!("table {} ({}): {what} within generation {}", self.schema.name, self.place.table, self.place.generation);
        Error::bug(codes::MISFIT, text).hint("Run RESYNC SOURCE ... TABLE ... to build the table anew.")
    }

    /// Whether deletion vectors are written from now on. What has some gets rid of them at the next flush.
    pub fn set_without_vectors(&mut self, without_vectors: bool) {
        if without_vectors && !self.without_vectors {
            self.changed |= self.segments.values().any(|s| matches!(s.body, Body::File(_)) && !s.dead.is_empty());
        }
        self.without_vectors = without_vectors;
    }

    pub fn is_live(&self, at: RowAddr) -> bool {
        self.segments.get(&at.segment).is_some_and(|s| s.is_live(at.row))
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        for segment in std::mem::take(&mut self.segments).into_values() {
            self.give_up(segment);
        }
        self.open = None;
        let index = std::mem::take(&mut self.index);
        self.dropped.extend(index.runs.iter().map(|run| run.path.clone()));
        (self.live_rows, self.hot_bytes) = (0, 0);
        self.truncations += 1;
    }

    /// Forgets a segment; its file stays while a snapshot or the Delta log has it.
    fn give_up(&mut self, segment: Segment) {
        if let Body::File(filed) = segment.body {
            self.gone_views.extend(filed.handed_out());
            self.dropped.push(filed.file.path.clone());
        }
    }

    /// Files that the table does without since the last call.
    pub fn let_go(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.dropped)
    }

    /// Those of them, now or before, that a snapshot still reads.
    pub fn pinned(&mut self) -> BTreeSet<PathBuf> {
        self.gone_views.retain(|view| view.strong_count() > 0);
        self.gone_views.iter().filter_map(Weak::upgrade).map(|view| view.path.clone()).collect()
    }

    /// What rows in memory and their keys take.
    pub fn memory(&self) -> usize {
        self.hot_bytes + self.index.hot_bytes()
    }

    /// Bytes of hot rows that are not on their way to a file.
    pub fn spillable_bytes(&self) -> usize {
        let hot = |s: &Segment| {
            if let Body::Hot(hot) = &s.body
                && !hot.frozen
            {
                hot.bytes.max(1)
            } else {
                0
            }
        };
        self.segments.values().map(hot).sum()
    }

    /// Rows, dead ones included.
    pub fn total_rows(&self) -> u64 {
        self.segments.values().map(|s| u64::from(s.rows)).sum()
    }

    pub fn count_hot_bytes(&mut self) {
        let hot = |s: &Segment| if let Body::Hot(hot) = &s.body { hot.bytes } else { 0 };
        self.hot_bytes = self.segments.values().map(hot).sum();
    }

    /// What queries see.
    pub fn show(&mut self) -> Result<(Vec<HotView>, Vec<Arc<FileView>>)> {
        let (mut hot, mut files) = (Vec::new(), Vec::new());
        for segment in self.segments.values_mut() {
            segment.show(&self.views, &mut hot, &mut files)?;
        }
        Ok((hot, files))
    }

    /// Gives up files none of whose rows is live; the next commit takes them out.
    pub fn drop_dead_files(&mut self) {
        let dead = |s: &Segment| matches!(s.body, Body::File(_)) && s.dead.len() >= u64::from(s.rows);
        let gone: Vec<Segment> = self.segments.extract_if(.., |_, s| dead(s)).map(|(_, s)| s).collect();
        gone.into_iter().for_each(|segment| self.give_up(segment));
    }

    /// Sets all hot rows that are not already on their way aside; the index is the caller's.
    pub fn freeze(&mut self) -> Result<Frozen> {
        self.open = None;
        let target = self.next_segment;
        self.next_segment += 1;
        let mut segments = Vec::new();
        for (id, segment) in &mut self.segments {
            if let Body::Hot(hot) = &mut segment.body
                && !hot.frozen
            {
                hot.seal()?;
                hot.frozen = true;
                let moved = Moved { segment: *id, dead: segment.dead.clone(), base: 0 };
                segments.push(FrozenSegment { pieces: hot.pieces.clone(), moved });
            }
        }
        Ok(Frozen { segments, target, schema: self.schema.clone(), codec: self.codec.clone(), truncations: self.truncations })
    }

    /// Replaces frozen segments by the file they were written to; rows that died meanwhile are dead in the file too.
    pub fn install(&mut self, frozen: Frozen, written: Option<Written>) -> Result<()> {
        if frozen.truncations != self.truncations {
            if let Some(written) = written {
                self.dropped.push(written.file.path.clone());
                self.dropped.extend(written.run.map(|run| run.path));
            }
            return Ok(());
        }
        if let Some(written) = written {
            self.replace(frozen.segments.iter().map(|part| &part.moved), frozen.target, written)?;
        } else {
            frozen.segments.iter().for_each(|part| drop(self.segments.remove(&part.moved.segment)));
        }
        self.count_hot_bytes();
        Ok(())
    }

    /// Puts the file of their live rows in the place of segments; rows that died meanwhile are dead in it too.
    fn replace<'a>(&mut self, moved: impl Iterator<Item = &'a Moved>, target: u32, written: Written) -> Result<()> {
        let run = match (&self.codec, written.run) {
            (Some(codec), Some(run)) if run.form == codec.fingerprint => Some(run),
            (codec, unfit) => {
                // The identity got another column, or lost one, while the file was written.
                self.dropped.extend(unfit.map(|run| run.path));
                codec.as_ref().map(|codec| rebuild_run(&self.place, &self.schema, codec, &written.file, target)).transpose()?
            }
        };
        let mut dead = RoaringBitmap::new();
        for part in moved {
            let Some(segment) = self.segments.remove(&part.segment) else { continue };
            dead.extend(part.died(&segment.dead));
            self.give_up(segment);
        }
        self.segments.insert(target, Segment::filed(written.file, Arc::new(dead)));
        run.into_iter().for_each(|run| self.index.add_run(run));
        Ok(())
    }

    /// The same for files that were merged into one. False when they are gone: the table was emptied, and the next commit takes the
    /// new file out.
    pub fn merge_files(&mut self, moved: &[Moved], target: u32, written: Written) -> Result<bool> {
        if !moved.iter().all(|part| self.segments.contains_key(&part.segment)) {
            self.dropped.extend(written.run.map(|run| run.path));
            return Ok(false);
        }
        self.replace(moved.iter(), target, written)?;
        let segments = &self.segments;
        let useless = |run: &mut Arc<Run>| !run.segments.iter().any(|id| segments.contains_key(id));
        self.dropped.extend(self.index.runs.extract_if(.., useless).map(|run| run.path.clone()));
        Ok(true)
    }

    /// Takes a merged run for those that it was made of, when they are all still there.
    pub fn merge_runs(&mut self, old: &[Arc<Run>], merged: Run) {
        let is_old = |run: &Arc<Run>| old.iter().any(|o| Arc::ptr_eq(o, run));
        if self.index.runs.iter().filter(|run| is_old(run)).count() < old.len() {
            self.dropped.push(merged.path);
            return;
        }
        // Whoever still has an old run mapped keeps it: only the names go.
        self.dropped.extend(self.index.runs.extract_if(.., |run| is_old(run)).map(|run| run.path.clone()));
        self.index.add_run(merged);
    }

    /// Gives frozen segments back after a flush that failed.
    pub fn thaw(&mut self, frozen: Frozen) {
        let keys = self.index.frozen.take().unwrap_or_default();
        self.unfreeze(frozen, keys);
    }

    pub fn unfreeze(&mut self, frozen: Frozen, keys: HotKeys) {
        for part in frozen.segments {
            if let Some(Segment { body: Body::Hot(hot), .. }) = self.segments.get_mut(&part.moved.segment) {
                hot.frozen = false;
            }
        }
        let segments = &self.segments;
        self.index.give_back(keys, self.multiset, &|at: RowAddr| segments.get(&at.segment).is_some_and(|s| s.is_live(at.row)));
        self.changed = true;
    }

    /// Takes hot rows and their keys out for a file that the next flush commits. Nothing may be looked up until they are back.
    pub fn set_aside(&mut self) -> Result<(Frozen, HotKeys)> {
        let frozen = self.freeze()?;
        Ok((frozen, std::mem::take(&mut self.index.active)))
    }
}

fn identity_ids(schema: &TableSchema) -> Vec<i32> {
    match &schema.identity {
        Identity::Key { columns } => columns.iter().map(|c| c.0).collect(),
        Identity::WholeRow => schema.columns.iter().map(|c| c.id.0).collect(),
        Identity::AppendOnly => Vec::new(),
    }
}

impl Frozen {
    /// Writes the live rows to a file and their keys to a run. None when there are none.
    pub fn write(&mut self, place: &GenerationDir) -> Result<Option<Written>> {
        let live = |s: &FrozenSegment| s.pieces.iter().map(|p| p.rows.num_rows() as u64).sum::<u64>() > s.moved.dead.len();
        if !self.segments.iter().any(live) {
            return Ok(None);
        }
        let mut writer = SegmentWriter::create(place, self.target, &self.schema, self.codec.as_ref())?;
        for segment in &mut self.segments {
            segment.moved.base = writer.rows();
            for piece in &segment.pieces {
                writer.write(&live_rows(&piece.rows, piece.start, &segment.moved.dead)?)?;
            }
        }
        crate::metrics::FLUSHED_ROWS.add(u64::from(writer.rows()));
        writer.finish().map(Some)
    }
}

/// Rows that are not dead; the first of them has the number `start`.
pub(crate) fn live_rows(rows: &RecordBatch, start: u32, dead: &RoaringBitmap) -> Result<RecordBatch> {
    let mut gone = dead.range(start..start + rows.num_rows() as u32).peekable();
    if gone.peek().is_none() {
        return Ok(rows.clone());
    }
    let mut keep = vec![true; rows.num_rows()];
    gone.for_each(|row| keep[(row - start) as usize] = false);
    filter_record_batch(rows, &BooleanArray::from(keep)).map_err(arrow_error)
}
