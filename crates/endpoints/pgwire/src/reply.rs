//! Backend messages, built in one send buffer. Only whole messages ever leave it.

use crate::types;
use arrow::datatypes::SchemaRef;
use mainstem_types::{Error, Result};

/// The send buffer. `whole` is where the last whole message ends: what stands after it was cut short by an error or a panic.
#[derive(Default)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    whole: usize,
    hides_position: bool,
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|b| *b != 0));
    out.push(0);
}

impl Reply {
    /// Notes what the coming errors are about. A client prints the line that a position points into: where that line has a URL with a
    /// password, the error goes without a position.
    pub fn about(&mut self, sql: &str) {
        self.hides_position = sql.split("://").skip(1).any(|rest| rest.contains('@'));
    }

    pub fn len(&self) -> usize {
        self.whole
    }

    pub fn whole(&self) -> &[u8] {
        &self.bytes[..self.whole]
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.whole = 0;
    }

    /// A bare byte: the answer to an encryption request.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.truncate(self.whole);
        self.bytes.push(byte);
        self.whole = self.bytes.len();
    }

    pub fn message(&mut self, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
        let _ = self.try_message(tag, |out| {
            body(out);
            Ok(())
        });
    }

    /// Nothing is sent of a message whose body fails.
    pub fn try_message(&mut self, tag: u8, body: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        self.bytes.truncate(self.whole);
        self.bytes.extend_from_slice(&[tag, 0, 0, 0, 0]);
        let built = body(&mut self.bytes).and_then(|()| {
            i32::try_from(self.bytes.len() - self.whole - 1)
                .map_err(|_| Error::fix(crate::codes::RANGE, "a row is larger than the protocol can carry (2 GB)"))
        });
        match built {
            Ok(length) => {
                self.bytes[self.whole + 1..self.whole + 5].copy_from_slice(&length.to_be_bytes());
                self.whole = self.bytes.len();
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(self.whole);
                Err(error)
            }
        }
    }

    pub fn empty(&mut self, tag: u8) {
        self.message(tag, |_| {});
    }

    pub fn complete(&mut self, tag: &str) {
        self.message(b'C', |out| put_string(out, tag));
    }

    pub fn ready(&mut self, status: u8) {
        self.message(b'Z', |out| out.push(status));
    }

    pub fn parameter_status(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            put_string(out, name);
            put_string(out, value);
        });
    }

    pub fn authentication(&mut self, kind: u32, data: &[u8]) {
        self.message(b'R', |out| {
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(data);
        });
    }

    pub fn notice(&mut self, text: &str) {
        self.message(b'N', |out| {
            for (field, value) in [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', text)] {
                out.push(field);
                put_string(out, value);
            }
            out.push(0);
        });
    }

    /// The stable code stands at the end of the detail and in the routine field; the message stays clean.
    pub fn error(&mut self, error: &Error, severity: &str) {
        crate::metrics::ERRORS.add(1);
        let code = error.code();
        let position = error.position().filter(|_| !self.hides_position);
        self.message(b'E', |out| {
            let mut field = |tag: u8, value: &str| {
                out.push(tag);
                put_string(out, value);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', code.sqlstate);
            field(b'M', error.message());
            field(b'D', &format!("Error code {}.", code.id));
            if let Some(hint) = error.hint_text() {
                field(b'H', hint);
            }
            if let Some(position) = position {
                field(b'P', &position.to_string());
            }
            field(b'R', code.id);
            out.push(0);
        });
    }

    pub fn row_description(&mut self, schema: &SchemaRef, format: impl Fn(usize) -> bool) {
        self.message(b'T', |out| {
            out.extend_from_slice(&(schema.fields().len() as u16).to_be_bytes());
            for (i, field) in schema.fields().iter().enumerate() {
                let oid = types::oid_of(field);
                put_string(out, field.name());
                // Neither table nor column number: results are not tied to a catalog's rows.
                out.extend_from_slice(&[0; 6]);
                out.extend_from_slice(&oid.to_be_bytes());
                out.extend_from_slice(&types::size_of(oid).to_be_bytes());
                out.extend_from_slice(&types::modifier_of(field).to_be_bytes());
                out.extend_from_slice(&u16::from(format(i)).to_be_bytes());
            }
        });
    }
}
