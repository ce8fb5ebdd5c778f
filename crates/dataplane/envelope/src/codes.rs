//! Error codes of this crate; each has its page in `docs/errors/`.

use mainstem_types::Code;

/// The bytes of an envelope are not what was written.
pub const BAD_ENVELOPE: Code = Code::new("REC-001", "XX001");
/// A change batch does not fit its own schema.
pub const BAD_BATCH: Code = Code::new("REC-002", "XX000");
/// A record names a schema that is not known, or not one of a table.
pub const UNKNOWN_SCHEMA: Code = Code::new("REC-003", "XX001");
/// A record of `_schemas` that names a schema is none, or the ids of schemas are used up.
pub const BAD_CONTROL_RECORD: Code = Code::new("REC-004", "XX001");
