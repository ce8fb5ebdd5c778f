//! SQL over the warehouse's snapshots. The only crate that names DataFusion.
