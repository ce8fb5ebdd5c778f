//! The change stream: reads the replication connection (or, far behind, bulk chunks) in place and hands out whole transactions.
//!
//! A pass first looks ahead for the last Commit in the buffer and decodes up to it, so that an item always ends between
//! transactions and a lone commit waits for nothing. What is already in the socket comes along, up to a bound; while the server sends
//! what was committed a while ago, the bound is a share of that lag.

use crate::bulk::{Bulk, BulkStep};
use crate::catalog::Relation;
use crate::codes;
use crate::database::Database;
use crate::decoder::Decoder;
use crate::feedback::{self, Feedback};
use crate::look_ahead::{LookAhead, Peeked};
use crate::position::Place;
use crate::wire::{Duplex, Frame, FrameReader, Io, ServerError, protocol};
use async_trait::async_trait;
use futures::FutureExt;
use mainstem_connector::{ChangeStream, StreamItem};
use mainstem_env::net::LowWater;
use mainstem_env::{JoinOnDrop, Moment, spawn};
use mainstem_types::{Error, Position, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::ReadHalf;
use tokio::sync::oneshot;

/// How long a pass may go on gathering transactions that are already here.
const GATHER_TIME: Duration = Duration::from_millis(2);
/// A transaction that is sent this long after its commit is from a backlog: then larger items cost less, and nobody waits for a single one.
const BEHIND_US: i64 = 20_000;
/// While behind, gathering may take this share of the lag, up to a bound.
const GATHER_SHARE: u32 = 4;
const GATHER_TIME_MAX: Duration = Duration::from_millis(50);
/// The walsender sends message by message, and waking us for each costs it more than the message: while behind, so much must be there ...
const GATHER_BYTES: u32 = 64 << 10;
/// ... or, where the socket knows no such mark, we look this often instead.
const GATHER_PAUSE: Duration = Duration::from_millis(1);
/// Positions without rows are told about this often, unless somebody waits for one.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// An XLogData header: 'w', start, end, time.
const DATA_HEADER: usize = 25;

pub struct Stream {
    source: Arc<Database>,
    decoder: Decoder,
    feedback: Arc<Feedback>,
    feed: Feed,
    /// The catalog is being asked for the decoder's question, by a task that a dropped `next` does not end.
    asking: Option<Asking>,
    /// The newest position that a keepalive named.
    idle_lsn: u64,
    /// When the server sent what was read last, microseconds since 1970 by its clock.
    sent_us: i64,
    progress_at: Moment,
    /// The socket's mark is up.
    coalescing: bool,
}

struct Asking {
    _task: JoinOnDrop<()>,
    answer: oneshot::Receiver<Result<Option<Relation>>>,
}

enum Feed {
    Live {
        reader: FrameReader<ReadHalf<Box<dyn Io>>>,
        low_water: Option<LowWater>,
        _status: JoinOnDrop<()>,
    },
    Bulk(Box<Bulk>),
    /// Between the two: connect for streaming at the next call.
    Connect,
}

impl Stream {
    pub fn new(source: Arc<Database>, decoder: Decoder, feedback: Arc<Feedback>, bulk: Option<Bulk>) -> Self {
        let progress_at = source.env.clock.moment();
        let feed = bulk.map_or(Feed::Connect, |b| Feed::Bulk(Box::new(b)));
        Self { source, decoder, feedback, feed, asking: None, idle_lsn: 0, sent_us: 0, progress_at, coalescing: false }
    }

    /// Connects for streaming now, so that errors show when the stream is opened.
    pub async fn connect(&mut self) -> Result<()> {
        let sql = self.source.start_replication(self.decoder.passed());
        let session = self.source.settings.target.connect(&self.source.env, true).await?;
        let Duplex { reader, write, low_water } = session.copy_both(&sql).await?;
        let status = feedback::start(self.source.env.clone(), self.feedback.clone(), write);
        self.feed = Feed::Live { reader, low_water, _status: status };
        Ok(())
    }

    /// The question of the decoder, asked of the catalog. Cancel-safe: question and task stay until the answer is taken.
    async fn answer(&mut self) -> Result<()> {
        let Some(oid) = self.decoder.question.as_ref().map(|q| q.oid) else { return Ok(()) };
        let source = self.source.clone();
        let asking = self.asking.get_or_insert_with(|| {
            let (sender, answer) = oneshot::channel();
            let task = spawn("postgres catalog question", async move {
                let _ = sender.send(source.relation(oid).await); // the stream may be gone
            });
            Asking { _task: task, answer }
        });
        let found = (&mut asking.answer).await;
        self.asking = None;
        let found = found.map_err(|_| Error::retry(codes::UNREACHABLE, "the question to the catalog was given up"))??;
        self.decoder.answer(found.as_ref())
    }

    async fn live(&mut self) -> Result<()> {
        self.wake_at_once();
        let started = self.source.env.clock.moment();
        loop {
            let Feed::Live { reader, .. } = &mut self.feed else { return Ok(()) };
            let pass = live_pass(reader, &mut self.decoder, &self.feedback)?;
            self.idle_lsn = self.idle_lsn.max(pass.idle_lsn.unwrap_or(0));
            self.sent_us = pass.sent_us.unwrap_or(self.sent_us);
            if self.decoder.question.is_some() || self.decoder.is_replaying() || !self.decoder.items.is_empty() {
                return Ok(());
            }
            if !self.decoder.has_whole() {
                return self.wait().await;
            }
            let behind = self.behind();
            let gather = behind.map_or(GATHER_TIME, |lag| (lag / GATHER_SHARE).min(GATHER_TIME_MAX));
            let left = gather.saturating_sub(self.source.env.clock.moment() - started);
            let more = !left.is_zero()
                && !self.decoder.is_full()
                && match behind {
                    Some(_) => self.gather(left).await,
                    None => self.read_ready(),
                };
            if !more {
                return self.decoder.flush();
            }
        }
    }

    /// Reads what has come; false when nothing has.
    fn read_ready(&mut self) -> bool {
        let Feed::Live { reader, .. } = &mut self.feed else { return false };
        matches!(reader.fill().now_or_never(), Some(Ok(_)))
    }

    /// Reads more of a backlog, in large pieces, for at most `left`. That nothing came is no end of it: the walsender may have no processor
    /// just now, and small items would take more of it away. False when the connection broke.
    async fn gather(&mut self, left: Duration) -> bool {
        let clock = self.source.env.clock.clone();
        let Feed::Live { reader, low_water, .. } = &mut self.feed else { return false };
        if low_water.as_ref().is_none_or(|mark| mark.set(GATHER_BYTES).is_err()) {
            clock.sleep(GATHER_PAUSE).await;
            return !matches!(reader.fill().now_or_never(), Some(Err(_)));
        }
        self.coalescing = true;
        tokio::select! {
            biased;
            read = reader.fill() => read.is_ok(),
            () = clock.sleep(left) => true,
        }
    }

    /// From here on every byte wakes us again: a lone commit waits for nothing.
    fn wake_at_once(&mut self) {
        if std::mem::take(&mut self.coalescing)
            && let Feed::Live { low_water: Some(mark), .. } = &self.feed
            && let Err(error) = mark.set(1)
        {
            // It was set a moment ago, so it can be set. A new connection has none.
            tracing::warn!(%error, "the socket keeps its mark; connecting anew");
            self.feed = Feed::Connect;
        }
    }

    /// How old the last whole transaction was when the server sent it, where that shows a backlog. Both times are the server's.
    fn behind(&self) -> Option<Duration> {
        let lag = self.sent_us - self.decoder.whole_commit_time_us()?;
        (lag >= BEHIND_US).then(|| Duration::from_micros(lag as u64))
    }

    /// Reads more; between transactions, says how far the server is.
    async fn wait(&mut self) -> Result<()> {
        let clock = self.source.env.clock.clone();
        let Feed::Live { reader, .. } = &mut self.feed else { return Ok(()) };
        if self.idle_lsn <= self.decoder.passed() || self.decoder.in_transaction() {
            reader.fill().await?;
            return Ok(());
        }
        let wanted = self.feedback.wanted.load(Ordering::Acquire);
        let awaited = self.decoder.passed() < wanted && wanted <= self.idle_lsn;
        let pause = (Moment(self.progress_at.0 + PROGRESS_INTERVAL)) - clock.moment();
        if awaited || pause.is_zero() {
            self.progress_at = clock.moment();
            self.decoder.progress(self.idle_lsn);
            return Ok(());
        }
        tokio::select! {
            read = reader.fill() => { read?; }
            () = clock.sleep(pause) => {}
        }
        Ok(())
    }

    async fn bulk(&mut self) -> Result<()> {
        let Feed::Bulk(bulk) = &mut self.feed else { return Ok(()) };
        match bulk.step(&mut self.decoder, &self.feedback).await? {
            BulkStep::Going => Ok(()),
            BulkStep::Ended => {
                self.feed = Feed::Connect;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl ChangeStream for Stream {
    async fn next(&mut self) -> Result<StreamItem> {
        loop {
            if let Some(item) = self.decoder.items.pop_front() {
                return Ok(item);
            }
            if let Some((oid, reason)) = self.source.registry.take_stale() {
                self.decoder.stale(oid, reason);
            } else if self.decoder.question.is_some() {
                self.answer().await?;
            } else if self.decoder.is_replaying() {
                self.decoder.replay()?;
            } else {
                let registry = self.source.registry.clone();
                let read = match &self.feed {
                    Feed::Live { .. } => tokio::select! {
                        biased;
                        read = self.live() => read,
                        () = registry.staleness() => Ok(()),
                    },
                    Feed::Bulk(_) => self.bulk().await,
                    Feed::Connect => self.connect().await,
                };
                self.source.noted(read)?;
            }
        }
    }

    fn acknowledge(&mut self, position: &Position) {
        if let Some(place) = Place::parse(&position.0) {
            self.feedback.acknowledge(place.lsn);
        }
    }
}

/// What a pass over the buffer learned beside rows.
#[derive(Default)]
struct Pass {
    /// The position of the last keepalive that came between transactions.
    idle_lsn: Option<u64>,
    /// When the server sent the last message, microseconds since 1970.
    sent_us: Option<i64>,
}

/// Decodes what the look-ahead allows.
fn live_pass<R: tokio::io::AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    decoder: &mut Decoder,
    feedback: &Feedback,
) -> Result<Pass> {
    let mut ahead = LookAhead::new(decoder);
    let mut at = 0;
    while let Some(frame) = reader.peek(at)? {
        at = reader.offset_after(&frame);
        if !ahead.see(decoder, &peeked(reader, &frame), at) {
            break;
        }
    }
    let limit = ahead.limit().unwrap_or(at);
    let mut left = limit;
    let mut pass = Pass::default();
    while left > 0 {
        let Some(frame) = reader.peek(0)? else { break };
        let length = reader.offset_after(&frame);
        left = left.saturating_sub(length);
        reader.take(&frame);
        let body = reader.bytes(frame.body.clone());
        match (frame.tag, body.first()) {
            (b'd', Some(b'w')) if body.len() > DATA_HEADER => {
                let lsn = number(&body[1..9]);
                pass.sent_us = Some((number(&body[17..25]) as i64).saturating_add(crate::pgoutput::EPOCH_SHIFT_US));
                decoder.message(lsn, &body[DATA_HEADER..])?;
            }
            (b'd', Some(b'k')) if body.len() >= 18 => {
                if !decoder.in_transaction() {
                    pass.idle_lsn = Some(number(&body[1..9]));
                }
                if body[17] == 1 {
                    feedback.reply_now();
                }
            }
            (b'E', _) => return Err(ServerError::parse(body).into_error("replication")),
            (b'c' | b'C' | b'Z', _) => {
                return Err(Error::retry(codes::UNREACHABLE, "the server ended the stream"));
            }
            (b'N' | b'S', _) => {}
            _ => return Err(protocol("something else in the middle of replication")),
        }
        if decoder.question.is_some() || decoder.is_replaying() || !decoder.items.is_empty() {
            break;
        }
    }
    Ok(pass)
}

fn peeked<'a, R: tokio::io::AsyncRead + Unpin>(reader: &'a FrameReader<R>, frame: &Frame) -> Peeked<'a> {
    let body = reader.bytes(frame.body.clone());
    match (frame.tag, body.first()) {
        (b'd', Some(b'w')) if body.len() > DATA_HEADER => Peeked::Message(&body[DATA_HEADER..]),
        _ => Peeked::Other,
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}
