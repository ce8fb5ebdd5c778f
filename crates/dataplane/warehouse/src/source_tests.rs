//! Which leaves a parent's view has.

use super::*;
use mainstem_types::{Generation, Identity, TableRecord, TableSchema, UpstreamId};
use std::path::PathBuf;

fn view(name: &str, parents: &[&str]) -> Arc<TableView> {
    let schema = Arc::new(TableSchema {
        upstream: UpstreamId(1),
        name: TableName::new("public", name),
        version: 0,
        columns: Vec::new(),
        identity: Identity::AppendOnly,
        record_key: Vec::new(),
    });
    let record = TableRecord {
        table: TableId(1),
        source: SourceName::new("shop").unwrap(),
        name: TableName::new("shop", name),
        topic: name.into(),
        state: TableState::Streaming,
        generation: Generation(1),
        live: Some(Generation(1)),
        schema: schema.clone(),
        dropped_columns: Default::default(),
        parents: parents.iter().map(|parent| TableName::new("shop", parent)).collect(),
        error_code: None,
        error: None,
        body: None,
    };
    Arc::new(TableView {
        record: Arc::new(record),
        schema,
        readable: true,
        rows_copied: 0,
        hot: Vec::new(),
        files: Vec::new(),
        rows: 0,
        deleted_rows: 0,
        delta_version: None,
        location: PathBuf::new(),
        position: None,
    })
}

/// `tables`: name and parents of what a source has. `leaves`: what `parent`'s view is over.
fn check(tables: &[(&str, &[&str])], parent: &str, leaves: &[&str]) {
    let mut snapshot = Snapshot::default();
    let source = SourceSnapshot { seq: 1, tables: tables.iter().map(|(name, parents)| view(name, parents)).collect() };
    source.add_to(&SourceName::new("shop").unwrap(), &mut snapshot);
    // Another source must not add them again.
    SourceSnapshot { seq: 1, tables: Vec::new() }.add_to(&SourceName::new("other").unwrap(), &mut snapshot);
    let names = |name: &TableName| snapshot.parents.get(name).into_iter().flatten().map(|l| l.name.to_string()).collect();
    let found: Vec<String> = names(&TableName::new("shop", parent));
    assert_eq!(found, leaves, "{tables:?}");
}

#[test]
fn an_inherited_parent_is_among_its_leaves() {
    check(&[("people", &[])], "people", &[]);
    // A partitioned table has no rows and no table of its own.
    check(&[("p_2", &["p"]), ("p_1", &["p"])], "p", &["p_1", "p_2"]);
    check(&[("people", &[]), ("staff", &["people"])], "people", &["people", "staff"]);
    check(&[("staff", &["people"]), ("guests", &["people"]), ("people", &[])], "people", &["guests", "people", "staff"]);
    // In the middle of a tree it is both.
    let chain: [(&str, &[&str]); 3] = [("a", &[]), ("b", &["a"]), ("c", &["b", "a"])];
    check(&chain, "a", &["a", "b", "c"]);
    check(&chain, "b", &["b", "c"]);
    let partitions: [(&str, &[&str]); 3] = [("p_1_1", &["p_1", "p"]), ("p_1_2", &["p_1", "p"]), ("p_2", &["p"])];
    check(&partitions, "p", &["p_1_1", "p_1_2", "p_2"]);
    check(&partitions, "p_1", &["p_1_1", "p_1_2"]);
}
