//! No bytes make the decoder panic: random values behind a valid prefix, and valid records with bytes changed, cut or added.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

mod support;

use mainstem_envelope::{Decoder, encode};
use mainstem_eventlog::{PartitionAppend, RecordBatchBuilder, TopicPartition, records};
use mainstem_types::SourceName;
use proptest::prelude::*;
use support::*;

/// What to do to a valid value or header.
#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Grow(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => vec_of_bytes().prop_map(Damage::Grow),
    ]
}

fn vec_of_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..20)
}

fn damaged(bytes: &[u8], damage: &Damage) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match damage {
        Damage::Flip(at, bits) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Damage::Cut(at) if !bytes.is_empty() => bytes.truncate(at.index(bytes.len())),
        Damage::Grow(more) => bytes.extend_from_slice(more),
        _ => {}
    }
    bytes
}

fn rebuilt(part: &PartitionAppend, victim: usize, damage: &Damage, in_header: bool) -> PartitionAppend {
    let mut builder = RecordBatchBuilder::new(0);
    for (at, record) in records(&part.batches).unwrap().iter().enumerate() {
        let mut value = record.value.as_ref().map(|v| v.to_vec());
        let mut headers =
            record.headers.iter().map(|(n, v)| (n.to_vec(), v.clone().unwrap_or_default().to_vec())).collect::<Vec<_>>();
        if at == victim && in_header && !headers.is_empty() {
            headers[0].1 = damaged(&headers[0].1, damage);
        } else if at == victim {
            value = value.map(|v| damaged(&v, damage));
        }
        let headers = headers.iter().map(|(n, v)| (std::str::from_utf8(n).unwrap(), v.as_slice())).collect::<Vec<_>>();
        builder.push(0, record.key.as_deref(), value.as_deref(), &headers);
    }
    PartitionAppend { to: TopicPartition::new(TOPIC, 0), records: builder.records(), batches: builder.finish() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn damaged_envelopes_do_not_panic(
        batch in batch(), victim in any::<prop::sample::Index>(), damage in damage(), in_header in prop::bool::weighted(0.3)
    ) {
        let (schemas, ids) = schemas_with(&batch.schema);
        let shop = SourceName::new("shop").unwrap();
        let part = encode(&context(&shop, ids), &batch).unwrap();
        prop_assume!(part.records > 0);
        let bad = rebuilt(&part, victim.index(part.records as usize), &damage, in_header);
        match Decoder::new(schemas).decode(&bad.batches, 0, i64::MAX) {
            Ok((items, _)) => prop_assert!(plain_items(&items).len() <= batch.len()),
            Err(e) => prop_assert!(["REC-001", "REC-003"].contains(&e.code().id), "{e}"),
        }
    }

    #[test]
    fn random_values_do_not_panic(schema in schema(), tail in prop::collection::vec(any::<u8>(), 0..400), small: bool) {
        let (schemas, ids) = schemas_with(&schema);
        // Small bytes are valid branches and lengths more often, and so get further in.
        let tail = tail.iter().map(|b| if small { b % 5 } else { *b });
        let value = [0].into_iter().chain(ids.value.to_be_bytes()).chain(tail).collect::<Vec<_>>();
        let mut builder = RecordBatchBuilder::new(0);
        builder.push(0, None, Some(&value), &[]);
        if let Err(e) = Decoder::new(schemas).decode(&builder.finish(), 0, i64::MAX) {
            prop_assert_eq!(e.code().id, "REC-001");
        }
    }

    #[test]
    fn random_batches_do_not_panic(bytes: Vec<u8>) {
        let (schemas, _) = schemas_with(&empty());
        let _ = Decoder::new(schemas).decode(&bytes.into(), 0, i64::MAX);
    }
}

fn empty() -> mainstem_types::TableSchema {
    mainstem_types::TableSchema {
        upstream: mainstem_types::UpstreamId(1),
        name: mainstem_types::TableName::new("a", "b"),
        version: 0,
        columns: Vec::new(),
        identity: mainstem_types::Identity::WholeRow,
        record_key: Vec::new(),
    }
}
