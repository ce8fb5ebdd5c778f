//! What runs a source against the log: one runner, its copies, the one writer of its topics, and what is shown of it.

mod copying;
pub mod dead_letters;
pub mod ingest;
pub mod runner;
pub mod shared;
pub mod tables;
