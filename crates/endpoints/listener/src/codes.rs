//! Error codes of listening; each has a page in `docs/errors/`.

use mainstem_types::Code;

pub const LISTEN: Code = Code::new("NET-001", "58030");
pub const TLS: Code = Code::new("NET-002", "F0000");
