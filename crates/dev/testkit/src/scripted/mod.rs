//! A second connector, for tests: a system in memory that does what a script says: transactions, changes of columns, values that cannot
//! be held, lost positions, faults and pauses. Proof that nothing above the contract knows which system it reads.
//!
//! Everything that happens in it happens at a call, so that a run is repeated by repeating its calls.
#![allow(clippy::unwrap_used, clippy::expect_used)] // part of tests: a script that does not fit is a failure

mod source;
mod world;

pub use source::{Scripted, connector};
pub use world::{Call, Cell, Change, UNHOLDABLE, World};
