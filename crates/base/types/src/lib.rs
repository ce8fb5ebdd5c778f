//! The words every layer shares: identities, schemas, change batches, barriers, errors, and the traits by which doors reach engines.
//!
//! An item is admitted only when two crates need it today. No settings, no I/O.

pub mod barrier;
pub mod batch;
pub mod control;
pub mod error;
pub mod health;
pub mod ids;
pub mod metrics;
pub mod schema;
pub mod source_block;
pub mod sources;
pub mod sql;
pub mod system;

pub use barrier::{Barrier, PartitionEnd, TableBody, TableRecord, TableState};
pub use batch::{ChangeBatch, Op, TableBatch, Tx};
pub use error::{Code, Error, ErrorKind, Result};
pub use ids::{ColumnId, Generation, Position, Principal, SourceName, TableId, TableName, UpstreamId};
pub use schema::{Column, ColumnType, Identity, TableSchema};
