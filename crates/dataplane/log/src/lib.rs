//! The log on this machine's disk: topics of Kafka-format segments behind one commit WAL. What a call returned as appended survives a
//! power cut. Its only face is `EventLog`, the contract in `mainstem-eventlog`.

mod checkpoint;
mod cleaner;
pub mod codes;
mod committer;
mod compaction;
mod entry;
mod files;
mod index;
mod local;
pub mod metrics;
mod partition;
mod queue;
mod recovery;
mod retention;
mod segment;
mod settings;
mod system;
mod topics;
mod wal;
mod writer;

pub use local::{LocalLog, LogSettings};
pub use system::system_tables;

/// Shows bytes to every decoder of the log's own files, and to compaction; for fuzzing.
#[doc(hidden)]
pub fn decode_any(bytes: &[u8]) {
    let _ = entry::decode(bytes);
    let _ = checkpoint::Checkpoint::decode(bytes, std::path::Path::new("checkpoint"));
    let copied = bytes::Bytes::copy_from_slice(bytes);
    if let Some(Ok((_, header))) = mainstem_eventlog::batch::headers(&copied).next()
        && let Ok(kept) = mainstem_eventlog::batch::retain(&copied.slice(..header.bytes), Some(7), |view, _| view.offset % 2 == 0)
    {
        assert!(mainstem_eventlog::records(&kept).is_ok(), "what was read must be writable");
    }
    let (offsets, times) = bytes.split_at(bytes.len() / 16 * 8);
    if let Some(indexes) = index::Indexes::decode(offsets, times, 1 << 20, 0) {
        let _ = indexes.position_of(1 << 10);
    }
}
