//! SQL over the warehouse's snapshots. The only crate that names DataFusion.
//!
//! A statement's way: `sql` parses it, `plan` resolves its tables through `enforce` into `tables`, `session` runs it on the engine's own
//! threads and hands its rows out batch by batch.

pub mod codes;
mod enforce;
mod engine;
mod functions;
#[doc(hidden)]
pub mod fuzz;
pub mod metrics;
mod plan;
mod session;
mod settings;
mod sql;
mod system;
mod tables;
mod threads;

pub use engine::{QueryEngine, SnapshotSource};
pub use settings::QuerySettings;
