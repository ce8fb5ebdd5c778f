//! Runs sources against the log: snapshot beside stream, staging, barriers, acknowledgement; and the control of sources.
//!
//! Invariant: a source is acknowledged only up to the position of a barrier that is durable in the log.

pub mod codes;
mod control;
mod copying;
mod dead_letters;
mod desired;
mod ingest;
pub mod metrics;
mod runner;
mod secret;
mod shared;
mod system;
mod tables;

pub use control::{DiskTrouble, DiskWatch, Sources, SourcesParts};
pub use secret::SecretKey;
