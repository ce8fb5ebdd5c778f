//! Error codes of configuration, data directory and start.

use mainstem_types::Code;

pub const UNKNOWN_KEY: Code = Code::new("CFG-001", "F0000");
pub const BAD_VALUE: Code = Code::new("CFG-002", "F0000");
pub const FILE_UNREADABLE: Code = Code::new("CFG-003", "F0000");
pub const IN_USE: Code = Code::new("CFG-004", "55006");
pub const NEWER_DATA: Code = Code::new("CFG-005", "F0000");
pub const DATA_DIR: Code = Code::new("CFG-006", "58030");
pub const NO_SOURCE_URL: Code = Code::new("CFG-007", "F0000");
pub const CHECK_FAILED: Code = Code::new("CFG-009", "55000");
pub const DAMAGED: Code = Code::new("CFG-010", "XX001");
