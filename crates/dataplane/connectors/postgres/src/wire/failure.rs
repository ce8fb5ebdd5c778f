//! What the server's error reports mean to us: their SQLSTATE decides how a caller reacts. The texts of the server may hold values
//! of rows in DETAIL, so only its primary message is kept.

use crate::codes;
use mainstem_types::{Code, Error, ErrorKind};

/// The fields of an ErrorResponse that we use.
#[derive(Debug, Default)]
pub struct ServerError {
    pub sqlstate: String,
    pub message: String,
}

impl ServerError {
    /// Reads the body of an ErrorResponse: pairs of a type byte and a zero-terminated text, then a zero.
    pub fn parse(mut body: &[u8]) -> Self {
        let mut error = Self::default();
        while let Some((&kind, rest)) = body.split_first() {
            if kind == 0 {
                break;
            }
            let Some(end) = rest.iter().position(|b| *b == 0) else { break };
            let text = String::from_utf8_lossy(&rest[..end]).into_owned();
            match kind {
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                _ => {}
            }
            body = &rest[end + 1..];
        }
        error
    }

    fn class(&self) -> (ErrorKind, Code) {
        use ErrorKind::{FixInput, Retry};
        let state = self.sqlstate.as_str();
        match state {
            "28P01" | "28000" => (FixInput, codes::LOGIN),
            "3D000" => (FixInput, codes::NO_DATABASE),
            "42501" if self.message.contains("row-level security") => (FixInput, codes::ROW_SECURITY),
            "42501" => (FixInput, codes::RIGHTS),
            "55006" => (Retry, codes::SLOT_BUSY),
            // Opening the stream again runs `prepare`, which finds the loss and rebuilds.
            "58P01" => (Retry, codes::SLOT_LOST),
            "55000" if self.message.contains("slot") => (Retry, codes::SLOT_LOST),
            // A publication that the slot's reading did not find at that time: never heals by itself.
            "42704" if self.message.starts_with("publication ") => (Retry, codes::SLOT_LOST),
            "42P01" => (FixInput, codes::NO_TABLE),
            _ if ["08", "53", "57", "40"].iter().any(|class| state.starts_with(class)) => (Retry, codes::UNREACHABLE),
            "55P03" => (Retry, codes::STATEMENT),
            _ if state.starts_with("XX") => (Retry, codes::STATEMENT),
            _ => (FixInput, codes::STATEMENT),
        }
    }

    pub fn into_error(self, server: &str) -> Error {
        let (kind, code) = self.class();
        let hint = match code.id {
            "PG-003" => "Check user and password in the URL, and the server's pg_hba.conf.",
            "PG-004" => "Check the database's name at the end of the URL.",
            "PG-005" => "Run `mainstem check URL`, which prints the grants that are missing.",
            "PG-017" => "Run ALTER ROLE ... BYPASSRLS for the role of the URL.",
            _ => "",
        };
        let error = Error::new(kind, code, format!("{server}: {} (SQLSTATE {})", self.message, self.sqlstate));
        if hint.is_empty() { error } else { error.hint(hint) }
    }
}
