//! Avro's binary primitives and the Avro schema of a table's key and envelope.
