//! The key index of one generation: where the live row of a key is.
//!
//! A map for rows in memory, the map of a flush under way, and sorted runs for rows in files. An entry counts only while its row is
//! live, so nothing is ever taken out of a frozen map or a run.

use crate::run::Run;
use hashbrown::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Where a row is: a segment of its table's generation and the row in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RowAddr {
    pub segment: u32,
    pub row: u32,
}

/// Folds a key that is a hash or a small integer into 64 well-mixed bits.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte) ^ u128::from(self.0));
        }
    }
    fn write_u128(&mut self, key: u128) {
        let folded = (key as u64 ^ 0x9e37_79b9_7f4a_7c15) as u128 * ((key >> 64) as u64 ^ 0xd1b5_4a32_d192_ed03) as u128;
        let mixed = folded as u64 ^ (folded >> 64) as u64;
        let again = mixed as u128 * 0xa076_1d64_78bd_642f_u128;
        self.0 = again as u64 ^ (again >> 64) as u64;
    }
}

pub(crate) type KeyMap<V> = HashMap<u128, V, BuildHasherDefault<KeyHasher>>;

/// Keys of rows in memory. `more` has the second and further equal rows of a multiset.
#[derive(Default)]
pub(crate) struct HotKeys {
    pub first: KeyMap<RowAddr>,
    pub more: KeyMap<Vec<RowAddr>>,
}

impl HotKeys {
    /// Adds a row beside equal ones.
    pub fn add(&mut self, key: u128, at: RowAddr) {
        if let Some(before) = self.first.insert(key, at) {
            self.more.entry(key).or_default().push(before);
        }
    }

    /// Takes one row of the key out.
    pub fn take(&mut self, key: u128) -> Option<RowAddr> {
        let taken = self.first.remove(&key)?;
        if !self.more.is_empty()
            && let Some(list) = self.more.get_mut(&key)
        {
            if let Some(next) = list.pop() {
                self.first.insert(key, next);
            }
            if list.is_empty() {
                self.more.remove(&key);
            }
        }
        Some(taken)
    }

    fn find(&self, key: u128, live: &impl Fn(RowAddr) -> bool) -> Option<RowAddr> {
        let first = *self.first.get(&key)?;
        if live(first) {
            return Some(first);
        }
        if self.more.is_empty() {
            return None;
        }
        self.more.get(&key)?.iter().copied().find(|at| live(*at))
    }
}

/// A key, an address, and the map's own byte.
const ENTRY_BYTES: usize = 40;

#[derive(Default)]
pub(crate) struct Index {
    pub active: HotKeys,
    /// Rows that a flush under way writes; looked up until their run stands.
    pub frozen: Option<HotKeys>,
    /// Oldest first, by their youngest segment.
    pub runs: Vec<Arc<Run>>,
}

impl Index {
    pub fn add_run(&mut self, run: Run) {
        let youngest = |run: &Run| run.segments.iter().max().copied();
        let at = self.runs.partition_point(|other| youngest(other) <= youngest(&run));
        self.runs.insert(at, Arc::new(run));
    }

    /// A live row of the key outside the active map.
    pub fn find_cold(&self, key: u128, live: &impl Fn(RowAddr) -> bool) -> Option<RowAddr> {
        if let Some(at) = self.frozen.as_ref().and_then(|f| f.find(key, live)) {
            return Some(at);
        }
        for run in self.runs.iter().rev().filter(|r| r.may_have(key)) {
            if let Some((_, at)) = matching(run, run.seek(0, key), key, live) {
                return Some(at);
            }
        }
        None
    }

    /// The same for many keys, each with its slot in `out`: sorted, so that a run is walked and not probed. `multiset`: equal keys get
    /// different rows, else each of a thousand equal rows that go would be looked for among those gone before it.
    pub fn find_cold_many(
        &self,
        lookups: &mut [(u128, u32)],
        multiset: bool,
        live: &impl Fn(RowAddr) -> bool,
        out: &mut [Option<RowAddr>],
    ) {
        if self.frozen.is_none() && self.runs.is_empty() {
            return;
        }
        lookups.sort_unstable();
        if let Some(frozen) = &self.frozen {
            for (key, slot) in lookups.iter() {
                out[*slot as usize] = frozen.find(*key, live);
            }
        }
        for run in self.runs.iter().rev() {
            let mut from = 0;
            // The key of the last lookup, and the entry after the one that it got.
            let mut last = None;
            for (key, slot) in lookups.iter().filter(|(key, _)| run.may_have(*key)) {
                if out[*slot as usize].is_some() {
                    continue;
                }
                let start = match last {
                    Some((same, next)) if multiset && same == *key => next,
                    _ => {
                        from = run.seek(from, *key);
                        from
                    }
                };
                let found = matching(run, start, *key, live);
                last = Some((*key, found.map_or(run.len(), |(entry, _)| entry + 1)));
                out[*slot as usize] = found.map(|(_, at)| at);
            }
        }
    }

    /// What the maps take in memory, about.
    pub fn hot_bytes(&self) -> usize {
        let maps = [Some(&self.active), self.frozen.as_ref()];
        let entries: usize = maps.into_iter().flatten().map(|keys| keys.first.capacity() + keys.more.len() * 2).sum();
        entries * ENTRY_BYTES
    }

    /// Gives the keys of a flush or a spill that failed back to the active map, which has live rows only.
    pub fn give_back(&mut self, frozen: HotKeys, multiset: bool, live: &impl Fn(RowAddr) -> bool) {
        let more = frozen.more.into_iter().flat_map(|(key, list)| list.into_iter().map(move |at| (key, at)));
        for (key, at) in frozen.first.into_iter().chain(more).filter(|(_, at)| live(*at)) {
            if multiset {
                self.active.add(key, at);
            } else {
                self.active.first.insert(key, at);
            }
        }
    }
}

/// The first live entry of the key, with its row.
fn matching(run: &Run, from: usize, key: u128, live: &impl Fn(RowAddr) -> bool) -> Option<(usize, RowAddr)> {
    let entries = (from..run.len()).take_while(|entry| run.key(*entry) == key);
    entries.map(|entry| (entry, run.addr(entry))).find(|(_, at)| live(*at))
}
