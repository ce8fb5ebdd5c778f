//! Barriers and table records: the facts by which source position, log and live tables agree (`docs/rfcs/0002-barriers.md`).

use crate::ids::{Generation, Position, SourceName, TableId, TableName};
use crate::schema::TableSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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
    /// For partitioned and inherited tables: the parent's query name, over whose leaves a view is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TableName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
    /// What the source's catalog last said of where its rows lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<TableBody>,
}

/// Where a table's rows lie in its source, how their columns came to be and by what its changes come, as numbers that mean nothing but
/// "another one".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableBody {
    pub file: u64,
    pub columns: u64,
    /// 0 = its updates and deletes do not come.
    #[serde(default)]
    pub published: u64,
}

impl TableBody {
    /// Whether rows may have got other values since without a word in the source's log: one that is emptied or packed gets another file
    /// only, one whose columns are added or dropped keeps its file. One that entered the publication of updates, for the first time or
    /// again, may have been changed before.
    pub fn rewritten(&self, now: &Self) -> bool {
        let away = now.published != 0 && self.published != now.published;
        away || self.file != now.file && self.columns != now.columns
    }
}
