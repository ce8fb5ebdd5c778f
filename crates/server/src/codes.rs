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
/// The disk of the data directory is nearly full.
pub const DISK_LOW: Code = Code::new("CFG-013", "53100");
pub const DAMAGED: Code = Code::new("CFG-010", "XX001");
pub const NO_ANSWER: Code = Code::new("CFG-011", "08001");
pub const NO_PASSWORD: Code = Code::new("CFG-012", "28P01");
