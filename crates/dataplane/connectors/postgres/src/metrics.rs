//! What this connector counts.

use mainstem_types::metrics::{Counter, Metric};

pub static ROWS_STREAMED: Counter = Counter::new(
    "mainstem_postgres_rows_streamed_total",
    "Row changes decoded from the log of databases. Its rate is the load that sources make; compare it with the applied rows.",
);
pub static ROWS_COPIED: Counter =
    Counter::new("mainstem_postgres_rows_copied_total", "Rows read by table copies. Its rate says when a copy will be done.");
pub static COPY_PIECES: Counter = Counter::new(
    "mainstem_postgres_copy_pieces_total",
    "Pieces of tables read by copies. Rises while a large table is copied side by side.",
);
pub static CHANNEL_BOUND_LOGINS: Counter = Counter::new(
    "mainstem_postgres_channel_bound_logins_total",
    "Log-ins at databases that were bound to their TLS channel (SCRAM-SHA-256-PLUS). Zero with TLS: ask why.",
);
pub static CATALOG_READS: Counter = Counter::new(
    "mainstem_postgres_catalog_reads_total",
    "Reads of a whole database catalog. A high rate says that the source's schema changes all the time.",
);
pub static BYTES_READ: Counter =
    Counter::new("mainstem_postgres_read_bytes_total", "Bytes from databases. Its rate is the network that capture takes.");
pub static STREAMED_BLOCKS: Counter = Counter::new(
    "mainstem_postgres_stream_blocks_total",
    "Blocks of transactions received while still open. Rises with large transactions at the source.",
);
pub static SPOOLED_BYTES: Counter = Counter::new(
    "mainstem_postgres_spooled_bytes_total",
    "Bytes of open transactions that went to the spool. Plan its disk space by it.",
);
pub static BULK_CHUNKS: Counter =
    Counter::new("mainstem_postgres_bulk_chunks_total", "Chunks read in bulk. Rises only while a source catches up.");
pub static BULK_MESSAGES: Counter =
    Counter::new("mainstem_postgres_bulk_messages_total", "Messages read in bulk. Its rate says how fast a source catches up.");

pub fn all() -> &'static [&'static dyn Metric] {
    static ALL: &[&dyn Metric] = &[
        &ROWS_STREAMED,
        &ROWS_COPIED,
        &COPY_PIECES,
        &CHANNEL_BOUND_LOGINS,
        &CATALOG_READS,
        &BYTES_READ,
        &STREAMED_BLOCKS,
        &SPOOLED_BYTES,
        &BULK_CHUNKS,
        &BULK_MESSAGES,
    ];
    ALL
}
