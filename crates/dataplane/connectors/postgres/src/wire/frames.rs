//! Messages of the protocol in the read buffer, so that rows are read in place, and the byte streams under them.

use crate::{codes, metrics};
use bytes::{Buf, BytesMut};
use mainstem_env::net::{LowWater, TcpStream, UnixStream};
use mainstem_types::{Error, Result};
use std::ops::Range;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf};
use tokio_rustls::client::TlsStream;

/// A connection's byte stream: TCP, TLS over TCP, or a Unix socket.
pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// The mark below which it does not wake its reader, where it has one.
    fn low_water(&self) -> Option<LowWater>;
}

impl Io for TcpStream {
    fn low_water(&self) -> Option<LowWater> {
        LowWater::of(self).ok()
    }
}

impl Io for TlsStream<TcpStream> {
    fn low_water(&self) -> Option<LowWater> {
        self.get_ref().0.low_water()
    }
}

impl Io for UnixStream {
    fn low_water(&self) -> Option<LowWater> {
        None
    }
}

/// Both directions of a session that streams.
pub struct Duplex {
    pub reader: FrameReader<ReadHalf<Box<dyn Io>>>,
    pub write: WriteHalf<Box<dyn Io>>,
    pub low_water: Option<LowWater>,
}

/// Postgres refuses larger messages itself.
const MESSAGE_BYTES_MAX: usize = (1 << 30) + 1024;
/// What one read asks the kernel for: large enough that a backlog is taken in few calls.
const READ_BYTES: usize = 256 << 10;

/// A message in the read buffer: its tag, and where its body lies.
#[derive(Clone, Debug)]
pub struct Frame {
    pub tag: u8,
    pub body: Range<usize>,
}

/// Splits what a server sends into messages, in place.
pub struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    /// Everything before it was taken.
    at: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), at: 0 }
    }

    pub fn map<S>(self, change: impl FnOnce(R) -> S) -> FrameReader<S> {
        FrameReader { io: change(self.io), buffer: self.buffer, at: self.at }
    }

    pub fn io(&mut self) -> &mut R {
        &mut self.io
    }

    /// The whole message that begins `offset` bytes after the last one taken, if it is all there. Nothing is taken.
    pub fn peek(&self, offset: usize) -> Result<Option<Frame>> {
        let start = self.at + offset;
        let Some(header) = self.buffer.get(start..start + 5) else { return Ok(None) };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(protocol("a message of impossible length"));
        }
        let end = start + 1 + length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        Ok(Some(Frame { tag: header[0], body: start + 5..end }))
    }

    /// Takes everything up to the end of `frame`. Ranges stay valid until the next `fill`.
    pub fn take(&mut self, frame: &Frame) {
        self.at = frame.body.end;
    }

    /// How far the end of `frame` lies after what was taken.
    pub fn offset_after(&self, frame: &Frame) -> usize {
        frame.body.end - self.at
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Reads more; returns how much. Cancel-safe. Ranges handed out before are void.
    pub async fn fill(&mut self) -> Result<usize> {
        self.buffer.advance(self.at);
        self.at = 0;
        let wanted = self.buffer.get(1..5).map_or(0, |l| u32::from_be_bytes([l[0], l[1], l[2], l[3]]) as usize + 1);
        let missing = wanted.min(MESSAGE_BYTES_MAX).saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.max(READ_BYTES));
        let read = self.io.read_buf(&mut self.buffer).await.map_err(lost)?;
        if read == 0 {
            return Err(Error::retry(codes::UNREACHABLE, "the server closed the connection"));
        }
        metrics::BYTES_READ.add(read as u64);
        Ok(read)
    }

    /// The next message, waiting for it. Cancel-safe.
    pub async fn next(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.peek(0)? {
                self.take(&frame);
                return Ok(frame);
            }
            self.fill().await?;
        }
    }
}

pub fn lost(cause: std::io::Error) -> Error {
    Error::retry(codes::UNREACHABLE, "the connection to the server was lost").caused_by(cause)
}

pub fn protocol(what: &str) -> Error {
    Error::retry(codes::PROTOCOL, format!("the server sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(bodies: Vec<Vec<u8>>, cut in 1usize..64) {
            let mut bytes = Vec::new();
            for body in &bodies {
                bytes.push(b'd');
                bytes.extend((body.len() as u32 + 4).to_be_bytes());
                bytes.extend(body);
            }
            let pieces = bytes.chunks(cut).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>();
            let mut pieces = pieces.into_iter();
            let mut reader = FrameReader::new(tokio::io::empty());
            let mut seen = Vec::new();
            loop {
                while let Some(frame) = reader.peek(0).unwrap() {
                    reader.take(&frame);
                    seen.push(reader.bytes(frame.body).to_vec());
                }
                let Some(Ok(piece)) = pieces.next() else { break };
                reader.buffer.extend_from_slice(&piece);
            }
            prop_assert_eq!(seen, bodies);
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = FrameReader::new(tokio::io::empty());
            reader.buffer.extend_from_slice(&bytes);
            let mut at = 0;
            while let Ok(Some(frame)) = reader.peek(at) {
                at = reader.offset_after(&frame);
            }
        }
    }
}
