//! The data directory: one process at a time, and never opened by a version that does not know its form.

use crate::codes;
use mainstem_env::Env;
use mainstem_types::{Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The form of what is on disk. A directory of a higher number is refused.
const FORMAT: u32 = 1;

/// An opened data directory; the lock goes with it.
pub struct DataDir {
    pub path: PathBuf,
    _lock: Box<dyn Send + Sync>,
}

impl DataDir {
    pub fn open(env: &Env, path: &Path) -> Result<Self> {
        let at = |e: std::io::Error| {
            Error::fix(codes::DATA_DIR, format!("cannot use the data directory {}", path.display())).caused_by(e)
        };
        if !env.disk.exists(path) {
            env.disk.create_dir_all(path).map_err(at)?;
            // It holds what the sources hold. Who is to read the tables beside us is for its owner to say, with chmod.
            env.disk.make_private(path).map_err(at)?;
        }
        let lock = match env.disk.lock(&path.join("LOCK")) {
            Ok(lock) => lock,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                return Err(Error::fix(
                    codes::IN_USE,
                    format!("the data directory {} is in use by another mainstem", path.display()),
                )
                .hint("Stop the other process, or start this one with another --data."));
            }
            Err(e) => return Err(at(e)),
        };
        let version = path.join("VERSION");
        if !env.disk.exists(&version) {
            env.disk.replace(&version, format!("{FORMAT}\n").as_bytes()).map_err(at)?;
        }
        let text = env.disk.read(&version).map_err(at)?;
        let text = String::from_utf8_lossy(&text).trim().to_string();
        match text.parse::<u32>() {
            Ok(found) if found <= FORMAT => Ok(Self { path: path.to_path_buf(), _lock: lock }),
            Ok(found) => Err(Error::fix(
                codes::NEWER_DATA,
                format!("the data directory {} has format {found}; this version knows formats up to {FORMAT}", path.display()),
            )
            .hint("Start it with the newer version that made it.")),
            Err(_) => Err(Error::corrupt(codes::DATA_DIR, format!("{} does not hold a number", version.display()))),
        }
    }
}
