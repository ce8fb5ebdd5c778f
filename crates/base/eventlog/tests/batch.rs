//! Record batches against the `kafka-protocol` crate, both ways, and against bad bytes.
#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use mainstem_eventlog::batch::{self, BatchHeader};
use mainstem_eventlog::{RecordBatchBuilder, records};
use proptest::prelude::*;
use std::io::{Read, Write};

type Header = (String, Vec<u8>);
type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

fn build(base: i64, rows: &[Row], compress: bool) -> Bytes {
    let mut builder = RecordBatchBuilder::new(base);
    if !compress {
        builder = builder.uncompressed();
    }
    for (time, key, value, headers) in rows {
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        builder.push(*time, key.as_deref(), value.as_deref(), &headers);
    }
    builder.finish()
}

fn ours(bytes: &Bytes) -> Vec<(i64, Row)> {
    let to_row = |r: mainstem_eventlog::RecordRef| {
        let headers =
            r.headers.iter().map(|(n, v)| (String::from_utf8(n.to_vec()).unwrap(), v.as_ref().unwrap().to_vec())).collect();
        (r.offset, (r.time_ms, r.key.map(|k| k.to_vec()), r.value.map(|v| v.to_vec()), headers))
    };
    records(bytes).unwrap().into_iter().map(to_row).collect()
}

fn unpack(bytes: &mut Bytes, kind: Compression) -> anyhow::Result<Bytes> {
    match kind {
        Compression::None => Ok(bytes.split_to(bytes.len())),
        Compression::Lz4 => {
            let mut out = Vec::new();
            lz4_flex::frame::FrameDecoder::new(&bytes[..]).read_to_end(&mut out)?;
            Ok(out.into())
        }
        other => anyhow::bail!("{other:?}"),
    }
}

fn pack(raw: &mut BytesMut, out: &mut BytesMut, kind: Compression) -> anyhow::Result<()> {
    match kind {
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(raw)?;
            out.extend_from_slice(&encoder.finish()?);
        }
        _ => out.extend_from_slice(raw),
    }
    Ok(())
}

fn theirs(bytes: &Bytes) -> Vec<(i64, Row)> {
    let set = RecordBatchDecoder::decode_with_custom_compression(&mut bytes.clone(), Some(unpack)).unwrap();
    let to_row = |r: Record| {
        let headers = r.headers.iter().map(|(n, v)| (n.to_string(), v.as_ref().unwrap().to_vec())).collect();
        (r.offset, (r.timestamp, r.key.map(|k| k.to_vec()), r.value.map(|v| v.to_vec()), headers))
    };
    set.records.into_iter().map(to_row).collect()
}

fn encode_theirs(rows: &[Row], compression: Compression) -> Bytes {
    let to_record = |(at, (time, key, value, headers)): (usize, &Row)| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: at as i64,
        sequence: at as i32 - 1,
        timestamp: *time,
        key: key.clone().map(Bytes::from),
        value: value.clone().map(Bytes::from),
        headers: headers.iter().map(|(n, v)| (StrBytes::from(n.clone()), Some(Bytes::from(v.clone())))).collect(),
    };
    let list: Vec<Record> = rows.iter().enumerate().map(to_record).collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    RecordBatchEncoder::encode_with_custom_compression(&mut out, &list, &options, Some(pack)).unwrap();
    out.freeze()
}

fn row() -> impl Strategy<Value = Row> {
    let field = proptest::option::of(proptest::collection::vec(0_u8..4, 0..200));
    let header = ("[a-z]{1,5}", proptest::collection::vec(any::<u8>(), 0..20));
    // Header names differ: their map keeps one of each.
    let headers = proptest::collection::btree_map(header.0, header.1, 0..3).prop_map(|m| m.into_iter().collect());
    (0_i64..4_000_000_000_000, field.clone(), field, headers)
}

proptest! {
    #[test]
    fn both_ways(base in 0_i64..4_000_000_000_000, rows in proptest::collection::vec(row(), 1..60), compress in any::<bool>()) {
        let bytes = build(base, &rows, compress);
        let numbered: Vec<(i64, Row)> = rows.iter().cloned().enumerate().map(|(i, r)| (i as i64, r)).collect();
        prop_assert_eq!(&ours(&bytes), &numbered);
        prop_assert_eq!(&theirs(&bytes), &numbered);
        for kind in [Compression::None, Compression::Lz4] {
            prop_assert_eq!(&ours(&encode_theirs(&rows, kind)), &numbered);
        }
    }

    #[test]
    fn random_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        // Random bytes alone rarely get past the CRC: the second try has a valid frame around them.
        let _ = records(&Bytes::from(bytes.clone()));
        for attributes in [0_u8, 3] {
            let mut framed = build(0, &[(0, None, None, vec![])], false)[..61].to_vec();
            framed.extend_from_slice(&bytes);
            let length = framed.len() as i32 - 12;
            framed[8..12].copy_from_slice(&length.to_be_bytes());
            framed[22] = attributes;
            framed[60] = bytes.len() as u8 / 8;
            framed[26] = 100;
            let crc = crc32c::crc32c(&framed[21..]);
            framed[17..21].copy_from_slice(&crc.to_be_bytes());
            let _ = records(&Bytes::from(framed));
        }
    }

    #[test]
    fn one_changed_byte_is_seen(rows in proptest::collection::vec(row(), 1..20), compress in any::<bool>(), at in any::<prop::sample::Index>(), change in 1_u8..) {
        let mut bytes = build(0, &rows, compress).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        // Base offset and leader epoch are set by the log, so no checksum covers them.
        prop_assume!(!(0..8).contains(&at) && !(12..16).contains(&at));
        let error = records(&Bytes::from(bytes)).unwrap_err();
        prop_assert_eq!(error.code().id, "LOG-003");
    }
}

#[test]
fn a_golden_batch() {
    let mut builder = RecordBatchBuilder::new(1_000);
    builder.push(1_000, Some(b"k"), Some(b"v1"), &[("h", b"x")]);
    builder.push_with(1_005, None, &[], |value| value.extend_from_slice(b"v2"));
    builder.push(1_001, Some(b"k"), None, &[]);
    let bytes = builder.finish();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let parts = [
        "0000000000000000", // base offset
        "00000050",         // length after this field
        "00000000",         // leader epoch
        "02",               // magic
        "37101226",         // CRC-32C, which kafka-protocol checks below
        "0000",
        "00000002",
        "00000000000003e8",
        "00000000000003ed",
        "ffffffffffffffffffffffffffff", // no producer
        "00000003",
        "1a000000026b047631020268027", /* length, attributes, deltas, key, value, one header */
        "810000a0201047632000e000204026b0100",
    ];
    assert_eq!(hex, parts.concat());
    assert_eq!(theirs(&bytes), ours(&bytes));
}

#[test]
fn headers_are_read_and_patched_without_decompression() {
    let rows: Vec<Row> = (0..500).map(|i| (i, Some(vec![1; 8]), Some(vec![2; 80]), vec![])).collect();
    let mut bytes = build(0, &rows, true).to_vec();
    assert!(bytes.len() < 20_000, "lz4 was not used: {}", bytes.len());
    batch::set_base_offset(&mut bytes, 77);
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!((header.base_offset, header.end(), header.records, header.max_time_ms), (77, 577, 500, 499));
    assert_eq!(header.bytes, bytes.len());
    header.check_crc(&bytes).unwrap();
    let two = Bytes::from([bytes.clone(), bytes.clone()].concat());
    assert_eq!(batch::headers(&two).count(), 2);
    assert_eq!(records(&two).unwrap().len(), 1000);
    let mut seen = 0;
    batch::visit(&two, |view| {
        seen += view.value.unwrap().len();
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, 80_000);
    // Cut off anywhere: an error.
    for cut in [1, 60, 61, bytes.len() - 1, bytes.len() + 1] {
        assert_eq!(records(&two.slice(..cut)).unwrap_err().code().id, "LOG-003");
    }
}

#[test]
fn an_empty_builder_makes_no_batch() {
    assert!(RecordBatchBuilder::new(0).finish().is_empty());
    assert!(records(&Bytes::new()).unwrap().is_empty());
}
