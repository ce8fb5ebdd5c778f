//! Tables as DataFusion sees them. Each is opened with a pass from `enforce`; nothing else in this crate makes a provider.

mod files;
mod live;
mod living;
mod parents;
mod rows;

pub(crate) use live::LiveTable;
pub(crate) use parents::{parent_columns, view_over};
pub(crate) use rows::{Cell, Columns, Kind, Rows};

use crate::enforce::Pass;
use datafusion::catalog::TableProvider;
use mainstem_warehouse::{Snapshot, TableView};
use std::sync::Arc;

/// The reader of a live table at one snapshot.
pub(crate) fn open_live(pass: &Pass, snapshot: &Arc<Snapshot>, view: &Arc<TableView>) -> Arc<dyn TableProvider> {
    Arc::new(LiveTable::new(pass, snapshot.clone(), view.clone()))
}
