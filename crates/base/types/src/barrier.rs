//! Barriers and table records: the facts by which source position, log and live tables agree (`docs/rfcs/0002-barriers.md`).

use crate::ids::{ColumnId, Generation, Position, SourceName, TableId, TableName};
use crate::schema::TableSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Topic of all barriers: one partition, policy delete.
pub const BARRIER_TOPIC: &str = "_mainstem.barriers";
/// Topic of the last `TableRecord` of each table: key = table id in decimal, policy compact.
pub const TABLE_TOPIC: &str = "_mainstem.tables";

/// A consistent cut of one source: everything up to `position` is in the log before `ends`, and nothing after it. Always between
/// two source transactions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Barrier {
    pub source: SourceName,
    /// Dense per source, from 1.
    pub seq: u64,
    pub position: Position,
    /// Commit time of the last transaction in it, microseconds since 1970-01-01T00:00:00Z; 0 when it has none.
    pub commit_time_us: i64,
    /// Ends of the partitions that changed since the previous barrier; all of the source's when `full`.
    pub ends: Vec<PartitionEnd>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// Tables whose record changed at this barrier. The same records stand in [`TABLE_TOPIC`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Arc<TableRecord>>,
}

/// One past the last offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEnd {
    pub topic: Arc<str>,
    pub partition: i32,
    pub end: i64,
}

/// How far a captured table is. The texts are those of `mainstem.source_tables.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    Waiting,
    Snapshotting,
    Streaming,
    Paused,
    Failed,
    Excluded,
    /// Dropped in the source or taken out of the capture: its data is to be forgotten.
    Dropped,
}

impl TableState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Snapshotting => "snapshotting",
            Self::Streaming => "streaming",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Excluded => "excluded",
            Self::Dropped => "dropped",
        }
    }
}

/// The last word on one table of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableRecord {
    pub table: TableId,
    pub source: SourceName,
    /// The name under which it is queried: (`shop`, `film`) or (`shop_sales`, `orders`).
    pub name: TableName,
    /// Its topic, `shop.public.film`; partition 0.
    pub topic: Arc<str>,
    pub state: TableState,
    /// The generation being filled or, once `live`, the one readers see.
    pub generation: Generation,
    /// The generation readers see, once one is whole.
    pub live: Option<Generation>,
    pub schema: Arc<TableSchema>,
    /// Names of columns that were dropped in this generation: its files may hold their values.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub dropped_columns: BTreeSet<Arc<str>>,
    /// For partitioned and inherited tables: the query names of all above it, the nearest first; each is shown as a view over its leaves.
    #[serde(default, alias = "parent", deserialize_with = "one_or_more", skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<TableName>,
    /// Its files are rewritten rather than given deletion vectors: for readers that know none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_vectors: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
    /// What the source's catalog last said of where its rows lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<TableBody>,
}

/// Records were written that named the top of the tree only.
fn one_or_more<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<TableName>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Parents {
        One(TableName),
        More(Vec<TableName>),
    }
    Ok(match Parents::deserialize(from)? {
        Parents::One(parent) => vec![parent],
        Parents::More(parents) => parents,
    })
}

/// Where a table's rows lie in its source, how their columns came to be, by what its changes come and by what its values are printed, as
/// numbers that mean nothing but "another one".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableBody {
    pub file: u64,
    pub columns: u64,
    /// 0 = its updates and deletes do not come.
    #[serde(default)]
    pub published: u64,
    /// Columns that the table has and its changes do not carry.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hidden: BTreeSet<ColumnId>,
    /// For columns whose values are printed by other entries of the source's catalog: what those entries say, each as a number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shown: BTreeMap<ColumnId, BTreeSet<u32>>,
}

impl TableBody {
    /// Why rows may have got other values since without a word in the source's log, None when they cannot have; `schema` is the table's
    /// now. One that is emptied or packed gets another file only, one whose columns are added or dropped keeps its file. One that entered
    /// the publication of updates, for the first time or again, may have been changed before. A column that was hidden has values. Entries
    /// that are added are in no value yet.
    pub fn rewritten(&self, now: &Self, schema: &TableSchema) -> Option<&'static str> {
        let carried = |id: &ColumnId| schema.columns.iter().any(|c| c.id == *id);
        let known = |id: &ColumnId, facts: &BTreeSet<u32>| now.shown.get(id).is_some_and(|now| facts.is_subset(now));
        if now.published != 0 && self.published != now.published {
            return Some("its updates were not published for a while");
        }
        if self.file != now.file && self.columns != now.columns {
            return Some("the source wrote its rows anew");
        }
        if self.hidden.iter().any(|id| carried(id) && !now.hidden.contains(id)) {
            return Some("a column is no longer generated, and its values stay");
        }
        if self.shown.iter().any(|(id, facts)| carried(id) && !known(id, facts)) {
            return Some("its values are printed differently since a type or name of the source changed");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_named_one_parent_is_read() {
        #[derive(Deserialize)]
        struct Read {
            #[serde(default, alias = "parent", deserialize_with = "one_or_more")]
            parents: Vec<TableName>,
        }
        let check = |text: &str, expected: &[&str]| {
            let read: Read = serde_json::from_str(text).unwrap();
            assert_eq!(read.parents.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{text}");
        };
        check(r#"{"parent": {"schema": "shop", "name": "p"}}"#, &["shop.p"]);
        check(r#"{"parents": [{"schema": "shop", "name": "q"}, {"schema": "shop", "name": "p"}]}"#, &["shop.q", "shop.p"]);
        check("{}", &[]);
    }

    #[test]
    fn what_makes_rows_others() {
        let column = |id| crate::Column {
            id: ColumnId(id),
            name: format!("c{id}").as_str().into(),
            kind: crate::ColumnType::Text,
            not_null: false,
            source_type: "text".into(),
            type_modifier: -1,
            pg_type: None,
            missing_value: None,
        };
        let schema = |ids: &[i32]| TableSchema {
            upstream: crate::UpstreamId(1),
            name: TableName::new("public", "t"),
            version: 0,
            columns: ids.iter().map(|id| column(*id)).collect(),
            identity: crate::Identity::WholeRow,
            record_key: Vec::new(),
        };
        let body = |file, columns, hidden: &[i32], shown: &[(i32, &[u32])]| TableBody {
            file,
            columns,
            published: 1,
            hidden: hidden.iter().map(|id| ColumnId(*id)).collect(),
            shown: shown.iter().map(|(id, facts)| (ColumnId(*id), facts.iter().copied().collect())).collect(),
        };
        let check = |before: &TableBody, now: &TableBody, ids: &[i32], expected: bool| {
            assert_eq!(before.rewritten(now, &schema(ids)).is_some(), expected, "{before:?} {now:?} {ids:?}");
        };
        let plain = body(1, 1, &[], &[]);
        check(&plain, &plain, &[1], false);
        check(&plain, &body(2, 1, &[], &[]), &[1], false);
        check(&plain, &body(1, 2, &[], &[]), &[1], false);
        check(&plain, &body(2, 2, &[], &[]), &[1], true);
        let hidden = body(1, 1, &[2], &[]);
        check(&hidden, &plain, &[1, 2], true);
        check(&hidden, &plain, &[1], false);
        let shown = body(1, 1, &[], &[(1, &[5, 6])]);
        check(&shown, &body(1, 1, &[], &[(1, &[5, 6, 7])]), &[1], false);
        check(&shown, &body(1, 1, &[], &[(1, &[5, 7])]), &[1], true);
        check(&shown, &plain, &[1], true);
        check(&shown, &plain, &[2], false);
        check(&plain, &shown, &[1], false);
    }
}
