//! The log's error codes; one page each in `docs/errors/`.

use mainstem_types::Code;

/// A write or sync failed: nothing is appended any more until a restart.
pub const POISONED: Code = Code::new("LOG-001", "58030");
/// The disk is full, or down to the reserve: appends are refused until space returns.
pub const DISK_FULL: Code = Code::new("LOG-002", "53100");
/// Bytes that should be record batches are not.
pub const BAD_BATCH: Code = Code::new("LOG-003", "XX001");
/// No such topic or partition.
pub const UNKNOWN_PARTITION: Code = Code::new("LOG-004", "42704");
/// An offset before the start or after the end of a partition.
pub const OFFSET_OUT_OF_RANGE: Code = Code::new("LOG-005", "22023");
/// A topic's name or configuration that cannot be.
pub const BAD_TOPIC: Code = Code::new("LOG-006", "22023");
/// A file of the log could not be read.
pub const READ_FAILED: Code = Code::new("LOG-007", "58030");
/// The log's directory cannot be opened: damaged, in use, or of another version.
pub const OPEN_FAILED: Code = Code::new("LOG-008", "XX001");
/// The log is closed or closing.
pub const CLOSED: Code = Code::new("LOG-009", "57P01");
/// Another transaction holds a partition.
pub const PARTITION_HELD: Code = Code::new("LOG-010", "55P03");
/// An append that contradicts itself.
pub const BAD_APPEND: Code = Code::new("LOG-011", "XX000");
