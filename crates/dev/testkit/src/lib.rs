//! Fixtures: a throw-away Postgres, the Sakila shop, random workloads, comparisons, a disk that crashes.
//!
//! Test tools work on the real machine (processes, sleeps, temporary files), so the bans of `clippy.toml` do not hold here.
#![allow(clippy::disallowed_methods)]

pub mod chaos;
pub mod clock;
pub mod compare;
pub mod disk;
pub mod mainstem;
pub mod poller;
pub mod postgres;
pub mod process;
pub mod sakila;
pub mod scripted;
pub mod shapes;
pub mod shop;
pub mod source_suite;

pub use mainstem::{Mainstem, MainstemOptions};
pub use postgres::{Auth, Postgres, PostgresOptions, StopMode};

/// What a fixture could not do, in words for the person who runs the test.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

pub type Result<T, E = Failure> = std::result::Result<T, E>;
