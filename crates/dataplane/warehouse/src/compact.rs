//! Compaction: small and mostly dead Parquet files of a live generation are rewritten into one. It only re-arranges the last committed
//! version: the new file has the rows that its deletion vectors leave, and the barrier stays, so a replay from there finds what it would
//! have found. Runs beside the applier, in bounded rounds between flushes; only choosing and installing take the applier's lock.

use crate::flush::discard;
use crate::keys::KeyCodec;
use crate::merge::Merge;
use crate::metrics;
use crate::rows::{Moved, Rows};
use crate::segment::Body;
use crate::settings::WarehouseSettings;
use crate::source::Source;
use crate::state::SourceState;
use mainstem_env::fault;
use mainstem_types::{Result, TableId};

/// A file below this part of the largest size counts as if it had it: what it costs is its being there. So the number of small files is
/// bounded whatever their sizes, by 53 with the default settings.
const SMALLEST_PART: u64 = 1024;
/// Values of a file may take this many times its bytes in memory before they count in their stead: reading and writing them is the work.
const RAW_TIMES: u64 = 4;
/// Bound of the setting: a row's value takes a byte at least, and row numbers have 32 bits.
const FILE_BYTES_MAX: u64 = 512 << 20;

impl Source {
    /// Rewrites files of live generations, as many as fit a round, the largest number first. A table where that fails stays as it is;
    /// the next round tries again. `stop` ends it early.
    pub fn compact(&self, stop: &dyn Fn() -> bool) {
        let _one = self.flushing.lock();
        for merge in self.with_state(plan_round) {
            let table = merge.place.table;
            if let Err(error) = self.compact_one(merge, stop) {
                metrics::COMPACTION_FAILURES.add(1);
                tracing::warn!(source = %self.name, %table, error = %error.chain(), "files of a live table could not be merged; tried again after the next flush");
            }
        }
    }

    fn compact_one(&self, mut merge: Merge, stop: &dyn Fn() -> bool) -> Result<()> {
        let (table, generation) = (merge.place.table, merge.place.generation);
        let Some(written) = merge.write(stop)? else { return Ok(()) };
        fault::point("compact.after_parquet");
        let old: Vec<u32> = merge.moved.iter().map(|moved| moved.segment).collect();
        let file = written.file.clone();
        let version = {
            let mut delta = merge.delta.lock();
            if let Err(error) = delta.rearrange(&old, merge.target, &file) {
                discard(Some(written), &merge.place, &delta);
                drop(delta);
                self.break_if_foreign(table, &error);
                return Err(error);
            }
            delta.version
        };
        fault::point("compact.after_commit");
        let mut installed = Ok(false);
        self.with_rows(table, generation, |rows| {
            installed = rows.merge_files(&merge.moved, merge.target, written);
            rows.delta_version = version;
        });
        let installed = installed.inspect_err(|error| self.break_table(table, error))?;
        let before: u64 = merge.files.iter().map(|f| f.bytes).sum();
        metrics::COMPACTIONS.add(1);
        metrics::COMPACTED_FILES.add(old.len() as u64);
        metrics::COMPACTED_BYTES.add(before);
        metrics::COMPACTION_WRITTEN_BYTES.add(file.bytes);
        tracing::debug!(%table, files = old.len(), before, after = file.bytes, rows = file.rows, installed, "files were merged");
        Ok(())
    }
}

/// What a source's tables have most to gain from, within the bytes of one round.
fn plan_round(state: &mut SourceState) -> Vec<Merge> {
    let settings = state.context.settings.clone();
    if state.halted || settings.compact_file_bytes == 0 {
        return Vec::new();
    }
    let whole = state.tables.iter().filter(|(_, table)| table.broken.is_none());
    let live = whole.filter_map(|(id, table)| Some((*id, table.live.as_ref()?)));
    let choices = live.map(|(id, rows)| (id, choose(candidates(rows), &settings)));
    let mut choices: Vec<(TableId, Choice)> = choices.filter(|(_, choice)| !choice.segments.is_empty()).collect();
    choices.sort_by_key(|(_, choice)| std::cmp::Reverse(choice.segments.len()));
    let (mut work, mut plans) = (0u64, Vec::new());
    for (id, choice) in choices {
        if plans.is_empty() || choice.work.saturating_add(work) <= settings.compact_file_bytes {
            work = choice.work.saturating_add(work);
            let rows = state.tables.get_mut(&id).and_then(|t| t.live.as_mut());
            plans.extend(rows.and_then(|rows| plan(rows, &choice.segments)));
        }
    }
    plans
}

fn plan(rows: &mut Rows, segments: &[u32]) -> Option<Merge> {
    // Nobody else has it: flushes, the only others to take it, are held off.
    let delta = rows.delta.lock();
    let schema = delta.schema.clone()?;
    let (mut files, mut moved) = (Vec::new(), Vec::new());
    for segment in segments {
        if let (Some(Body::File(filed)), Some(committed)) =
            (rows.segments.get(segment).map(|s| &s.body), delta.files.get(segment))
        {
            files.push(filed.file.clone());
            moved.push(Moved { segment: *segment, dead: committed.dead.clone(), base: 0 });
        }
    }
    drop(delta);
    let target = rows.next_segment;
    rows.next_segment += 1;
    let codec = KeyCodec::new(&schema, rows.place.seed);
    Some(Merge { place: rows.place.clone(), delta: rows.delta.clone(), schema, codec, files, moved, target })
}

/// A committed file as the choice sees it.
#[derive(Clone, Debug)]
struct Candidate {
    segment: u32,
    /// What it costs to read.
    weight: u64,
    rows: u64,
    dead: u64,
}

/// Files to be rewritten into one.
struct Choice {
    segments: Vec<u32>,
    work: u64,
}

fn candidates(rows: &Rows) -> Vec<Candidate> {
    let delta = rows.delta.lock();
    let candidate = |(id, segment): (&u32, &crate::segment::Segment)| {
        let (Body::File(filed), Some(committed)) = (&segment.body, delta.files.get(id)) else { return None };
        let weight = filed.file.bytes.max(filed.file.raw_bytes / RAW_TIMES);
        Some(Candidate { segment: *id, weight, rows: filed.file.rows, dead: committed.dead.len() })
    };
    rows.segments.iter().filter_map(candidate).collect()
}

/// Small files: the longest row of them, smallest first, whose live rows together are `compact_files_min` times those of the largest.
/// A row is thus written again only on its way to a file that many times larger. Beside them, files that are mostly dead.
fn choose(mut files: Vec<Candidate>, settings: &WarehouseSettings) -> Choice {
    let most = settings.compact_file_bytes.min(FILE_BYTES_MAX);
    let least = (most / SMALLEST_PART).max(1);
    let size = |f: &Candidate| {
        let living = f.rows.saturating_sub(f.dead);
        (u128::from(f.weight) * u128::from(living) / u128::from(f.rows.max(1))).max(least.into())
    };
    files.sort_by_key(|f| (size(f), f.segment));
    let (mut together, mut work, mut count, mut chosen_work) = (0, 0u64, 0, 0u64);
    for (at, file) in files.iter().enumerate() {
        together += size(file);
        work = work.saturating_add(file.weight.max(least));
        if work > most {
            break;
        }
        if size(file) * u128::from(settings.compact_files_min.max(2)) <= together {
            (count, chosen_work) = (at + 1, work);
        }
    }
    for file in files.split_off(count) {
        let mostly_dead = file.dead > 0 && file.dead.saturating_mul(100) / file.rows.max(1) >= settings.compact_dead_percent;
        if mostly_dead && file.weight >= least && (files.is_empty() || chosen_work.saturating_add(file.weight) <= most) {
            chosen_work = chosen_work.saturating_add(file.weight);
            files.push(file);
        }
    }
    // The order in which they were written is about that of their rows.
    let mut segments: Vec<u32> = files.iter().map(|f| f.segment).collect();
    segments.sort_unstable();
    Choice { segments, work: chosen_work }
}

#[cfg(test)]
#[path = "compact_tests.rs"]
mod tests;
