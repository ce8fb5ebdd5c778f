//! What an operator may set.

use mainstem_eventlog::TopicConfig;
use serde::Deserialize;

/// Settings of the log on disk. Sizes in bytes, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// A segment is sealed before it would grow beyond this.
    pub segment_bytes_max: u64,
    /// Size of each preallocated file of the commit WAL.
    pub wal_file_bytes: u64,
    /// Appends up to this go into the WAL whole; larger ones are synced in their segments.
    pub inline_append_bytes_max: u64,
    /// Longest time between two checkpoints while something changes.
    pub checkpoint_interval_ms: u64,
    /// Appends are refused when less than this would stay free on the disk.
    pub disk_reserve_bytes: u64,
    /// Newest batches kept in memory per partition.
    pub tail_bytes_max: u64,
    /// The same over all partitions; beyond it each keeps only its last append.
    pub tail_total_bytes_max: u64,
    pub retention_check_interval_ms: u64,
    /// Sealed segments older than this go, in topics that say nothing themselves; never what the live tables have not flushed.
    pub retention_ms: u64,
    /// The same for what a partition holds beyond this many bytes; 0 = any size.
    pub retention_bytes: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            segment_bytes_max: 128 << 20,
            wal_file_bytes: 64 << 20,
            inline_append_bytes_max: 256 << 10,
            checkpoint_interval_ms: 30_000,
            disk_reserve_bytes: 256 << 20,
            tail_bytes_max: 2 << 20,
            tail_total_bytes_max: 32 << 20,
            retention_check_interval_ms: 60_000,
            retention_ms: 7 * 24 * 3600 * 1000,
            retention_bytes: 0,
        }
    }
}

/// Parts up to this of an append that is too large for the WAL still go there: one sync less per partition.
pub(crate) const SMALL_PART_BYTES: u64 = 32 << 10;
/// A segment of a compact topic is sealed before it would grow beyond this: nothing is removed from the segment that is written, and
/// every start reads these topics whole.
pub(crate) const COMPACT_SEGMENT_BYTES_MAX: u64 = 1 << 20;
/// Largest part: Kafka's index has 31-bit positions.
pub(crate) const PART_BYTES_MAX: u64 = 1 << 30;

impl LogSettings {
    /// Bounds that hold together, whatever was set.
    pub(crate) fn sound(mut self) -> Self {
        self.segment_bytes_max = self.segment_bytes_max.clamp(4 << 10, 1 << 30);
        self.wal_file_bytes = self.wal_file_bytes.clamp(64 << 10, 1 << 30);
        self.inline_append_bytes_max = self.inline_append_bytes_max.min(self.wal_file_bytes / 8);
        self.checkpoint_interval_ms = self.checkpoint_interval_ms.max(100);
        self.retention_check_interval_ms = self.retention_check_interval_ms.max(100);
        self
    }

    /// A topic's own bounds, or ours where it has none.
    pub(crate) fn bounds(&self, mut config: TopicConfig) -> TopicConfig {
        if config.retention_ms.is_none() && config.retention_bytes.is_none() {
            config.retention_ms = Some(i64::try_from(self.retention_ms).unwrap_or(i64::MAX));
            config.retention_bytes = Some(self.retention_bytes).filter(|b| *b > 0).map(|b| i64::try_from(b).unwrap_or(i64::MAX));
        }
        config
    }

    /// Inline bytes that one WAL record gathers at most.
    pub(crate) fn group_bytes_max(&self) -> u64 {
        (self.wal_file_bytes / 4).min(8 << 20)
    }
}
