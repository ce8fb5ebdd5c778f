//! Error codes of this door; each has a page in `docs/errors/`.

use mainstem_types::Code;

pub const PROTOCOL: Code = Code::new("NET-003", "08P01");
pub const PASSWORD: Code = Code::new("NET-004", "28P01");
pub const CONNECTIONS: Code = Code::new("NET-005", "53300");
pub const STARTUP_TIMEOUT: Code = Code::new("NET-006", "57014");
pub const PANIC: Code = Code::new("NET-007", "XX000");
pub const UNSUPPORTED: Code = Code::new("NET-008", "0A000");
pub const PARAMETER_TEXT: Code = Code::new("NET-009", "22P02");
pub const PARAMETER_BINARY: Code = Code::new("NET-010", "22P03");
pub const NO_STATEMENT: Code = Code::new("NET-011", "26000");
pub const NO_PORTAL: Code = Code::new("NET-012", "34000");
pub const STATEMENT_TAKEN: Code = Code::new("NET-013", "42P05");
pub const PORTAL_TAKEN: Code = Code::new("NET-014", "42P03");
pub const SHUTDOWN: Code = Code::new("NET-015", "57P01");
pub const RANGE: Code = Code::new("NET-016", "22003");
pub const ENCODING: Code = Code::new("NET-017", "22021");
pub const MANY_COMMANDS: Code = Code::new("NET-018", "42601");
pub const NO_PARAMETER: Code = Code::new("NET-019", "42P02");
pub const COPY: Code = Code::new("NET-021", "42601");
pub const ENCODE: Code = Code::new("NET-022", "XX000");
pub const GUESSING: Code = Code::new("NET-024", "28000");
pub const STARTING: Code = Code::new("NET-025", "57P03");
pub const DROPPED: Code = Code::new("NET-026", "57P01");
