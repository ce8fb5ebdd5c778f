//! What the disk itself can do: the limit beside every figure of the log.

use mainstem_testkit::Result;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

/// Median time of a 4 KiB write + fdatasync in a preallocated file, milliseconds.
pub fn lone_sync_ms(directory: &Path) -> Result<f64> {
    let mut file = preallocated(directory, 4 << 20)?;
    let block = [7u8; 4096];
    let mut times = Vec::new();
    for i in 0..500u64 {
        file.seek(SeekFrom::Start((i % 1000) * 4096))?;
        let started = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// 1 MiB write + fdatasync, appending, MiB/s.
pub fn bulk_mib_per_second(directory: &Path) -> Result<f64> {
    let mut file = File::create(directory.join("disk-bulk"))?;
    // Bytes that do not compress, should the disk try.
    let block: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let started = Instant::now();
    for _ in 0..128 {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    Ok(128.0 / started.elapsed().as_secs_f64())
}

fn preallocated(directory: &Path, bytes: usize) -> Result<File> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(directory.join("disk-lone"))?;
    file.write_all(&vec![0; bytes])?;
    file.sync_all()?;
    Ok(file)
}
