//! The world: clock, randomness, disk, network, tasks. Everything above asks here, so that a simulated world can stand in later.
//!
//! `clippy.toml` bans the ways around it.

mod clock;
mod disk;
pub mod fault;
pub mod net;
mod store;
mod task;

pub use clock::{Clock, Moment, RealClock};
pub use disk::{Disk, DiskFile, Mapped, OpenMode, RealDisk, is_out_of_files, raise_open_files};
pub use store::DiskStore;
pub use task::{JoinOnDrop, blocking, lower_priority, spawn, spawn_thread, spawn_work};

use std::sync::Arc;

/// The handles to the world that components get at construction. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub disk: Arc<dyn Disk>,
}

impl Env {
    /// The machine we run on.
    pub fn real() -> Self {
        Self { clock: Arc::new(RealClock::new()), disk: Arc::new(RealDisk) }
    }

    /// Random bytes fit for secrets and names.
    #[allow(clippy::disallowed_methods)] // the one place that asks the machine for randomness
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
        bytes
    }
}
