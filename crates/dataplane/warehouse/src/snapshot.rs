//! What one query sees: every table of a source at the same barrier. Immutable and cheap to clone; holding it keeps its files.

use crate::seal::Seal;
use arrow::array::{ArrayRef, RecordBatch};
use mainstem_types::{SourceName, TableName, TableRecord, TableSchema};
use roaring::RoaringBitmap;
use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// All tables at one moment. Within a source all are at the same barrier.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By the name under which they are queried, (schema, name).
    pub tables: BTreeMap<TableName, Arc<TableView>>,
    /// Barrier sequence number per source.
    pub seqs: BTreeMap<SourceName, u64>,
    /// Partitioned and inherited parents (by query name) and the leaves over which they are views, in name order. A parent that has rows of
    /// its own (inheritance) is among its leaves and also in `tables`... under its own name the view wins.
    pub parents: BTreeMap<TableName, Vec<TableName>>,
}

/// One table.
#[derive(Debug)]
pub struct TableView {
    pub record: Arc<TableRecord>,
    /// The columns readers see. `record.schema` may be ahead while a rebuild runs.
    pub schema: Arc<TableSchema>,
    /// False until its first generation is whole: a query on it fails with its progress (`rows_copied`).
    pub readable: bool,
    pub rows_copied: u64,
    pub hot: Vec<HotView>,
    pub files: Vec<Arc<FileView>>,
    /// Live rows in hot and files together.
    pub rows: u64,
    pub deleted_rows: u64,
    pub delta_version: Option<u64>,
    /// The Delta table's directory.
    pub location: PathBuf,
    /// Last barrier's position in its source that changed or confirmed this table.
    pub position: Option<String>,
}

/// Rows in memory, in `TableSchema::arrow_views` types.
#[derive(Clone, Debug)]
pub struct HotView {
    pub batch: RecordBatch,
    /// Dead rows of `batch`; None = none.
    pub deleted: Option<Arc<RoaringBitmap>>,
}

/// A Parquet file with the rows of it that are dead.
#[derive(Debug)]
pub struct FileView {
    pub path: PathBuf,
    pub bytes: u64,
    /// Rows in the file, dead ones included.
    pub rows: u64,
    /// Rows of each row group, dead ones included.
    pub row_groups: Arc<[u64]>,
    /// None = none are dead.
    pub deleted: Option<Arc<RoaringBitmap>>,
    /// Per column of the file's schema, by column name: what file pruning needs. Missing = unknown.
    pub ranges: Arc<BTreeMap<Arc<str>, ValueRange>>,
    /// The checksums through which it is read.
    pub seal: Arc<Seal>,
    /// A place for what the reader derives from this view (its piece of a plan); lives as long as the view is unchanged.
    pub derived: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// Smallest and largest value (one-row arrays in `arrow_views` types) and count of NULLs, over all rows of a file, dead ones included.
#[derive(Clone, Debug)]
pub struct ValueRange {
    pub min: Option<ArrayRef>,
    pub max: Option<ArrayRef>,
    pub nulls: u64,
}
