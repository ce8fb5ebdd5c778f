//! The part of an envelope after its images: Debezium's `source` block of PostgreSQL, `transaction`, `op` and times. What is the same for
//! a batch or a transaction is made once and copied.

use crate::SchemaIds;
use crate::avro::{Bad, Digits, Reader, put_bytes, put_long};
use mainstem_types::{Op, SourceName, TableSchema, Tx};

/// What an envelope says beside the rows.
#[derive(Clone, Debug)]
pub struct EncodeContext<'a> {
    pub source: &'a SourceName,
    /// `postgres`: Debezium's `source.connector` says `postgresql` for it.
    pub connector: &'a str,
    /// `source.db`
    pub database: &'a str,
    pub topic: &'a str,
    pub ids: SchemaIds,
    /// `ts_ms` of the envelope: when we handled it.
    pub now_ms: i64,
}

/// Writes the part after the images.
pub(crate) struct SourceBlock {
    /// version, connector, name
    origin: Vec<u8>,
    /// db, and the branch of `sequence`
    database: Vec<u8>,
    /// schema, table
    table: Vec<u8>,
    /// The envelope's ts_ms, ts_us, ts_ns.
    handled: Vec<u8>,
    /// What `head`, `sequence` and `tail` are made for: the transaction, and whether a snapshot read its rows.
    made_for: Option<(Tx, bool)>,
    /// origin, ts_ms, snapshot, database
    head: Vec<u8>,
    /// `["<commit lsn>","`
    sequence: Vec<u8>,
    /// ts_us, ts_ns, schema, table, txId, and the branch of `lsn`
    tail: Vec<u8>,
}

fn put_times(out: &mut Vec<u8>, us: i64) {
    out.push(2);
    put_long(out, us);
    out.push(2);
    put_long(out, us.saturating_mul(1000));
}

impl SourceBlock {
    pub(crate) fn new(context: &EncodeContext<'_>, schema: &TableSchema) -> Self {
        let connector = if context.connector == "postgres" { "postgresql" } else { context.connector };
        let mut origin = Vec::new();
        for text in [env!("CARGO_PKG_VERSION"), connector, context.source.as_str()] {
            put_bytes(&mut origin, text.as_bytes());
        }
        let mut database = Vec::new();
        put_bytes(&mut database, context.database.as_bytes());
        database.push(2);
        let mut table = Vec::new();
        put_bytes(&mut table, schema.name.schema.as_bytes());
        put_bytes(&mut table, schema.name.name.as_bytes());
        let mut handled = vec![2];
        put_long(&mut handled, context.now_ms);
        put_times(&mut handled, context.now_ms.saturating_mul(1000));
        Self { origin, database, table, handled, made_for: None, head: Vec::new(), sequence: Vec::new(), tail: Vec::new() }
    }

    /// The transaction of the records that follow, and whether they are rows of a snapshot.
    #[inline]
    pub(crate) fn set(&mut self, tx: &Tx, snapshot: bool) {
        if self.made_for != Some((*tx, snapshot)) {
            self.made_for = Some((*tx, snapshot));
            self.make(tx, snapshot);
        }
    }

    fn make(&mut self, tx: &Tx, snapshot: bool) {
        self.head.clear();
        self.head.extend_from_slice(&self.origin);
        put_long(&mut self.head, tx.commit_time_us.div_euclid(1000));
        self.head.extend_from_slice(if snapshot { b"\x00\x08true" } else { b"\x00\x0afalse" });
        self.head.extend_from_slice(&self.database);
        self.sequence.clear();
        self.sequence.extend_from_slice(b"[\"");
        self.sequence.extend_from_slice(Digits::of(tx.commit_lsn).text());
        self.sequence.extend_from_slice(b"\",\"");
        self.tail.clear();
        put_times(&mut self.tail, tx.commit_time_us);
        self.tail.extend_from_slice(&self.table);
        if tx.id == 0 {
            self.tail.push(0);
        } else {
            self.tail.push(2);
            put_long(&mut self.tail, tx.id as i64);
        }
        self.tail.push(2);
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>, op: Op, lsn: u64) {
        out.extend_from_slice(&self.head);
        let digits = Digits::of(lsn);
        put_long(out, (self.sequence.len() + digits.text().len() + 2) as i64);
        out.extend_from_slice(&self.sequence);
        out.extend_from_slice(digits.text());
        out.extend_from_slice(b"\"]");
        out.extend_from_slice(&self.tail);
        put_long(out, lsn as i64);
        // xmin and transaction are null; op is a string of one byte.
        out.extend_from_slice(&[0, 0, 2, op as u8]);
        out.extend_from_slice(&self.handled);
    }
}

/// What the part after the images says that we need.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SourceFacts {
    pub op: Op,
    pub tx: Tx,
    pub lsn: u64,
}

/// Reads what [`SourceBlock::put`] wrote.
pub(crate) fn read_source(from: &mut Reader<'_>) -> Result<SourceFacts, Bad> {
    for _version_connector_name in 0..3 {
        from.bytes()?;
    }
    let _ts_ms = from.long()?;
    // snapshot: its text is the union's first branch
    if !from.branch()? {
        from.bytes()?;
    }
    let _db = from.bytes()?;
    let sequence = if from.branch()? { from.bytes()? } else { return Err(Bad("source.sequence is missing")) };
    let ts_us = from.optional_long()?.ok_or(Bad("source.ts_us is missing"))?;
    let _ts_ns = from.optional_long()?;
    let (_schema, _table) = (from.bytes()?, from.bytes()?);
    let tx_id = from.optional_long()?;
    let lsn = from.optional_long()?.ok_or(Bad("source.lsn is missing"))?;
    let _xmin = from.optional_long()?;
    if from.branch()? {
        from.bytes()?;
        from.long()?;
        from.long()?;
    }
    let op = Op::from_code(from.bytes()?).ok_or(Bad("its op is none of r, c, u, d, t"))?;
    for _ts_ms_us_ns in 0..3 {
        from.optional_long()?;
    }
    let commit_lsn = commit_lsn(sequence).ok_or(Bad("source.sequence is not in its form"))?;
    let tx = Tx { id: tx_id.unwrap_or(0) as u64, commit_lsn, commit_time_us: ts_us };
    Ok(SourceFacts { op, tx, lsn: lsn as u64 })
}

/// The first number of `["<commit lsn>","<lsn>"]`.
fn commit_lsn(sequence: &[u8]) -> Option<u64> {
    let text = sequence.strip_prefix(b"[\"")?;
    let end = text.iter().position(|b| *b == b'"')?;
    let digits = text.get(..end).filter(|digits| !digits.is_empty())?;
    digits.iter().try_fold(0u64, |n, d| {
        let digit = d.is_ascii_digit().then(|| u64::from(d - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}
