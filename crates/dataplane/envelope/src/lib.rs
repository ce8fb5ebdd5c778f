//! Change batches as Debezium envelopes in Avro, and back; barriers as records. The one place that knows both forms.
//!
//! Law, tested: `apply(batch) == apply(decode(encode(batch)))` for every kind of change, so that the decoded tail and a replay from the
//! log can never differ. The record format is fixed in `docs/rfcs/0003-envelope.md`.

mod avro;
mod barriers;
mod decode;
mod encode;
mod schemas;
pub mod tail;

pub use barriers::{barrier_append, decode_barrier, decode_table_record, table_append};
pub use decode::{Decoder, TopicItem};
pub use encode::{EncodeContext, encode, encode_generation};
pub use schemas::{SchemaIds, Schemas};
