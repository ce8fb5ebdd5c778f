//! How much memory the rows of all tables take together.

use crate::metrics;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by all sources of a warehouse.
#[derive(Default)]
pub(crate) struct Memory(AtomicUsize);

impl Memory {
    /// Replaces what somebody noted before.
    pub fn note(&self, before: &mut usize, now: usize) {
        // Wraps around on the way down and comes out right.
        self.0.fetch_add(now.wrapping_sub(*before), Ordering::Relaxed);
        metrics::HOT_BYTES.add(now as i64 - *before as i64);
        *before = now;
    }

    pub fn used(&self) -> u64 {
        self.0.load(Ordering::Relaxed) as u64
    }
}
