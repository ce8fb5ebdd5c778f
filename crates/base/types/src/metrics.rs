//! Declared counters, gauges and histograms: constants in each crate's `metrics.rs`, gathered by the server into `/metrics`.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

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

/// Upper bounds of a histogram's buckets, microseconds: two or three for each factor of ten, from what memory answers to what people
/// give up on. One more bucket has the rest.
const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    60_000_000,
];

/// How long things took. Names end in `_seconds`.
pub struct Histogram {
    name: &'static str,
    help: &'static str,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, buckets: [const { AtomicU64::new(0) }; BOUNDS_US.len() + 1], sum_us: AtomicU64::new(0) }
    }

    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many were observed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

impl Metric for Histogram {
    fn name(&self) -> &'static str {
        self.name
    }
    fn help(&self) -> &'static str {
        self.help
    }
    fn write(&self, out: &mut String) {
        let name = self.name;
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} histogram", self.help);
        let mut upto = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            upto += bucket.load(Ordering::Relaxed);
            let bound = BOUNDS_US.get(at).map_or("+Inf".to_string(), |us| (*us as f64 / 1e6).to_string());
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {upto}");
        }
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        // The count is that of the last bucket: a scrape must not see two different ones.
        let _ = writeln!(out, "{name}_sum {sum}\n{name}_count {upto}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::new("x_seconds", "How long?");
        for us in [0, 100, 101, 2_000_000, 3_600_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let mut text = String::new();
        histogram.write(&mut text);
        let check = |line: &str| assert!(text.lines().any(|found| found == line), "{line} in {text}");
        check("# TYPE x_seconds histogram");
        check("x_seconds_bucket{le=\"0.0001\"} 2");
        check("x_seconds_bucket{le=\"0.00025\"} 3");
        check("x_seconds_bucket{le=\"1\"} 3");
        check("x_seconds_bucket{le=\"2.5\"} 4");
        check("x_seconds_bucket{le=\"60\"} 4");
        check("x_seconds_bucket{le=\"+Inf\"} 5");
        check("x_seconds_sum 3602.000201");
        check("x_seconds_count 5");
    }
}
