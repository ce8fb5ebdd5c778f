//! One socket, plain or TLS, with its two buffers. Knows frames, not their meaning.

use crate::message::{self, First};
use crate::metrics;
use crate::reply::Reply;
use bytes::{Bytes, BytesMut};
use mainstem_types::Error;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of rows gathered before they are sent; sending waits for the client.
const SEND_BYTES: usize = 64 << 10;
/// How much a client may send ahead while its statement runs; then it is not read until the statement ends.
const AHEAD_BYTES_MAX: usize = 1 << 20;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why the work at hand does not go on.
pub(crate) enum Stop {
    /// An error of this statement; the session goes on.
    Error(Error),
    /// The client is told and the connection ends.
    Fatal(Error),
    /// There is nobody to tell.
    Gone,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    pub reply: Reply,
}

impl Connection {
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, input: BytesMut::new(), reply: Reply::default() }
    }

    /// Bytes that came before anybody asked for them.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    pub fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    async fn fill(&mut self) -> Result<(), Stop> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(Stop::Gone),
            _ => Ok(()),
        }
    }

    /// The next first packet. Cancel-safe.
    pub async fn first(&mut self) -> Result<First, Stop> {
        loop {
            match message::next_first(&mut self.input).map_err(Stop::Fatal)? {
                Some(first) => return Ok(first),
                None => self.fill().await?,
            }
        }
    }

    /// The next whole message. Cancel-safe.
    pub async fn frame(&mut self, bytes_max: usize) -> Result<(u8, Bytes), Stop> {
        loop {
            match message::next_frame(&mut self.input, bytes_max).map_err(Stop::Fatal)? {
                Some(frame) => return Ok(frame),
                None => self.fill().await?,
            }
        }
    }

    /// Resolves when the client is gone; reads what it sends ahead, within bounds. Cancel-safe.
    pub async fn gone(&mut self) {
        while self.input.len() < AHEAD_BYTES_MAX {
            if self.fill().await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    pub async fn flush(&mut self) -> Result<(), Stop> {
        if self.reply.len() > 0 {
            metrics::BYTES.add(self.reply.len() as u64);
            self.stream.write_all(self.reply.whole()).await?;
            self.reply.clear();
        }
        self.stream.flush().await?;
        Ok(())
    }

    /// Sends when enough is gathered; this wait is the back-pressure on the query.
    pub async fn flush_when_full(&mut self) -> Result<(), Stop> {
        if self.reply.len() >= SEND_BYTES { self.flush().await } else { Ok(()) }
    }

    pub async fn close(&mut self) {
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
    }
}
