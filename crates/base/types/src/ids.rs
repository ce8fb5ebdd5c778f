//! Identities. One concept, one type: two bare integers are never told apart by a comment.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                text.parse().map(Self)
            }
        }
    };
}

number_id!(
    /// A table of ours, for ever: names change, ids do not. Part of file paths; dense from 1, never reused in a data directory.
    TableId,
    u64
);
number_id!(
    /// One filling of a table. A rebuild is a new generation beside the old one; readers move at one barrier. Starts at 1.
    Generation,
    u32
);
number_id!(
    /// A column within its table (Postgres: `attnum`). Survives renames; becomes the Parquet `field_id`.
    ColumnId,
    i32
);
number_id!(
    /// A table in the source's own numbering (Postgres: oid).
    UpstreamId,
    u64
);

/// Name of a source: lower case, `[a-z][a-z0-9_]*`, at most 48 bytes, and none that a schema of ours could collide with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(Arc<str>);

/// A source's name becomes part of slot, publication and topic names; 48 leaves room for `mainstem_` and `_append` in Postgres's 63 bytes.
pub const SOURCE_NAME_BYTES_MAX: usize = 48;

impl SourceName {
    /// Checks the form only; collisions with other sources are the control plane's to find.
    pub fn new(name: &str) -> Result<Self, String> {
        let mut bytes = name.bytes();
        let starts = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !starts || !rest || name.len() > SOURCE_NAME_BYTES_MAX {
            return Err(format!(
                "a source's name starts with a letter and has only a-z, 0-9 and _, at most {SOURCE_NAME_BYTES_MAX} bytes"
            ));
        }
        if name.starts_with("pg_") || matches!(name, "mainstem" | "information_schema" | "public") {
            return Err(format!("`{name}` is the name of a system schema"));
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::new(name)
    }
}

impl TryFrom<String> for SourceName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Self::new(&name)
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> String {
        name.0.to_string()
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `schema.name`, exactly as the system that owns it spells it (no folding, no quotes).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    pub schema: Arc<str>,
    pub name: Arc<str>,
}

impl TableName {
    pub fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A place in a source's own log, in the text form of its connector. Opaque here: only the connector compares two of them
/// (`Source::covers`), because GTID sets and the like have no total order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub Arc<str>);

impl Position {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The user that is always there and may do everything.
pub const ADMIN: &str = "admin";

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(pub Arc<str>);

impl Principal {
    pub fn admin() -> Self {
        Self(ADMIN.into())
    }

    pub fn is_admin(&self) -> bool {
        self.0.as_ref() == ADMIN
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
