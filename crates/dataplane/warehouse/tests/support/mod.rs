//! What the tests of this crate share: a model of live tables, and a driver that feeds both the same random changes.
#![allow(dead_code)] // each test file uses its part

pub mod driver;
pub mod model;
