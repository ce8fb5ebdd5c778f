//! Error codes of the pipeline and of the control of sources. `SRC-001` and `SRC-002` (options) belong to `connector`.

use mainstem_types::Code;

pub const BAD_NAME: Code = Code::new("SRC-003", "42602");
pub const NAME_TAKEN: Code = Code::new("SRC-004", "42710");
pub const NO_SOURCE: Code = Code::new("SRC-005", "42704");
pub const NO_CONNECTOR: Code = Code::new("SRC-006", "22023");
pub const PREFLIGHT: Code = Code::new("SRC-007", "55000");
pub const HAS_TABLES: Code = Code::new("SRC-008", "2BP01");
pub const PAUSED: Code = Code::new("SRC-009", "55000");
pub const WAIT_TIMEOUT: Code = Code::new("SRC-010", "57014");
pub const NO_TABLE: Code = Code::new("SRC-011", "42P01");
pub const SECRET_KEY: Code = Code::new("SRC-012", "F0000");
pub const SOURCE_STOPPED: Code = Code::new("SRC-013", "55000");
pub const NAME_COLLIDES: Code = Code::new("SRC-016", "42710");
