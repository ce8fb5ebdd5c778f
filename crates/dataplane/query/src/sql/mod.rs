//! From a client's text to something that runs: our own statements, session commands, and queries for DataFusion.

pub(crate) mod bounds;
pub(crate) mod commands;
pub(crate) mod declarations;
pub(crate) mod dialect;
pub(crate) mod errors;
pub(crate) mod names;
pub(crate) mod parsed;
mod postgres;
pub(crate) mod rewrite;
mod subqueries;
pub(crate) mod text;
