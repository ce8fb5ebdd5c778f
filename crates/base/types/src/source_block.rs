//! Debezium's `source` block as a connector declares it: envelopes say in it where a change comes from, in the words of the system.

/// The block of one connector. Every reader finds `sequence` (`["<commit's place>","<place>"]`), `ts_us` and, where transactions have
/// numbers, `txId` in it under these names; the rest is for readers outside.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceBlock {
    /// Debezium's name of the connector, `source.connector`.
    pub connector: &'static str,
    /// Namespace of the Avro record, e.g. `io.debezium.connector.postgresql`.
    pub namespace: &'static str,
    /// In the record's order.
    pub fields: &'static [SourceField],
}

#[derive(Debug, PartialEq, Eq)]
pub struct SourceField {
    pub name: &'static str,
    /// A union with null, null first and default; `Snapshot` has a form of its own.
    pub optional: bool,
    pub fact: SourceFact,
}

impl SourceField {
    pub const fn plain(name: &'static str, fact: SourceFact) -> Self {
        Self { name, optional: false, fact }
    }

    pub const fn optional(name: &'static str, fact: SourceFact) -> Self {
        Self { name, optional: true, fact }
    }
}

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFact {
    /// Ours, as Debezium gives its own.
    Version,
    /// `SourceBlock::connector`
    Connector,
    /// The source's name here.
    Source,
    /// Time of the commit; of the snapshot for its rows.
    CommitMs,
    CommitUs,
    CommitNs,
    /// `true` for rows of a snapshot, else `false`.
    Snapshot,
    Database,
    Schema,
    Table,
    /// Both places as text.
    Sequence,
    /// The transaction's number; null when it has none.
    Transaction,
    /// The event's place in the source's log.
    Place,
    /// Never given here; a number where it is.
    NoNumber,
}

impl SourceFact {
    /// The Avro type of its values.
    pub fn avro(self) -> &'static str {
        match self {
            Self::Version
            | Self::Connector
            | Self::Source
            | Self::Snapshot
            | Self::Database
            | Self::Schema
            | Self::Table
            | Self::Sequence => "string",
            Self::CommitMs | Self::CommitUs | Self::CommitNs | Self::Transaction | Self::Place | Self::NoNumber => "long",
        }
    }
}

impl SourceBlock {
    /// For a system that Debezium does not know: what readers here need, and nothing in the words of a system.
    pub const fn plain(connector: &'static str, namespace: &'static str) -> Self {
        Self { connector, namespace, fields: PLAIN }
    }

    /// The field `source` of an envelope's Avro schema, as Connect's converter writes it.
    pub fn avro(&self) -> String {
        let fields: Vec<_> = self.fields.iter().map(SourceField::avro).collect();
        format!(
            r#"{{"name":"source","type":{{"type":"record","name":"Source","namespace":"{0}","fields":[{1}],"connect.name":"{0}.Source"}}}}"#,
            self.namespace,
            fields.join(",")
        )
    }
}

impl SourceField {
    fn avro(&self) -> String {
        let (name, kind) = (self.name, self.fact.avro());
        if self.fact == SourceFact::Snapshot {
            return format!(
                r#"{{"name":"{name}","type":[{{"type":"string","connect.version":1,"connect.parameters":{{"allowed":"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"}},"connect.default":"false","connect.name":"io.debezium.data.Enum"}},"null"],"default":"false"}}"#
            );
        }
        match self.optional {
            true => format!(r#"{{"name":"{name}","type":["null","{kind}"],"default":null}}"#),
            false => format!(r#"{{"name":"{name}","type":"{kind}"}}"#),
        }
    }
}

const PLAIN: &[SourceField] = &[
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
];
