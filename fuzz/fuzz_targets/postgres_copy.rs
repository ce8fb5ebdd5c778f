//! Lines of COPY text from anywhere: read or refused, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mainstem_postgres::fuzz::copied_lines(bytes));
