//! Change batches as Debezium envelopes in Avro, and back; barriers as records. The one place that knows both forms.
//!
//! Law, tested: `apply(batch) == apply(decode(encode(batch)))` for every kind of change, so that the decoded tail and a replay from the
//! log can never differ. The record format is fixed in `docs/rfcs/0003-envelope.md`.

mod avro;
mod avro_schema;
mod barriers;
mod cells;
pub mod codes;
mod decode;
mod encode;
pub mod metrics;
mod schemas;
mod source_block;
pub mod tail;
mod zoned;

pub use barriers::{barrier_append, table_append};
pub use decode::{Decoder, TopicItem};
pub use encode::{encode, encode_generation};
pub use schemas::{SCHEMA_TOPIC, SchemaIds, Schemas};
pub use source_block::EncodeContext;
