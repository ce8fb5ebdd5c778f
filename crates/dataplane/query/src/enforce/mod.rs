//! The one place where it is decided what a principal may know and read.
//!
//! Two things are asked here. [`visible`]: the tables that exist for a principal at all; a statement resolves names, gives hints, counts and
//! fills catalogs from these alone. [`decide`]: the pass to one table; there is no way to rows that goes around it, because only a pass
//! makes a reader (`tables::sealed`), which keeps it. Until policies come, `admin` sees everything and others no table but our own system
//! tables, whose rows are chosen by principal where they are made.

use crate::codes;
use crate::system;
use datafusion::logical_expr::Expr;
use mainstem_types::{Error, Principal, Result, TableName};
use mainstem_warehouse::Snapshot;
use std::sync::Arc;

/// The leave to read one table.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    table: TableName,
    /// Which of its rows; None = all.
    only: Option<Expr>,
}

impl Pass {
    /// The table that this pass opens.
    pub(crate) fn table(&self) -> &TableName {
        &self.table
    }

    /// The condition that rows must meet to be seen.
    pub(crate) fn only(&self) -> Option<&Expr> {
        self.only.as_ref()
    }

    #[cfg(test)]
    pub(crate) fn of_rows(table: &TableName, only: Expr) -> Self {
        Self { table: table.clone(), only: Some(only) }
    }
}

/// What exists for a principal.
pub(crate) fn visible(principal: &Principal, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
    if principal.is_admin() { snapshot } else { Arc::default() }
}

/// Decides about one access. Fails closed: whom it does not know, it refuses.
pub(crate) fn decide(principal: &Principal, table: &TableName) -> Result<Pass> {
    let ours = system::SCHEMAS.contains(&table.schema.as_ref());
    if principal.is_admin() || ours {
        return Ok(Pass { table: table.clone(), only: None });
    }
    Err(Error::denied(codes::NOT_ALLOWED, format!("permission denied for table {table}"))
        .hint("Ask an administrator of this server."))
}
