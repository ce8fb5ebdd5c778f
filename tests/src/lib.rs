//! End-to-end tests: the real server, a real PostgreSQL, real clients. See `tests/e2e/main.rs`.
