//! Transactions that the server streams before they commit: kept raw, per top-level transaction, each message tagged with the
//! subtransaction that wrote it (decision 22). Small ones stay in memory, larger ones go to a file; nothing of it survives a restart,
//! the server sends them again.

use crate::{codes, metrics};
use mainstem_env::{Disk, DiskFile, OpenMode};
use mainstem_types::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of one transaction gathered in memory before they are written out.
const MEMORY_BYTES_MAX: usize = 1 << 20;
/// length u32, subtransaction u32, lsn u64; then the message.
const HEADER_BYTES: usize = 16;

pub struct Spool {
    disk: Arc<dyn Disk>,
    /// None: no directory was given, so everything stays in memory.
    directory: Option<PathBuf>,
    open: HashMap<u32, Spooled>,
}

/// One transaction's messages.
#[derive(Default)]
pub struct Spooled {
    file: Option<(Arc<dyn DiskFile>, PathBuf)>,
    file_bytes: u64,
    /// What follows the file's bytes.
    tail: Vec<u8>,
    aborted: HashSet<u32>,
}

fn failed(what: &str, cause: std::io::Error) -> Error {
    Error::retry(codes::SPOOL, format!("a transaction in progress cannot be {what} the spool directory"))
        .hint("Check its disk space and rights.")
        .caused_by(cause)
}

impl Spool {
    /// Throws away what an earlier run left.
    pub fn open(disk: Arc<dyn Disk>, directory: Option<PathBuf>) -> Result<Self> {
        if let Some(directory) = &directory {
            if disk.exists(directory) {
                disk.remove_dir_all(directory).map_err(|e| failed("cleared from", e))?;
            }
            disk.create_dir_all(directory).map_err(|e| failed("kept in", e))?;
        }
        Ok(Self { disk, directory, open: HashMap::new() })
    }

    pub fn add(&mut self, xid: u32, subxid: u32, lsn: u64, message: &[u8]) -> Result<()> {
        let spooled = self.open.entry(xid).or_default();
        let length = u32::try_from(message.len()).map_err(|_| crate::wire::protocol("a message of impossible length"))?;
        spooled.tail.extend(length.to_be_bytes());
        spooled.tail.extend(subxid.to_be_bytes());
        spooled.tail.extend(lsn.to_be_bytes());
        spooled.tail.extend(message);
        match &self.directory {
            Some(directory) if spooled.tail.len() >= MEMORY_BYTES_MAX => {
                let path = directory.join(format!("{xid}.spool"));
                spooled.write_out(&*self.disk, path)
            }
            _ => Ok(()),
        }
    }

    /// Undoes a subtransaction, or the whole transaction when it names itself.
    pub fn abort(&mut self, xid: u32, subxid: u32) {
        if xid == subxid {
            if let Some(spooled) = self.open.remove(&xid) {
                spooled.discard(&*self.disk);
            }
        } else if let Some(spooled) = self.open.get_mut(&xid) {
            spooled.aborted.insert(subxid);
        }
    }

    /// The transaction committed: its messages, to be read in order.
    pub fn commit(&mut self, xid: u32) -> Replay {
        let spooled = self.open.remove(&xid).unwrap_or_default();
        Replay { disk: self.disk.clone(), spooled, at: 0, buffer: Vec::new(), taken: 0 }
    }
}

impl Spooled {
    fn write_out(&mut self, disk: &dyn Disk, path: PathBuf) -> Result<()> {
        let file = match &self.file {
            Some((file, _)) => file.clone(),
            None => {
                let file = disk.open(&path, OpenMode::CreateNew).map_err(|e| failed("kept in", e))?;
                self.file = Some((file.clone(), path));
                file
            }
        };
        file.write_all_at(&self.tail, self.file_bytes).map_err(|e| failed("written to", e))?;
        self.file_bytes += self.tail.len() as u64;
        metrics::SPOOLED_BYTES.add(self.tail.len() as u64);
        self.tail.clear();
        Ok(())
    }

    fn discard(self, disk: &dyn Disk) {
        if let Some((_, path)) = self.file {
            // What stays behind is cleared at the next start.
            let _ = disk.remove_file(&path);
        }
    }
}

/// Reads a committed transaction's messages.
pub struct Replay {
    disk: Arc<dyn Disk>,
    spooled: Spooled,
    /// Bytes of the file read so far.
    at: u64,
    buffer: Vec<u8>,
    taken: usize,
}

/// One message of a replay.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub aborted: bool,
    pub lsn: u64,
    pub bytes: &'a [u8],
}

impl Replay {
    /// The next message, or None at the end.
    pub fn next(&mut self) -> Result<Option<Message<'_>>> {
        let Some((subxid, lsn, length)) = self.header()? else { return Ok(None) };
        self.ensure(HEADER_BYTES + length)?;
        let start = self.taken + HEADER_BYTES;
        self.taken = start + length;
        let bytes = self.buffer.get(start..start + length).ok_or_else(cut)?;
        Ok(Some(Message { aborted: self.spooled.aborted.contains(&subxid), lsn, bytes }))
    }

    fn header(&mut self) -> Result<Option<(u32, u64, usize)>> {
        self.ensure(HEADER_BYTES)?;
        let left = &self.buffer[self.taken..];
        if left.is_empty() {
            return Ok(None);
        }
        let (length, rest) = left.split_first_chunk::<4>().ok_or_else(cut)?;
        let (subxid, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let (lsn, _) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        Ok(Some((u32::from_be_bytes(*subxid), u64::from_be_bytes(*lsn), u32::from_be_bytes(*length) as usize)))
    }

    /// Has at least `wanted` bytes in the buffer, unless the end comes before.
    fn ensure(&mut self, wanted: usize) -> Result<()> {
        if self.buffer.len() - self.taken >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let missing = wanted.saturating_sub(self.buffer.len()).max(MEMORY_BYTES_MAX) as u64;
        let from_file = missing.min(self.spooled.file_bytes - self.at) as usize;
        if let (Some((file, _)), 1..) = (&self.spooled.file, from_file) {
            let old = self.buffer.len();
            self.buffer.resize(old + from_file, 0);
            file.read_exact_at(&mut self.buffer[old..], self.at).map_err(|e| failed("read from", e))?;
            self.at += from_file as u64;
        }
        if self.at == self.spooled.file_bytes {
            self.buffer.append(&mut self.spooled.tail);
        }
        Ok(())
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        std::mem::take(&mut self.spooled).discard(&*self.disk);
    }
}

fn cut() -> Error {
    Error::retry(codes::SPOOL, "a spooled transaction is cut short; it will be read from the server again")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // tests make directories of their own
mod tests {
    use super::*;
    use mainstem_env::RealDisk;

    #[test]
    fn gives_back_what_was_not_aborted_in_order() {
        let directory = std::env::temp_dir().join(format!("mainstem-spool-{}", std::process::id()));
        for dir in [Some(directory.clone()), None] {
            let mut spool = Spool::open(Arc::new(RealDisk), dir).unwrap();
            let message = vec![7u8; 100_000];
            for n in 0..50u64 {
                spool.add(1, if n % 2 == 0 { 1 } else { 2 }, n, &message[..(n as usize * 1000)]).unwrap();
                spool.add(9, 9, n, &message).unwrap();
            }
            spool.abort(1, 2);
            spool.abort(9, 9);
            let mut replay = spool.commit(1);
            let mut seen = Vec::new();
            while let Some(m) = replay.next().unwrap() {
                assert_eq!(m.bytes.len(), m.lsn as usize * 1000);
                if !m.aborted {
                    seen.push(m.lsn);
                }
            }
            assert_eq!(seen, (0..50).step_by(2).collect::<Vec<_>>());
            assert!(spool.commit(9).next().unwrap().is_none());
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "files go with their transactions");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
