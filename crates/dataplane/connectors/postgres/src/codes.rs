//! Error codes of this connector; each has a page in `docs/errors/`.

use mainstem_types::Code;

/// The URL cannot be used.
pub const BAD_URL: Code = Code::new("PG-001", "22023");
/// The server cannot be reached, or the connection was lost.
pub const UNREACHABLE: Code = Code::new("PG-002", "08001");
/// The server refused the login.
pub const LOGIN: Code = Code::new("PG-003", "28000");
/// The database does not exist.
pub const NO_DATABASE: Code = Code::new("PG-004", "3D000");
/// The role lacks a right.
pub const RIGHTS: Code = Code::new("PG-005", "42501");
/// The server answered a statement of ours with an error.
pub const STATEMENT: Code = Code::new("PG-006", "58000");
/// TLS could not be set up as asked.
pub const TLS: Code = Code::new("PG-007", "08001");
/// The server sent bytes that its protocol does not allow.
pub const PROTOCOL: Code = Code::new("PG-008", "08P01");
/// A setting of the server rules capture out.
pub const SETTING: Code = Code::new("PG-009", "55000");
/// A value that its column's type cannot hold here yet.
pub const VALUE: Code = Code::new("PG-010", "22003");
/// A slot or publication of that name is not ours.
pub const NOT_OURS: Code = Code::new("PG-011", "42710");
/// The slot was lost or invalidated.
pub const SLOT_LOST: Code = Code::new("PG-012", "55000");
/// The slot is in use by another session.
pub const SLOT_BUSY: Code = Code::new("PG-013", "55006");
/// The table is gone or cannot be captured.
pub const NO_TABLE: Code = Code::new("PG-014", "42P01");
/// The table changed under a copy.
pub const COPY_VOID: Code = Code::new("PG-015", "40001");
/// The patterns of `tables` match nothing.
pub const NO_MATCH: Code = Code::new("PG-016", "42P01");
/// Row-level security would hide rows from the copy.
pub const ROW_SECURITY: Code = Code::new("PG-017", "42501");
/// Somebody's publication makes UPDATE and DELETE fail on the source.
pub const FOREIGN_PUBLICATION: Code = Code::new("PG-018", "55000");
/// A connection pooler stands before the server.
pub const POOLER: Code = Code::new("PG-019", "08004");
/// Something that holds up or endangers capture without ruling it out.
pub const CAUTION: Code = Code::new("PG-020", "01000");
/// The spool directory cannot be used.
pub const SPOOL: Code = Code::new("PG-021", "58030");
/// A publication leaves rows, columns or operations out.
pub const NARROWED: Code = Code::new("PG-022", "55000");
