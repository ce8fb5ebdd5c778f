//! Seals of data files: the checksums by which every byte read from one is known to be what was written.
//!
//! The footer of a Parquet file has, under the key `mainstem.blocks`, the xxh3-64 of each 64 KiB of the pages before it (16 hexadecimal
//! digits each). The `add` action in the Delta log has, as the tag `mainstem.seal`, where the pages end and the xxh3-64 of all that
//! follows them, footer included.

use crate::codes;
use mainstem_env::{Disk, DiskFile, DiskStore, OpenMode};
use mainstem_types::{Error, Generation, SourceName, TableId};
use parking_lot::Mutex;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes that have a checksum together: as little as a lookup of one row should read, as much as keeps the sums below a thousandth.
const BLOCK: u64 = 64 << 10;
/// Key of the blocks' checksums in a file's footer.
pub(crate) const BLOCKS_KEY: &str = "mainstem.blocks";

/// What was found damaged and is not told to its table yet.
#[derive(Default)]
pub(crate) struct Damages(Mutex<Vec<(Owner, Error)>>);

impl Damages {
    pub fn report(&self, owner: &Owner, error: Error) {
        self.0.lock().push((owner.clone(), error));
    }

    pub fn take(&self) -> Vec<(Owner, Error)> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// Whose file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub source: SourceName,
    pub table: TableId,
    pub generation: Generation,
}

/// What a seal needs of the world: where the file is, and who is told.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub disk: Arc<dyn Disk>,
    pub owner: Owner,
    pub damages: Arc<Damages>,
}

/// The checksums of one data file, and who is told when it fails them.
pub struct Seal {
    path: PathBuf,
    bytes: u64,
    /// Where the pages end; the rest has one checksum together.
    data_bytes: u64,
    tail: u64,
    blocks: Box<[u64]>,
    keeper: Keeper,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.path.display())
    }
}

impl Seal {
    /// The seal of a file as it is now, whoever wrote it: nobody is told when it changes.
    pub fn of_present(disk: Arc<dyn Disk>, path: &Path, source: SourceName) -> io::Result<Self> {
        let mut sealer = Sealer::new(io::sink());
        sealer.write_all(&disk.read(path)?)?;
        sealer.end_data();
        let owner = Owner { source, table: TableId(0), generation: Generation(0) };
        Ok(sealer.seal(path, Keeper { disk, owner, damages: Arc::default() }))
    }

    /// The seal of a file of which nothing is read yet: only what follows the pages can be read with it. None when the tag is no seal.
    pub(crate) fn of_tag(path: &Path, bytes: u64, tag: &str, keeper: Keeper) -> Option<Self> {
        let (data_bytes, tail) = tag.split_once(':')?;
        let (data_bytes, tail) = (data_bytes.parse().ok()?, u64::from_str_radix(tail, 16).ok()?);
        (data_bytes <= bytes).then(|| Self { path: path.into(), bytes, data_bytes, tail, blocks: Box::default(), keeper })
    }

    /// With the checksums that the footer has; None when they are not those of this file.
    pub(crate) fn with_blocks(mut self, blocks: &str) -> Option<Self> {
        let sum = |digits: &[u8; 16]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let (digits, rest) = blocks.as_bytes().as_chunks::<16>();
        self.blocks = digits.iter().map(sum).collect::<Option<_>>()?;
        (rest.is_empty() && self.blocks.len() as u64 == self.data_bytes.div_ceil(BLOCK)).then_some(self)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The tag of the file's `add` action.
    pub(crate) fn tag(&self) -> String {
        format!("{}:{:016x}", self.data_bytes, self.tail)
    }

    /// Opens the file. What is read from it then is what was written, or an error, which the table is told of.
    pub(crate) fn open(self: &Arc<Self>) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.keeper.disk.open(&self.path, OpenMode::Read).map_err(|e| self.judge(e))?;
        match file.len()? == self.bytes {
            true => Ok(Arc::new(Sealed { file, seal: self.clone() })),
            false => Err(self.damaged("its length")),
        }
    }

    /// The file as a store of which every location is this file.
    pub fn store(self: &Arc<Self>) -> io::Result<DiskStore> {
        Ok(DiskStore::of_file(self.keeper.disk.clone(), self.open()?))
    }

    /// Reads the whole file once; an error when it is not what was written.
    pub fn verify(self: &Arc<Self>) -> io::Result<()> {
        let file = self.open()?;
        let mut buffer = vec![0; (16 * BLOCK) as usize];
        let mut at = 0;
        while at < self.data_bytes {
            let length = (self.data_bytes - at).min(buffer.len() as u64) as usize;
            file.read_exact_at(&mut buffer[..length], at)?;
            at += length as u64;
        }
        Ok(())
    }

    /// A file that is gone or was cut is damaged; what else the disk says may pass.
    fn judge(&self, error: io::Error) -> io::Error {
        match error.kind() {
            ErrorKind::NotFound => self.damaged("its name"),
            ErrorKind::UnexpectedEof => self.damaged("its length"),
            _ => error,
        }
    }

    fn damaged(&self, what: &str) -> io::Error {
        let error = || {
            Error::corrupt(codes::CORRUPT, format!("the table file {} is not what was written ({what})", self.path.display()))
                .hint("The table is built anew by itself; mainstem.source_tables shows how far that is.")
        };
        self.keeper.damages.report(&self.keeper.owner, error());
        io::Error::new(ErrorKind::InvalidData, error())
    }

    /// The part of the file that has one checksum and begins at or before `at`: where it begins and ends, and the checksum.
    fn part(&self, at: u64) -> io::Result<(u64, u64, u64)> {
        if at >= self.data_bytes {
            return Ok((self.data_bytes, self.bytes, self.tail));
        }
        let number = at / BLOCK;
        let Some(sum) = self.blocks.get(number as usize) else { return Err(self.damaged("no checksums")) };
        Ok((number * BLOCK, ((number + 1) * BLOCK).min(self.data_bytes), *sum))
    }

    fn check(&self, at: u64, bytes: &[u8], sum: u64) -> io::Result<()> {
        if xxh3_64(bytes) == sum { Ok(()) } else { Err(self.damaged(&format!("the part at byte {at}"))) }
    }
}

/// A file that is read through its seal.
struct Sealed {
    file: Arc<dyn DiskFile>,
    seal: Arc<Seal>,
}

impl DiskFile for Sealed {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let seal = &self.seal;
        let end = (offset + buffer.len() as u64).min(seal.bytes);
        let mut at = offset;
        // Parts that are wanted whole are read together, in place.
        let (mut whole_from, mut whole) = (at, Vec::new());
        let finish = |from: u64, whole: &mut Vec<(u64, u64, u64)>, buffer: &mut [u8]| -> io::Result<()> {
            let Some((_, to, _)) = whole.last().copied() else { return Ok(()) };
            let wanted = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            self.file.read_exact_at(wanted, from).map_err(|e| seal.judge(e))?;
            for (start, to, sum) in whole.drain(..) {
                seal.check(start, &wanted[(start - from) as usize..(to - from) as usize], sum)?;
            }
            Ok(())
        };
        while at < end {
            let (start, to, sum) = seal.part(at)?;
            if start == at && to <= end {
                if whole.is_empty() {
                    whole_from = at;
                }
                whole.push((start, to, sum));
            } else {
                finish(whole_from, &mut whole, buffer)?;
                let mut part = vec![0; (to - start) as usize];
                self.file.read_exact_at(&mut part, start).map_err(|e| seal.judge(e))?;
                seal.check(start, &part, sum)?;
                let stop = to.min(end);
                let found = &part[(at - start) as usize..(stop - start) as usize];
                buffer[(at - offset) as usize..(stop - offset) as usize].copy_from_slice(found);
            }
            at = to;
        }
        finish(whole_from, &mut whole, buffer)?;
        Ok(end.saturating_sub(offset) as usize)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.seal.bytes)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn preallocate(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
}

/// Makes a file's checksums from what is written to it.
pub(crate) struct Sealer<W> {
    inner: W,
    at: u64,
    sum: Xxh3,
    blocks: Vec<u64>,
    /// Set when what follows is no page any more.
    data_bytes: Option<u64>,
}

impl<W> Sealer<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, at: 0, sum: Xxh3::new(), blocks: Vec::new(), data_bytes: None }
    }

    /// All pages are written; gives their checksums, for the footer.
    pub fn end_data(&mut self) -> String {
        if !self.at.is_multiple_of(BLOCK) {
            self.end_block();
        }
        self.data_bytes = Some(self.at);
        self.blocks.iter().map(|sum| format!("{sum:016x}")).collect()
    }

    fn end_block(&mut self) {
        self.blocks.push(self.sum.digest());
        self.sum.reset();
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = match self.data_bytes {
                None => (BLOCK - self.at % BLOCK) as usize,
                Some(_) => usize::MAX,
            };
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.sum.update(now);
            self.at += now.len() as u64;
            if self.data_bytes.is_none() && self.at.is_multiple_of(BLOCK) {
                self.end_block();
            }
            bytes = rest;
        }
    }

    /// The seal of the file that was written, footer included.
    pub fn seal(&self, path: &Path, keeper: Keeper) -> Seal {
        let data_bytes = self.data_bytes.unwrap_or(0);
        let blocks = self.blocks.clone().into();
        Seal { path: path.into(), bytes: self.at, data_bytes, tail: self.sum.digest(), blocks, keeper }
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstem_env::Env;

    fn keeper() -> Keeper {
        let owner = Owner { source: SourceName::new("shop").unwrap(), table: TableId(7), generation: Generation(1) };
        Keeper { disk: Env::real().disk, owner, damages: Arc::default() }
    }

    /// A file of so many bytes of pages and of tail, whose reads all go through its seal as a reader finds it.
    fn sealed(dir: &Path, data: usize, tail: usize) -> (Vec<u8>, Arc<Seal>) {
        let bytes: Vec<u8> = (0..data + tail).map(|at| (at * 31 + at / 251) as u8).collect();
        let mut sealer = Sealer::new(Vec::new());
        // Pieces of odd sizes: blocks end inside of them.
        bytes[..data].chunks(10_007).for_each(|piece| sealer.write_all(piece).unwrap());
        let blocks = sealer.end_data();
        bytes[data..].chunks(1_009).for_each(|piece| sealer.write_all(piece).unwrap());
        let path = dir.join(format!("{data}-{tail}"));
        let tag = sealer.seal(&path, keeper()).tag();
        let seal = Seal::of_tag(&path, bytes.len() as u64, &tag, keeper()).unwrap().with_blocks(&blocks).unwrap();
        Env::real().disk.replace(&path, &bytes).unwrap();
        (bytes, Arc::new(seal))
    }

    #[test]
    fn what_is_read_is_what_was_written_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Env::real().disk;
        let block = BLOCK as usize;
        for (data, tail) in [(0, 50), (1, 1), (block, 9), (block + 1, 70_000), (3 * block - 1, 500), (5 * block, 12)] {
            let (bytes, seal) = sealed(dir.path(), data, tail);
            let damages = seal.keeper.damages.clone();
            let all = bytes.len();
            let cuts = [0, 1, block - 1, block, block + 1, 2 * block, data, data + 1, all - 1, all];
            let ranges = cuts.iter().flat_map(|from| cuts.map(|to| *from..to)).filter(|r| r.start <= r.end && r.end <= all);
            for range in ranges.clone() {
                let mut found = vec![0; range.len()];
                seal.open().unwrap().read_exact_at(&mut found, range.start as u64).unwrap();
                assert_eq!(found, bytes[range.clone()], "{range:?} of {data}+{tail}");
            }
            seal.verify().unwrap();
            assert!(damages.take().is_empty());
            for flipped in cuts.into_iter().filter(|at| *at < all) {
                let mut wrong = bytes.clone();
                wrong[flipped] ^= 4;
                disk.replace(&seal.path, &wrong).unwrap();
                for range in ranges.clone() {
                    let mut found = vec![0; range.len()];
                    let read = seal.open().unwrap().read_exact_at(&mut found, range.start as u64);
                    assert!(read.is_err() || found == bytes[range.clone()], "byte {flipped}, {range:?} of {data}+{tail}");
                    assert!(read.is_err() || !range.contains(&flipped));
                }
                assert!(
                    damages.take().iter().all(|(whose, error)| *whose == seal.keeper.owner && error.code() == codes::CORRUPT)
                );
            }
            disk.replace(&seal.path, &bytes[..all - 1]).unwrap();
            assert!(seal.open().is_err());
            disk.remove_file(&seal.path).unwrap();
            assert!(seal.open().is_err());
            assert_eq!(damages.take().len(), 2);
        }
    }

    #[test]
    fn what_is_no_seal_is_none() {
        for tag in ["", "5", "5:", ":5", "x:5", "5:x", "-1:5", "101:0000000000000000"] {
            assert!(Seal::of_tag(Path::new("f"), 100, tag, keeper()).is_none(), "{tag}");
        }
        for blocks in ["", "0000000000000000aa", "000000000000000x", "00000000000000000000000000000000"] {
            let seal = Seal::of_tag(Path::new("f"), 100, "90:1", keeper()).unwrap();
            assert!(seal.with_blocks(blocks).is_none(), "{blocks}");
        }
    }
}
