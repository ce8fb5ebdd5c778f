//! Row changes gathered into one Arrow batch per table, in commit order. Values go from the wire's text straight into builders.

use crate::codes;
use crate::pgoutput::{Old, Tuple, Value};
use crate::value::{ColumnBuilder, Misfit};
use arrow::array::{RecordBatch, RecordBatchOptions};
use mainstem_connector::BadRow;
use mainstem_types::{ChangeBatch, ColumnId, Error, Op, Result, TableSchema, Tx};
use std::collections::HashMap;
use std::sync::Arc;

/// Rough cost of one event beside its values.
const ROW_BYTES: usize = 32;

/// The changes of several tables, not yet handed out.
#[derive(Default)]
pub struct Gathered {
    tables: Vec<TableRows>,
    by_oid: HashMap<u32, usize>,
    bytes: usize,
}

/// Which event of which transaction.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub tx: Tx,
    pub lsn: u64,
    pub order: u32,
}

impl Gathered {
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|t| t.ops.is_empty())
    }

    /// About the bytes of decoded values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn count(&mut self, bytes: usize) {
        self.bytes += bytes + ROW_BYTES;
    }

    pub fn table(&mut self, oid: u32, schema: &Arc<TableSchema>) -> &mut TableRows {
        let at = match self.by_oid.get(&oid) {
            Some(at) if Arc::ptr_eq(&self.tables[*at].schema, schema) => *at,
            _ => {
                self.tables.push(TableRows::new(schema.clone()));
                self.by_oid.insert(oid, self.tables.len() - 1);
                self.tables.len() - 1
            }
        };
        &mut self.tables[at]
    }

    /// Forgets what was gathered of a table.
    pub fn forget(&mut self, oid: u32) {
        self.by_oid.remove(&oid);
        self.tables.retain(|t| t.schema.upstream.0 != u64::from(oid));
        self.by_oid = self.tables.iter().enumerate().map(|(at, t)| (t.schema.upstream.0 as u32, at)).collect();
    }

    pub fn take(&mut self) -> Result<Vec<ChangeBatch>> {
        self.bytes = 0;
        self.by_oid.clear();
        std::mem::take(&mut self.tables).into_iter().filter(|t| !t.ops.is_empty()).map(TableRows::finish).collect()
    }
}

/// The changes of one table.
pub struct TableRows {
    schema: Arc<TableSchema>,
    columns: Vec<ColumnBuilder>,
    /// Per column: whether it belongs to the identity.
    identity: Vec<bool>,
    old: Vec<ColumnBuilder>,
    old_rows: Vec<u32>,
    ops: Vec<Op>,
    places: Vec<u64>,
    orders: Vec<u32>,
    txs: Vec<(u32, Tx)>,
    unchanged: Vec<(u32, Vec<ColumnId>)>,
    /// Rows with a value that cannot be held, ascending: they stand half built among the others until the end.
    bad: Vec<u32>,
}

/// What became of a row.
#[derive(Debug)]
pub enum Taken {
    Whole,
    /// Left out; it is to be reported.
    Bad(Box<BadRow>),
}

/// A batch of rows without columns still needs their number.
fn record_batch(schema: &TableSchema, columns: &mut [ColumnBuilder], rows: usize) -> Result<RecordBatch> {
    let arrays = columns.iter_mut().map(ColumnBuilder::finish).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.arrow(), arrays, &options)
        .map_err(|e| Error::bug(codes::PROTOCOL, format!("rows of {} do not make a batch", schema.name)).caused_by(e))
}

impl TableRows {
    pub fn new(schema: Arc<TableSchema>) -> Self {
        let columns = schema.columns.iter().map(|c| ColumnBuilder::new(&c.kind)).collect();
        let mut identity = vec![false; schema.columns.len()];
        for at in schema.identity_indexes() {
            identity[at] = true;
        }
        Self {
            columns,
            identity,
            old: Vec::new(),
            old_rows: Vec::new(),
            ops: Vec::new(),
            places: Vec::new(),
            orders: Vec::new(),
            txs: Vec::new(),
            unchanged: Vec::new(),
            bad: Vec::new(),
            schema,
        }
    }

    fn misfit(&self, column: usize, misfit: Misfit) -> Error {
        let column = &self.schema.columns[column];
        let (table, name, kind) = (&self.schema.name, &column.name, &column.source_type);
        Error::fix(codes::VALUE, format!("{table}: a value of column `{name}` ({kind}) {}", misfit.0)).hint(
            "Change the value in the source, take the table out of `tables`, or set on_bad_value = 'dead_letter', then \
                 RESYNC SOURCE ... TABLE ...",
        )
    }

    /// Why a value does not fit, and the row completed with NULLs from its column on: it is left out at the end.
    fn unheld(&mut self, column: usize, misfit: Misfit) -> Error {
        self.columns[column..].iter_mut().for_each(ColumnBuilder::append_null);
        self.misfit(column, misfit)
    }

    /// Ends a row that is left out.
    fn end_bad(&mut self, op: Op, event: Event, error: Error, values: Vec<Option<String>>) -> Taken {
        self.bad.push(self.ops.len() as u32);
        self.end_row(op, event);
        let Event { tx, lsn: place, order } = event;
        Taken::Bad(Box::new(BadRow { schema: self.schema.clone(), op, tx, place, order, values, error }))
    }

    fn malformed(&self, what: &str) -> Error {
        Error::retry(codes::PROTOCOL, format!("{}: {what}", self.schema.name))
    }

    fn end_row(&mut self, op: Op, event: Event) {
        self.ops.push(op);
        self.places.push(event.lsn);
        self.orders.push(event.order);
        let end = self.ops.len() as u32;
        match self.txs.last_mut() {
            Some((last, tx)) if *tx == event.tx => *last = end,
            _ => self.txs.push((end, event.tx)),
        }
    }

    fn check_count(&self, tuple: &Tuple<'_>) -> Result<()> {
        if usize::from(tuple.count) == self.columns.len() {
            return Ok(());
        }
        Err(self.malformed("a row with another number of columns than its table"))
    }

    pub fn insert(&mut self, new: &Tuple<'_>, event: Event) -> Result<Taken> {
        match self.whole(new)? {
            None => self.end_row(Op::Create, event),
            Some(error) => return Ok(self.end_bad(Op::Create, event, error, texts(new))),
        }
        Ok(Taken::Whole)
    }

    /// A delete's row is its old image: the identity's columns, or all of them under FULL.
    pub fn delete(&mut self, old: &Old<'_>, event: Event) -> Result<Taken> {
        match self.whole(&old.tuple)? {
            None => self.end_row(Op::Delete, event),
            // Under FULL: the row that goes is not here, since it could not be held.
            Some(error) => return Ok(self.end_bad(Op::Delete, event, error, texts(&old.tuple))),
        }
        Ok(Taken::Whole)
    }

    /// Appends a row of which every value was sent. Gives why it cannot be held.
    fn whole(&mut self, tuple: &Tuple<'_>) -> Result<Option<Error>> {
        self.check_count(tuple)?;
        for (at, value) in tuple.values().enumerate() {
            match value {
                Value::Null => self.columns[at].append_null(),
                Value::Text(text) => {
                    if let Err(misfit) = self.columns[at].append(text) {
                        return Ok(Some(self.unheld(at, misfit)));
                    }
                }
                Value::Unchanged => return Err(self.malformed("a value was left out of a row that should be whole")),
            }
        }
        Ok(None)
    }

    pub fn update(&mut self, old: Option<&Old<'_>>, new: &Tuple<'_>, event: Event) -> Result<Taken> {
        let row = self.ops.len() as u32;
        let mut unchanged = Vec::new();
        if let Some(error) = self.new_row(old, new, &mut unchanged)? {
            let bad = self.end_bad(Op::Update, event, error, texts(new));
            self.gone(old, new, event)?;
            return Ok(bad);
        }
        if let Some(old) = old {
            self.old_rows.push(row);
            if let Some(error) = self.old_image(old)? {
                if !unchanged.is_empty() {
                    return Ok(self.end_bad(Op::Update, event, error, texts(new)));
                }
                // The row that was changed could not be held, so it is not here: the new one comes as if inserted.
                self.end_bad(Op::Update, event, error, Vec::new());
                self.new_row(Some(old), new, &mut unchanged)?;
                self.end_row(Op::Create, event);
                return Ok(Taken::Whole);
            }
        }
        if !unchanged.is_empty() {
            self.unchanged.push((row, unchanged));
        }
        self.end_row(Op::Update, event);
        Ok(Taken::Whole)
    }

    /// What is certain of an update whose new row cannot be held: the old one is gone, where it was one that could be.
    fn gone(&mut self, old: Option<&Old<'_>>, new: &Tuple<'_>, event: Event) -> Result<()> {
        if let Some(old) = old.filter(|old| old.whole) {
            match self.whole(&old.tuple)? {
                Some(error) => drop(self.end_bad(Op::Delete, event, error, Vec::new())),
                None => self.end_row(Op::Delete, event),
            }
            return Ok(());
        }
        let key = old.map_or(new, |old| &old.tuple);
        for (at, value) in key.values().enumerate() {
            match value {
                Value::Text(text) if self.identity[at] => {
                    if let Err(misfit) = self.columns[at].append(text) {
                        // No row here has a key that cannot be held.
                        let error = self.unheld(at, misfit);
                        self.end_bad(Op::Delete, event, error, Vec::new());
                        return Ok(());
                    }
                }
                _ => self.columns[at].append_null(),
            }
        }
        self.end_row(Op::Delete, event);
        Ok(())
    }

    /// Appends an update's new row. Gives why it cannot be held.
    fn new_row(&mut self, old: Option<&Old<'_>>, new: &Tuple<'_>, unchanged: &mut Vec<ColumnId>) -> Result<Option<Error>> {
        self.check_count(new)?;
        let mut before = old.map(|o| o.tuple.values());
        let whole = old.is_some_and(|o| o.whole);
        for (at, mut value) in new.values().enumerate() {
            let kept = before.as_mut().and_then(Iterator::next);
            if value == Value::Unchanged && (whole || self.identity[at]) {
                // Under FULL, and for identity columns, the old row has what was not sent again (decision 18).
                value = kept.unwrap_or(Value::Unchanged);
            }
            match value {
                Value::Null => self.columns[at].append_null(),
                Value::Text(text) => {
                    if let Err(misfit) = self.columns[at].append(text) {
                        return Ok(Some(self.unheld(at, misfit)));
                    }
                }
                Value::Unchanged if self.identity[at] => {
                    return Err(self.malformed("an identity column's value was not sent"));
                }
                Value::Unchanged => {
                    self.columns[at].append_null();
                    unchanged.push(self.schema.columns[at].id);
                }
            }
        }
        Ok(None)
    }

    fn old_image(&mut self, old: &Old<'_>) -> Result<Option<Error>> {
        self.check_count(&old.tuple)?;
        if self.old.is_empty() {
            self.old = self.schema.columns.iter().map(|c| ColumnBuilder::new(&c.kind)).collect();
        }
        let mut misfit = None;
        for (at, value) in old.tuple.values().enumerate() {
            match value {
                Value::Text(text) if old.whole || self.identity[at] => {
                    if let Err(here) = self.old[at].append(text) {
                        self.old[at].append_null();
                        misfit.get_or_insert((at, here));
                    }
                }
                _ => self.old[at].append_null(),
            }
        }
        Ok(misfit.map(|(at, misfit)| self.misfit(at, misfit)))
    }

    pub fn truncate(&mut self, event: Event) {
        self.columns.iter_mut().for_each(ColumnBuilder::append_null);
        self.end_row(Op::Truncate, event);
    }

    /// Appends one row of `COPY ... TO STDOUT` in text format.
    pub fn copied(&mut self, line: &[u8], scratch: &mut Vec<u8>, event: Event) -> Result<Taken> {
        let mut rest = line.strip_suffix(b"\n").unwrap_or(line);
        let last = self.columns.len().saturating_sub(1);
        for at in 0..self.columns.len() {
            let end = rest.iter().position(|b| *b == b'\t');
            if end.is_some() == (at == last) {
                return Err(self.malformed("a copied row with another number of columns than its table"));
            }
            let (field, next) = end.map_or((rest, &rest[rest.len()..]), |end| (&rest[..end], &rest[end + 1..]));
            rest = next;
            let appended = match field {
                b"\\N" => {
                    self.columns[at].append_null();
                    Ok(())
                }
                plain if !plain.contains(&b'\\') => self.columns[at].append(plain),
                escaped => {
                    unescape(escaped, scratch);
                    self.columns[at].append(scratch)
                }
            };
            if let Err(misfit) = appended {
                let error = self.unheld(at, misfit);
                return Ok(self.end_bad(Op::Read, event, error, copied_texts(line, scratch)));
            }
        }
        self.end_row(Op::Read, event);
        Ok(Taken::Whole)
    }

    pub fn len(&self) -> usize {
        self.ops.len()
    }

    pub fn finish(mut self) -> Result<ChangeBatch> {
        let rows = record_batch(&self.schema, &mut self.columns, self.ops.len())?;
        let old = match self.old_rows.len() {
            0 => None,
            count => Some(record_batch(&self.schema, &mut self.old, count)?),
        };
        let bad = self.bad;
        let batch = ChangeBatch {
            schema: self.schema,
            rows,
            ops: self.ops,
            places: self.places,
            orders: self.orders,
            txs: self.txs,
            old,
            old_rows: self.old_rows,
            unchanged: self.unchanged,
        };
        if bad.is_empty() { Ok(batch) } else { batch.filter(|row| bad.binary_search(&(row as u32)).is_err()) }
    }
}

fn texts(tuple: &Tuple<'_>) -> Vec<Option<String>> {
    let text = |value| match value {
        Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Value::Null | Value::Unchanged => None,
    };
    tuple.values().map(text).collect()
}

/// The fields of a line of COPY.
fn copied_texts(line: &[u8], scratch: &mut Vec<u8>) -> Vec<Option<String>> {
    let fields = line.strip_suffix(b"\n").unwrap_or(line).split(|b| *b == b'\t');
    let text = |field: &[u8]| {
        (field != b"\\N").then(|| {
            unescape(field, scratch);
            String::from_utf8_lossy(scratch).into_owned()
        })
    };
    fields.map(text).collect()
}

/// Undoes COPY's escapes. Postgres writes `\b \f \n \r \t \v \\` and never octal or hex.
fn unescape(field: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut bytes = field.iter();
    while let Some(&b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'v') => 11,
            Some(&other) => other,
            None => b'\\',
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As `CopyAttributeOutText` does it.
    fn escape(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for &b in text {
            match b {
                8 => out.extend(b"\\b"),
                12 => out.extend(b"\\f"),
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                b'\t' => out.extend(b"\\t"),
                11 => out.extend(b"\\v"),
                b'\\' => out.extend(b"\\\\"),
                b => out.push(b),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn unescape_undoes_escape(bytes: Vec<u8>) {
            let mut out = Vec::new();
            unescape(&escape(&bytes), &mut out);
            prop_assert_eq!(out, bytes);
        }
    }
}
