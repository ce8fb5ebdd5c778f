//! Live tables: a hot Arrow tier, a key index and Delta tables of Parquet files with deletion vectors, all moving from barrier to barrier.

mod apply;
mod by_name;
mod codes;
mod compact;
mod context;
mod delta;
mod files;
mod flush;
#[doc(hidden)]
pub mod fuzz;
mod index;
mod keys;
mod memory;
mod merge;
pub mod metrics;
mod open;
mod reindex;
mod replay;
mod rows;
mod run;
mod seal;
mod segment;
mod segment_writer;
mod settings;
mod snapshot;
mod source;
mod spill;
mod state;
mod system;
mod table;
mod warehouse;

pub use seal::Seal;
pub use settings::WarehouseSettings;
pub use snapshot::{FileView, HotView, Snapshot, TableView, ValueRange};
pub use system::system_tables;
pub use warehouse::Warehouse;
