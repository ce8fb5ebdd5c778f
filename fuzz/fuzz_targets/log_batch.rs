//! Record batches from anywhere: read or refused, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = mainstem_log::records(&bytes::Bytes::copy_from_slice(bytes));
});
