//! Runs sources against the log: snapshot beside stream, staging, barriers, acknowledgement; and the control of sources.
//!
//! Invariant: a source is acknowledged only up to the position of a barrier that is durable in the log.

mod capture;
pub mod codes;
mod control;
mod desired;
pub mod metrics;

pub use control::secret::SecretKey;
pub use control::{DiskTrouble, DiskWatch, Sources, SourcesParts};
