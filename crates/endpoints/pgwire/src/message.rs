//! Frontend messages off the wire. Every field is checked against the message's end; no bytes can panic or read past it.

use crate::codes;
use bytes::{Buf, Bytes, BytesMut};
use mainstem_types::{Error, Result};

/// Longest packet before the client is known (as Postgres).
pub(crate) const STARTUP_BYTES_MAX: usize = 10_000;
/// Longest message of a known client: a statement with its parameters.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A first packet, which has no type byte.
#[derive(Debug, PartialEq)]
pub(crate) enum First {
    Tls,
    Gss,
    Cancel { number: i32, secret: Bytes },
    Startup { minor: u16, parameters: Vec<(String, String)> },
}

#[derive(Debug, PartialEq)]
pub(crate) enum Target {
    Statement(String),
    Portal(String),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Bind {
    pub portal: String,
    pub statement: String,
    pub formats: Vec<i16>,
    pub values: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Close(Target),
    Execute {
        portal: String,
        rows_max: u32,
    },
    Sync,
    Flush,
    Terminate,
    /// Answers of authentication; their form depends on the question.
    Password(Bytes),
    /// CopyData, CopyDone, CopyFail: leftovers of a copy that failed are to be ignored.
    Copy,
    FunctionCall,
}

impl Message {
    /// Whether an error in it must be followed by skipping to the next Sync.
    pub fn tag_is_extended(tag: u8) -> bool {
        matches!(tag, b'P' | b'B' | b'D' | b'C' | b'E' | b'H')
    }
}

/// Takes one whole message from `input`; None when more bytes are needed. An error means that the stream is lost.
pub(crate) fn next_frame(input: &mut BytesMut, bytes_max: usize) -> Result<Option<(u8, Bytes)>> {
    let Some((&tag, rest)) = input.split_first() else { return Ok(None) };
    if !tag.is_ascii_alphabetic() {
        return Err(Error::fix(codes::PROTOCOL, format!("invalid frontend message type {tag}")));
    }
    let Some(length) = rest.first_chunk::<4>().map(|b| i32::from_be_bytes(*b)) else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|n| (4..=bytes_max).contains(n)).ok_or_else(|| {
        Error::fix(codes::PROTOCOL, format!("invalid message length: at most {bytes_max} bytes are taken here"))
    })?;
    if rest.len() < length {
        return Ok(None);
    }
    let mut frame = input.split_to(1 + length).freeze();
    frame.advance(5);
    Ok(Some((tag, frame)))
}

/// Takes a first packet from `input`; None when more bytes are needed.
pub(crate) fn next_first(input: &mut BytesMut) -> Result<Option<First>> {
    let Some(length) = input.first_chunk::<4>().map(|b| i32::from_be_bytes(*b)) else { return Ok(None) };
    let refuse = || Error::fix(codes::PROTOCOL, "invalid start-up packet: this port speaks the PostgreSQL protocol");
    let length = usize::try_from(length).ok().filter(|n| (8..=STARTUP_BYTES_MAX).contains(n)).ok_or_else(refuse)?;
    if input.len() < length {
        return Ok(None);
    }
    let mut fields = Fields(input.split_to(length).freeze());
    fields.0.advance(4);
    let code = fields.u32()?;
    match code {
        80_877_103 => Ok(Some(First::Tls)),
        80_877_104 => Ok(Some(First::Gss)),
        80_877_102 => {
            let number = fields.u32()? as i32;
            Ok(Some(First::Cancel { number, secret: fields.0 }))
        }
        _ if code >> 16 == 3 => {
            let mut parameters = Vec::new();
            loop {
                let name = fields.string()?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, fields.string()?));
            }
            fields.end()?;
            Ok(Some(First::Startup { minor: code as u16, parameters }))
        }
        _ => Err(Error::fix(codes::UNSUPPORTED, format!("unsupported frontend protocol {}.{}", code >> 16, code & 0xffff))),
    }
}

/// Reads the body of a message of type `tag`. On an error the stream is still in step.
pub(crate) fn read(tag: u8, body: Bytes) -> Result<Message> {
    let mut fields = Fields(body);
    let message = match tag {
        b'Q' => Message::Query(fields.string()?),
        b'P' => {
            let (name, sql) = (fields.string()?, fields.string()?);
            Message::Parse { name, sql, types: fields.list(4, Fields::u32)? }
        }
        b'B' => read_bind(&mut fields)?,
        b'D' => Message::Describe(fields.target()?),
        b'C' => Message::Close(fields.target()?),
        b'E' => Message::Execute { portal: fields.string()?, rows_max: fields.u32()? },
        b'S' => Message::Sync,
        b'H' => Message::Flush,
        b'X' => Message::Terminate,
        b'p' => return Ok(Message::Password(fields.0)),
        b'd' | b'c' | b'f' => return Ok(Message::Copy),
        b'F' => return Ok(Message::FunctionCall),
        _ => return Err(Error::fix(codes::PROTOCOL, format!("invalid frontend message type {tag}"))),
    };
    fields.end()?;
    Ok(message)
}

fn read_bind(fields: &mut Fields) -> Result<Message> {
    let (portal, statement) = (fields.string()?, fields.string()?);
    let formats = fields.list(2, |f| Ok(f.u16()? as i16))?;
    let values = fields.list(4, |f| match f.u32()? as i32 {
        -1 => Ok(None),
        n => f.bytes(usize::try_from(n).map_err(|_| short())?).map(Some),
    })?;
    let result_formats = fields.list(2, |f| Ok(f.u16()? as i16))?;
    Ok(Message::Bind(Bind { portal, statement, formats, values, result_formats }))
}

fn short() -> Error {
    Error::fix(codes::PROTOCOL, "malformed message: its fields do not fit its length")
}

/// The fields of a message, taken from its front.
pub(crate) struct Fields(pub Bytes);

impl Fields {
    pub fn bytes(&mut self, count: usize) -> Result<Bytes> {
        if self.0.len() < count {
            return Err(short());
        }
        Ok(self.0.split_to(count))
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.0.try_get_u16().map_err(|_| short())
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.0.try_get_u32().map_err(|_| short())
    }

    fn target(&mut self) -> Result<Target> {
        match self.0.try_get_u8() {
            Ok(b'S') => Ok(Target::Statement(self.string()?)),
            Ok(b'P') => Ok(Target::Portal(self.string()?)),
            _ => Err(short()),
        }
    }

    /// Text that ends with a zero byte.
    pub fn string(&mut self) -> Result<String> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(short)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        match std::str::from_utf8(&text) {
            Ok(text) => Ok(text.to_string()),
            Err(_) => Err(Error::fix(codes::ENCODING, "invalid byte sequence for encoding UTF8")),
        }
    }

    /// A 16-bit count and so many items of at least `item_bytes_min` each.
    fn list<T>(&mut self, item_bytes_min: usize, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.u16()? as usize;
        if count * item_bytes_min > self.0.len() {
            return Err(short());
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(short()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as i32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn reads_what_clients_send() {
        let check = |tag, body: &[u8], expected: Message| {
            let mut input = BytesMut::from(&frame(tag, body)[..]);
            for cut in 0..input.len() {
                assert_eq!(next_frame(&mut BytesMut::from(&input[..cut]), 1000).unwrap(), None);
            }
            let (tag, body) = next_frame(&mut input, 1000).unwrap().unwrap();
            assert_eq!(read(tag, body).unwrap(), expected);
        };
        check(b'Q', b"SELECT 1\0", Message::Query("SELECT 1".into()));
        check(
            b'P',
            b"s\0SELECT $1\0\0\x01\0\0\0\x17",
            Message::Parse { name: "s".into(), sql: "SELECT $1".into(), types: vec![23] },
        );
        let bind = Bind {
            portal: String::new(),
            statement: "s".into(),
            formats: vec![1],
            values: vec![Some(Bytes::from_static(b"ab")), None],
            result_formats: vec![0],
        };
        check(b'B', b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\0", Message::Bind(bind));
        check(b'E', b"p\0\0\0\0\x05", Message::Execute { portal: "p".into(), rows_max: 5 });
        check(b'D', b"Sx\0", Message::Describe(Target::Statement("x".into())));
        check(b'S', b"", Message::Sync);
    }

    #[test]
    fn refuses_malformed_bodies() {
        for (tag, body) in [
            (b'Q', &b"no end"[..]),
            (b'Q', b"a\0b"),
            (b'Q', b"\xff\0"),
            (b'P', b"\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x09ab\0\0"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'D', b"Zx\0"),
            (b'E', b"\0\0"),
            (b'z', b""),
        ] {
            assert!(read(tag, Bytes::copy_from_slice(body)).is_err(), "{tag} {body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in any::<u8>()) {
            let _ = read(tag, Bytes::from(bytes.clone()));
            let mut framed = BytesMut::from(&frame(b"QPBDCESHXpdcfF"[tag as usize % 14], &bytes)[..]);
            let (tag, body) = next_frame(&mut framed, 1000).unwrap().unwrap();
            let _ = read(tag, body);
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some((tag, body))) = next_frame(&mut input, 1000) {
                let _ = read(tag, body);
            }
            let _ = next_first(&mut BytesMut::from(&bytes[..]));
            let mut first = BytesMut::new();
            first.extend_from_slice(&(bytes.len() as i32 + 8).to_be_bytes());
            first.extend_from_slice(&196608u32.to_be_bytes());
            first.extend_from_slice(&bytes);
            let _ = next_first(&mut first);
        }
    }
}
