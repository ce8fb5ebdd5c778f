//! From a topic's records back to change batches: for replay after a restart and for large transactions.

use crate::Schemas;
use crate::avro::{Bad, Reader};
use crate::cells::Rows;
use crate::codes;
use crate::encode::{BEFORE_HEADER, GENERATION_HEADER, NEW_KEY_HEADER, ORDER_HEADER, UNCHANGED_HEADER};
use crate::metrics::DECODED_RECORDS;
use crate::schemas::Known;
use crate::source_block::{BlockForm, SourceFacts, read_source};
use bytes::Bytes;
use mainstem_eventlog::RecordRef;
use mainstem_types::{ChangeBatch, ColumnId, Error, Generation, Op, Result, TableSchema, Tx};
use std::sync::Arc;

/// Bytes of values at which a change batch ends: far below the 2 GiB that an Arrow text column holds.
const CHANGES_BYTES_MAX: usize = 128 << 20;

/// What a table's topic holds, in offset order.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // the large variant is the usual one; a box would only cost it an allocation
pub enum TopicItem {
    /// From here on, rows belong to this generation.
    Generation(Generation),
    Changes(ChangeBatch),
}

/// Decodes a table's topic. Counts what it decodes in `mainstem_envelope_decoded_records_total` ("no second decode" reads it).
pub struct Decoder {
    schemas: Arc<Schemas>,
}

impl Decoder {
    pub fn new(schemas: Arc<Schemas>) -> Self {
        Self { schemas }
    }

    /// Decodes the records with `from <= offset < end` in whole record batches as `EventLog::read` returned them. Consecutive records of
    /// the same schema become one `ChangeBatch`. Returns the items and the offset after the last record decoded.
    ///
    /// Errors: `REC-001` for bytes that are not an envelope, `REC-003` for a schema that is not known (yet: see `Schemas::refresh`).
    pub fn decode(&self, batches: &Bytes, from: i64, end: i64) -> Result<(Vec<TopicItem>, i64)> {
        let mut items = Vec::new();
        let mut changes: Option<Changes> = None;
        let mut next = from;
        for record in mainstem_eventlog::records(batches)? {
            if record.offset < from || record.offset >= end {
                continue;
            }
            next = record.offset.saturating_add(1);
            DECODED_RECORDS.add(1);
            let at =
                |bad: Bad| Error::corrupt(codes::BAD_ENVELOPE, format!("the envelope at offset {}: {}", record.offset, bad.0));
            // A tombstone says nothing that the delete before it did not.
            let Some(value) = &record.value else { continue };
            let headers = Headers::of(&record).map_err(at)?;
            if headers.is_part_of_key_change {
                continue;
            }
            if let Some(generation) = headers.generation {
                items.extend(changes.take().map(Changes::finish).transpose()?);
                items.push(TopicItem::Generation(generation));
                continue;
            }
            let mut reader = Reader::new(value);
            let id = read_id(&mut reader).map_err(at)?;
            if changes.as_ref().is_none_or(|open| open.id != id || open.bytes + value.len() > CHANGES_BYTES_MAX) {
                items.extend(changes.take().map(Changes::finish).transpose()?);
            }
            let open = match &mut changes {
                Some(open) => open,
                None => changes.insert(Changes::new(id, self.schemas.known(id)?)),
            };
            open.bytes += value.len();
            open.read(&mut reader, &headers).map_err(at)?;
        }
        items.extend(changes.take().map(Changes::finish).transpose()?);
        Ok((items, next))
    }
}

/// Confluent's prefix: a zero and the schema's id.
fn read_id(from: &mut Reader<'_>) -> Result<i32, Bad> {
    match from.fixed::<1>()? {
        [0] => Ok(i32::from_be_bytes(from.fixed()?)),
        _ => Err(Bad("it does not begin with the byte 0 and a schema id")),
    }
}

/// What the headers of a record say to us.
#[derive(Default)]
struct Headers<'a> {
    order: u32,
    unchanged: Vec<ColumnId>,
    before: Option<&'a [u8]>,
    generation: Option<Generation>,
    /// The `d` before the `c` that is the update.
    is_part_of_key_change: bool,
}

impl<'a> Headers<'a> {
    fn of(record: &'a RecordRef) -> Result<Self, Bad> {
        let mut found = Self::default();
        for (name, value) in &record.headers {
            let value = value.as_deref().unwrap_or_default();
            let mut reader = Reader::new(value);
            if name == ORDER_HEADER {
                found.order = u32::try_from(reader.varint()?).map_err(|_| Bad("the header mainstem.order is out of range"))?;
            } else if name == UNCHANGED_HEADER {
                while !reader.is_empty() {
                    let id = u32::try_from(reader.varint()?).map_err(|_| Bad("the header mainstem.unchanged is out of range"))?;
                    found.unchanged.push(ColumnId(id as i32));
                }
            } else if name == BEFORE_HEADER {
                found.before = Some(value);
            } else if name == GENERATION_HEADER {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                found.generation = Some(Generation(number.ok_or(Bad("the header mainstem.generation is not a number"))?));
            } else if name == NEW_KEY_HEADER {
                found.is_part_of_key_change = true;
            }
        }
        Ok(found)
    }
}

/// A change batch being built.
struct Changes {
    id: i32,
    schema: Arc<TableSchema>,
    form: Arc<BlockForm>,
    rows: Rows,
    old: Rows,
    ops: Vec<Op>,
    places: Vec<u64>,
    orders: Vec<u32>,
    txs: Vec<(u32, Tx)>,
    old_rows: Vec<u32>,
    unchanged: Vec<(u32, Vec<ColumnId>)>,
    bytes: usize,
}

impl Changes {
    fn new(id: i32, (schema, form): Known) -> Self {
        let (rows, old) = (Rows::new(&schema), Rows::new(&schema));
        Self {
            id,
            schema,
            form,
            rows,
            old,
            ops: Vec::new(),
            places: Vec::new(),
            orders: Vec::new(),
            txs: Vec::new(),
            old_rows: Vec::new(),
            unchanged: Vec::new(),
            bytes: 0,
        }
    }

    /// Reads an envelope. The images come before the op that says what they are: a before alone is a delete's.
    fn read(&mut self, from: &mut Reader<'_>, headers: &Headers<'_>) -> Result<(), Bad> {
        let event = self.ops.len() as u32;
        let mut before = if from.branch()? {
            let image = *from;
            self.rows.skip(from)?;
            Some(image)
        } else {
            None
        };
        let after = from.branch()?;
        if after {
            self.read_after(from, &headers.unchanged)?;
        }
        let SourceFacts { op, tx, place } = read_source(from, &self.form)?;
        if !from.is_empty() {
            return Err(Bad("bytes follow its end"));
        }
        let op = match (op, before.as_mut(), after, headers.before) {
            (Op::Read | Op::Create, None, true, None) | (Op::Update, None, true, None) => op,
            (Op::Update, Some(image), true, None) => {
                self.read_old(event, image)?;
                op
            }
            (Op::Create, None, true, Some(image)) => {
                let mut image = Reader::new(image);
                self.read_old(event, &mut image)?;
                if !image.is_empty() {
                    return Err(Bad("bytes follow the end of the header mainstem.before"));
                }
                Op::Update
            }
            (Op::Delete, Some(image), false, None) => {
                self.rows.read(image)?;
                op
            }
            (Op::Truncate, None, false, None) => {
                self.rows.nulls();
                op
            }
            _ => return Err(Bad("its before and after do not fit its op")),
        };
        if !headers.unchanged.is_empty() {
            self.unchanged.push((event, headers.unchanged.clone()));
        }
        self.ops.push(op);
        self.places.push(place);
        self.orders.push(headers.order);
        match self.txs.last_mut() {
            Some((end, last)) if *last == tx => *end = event + 1,
            _ => self.txs.push((event + 1, tx)),
        }
        Ok(())
    }

    fn read_after(&mut self, from: &mut Reader<'_>, unchanged: &[ColumnId]) -> Result<(), Bad> {
        if unchanged.is_empty() {
            return self.rows.read(from);
        }
        let mask = self.schema.columns.iter().map(|c| unchanged.contains(&c.id)).collect::<Vec<_>>();
        self.rows.read_masked(from, &mask)
    }

    fn read_old(&mut self, event: u32, from: &mut Reader<'_>) -> Result<(), Bad> {
        self.old_rows.push(event);
        self.old.read(from)
    }

    fn finish(self) -> Result<TopicItem> {
        let old = if self.old.rows() == 0 { None } else { Some(self.old.finish(&self.schema)?) };
        Ok(TopicItem::Changes(ChangeBatch {
            rows: self.rows.finish(&self.schema)?,
            schema: self.schema,
            ops: self.ops,
            places: self.places,
            orders: self.orders,
            txs: self.txs,
            old,
            old_rows: self.old_rows,
            unchanged: self.unchanged,
        }))
    }
}
