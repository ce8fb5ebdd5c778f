//! Kafka's record batch, version 2 (magic 2): the bytes on disk and, later, on the wire. Layout: KIP-98 / Apache Kafka "Message
//! Format"; CRC-32C over everything from the attributes on.

use crate::codes;
use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use mainstem_types::{Error, Result};
use std::io::{Read, Write};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes before those that the batch length counts (base offset and the length itself).
const PREFIX_BYTES: usize = 12;
const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// The CRC covers everything from here.
const ATTRIBUTES_AT: usize = 21;
const LAST_DELTA_AT: usize = 23;
const BASE_TIME_AT: usize = 27;
const MAX_TIME_AT: usize = 35;
const COUNT_AT: usize = 57;
const MAGIC: u8 = 2;
const COMPRESSION_MASK: i16 = 0b111;
const LZ4: i16 = 3;
/// The records' time is the batch's greatest: it was set at append.
const LOG_APPEND_TIME: i16 = 1 << 3;
const CONTROL: i16 = 1 << 5;
/// The base time is the one from which on the batch's tombstones may go (KIP-534).
const DELETE_HORIZON: i16 = 1 << 6;
/// Smallest record: its length, attributes, two deltas, two lengths, header count, one byte each.
const RECORD_BYTES_MIN: usize = 7;
/// Below this, lz4's frame costs more than it saves.
const COMPRESS_BYTES_MIN: usize = 256;

/// Builds one record batch without an allocation per record.
///
/// A batch has at most 2 GiB (Kafka's length field); whoever fills it ends it long before, by [`bytes`](Self::bytes).
pub struct RecordBatchBuilder {
    /// The batch as it will be: room for the header, then the records.
    buffer: Vec<u8>,
    /// Values made by [`push_with`](Self::push_with), one at a time: a record begins with its length, known only afterwards.
    value: Vec<u8>,
    records: u32,
    base_time_ms: i64,
    max_time_ms: i64,
    compress: bool,
}

impl RecordBatchBuilder {
    /// `base_time_ms`: the batch's base timestamp; records give theirs in full.
    pub fn new(base_time_ms: i64) -> Self {
        Self::with_capacity(base_time_ms, 0)
    }

    /// As `new`, with room for `bytes` of records.
    pub fn with_capacity(base_time_ms: i64, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES + bytes);
        buffer.resize(HEADER_BYTES, 0);
        Self { buffer, value: Vec::new(), records: 0, base_time_ms, max_time_ms: i64::MIN, compress: true }
    }

    /// The batch stays as it is, whether smaller or not.
    #[must_use]
    pub fn uncompressed(mut self) -> Self {
        self.compress = false;
        self
    }

    /// Adds a record. None as key or value is Kafka's null (a tombstone, for a value).
    pub fn push(&mut self, time_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) {
        let deltas = (time_ms.wrapping_sub(self.base_time_ms), i64::from(self.records));
        let header_bytes =
            headers.iter().map(|(name, value)| field_bytes(Some(name.as_bytes())) + field_bytes(Some(value))).sum();
        put_record(&mut self.buffer, deltas, key, value, (headers.len(), header_bytes), |out| {
            for (name, value) in headers {
                put_field(out, Some(name.as_bytes()));
                put_field(out, Some(value));
            }
        });
        self.records += 1;
        self.max_time_ms = self.max_time_ms.max(time_ms);
    }

    /// Adds a record whose value `write` appends to the vector it gets (empty, and the same one each time).
    pub fn push_with(&mut self, time_ms: i64, key: Option<&[u8]>, headers: &[(&str, &[u8])], write: impl FnOnce(&mut Vec<u8>)) {
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        write(&mut value);
        self.push(time_ms, key, Some(&value), headers);
        self.value = value;
    }

    pub fn records(&self) -> u32 {
        self.records
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes so far, uncompressed, header included.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Ends the batch: lz4-compressed where that is smaller, base offset 0, CRC set. Without records there is no batch and no byte.
    pub fn finish(mut self) -> Bytes {
        if self.records == 0 {
            return Bytes::new();
        }
        let out = &mut self.buffer;
        out[MAGIC_AT] = MAGIC;
        put_at(out, LAST_DELTA_AT, &(self.records as i32 - 1).to_be_bytes());
        put_at(out, BASE_TIME_AT, &self.base_time_ms.to_be_bytes());
        put_at(out, MAX_TIME_AT, &self.max_time_ms.to_be_bytes());
        // Producer id, epoch and first sequence number: none.
        out[43..COUNT_AT].fill(0xff);
        put_at(out, COUNT_AT, &(self.records as i32).to_be_bytes());
        close(self.buffer, 0, self.compress)
    }
}

/// Ends a raw batch whose header lacks length, attributes (given without a codec) and CRC only.
fn close(mut out: Vec<u8>, mut attributes: i16, compress: bool) -> Bytes {
    let worth = compress && out.len() - HEADER_BYTES >= COMPRESS_BYTES_MIN;
    if worth && let Some(smaller) = compressed(&out) {
        out = smaller;
        attributes |= LZ4;
    }
    let length = out.len() - PREFIX_BYTES;
    put_at(&mut out, LENGTH_AT, &(length as i32).to_be_bytes());
    put_at(&mut out, ATTRIBUTES_AT, &attributes.to_be_bytes());
    let crc = crc32c::crc32c(&out[ATTRIBUTES_AT..]);
    put_at(&mut out, CRC_AT, &crc.to_be_bytes());
    Bytes::from(out)
}

/// The header of a raw batch, then its records as one lz4 frame; None when that is not smaller. Independent blocks, because Kafka's
/// Java client reads no others.
fn compressed(raw: &[u8]) -> Option<Vec<u8>> {
    let (header, records) = raw.split_at(HEADER_BYTES);
    let block = if records.len() <= 64 << 10 { BlockSize::Max64KB } else { BlockSize::Max256KB };
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(block);
    let mut out = Vec::with_capacity(HEADER_BYTES + records.len() / 2);
    out.extend_from_slice(header);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(records).ok()?;
    let out = encoder.finish().ok()?;
    (out.len() < raw.len()).then_some(out)
}

fn put_at(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn field_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint_bytes(bytes.len() as i64) + bytes.len())
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => out.push(1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends a record; `deltas`: its time and offset above the batch's; `headers`: how many and, encoded, how many bytes.
fn put_record(
    out: &mut Vec<u8>,
    deltas: (i64, i64),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: (usize, usize),
    put_headers: impl FnOnce(&mut Vec<u8>),
) {
    let mut length = 1 + varint_bytes(deltas.0) + varint_bytes(deltas.1) + field_bytes(key) + field_bytes(value);
    length += varint_bytes(headers.0 as i64) + headers.1;
    out.reserve(length + 5);
    put_varint(out, length as i64);
    out.push(0);
    put_varint(out, deltas.0);
    put_varint(out, deltas.1);
    put_field(out, key);
    put_field(out, value);
    put_varint(out, headers.0 as i64);
    put_headers(out);
}

fn bad(what: &str) -> Error {
    Error::corrupt(codes::BAD_BATCH, format!("not a record batch of version 2: {what}"))
}

/// The fields of a batch's header that the log looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Of the whole batch, header included.
    pub bytes: usize,
    /// Offset of its last record, counted from the base offset.
    pub last_offset_delta: i32,
    /// Greatest time of its records, milliseconds since 1970-01-01T00:00:00Z.
    pub max_time_ms: i64,
    pub base_time_ms: i64,
    pub attributes: i16,
    pub records: i32,
    crc: u32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).ok_or_else(|| bad("cut off in its header"))
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may end before the batch does. The CRC is not checked.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < HEADER_BYTES {
            return Err(bad("cut off in its header"));
        }
        if bytes[MAGIC_AT] != MAGIC {
            return Err(bad("another version"));
        }
        let length = i32::from_be_bytes(array(bytes, LENGTH_AT)?);
        let header = Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)?),
            bytes: usize::try_from(length).map_err(|_| bad("a negative length"))? + PREFIX_BYTES,
            last_offset_delta: i32::from_be_bytes(array(bytes, LAST_DELTA_AT)?),
            max_time_ms: i64::from_be_bytes(array(bytes, MAX_TIME_AT)?),
            base_time_ms: i64::from_be_bytes(array(bytes, BASE_TIME_AT)?),
            attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_AT)?),
            records: i32::from_be_bytes(array(bytes, COUNT_AT)?),
            crc: u32::from_be_bytes(array(bytes, CRC_AT)?),
        };
        if header.bytes < HEADER_BYTES || header.last_offset_delta < 0 || header.records < 0 || header.base_offset < 0 {
            return Err(bad("a field out of its range"));
        }
        if header.base_offset.checked_add(i64::from(header.last_offset_delta) + 1).is_none() {
            return Err(bad("offsets beyond the greatest"));
        }
        Ok(header)
    }

    /// One past the last offset.
    pub fn end(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// Whether the bytes are those that were written; nothing is decompressed. `batch` begins with the batch.
    pub fn check_crc(&self, batch: &[u8]) -> Result<()> {
        let body = batch.get(ATTRIBUTES_AT..self.bytes).ok_or_else(|| bad("cut off"))?;
        if crc32c::crc32c(body) == self.crc { Ok(()) } else { Err(bad("its checksum does not hold")) }
    }
}

/// Sets the base offset of the batch at the front of `batch`; the CRC does not cover it. Nothing happens to fewer than 8 bytes.
pub fn set_base_offset(batch: &mut [u8], offset: i64) {
    if let Some(field) = batch.get_mut(..8) {
        field.copy_from_slice(&offset.to_be_bytes());
    }
}

/// Headers of the whole batches in `bytes`, each with its place; ends after the first error. A batch that is cut off is an error.
pub fn headers(bytes: &[u8]) -> impl Iterator<Item = Result<(usize, BatchHeader)>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let place = at;
        let header = BatchHeader::parse(&bytes[at..])
            .and_then(|header| if header.bytes > bytes.len() - place { Err(bad("cut off")) } else { Ok(header) });
        at = header.as_ref().map_or(bytes.len(), |header| place + header.bytes);
        Some(header.map(|header| (place, header)))
    })
}

/// One record, its bytes shared with the decoded batch.
#[derive(Clone, Debug)]
pub struct RecordRef {
    pub offset: i64,
    pub time_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// One record, borrowed: what [`visit`] shows, without an allocation per record.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    pub offset: i64,
    pub time_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    header_count: usize,
    /// Checked when the record was read.
    header_bytes: &'a [u8],
}

impl<'a> RecordView<'a> {
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut cursor = Cursor(self.header_bytes);
        (0..self.header_count).map_while(move |_| Some((cursor.field().ok()??, cursor.field().ok()?)))
    }

    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(key, _)| *key == name.as_bytes()).and_then(|(_, value)| value)
    }
}

/// Decodes whole batches as `EventLog::read` returns them: CRC checked, decompressed; bad bytes are an error (`LOG-003`), never a panic.
pub fn records(batches: &Bytes) -> Result<Vec<RecordRef>> {
    let mut out = Vec::new();
    each_body(batches, |header, body| {
        out.reserve(header.records as usize);
        read_records(header, &body, |view| {
            let share = |field: &[u8]| body.slice_ref(field);
            out.push(RecordRef {
                offset: view.offset,
                time_ms: view.time_ms,
                key: view.key.map(share),
                value: view.value.map(share),
                headers: view.headers().map(|(name, value)| (share(name), value.map(share))).collect(),
            });
            Ok(())
        })
    })?;
    Ok(out)
}

/// Shows each record of whole batches in order, checked as in [`records`]; ends at the first error, also one that `each` returns.
pub fn visit(batches: &Bytes, mut each: impl FnMut(RecordView<'_>) -> Result<()>) -> Result<()> {
    each_body(batches, |header, body| read_records(header, &body, &mut each))
}

/// A numbered batch without the records that `keep` refuses: the same bytes when it wants all, none when it wants none. The rest keeps
/// offsets, times and the base offset; the batch ends with its last record, so that a reader who goes on behind that one never meets it
/// again. `keep` also gets the time from which on tombstones may go, where the batch has one; one that has tombstones and no such time
/// gets `horizon_ms`. Control batches stay.
pub fn retain(
    batch: &Bytes,
    horizon_ms: Option<i64>,
    mut keep: impl FnMut(&RecordView<'_>, Option<i64>) -> bool,
) -> Result<Bytes> {
    let mut out = None;
    each_body(batch, |header, body| {
        let known = (header.attributes & DELETE_HORIZON != 0).then_some(header.base_time_ms);
        let (mut kept, mut tombstones) = (Vec::with_capacity(header.records as usize), false);
        read_records(header, &body, |view| {
            kept.push(keep(&view, known));
            tombstones |= kept.last() == Some(&true) && view.value.is_none();
            Ok(())
        })?;
        let horizon_ms = horizon_ms.filter(|_| tombstones && known.is_none());
        if horizon_ms.is_some() || kept.contains(&false) {
            out = Some(rewrite(batch, header, &body, &kept, horizon_ms)?);
        }
        Ok(())
    })?;
    Ok(out.unwrap_or_else(|| batch.clone()))
}

/// A batch of the records marked true only.
fn rewrite(batch: &[u8], header: &BatchHeader, body: &Bytes, kept: &[bool], horizon_ms: Option<i64>) -> Result<Bytes> {
    let mut out = batch[..HEADER_BYTES].to_vec();
    let base_time_ms = horizon_ms.unwrap_or(header.base_time_ms);
    let (mut count, mut last, mut max_time_ms) = (0_i32, 0, i64::MIN);
    let mut kept = kept.iter();
    read_records(header, body, |view| {
        if kept.next() == Some(&true) {
            let deltas = (view.time_ms.wrapping_sub(base_time_ms), view.offset - header.base_offset);
            count += 1;
            last = last.max(deltas.1 as i32);
            max_time_ms = max_time_ms.max(view.time_ms);
            let headers = (view.header_count, view.header_bytes.len());
            put_record(&mut out, deltas, view.key, view.value, headers, |out| out.extend_from_slice(view.header_bytes));
        }
        Ok(())
    })?;
    if count == 0 {
        return Ok(Bytes::new());
    }
    put_at(&mut out, LAST_DELTA_AT, &last.to_be_bytes());
    put_at(&mut out, BASE_TIME_AT, &base_time_ms.to_be_bytes());
    put_at(&mut out, MAX_TIME_AT, &max_time_ms.to_be_bytes());
    put_at(&mut out, COUNT_AT, &count.to_be_bytes());
    let horizon = if horizon_ms.is_some() { DELETE_HORIZON } else { 0 };
    let compress = header.attributes & COMPRESSION_MASK != 0;
    Ok(close(out, (header.attributes & !COMPRESSION_MASK) | horizon, compress))
}

/// Calls `each` with the uncompressed records of every batch; Kafka's control batches hold none for readers.
fn each_body(batches: &Bytes, mut each: impl FnMut(&BatchHeader, Bytes) -> Result<()>) -> Result<()> {
    for item in headers(batches) {
        let (at, header) = item?;
        let batch = batches.slice(at..at + header.bytes);
        header.check_crc(&batch)?;
        if header.attributes & CONTROL != 0 {
            continue;
        }
        let raw = batch.slice(HEADER_BYTES..);
        let body = match header.attributes & COMPRESSION_MASK {
            0 => raw,
            LZ4 => decompressed(&raw)?,
            _ => return Err(bad("compressed by other means than lz4")),
        };
        if header.records as usize > body.len() / RECORD_BYTES_MIN {
            return Err(bad("more records than bytes"));
        }
        each(&header, body)?;
    }
    Ok(())
}

fn decompressed(raw: &[u8]) -> Result<Bytes> {
    let mut body = Vec::with_capacity(raw.len().saturating_mul(3));
    // Without a bound, a few bad MiB would unfold into hundreds of GiB.
    let read = FrameDecoder::new(raw).take(i32::MAX as u64).read_to_end(&mut body);
    read.map_err(|e| bad("its lz4 frame").caused_by(e))?;
    Ok(Bytes::from(body))
}

fn read_records(header: &BatchHeader, body: &[u8], mut each: impl FnMut(RecordView<'_>) -> Result<()>) -> Result<()> {
    let mut cursor = Cursor(body);
    for _ in 0..header.records {
        let length = usize::try_from(cursor.varint()?).map_err(|_| bad("a record's length"))?;
        let mut record = Cursor(cursor.take(length)?);
        record.take(1)?;
        let time_delta = record.varint()?;
        let offset_delta = record.varint()?;
        if !(0..=i64::from(header.last_offset_delta)).contains(&offset_delta) {
            return Err(bad("a record's offset"));
        }
        let key = record.field()?;
        let value = record.field()?;
        let header_count = usize::try_from(record.varint()?).map_err(|_| bad("a record's header count"))?;
        let header_bytes = record.0;
        for _ in 0..header_count {
            record.field()?.ok_or_else(|| bad("a header without a name"))?;
            record.field()?;
        }
        if !record.0.is_empty() {
            return Err(bad("bytes left in a record"));
        }
        let append_time = header.attributes & LOG_APPEND_TIME != 0;
        let time_ms = if append_time { header.max_time_ms } else { header.base_time_ms.wrapping_add(time_delta) };
        each(RecordView { offset: header.base_offset + offset_delta, time_ms, key, value, header_count, header_bytes })?;
    }
    if cursor.0.is_empty() { Ok(()) } else { Err(bad("bytes after its records")) }
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(|| bad("cut off in a record"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(bad("a number without end"))
    }

    fn field(&mut self) -> Result<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| bad("a field's length"))?).map(Some),
        }
    }
}
