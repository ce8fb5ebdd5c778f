//! The tables of one source as its applier has them, and the lock under which it does.

use crate::context::Context;
use crate::snapshot::{Snapshot, TableView};
use crate::table::{Gone, Table};
use mainstem_envelope::tail::BrokenTable;
use mainstem_types::{Barrier, Result, SourceName, TableBatch, TableId, TableName, TableState};
use parking_lot::MutexGuard;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub(crate) struct SourceState {
    pub context: Context,
    pub tables: BTreeMap<TableId, Table>,
    pub seq: u64,
    /// Tables by topic, for barriers' partition ends.
    pub topics: BTreeMap<Arc<str>, TableId>,
    /// Topics of tables that were dropped, until the log is told.
    pub dropped_topics: Vec<Arc<str>>,
    pub gone: Vec<Gone>,
    /// A group could not be read whole: nothing may be shown, flushed or applied any more until the next start.
    pub halted: bool,
    /// Rows after the last barrier are applied.
    pub mid_group: bool,
    /// Tables that went over their own bound of memory.
    pub full: Vec<TableId>,
    memory: usize,
    shown: Option<Arc<SourceSnapshot>>,
}

/// The tables of one source at one barrier.
pub(crate) struct SourceSnapshot {
    pub seq: u64,
    pub tables: Vec<Arc<TableView>>,
}

impl SourceSnapshot {
    /// Whether both have the same tables, under the same names and parents.
    fn has_tables_of(&self, other: &Self) -> bool {
        let same = |(mine, other): (&Arc<TableView>, &Arc<TableView>)| {
            Arc::ptr_eq(&mine.record, &other.record)
                || (mine.record.name == other.record.name && mine.record.parents == other.record.parents)
        };
        self.tables.len() == other.tables.len() && self.tables.iter().zip(&other.tables).all(same)
    }

    pub fn add_to(&self, name: &SourceName, snapshot: &mut Snapshot) {
        if self.seq > 0 {
            snapshot.seqs.insert(name.clone(), self.seq);
        }
        for view in &self.tables {
            let name = view.record.name.clone();
            for parent in &view.record.parents {
                let leaves: &mut Vec<TableName> = snapshot.parents.entry(parent.clone()).or_default();
                let at = leaves.partition_point(|l| *l < name);
                leaves.insert(at, name.clone());
            }
            snapshot.tables.insert(name, view.clone());
        }
        // An inherited parent's own rows belong to its view as well.
        for (parent, leaves) in &mut snapshot.parents {
            if snapshot.tables.contains_key(parent)
                && let Err(at) = leaves.binary_search(parent)
            {
                leaves.insert(at, parent.clone());
            }
        }
    }
}

/// The snapshot of all sources, and from which of theirs it was made.
#[derive(Default)]
pub(crate) struct Shown {
    parts: Vec<(SourceName, Arc<SourceSnapshot>)>,
    snapshot: Arc<Snapshot>,
}

impl Shown {
    /// The snapshot of these parts, which come in the order of their names.
    pub fn follow(&mut self, parts: Vec<(SourceName, Arc<SourceSnapshot>)>) -> Arc<Snapshot> {
        let known = self.parts.len() == parts.len()
            && self.parts.iter().zip(&parts).all(|((name, before), (new, now))| name == new && before.has_tables_of(now));
        if !known {
            let mut snapshot = Snapshot::default();
            parts.iter().for_each(|(name, part)| part.add_to(name, &mut snapshot));
            self.snapshot = Arc::new(snapshot);
        } else {
            for ((name, before), (_, now)) in
                self.parts.iter().zip(&parts).filter(|((_, before), (_, now))| !Arc::ptr_eq(before, now))
            {
                let snapshot = Arc::make_mut(&mut self.snapshot);
                if now.seq > 0 {
                    snapshot.seqs.insert(name.clone(), now.seq);
                }
                let changed = before.tables.iter().zip(&now.tables).filter(|(before, now)| !Arc::ptr_eq(before, now));
                for (_, view) in changed {
                    snapshot.tables.insert(view.record.name.clone(), view.clone());
                }
            }
        }
        self.parts = parts;
        self.snapshot.clone()
    }

    /// Keeps nothing while nobody reads it: files of dropped tables and rows that were replaced would stay for it.
    pub fn let_go(&mut self) {
        if Arc::strong_count(&self.snapshot) == 1 {
            *self = Self::default();
        }
    }
}

impl SourceState {
    pub fn new(context: Context) -> Self {
        Self {
            context,
            tables: BTreeMap::new(),
            seq: 0,
            topics: BTreeMap::new(),
            dropped_topics: Vec::new(),
            gone: Vec::new(),
            halted: false,
            mid_group: false,
            full: Vec::new(),
            memory: 0,
            shown: None,
        }
    }

    pub fn show(&mut self) -> Result<Arc<SourceSnapshot>> {
        if let Some(shown) = &self.shown {
            return Ok(shown.clone());
        }
        let tables = self.tables.values_mut().map(Table::view).collect::<Result<_>>()?;
        let shown = Arc::new(SourceSnapshot { seq: self.seq, tables });
        self.shown = Some(shown.clone());
        Ok(shown)
    }

    /// Forgets what was shown; call after any change.
    pub fn touch(&mut self) {
        self.shown = None;
        let now = if self.halted { 0 } else { self.tables.values().map(Table::memory).sum() };
        self.context.memory.note(&mut self.memory, now);
    }

    /// Bytes that a flush would write.
    pub fn flush_bytes(&self) -> usize {
        self.tables.values().filter_map(|t| t.live.as_ref()).map(|r| r.hot_bytes).sum()
    }

    pub fn is_changed(&self) -> bool {
        self.tables.values().any(|t| t.live.as_ref().is_some_and(|r| r.changed))
    }

    pub fn broken(&self) -> Vec<BrokenTable> {
        self.tables.values().filter_map(Table::report).collect()
    }

    /// Works on one table and counts what its memory becomes: to count all of them at each barrier is too much with thousands.
    fn with_table(&mut self, id: TableId, work: impl FnOnce(&mut Table, &mut Vec<Gone>)) {
        let Some(table) = self.tables.get_mut(&id) else { return };
        let before = table.memory();
        work(table, &mut self.gone);
        let after = table.memory();
        self.count(before, after);
    }

    fn count(&mut self, before: usize, after: usize) {
        let now = if self.halted { 0 } else { (self.memory + after).saturating_sub(before) };
        self.context.memory.note(&mut self.memory, now);
    }

    /// Makes known the tables and generations that this barrier begins, before its rows are applied.
    pub fn announce(&mut self, barrier: &Barrier) {
        for record in barrier.tables.iter().filter(|r| r.state != TableState::Dropped) {
            self.topics.insert(record.topic.clone(), record.table);
            let context = self.context.clone();
            self.tables.entry(record.table).or_insert_with(|| Table::new(context, record.clone()));
            if matches!(record.state, TableState::Snapshotting | TableState::Streaming) {
                self.with_table(record.table, |table, gone| table.begin(record.generation, &record.schema, gone));
            }
        }
    }

    pub fn apply(&mut self, batch: &TableBatch) {
        if !self.tables.contains_key(&batch.table) {
            tracing::warn!(table = %batch.table, "rows of a table that no barrier named are left out");
        }
        let (hot_max, copy_max) = (self.context.settings.hot_bytes_max, self.context.settings.copy_bytes_max);
        let over = |rows: &Option<crate::rows::Rows>, bound: u64| rows.as_ref().is_some_and(|rows| rows.memory() as u64 > bound);
        let mut full = false;
        self.with_table(batch.table, |table, gone| {
            table.apply(batch, gone);
            full = over(&table.live, hot_max) || over(&table.filling, copy_max);
        });
        if full {
            self.full.push(batch.table);
        }
    }

    /// The barrier itself: from here on its rows may be seen.
    pub fn arrive(&mut self, barrier: &Barrier) {
        for record in &barrier.tables {
            if record.state == TableState::Dropped {
                if let Some(table) = self.tables.remove(&record.table) {
                    self.count(table.memory(), 0);
                    self.topics.remove(&table.record.topic);
                    self.dropped_topics.push(table.record.topic.clone());
                    table.retire(self.context.retained_until_ms(), &mut self.gone);
                }
            } else {
                self.with_table(record.table, |table, gone| {
                    table.set_record(record, gone);
                    table.set_position(&barrier.position.0);
                });
            }
        }
        for end in &barrier.ends {
            let table = self.topics.get(&end.topic).and_then(|id| self.tables.get_mut(id));
            if let Some(table) = table.filter(|t| t.offset < end.end) {
                table.offset = end.end;
                table.set_position(&barrier.position.0);
            }
        }
        self.seq = self.seq.max(barrier.seq);
        self.shown = None;
    }
}

impl Drop for SourceState {
    fn drop(&mut self) {
        self.context.memory.note(&mut self.memory, 0);
    }
}

/// A source's state in the hands of the one who applies rows to it.
pub(crate) enum StateGuard<'a> {
    /// At the start, before anybody else has it.
    Alone(&'a mut SourceState),
    Shared(MutexGuard<'a, SourceState>),
}

impl Deref for StateGuard<'_> {
    type Target = SourceState;
    fn deref(&self) -> &SourceState {
        match self {
            Self::Alone(state) => state,
            Self::Shared(state) => state,
        }
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut SourceState {
        match self {
            Self::Alone(state) => state,
            Self::Shared(state) => state,
        }
    }
}

impl StateGuard<'_> {
    /// Does something that needs no state while others may have it.
    pub fn outside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        match self {
            Self::Alone(_) => work(),
            Self::Shared(state) => MutexGuard::unlocked(state, work),
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
