//! Flush: a checkpoint of the log. Hot rows as they are at a barrier become Parquet files, changed bitmaps one deletion-vector file, and
//! both, with the barrier's number, one Delta commit per table. All of it beside the applier; only freezing and installing take its lock.

use crate::delta::{Change, DeltaTable};
use crate::files::DataFile;
use crate::metrics;
use crate::rows::{Frozen, Home, Resume, Rows, Written};
use crate::segment::Body;
use crate::source::{Source, SourceState};
use mainstem_env::fault;
use mainstem_types::{Generation, Result, TableId};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Topic of the last [`Flushed`] of each source: key = source name, policy compact.
pub(crate) const FLUSHED_TOPIC: &str = "_mainstem.flushed";

/// How far each generation of a source is durable: also those that had nothing to commit, which therefore hold no log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flushed {
    pub tables: Vec<FlushedTable>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlushedTable {
    pub table: TableId,
    pub generation: Generation,
    #[serde(flatten)]
    pub resume: Resume,
}

/// One generation's part in a flush.
struct Plan {
    home: Home,
    delta: Arc<Mutex<DeltaTable>>,
    frozen: Frozen,
    files: Vec<(u32, Arc<DataFile>, Arc<RoaringBitmap>)>,
    resume: Resume,
}

impl Source {
    /// Flushes every table that changed, at the barrier that is visible now. Returns what is durable then. A table whose flush fails
    /// goes on hot and is tried again at the next; the first such error is returned after the others are done.
    pub fn flush(&self) -> Result<Flushed> {
        let _one = self.flushing.lock();
        let plans = self.with_state(freeze_all)?;
        let mut failed = None;
        for plan in plans {
            if let Err(error) = self.flush_one(plan) {
                metrics::FLUSH_FAILURES.add(1);
                tracing::error!(source = %self.name, error = %error.chain(), "a live table could not be flushed; it stays in memory");
                failed.get_or_insert(error);
            }
        }
        let flushed = self.with_state(|state| {
            state.touch();
            flushed(state)
        });
        fault::point("flush.before_floor");
        failed.map_or(Ok(flushed), Err)
    }

    fn flush_one(&self, mut plan: Plan) -> Result<()> {
        let (table, generation) = (plan.home.table, plan.home.generation);
        match commit(&mut plan) {
            Ok((written, version)) => {
                metrics::FLUSHES.add(1);
                self.with_rows(table, generation, |rows| {
                    rows.install(plan.frozen, written);
                    rows.index.frozen = None;
                    rows.flushed = plan.resume;
                    rows.delta_version = version;
                });
                Ok(())
            }
            Err(error) => {
                self.with_rows(table, generation, |rows| rows.thaw(plan.frozen));
                Err(error)
            }
        }
    }

    /// Nothing happens when the generation is gone meanwhile.
    pub fn with_rows(&self, id: TableId, generation: Generation, use_it: impl FnOnce(&mut Rows)) {
        self.with_state(|state| {
            let Some(table) = state.tables.get_mut(&id) else { return };
            table.touch();
            if let Some(rows) = table.rows_mut().find(|r| r.home.generation == generation) {
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
    for table in state.tables.values_mut().filter(|t| t.broken.is_none()) {
        let resume = Resume { seq, offset: table.offset, topic_generation: table.topic_generation };
        for rows in table.rows_mut().filter(|r| r.changed) {
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
    Ok(Plan { home: rows.home.clone(), delta: rows.delta.clone(), files: files.collect(), frozen, resume })
}

/// Everything between the two locks. Returns the new file and the Delta version.
fn commit(plan: &mut Plan) -> Result<(Option<Written>, Option<u64>)> {
    plan.home.create_dirs()?;
    let written = plan.frozen.write(&plan.home)?;
    fault::point("flush.after_parquet");
    let mut files = std::mem::take(&mut plan.files);
    if let Some(written) = &written {
        files.push((plan.frozen.target, written.file.clone(), Arc::default()));
    }
    let mut delta = plan.delta.lock();
    delta.commit(&Change { files, schema: plan.frozen.schema.clone(), resume: plan.resume })?;
    Ok((written, delta.version))
}

/// What of a source is durable: a generation without changes is as far as its source.
fn flushed(state: &mut SourceState) -> Flushed {
    let mut tables = Vec::new();
    let seq = state.seq;
    for table in state.tables.values_mut() {
        let here = Resume { seq, offset: table.offset, topic_generation: table.topic_generation };
        let id = table.record.table;
        let broken = table.broken.is_some();
        for rows in table.rows_mut() {
            if !rows.changed && !broken && rows.index.frozen.is_none() {
                rows.flushed = here;
            }
            tables.push(FlushedTable { table: id, generation: rows.home.generation, resume: rows.flushed });
        }
    }
    Flushed { tables }
}
