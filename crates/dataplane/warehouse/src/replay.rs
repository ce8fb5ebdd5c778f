//! From the log into live tables: groups that were too large for the tail, and everything after a restart.

use crate::codes;
use crate::spill::Hold;
use bytes::Bytes;
use mainstem_env::fault;
use mainstem_envelope::{Decoder, Schemas, TopicItem};
use mainstem_eventlog::{EventLog, PartitionReader, TopicPartition, codes as log_codes};
use mainstem_types::{Barrier, Error, Result, TableBatch, TableId};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Reads tables' topics on a thread of its own.
pub(crate) struct GroupReader {
    pub log: Arc<dyn EventLog>,
    pub schemas: Arc<Schemas>,
    pub runtime: Handle,
}

impl GroupReader {
    /// Applies the rows of a barrier that are only in the log.
    pub fn read(&self, state: &mut Hold<'_>, barrier: &Barrier) -> Result<()> {
        for end in &barrier.ends {
            if let Some(table) = state.topics.get(&end.topic).copied() {
                self.read_table(state, table, end.end)?;
            }
        }
        Ok(())
    }

    /// Applies a table's topic up to `end`; returns the number of events. What a generation has flushed is left out.
    pub fn read_table(&self, state: &mut Hold<'_>, id: TableId, end: i64) -> Result<u64> {
        let Some(table) = state.tables.get(&id).filter(|t| t.broken.is_none()) else { return Ok(0) };
        let at = TopicPartition { topic: table.record.topic.clone(), partition: 0 };
        let mut reader = PartitionReader::new(self.log.as_ref(), at.clone(), table.offset);
        let decoder = Decoder::new(self.schemas.clone());
        let mut events = 0;
        while reader.next() < end {
            let from = reader.next();
            let gone = |what: &str| {
                let text = format!("topic {} {what} offset {from}, which table {id} needs up to {end}", at.topic);
                Error::corrupt(codes::LOG_GONE, text).hint("Run RESYNC SOURCE ... TABLE ... to build the table anew.")
            };
            let batches = match self.runtime.block_on(reader.batches()) {
                Ok(batches) => batches.ok_or_else(|| gone("ends at"))?,
                Err(error) if error.code() == log_codes::OFFSET_OUT_OF_RANGE => {
                    return Err(gone("no longer has").caused_by(error));
                }
                Err(error) => return Err(error),
            };
            self.apply_read(state, id, &decoder, &batches, from, end, &mut events)?;
            fault::point("replay.read");
        }
        Ok(events)
    }

    #[allow(clippy::too_many_arguments)] // one step of the loop above
    fn apply_read(
        &self,
        state: &mut Hold<'_>,
        id: TableId,
        decoder: &Decoder,
        batches: &Bytes,
        offset: i64,
        end: i64,
        events: &mut u64,
    ) -> Result<()> {
        let (items, _) = decoder.decode(batches, offset, end)?;
        for item in items {
            let Some(table) = state.tables.get_mut(&id) else { break };
            match item {
                TopicItem::Generation(generation) => table.topic_generation = generation.0,
                TopicItem::Changes(changes) => {
                    *events += changes.len() as u64;
                    let generation = mainstem_types::Generation(table.topic_generation);
                    let wanted = table.rows().any(|r| r.home.generation == generation);
                    if wanted || (table.record.generation == generation && generation.0 > table.discarded) {
                        state.apply(&TableBatch { table: id, generation, changes: Arc::new(changes) });
                        state.make_room();
                    }
                }
            }
        }
        Ok(())
    }
}
