//! The error codes of the log on disk, beside those of its contract; one page each in `docs/errors/`.

use mainstem_eventlog::TopicPartition;
use mainstem_eventlog::codes::{CLOSED, KEY_MISSING};
use mainstem_types::{Code, Error};
use std::io;
use std::path::Path;

/// A write or sync failed: nothing is appended any more until a restart.
pub const POISONED: Code = Code::new("LOG-001", "58030");
/// The disk is full, or down to the reserve: appends are refused until space returns.
pub const DISK_FULL: Code = Code::new("LOG-002", "53100");
/// A file of the log could not be read.
pub const READ_FAILED: Code = Code::new("LOG-007", "58030");
/// The log's directory cannot be opened: damaged, in use, or of another version.
pub const OPEN_FAILED: Code = Code::new("LOG-008", "XX001");
/// No more files can be open.
pub const OPEN_FILES: Code = Code::new("LOG-013", "53400");

/// The refusal after a failed write or sync.
pub(crate) fn poisoned() -> Error {
    Error::corrupt(POISONED, "the log stopped taking appends: a write or sync failed, so what the disk holds is not known")
        .hint("See the first error in the server's own log, repair the disk, then restart; what was acknowledged is kept.")
}

/// The refusal after an error that [`is_passing`].
pub(crate) fn refused(error: io::Error) -> Error {
    if is_full(&error) {
        return full().caused_by(error);
    }
    Error::retry(OPEN_FILES, "the log cannot open another file; appends that need one wait")
        .hint("Allow the process more open files (ulimit -n, LimitNOFILE); no restart is needed once others are closed.")
        .caused_by(error)
}

/// The same refusal for another who asked.
pub(crate) fn again(error: &Error) -> Error {
    let again = Error::new(error.kind(), error.code(), error.message());
    match error.hint_text() {
        Some(hint) => again.hint(hint),
        None => again,
    }
}

pub(crate) fn full() -> Error {
    Error::retry(DISK_FULL, "the disk of the log is full or down to its reserve; appends wait, reads go on")
        .hint("Free space on that disk, or lower retention; no restart is needed.")
}

pub(crate) fn key_missing(at: &TopicPartition) -> Error {
    Error::fix(KEY_MISSING, format!("{at} keeps the last record per key and cannot take a record without one"))
        .hint("Give every record a key, or use a topic with cleanup.policy delete.")
}

pub(crate) fn closed() -> Error {
    Error::retry(CLOSED, "the log is closed")
}

pub(crate) fn open_failed(path: &Path, what: &str) -> Error {
    Error::corrupt(OPEN_FAILED, format!("the log cannot be opened: {}: {what}", path.display()))
}

pub(crate) fn read_failed(path: &Path, error: io::Error) -> Error {
    Error::retry(READ_FAILED, format!("cannot read {}", path.display())).caused_by(error)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether what failed can be undone and tried again: the disk is full, or too many files are open. Not so of a sync.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    is_full(error) || mainstem_env::is_out_of_files(error)
}
