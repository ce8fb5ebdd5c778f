//! One error type. Its kind says how a caller reacts, its code is stable and has a page in `docs/errors/`, its text says what, where,
//! and what to do next.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller does about it. A new kind needs a caller that behaves differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Passing: try again with back-off.
    Retry,
    /// The user's to fix: input, configuration, rights.
    FixInput,
    /// Not allowed.
    Denied,
    /// Bytes read back are not what was written: refuse, report.
    Corrupt,
    /// Ours to fix.
    Bug,
}

/// A stable error code with the SQLSTATE it has on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `AREA-NNN`; `docs/errors/<id>.md` exists.
    pub id: &'static str,
    pub sqlstate: &'static str,
}

impl Code {
    pub const fn new(id: &'static str, sqlstate: &'static str) -> Self {
        Self { id, sqlstate }
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong: kind, code, message, hint, place in the statement, cause. Small to move: a pointer. `Display` prints code and message, never the cause: the one place that logs walks the chain (`chain`).
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    code: Code,
    message: String,
    hint: Option<String>,
    /// 1-based character position in the SQL text.
    position: Option<u32>,
    cause: Option<Cause>,
}

impl Error {
    pub fn new(kind: ErrorKind, code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, code, message: message.into(), hint: None, position: None, cause: None }))
    }

    pub fn retry(code: Code, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retry, code, message)
    }

    pub fn fix(code: Code, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FixInput, code, message)
    }

    pub fn denied(code: Code, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Denied, code, message)
    }

    pub fn corrupt(code: Code, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, code, message)
    }

    pub fn bug(code: Code, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, code, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn at(mut self, position: u32) -> Self {
        self.0.position = Some(position);
        self
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub fn code(&self) -> Code {
        self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub fn position(&self) -> Option<u32> {
        self.0.position
    }

    /// Message and all causes, joined by `: `, for the place that handles it.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.0.code.id, self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|c| &**c as &(dyn std::error::Error + 'static))
    }
}
