//! A disk in memory that forgets what a real one may forget: at a crash, writes without a sync are lost, kept or torn by sectors, and
//! names without a directory sync vanish. Faults are set from outside.

#![allow(clippy::disallowed_methods)] // seeded randomness, so that a failing run can be repeated

use mainstem_env::{Disk, DiskFile, Mapped, OpenMode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a device writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// "Too many open files", as the operating system numbers it.
const EMFILE: i32 = 24;

/// Files in memory, of which a crash keeps what was synced and some of the rest. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

struct World {
    /// Handles of an earlier life answer with errors.
    life: u64,
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    durable_names: BTreeMap<PathBuf, u64>,
    durable_dirs: BTreeSet<PathBuf>,
    pending: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    used_bytes: u64,
    capacity_bytes: u64,
    steps_left: Option<u64>,
    sync_failures: u32,
    open_failures: u32,
    syncs: u64,
}

#[derive(Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

enum Change {
    Data(usize, Vec<u8>),
    Length(usize),
}

enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
    MakeDir(PathBuf),
    RemoveDir(PathBuf),
}

impl NameChange {
    fn dir(&self) -> &Path {
        let (Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, _) | Self::MakeDir(path) | Self::RemoveDir(path)) =
            self;
        path.parent().unwrap_or(Path::new("/"))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>, dirs: &mut BTreeSet<PathBuf>) {
        match self {
            Self::Link(path, inode) => drop(names.insert(path.clone(), *inode)),
            Self::Unlink(path) => drop(names.remove(path)),
            Self::MakeDir(path) => drop(dirs.insert(path.clone())),
            Self::RemoveDir(path) => {
                names.retain(|name, _| !name.starts_with(path));
                dirs.retain(|dir| !dir.starts_with(path));
            }
            Self::Rename(from, to) => {
                let moved = |path: &PathBuf| path.strip_prefix(from).ok().map(|rest| join(to, rest));
                if names.contains_key(from) {
                    names.remove(to);
                }
                let old = std::mem::take(names);
                names.extend(old.into_iter().map(|(path, inode)| (moved(&path).unwrap_or(path), inode)));
                let old = std::mem::take(dirs);
                dirs.extend(old.into_iter().map(|path| moved(&path).unwrap_or(path)));
            }
        }
    }
}

fn join(to: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, mut keep_sector: impl FnMut() -> bool) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Data(at, data) => {
                let mut from = 0;
                while from < data.len() {
                    let sector_end = ((at + from) / SECTOR_BYTES + 1) * SECTOR_BYTES - at;
                    let to = sector_end.min(data.len());
                    if keep_sector() {
                        if bytes.len() < at + to {
                            bytes.resize(at + to, 0);
                        }
                        bytes[at + from..at + to].copy_from_slice(&data[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            life: 0,
            inodes: HashMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            dirs: [PathBuf::from("/")].into(),
            durable_names: BTreeMap::new(),
            durable_dirs: [PathBuf::from("/")].into(),
            pending: Vec::new(),
            locks: BTreeSet::new(),
            used_bytes: 0,
            capacity_bytes: u64::MAX,
            steps_left: None,
            sync_failures: 0,
            open_failures: 0,
            syncs: 0,
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes after `n` more operations that change something; from then on every call fails until [`crash`](Self::crash).
    pub fn cut_power_after(&self, n: u64) {
        self.world().steps_left = Some(n);
    }

    pub fn has_power(&self) -> bool {
        self.world().steps_left != Some(0)
    }

    /// Fails the next `n` syncs.
    pub fn fail_syncs(&self, n: u32) {
        self.world().sync_failures = n;
    }

    /// Refuses the next `n` opens of files for writing: too many are open.
    pub fn fail_opens(&self, n: u32) {
        self.world().open_failures = n;
    }

    /// Bytes of files that fit; more is `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.world().capacity_bytes = bytes;
    }

    pub fn used_bytes(&self) -> u64 {
        self.world().used_bytes
    }

    /// File syncs so far.
    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }

    /// The power comes back: what was not synced is lost, kept or torn as the seed says, and older handles are dead.
    pub fn crash(&self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = &mut *self.world();
        world.life += 1;
        let mut ended: BTreeSet<PathBuf> = BTreeSet::new();
        for change in std::mem::take(&mut world.pending) {
            // A journal keeps the changes of a directory in order, up to some point.
            if ended.contains(change.dir()) || rng.random_bool(0.4) {
                ended.insert(change.dir().to_path_buf());
            } else {
                change.apply(&mut world.durable_names, &mut world.durable_dirs);
            }
        }
        // What is inside a directory that is gone cannot be reached.
        let kept = world.durable_dirs.clone();
        world.durable_dirs.retain(|dir| dir.ancestors().all(|above| kept.contains(above)));
        let dirs = world.durable_dirs.clone();
        world.durable_names.retain(|path, _| path.parent().is_some_and(|dir| dirs.contains(dir)));
        world.names = world.durable_names.clone();
        world.dirs = dirs;
        let live: BTreeSet<u64> = world.names.values().copied().collect();
        world.inodes.retain(|inode, _| live.contains(inode));
        world.used_bytes = 0;
        let mut inodes: Vec<_> = world.inodes.iter_mut().collect();
        inodes.sort_by_key(|(number, _)| **number);
        for (_, inode) in inodes {
            let kept = [0.0, 0.5, 0.9, 1.0][rng.random_range(0..4)];
            let mut bytes = std::mem::take(&mut inode.durable);
            for change in std::mem::take(&mut inode.unsynced) {
                let whole = !matches!(change, Change::Length(_)) || rng.random_bool(kept);
                if whole {
                    change.apply(&mut bytes, || rng.random_bool(kept));
                }
            }
            inode.current = bytes.clone();
            inode.durable = bytes;
            world.used_bytes += inode.current.len() as u64;
        }
        world.locks.clear();
        world.steps_left = None;
        world.sync_failures = 0;
        world.open_failures = 0;
    }
}

impl World {
    /// Counts an operation that changes something.
    fn step(&mut self, life: u64) -> io::Result<()> {
        self.alive(life)?;
        if let Some(left) = &mut self.steps_left {
            *left = left.saturating_sub(1);
        }
        self.alive(life)
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if self.life != life || self.steps_left == Some(0) { Err(io::Error::other("the power is cut")) } else { Ok(()) }
    }

    fn change(&mut self, change: NameChange) {
        if let NameChange::Rename(from, to) = &change {
            // Earlier changes inside a renamed directory go with it.
            for earlier in &mut self.pending {
                let (NameChange::Link(path, _)
                | NameChange::Unlink(path)
                | NameChange::MakeDir(path)
                | NameChange::RemoveDir(path)
                | NameChange::Rename(path, _)) = earlier;
                if let Some(rest) = path.strip_prefix(from).ok().filter(|rest| !rest.as_os_str().is_empty()) {
                    *path = to.join(rest);
                }
            }
        }
        change.apply(&mut self.names, &mut self.dirs);
        self.pending.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn edit(&mut self, inode: u64, change: Change) -> io::Result<()> {
        let Some(file) = self.inodes.get_mut(&inode) else { return Err(io::ErrorKind::NotFound.into()) };
        let length = match &change {
            Change::Length(length) => *length,
            Change::Data(at, data) => file.current.len().max(at + data.len()),
        };
        let used = self.used_bytes - file.current.len() as u64 + length as u64;
        if used > self.capacity_bytes && length > file.current.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.used_bytes = used;
        change.apply(&mut file.current, || true);
        file.unsynced.push(change);
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.disk.world();
        world.alive(self.life)?;
        let bytes = world.inodes.get(&self.inode).map_or(&[][..], |file| &file.current);
        let from = bytes.get(offset as usize..).unwrap_or_default();
        let n = from.len().min(buffer.len());
        buffer[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.step(self.life)?;
        world.edit(self.inode, Change::Data(offset as usize, bytes.to_vec()))
    }

    fn len(&self) -> io::Result<u64> {
        let world = self.disk.world();
        world.alive(self.life)?;
        Ok(world.inodes.get(&self.inode).map_or(0, |file| file.current.len() as u64))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.step(self.life)?;
        world.edit(self.inode, Change::Length(length as usize))
    }

    fn preallocate(&self, length: u64) -> io::Result<()> {
        let now = self.len()?;
        self.set_len(length.max(now))
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        world.step(self.life)?;
        world.syncs += 1;
        if world.sync_failures > 0 {
            world.sync_failures -= 1;
            return Err(io::Error::other("the device reports an error"));
        }
        if let Some(file) = world.inodes.get_mut(&self.inode) {
            for change in std::mem::take(&mut file.unsynced) {
                change.apply(&mut file.durable, || true);
            }
        }
        Ok(())
    }
}

struct SimLock(SimDisk, PathBuf, u64);

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut world = self.0.world();
        if world.life == self.2 {
            world.locks.remove(&self.1);
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world();
        let life = world.life;
        world.alive(life)?;
        if world.open_failures > 0 && !matches!(mode, OpenMode::Read) {
            world.open_failures -= 1;
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        let inode = match (world.find(path), mode) {
            (Ok(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(inode), _) => inode,
            (Err(error), OpenMode::Read) => return Err(error),
            (Err(_), _) => {
                if !path.parent().is_some_and(|dir| world.dirs.contains(dir)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                world.step(life)?;
                let inode = world.next_inode;
                world.next_inode += 1;
                world.inodes.insert(inode, Inode::default());
                world.change(NameChange::Link(path.to_path_buf(), inode));
                inode
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode, life }))
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        self.read(path).map(Mapped::from_bytes)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        let missing: Vec<PathBuf> = path.ancestors().filter(|dir| !world.dirs.contains(*dir)).map(Path::to_path_buf).collect();
        for dir in missing.into_iter().rev() {
            world.step(life)?;
            world.change(NameChange::MakeDir(dir));
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        world.alive(world.life)?;
        if !world.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = world.names.keys().chain(&world.dirs).filter(|name| name.parent() == Some(path));
        Ok(inside.filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        world.step(life)?;
        if !world.dirs.contains(from) {
            world.find(from)?;
            if let Some(old) = world.names.get(to).copied() {
                world.used_bytes -= world.inodes.get(&old).map_or(0, |file| file.current.len() as u64);
            }
        }
        world.change(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        world.step(life)?;
        let inode = world.find(from)?;
        if world.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.change(NameChange::Link(to.to_path_buf(), inode));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        world.step(life)?;
        let inode = world.find(path)?;
        world.change(NameChange::Unlink(path.to_path_buf()));
        if !world.names.values().any(|other| *other == inode) {
            world.used_bytes -= world.inodes.get(&inode).map_or(0, |file| file.current.len() as u64);
        }
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        let life = world.life;
        world.step(life)?;
        if !world.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let gone: Vec<u64> = world.names.iter().filter(|(name, _)| name.starts_with(path)).map(|(_, inode)| *inode).collect();
        for inode in gone {
            world.used_bytes -= world.inodes.get(&inode).map_or(0, |file| file.current.len() as u64);
        }
        world.change(NameChange::RemoveDir(path.to_path_buf()));
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        let world = self.world();
        world.names.contains_key(path) || world.dirs.contains(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let world = &mut *self.world();
        world.step(world.life)?;
        if !world.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for change in std::mem::take(&mut world.pending) {
            if change.dir() == path {
                change.apply(&mut world.durable_names, &mut world.durable_dirs);
            } else {
                world.pending.push(change);
            }
        }
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let world = self.world();
        Ok(world.capacity_bytes.saturating_sub(world.used_bytes))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut world = self.world();
        world.alive(world.life)?;
        if !world.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock(self.clone(), path.to_path_buf(), world.life)))
    }
}
