//! Error codes of users and their passwords; each has a page in `docs/errors/`.

use mainstem_types::Code;

pub const VERIFIER: Code = Code::new("USR-001", "F0000");
pub const PASSWORD: Code = Code::new("USR-002", "28P01");
pub const ABSENT: Code = Code::new("USR-003", "42704");
pub const TAKEN: Code = Code::new("USR-004", "42710");
pub const NAME: Code = Code::new("USR-005", "42939");
pub const LAST: Code = Code::new("USR-006", "2BP01");
