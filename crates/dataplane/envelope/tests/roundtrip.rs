//! The law of this crate: nothing that applying a batch needs is lost on the way through the log.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests

mod support;

use mainstem_envelope::{Decoder, TopicItem, barrier_append, encode, encode_generation, table_append};
use mainstem_eventlog::{EventLog, records};
use mainstem_types::{
    Barrier, ChangeBatch, ColumnId, Generation, Identity, Op, PartitionEnd, Position, SourceName, TableBody, TableId, TableName,
    TableRecord, TableState,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use support::*;

fn shop() -> SourceName {
    SourceName::new("shop").unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn events_survive_the_log(batch in batch()) {
        let (schemas, ids) = schemas_with(&batch.schema);
        let part = encode(&context(&shop(), ids), &batch).unwrap();
        let bytes = placed(&[&part, &part], 70);
        let decoder = Decoder::new(schemas);
        let end = 70 + i64::from(part.records);
        let (items, next) = decoder.decode(&bytes, 70, end).unwrap();
        let expected = plain_events(&batch);
        prop_assert_eq!(plain_items(&items), plain_events(&batch));
        prop_assert_eq!(next, if part.records == 0 { 70 } else { end });
        for item in &items {
            let TopicItem::Changes(changes) = item else { panic!("a generation out of nowhere") };
            prop_assert_eq!(&changes.schema, &batch.schema);
            prop_assert_eq!(changes.rows.schema(), batch.rows.schema());
        }
        // Both copies in one read: one change batch, in order.
        let (items, _) = decoder.decode(&bytes, 70, i64::MAX).unwrap();
        let twice = expected.into_iter().chain(plain_events(&batch)).collect::<Vec<_>>();
        prop_assert_eq!(plain_items(&items), twice);
        // And it encodes again: what was decoded is a batch like any other.
        for item in &items {
            let TopicItem::Changes(changes) = item else { continue };
            let again = encode(&context(&shop(), ids), changes).unwrap();
            let (items, _) = decoder.decode(&placed(&[&again], 0), 0, i64::MAX).unwrap();
            prop_assert_eq!(plain_items(&items), plain_events(changes));
        }
    }

    #[test]
    fn a_cut_anywhere_counts_every_event_once(batch in batch(), cut in any::<prop::sample::Index>()) {
        let (schemas, ids) = schemas_with(&batch.schema);
        let part = encode(&context(&shop(), ids), &batch).unwrap();
        let bytes = placed(&[&part], 0);
        let middle = cut.index(part.records as usize + 1) as i64;
        let decoder = Decoder::new(schemas);
        let (mut events, _) = decoder.decode(&bytes, 0, middle).map(|(items, next)| (plain_items(&items), next)).unwrap();
        events.extend(plain_items(&decoder.decode(&bytes, middle, i64::MAX).unwrap().0));
        prop_assert_eq!(events, plain_events(&batch));
    }

    #[test]
    fn barriers_survive(seq: u64, us: i64, end: i64, full: bool, state in 0..7usize, schema in schema(), text in "\\PC{0,9}") {
        let states = [TableState::Waiting, TableState::Snapshotting, TableState::Streaming, TableState::Paused, TableState::Failed,
            TableState::Excluded, TableState::Dropped];
        let table = TableRecord {
            table: TableId(seq),
            source: shop(),
            name: TableName::new("shop", &text),
            topic: TOPIC.into(),
            state: states[state],
            generation: Generation(state as u32),
            live: full.then_some(Generation(1)),
            schema: Arc::new(schema),
            dropped_columns: Default::default(),
            parents: (0..state).map(|n| TableName::new(&n.to_string(), &text)).collect(),
            without_vectors: full,
            error_code: (!full).then(|| "PG-001".into()),
            error: (!full).then(|| text.as_str().into()),
            body: full.then(|| TableBody {
                file: seq,
                columns: seq,
                published: 0,
                hidden: BTreeSet::from([ColumnId(3)]),
                shown: BTreeMap::from([(ColumnId(-1), BTreeSet::from([0, u32::MAX])), (ColumnId(7), BTreeSet::new())]),
            }),
        };
        let barrier = Barrier {
            source: shop(),
            seq,
            position: Position::new(&text),
            commit_time_us: us,
            ends: vec![PartitionEnd { topic: TOPIC.into(), partition: 0, end }],
            full,
            tables: if full { vec![] } else { vec![Arc::new(table.clone())] },
        };
        let part = barrier_append(&barrier, 5);
        let record = &records(&part.batches).unwrap()[0];
        prop_assert_eq!(record.key.as_deref(), Some(&b"shop"[..]));
        prop_assert_eq!(serde_json::from_slice::<Barrier>(record.value.as_ref().unwrap()).unwrap(), barrier);

        let part = table_append(&[&table, &table], 5);
        prop_assert_eq!(part.records, 2);
        let record = &records(&part.batches).unwrap()[1];
        let key = seq.to_string();
        prop_assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
        match &record.value {
            None => prop_assert_eq!(table.state, TableState::Dropped),
            Some(value) => prop_assert_eq!(serde_json::from_slice::<TableRecord>(value).unwrap(), table),
        }
    }
}

/// The first random batch that fits, always the same.
fn example(wanted: impl Fn(&ChangeBatch) -> bool) -> ChangeBatch {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    (0..20_000).map(|_| batch().new_tree(&mut runner).unwrap().current()).find(wanted).expect("no such batch")
}

#[test]
fn a_changed_key_is_delete_tombstone_create_outside_and_one_update_inside() {
    let batch = example(|b| {
        let keyed = !b.schema.record_key.is_empty() && matches!(b.schema.identity, Identity::WholeRow);
        keyed && b.ops == [Op::Update] && b.old.is_some() && b.unchanged.is_empty() && {
            let key = b.schema.index_of(b.schema.record_key[0]).unwrap();
            let (old, new) = (plain_cells(b.old.as_ref().unwrap(), 0), plain_cells(&b.rows, 0));
            old[key] != new[key] && old[key] != "NULL" && new[key] != "NULL" && b.schema.record_key.len() == 1
        }
    });
    let (schemas, ids) = schemas_with(&batch.schema);
    let part = encode(&context(&shop(), ids), &batch).unwrap();
    let records = records(&part.batches).unwrap();
    assert_eq!(records.len(), 3);
    let header = |record: usize, name: &str| {
        records[record].headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone().unwrap())
    };
    assert_eq!(records[0].key, records[1].key);
    assert!(records[1].value.is_none() && records[0].value.is_some());
    assert_ne!(records[0].key, records[2].key);
    assert_eq!(header(0, "__debezium.newkey"), records[2].key);
    assert_eq!(header(2, "__debezium.oldkey"), records[0].key);
    let (items, _) = Decoder::new(schemas).decode(&part.batches, 0, 3).unwrap();
    assert_eq!(plain_items(&items), plain_events(&batch));
}

#[test]
fn a_delete_has_a_tombstone_only_with_a_key() {
    let keyed = |b: &ChangeBatch| {
        b.schema.identity == Identity::Key { columns: b.schema.record_key.clone() } && !b.schema.record_key.is_empty()
    };
    let with_key = example(|b| {
        b.ops == [Op::Delete]
            && keyed(b)
            && b.schema.record_key.iter().all(|id| !b.rows.column(b.schema.index_of(*id).unwrap()).is_null(0))
    });
    let without = example(|b| b.ops == [Op::Delete] && b.schema.record_key.is_empty());
    for (batch, expected) in [(with_key, 2), (without, 1)] {
        let (_, ids) = schemas_with(&batch.schema);
        let part = encode(&context(&shop(), ids), &batch).unwrap();
        let records = records(&part.batches).unwrap();
        assert_eq!(records.len(), expected);
        assert_eq!(records[0].key.is_some(), expected == 2);
    }
}

#[test]
fn a_generation_begins_between_changes() {
    let batch = example(|b| b.len() == 4);
    let (schemas, ids) = schemas_with(&batch.schema);
    let shop = shop();
    let context = context(&shop, ids);
    let rows = encode(&context, &batch).unwrap();
    let from_rows = encode_generation(&context, &batch, Generation(7)).unwrap();
    let from_none = encode_generation(&context, &empty_batch(&batch.schema), Generation(8)).unwrap();
    let before = mainstem_envelope::metrics::DECODED_RECORDS.get();
    let bytes = placed(&[&from_rows, &rows, &from_none], 0);
    let (items, next) = Decoder::new(schemas).decode(&bytes, 0, i64::MAX).unwrap();
    assert_eq!(next, i64::from(rows.records) + 2);
    assert!(mainstem_envelope::metrics::DECODED_RECORDS.get() >= before + rows.records as u64 + 2);
    assert!(matches!(
        items.as_slice(),
        [TopicItem::Generation(Generation(7)), TopicItem::Changes(_), TopicItem::Generation(Generation(8))]
    ));
    assert_eq!(plain_items(&items), plain_events(&batch));
}

#[test]
fn schemas_keep_their_ids_and_their_format() {
    let first = example(|b| b.schema.record_key.len() == 1).schema;
    let mut second = (*first).clone();
    second.version += 1;
    second.columns[0].id = ColumnId(9999);
    second.record_key = vec![second.columns[0].id];
    runtime().block_on(async {
        let log = Arc::new(MemoryLog::default());
        let schemas = mainstem_envelope::Schemas::load(log.clone()).await.unwrap();
        let early = mainstem_envelope::Schemas::load(log.clone()).await.unwrap();
        let (ids, lost) = schemas.ids(TOPIC, &first, &BLOCK).unwrap();
        // That append failed: the records come again, with the same ids.
        let (again, records_again) = schemas.ids(TOPIC, &first, &BLOCK).unwrap();
        assert_eq!(ids, again);
        let part = records_again.unwrap();
        assert_eq!(part.batches, lost.unwrap().batches);
        let record = &records(&part.batches).unwrap()[0];
        let key = format!(r#"{{"keytype":"SCHEMA","subject":"{TOPIC}-key","version":1,"magic":1}}"#);
        assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
        let value = String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap();
        assert!(value.starts_with(&format!(
            r#"{{"subject":"{TOPIC}-key","version":1,"id":1,"schema":"{{\"type\":\"record\",\"name\":\"Key\""#
        )));
        assert!(value.ends_with(r#","deleted":false}"#));

        log.append(vec![part], None).await.unwrap();
        schemas.refresh().await.unwrap();
        assert!(schemas.ids(TOPIC, &first, &BLOCK).unwrap().1.is_none());
        assert!(schemas.ids(TOPIC, &first, &BLOCK).unwrap().1.is_none());
        let (newer, part) = schemas.ids(TOPIC, &second, &BLOCK).unwrap();
        assert_ne!(newer.value, ids.value);
        log.append(part.into_iter().collect(), None).await.unwrap();

        // One that was there before finds it by reading on.
        assert_eq!(early.table_schema(newer.value).unwrap_err().code().id, "REC-003");
        early.refresh().await.unwrap();
        assert_eq!(*early.table_schema(newer.value).unwrap(), second);

        let loaded = mainstem_envelope::Schemas::load(log.clone()).await.unwrap();
        assert_eq!(loaded.ids(TOPIC, &second, &BLOCK).unwrap().0, newer);
        assert!(loaded.ids(TOPIC, &second, &BLOCK).unwrap().1.is_none());
        assert_eq!(loaded.ids(TOPIC, &first, &BLOCK).unwrap().0, ids);
        assert_eq!(*loaded.table_schema(ids.value).unwrap(), *first);
        assert_eq!(*loaded.table_schema(newer.value).unwrap(), second);
        assert_eq!(loaded.table_schema(999).unwrap_err().code().id, "REC-003");
        assert_eq!(loaded.table_schema(ids.key.unwrap()).unwrap_err().code().id, "REC-003");
    });
}

#[test]
fn a_batch_whose_parts_do_not_fit_is_refused() {
    let good = example(|b| b.len() == 3 && b.old_rows.len() == 1);
    let (_, ids) = schemas_with(&good.schema);
    let check = |break_it: &dyn Fn(&mut ChangeBatch)| {
        let mut bad = good.clone();
        break_it(&mut bad);
        assert_eq!(encode(&context(&shop(), ids), &bad).unwrap_err().code().id, "REC-002");
    };
    check(&|b| b.places.truncate(2));
    check(&|b| b.orders.truncate(2));
    check(&|b| b.txs.clear());
    check(&|b| b.txs.last_mut().unwrap().0 += 1);
    check(&|b| b.old = None);
    check(&|b| b.old_rows[0] = 3);
    check(&|b| b.unchanged.push((9, vec![])));
    check(&|b| b.rows = b.rows.slice(0, 2));
    check(&|b| b.rows = b.rows.project(&[]).unwrap());
}
