//! Error codes of SQL. Each has a page in `docs/errors/`.

use mainstem_types::Code;

pub const SYNTAX: Code = Code::new("SQL-001", "42601");
pub const UNKNOWN_TABLE: Code = Code::new("SQL-002", "42P01");
pub const UNKNOWN_COLUMN: Code = Code::new("SQL-003", "42703");
pub const UNKNOWN_FUNCTION: Code = Code::new("SQL-004", "42883");
pub const DIVISION_BY_ZERO: Code = Code::new("SQL-005", "22012");
pub const INVALID_TEXT: Code = Code::new("SQL-006", "22P02");
pub const OUT_OF_MEMORY: Code = Code::new("SQL-007", "53200");
pub const CANCELLED: Code = Code::new("SQL-008", "57014");
pub const TIMEOUT: Code = Code::new("SQL-009", "57014");
pub const READ_ONLY: Code = Code::new("SQL-010", "25006");
pub const NOT_SUPPORTED: Code = Code::new("SQL-011", "0A000");
pub const NOT_READABLE_YET: Code = Code::new("SQL-012", "55000");
pub const UNKNOWN_SCHEMA: Code = Code::new("SQL-013", "3F000");
pub const UNKNOWN_DATABASE: Code = Code::new("SQL-014", "3D000");
pub const UNKNOWN_SETTING: Code = Code::new("SQL-015", "42704");
pub const INVALID_SETTING: Code = Code::new("SQL-016", "22023");
pub const IN_FAILED_TRANSACTION: Code = Code::new("SQL-017", "25P02");
pub const SNAPSHOT_TOO_OLD: Code = Code::new("SQL-018", "72000");
pub const PARAMETERS: Code = Code::new("SQL-019", "08P01");
pub const AMBIGUOUS_COLUMN: Code = Code::new("SQL-020", "42702");
pub const OUT_OF_RANGE: Code = Code::new("SQL-021", "22003");
pub const SPILL_FULL: Code = Code::new("SQL-022", "53100");
pub const TYPE_MISMATCH: Code = Code::new("SQL-023", "42804");
pub const GROUPING: Code = Code::new("SQL-024", "42803");
pub const INTERNAL: Code = Code::new("SQL-025", "XX000");
pub const STORAGE: Code = Code::new("SQL-026", "58030");
pub const NOT_ALLOWED: Code = Code::new("SQL-027", "42501");
pub const UNKNOWN_SAVEPOINT: Code = Code::new("SQL-028", "3B001");
pub const NO_TRANSACTION: Code = Code::new("SQL-029", "25P01");
