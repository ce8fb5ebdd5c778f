//! An `ObjectStore` over the disk, so that Parquet readers and DataFusion do their I/O through the same seam as everything else.
//! Locations are absolute paths without the leading slash.

use crate::{Disk, DiskFile, OpenMode};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path as Location;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The disk as an object store, for libraries that read through one. Puts are whole-file and durable; multipart, copy and rename are not needed and refused.
pub struct DiskStore {
    disk: Arc<dyn Disk>,
    /// What every location is read from.
    opened: Option<Arc<dyn DiskFile>>,
}

impl DiskStore {
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, opened: None }
    }

    /// A store of one file, opened already: whatever location is asked for is read from it.
    pub fn of_file(disk: Arc<dyn Disk>, file: Arc<dyn DiskFile>) -> Self {
        Self { disk, opened: Some(file) }
    }

    fn file(&self, location: &Location) -> Result<Arc<dyn DiskFile>> {
        match &self.opened {
            Some(file) => Ok(file.clone()),
            None => self.disk.open(&path_of(location), OpenMode::Read).map_err(|e| store_error(location, e)),
        }
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskStore")
    }
}

impl fmt::Display for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskStore")
    }
}

fn path_of(location: &Location) -> PathBuf {
    PathBuf::from(format!("/{location}"))
}

fn store_error(location: &Location, error: io::Error) -> Error {
    let path = location.to_string();
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound { path, source: error.into() },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
        _ => Error::Generic { store: "disk", source: error.into() },
    }
}

fn refused(what: &'static str) -> Error {
    Error::NotSupported { source: format!("{what} is not offered by this store").into() }
}

/// Files are immutable once written, so size and a fixed time identify them.
fn meta(location: &Location, size: u64) -> ObjectMeta {
    ObjectMeta { location: location.clone(), last_modified: DateTime::<Utc>::UNIX_EPOCH, size, e_tag: None, version: None }
}

#[async_trait]
impl ObjectStore for DiskStore {
    async fn put_opts(&self, location: &Location, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes: Vec<u8> = payload.iter().flat_map(|b| b.iter().copied()).collect();
        let path = path_of(location);
        let done = match options.mode {
            PutMode::Create => self.disk.create_durable(&path, &bytes),
            PutMode::Overwrite => self.disk.replace(&path, &bytes),
            PutMode::Update(_) => return Err(refused("conditional update")),
        };
        done.map_err(|e| store_error(location, e))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, _: &Location, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(refused("multipart upload"))
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        let at = |e| store_error(location, e);
        let file = self.file(location)?;
        let size = file.len().map_err(at)?;
        let range = match options.range {
            None => 0..size,
            Some(GetRange::Bounded(r)) => r.start.min(size)..r.end.min(size),
            Some(GetRange::Offset(start)) => start.min(size)..size,
            Some(GetRange::Suffix(n)) => size.saturating_sub(n)..size,
        };
        let mut bytes = Vec::new();
        if !options.head {
            bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start).map_err(at)?;
        }
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(Bytes::from(bytes)) }).boxed());
        Ok(GetResult { payload, meta: meta(location, size), range, attributes: Attributes::default() })
    }

    async fn get_ranges(&self, location: &Location, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        let at = |e| store_error(location, e);
        let file = self.file(location)?;
        let read = |range: &std::ops::Range<u64>| {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start).map_err(at)?;
            Ok(Bytes::from(bytes))
        };
        ranges.iter().map(read).collect()
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Location>>) -> BoxStream<'static, Result<Location>> {
        let disk = self.disk.clone();
        locations
            .map(move |location| {
                let location = location?;
                disk.remove_file(&path_of(&location)).map_err(|e| store_error(&location, e))?;
                Ok(location)
            })
            .boxed()
    }

    fn list(&self, _: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { Err(refused("listing")) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Location>) -> Result<ListResult> {
        Err(refused("listing"))
    }

    async fn copy_opts(&self, _: &Location, _: &Location, _: CopyOptions) -> Result<()> {
        Err(refused("copying"))
    }
}
