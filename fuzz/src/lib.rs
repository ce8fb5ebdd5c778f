//! Every decoder of bytes from outside, as a function of bytes: read or refused, never a panic, never without end.
//!
//! `cargo xtask fuzz` runs a target with coverage; `tests/replay.rs` shows it its corpus and some damage to it on every test run. A
//! target is a line of [`TARGETS`] and a folder `corpus/<name>` with at least one file that reads well.

mod records;

use mainstem_env::{Disk, Env};
use mainstem_testkit::disk::SimDisk;
use std::path::Path;
use std::sync::Arc;

/// A decoder and its name.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its folder in `corpus`.
    pub name: &'static str,
    /// Takes any bytes; a panic is a finding.
    pub run: fn(&[u8]),
}

/// In the order of a row's way.
pub const TARGETS: &[Target] = &[
    Target { name: "postgres_pgoutput", run: mainstem_postgres::fuzz::replication_message },
    Target { name: "postgres_copy", run: mainstem_postgres::fuzz::copied_lines },
    Target { name: "postgres_value", run: mainstem_postgres::fuzz::value },
    Target { name: "log_batch", run: records::batch },
    Target { name: "log_files", run: mainstem_log::decode_any },
    Target { name: "envelope", run: records::envelope },
    Target { name: "control_records", run: records::control },
    Target { name: "delta_commit", run: |bytes| mainstem_warehouse::fuzz::commit(world(), bytes) },
    Target { name: "delta_vector", run: |bytes| mainstem_warehouse::fuzz::vector(world(), bytes) },
    Target { name: "index_run", run: |bytes| mainstem_warehouse::fuzz::index_run(world(), bytes) },
    Target { name: "sql_statements", run: statements },
    Target { name: "pgwire_messages", run: mainstem_pgwire::fuzz::messages },
    Target { name: "pgwire_parameter", run: mainstem_pgwire::fuzz::parameter },
    Target { name: "pgwire_scram", run: mainstem_pgwire::fuzz::scram },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

/// A disk in memory: nothing of a run is left behind.
fn world() -> Env {
    let disk = SimDisk::new();
    assert!(disk.create_dir_all(Path::new("/")).is_ok(), "a new disk has room");
    Env { disk: Arc::new(disk), ..Env::real() }
}

fn statements(bytes: &[u8]) {
    if let Ok(sql) = std::str::from_utf8(bytes) {
        mainstem_query::fuzz::statements(sql);
    }
}
