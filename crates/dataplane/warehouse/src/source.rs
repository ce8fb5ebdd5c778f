//! The live tables of one source and the applier that moves them from barrier to barrier, all together.

use crate::by_name;
use crate::codes;
use crate::seal::{Owner, Seal};
use crate::state::{SourceSnapshot, SourceState, StateGuard};
use crate::table::{Gone, Table};
use mainstem_envelope::tail::{BrokenTable, Group, Visible};
use mainstem_types::{Barrier, Error, Result, SourceName};
use parking_lot::Mutex;
use std::path::PathBuf;
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
    /// As of the last `show_broken`.
    pub broken: watch::Sender<Vec<BrokenTable>>,
    /// One flush or compaction at a time.
    pub flushing: Mutex<()>,
    /// Flushed since the last compaction.
    pub flushed: AtomicBool,
    /// Held from a group's first row to its barrier, also while `state` is not: a flush begins between groups. Taken before `state`.
    pub applying: Mutex<()>,
}

impl Source {
    pub fn new(name: SourceName, state: SourceState, visible: Option<Visible>) -> Self {
        let (visible, _) = watch::channel(visible);
        let (broken, _) = watch::channel(state.broken());
        Self {
            name,
            state: Mutex::new(state),
            published: Mutex::new(None),
            visible,
            broken,
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
        read: &mut dyn FnMut(&mut StateGuard<'_>, &Barrier) -> Result<()>,
        now_us: i64,
    ) -> Result<()> {
        let rows: Option<usize> = group.batches.as_ref().map(|batches| batches.iter().map(|b| b.changes.len()).sum());
        let large = rows.is_none_or(|rows| rows > QUICK_ROWS);
        let _applying = self.applying.lock();
        let mut state = StateGuard::Shared(self.state.lock());
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
            StateGuard::Shared(self.state.lock()).make_room();
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

    /// Lets others know of tables that broke or are whole again.
    pub fn show_broken(&self) {
        let now = self.with_state(|state| state.broken());
        self.broken.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    /// A file of a table is not what was written: the table goes no further, unless it has another generation by now.
    pub fn break_damaged(&self, owner: &Owner, error: Error) {
        self.with_state(|state| {
            let table = state.tables.get_mut(&owner.table).filter(|table| table.broken.is_none());
            if let Some(table) = table.filter(|table| table.rows().any(|rows| rows.place.generation == owner.generation)) {
                table.fail(error);
                state.touch();
            }
        });
    }

    /// The links by which its tables are found outside: those that have a version to be read.
    pub fn links(&self) -> Vec<(PathBuf, PathBuf)> {
        self.with_state(|state| {
            let live = state.tables.values().filter_map(|table| Some((table, table.live.as_ref()?)));
            let committed = live.filter(|(_, rows)| rows.delta_version.is_some());
            committed.filter_map(|(table, rows)| by_name::link(&table.record.name, &rows.place.dir)).collect()
        })
    }

    /// The seals of all files that are live now.
    pub fn seals(&self) -> Vec<Arc<Seal>> {
        self.with_state(|state| {
            let segments = state.tables.values().flat_map(Table::rows).flat_map(|rows| rows.segments.values());
            segments.filter_map(|segment| Some(segment.body.file()?.seal.clone())).collect()
        })
    }

    /// Removes files and directories that nobody needs any more. What cannot be removed now is tried again.
    pub fn clean(&self) {
        let _one = self.flushing.lock();
        let (context, free, tables) = self.with_state(|state| {
            let now_ms = state.context.now_ms();
            let free: Vec<Gone> = state.gone.extract_if(.., |g| g.is_free(now_ms)).collect();
            let live = state.tables.values_mut().filter_map(|t| t.live.as_mut());
            let tables: Vec<_> = live.map(|rows| (rows.delta.clone(), rows.let_go(), rows.pinned())).collect();
            (state.context.clone(), free, tables)
        });
        free.iter().for_each(|gone| gone.remove(&context.env));
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
