//! WAL payloads, checkpoints and index files: read or refused, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mainstem_log::decode_any(bytes));
