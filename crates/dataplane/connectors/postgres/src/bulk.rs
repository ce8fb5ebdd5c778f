//! Catching up in bulk (decision 8a, `docs/rfcs/0007-bulk-catch-up.md`): the slot is peeked through SQL, a chunk of whole transactions
//! at a time, and advanced once the chunk is acknowledged. Peeking consumes nothing, so a crash repeats at most a chunk.

use crate::database::Database;
use crate::decoder::Decoder;
use crate::feedback::Feedback;
use crate::look_ahead::{LookAhead, Peeked};
use crate::metrics;
use crate::position::{lsn_text, parse_lsn};
use crate::wire::{Session, protocol, quote_text};
use mainstem_types::Result;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A backlog below this is streamed.
const BACKLOG_BYTES_MIN: u64 = 16 << 20;
/// Most log that one chunk decodes: the server keeps the chunk's result in work_mem and then in temporary files.
const CHUNK_LOG_BYTES: u64 = 256 << 20;
/// Messages per chunk, beside its log bytes. Each call decodes from restart_lsn again, so small chunks cost.
const CHUNK_MESSAGES: u32 = 2_000_000;
/// How long the pipeline may take to make a chunk durable before we stream on without advancing the slot.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_secs(30);

pub struct Bulk {
    source: Arc<Database>,
    session: Session,
    state: State,
}

enum State {
    /// Ask for the next chunk.
    Ask,
    /// A chunk's rows come; it began after `from`.
    Reading { from: u64, upto: u64, messages: u32 },
    /// All rows of the chunk are handed out; wait until they are acknowledged, then advance.
    Advance { from: u64 },
}

pub enum BulkStep {
    Going,
    /// At the head, or streaming serves better: go on with START_REPLICATION.
    Ended,
}

/// How far behind the slot is.
struct Backlog {
    confirmed: u64,
    restart: u64,
    head: u64,
    free: bool,
}

impl Bulk {
    /// None when the backlog is small or the slot is not free.
    pub async fn start(source: Arc<Database>, from: u64) -> Result<Option<Self>> {
        if !source.settings.bulk {
            return Ok(None);
        }
        let session = source.settings.target.connect(&source.env, false).await?;
        let mut bulk = Self { source, session, state: State::Ask };
        let Some(backlog) = bulk.backlog().await? else { return Ok(None) };
        // Peeking begins at confirmed_flush; what we passed beyond it would be read twice.
        let worth = backlog.free && backlog.head.saturating_sub(from) >= BACKLOG_BYTES_MIN && bulk.is_near(&backlog, from);
        Ok(worth.then_some(bulk))
    }

    /// Whether peeking would begin about where we are: nothing much to decode twice, no old transaction that holds restart_lsn back.
    fn is_near(&self, backlog: &Backlog, from: u64) -> bool {
        from.saturating_sub(backlog.confirmed) < BACKLOG_BYTES_MIN
            && from.saturating_sub(backlog.restart) < CHUNK_LOG_BYTES.max((backlog.head.saturating_sub(from)) / 2)
    }

    async fn backlog(&mut self) -> Result<Option<Backlog>> {
        let sql = format!(
            "SELECT confirmed_flush_lsn, restart_lsn, pg_current_wal_flush_lsn(), NOT active FROM pg_replication_slots \
             WHERE slot_name = {} AND confirmed_flush_lsn IS NOT NULL AND restart_lsn IS NOT NULL",
            quote_text(&self.source.settings.slot)
        );
        let rows = self.session.query(&sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let lsn = |at: usize| row.get(at).and_then(|c| c.as_deref()).and_then(parse_lsn);
        let (Some(confirmed), Some(restart), Some(head)) = (lsn(0), lsn(1), lsn(2)) else { return Ok(None) };
        Ok(Some(Backlog { confirmed, restart, head, free: row.get(3).and_then(|c| c.as_deref()) == Some("t") }))
    }

    /// One step; not to be called while the decoder has items or a question. A step that is cancelled leaves a spent session behind,
    /// and the next one goes over to streaming from the last position handed out.
    pub async fn step(&mut self, decoder: &mut Decoder, feedback: &Feedback) -> Result<BulkStep> {
        match self.state {
            State::Ask => self.ask(decoder).await,
            State::Reading { .. } => self.read(decoder).await,
            State::Advance { from } => self.advance(decoder, feedback, from).await,
        }
    }

    async fn ask(&mut self, decoder: &Decoder) -> Result<BulkStep> {
        if self.session.is_spent() {
            return Ok(BulkStep::Ended);
        }
        let from = decoder.passed();
        let Some(backlog) = self.backlog().await? else { return Ok(BulkStep::Ended) };
        if !backlog.free || backlog.head.saturating_sub(from) < BACKLOG_BYTES_MIN || !self.is_near(&backlog, from) {
            return Ok(BulkStep::Ended);
        }
        let upto = backlog.head.min(from + CHUNK_LOG_BYTES);
        let publications = quote_text(&self.source.publication_list());
        let sql = format!(
            "COPY (SELECT lsn, xid, data FROM pg_logical_slot_peek_binary_changes({}, {}, {CHUNK_MESSAGES}, \
             'proto_version', '1', 'publication_names', {publications})) TO STDOUT (FORMAT binary)",
            quote_text(&self.source.settings.slot),
            quote_text(&lsn_text(upto))
        );
        tracing::info!(from = lsn_text(from), upto = lsn_text(upto), "reading in bulk");
        self.session.copy_out(&sql).await?;
        metrics::BULK_CHUNKS.add(1);
        self.state = State::Reading { from, upto, messages: 0 };
        Ok(BulkStep::Going)
    }

    async fn read(&mut self, decoder: &mut Decoder) -> Result<BulkStep> {
        let State::Reading { from, upto, messages } = &mut self.state else { return Ok(BulkStep::Going) };
        let (from, upto) = (*from, *upto);
        let frames = self.session.frames();
        loop {
            let mut ahead = LookAhead::new(decoder);
            let (mut at, mut stopped) = (0, false);
            while let Some(frame) = frames.peek(at)? {
                at = frames.offset_after(&frame);
                let body = frames.bytes(frame.body.clone());
                let seen = match frame.tag {
                    b'd' => tuple(body)?.map_or(Peeked::Other, |t| Peeked::Message(&body[t.message])),
                    _ => Peeked::Other,
                };
                if !ahead.see(decoder, &seen, at) {
                    stopped = true;
                    break;
                }
            }
            let limit = ahead.limit().unwrap_or(at);
            let mut left = limit;
            while left > 0 {
                let Some(frame) = frames.peek(0)? else { break };
                left = left.saturating_sub(frames.offset_after(&frame));
                frames.take(&frame);
                let body = frames.bytes(frame.body.clone());
                match frame.tag {
                    b'd' => {
                        if let Some(t) = tuple(body)? {
                            metrics::BULK_MESSAGES.add(1);
                            *messages += 1;
                            decoder.message(t.lsn, &body[t.message])?;
                        }
                    }
                    b'c' | b'C' | b'N' | b'S' => {}
                    b'Z' => {
                        decoder.flush()?;
                        if *messages < CHUNK_MESSAGES {
                            // Not cut short: every commit up to `upto` was in the chunk.
                            decoder.progress(upto);
                        }
                        self.session.finished();
                        self.state = State::Advance { from };
                        return Ok(BulkStep::Going);
                    }
                    b'E' => {
                        let error = crate::wire::ServerError::parse(body);
                        return Err(error.into_error("reading the slot in bulk"));
                    }
                    _ => return Err(protocol("something else in the middle of a COPY")),
                }
                if decoder.question.is_some() || !decoder.items.is_empty() {
                    return Ok(BulkStep::Going);
                }
            }
            // A transaction that is not all here yet may be huge: what is whole leaves before it.
            if decoder.has_whole() && (decoder.is_full() || stopped || limit == 0) {
                decoder.flush()?;
                return Ok(BulkStep::Going);
            }
            frames.fill().await?;
        }
    }

    /// Moves the slot to what was acknowledged of the chunk, never further.
    async fn advance(&mut self, decoder: &mut Decoder, feedback: &Feedback, from: u64) -> Result<BulkStep> {
        let passed = decoder.passed();
        if passed == from {
            return Ok(BulkStep::Ended); // no step forward: asking again would give the same
        }
        let clock = self.source.env.clock.clone();
        let patience = clock.sleep(ACKNOWLEDGE_WAIT);
        tokio::pin!(patience);
        while feedback.acknowledged.load(Ordering::Acquire) < passed {
            tokio::select! {
                () = feedback.acknowledgement() => {}
                () = &mut patience => return Ok(BulkStep::Ended),
            }
        }
        if self.session.is_spent() {
            return Ok(BulkStep::Ended);
        }
        let slot = quote_text(&self.source.settings.slot);
        let sql = format!("SELECT end_lsn FROM pg_replication_slot_advance({slot}, {})", quote_text(&lsn_text(passed)));
        self.session.query(&sql).await?;
        self.state = State::Ask;
        Ok(BulkStep::Going)
    }
}

/// One tuple of the binary COPY: (lsn, xid, data).
struct BulkTuple {
    lsn: u64,
    message: Range<usize>,
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// None for the trailer. The first CopyData has the file header in front.
fn tuple(body: &[u8]) -> Result<Option<BulkTuple>> {
    let bad = || protocol("a malformed row of binary COPY");
    let u32_at = |at: usize| -> Result<usize> {
        let bytes = body.get(at..at + 4).ok_or_else(bad)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let mut at = 0;
    if body.starts_with(SIGNATURE) {
        at = SIGNATURE.len() + 8 + u32_at(SIGNATURE.len() + 4)?;
    }
    match body.get(at..at + 2).ok_or_else(bad)? {
        [0xff, 0xff] => return Ok(None),
        [0, 3] => at += 2,
        _ => return Err(bad()),
    }
    if u32_at(at)? != 8 {
        return Err(bad());
    }
    let lsn = body.get(at + 4..at + 12).ok_or_else(bad)?;
    let lsn = lsn.try_into().map_or(0, u64::from_be_bytes);
    at += 12;
    at += 4 + u32_at(at)?;
    let length = u32_at(at)?;
    let message = at + 4..(at + 4).checked_add(length).ok_or_else(bad)?;
    if message.end > body.len() || message.is_empty() {
        return Err(bad());
    }
    Ok(Some(BulkTuple { lsn, message }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_tuples_with_and_without_the_file_header() {
        let row =
            [&[0, 3, 0, 0, 0, 8][..], &[0, 0, 0, 0, 0, 0, 1, 2], &[0, 0, 0, 4, 0, 0, 0, 9], &[0, 0, 0, 2, b'C', 1]].concat();
        let headed = [SIGNATURE, &[0; 8], &row].concat();
        for body in [row, headed] {
            let found = tuple(&body).unwrap().unwrap();
            assert_eq!((found.lsn, &body[found.message]), (0x102, &b"C\x01"[..]));
        }
        assert!(tuple(&[0xff, 0xff]).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>, headed: bool) {
            let body = if headed { [SIGNATURE, &bytes].concat() } else { [&[0, 3, 0, 0, 0, 8][..], &bytes].concat() };
            if let Ok(Some(found)) = tuple(&body) {
                prop_assert!(body.get(found.message).is_some());
            }
        }
    }
}
