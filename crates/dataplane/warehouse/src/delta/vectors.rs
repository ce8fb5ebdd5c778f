//! Deletion vectors in files of their own (Delta protocol, "Deletion Vectors"): one file per flush holds all bitmaps that changed.
//!
//! File: byte 1, then per vector: length u32 big-endian, magic u32 little-endian, 64-bit roaring bitmap (count of 32-bit bitmaps u64,
//! then key u32 and bitmap each, little-endian), CRC-32 of magic and bitmap u32 big-endian.

use crate::codes::{self, io_error};
use mainstem_env::{Disk, Env, OpenMode};
use mainstem_types::{Error, Result};
use roaring::RoaringBitmap;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const MAGIC: u32 = 1_681_511_377;

pub(super) struct Writer<'a> {
    env: &'a Env,
    dir: &'a Path,
    id: [u8; 16],
    bytes: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub fn new(env: &'a Env, dir: &'a Path) -> Self {
        let id = uuid::Builder::from_random_bytes(env.random()).into_uuid();
        Self { env, dir, id: *id.as_bytes(), bytes: vec![1] }
    }

    /// Adds a bitmap; returns its descriptor.
    pub fn add(&mut self, dead: &RoaringBitmap) -> Result<Value> {
        let offset = self.bytes.len();
        let size = 4 + 8 + 4 + dead.serialized_size();
        self.bytes.extend_from_slice(&(size as u32).to_be_bytes());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&MAGIC.to_le_bytes());
        self.bytes.extend_from_slice(&1u64.to_le_bytes());
        self.bytes.extend_from_slice(&0u32.to_le_bytes());
        dead.serialize_into(&mut self.bytes).map_err(io_error(self.dir, "write a deletion vector for"))?;
        let sum = crc32fast::hash(&self.bytes[start..]);
        self.bytes.extend_from_slice(&sum.to_be_bytes());
        Ok(json!({
            "storageType": "u", "pathOrInlineDv": z85(&self.id), "offset": offset, "sizeInBytes": size, "cardinality": dead.len(),
        }))
    }

    /// Writes and syncs the file, when there is anything in it, and its directory. Gives its path, for when no commit comes to name it.
    pub fn finish(self) -> Result<Option<PathBuf>> {
        let path = (self.bytes.len() > 1).then(|| self.dir.join(name_of(self.id)));
        if let Some(path) = &path {
            let failed = io_error(path, "write");
            let file = self.env.disk.open(path, OpenMode::CreateNew).map_err(&failed)?;
            let written = file.write_all_at(&self.bytes, 0).and_then(|()| file.sync());
            // A full disk would be filled further by each try.
            let written = written.inspect_err(|_| drop(self.env.disk.remove_file(path)));
            written.map_err(&failed)?;
        }
        self.env.disk.sync_dir(self.dir).map_err(io_error(self.dir, "sync"))?;
        Ok(path)
    }
}

fn name_of(id: [u8; 16]) -> String {
    format!("deletion_vector_{}.bin", uuid::Uuid::from_bytes(id))
}

/// The file's name from `pathOrInlineDv` of storage type `u`; None when that is no such path.
pub(super) fn file_name(encoded: &str) -> Option<String> {
    unz85(encoded).map(name_of)
}

/// Reads the bitmap of a descriptor.
pub(super) fn read(disk: &dyn Disk, dir: &Path, descriptor: &Value) -> Result<RoaringBitmap> {
    let corrupt = |path: PathBuf| {
        Error::corrupt(codes::CORRUPT, format!("the deletion vector {} is not what was written", path.display()))
            .hint("Run RESYNC SOURCE ... TABLE ... to build the table anew.")
    };
    let name = descriptor["pathOrInlineDv"].as_str().filter(|_| descriptor["storageType"] == "u").and_then(file_name);
    let (Some(name), Some(offset), Some(size)) = (name, descriptor["offset"].as_u64(), descriptor["sizeInBytes"].as_u64()) else {
        return Err(corrupt(dir.to_path_buf()));
    };
    let path = dir.join(name);
    let file = disk.read(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => corrupt(path.clone()),
        _ => io_error(&path, "read")(e),
    })?;
    let (offset, size) = (offset as usize, size as usize);
    let data = offset.checked_add(4).and_then(|start| file.get(start..start.checked_add(size)?));
    let sum = data.and_then(|_| file.get(offset + 4 + size..offset + 8 + size));
    let (Some(data), Some(sum)) = (data, sum) else { return Err(corrupt(path)) };
    let whole = crc32fast::hash(data).to_be_bytes() == sum && data.len() > 16 && data[..4] == MAGIC.to_le_bytes();
    if !whole || data[4..16] != [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] {
        return Err(corrupt(path));
    }
    let dead = RoaringBitmap::deserialize_from(&data[16..]).map_err(|e| corrupt(path.clone()).caused_by(e))?;
    if descriptor["cardinality"].as_u64() == Some(dead.len()) { Ok(dead) } else { Err(corrupt(path)) }
}

/// Reads the bitmap of a file that has these bytes in place of one and is whole otherwise; for fuzzing.
pub(crate) fn framed(env: &Env, inside: &[u8]) -> Result<RoaringBitmap> {
    let mut data = MAGIC.to_le_bytes().to_vec();
    data.extend_from_slice(&1u64.to_le_bytes());
    data.extend_from_slice(&0u32.to_le_bytes());
    data.extend_from_slice(inside);
    let (size, sum) = (data.len(), crc32fast::hash(&data));
    let file = [&[1], &(size as u32).to_be_bytes()[..], &data, &sum.to_be_bytes()].concat();
    let (dir, id) = (Path::new("/"), [0; 16]);
    env.disk.replace(&dir.join(name_of(id)), &file).map_err(io_error(dir, "write"))?;
    let cardinality = RoaringBitmap::deserialize_from(inside).map_or(0, |dead| dead.len());
    let place = json!({
        "storageType": "u", "pathOrInlineDv": z85(&id), "offset": 1, "sizeInBytes": size, "cardinality": cardinality,
    });
    read(env.disk.as_ref(), dir, &place)
}

const ALPHABET: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// Z85 (ZeroMQ RFC 32) of a uuid: 20 characters.
fn z85(id: &[u8; 16]) -> String {
    let mut text = String::with_capacity(20);
    for chunk in id.as_chunks::<4>().0 {
        let number = u32::from_be_bytes(*chunk);
        for power in [85 * 85 * 85 * 85, 85 * 85 * 85, 85 * 85, 85, 1] {
            text.push(ALPHABET[(number / power % 85) as usize] as char);
        }
    }
    text
}

fn unz85(text: &str) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    if text.len() != 20 {
        return None;
    }
    for (chunk, out) in text.as_bytes().as_chunks::<5>().0.iter().zip(id.as_chunks_mut::<4>().0) {
        let mut number = 0u64;
        for byte in chunk {
            number = number * 85 + ALPHABET.iter().position(|a| a == byte)? as u64;
        }
        *out = u32::try_from(number).ok()?.to_be_bytes();
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back() {
        for id in [[0; 16], [255; 16], *b"0123456789abcdef"] {
            assert_eq!(unz85(&z85(&id)), Some(id));
        }
        // The example of the RFC: these eight bytes are `HelloWorld`.
        let hello = [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b];
        let mut id = [0; 16];
        id[..8].copy_from_slice(&hello);
        assert_eq!(&z85(&id)[..10], "HelloWorld");
        assert_eq!(unz85("short"), None);
        assert_eq!(unz85("~~~~~~~~~~~~~~~~~~~~"), None);
    }
}
