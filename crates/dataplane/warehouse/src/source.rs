//! The live tables of one source and the applier that moves them from barrier to barrier, all together.

use crate::codes;
use crate::snapshot::{Snapshot, TableView};
use crate::spill::Hold;
use crate::table::{Gone, Ground, Table};
use mainstem_envelope::tail::{Group, Visible};
use mainstem_types::{Barrier, Error, Result, SourceName, TableBatch, TableId, TableName, TableState};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::watch;

/// A group of more rows than this is applied while readers use the snapshot from before it.
const QUICK_ROWS: usize = 2000;

pub(crate) struct Source {
    pub name: SourceName,
    state: Mutex<SourceState>,
    /// What readers see while a large group is applied.
    published: Mutex<Option<Arc<SourceSnapshot>>>,
    pub visible: watch::Sender<Option<Visible>>,
    /// One flush or compaction at a time.
    pub flushing: Mutex<()>,
    /// Flushed since the last compaction.
    pub flushed: AtomicBool,
    /// Held from a group's first row to its barrier, also while `state` is not: a flush begins between groups. Taken before `state`.
    pub applying: Mutex<()>,
}

pub(crate) struct SourceState {
    pub ground: Ground,
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

impl SourceState {
    pub fn new(ground: Ground) -> Self {
        Self {
            ground,
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

    fn show(&mut self) -> Result<Arc<SourceSnapshot>> {
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
        self.ground.memory.note(&mut self.memory, now);
    }

    /// Bytes that a flush would write.
    pub fn flush_bytes(&self) -> usize {
        self.tables.values().filter_map(|t| t.live.as_ref()).map(|r| r.hot_bytes).sum()
    }

    pub fn is_changed(&self) -> bool {
        self.tables.values().any(|t| t.live.as_ref().is_some_and(|r| r.changed))
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
        self.ground.memory.note(&mut self.memory, now);
    }

    /// Makes known the tables and generations that this barrier begins, before its rows are applied.
    pub fn announce(&mut self, barrier: &Barrier) {
        for record in barrier.tables.iter().filter(|r| r.state != TableState::Dropped) {
            self.topics.insert(record.topic.clone(), record.table);
            let ground = self.ground.clone();
            self.tables.entry(record.table).or_insert_with(|| Table::new(ground, record.clone()));
            if matches!(record.state, TableState::Snapshotting | TableState::Streaming) {
                self.with_table(record.table, |table, gone| table.begin(record.generation, &record.schema, gone));
            }
        }
    }

    pub fn apply(&mut self, batch: &TableBatch) {
        if !self.tables.contains_key(&batch.table) {
            tracing::warn!(table = %batch.table, "rows of a table that no barrier named are left out");
        }
        let (hot_max, copy_max) = (self.ground.settings.hot_bytes_max, self.ground.settings.copy_bytes_max);
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
                    table.retire(self.ground.retained_until_ms(), &mut self.gone);
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

impl Source {
    pub fn new(name: SourceName, state: SourceState, visible: Option<Visible>) -> Self {
        let (visible, _) = watch::channel(visible);
        Self {
            name,
            state: Mutex::new(state),
            published: Mutex::new(None),
            visible,
            flushing: Mutex::default(),
            flushed: AtomicBool::new(false),
            applying: Mutex::default(),
        }
    }

    pub fn with_state<T>(&self, use_it: impl FnOnce(&mut SourceState) -> T) -> T {
        use_it(&mut self.state.lock())
    }

    /// What queries see of this source now.
    pub fn snapshot(&self) -> Result<Arc<SourceSnapshot>> {
        loop {
            if let Some(published) = self.published.lock().clone() {
                return Ok(published);
            }
            // A large group may begin between the two: look again rather than wait for its end.
            if let Some(mut state) = self.state.try_lock_for(Duration::from_millis(1)) {
                return state.show();
            }
        }
    }

    /// Applies a group and makes it visible. `read` gives the batches of a group that is too large for memory, one after another.
    pub fn apply(
        &self,
        group: &mut Group,
        read: &mut dyn FnMut(&mut Hold<'_>, &Barrier) -> Result<()>,
        now_us: i64,
    ) -> Result<()> {
        let rows: Option<usize> = group.batches.as_ref().map(|batches| batches.iter().map(|b| b.changes.len()).sum());
        let large = rows.is_none_or(|rows| rows > QUICK_ROWS);
        let _applying = self.applying.lock();
        let mut state = Hold::Shared(self.state.lock());
        if group.barrier.seq <= state.seq {
            return Ok(());
        }
        if state.seq > 0 && group.barrier.seq != state.seq + 1 {
            state.halted = true;
            let text = format!("source {}: barrier {} came after {}", self.name, group.barrier.seq, state.seq);
            return Err(Error::bug(codes::CLOSED, text).hint("Restart: the log has what is missing."));
        }
        if large {
            let before = state.show()?;
            *self.published.lock() = Some(before);
        }
        state.mid_group = true;
        state.announce(&group.barrier);
        let mut done = Ok(());
        match group.batches.take() {
            Some(batches) => batches.iter().for_each(|batch| {
                state.apply(batch);
                if large {
                    // Readers have what was published.
                    state.make_room();
                }
            }),
            None => done = read(&mut state, &group.barrier),
        }
        if done.is_ok() {
            state.arrive(&group.barrier);
            state.mid_group = false;
        }
        // A group that could not be read whole stays unseen: readers keep what was published.
        state.halted = done.is_err();
        if done.is_ok() && large {
            *self.published.lock() = None;
        }
        drop(state);
        group.release();
        // Whoever waited for this barrier must find it in the next snapshot.
        if done.is_ok() {
            self.tell(&group.barrier, now_us);
            Hold::Shared(self.state.lock()).make_room();
        }
        done
    }

    fn tell(&self, barrier: &Barrier, now_us: i64) {
        self.visible.send_modify(|visible| {
            let commit_time_us = match barrier.commit_time_us {
                0 => visible.as_ref().map_or(0, |v| v.commit_time_us),
                time => time,
            };
            *visible = Some(Visible { seq: barrier.seq, position: barrier.position.clone(), commit_time_us, at_us: now_us });
        });
    }

    /// Removes files and directories that nobody needs any more. What cannot be removed now is tried again.
    pub fn clean(&self) {
        let _one = self.flushing.lock();
        let (ground, free, tables) = self.with_state(|state| {
            let now_ms = state.ground.now_ms();
            let free: Vec<Gone> = state.gone.extract_if(.., |g| g.is_free(now_ms)).collect();
            let live = state.tables.values_mut().filter_map(|t| t.live.as_mut());
            let tables: Vec<_> = live.map(|rows| (rows.delta.clone(), rows.let_go(), rows.pinned())).collect();
            (state.ground.clone(), free, tables)
        });
        free.iter().for_each(|gone| gone.remove(&ground.env));
        for (delta, dropped, pinned) in tables {
            if let Err(error) = delta.lock().clean(dropped, &pinned) {
                tracing::warn!(source = %self.name, error = %error.chain(), "files that are not needed any more stay for now");
            }
        }
    }

    /// Gives all tables up; returns the directories that go as soon as no snapshot reads them.
    pub fn retire(&self) -> Vec<Gone> {
        let _one = self.flushing.lock();
        self.with_state(|state| {
            state.halted = true;
            let mut gone = std::mem::take(&mut state.gone);
            std::mem::take(&mut state.tables).into_values().for_each(|table| table.retire(0, &mut gone));
            gone.iter_mut().for_each(|g| g.after_ms = 0);
            state.touch();
            *self.published.lock() = None;
            gone
        })
    }
}

impl Drop for SourceState {
    fn drop(&mut self) {
        self.ground.memory.note(&mut self.memory, 0);
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
