//! What PostgreSQL's changes and types look like from outside: Debezium's source block of its connector, and how each type is held.

use mainstem_connector::TypeSpec;
use mainstem_types::source_block::{SourceBlock, SourceFact, SourceField};

/// As Debezium's PostgreSQL connector writes it. It is in topics: its form does not change.
pub const SOURCE_BLOCK: SourceBlock = SourceBlock {
    connector: "postgresql",
    namespace: "io.debezium.connector.postgresql",
    fields: &[
        SourceField::plain("version", SourceFact::Version),
        SourceField::plain("connector", SourceFact::Connector),
        SourceField::plain("name", SourceFact::Source),
        SourceField::plain("ts_ms", SourceFact::CommitMs),
        SourceField::optional("snapshot", SourceFact::Snapshot),
        SourceField::plain("db", SourceFact::Database),
        SourceField::optional("sequence", SourceFact::Sequence),
        SourceField::optional("ts_us", SourceFact::CommitUs),
        SourceField::optional("ts_ns", SourceFact::CommitNs),
        SourceField::plain("schema", SourceFact::Schema),
        SourceField::plain("table", SourceFact::Table),
        SourceField::optional("txId", SourceFact::Transaction),
        SourceField::optional("lsn", SourceFact::Place),
        SourceField::optional("xmin", SourceFact::NoNumber),
    ],
};

const fn held(names: &'static str, held: &'static str, refused: &'static str) -> TypeSpec {
    TypeSpec { names, shown: "itself", held, refused }
}

/// RFC 0005, for readers.
pub const TYPES: &[TypeSpec] = &[
    held("`bool`", "Boolean", ""),
    held("`int2`, `int4`, `int8`", "Int16, Int32, Int64", ""),
    held("`float4`, `float8`", "Float32, Float64", ""),
    held("`numeric(p,s)` with p <= 38 and 0 <= s <= p", "Decimal128(p,s)", "NaN, infinities"),
    held("`text`, `varchar`, `bpchar`, `name`", "Utf8", ""),
    held("`bytea`", "Binary", ""),
    held("`date`", "Date32", "infinities, years before 1"),
    held("`time`", "Time64(us)", "24:00:00"),
    held("`timestamp`, `timestamptz`", "Timestamp(us)", "infinities, years before 1 and after 294246"),
    held("`uuid`, `json`, `jsonb`, enums", "Utf8", ""),
    held("all others, arrays included", "Utf8: the exact text that Postgres prints", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The field of Debezium's envelope as it has stood in topics from the first version on.
    const WRITTEN: &str = r#"{"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":[{"name":"version","type":"string"},{"name":"connector","type":"string"},{"name":"name","type":"string"},{"name":"ts_ms","type":"long"},{"name":"snapshot","type":[{"type":"string","connect.version":1,"connect.parameters":{"allowed":"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"connect.default":"false","connect.name":"io.debezium.data.Enum"},"null"],"default":"false"},{"name":"db","type":"string"},{"name":"sequence","type":["null","string"],"default":null},{"name":"ts_us","type":["null","long"],"default":null},{"name":"ts_ns","type":["null","long"],"default":null},{"name":"schema","type":"string"},{"name":"table","type":"string"},{"name":"txId","type":["null","long"],"default":null},{"name":"lsn","type":["null","long"],"default":null},{"name":"xmin","type":["null","long"],"default":null}],"connect.name":"io.debezium.connector.postgresql.Source"}}"#;

    #[test]
    fn the_block_is_what_topics_hold() {
        assert_eq!(SOURCE_BLOCK.avro(), WRITTEN);
    }
}
