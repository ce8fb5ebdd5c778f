//! The one place where it is decided whether, and how much of, a table a principal sees.
//!
//! A table can be opened with a [`Pass`] only, and only [`decide`] makes one: there is no way to rows that goes around it. Row filters
//! and masks will be fields of the pass, which `tables` applies; `admin`, the only principal yet, sees everything.

use crate::codes;
use mainstem_types::{Error, Principal, Result, TableName};

/// The leave to read one table, by one principal.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    table: TableName,
}

impl Pass {
    /// The table that this pass opens.
    pub(crate) fn table(&self) -> &TableName {
        &self.table
    }
}

/// Decides about one access. Fails closed: whom it does not know, it refuses.
pub(crate) fn decide(principal: &Principal, table: &TableName) -> Result<Pass> {
    if principal.0.as_ref() != "admin" {
        return Err(Error::denied(codes::NOT_ALLOWED, format!("{principal} may not read {table}"))
            .hint("Connect as admin: there are no other users yet."));
    }
    Ok(Pass { table: table.clone() })
}
