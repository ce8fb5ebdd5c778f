//! Live tables: a hot Arrow tier, a key index and Delta tables of Parquet files with deletion vectors, all moving from barrier to barrier.

mod snapshot;

pub use snapshot::{FileView, HotView, Snapshot, TableView, ValueRange};
