//! libFuzzer's program: one binary for all targets, so that it links once. `MAINSTEM_FUZZ_TARGET` names the one to run.
#![no_main]

use mainstem_fuzz::{Target, target};
use std::sync::LazyLock;

static CHOSEN: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("MAINSTEM_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("MAINSTEM_FUZZ_TARGET names no target: `{name}`"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (CHOSEN.run)(bytes));
