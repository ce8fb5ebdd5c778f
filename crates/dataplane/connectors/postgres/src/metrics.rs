//! What this connector counts.

use mainstem_types::metrics::{Counter, Metric};

pub static ROWS_STREAMED: Counter =
    Counter::new("mainstem_postgres_rows_streamed_total", "How many row changes were decoded from the log of databases?");
pub static ROWS_COPIED: Counter = Counter::new("mainstem_postgres_rows_copied_total", "How many rows were read by table copies?");
pub static COPY_PIECES: Counter =
    Counter::new("mainstem_postgres_copy_pieces_total", "How many pieces of tables were read by copies?");
pub static CHANNEL_BOUND_LOGINS: Counter = Counter::new(
    "mainstem_postgres_channel_bound_logins_total",
    "How many logins were bound to their TLS channel (SCRAM-SHA-256-PLUS)?",
);
pub static CATALOG_READS: Counter =
    Counter::new("mainstem_postgres_catalog_reads_total", "How often was the whole catalog of a database read?");
pub static BYTES_READ: Counter = Counter::new("mainstem_postgres_read_bytes_total", "How many bytes came from databases?");
pub static STREAMED_BLOCKS: Counter =
    Counter::new("mainstem_postgres_stream_blocks_total", "How many blocks of transactions in progress were received?");
pub static SPOOLED_BYTES: Counter =
    Counter::new("mainstem_postgres_spooled_bytes_total", "How many bytes of transactions in progress went to the spool?");
pub static BULK_CHUNKS: Counter =
    Counter::new("mainstem_postgres_bulk_chunks_total", "How many chunks were read in bulk while catching up?");
pub static BULK_MESSAGES: Counter =
    Counter::new("mainstem_postgres_bulk_messages_total", "How many messages were read in bulk while catching up?");

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
