//! Tables as DataFusion sees them. Each is opened with a pass from `enforce`; nothing else in this crate makes a provider.

mod files;
mod live;
mod living;
mod parents;
mod rows;
mod sealed;

pub(crate) use parents::{parent_columns, view_over};
pub(crate) use rows::{Columns, Rows};

use crate::enforce::Pass;
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use mainstem_types::TableName;
use mainstem_warehouse::{Snapshot, TableView};
use std::sync::Arc;

/// The reader of a live table at one snapshot.
pub(crate) fn open_live(
    pass: &Pass,
    name: &TableName,
    snapshot: &Arc<Snapshot>,
    view: &Arc<TableView>,
) -> Result<Arc<dyn TableProvider>> {
    sealed::sealed(pass, name, Arc::new(live::LiveTable::new(snapshot.clone(), view.clone())))
}

/// A table of the library's.
pub(crate) fn open_library(pass: &Pass, name: &TableName, table: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    sealed::sealed(pass, name, table)
}
