//! Any bytes meet the decoders: read or refused, never a panic. The same entrances as in `fuzz/`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

use mainstem_postgres::fuzz::{copied_lines, replication_message, value};
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in any::<Vec<u8>>(), tag in "[BCIRUDTOYMSEcAK]") {
        replication_message(&bytes);
        // Past the first byte, where most random bytes end.
        replication_message(&[&[0][..], tag.as_bytes(), &bytes].concat());
        copied_lines(&bytes);
        value(&bytes);
    }

    #[test]
    fn any_tuple_never_panics(cells in proptest::collection::vec((prop::sample::select(b"ntuKN".to_vec()), any::<Vec<u8>>()), 0..16)) {
        let mut bytes = [&[0, b'I', 0, 0, 0, 1, b'N'][..], &(cells.len() as u16).to_be_bytes()].concat();
        for (kind, text) in &cells {
            bytes.push(*kind);
            if *kind == b't' {
                bytes.extend((text.len() as u32).to_be_bytes());
                bytes.extend(text);
            }
        }
        replication_message(&bytes);
    }
}
