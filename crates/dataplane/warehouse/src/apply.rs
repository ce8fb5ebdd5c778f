//! Applies a change batch to a generation's rows: in order, so that key swaps and delete + reinsert inside one batch come out right.

use crate::files::{DataFile, arrow_error, as_type, read, unreadable};
use crate::index::{KeyMap, RowAddr};
use crate::metrics;
use crate::rows::Rows;
use crate::segment::{Body, SEGMENT_ROWS, Segment};
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{concat, filter_record_batch, interleave};
use hashbrown::HashMap;
use mainstem_types::{ChangeBatch, ColumnId, Op, Result};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Batches with fewer rows than this go to the open segment; larger ones become a segment as they are, without a copy.
const SMALL_ROWS: usize = 2048;

/// An update whose new row takes values of its old row over.
struct Fill {
    /// Number of the new row among the rows kept.
    kept: u32,
    columns: Vec<usize>,
    from: RowAddr,
}

/// Where the rows of a batch go, and what happened to them.
struct Landing {
    segment: u32,
    base: u32,
    next: u32,
    dead: RoaringBitmap,
    fills: Vec<Fill>,
    killed: u64,
    /// Older live rows of a key that the running transaction gave to another row: its next change of that key means the older one
    /// (rows that swap keys); what is left at its end was replaced.
    doubles: KeyMap<VecDeque<RowAddr>>,
}

/// A batch with what is needed to apply it.
struct Work<'a> {
    batch: &'a ChangeBatch,
    /// Its rows in the table's schema, identity columns complete.
    rows: RecordBatch,
    keys: Vec<u128>,
    old_keys: Vec<u128>,
    /// Rows found in the cold index: per event, then per old image for the new key of an update.
    cold: Vec<Option<RowAddr>>,
}

impl Rows {
    /// Applies a batch. `copied_once`: snapshot rows are known to meet no row with their key, so that a copy costs no lookups.
    pub fn apply(&mut self, batch: &ChangeBatch, copied_once: bool) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.evolve(&batch.schema)?;
        self.changed = true;
        let work = self.prepare(batch, copied_once)?;
        let kept = batch.ops.iter().filter(|op| matches!(op, Op::Read | Op::Create | Op::Update)).count();
        let mut landing = self.landing(kept, batch.ops.contains(&Op::Truncate));
        let mut first = 0;
        for (end, _) in &batch.txs {
            for event in first..*end as usize {
                self.apply_event(&work, event, &mut landing);
            }
            first = *end as usize;
            self.settle(&mut landing);
        }
        metrics::APPLIED_ROWS.add(batch.len() as u64);
        let rows = if kept == batch.len() {
            work.rows
        } else {
            let keep: Vec<bool> = batch.ops.iter().map(|op| matches!(op, Op::Read | Op::Create | Op::Update)).collect();
            filter_record_batch(&work.rows, &BooleanArray::from(keep)).map_err(arrow_error)?
        };
        let rows = self.fill(rows, &landing)?;
        self.land(rows, landing)
    }

    fn prepare<'a>(&self, batch: &'a ChangeBatch, copied_once: bool) -> Result<Work<'a>> {
        let rows = RecordBatch::try_new(self.arrow.clone(), batch.rows.columns().to_vec()).map_err(arrow_error)?;
        let rows = self.complete_identity(batch, rows)?;
        let (mut keys, mut old_keys) = (Vec::new(), Vec::new());
        if let Some(codec) = &self.codec {
            keys = codec.keys(&rows)?;
            if let Some(old) = &batch.old {
                old_keys = codec.keys(old)?;
            }
        }
        let mut work = Work { batch, rows, keys, old_keys, cold: Vec::new() };
        if self.codec.is_some() && (self.index.frozen.is_some() || !self.index.runs.is_empty()) {
            work.cold = vec![None; batch.len() + batch.old_rows.len()];
            let mut lookups = self.lookups(&work, copied_once);
            self.index.find_cold_many(&mut lookups, self.multiset, &|at| self.is_live(at), &mut work.cold);
        }
        Ok(work)
    }

    /// Identity columns marked unchanged are taken from the old image, which has them.
    fn complete_identity(&self, batch: &ChangeBatch, rows: RecordBatch) -> Result<RecordBatch> {
        let (Some(old), Some(codec)) = (&batch.old, &self.codec) else { return Ok(rows) };
        if batch.unchanged.is_empty() {
            return Ok(rows);
        }
        let mut columns = rows.columns().to_vec();
        for at in &codec.columns {
            let id = self.schema.columns[*at].id;
            let mut picks: Vec<(usize, usize)> = (0..rows.num_rows()).map(|row| (0, row)).collect();
            let mut any = false;
            for (row, ids) in &batch.unchanged {
                if ids.contains(&id)
                    && let Ok(image) = batch.old_rows.binary_search(row)
                {
                    picks[*row as usize] = (1, image);
                    any = true;
                }
            }
            if any {
                let taken = interleave(&[columns[*at].as_ref(), old.column(*at).as_ref()], &picks).map_err(arrow_error)?;
                columns[*at] = taken;
            }
        }
        RecordBatch::try_new(self.arrow.clone(), columns).map_err(arrow_error)
    }

    /// Keys that have to be looked for outside the active map, each with its slot in `Work::cold`.
    fn lookups(&self, work: &Work<'_>, copied_once: bool) -> Vec<(u128, u32)> {
        let mut lookups = Vec::with_capacity(work.batch.len());
        let mut add = |key: u128, slot: usize| {
            // At most one row of a key is live: one in the active map means none elsewhere.
            if self.multiset || !self.index.active.first.contains_key(&key) {
                lookups.push((key, slot as u32));
            }
        };
        for (event, op) in work.batch.ops.iter().enumerate() {
            match op {
                Op::Create if !self.multiset => add(work.keys[event], event),
                Op::Read if !self.multiset && !copied_once => add(work.keys[event], event),
                Op::Delete => add(work.keys[event], event),
                Op::Update => match work.old_image(event) {
                    Some(image) => {
                        add(work.old_keys[image], event);
                        if !self.multiset {
                            add(work.keys[event], work.batch.len() + image);
                        }
                    }
                    None => add(work.keys[event], event),
                },
                _ => {}
            }
        }
        lookups
    }

    fn landing(&mut self, kept: usize, truncates: bool) -> Landing {
        let open = self.open.filter(|_| kept < SMALL_ROWS && !truncates);
        let segment = open.unwrap_or_else(|| {
            self.next_segment += 1;
            self.next_segment - 1
        });
        let base = self.segments.get(&segment).map_or(0, |s| s.rows);
        Landing {
            segment,
            base,
            next: base,
            dead: RoaringBitmap::new(),
            fills: Vec::new(),
            killed: 0,
            doubles: KeyMap::default(),
        }
    }

    fn apply_event(&mut self, work: &Work<'_>, event: usize, landing: &mut Landing) {
        match work.batch.ops[event] {
            Op::Read | Op::Create => self.insert(work, event, event, landing),
            Op::Update => {
                let image = work.old_image(event);
                let key = match image {
                    Some(image) => work.old_keys.get(image).copied(),
                    None => work.keys.get(event).copied(),
                };
                let found = key.and_then(|key| self.take(key, work.cold.get(event).copied().flatten(), landing));
                let unchanged = work.batch.unchanged_of(event);
                match found {
                    Some(from) if !unchanged.is_empty() => {
                        let columns = self.fill_columns(unchanged, image.is_some());
                        landing.fills.push(Fill { kept: landing.next - landing.base, columns, from });
                    }
                    Some(_) => {}
                    None => {
                        metrics::MISSED_ROWS.add(1);
                        // An earlier version could not be held, and this one did not come whole: it stays left out (RFC 0009).
                        if !unchanged.is_empty() {
                            return self.leave_out(landing);
                        }
                    }
                }
                self.insert(work, event, image.map_or(event, |image| work.batch.len() + image), landing);
            }
            Op::Delete => {
                let key = work.keys.get(event).copied();
                if key.and_then(|key| self.take(key, work.cold.get(event).copied().flatten(), landing)).is_none() {
                    metrics::MISSED_ROWS.add(1);
                }
            }
            Op::Truncate => {
                self.clear();
                landing.dead.insert_range(landing.base..landing.next);
                landing.killed = u64::from(landing.next - landing.base);
                landing.doubles.clear();
            }
        }
    }

    /// Lands the next row dead.
    fn leave_out(&self, landing: &mut Landing) {
        landing.dead.insert(landing.next);
        landing.killed += 1;
        landing.next += 1;
    }

    /// Columns to be taken from the old row: those that did not change, less the identity's that the old image gave.
    fn fill_columns(&self, unchanged: &[ColumnId], imaged: bool) -> Vec<usize> {
        let given = |at: &usize| imaged && self.codec.as_ref().is_some_and(|c| c.columns.contains(at));
        unchanged.iter().filter_map(|id| self.schema.index_of(*id)).filter(|at| !given(at)).collect()
    }

    fn insert(&mut self, work: &Work<'_>, event: usize, slot: usize, landing: &mut Landing) {
        let at = RowAddr { segment: landing.segment, row: landing.next };
        landing.next += 1;
        let Some(key) = work.keys.get(event).copied() else { return };
        if self.multiset {
            self.index.active.add(key, at);
            return;
        }
        let before = match self.index.active.first.insert(key, at) {
            Some(before) => Some(before),
            None => work.cold.get(slot).copied().flatten().filter(|cold| self.is_live(*cold)),
        };
        if let Some(before) = before {
            landing.doubles.entry(key).or_default().push_back(before);
        }
    }

    /// The end of a source transaction.
    fn settle(&mut self, landing: &mut Landing) {
        if landing.doubles.is_empty() {
            return;
        }
        for at in std::mem::take(&mut landing.doubles).into_values().flatten() {
            metrics::REPLACED_ROWS.add(1);
            self.kill(at, landing);
        }
    }

    /// Finds a live row of the key and kills it. `cold` is what the lookup before the batch found outside the active map.
    fn take(&mut self, key: u128, cold: Option<RowAddr>, landing: &mut Landing) -> Option<RowAddr> {
        let found = match landing.doubles.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(older) => older,
            None => self.take_from_index(key, cold)?,
        };
        self.kill(found, landing);
        Some(found)
    }

    fn take_from_index(&mut self, key: u128, cold: Option<RowAddr>) -> Option<RowAddr> {
        if let Some(at) = self.index.active.take(key) {
            return Some(at);
        }
        match cold.filter(|cold| self.is_live(*cold)) {
            Some(cold) => Some(cold),
            // Another change of this batch took that one, or the lookups before it took all; an equal row will do.
            None if self.multiset => self.index.find_cold(key, &|at| self.is_live(at)),
            None => None,
        }
    }

    fn kill(&mut self, at: RowAddr, landing: &mut Landing) {
        let killed = if at.segment == landing.segment && at.row >= landing.base {
            landing.dead.insert(at.row)
        } else {
            self.segments.get_mut(&at.segment).is_some_and(|s| s.kill(at.row))
        };
        landing.killed += u64::from(killed);
    }

    fn land(&mut self, rows: RecordBatch, landing: Landing) -> Result<()> {
        self.live_rows = (self.live_rows + rows.num_rows() as u64).saturating_sub(landing.killed);
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let small = rows.num_rows() < SMALL_ROWS;
        let segment = self.segments.entry(landing.segment).or_insert_with(Segment::hot);
        segment.rows += rows.num_rows() as u32;
        if !landing.dead.is_empty() {
            *Arc::make_mut(&mut segment.dead) |= landing.dead;
        }
        if let Body::Hot(hot) = &mut segment.body {
            let before = hot.bytes;
            hot.push(landing.base, rows)?;
            let full = segment.rows >= SEGMENT_ROWS;
            if full {
                hot.seal()?;
            }
            self.hot_bytes = (self.hot_bytes + hot.bytes).saturating_sub(before);
            if small || self.open == Some(landing.segment) {
                self.open = (!full).then_some(landing.segment);
            }
        }
        Ok(())
    }

    /// Replaces the cells that did not change by the old rows' values.
    fn fill(&self, rows: RecordBatch, landing: &Landing) -> Result<RecordBatch> {
        if landing.fills.is_empty() {
            return Ok(rows);
        }
        // An old row may be one of this very batch, whose own cell may come from yet another row.
        let mut origins: HashMap<(usize, u32), RowAddr> = HashMap::new();
        let mut wanted: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for fill in &landing.fills {
            for column in &fill.columns {
                let local = fill.from.segment == landing.segment && fill.from.row >= landing.base;
                let before = local.then(|| origins.get(&(*column, fill.from.row - landing.base)).copied()).flatten();
                let origin = before.unwrap_or(fill.from);
                if !(origin.segment == landing.segment && origin.row >= landing.base) {
                    wanted.entry(origin.segment).or_default().insert(origin.row);
                }
                origins.insert((*column, fill.kept), origin);
            }
        }
        let columns: BTreeSet<usize> = origins.keys().map(|(column, _)| *column).collect();
        let sources = self.sources(&wanted, &columns)?;
        let mut arrays = rows.columns().to_vec();
        for column in columns {
            let mut values: Vec<&dyn Array> = vec![arrays[column].as_ref()];
            let mut numbers: HashMap<u32, usize> = HashMap::new();
            for (segment, source) in &sources {
                numbers.insert(*segment, values.len());
                values.push(source.columns[&column].as_ref());
            }
            let mut picks: Vec<(usize, usize)> = (0..rows.num_rows()).map(|row| (0, row)).collect();
            for ((_, kept), origin) in origins.iter().filter(|((c, _), _)| *c == column) {
                if origin.segment == landing.segment && origin.row >= landing.base {
                    picks[*kept as usize] = (0, (origin.row - landing.base) as usize);
                } else if let (Some(number), Some(source)) = (numbers.get(&origin.segment), sources.get(&origin.segment))
                    && let Ok(row) = source.rows.binary_search(&origin.row)
                {
                    picks[*kept as usize] = (*number, row);
                }
            }
            let filled = interleave(&values, &picks).map_err(arrow_error)?;
            arrays[column] = filled;
        }
        RecordBatch::try_new(rows.schema(), arrays).map_err(arrow_error)
    }

    /// Reads the wanted rows of each segment.
    fn sources(&self, wanted: &BTreeMap<u32, BTreeSet<u32>>, columns: &BTreeSet<usize>) -> Result<HashMap<u32, Source>> {
        let mut sources = HashMap::new();
        for (id, rows) in wanted {
            // A segment that a truncate of this batch took: so are the rows that wanted it.
            let Some(segment) = self.segments.get(id) else { continue };
            let rows: Vec<u32> = rows.iter().copied().collect();
            let columns = match &segment.body {
                Body::Hot(hot) => {
                    let places: Vec<(usize, usize)> = rows.iter().map(|row| hot.locate(*row)).collect();
                    let take = |column: &usize| {
                        let pieces: Vec<&dyn Array> = hot.pieces.iter().map(|p| p.rows.column(*column).as_ref()).collect();
                        Ok((*column, interleave(&pieces, &places).map_err(arrow_error)?))
                    };
                    columns.iter().map(take).collect::<Result<_>>()?
                }
                Body::File(filed) => self.file_columns(&filed.file, &rows, columns)?,
            };
            sources.insert(*id, Source { rows, columns });
        }
        Ok(sources)
    }

    fn file_columns(&self, file: &DataFile, rows: &[u32], columns: &BTreeSet<usize>) -> Result<HashMap<usize, ArrayRef>> {
        let names: Vec<&str> = columns.iter().map(|c| self.schema.columns[*c].name.as_ref()).collect();
        let batches = read(file, &names, Some(rows))?;
        let batches = batches.collect::<Result<Vec<_>, _>>().map_err(unreadable(&file.path))?;
        let mut found = HashMap::new();
        for column in columns {
            let field = self.arrow.field(*column);
            let parts = batches.iter().filter_map(|b| b.column_by_name(field.name())).collect::<Vec<_>>();
            let array = if parts.is_empty() {
                new_null_array(field.data_type(), rows.len())
            } else {
                let parts: Vec<&dyn Array> = parts.iter().map(|p| p.as_ref()).collect();
                as_type(&concat(&parts).map_err(arrow_error)?, field.data_type())?
            };
            found.insert(*column, array);
        }
        Ok(found)
    }
}

/// Some rows (ascending) and columns of a segment.
struct Source {
    rows: Vec<u32>,
    columns: HashMap<usize, ArrayRef>,
}

impl Work<'_> {
    fn old_image(&self, event: usize) -> Option<usize> {
        self.batch.old_rows.binary_search(&(event as u32)).ok()
    }
}
