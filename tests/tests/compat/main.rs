//! Suites that take too long, or need too much, for every run of the tests: `cargo xtask compat`. A suite is a module and a line here.
//!
//! `shapes` sends what a hostile client sends; `majors` captures from every installed major of PostgreSQL. The place for clients of other
//! languages and for peers.
#![allow(clippy::disallowed_methods)] // tests run on the real clock and the real disk
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

mod majors;
mod shapes;
