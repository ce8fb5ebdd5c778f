//! The disk of the data directory: how much is left, who has to know, and the file that is given up so that a server starts on a full one.

use crate::codes;
use mainstem_env::{Env, OpenMode};
use mainstem_pipeline::DiskTrouble;
use mainstem_types::metrics::{Gauge, Metric};
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A start writes a checkpoint of the log and little else. This much is kept for it, and given up when nothing else is left.
const BALLAST_BYTES: u64 = 16 << 20;
/// How long an answer of the disk is good for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the ballast is taken aboard again.
const BALLAST_INTERVAL: Duration = Duration::from_secs(30);

static FREE_BYTES: Gauge = Gauge::new(
    "mainstem_disk_free_bytes",
    "Bytes that the disk of the data directory has left. Down to the log's reserve, nothing is captured any more.",
);
static DISK_FULL: Gauge = Gauge::new(
    "mainstem_disk_full",
    "2 when the disk of the data directory is down to the log's reserve and nothing is captured, 1 when to twice as much. Alert on it.",
);

/// What the disk has to say on `/metrics`.
pub fn metrics() -> &'static [&'static dyn Metric] {
    static ALL: &[&dyn Metric] = &[&FREE_BYTES, &DISK_FULL];
    ALL
}

/// Looks at the disk, at most once a second.
pub struct DiskWatch {
    env: Env,
    dir: PathBuf,
    reserve_bytes: u64,
    last: Mutex<Option<(mainstem_env::Moment, u64)>>,
}

impl DiskWatch {
    /// `reserve_bytes`: what the log leaves free; below it appends are refused.
    pub fn new(env: Env, dir: &Path, reserve_bytes: u64) -> Arc<Self> {
        Arc::new(Self { env, dir: dir.to_path_buf(), reserve_bytes, last: Mutex::new(None) })
    }

    /// What is wrong with the disk: it is full (code LOG-002), so that nothing is captured, or nearly so (CFG-013).
    pub fn trouble(&self) -> Option<DiskTrouble> {
        let free = self.free_bytes()?;
        let (dir, left) = (self.dir.display(), free >> 20);
        let reserve = self.reserve_bytes >> 20;
        let trouble = if free <= self.reserve_bytes {
            let message = format!(
                "the disk of {dir} is full: {left} MiB are left, {reserve} are kept; nothing is captured until there is more"
            );
            Some(DiskTrouble { code: mainstem_log::codes::DISK_FULL, message, full: true })
        } else if free <= self.reserve_bytes.saturating_mul(2) {
            let message =
                format!("the disk of {dir} is nearly full: {left} MiB are left; at {reserve} nothing is captured any more");
            Some(DiskTrouble { code: codes::DISK_LOW, message, full: false })
        } else {
            None
        };
        DISK_FULL.set(trouble.as_ref().map_or(0, |trouble| 1 + i64::from(trouble.full)));
        trouble
    }

    /// None: the disk does not say.
    fn free_bytes(&self) -> Option<u64> {
        let now = self.env.clock.moment();
        let mut last = self.last.lock();
        if let Some((at, free)) = *last
            && now - at < LOOK_INTERVAL
        {
            return Some(free);
        }
        let free = self.env.disk.free_bytes(&self.dir).ok()?;
        FREE_BYTES.set(i64::try_from(free).unwrap_or(i64::MAX));
        *last = Some((now, free));
        Some(free)
    }
}

fn ballast(dir: &Path) -> PathBuf {
    dir.join("BALLAST")
}

/// Before anything else is opened: gives the ballast up when the disk has no room for a start.
pub fn make_room(env: &Env, dir: &Path) -> Result<()> {
    let path = ballast(dir);
    let free = env.disk.free_bytes(dir).unwrap_or(u64::MAX);
    if free >= BALLAST_BYTES || !env.disk.exists(&path) {
        return Ok(());
    }
    tracing::warn!(dir = %dir.display(), free, "the disk is full; the space kept for a start is used now");
    env.disk.remove_file(&path).map_err(|e| {
        Error::fix(codes::DATA_DIR, format!("cannot give up {}, and the disk is full", path.display()))
            .hint("Free space on that disk, then start again.")
            .caused_by(e)
    })
}

/// Keeps space for the next start whenever there is enough.
pub async fn keep_ballast(env: Env, dir: PathBuf) {
    let path = ballast(&dir);
    loop {
        let room = env.disk.free_bytes(&dir).is_ok_and(|free| free > 4 * BALLAST_BYTES);
        if room && !env.disk.exists(&path) {
            let made = env.disk.open(&path, OpenMode::CreateNew).and_then(|file| {
                file.preallocate(BALLAST_BYTES)?;
                file.sync()
            });
            if made.is_err() {
                // Less than all of it is of no use.
                let _ = env.disk.remove_file(&path);
            }
        }
        env.clock.sleep(BALLAST_INTERVAL).await;
    }
}
