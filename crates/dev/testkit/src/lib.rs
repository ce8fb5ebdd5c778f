//! Fixtures: a throw-away Postgres, the Sakila shop, workloads, comparisons, conformance suites.

pub mod disk;
