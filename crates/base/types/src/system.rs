//! System tables: how a part of the server shows its state in SQL, as `mainstem.<name>`. Each crate exports its own, as it does its
//! metrics; the server gathers them, the query engine shows them and knows none by name.

use crate::ids::Principal;

/// Columns and their types, by Postgres's names for them.
pub type Columns = &'static [(&'static str, Kind)];

type RowsOf = dyn Fn(&Principal) -> Vec<Vec<Cell>> + Send + Sync;

/// One table. Its rows are made when a statement opens it.
pub struct SystemTable {
    pub name: &'static str,
    pub columns: Columns,
    rows: Box<RowsOf>,
}

impl SystemTable {
    /// `rows` gives what the principal may see, a cell per column.
    pub fn new(
        name: &'static str,
        columns: Columns,
        rows: impl Fn(&Principal) -> Vec<Vec<Cell>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, columns, rows: Box::new(rows) }
    }

    /// A table that is the administrator's business; others see no row of it.
    pub fn of_admin(name: &'static str, columns: Columns, rows: impl Fn() -> Vec<Vec<Cell>> + Send + Sync + 'static) -> Self {
        Self::new(name, columns, move |principal| if principal.is_admin() { rows() } else { Vec::new() })
    }

    pub fn rows(&self, principal: &Principal) -> Vec<Vec<Cell>> {
        (self.rows)(principal)
    }
}

/// A column's type, by its Postgres name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Text,
    /// An object id; int4 inside.
    Oid,
    /// Postgres's `name`.
    Name,
    /// Postgres's one-byte `"char"`.
    Char,
    /// Microseconds since 1970-01-01T00:00:00Z.
    TimestampTz,
    /// text[]
    Texts,
    /// int2[]
    Int2s,
}

/// A value; it must fit its column's kind, else it is shown as NULL.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}
impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<i32> for Cell {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}
impl From<i16> for Cell {
    fn from(value: i16) -> Self {
        Self::Int(value.into())
    }
}
impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::Int(value as i64)
    }
}
impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self::Int(value as i64)
    }
}
impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
