//! From a change batch to Kafka records: one for a row's insert or update, delete + tombstone for a delete, delete + tombstone + create
//! for a changed key. Columnar in, bytes out, no allocation per value.

use crate::avro::put_varint;
use crate::avro_schema::{KeyColumn, key_columns};
use crate::cells::Image;
use crate::codes;
use crate::source_block::{BlockWriter, EncodeContext};
use bytes::Bytes;
use mainstem_eventlog::{PartitionAppend, RecordBatchBuilder, TopicPartition};
use mainstem_types::{ChangeBatch, ColumnId, Error, Generation, Op, Result, TableSchema, Tx};

/// Uncompressed bytes at which a record batch ends; one record may be larger.
const RECORD_BATCH_BYTES_MAX: usize = 1 << 20;

/// Room for a narrow record: an envelope without its images is about 180 bytes.
const RECORD_BYTES_GUESS: usize = 320;

/// Order of an event within its transaction, a varint; left out when 0.
pub(crate) const ORDER_HEADER: &str = "mainstem.order";
/// Columns whose value did not change and was not sent: their ids as varints. It alone decides; placeholders do not.
pub(crate) const UNCHANGED_HEADER: &str = "mainstem.unchanged";
/// On the `c` of a changed key: the update's old image, a `Value` record. It makes the `c` an update again.
pub(crate) const BEFORE_HEADER: &str = "mainstem.before";
/// On the `t` that begins a generation: its number in decimal.
pub(crate) const GENERATION_HEADER: &str = "mainstem.generation";
/// Debezium's, on the `d` of a changed key: the new key as in the `c`'s record key. We skip such a `d` when we decode.
pub(crate) const NEW_KEY_HEADER: &str = "__debezium.newkey";
/// Debezium's, on the `c` of a changed key: the old key.
const OLD_KEY_HEADER: &str = "__debezium.oldkey";

/// Encodes a batch as one or more record batches for its topic's partition 0. A record batch stays below about 1 MiB uncompressed.
pub fn encode(context: &EncodeContext<'_>, batch: &ChangeBatch) -> Result<PartitionAppend> {
    check(batch)?;
    let rows = Image::of(&batch.schema, &batch.rows)?;
    let old = batch.old.as_ref().map(|old| Image::of(&batch.schema, old)).transpose()?;
    let mut encoder = Encoder::new(context, &batch.schema, batch.len());
    let (mut old_at, mut unchanged_at, mut run) = (0, 0, 0);
    for (row, op) in batch.ops.iter().enumerate() {
        while batch.txs[run].0 as usize <= row {
            run += 1;
        }
        encoder.source.set(&batch.txs[run].1, *op == Op::Read);
        let mut event = Event { op: *op, row, place: batch.places[row], order: batch.orders[row], old: None, unchanged: &[] };
        if batch.old_rows.get(old_at).is_some_and(|at| *at as usize == row) {
            event.old = Some(old_at);
            old_at += 1;
        }
        if let Some((at, columns)) = batch.unchanged.get(unchanged_at)
            && *at as usize == row
        {
            event.unchanged = columns;
            unchanged_at += 1;
        }
        encoder.event(&event, &rows, old.as_ref());
    }
    Ok(encoder.finish())
}

/// The marker that begins a generation in a table's topic: a truncate envelope with the header `mainstem.generation`, so that outside
/// readers who honour truncates start afresh as well. Of `batch` only the schema and the first transaction's facts are used.
pub fn encode_generation(context: &EncodeContext<'_>, batch: &ChangeBatch, generation: Generation) -> Result<PartitionAppend> {
    let mut encoder = Encoder::new(context, &batch.schema, 1);
    encoder.source.set(&batch.txs.first().map_or(Tx { id: 0, commit_place: 0, commit_time_us: 0 }, |(_, tx)| *tx), false);
    let place = batch.places.first().copied().unwrap_or(0);
    encoder.value_of(Op::Truncate, place, |out| out.extend_from_slice(&[0, 0]));
    encoder.records.push(None, Some(&encoder.value), &[(GENERATION_HEADER, generation.to_string().as_bytes())]);
    Ok(encoder.finish())
}

/// That the batch's parts fit one another: all that follows may then index.
fn check(batch: &ChangeBatch) -> Result<()> {
    let events = batch.ops.len();
    let inside = |last: Option<u32>| last.is_none_or(|row| (row as usize) < events);
    let old_rows = batch.old_rows.is_sorted_by(|a, b| a < b) && inside(batch.old_rows.last().copied());
    let unchanged = batch.unchanged.is_sorted_by(|a, b| a.0 < b.0) && inside(batch.unchanged.last().map(|(row, _)| *row));
    let runs = batch.txs.is_sorted_by(|a, b| a.0 < b.0) && batch.txs.last().map_or(0, |(end, _)| *end as usize) == events;
    let fits = batch.rows.num_rows() == events
        && batch.places.len() == events
        && batch.orders.len() == events
        && runs
        && batch.old.as_ref().map_or(0, |old| old.num_rows()) == batch.old_rows.len()
        && old_rows
        && unchanged;
    if fits {
        return Ok(());
    }
    Err(Error::bug(codes::BAD_BATCH, format!("the parts of a change batch of {} have not the same events", batch.schema.name)))
}

/// One event of a batch, by its places in it.
struct Event<'a> {
    op: Op,
    row: usize,
    place: u64,
    order: u32,
    /// Row of its old image.
    old: Option<usize>,
    unchanged: &'a [ColumnId],
}

/// State of one batch's encoding; its buffers are reused from record to record.
struct Encoder<'a> {
    schema: &'a TableSchema,
    source: BlockWriter,
    key_id: Option<i32>,
    key_columns: Vec<KeyColumn>,
    value_id: i32,
    records: Records,
    value: Vec<u8>,
    key: Vec<u8>,
    old_key: Vec<u8>,
    /// The old image for a header.
    before: Vec<u8>,
    unchanged: Vec<u8>,
    mask: Vec<bool>,
}

impl<'a> Encoder<'a> {
    fn new(context: &EncodeContext<'_>, schema: &'a TableSchema, events: usize) -> Self {
        Self {
            schema,
            source: BlockWriter::new(context, schema),
            key_id: context.ids.key,
            key_columns: key_columns(schema),
            value_id: context.ids.value,
            records: Records::new(context, events),
            value: Vec::new(),
            key: Vec::new(),
            old_key: Vec::new(),
            before: Vec::new(),
            unchanged: Vec::new(),
            mask: Vec::new(),
        }
    }

    fn finish(self) -> PartitionAppend {
        self.records.finish()
    }

    fn event(&mut self, event: &Event<'_>, rows: &Image<'_>, old: Option<&Image<'_>>) {
        self.mask_of(event.unchanged);
        let old = old.zip(event.old);
        match event.op {
            Op::Truncate => self.write(event, false, |out, _| out.extend_from_slice(&[0, 0])),
            Op::Delete => self.delete(event, rows),
            Op::Read | Op::Create | Op::Update => {
                let keyed = self.put_key(rows, event.row, old);
                let moved = match old {
                    Some((image, at)) if keyed && event.op == Op::Update => {
                        self.put_old_key(image, at) && self.key != self.old_key
                    }
                    _ => false,
                };
                if moved && let Some((image, at)) = old {
                    return self.changed_key(event, rows, image, at);
                }
                self.write(event, keyed, |out, mask| {
                    match old {
                        Some((image, at)) => {
                            out.push(2);
                            image.put(out, at);
                        }
                        None => out.push(0),
                    }
                    put_after(out, rows, event.row, mask);
                });
            }
        }
    }

    /// The bytes of an envelope with its schema id, in `self.value`.
    #[inline]
    fn value_of(&mut self, op: Op, place: u64, images: impl FnOnce(&mut Vec<u8>)) {
        self.value.clear();
        self.value.push(0);
        self.value.extend_from_slice(&self.value_id.to_be_bytes());
        images(&mut self.value);
        self.source.put(&mut self.value, op, place);
    }

    /// A record with the key at hand, or null.
    #[inline]
    fn write(&mut self, event: &Event<'_>, keyed: bool, images: impl FnOnce(&mut Vec<u8>, &[bool])) {
        let mask = std::mem::take(&mut self.mask);
        self.value_of(event.op, event.place, |out| images(out, &mask));
        self.mask = mask;
        let order = Order::of(event.order);
        let mut headers: [(&str, &[u8]); 2] = [(ORDER_HEADER, order.bytes()); 2];
        let mut count = usize::from(event.order != 0);
        if !self.unchanged.is_empty() {
            headers[count] = (UNCHANGED_HEADER, &self.unchanged);
            count += 1;
        }
        self.records.push(keyed.then_some(&self.key), Some(&self.value), &headers[..count]);
    }

    fn delete(&mut self, event: &Event<'_>, rows: &Image<'_>) {
        let known = self.key_columns.iter().all(|c| c.in_identity);
        let keyed = known && put_key(&mut self.key, self.key_id, &self.key_columns, |_| Some((rows, event.row)));
        self.write(event, keyed, |out, _| {
            out.push(2);
            rows.put(out, event.row);
            out.push(0);
        });
        if keyed {
            self.records.push(Some(&self.key), None, &[]);
        }
    }

    /// An update that changed the record key: what Debezium writes for it, and in headers what makes it one event again.
    fn changed_key(&mut self, event: &Event<'_>, rows: &Image<'_>, old: &Image<'_>, old_row: usize) {
        let order = Order::of(event.order);
        self.value_of(Op::Delete, event.place, |out| {
            out.push(2);
            old.put(out, old_row);
            out.push(0);
        });
        let headers: [(&str, &[u8]); 2] = [(NEW_KEY_HEADER, &self.key), (ORDER_HEADER, order.bytes())];
        let count = 1 + usize::from(event.order != 0);
        self.records.push(Some(&self.old_key), Some(&self.value), &headers[..count]);
        self.records.push(Some(&self.old_key), None, &[]);

        let mask = std::mem::take(&mut self.mask);
        self.value_of(Op::Create, event.place, |out| {
            out.push(0);
            put_after(out, rows, event.row, &mask);
        });
        self.mask = mask;
        self.before.clear();
        old.put(&mut self.before, old_row);
        let mut headers: [(&str, &[u8]); 4] =
            [(OLD_KEY_HEADER, &self.old_key), (BEFORE_HEADER, &self.before), ("", &[]), ("", &[])];
        let mut count = 2;
        if event.order != 0 {
            headers[count] = (ORDER_HEADER, order.bytes());
            count += 1;
        }
        if !self.unchanged.is_empty() {
            headers[count] = (UNCHANGED_HEADER, &self.unchanged);
            count += 1;
        }
        self.records.push(Some(&self.key), Some(&self.value), &headers[..count]);
    }

    /// Header and mask of the columns that did not change; both empty when there is none.
    #[inline]
    fn mask_of(&mut self, unchanged: &[ColumnId]) {
        if self.mask.is_empty() && unchanged.is_empty() {
            return;
        }
        self.unchanged.clear();
        self.mask.clear();
        if unchanged.is_empty() {
            return;
        }
        self.mask.resize(self.schema.columns.len(), false);
        for id in unchanged {
            put_varint(&mut self.unchanged, u64::from(id.0 as u32));
            if let Some(index) = self.schema.index_of(*id) {
                self.mask[index] = true;
            }
        }
    }

    /// The key of the new row in `self.key`; false: not known. A column that did not change is taken from the old image.
    #[inline]
    fn put_key(&mut self, rows: &Image<'_>, row: usize, old: Option<(&Image<'_>, usize)>) -> bool {
        let mask = &self.mask;
        put_key(&mut self.key, self.key_id, &self.key_columns, |column| {
            if mask.get(column.index) == Some(&true) { old.filter(|_| column.in_identity) } else { Some((rows, row)) }
        })
    }

    fn put_old_key(&mut self, old: &Image<'_>, row: usize) -> bool {
        put_key(&mut self.old_key, self.key_id, &self.key_columns, |column| column.in_identity.then_some((old, row)))
    }
}

#[inline]
fn put_after(out: &mut Vec<u8>, rows: &Image<'_>, row: usize, mask: &[bool]) {
    out.push(2);
    if mask.is_empty() { rows.put(out, row) } else { rows.put_masked(out, row, mask) }
}

/// A record key out of the cells at hand; false when there is none or one of its values is not known.
#[inline]
fn put_key<'i>(
    out: &mut Vec<u8>,
    id: Option<i32>,
    columns: &[KeyColumn],
    cell: impl Fn(&KeyColumn) -> Option<(&'i Image<'i>, usize)>,
) -> bool {
    let (Some(id), false) = (id, columns.is_empty()) else { return false };
    out.clear();
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
    columns.iter().all(|column| {
        let Some((image, row)) = cell(column) else { return false };
        let cells = &image.columns[column.index];
        match column.not_null {
            true if cells.is_null(row) => return false,
            true => cells.put_value(out, row),
            false => cells.put(out, row),
        }
        true
    })
}

/// The order header's value.
struct Order {
    buffer: [u8; 5],
    length: usize,
}

impl Order {
    #[inline]
    fn of(mut n: u32) -> Self {
        let mut order = Self { buffer: [0; 5], length: 0 };
        while n >= 0x80 {
            order.buffer[order.length] = n as u8 | 0x80;
            order.length += 1;
            n >>= 7;
        }
        order.buffer[order.length] = n as u8;
        order.length += 1;
        order
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// Record batches being filled.
struct Records {
    to: TopicPartition,
    time_ms: i64,
    builder: RecordBatchBuilder,
    done: Vec<Bytes>,
    records: u32,
}

impl Records {
    fn new(context: &EncodeContext<'_>, events: usize) -> Self {
        let room = events.saturating_mul(RECORD_BYTES_GUESS).min(RECORD_BATCH_BYTES_MAX);
        let builder = RecordBatchBuilder::with_capacity(context.now_ms, room);
        Self { to: TopicPartition::new(context.topic, 0), time_ms: context.now_ms, builder, done: Vec::new(), records: 0 }
    }

    #[inline]
    fn push(&mut self, key: Option<&Vec<u8>>, value: Option<&Vec<u8>>, headers: &[(&str, &[u8])]) {
        let size = key.map_or(0, Vec::len) + value.map_or(0, Vec::len);
        if self.builder.records() > 0 && self.builder.bytes() + size > RECORD_BATCH_BYTES_MAX {
            let full =
                std::mem::replace(&mut self.builder, RecordBatchBuilder::with_capacity(self.time_ms, RECORD_BATCH_BYTES_MAX));
            self.done.push(full.finish());
        }
        self.builder.push(self.time_ms, key.map(Vec::as_slice), value.map(Vec::as_slice), headers);
        self.records += 1;
    }

    fn finish(mut self) -> PartitionAppend {
        if self.builder.records() > 0 {
            self.done.push(self.builder.finish());
        }
        let batches = match self.done.len() {
            1 => self.done.swap_remove(0),
            _ => self.done.concat().into(),
        };
        PartitionAppend { to: self.to, batches, records: self.records }
    }
}
