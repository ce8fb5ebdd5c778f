//! Rows that find no room in memory go to Parquet on the applier's own thread, but not under its source's lock: readers and the flusher
//! go on meanwhile. The files are committed by the next flush.

use crate::metrics;
use crate::rows::Rows;
use crate::state::StateGuard;
use mainstem_types::{Generation, TableId};

impl StateGuard<'_> {
    /// Brings tables below their own bounds, and the source's part of the common bound down. Others see the state meanwhile: call it at
    /// a barrier, or while readers have what was published before.
    pub fn make_room(&mut self) {
        for id in std::mem::take(&mut self.full) {
            let bounds = (self.context.settings.copy_bytes_max, self.context.settings.hot_bytes_max);
            let Some(table) = self.tables.get(&id) else { continue };
            let over = |rows: &&Rows, bound: u64| rows.memory() as u64 > bound;
            let filling = table.filling.as_ref().filter(|r| over(r, bounds.0)).map(|r| r.place.generation);
            let live = table.live.as_ref().filter(|r| over(r, bounds.1)).map(|r| r.place.generation);
            if !filling.into_iter().chain(live).all(|generation| self.spill(id, generation)) {
                return;
            }
        }
        while let Some((id, generation)) = self.fattest() {
            if !self.spill(id, generation) {
                return;
            }
        }
    }

    /// What should go to a file because all tables together take too much. A spill leaves nothing spillable, so this ends.
    fn fattest(&self) -> Option<(TableId, Generation)> {
        let (used, most) = (self.context.memory.used(), self.context.settings.memory_bytes_max);
        if used <= most / 2 {
            return None;
        }
        let whole = self.tables.iter().filter(|(_, table)| table.broken.is_none());
        let rows = whole.flat_map(|(id, table)| {
            // Copies first: nobody reads them yet. Live rows are the flusher's, unless it is late.
            let live = table.live.as_ref().filter(|_| used > most);
            table.filling.iter().chain(live).map(|rows| (rows.spillable_bytes(), (*id, rows.place.generation)))
        });
        rows.filter(|(bytes, _)| *bytes > 0).max().map(|(_, which)| which)
    }

    fn rows(&mut self, id: TableId, generation: Generation) -> Option<&mut Rows> {
        self.tables.get_mut(&id)?.rows_mut().find(|r| r.place.generation == generation)
    }

    /// Writes a generation's hot rows to a file. Only the applier changes rows, and it is here: nothing is looked up meanwhile. False: they
    /// could not be written, a full disk most often, and stay in memory; the next batch tries again.
    fn spill(&mut self, id: TableId, generation: Generation) -> bool {
        let Some(rows) = self.rows(id, generation) else { return true };
        let place = rows.place.clone();
        let mut unwritten = None;
        let done = rows.set_aside().and_then(|(mut frozen, keys)| {
            let written = self.outside(|| place.create_dirs().and_then(|()| frozen.write(&place)));
            let Some(rows) = self.rows(id, generation) else { return Ok(()) };
            match written {
                Ok(written) => rows.install(frozen, written),
                Err(error) => {
                    rows.unfreeze(frozen, keys);
                    unwritten = Some(error);
                    Ok(())
                }
            }
        });
        metrics::SPILLS.add(1);
        let Some(table) = self.tables.get_mut(&id) else { return true };
        table.touch();
        if let Err(error) = done {
            table.fail(error);
        }
        if let Some(error) = &unwritten {
            tracing::warn!(table = %table.record.name, error = %error.chain(), "rows could not be written to make room; they stay in memory");
        }
        self.touch();
        unwritten.is_none()
    }
}
