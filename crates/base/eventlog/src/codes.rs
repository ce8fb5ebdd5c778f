//! The error codes that every log gives, whatever keeps it; one page each in `docs/errors/`.

use mainstem_types::Code;

/// Bytes that should be record batches are not.
pub const BAD_BATCH: Code = Code::new("LOG-003", "XX001");
/// No such topic or partition.
pub const UNKNOWN_PARTITION: Code = Code::new("LOG-004", "42704");
/// An offset before the start or after the end of a partition.
pub const OFFSET_OUT_OF_RANGE: Code = Code::new("LOG-005", "22023");
/// A topic's name or configuration that cannot be.
pub const BAD_TOPIC: Code = Code::new("LOG-006", "22023");
/// The log is closed or closing.
pub const CLOSED: Code = Code::new("LOG-009", "57P01");
/// Another transaction holds a partition.
pub const PARTITION_HELD: Code = Code::new("LOG-010", "55P03");
/// An append that contradicts itself.
pub const BAD_APPEND: Code = Code::new("LOG-011", "XX000");
/// A record whose key or value is not in the form that its topic has.
pub const BAD_RECORD: Code = Code::new("LOG-014", "XX001");
/// A record without a key for a topic that keeps the last record per key.
pub const KEY_MISSING: Code = Code::new("LOG-012", "23502");
