//! Flush: a checkpoint of the log. Hot rows as they are at a barrier become Parquet files, changed bitmaps one deletion-vector file, and
//! both, with the barrier's number, one Delta commit per table. All of it beside the applier; only freezing and installing take its lock.

use crate::codes;
use crate::context::{GenerationDir, Resume};
use crate::delta::{Change, DeltaTable, Noted};
use crate::files::DataFile;
use crate::index::RowAddr;
use crate::merge::Merge;
use crate::metrics;
use crate::rows::{Frozen, Rows};
use crate::run::Run;
use crate::segment::Body;
use crate::segment_writer::Written;
use crate::source::Source;
use crate::state::SourceState;
use mainstem_env::fault;
use mainstem_envelope::tail::Visible;
use mainstem_types::{Error, Generation, Position, Result, TableId};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Topic of the last [`Flushed`] of each source: key = source name, policy compact.
pub(crate) const FLUSHED_TOPIC: &str = "_mainstem.flushed";

/// How far each generation of a source is durable: also those that had nothing to commit, which therefore hold no log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flushed {
    pub tables: Vec<FlushedTable>,
    /// The source's last barrier then, so that the barriers' topic need not keep it for a source that stands still.
    #[serde(default)]
    pub barrier: Option<LastBarrier>,
}

/// What a start needs of a source's last barrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastBarrier {
    pub seq: u64,
    pub position: Position,
    pub commit_time_us: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlushedTable {
    pub table: TableId,
    pub generation: Generation,
    #[serde(flatten)]
    pub noted: Noted,
}

/// One generation's part in a flush.
struct Plan {
    place: GenerationDir,
    delta: Arc<Mutex<DeltaTable>>,
    frozen: Frozen,
    files: Vec<(u32, Arc<DataFile>, Arc<RoaringBitmap>)>,
    /// Files with dead rows of a table that has no deletion vectors.
    rewrites: Vec<Merge>,
    resume: Resume,
}

/// What a flush of one generation came to.
struct Committed {
    /// The hot rows.
    written: Option<Written>,
    /// The files of the plan's rewrites, in their order.
    rewritten: Vec<Written>,
    version: Option<u64>,
}

impl Source {
    /// Flushes every table that changed, at the barrier that is visible now. Returns what is durable then. A table whose flush fails
    /// goes on hot and is tried again at the next; the first such error is returned beside what the others made durable.
    pub fn flush(&self) -> Result<(Flushed, Option<Error>)> {
        let _one = self.flushing.lock();
        let plans = {
            let _between_groups = self.applying.lock();
            self.with_state(freeze_all)?
        };
        let mut failed = None;
        for plan in plans {
            if let Err(error) = self.flush_one(plan) {
                metrics::FLUSH_FAILURES.add(1);
                tracing::error!(source = %self.name, error = %error.chain(), "a live table could not be flushed; it stays in memory");
                failed.get_or_insert(error);
            }
        }
        let mut flushed = self.with_state(|state| {
            state.touch();
            flushed(state)
        });
        let last = |v: &Visible| LastBarrier { seq: v.seq, position: v.position.clone(), commit_time_us: v.commit_time_us };
        flushed.barrier = self.visible.borrow().as_ref().map(last);
        fault::point("flush.before_floor");
        Ok((flushed, failed))
    }

    fn flush_one(&self, mut plan: Plan) -> Result<()> {
        let (table, generation) = (plan.place.table, plan.place.generation);
        match commit(&mut plan) {
            Ok(Committed { written, rewritten, version }) => {
                metrics::FLUSHES.add(1);
                let mut installed = Ok(());
                self.with_rows(table, generation, |rows| {
                    installed = rows.install(plan.frozen, written);
                    for (merge, written) in plan.rewrites.iter().zip(rewritten) {
                        let moved = rows.merge_files(&merge.moved, merge.target, written);
                        installed = std::mem::replace(&mut installed, Ok(())).and(moved.map(drop));
                    }
                    rows.index.frozen = None;
                    rows.flushed = plan.resume;
                    rows.delta_version = version;
                });
                installed.inspect_err(|error| self.break_table(table, error))?;
                let place = &plan.place;
                // A statement of its own: its lock must be gone before the merge takes it.
                let checked = plan.delta.lock().checkpoint_if_due(place.settings.checkpoint_commits);
                let done = checked.and_then(|()| merge_runs(self, place, &plan.delta));
                if let Err(error) = done {
                    // Both only make later reads faster.
                    tracing::warn!(table = %table, error = %error.chain(), "a checkpoint or an index merge failed; tried again at the next flush");
                }
                Ok(())
            }
            Err(error) => {
                self.with_rows(table, generation, |rows| rows.thaw(plan.frozen));
                self.break_if_foreign(table, &error);
                Err(error)
            }
        }
    }

    /// Somebody else's commit makes every later one of ours fail, and nobody may wait for this table's memory.
    pub fn break_if_foreign(&self, table: TableId, error: &Error) {
        if error.code().id == codes::FOREIGN_COMMIT.id {
            self.break_table(table, error);
        }
    }

    /// A table whose rows in memory are not what is committed goes no further; a start reads them anew.
    pub fn break_table(&self, table: TableId, error: &Error) {
        self.with_state(|state| {
            let why = Error::fix(error.code(), error.message().to_string())
                .hint("Run RESYNC SOURCE ... TABLE ... to build the table anew.");
            if let Some(table) = state.tables.get_mut(&table) {
                table.fail(why);
            }
            state.touch();
        });
    }

    /// Nothing happens when the generation is gone meanwhile.
    pub fn with_rows(&self, id: TableId, generation: Generation, use_it: impl FnOnce(&mut Rows)) {
        self.with_state(|state| {
            let Some(table) = state.tables.get_mut(&id) else { return };
            table.touch();
            if let Some(rows) = table.rows_mut().find(|r| r.place.generation == generation) {
                use_it(rows);
            }
            state.touch();
        });
    }
}

fn freeze_all(state: &mut SourceState) -> Result<Vec<Plan>> {
    let mut plans = Vec::new();
    if state.halted {
        return Ok(plans);
    }
    let seq = state.seq;
    for table in state.tables.values_mut().filter(|t| t.broken.is_none() && !t.spoiled) {
        let resume = Resume { seq, offset: table.offset, topic_generation: table.topic_generation };
        // A generation that is being filled is thrown away by a restart: it has nothing to make durable.
        for rows in table.live.iter_mut().filter(|r| r.changed) {
            plans.push(freeze(rows, resume)?);
        }
    }
    Ok(plans)
}

fn freeze(rows: &mut Rows, resume: Resume) -> Result<Plan> {
    rows.drop_dead_files();
    let frozen = rows.freeze()?;
    rows.index.frozen = Some(std::mem::take(&mut rows.index.active));
    rows.changed = false;
    let files = rows.segments.iter().filter_map(|(id, segment)| match &segment.body {
        Body::File(filed) => Some((*id, filed.file.clone(), segment.dead.clone())),
        Body::Hot(_) => None,
    });
    let mut files: Vec<_> = files.collect();
    let mut rewrites = Vec::new();
    if rows.without_vectors {
        let dead = files.extract_if(.., |(_, _, dead)| !dead.is_empty());
        rewrites.extend(dead.map(|(segment, file, dead)| Merge::of_one(rows, segment, file, dead)));
    }
    Ok(Plan { place: rows.place.clone(), delta: rows.delta.clone(), files, rewrites, frozen, resume })
}

/// Everything between the two locks.
fn commit(plan: &mut Plan) -> Result<Committed> {
    plan.place.create_dirs()?;
    let mut done = Committed { written: plan.frozen.write(&plan.place)?, rewritten: Vec::new(), version: None };
    fault::point("flush.after_parquet");
    let rewritten = plan.rewrites.iter_mut().try_for_each(|merge| -> Result<()> {
        done.rewritten.extend(merge.write(&|| false)?);
        Ok(())
    });
    let mut files = std::mem::take(&mut plan.files);
    let targets = plan.rewrites.iter().map(|merge| merge.target);
    files.extend(targets.zip(&done.rewritten).map(|(target, written)| (target, written.file.clone(), Arc::default())));
    files.extend(done.written.iter().map(|written| (plan.frozen.target, written.file.clone(), Arc::default())));
    let mut delta = plan.delta.lock();
    let change = Change { files, schema: plan.frozen.schema.clone(), resume: plan.resume };
    if let Err(error) = rewritten.and_then(|()| delta.commit(&change)) {
        done.rewritten.into_iter().chain(done.written).for_each(|written| discard(Some(written), &plan.place, &delta));
        return Err(error);
    }
    done.version = delta.version;
    Ok(done)
}

/// Removes what was written for a commit that failed, unless that commit is there all the same and names it.
pub(crate) fn discard(written: Option<Written>, place: &GenerationDir, delta: &DeltaTable) {
    if !delta.is_overtaken() {
        written.into_iter().for_each(|written| written.discard(place.env.disk.as_ref()));
    }
}

/// What of a source is durable: a generation without changes is as far as its source.
fn flushed(state: &mut SourceState) -> Flushed {
    let mut tables = Vec::new();
    let seq = state.seq;
    for table in state.tables.values_mut() {
        let here = Resume { seq, offset: table.offset, topic_generation: table.topic_generation };
        let id = table.record.table;
        // Within a group, what the table says of its topic is ahead of the barrier.
        let behind = table.broken.is_some() || table.spoiled || state.mid_group;
        for rows in table.live.iter_mut() {
            if !rows.changed && !behind && rows.index.frozen.is_none() {
                rows.flushed = here;
            }
            table.unopened = None;
            tables.push(FlushedTable {
                table: id,
                generation: rows.place.generation,
                noted: rows.delta.lock().noted(rows.flushed),
            });
        }
    }
    let unopened = state.tables.values().filter_map(|table| Some((table.record.table, table.unopened?)));
    tables.extend(unopened.map(|(table, (generation, noted))| FlushedTable { table, generation, noted }));
    Flushed { tables, barrier: None }
}

/// Merges runs of a generation when there are many. Left out are entries of rows that are dead in the last commit; those that died
/// since must be found again by a replay.
fn merge_runs(source: &Source, place: &GenerationDir, delta: &Mutex<DeltaTable>) -> Result<()> {
    let (mut runs, mut present) = (Vec::new(), BTreeSet::new());
    source.with_rows(place.table, place.generation, |rows| {
        runs = small_runs(&rows.index.runs, place.settings.index_runs_max);
        present = rows.segments.keys().copied().collect();
    });
    let Some(form) = runs.first().map(|run| run.form) else { return Ok(()) };
    let committed: BTreeMap<u32, _> = delta.lock().files.iter().map(|(id, file)| (*id, file.dead.clone())).collect();
    let kept = |at: &RowAddr| committed.get(&at.segment).map_or(present.contains(&at.segment), |dead| !dead.contains(at.row));
    let covered: BTreeSet<u32> = runs.iter().flat_map(|run| run.segments.iter().copied()).collect();
    let segments: Vec<u32> = covered.into_iter().filter(|id| committed.contains_key(id) || present.contains(id)).collect();
    let name = format!("merged-{}.run", uuid::Builder::from_random_bytes(place.env.random()).into_uuid());
    let merged = Run::merge(place.env.disk.as_ref(), &place.index_dir.join(name), &runs, kept, &segments, form)?;
    source.with_rows(place.table, place.generation, |rows| rows.merge_runs(&runs, merged));
    Ok(())
}

/// Which runs to merge when there are more than `most`: the two smallest, and larger ones as long as those before them have as many
/// entries together. So an entry is written again when its run doubles at least, and the largest runs rest.
fn small_runs(runs: &[Arc<Run>], most: usize) -> Vec<Arc<Run>> {
    if runs.len() <= most.max(1) {
        return Vec::new();
    }
    let mut chosen = runs.to_vec();
    chosen.sort_by_key(|run| run.len());
    let (mut entries, mut count) = (0, 0);
    while count < 2 || chosen.get(count).is_some_and(|run| run.len() <= entries) {
        entries += chosen[count].len();
        count += 1;
    }
    chosen.truncate(count);
    chosen
}
