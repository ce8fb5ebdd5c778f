//! Checkpoints: the state of a Delta table in one Parquet file, so that readers need not read every commit.

use super::DeltaTable;
use super::load::Replay;
use mainstem_types::Result;

impl DeltaTable {
    /// Adds the last checkpoint's actions; returns its version.
    pub(super) fn load_checkpoint(&self, _replay: &mut Replay) -> Result<Option<u64>> {
        Ok(None)
    }
}
