//! What a WAL record says: a list of entries, all of which count or none. Numbers are little-endian; see `docs/rfcs/0001-log.md`.

use mainstem_eventlog::TopicConfig;

/// A partition by its topic's number (given once, never again) and its own.
pub type PartitionKey = (u32, i32);

/// A run of whole batches in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartEntry<'a> {
    pub key: PartitionKey,
    /// Base offset of the segment, which names its file.
    pub segment: i64,
    pub position: u64,
    pub bytes: u64,
    pub base_offset: i64,
    pub records: u64,
    /// The bytes themselves; without them they are already synced in the segment.
    pub inline: Option<&'a [u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Part(PartEntry<'a>),
    /// A topic was made or has a new configuration.
    Topic {
        id: u32,
        name: String,
        config: TopicConfig,
    },
    TopicDeleted {
        id: u32,
    },
    /// Records below `start` are gone.
    Cut {
        key: PartitionKey,
        start: i64,
    },
}

const PART_INLINE: u8 = 1;
const PART_SYNCED: u8 = 2;
const TOPIC: u8 = 3;
const TOPIC_DELETED: u8 = 4;
const CUT: u8 = 5;

impl Entry<'_> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Part(part) => {
                out.push(if part.inline.is_some() { PART_INLINE } else { PART_SYNCED });
                put_key(out, part.key);
                out.extend_from_slice(&part.segment.to_le_bytes());
                out.extend_from_slice(&part.position.to_le_bytes());
                out.extend_from_slice(&part.bytes.to_le_bytes());
                out.extend_from_slice(&part.base_offset.to_le_bytes());
                out.extend_from_slice(&part.records.to_le_bytes());
                out.extend_from_slice(part.inline.unwrap_or_default());
            }
            Self::Topic { id, name, config } => {
                out.push(TOPIC);
                out.extend_from_slice(&id.to_le_bytes());
                put_text(out, name.as_bytes());
                put_text(out, &serde_json::to_vec(config).unwrap_or_default());
            }
            Self::TopicDeleted { id } => {
                out.push(TOPIC_DELETED);
                out.extend_from_slice(&id.to_le_bytes());
            }
            Self::Cut { key, start } => {
                out.push(CUT);
                put_key(out, *key);
                out.extend_from_slice(&start.to_le_bytes());
            }
        }
    }
}

fn put_key(out: &mut Vec<u8>, key: PartitionKey) {
    out.extend_from_slice(&key.0.to_le_bytes());
    out.extend_from_slice(&key.1.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

/// The entries of a record's payload; None when it is not one.
pub fn decode(mut payload: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    while !payload.is_empty() {
        entries.push(decode_one(&mut payload)?);
    }
    Some(entries)
}

fn decode_one<'a>(from: &mut &'a [u8]) -> Option<Entry<'a>> {
    let kind = take::<1>(from)?[0];
    Some(match kind {
        PART_INLINE | PART_SYNCED => {
            let key = take_key(from)?;
            let segment = i64::from_le_bytes(take(from)?);
            let position = u64::from_le_bytes(take(from)?);
            let bytes = u64::from_le_bytes(take(from)?);
            let base_offset = i64::from_le_bytes(take(from)?);
            let records = u64::from_le_bytes(take(from)?);
            let sane = segment >= 0 && base_offset >= segment && records <= i64::MAX as u64 - base_offset as u64;
            if !sane || position > u64::from(u32::MAX) || bytes > u64::from(u32::MAX) {
                return None;
            }
            let inline = if kind == PART_INLINE { Some(take_slice(from, bytes as usize)?) } else { None };
            Entry::Part(PartEntry { key, segment, position, bytes, base_offset, records, inline })
        }
        TOPIC => {
            let id = u32::from_le_bytes(take(from)?);
            let name = std::str::from_utf8(take_text(from)?).ok()?.to_owned();
            Entry::Topic { id, name, config: serde_json::from_slice(take_text(from)?).ok()? }
        }
        TOPIC_DELETED => Entry::TopicDeleted { id: u32::from_le_bytes(take(from)?) },
        CUT => Entry::Cut { key: take_key(from)?, start: i64::from_le_bytes(take(from)?) },
        _ => return None,
    })
}

fn take_slice<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(n)?;
    *from = rest;
    Some(taken)
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    take_slice(from, N)?.try_into().ok()
}

fn take_key(from: &mut &[u8]) -> Option<PartitionKey> {
    Some((u32::from_le_bytes(take(from)?), i32::from_le_bytes(take(from)?)))
}

fn take_text<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(from)?);
    take_slice(from, length as usize)
}
