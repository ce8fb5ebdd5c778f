//! Reads a partition in order. The one place that knows how a reader gets from one read to the next.

use crate::batch::{headers, records};
use crate::{EventLog, RecordRef, TopicPartition, codes};
use bytes::Bytes;
use mainstem_types::{Error, Result};

/// Bytes asked for at once: large enough that reading runs at the disk's rate, small enough to be held while it is decoded.
const READ_BYTES: usize = 4 << 20;

/// Reads one partition from an offset on, as far as the log goes at each call.
pub struct PartitionReader<'a> {
    log: &'a dyn EventLog,
    at: TopicPartition,
    next: i64,
}

impl<'a> PartitionReader<'a> {
    pub fn new(log: &'a dyn EventLog, at: TopicPartition, from: i64) -> Self {
        Self { log, at, next: from }
    }

    /// The offset it goes on from.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The next whole batches; None when the log has no more yet. The first may begin before [`next`](Self::next) as it was before the
    /// call. Errors as of [`EventLog::read`]: `LOG-004` without such a partition, `LOG-005` when it no longer, or not yet, reaches
    /// that offset; after an error the reader stands where it stood.
    pub async fn batches(&mut self) -> Result<Option<Bytes>> {
        let fetched = self.log.read(&self.at, self.next, READ_BYTES).await?;
        if fetched.batches.is_empty() {
            return Ok(None);
        }
        let mut end = self.next;
        for item in headers(&fetched.batches) {
            end = item?.1.end();
        }
        if end <= self.next {
            let text = format!("offset {} of {} cannot be read: what stands there ends before it", self.next, self.at);
            return Err(Error::corrupt(codes::BAD_BATCH, text));
        }
        self.next = end;
        Ok(Some(fetched.batches))
    }

    /// The next records, at least one, all at or above the offset it stood at; None when the log has no more yet. Errors as of
    /// [`batches`](Self::batches), and `LOG-003` for bytes that are no records.
    pub async fn records(&mut self) -> Result<Option<Vec<RecordRef>>> {
        let from = self.next;
        let Some(batches) = self.batches().await? else { return Ok(None) };
        let decoded = records(&batches).inspect_err(|_| self.next = from)?;
        Ok(Some(decoded.into_iter().filter(|record| record.offset >= from).collect()))
    }
}
