//! What the log does with files of any kind: syncs many at once, and takes no offence at those that are gone.

use crate::metrics;
use mainstem_env::DiskFile;
use std::io;
use std::sync::Arc;

const SYNC_THREADS_MAX: usize = 16;

pub fn ignore_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Syncs files, several at once: one after the other each would wait for a journal commit of its own.
pub fn sync_all(files: &[Arc<dyn DiskFile>]) -> io::Result<()> {
    metrics::SYNCS.add(files.len() as u64);
    let (Some((first, rest)), true) = (files.split_first(), files.len() > 1) else {
        return files.iter().try_for_each(|file| file.sync());
    };
    let share = rest.len().div_ceil(SYNC_THREADS_MAX - 1);
    let mut threads = Vec::new();
    for chunk in rest.chunks(share) {
        let chunk = chunk.to_vec();
        threads.push(mainstem_env::spawn_thread("log-sync", move || chunk.iter().try_for_each(|file| file.sync()))?);
    }
    let mut result = first.sync();
    for thread in threads {
        let one = thread.join().unwrap_or_else(|_| Err(io::Error::other("a sync thread ended without an answer")));
        result = result.and(one);
    }
    result
}
