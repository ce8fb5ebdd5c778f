//! What `fuzz/` feeds with any bytes: the decoders of everything that a client sends. Read or refused, never a panic.

use crate::message::{MESSAGE_BYTES_MAX, next_first, next_frame, read};
use crate::parameter::Slot;
use crate::scram::Exchange;
use crate::types;
use arrow::array::Array;
use bytes::{Bytes, BytesMut};
use mainstem_identity::Verifier;

/// A first packet, a stream of messages, and one body under the type that its first byte names.
pub fn messages(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(_)) = next_first(&mut input) {}
    let mut input = BytesMut::from(bytes);
    while let Ok(Some((tag, body))) = next_frame(&mut input, MESSAGE_BYTES_MAX) {
        let _ = read(tag, body);
    }
    if let Some((tag, body)) = bytes.split_first() {
        let _ = read(*tag, Bytes::copy_from_slice(body));
    }
}

/// Every type that a client may declare, and the type of its arrays.
const OIDS: [u32; 32] = [
    16, 17, 20, 21, 23, 25, 26, 114, 700, 701, 1082, 1083, 1114, 1184, 1186, 1700, 2950, 3802, 1000, 1001, 1016, 1005, 1007,
    1009, 1021, 1022, 1182, 1183, 1115, 1185, 1231, 3807,
];

/// A parameter's value: a byte that chooses its type, one that says text or binary, then the value.
pub fn parameter(bytes: &[u8]) {
    let [chosen, binary, value @ ..] = bytes else { return };
    let oid = OIDS[usize::from(*chosen) % OIDS.len()];
    let Some(kind) = types::arrow_of(oid) else { return };
    let slot = Slot { oid, kind: &kind, number: 1, binary: binary & 1 == 1 };
    if let Ok(array) = slot.read(Some(&Bytes::copy_from_slice(value))) {
        assert_eq!((array.len(), array.data_type()), (1, &kind));
    }
}

/// A stored verifier, or a client's two messages with a zero byte between them.
pub fn scram(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(verifier) = text.parse::<Verifier>() {
        assert!(verifier.to_string().parse::<Verifier>().is_ok(), "what was read must be writable");
    }
    let (first, last) = text.split_once('\0').unwrap_or((text, ""));
    let Ok(exchange) = Exchange::first(first.as_bytes(), "fuzzed", None, &[0; 32], [[1; 32]; 2]) else { return };
    assert!(!exchange.finish(last.as_bytes()).is_ok_and(|proof| proof.is_some()), "an unknown user has no proof");
    // With the server's nonce, the rest of the message is read too.
    let nonce = exchange.server_first().split(',').next().unwrap_or_default();
    let _ = exchange.finish(last.replace("r=?", nonce).as_bytes());
}
