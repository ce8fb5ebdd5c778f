//! The messages of pgoutput, protocol version 2, read in place. Forms: PostgreSQL documentation, "Logical Replication Message
//! Formats". Any bytes give a message or an error, never a panic.

use crate::wire::protocol;
use mainstem_types::Result;

/// Microseconds between 1970-01-01 and 2000-01-01, from where Postgres counts.
pub const EPOCH_SHIFT_US: i64 = 946_684_800_000_000;

#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    Begin {
        commit_lsn: u64,
        commit_time_us: i64,
        xid: u32,
    },
    Commit {
        commit_lsn: u64,
        end_lsn: u64,
        commit_time_us: i64,
    },
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    StreamStart {
        xid: u32,
    },
    StreamStop,
    StreamCommit {
        xid: u32,
        commit_lsn: u64,
        end_lsn: u64,
        commit_time_us: i64,
    },
    StreamAbort {
        xid: u32,
        subxid: u32,
    },
    /// Types, origins, logical messages: nothing to us.
    Other,
}

/// What a table looks like to the rows that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// `d`efault, `n`othing, `f`ull, `i`ndex.
    pub identity: u8,
    pub columns: Vec<RelationColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Part of the replica identity (under FULL all are).
    pub key: bool,
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
}

/// An old row: its identity columns only, or whole (FULL).
#[derive(Debug, PartialEq)]
pub struct Old<'a> {
    pub whole: bool,
    pub tuple: Tuple<'a>,
}

/// A row's values, checked to be well formed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuple<'a> {
    pub count: u16,
    bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    /// A TOASTed value that did not change and was not sent.
    Unchanged,
    Text(&'a [u8]),
}

impl<'a> Tuple<'a> {
    pub fn values(&self) -> Values<'a> {
        Values { left: self.count, bytes: self.bytes }
    }
}

/// Walks over a tuple that `Reader::tuple` has checked.
pub struct Values<'a> {
    left: u16,
    bytes: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;
    fn next(&mut self) -> Option<Value<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let (&kind, rest) = self.bytes.split_first()?;
        match kind {
            b't' => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let (text, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                self.bytes = rest;
                Some(Value::Text(text))
            }
            _ => {
                self.bytes = rest;
                Some(if kind == b'u' { Value::Unchanged } else { Value::Null })
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

fn short() -> mainstem_types::Error {
    protocol("a replication message that is cut short or malformed")
}

impl<'a> Reader<'a> {
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(short)?;
        self.0 = rest;
        Ok(*head)
    }
    fn u8(&mut self) -> Result<u8> {
        Ok(self.fixed::<1>()?[0])
    }
    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }
    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }
    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.fixed()?))
    }
    fn time_us(&mut self) -> Result<i64> {
        Ok((self.u64()? as i64).wrapping_add(EPOCH_SHIFT_US))
    }
    fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(short)?;
        let text = std::str::from_utf8(&self.0[..end]).map_err(|_| short())?.to_string();
        self.0 = &self.0[end + 1..];
        Ok(text)
    }

    fn tuple(&mut self) -> Result<Tuple<'a>> {
        let count = self.u16()?;
        let start = self.0;
        for _ in 0..count {
            match self.u8()? {
                b'n' | b'u' => {}
                b't' => {
                    let length = self.u32()? as usize;
                    self.0 = self.0.get(length..).ok_or_else(short)?;
                }
                _ => return Err(short()),
            }
        }
        Ok(Tuple { count, bytes: &start[..start.len() - self.0.len()] })
    }

    fn relation(&mut self) -> Result<Relation> {
        let (oid, schema, name, identity) = (self.u32()?, self.text()?, self.text()?, self.u8()?);
        let mut columns = Vec::new();
        for _ in 0..self.u16()? {
            let key = self.u8()? & 1 != 0;
            columns.push(RelationColumn { key, name: self.text()?, type_oid: self.u32()?, type_modifier: self.u32()? as i32 });
        }
        // The schema `pg_catalog` is sent as an empty name.
        let schema = if schema.is_empty() { "pg_catalog".to_string() } else { schema };
        Ok(Relation { oid, schema, name, identity, columns })
    }

    fn update(&mut self) -> Result<Message<'a>> {
        let relation = self.u32()?;
        let mut kind = self.u8()?;
        let mut old = None;
        if matches!(kind, b'K' | b'O') {
            old = Some(Old { whole: kind == b'O', tuple: self.tuple()? });
            kind = self.u8()?;
        }
        if kind != b'N' {
            return Err(short());
        }
        Ok(Message::Update { relation, old, new: self.tuple()? })
    }
}

/// Reads one message. Inside a stream block most messages begin with the id of the (sub)transaction, which is returned beside it.
pub fn parse(bytes: &[u8], in_stream: bool) -> Result<(Option<u32>, Message<'_>)> {
    let mut r = Reader(bytes);
    let kind = r.u8()?;
    let tagged = in_stream && matches!(kind, b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M');
    let xid = if tagged { Some(r.u32()?) } else { None };
    let message = match kind {
        b'B' => Message::Begin { commit_lsn: r.u64()?, commit_time_us: r.time_us()?, xid: r.u32()? },
        b'C' => {
            r.u8()?;
            Message::Commit { commit_lsn: r.u64()?, end_lsn: r.u64()?, commit_time_us: r.time_us()? }
        }
        b'R' => Message::Relation(r.relation()?),
        b'I' => {
            let relation = r.u32()?;
            if r.u8()? != b'N' {
                return Err(short());
            }
            Message::Insert { relation, new: r.tuple()? }
        }
        b'U' => r.update()?,
        b'D' => {
            let relation = r.u32()?;
            let whole = match r.u8()? {
                b'K' => false,
                b'O' => true,
                _ => return Err(short()),
            };
            Message::Delete { relation, old: Old { whole, tuple: r.tuple()? } }
        }
        b'T' => {
            let count = r.u32()?;
            r.u8()?;
            let relations = (0..count.min(r.0.len() as u32 / 4 + 1)).map(|_| r.u32()).collect::<Result<_>>()?;
            Message::Truncate { relations }
        }
        b'S' => Message::StreamStart { xid: r.u32()? },
        b'E' => Message::StreamStop,
        b'c' => {
            let xid = r.u32()?;
            r.u8()?;
            Message::StreamCommit { xid, commit_lsn: r.u64()?, end_lsn: r.u64()?, commit_time_us: r.time_us()? }
        }
        b'A' => Message::StreamAbort { xid: r.u32()?, subxid: r.u32()? },
        b'Y' | b'O' | b'M' => Message::Other,
        _ => return Err(protocol("a replication message of an unknown kind")),
    };
    Ok((xid, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_never_panic(mut bytes: Vec<u8>, kind in prop::sample::select(b"BCRIUDTSEcAYOMx".to_vec()), in_stream: bool) {
            bytes.insert(0, kind);
            if let Ok((_, Message::Insert { new, .. } | Message::Update { new, .. })) = parse(&bytes, in_stream) {
                prop_assert_eq!(new.values().count(), usize::from(new.count));
            }
        }
    }

    #[test]
    fn reads_an_update_with_its_old_key() {
        let mut bytes = b"U\0\0\0\x07K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012u".to_vec();
        let (xid, message) = parse(&bytes, false).unwrap();
        assert_eq!(xid, None);
        let Message::Update { relation: 7, old: Some(old), new } = message else { panic!("{message:?}") };
        assert!(!old.whole);
        assert_eq!(old.tuple.values().collect::<Vec<_>>(), [Value::Text(b"1"), Value::Null]);
        assert_eq!(new.values().collect::<Vec<_>>(), [Value::Text(b"2"), Value::Unchanged]);
        bytes.pop();
        assert!(parse(&bytes, false).is_err());
    }
}
