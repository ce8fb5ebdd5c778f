//! A session that is logged in: simple queries, COPY out, and the switch to replication.

use super::failure::ServerError;
use super::frames::{Duplex, Frame, FrameReader, Io, lost, protocol};
use crate::codes;
use bytes::BytesMut;
use mainstem_types::{Error, Result};
use postgres_protocol::message::frontend;
use std::ops::Range;
use tokio::io::AsyncWriteExt;

/// One row of a catalog query, as text.
pub type Row = Vec<Option<String>>;

pub struct Session {
    reader: FrameReader<Box<dyn Io>>,
    place: String,
    /// A statement was sent and its ReadyForQuery has not come. A session dropped so is of no more use.
    busy: bool,
}

impl Session {
    pub(super) fn new(reader: FrameReader<Box<dyn Io>>, place: String) -> Self {
        Self { reader, place, busy: false }
    }

    /// Whether a call on it was cancelled half way or failed on the wire: connect anew.
    pub fn is_spent(&self) -> bool {
        self.busy
    }

    async fn send_query(&mut self, sql: &str) -> Result<()> {
        if self.busy {
            return Err(Error::retry(codes::UNREACHABLE, "the session was left in the middle of a statement"));
        }
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|_| Error::fix(codes::STATEMENT, "a name has a zero byte"))?;
        self.busy = true;
        self.reader.io().write_all(&out).await.map_err(lost)?;
        self.reader.io().flush().await.map_err(lost)
    }

    fn server_error(&self, frame: &Frame) -> Error {
        ServerError::parse(self.reader.bytes(frame.body.clone())).into_error(&self.place)
    }

    /// Runs one or more statements; the rows of all of them.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.send_query(sql).await?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let frame = self.reader.next().await?;
            match frame.tag {
                b'D' => rows.push(data_row(self.reader.bytes(frame.body))?),
                b'E' => failed = failed.or(Some(self.server_error(&frame))),
                b'Z' => {
                    self.busy = false;
                    return failed.map_or(Ok(rows), Err);
                }
                b'T' | b'C' | b'I' | b'N' | b'S' => {}
                b'G' | b'H' | b'W' => return Err(protocol("a COPY where none was asked for")),
                _ => return Err(protocol("an unknown message")),
            }
        }
    }

    /// The first row of a query.
    pub async fn query_one(&mut self, sql: &str) -> Result<Row> {
        let rows = self.query(sql).await?;
        rows.into_iter().next().ok_or_else(|| Error::retry(codes::STATEMENT, format!("{}: a query gave no row", self.place)))
    }

    /// Starts a `COPY ... TO STDOUT`; its rows come by `copy_next`.
    pub async fn copy_out(&mut self, sql: &str) -> Result<()> {
        self.send_query(sql).await?;
        if self.next_copy().await? { Ok(()) } else { Err(protocol("no COPY where one was asked for")) }
    }

    /// Sends statements of which several are COPY: `next_copy` begins each.
    pub async fn copies_out(&mut self, sql: &str) -> Result<()> {
        self.send_query(sql).await
    }

    /// Goes on to the next COPY among the statements sent; false when there is none and all of them are done.
    pub async fn next_copy(&mut self) -> Result<bool> {
        loop {
            let frame = self.reader.next().await?;
            match frame.tag {
                b'H' => return Ok(true),
                b'Z' => {
                    self.busy = false;
                    return Ok(false);
                }
                b'E' => return self.fail(&frame).await,
                b'C' | b'N' | b'S' => {}
                _ => return Err(protocol("something else between two COPY")),
            }
        }
    }

    /// Where the next row of the COPY lies in the buffer (`bytes`), None at its end. Valid until the next call.
    pub async fn copy_next(&mut self) -> Result<Option<Range<usize>>> {
        loop {
            let frame = self.reader.next().await?;
            match frame.tag {
                b'd' => return Ok(Some(frame.body)),
                b'c' => return Ok(None),
                b'N' | b'S' => {}
                b'E' => return self.fail(&frame).await,
                _ => return Err(protocol("something else in the middle of a COPY")),
            }
        }
    }

    /// Reads on to ReadyForQuery after an error of the server.
    async fn fail<T>(&mut self, frame: &Frame) -> Result<T> {
        let error = self.server_error(frame);
        while self.reader.next().await?.tag != b'Z' {}
        self.busy = false;
        Err(error)
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.reader.bytes(range)
    }

    /// The messages as they come, for a reader that looks ahead.
    pub fn frames(&mut self) -> &mut FrameReader<Box<dyn Io>> {
        &mut self.reader
    }

    /// Notes that the statement's ReadyForQuery was seen through `frames`.
    pub fn finished(&mut self) {
        self.busy = false;
    }

    /// Sends START_REPLICATION and returns both directions once the server streams.
    pub async fn copy_both(mut self, sql: &str) -> Result<Duplex> {
        self.send_query(sql).await?;
        loop {
            let frame = self.reader.next().await?;
            match frame.tag {
                b'W' => break,
                b'E' => return Err(self.server_error(&frame)),
                b'N' | b'S' => {}
                _ => return Err(protocol("no replication where it was asked for")),
            }
        }
        let low_water = self.reader.io().low_water();
        let mut write = None;
        let reader = self.reader.map(|io| {
            let (read, other) = tokio::io::split(io);
            write = Some(other);
            read
        });
        let write = write.ok_or_else(|| protocol("nothing"))?;
        Ok(Duplex { reader, write, low_water })
    }
}

fn data_row(mut body: &[u8]) -> Result<Row> {
    let short = || protocol("a row that is too short");
    let take = |body: &mut &[u8], n: usize| -> Result<Vec<u8>> {
        let head = body.get(..n).ok_or_else(short)?.to_vec();
        *body = &body[n..];
        Ok(head)
    };
    let count = take(&mut body, 2)?;
    let count = u16::from_be_bytes([count[0], count[1]]);
    let mut row = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let length = take(&mut body, 4)?;
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        row.push(match usize::try_from(length) {
            Err(_) => None,
            Ok(n) => Some(String::from_utf8(take(&mut body, n)?).map_err(|_| protocol("text that is not UTF-8"))?),
        });
    }
    Ok(row)
}

/// A catalog row with checked access.
pub struct Cells<'a>(pub &'a Row);

impl Cells<'_> {
    pub fn get(&self, at: usize) -> Option<&str> {
        self.0.get(at).and_then(|c| c.as_deref())
    }
    pub fn text(&self, at: usize) -> Result<&str> {
        self.get(at).ok_or_else(|| protocol("a catalog row with a missing value"))
    }
    pub fn number<N: std::str::FromStr>(&self, at: usize) -> Result<N> {
        self.text(at)?.parse().map_err(|_| protocol("a catalog row with a malformed number"))
    }
    pub fn flag(&self, at: usize) -> bool {
        self.get(at) == Some("t")
    }
    pub fn byte(&self, at: usize) -> Result<u8> {
        Ok(self.text(at)?.bytes().next().unwrap_or(b' '))
    }
}
