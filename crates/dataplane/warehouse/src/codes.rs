//! Error codes of live tables; each has a page in `docs/errors/`.

use mainstem_types::{Code, Error};
use std::path::Path;

/// A file of a live table could not be read or written.
pub const IO: Code = Code::new("TBL-001", "58030");
/// Bytes of a live table are not what was written.
pub const CORRUPT: Code = Code::new("TBL-002", "XX001");
/// Somebody else committed to a Delta table that we own.
pub const FOREIGN_COMMIT: Code = Code::new("TBL-003", "55000");
/// The log no longer has what a table needs to catch up.
pub const LOG_GONE: Code = Code::new("TBL-004", "58P01");
/// A change batch does not fit its table.
pub const MISFIT: Code = Code::new("TBL-005", "XX000");
/// The warehouse is closed.
pub const CLOSED: Code = Code::new("TBL-006", "57P01");

/// The error of a file that could not be read or written now.
pub(crate) fn io_error(path: &Path, what: &str) -> impl Fn(std::io::Error) -> Error {
    let text = format!("cannot {what} {}", path.display());
    move |e| Error::retry(IO, text.clone()).caused_by(e)
}
