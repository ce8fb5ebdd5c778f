//! Declared counters and gauges: constants in each crate's `metrics.rs`, gathered by the server into `/metrics`.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Anything that prints itself in the Prometheus text format.
pub trait Metric: Sync {
    fn name(&self) -> &'static str;
    /// One sentence: the question it answers.
    fn help(&self) -> &'static str;
    fn write(&self, out: &mut String);
}

/// Only goes up. Names end in `_total`, with the unit before it.
pub struct Counter {
    name: &'static str,
    help: &'static str,
    value: AtomicU64,
}

impl Counter {
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, value: AtomicU64::new(0) }
    }

    pub fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

impl Metric for Counter {
    fn name(&self) -> &'static str {
        self.name
    }
    fn help(&self) -> &'static str {
        self.help
    }
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "# HELP {0} {1}\n# TYPE {0} counter\n{0} {2}", self.name, self.help, self.get());
    }
}

/// Goes up and down.
pub struct Gauge {
    name: &'static str,
    help: &'static str,
    value: AtomicI64,
}

impl Gauge {
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, value: AtomicI64::new(0) }
    }

    pub fn set(&self, n: i64) {
        self.value.store(n, Ordering::Relaxed);
    }

    pub fn add(&self, n: i64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

impl Metric for Gauge {
    fn name(&self) -> &'static str {
        self.name
    }
    fn help(&self) -> &'static str {
        self.help
    }
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "# HELP {0} {1}\n# TYPE {0} gauge\n{0} {2}", self.name, self.help, self.get());
    }
}
