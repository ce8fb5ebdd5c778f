//! The part of an envelope after its images: Debezium's `source` block in the connector's words, `transaction`, `op` and times. What is
//! the same for a batch or a transaction is made once and copied.

use crate::SchemaIds;
use crate::avro::{Bad, Digits, Reader, put_bytes, put_long};
use mainstem_types::source_block::{SourceBlock, SourceFact};
use mainstem_types::{Op, SourceName, TableSchema, Tx};

/// What an envelope says beside the rows.
#[derive(Clone, Debug)]
pub struct EncodeContext<'a> {
    pub source: &'a SourceName,
    /// The connector's.
    pub block: &'static SourceBlock,
    /// `source.db`
    pub database: &'a str,
    pub topic: &'a str,
    pub ids: SchemaIds,
    /// `ts_ms` of the envelope: when we handled it.
    pub now_ms: i64,
}

/// Writes the part after the images.
pub(crate) struct BlockWriter {
    parts: Vec<Part>,
    /// The envelope's ts_ms, ts_us, ts_ns.
    handled: Vec<u8>,
    /// What `runs` and `sequence` are made for: the transaction, and whether a snapshot read its rows.
    made_for: Option<(Tx, bool)>,
    /// The block of this transaction, cut where the event's own place goes, and what goes there.
    runs: Vec<(Vec<u8>, Hole)>,
    /// How many of `runs` are in use; the others keep their memory.
    used: usize,
    /// `["<commit's place>","`
    sequence: Vec<u8>,
}

/// A part of the block.
enum Part {
    /// The same for the whole batch.
    Same(Vec<u8>),
    /// By the transaction.
    CommitMs,
    CommitUs,
    CommitNs,
    Snapshot,
    Transaction,
    /// By the event.
    Hole(Hole),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hole {
    Sequence,
    Place,
    End,
}

fn put_times(out: &mut Vec<u8>, us: i64) {
    out.push(2);
    put_long(out, us);
    out.push(2);
    put_long(out, us.saturating_mul(1000));
}

impl BlockWriter {
    pub(crate) fn new(context: &EncodeContext<'_>, schema: &TableSchema) -> Self {
        let mut parts = Vec::new();
        let mut same = Vec::new();
        for field in context.block.fields {
            let text = match field.fact {
                SourceFact::Version => Some(env!("CARGO_PKG_VERSION")),
                SourceFact::Connector => Some(context.block.connector),
                SourceFact::Source => Some(context.source.as_str()),
                SourceFact::Database => Some(context.database),
                SourceFact::Schema => Some(&*schema.name.schema),
                SourceFact::Table => Some(&*schema.name.name),
                _ => None,
            };
            let null = field.optional && matches!(field.fact, SourceFact::NoNumber);
            // The branch of a transaction's number is known with the number.
            if field.optional && field.fact != SourceFact::Transaction && field.fact != SourceFact::Snapshot {
                same.push(if null { 0 } else { 2 });
            }
            let part = match (text, field.fact) {
                (Some(text), _) => {
                    put_bytes(&mut same, text.as_bytes());
                    continue;
                }
                (_, SourceFact::CommitMs) => Part::CommitMs,
                (_, SourceFact::CommitUs) => Part::CommitUs,
                (_, SourceFact::CommitNs) => Part::CommitNs,
                (_, SourceFact::Snapshot) => Part::Snapshot,
                (_, SourceFact::Transaction) if field.optional => Part::Transaction,
                (_, SourceFact::Sequence) => Part::Hole(Hole::Sequence),
                (_, SourceFact::Place) => Part::Hole(Hole::Place),
                _ => {
                    if !null {
                        put_long(&mut same, 0);
                    }
                    continue;
                }
            };
            parts.push(Part::Same(std::mem::take(&mut same)));
            parts.push(part);
        }
        parts.push(Part::Same(same));
        parts.push(Part::Hole(Hole::End));
        let mut handled = vec![2];
        put_long(&mut handled, context.now_ms);
        put_times(&mut handled, context.now_ms.saturating_mul(1000));
        Self { parts, handled, made_for: None, runs: Vec::new(), used: 0, sequence: Vec::new() }
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
        self.sequence.clear();
        self.sequence.extend_from_slice(b"[\"");
        self.sequence.extend_from_slice(Digits::of(tx.commit_place).text());
        self.sequence.extend_from_slice(b"\",\"");
        self.used = 0;
        let mut at = 0;
        for part in &self.parts {
            if self.runs.len() == at {
                self.runs.push((Vec::new(), Hole::End));
            }
            if self.used == at {
                self.runs[at].0.clear();
                self.used += 1;
            }
            let (run, hole) = &mut self.runs[at];
            match part {
                Part::Same(bytes) => run.extend_from_slice(bytes),
                Part::CommitMs => put_long(run, tx.commit_time_us.div_euclid(1000)),
                Part::CommitUs => put_long(run, tx.commit_time_us),
                Part::CommitNs => put_long(run, tx.commit_time_us.saturating_mul(1000)),
                // The text is the union's first branch.
                Part::Snapshot => run.extend_from_slice(if snapshot { b"\x00\x08true" } else { b"\x00\x0afalse" }),
                Part::Transaction if tx.id == 0 => run.push(0),
                Part::Transaction => {
                    run.push(2);
                    put_long(run, tx.id as i64);
                }
                Part::Hole(here) => {
                    *hole = *here;
                    at += 1;
                }
            }
        }
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>, op: Op, place: u64) {
        for (run, hole) in &self.runs[..self.used] {
            out.extend_from_slice(run);
            match hole {
                Hole::Sequence => {
                    let digits = Digits::of(place);
                    put_long(out, (self.sequence.len() + digits.text().len() + 2) as i64);
                    out.extend_from_slice(&self.sequence);
                    out.extend_from_slice(digits.text());
                    out.extend_from_slice(b"\"]");
                }
                Hole::Place => put_long(out, place as i64),
                Hole::End => {}
            }
        }
        // transaction is null; op is a string of one byte.
        out.extend_from_slice(&[0, 2, op as u8]);
        out.extend_from_slice(&self.handled);
    }
}

/// What the part after the images says that we need.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SourceFacts {
    pub op: Op,
    pub tx: Tx,
    pub place: u64,
}

/// How a block is read, taken from the Avro schema it was written with, so that no reader needs to know its connector.
#[derive(Debug)]
pub(crate) struct BlockForm(Vec<Step>);

#[derive(Debug)]
struct Step {
    /// Which branch of a union with null has the value; None: no union.
    branch: Option<bool>,
    text: bool,
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    CommitUs,
    Sequence,
    Transaction,
    Nothing,
}

impl BlockForm {
    /// From an envelope's schema; None when its `source` is not a record of texts and numbers.
    pub(crate) fn of(envelope: &serde_json::Value) -> Option<Self> {
        let fields = envelope.get("fields")?.as_array()?;
        let source = fields.iter().find(|field| field["name"] == "source")?;
        let steps = source.get("type")?.get("fields")?.as_array()?.iter().map(Step::of).collect::<Option<Vec<_>>>()?;
        Some(Self(steps))
    }
}

impl Step {
    fn of(field: &serde_json::Value) -> Option<Self> {
        let is_text = |kind: &serde_json::Value| match kind.as_str().or_else(|| kind.get("type")?.as_str())? {
            "string" => Some(true),
            "int" | "long" => Some(false),
            _ => None,
        };
        let (branch, text) = match field.get("type")? {
            serde_json::Value::Array(union) => match union.as_slice() {
                [null, value] if null == "null" => (Some(true), is_text(value)?),
                [value, null] if null == "null" => (Some(false), is_text(value)?),
                _ => return None,
            },
            kind => (None, is_text(kind)?),
        };
        let wanted = match (field.get("name")?.as_str()?, text) {
            ("ts_us", false) => Wanted::CommitUs,
            ("sequence", true) => Wanted::Sequence,
            ("txId", false) => Wanted::Transaction,
            _ => Wanted::Nothing,
        };
        Some(Self { branch, text, wanted })
    }
}

/// Reads what [`BlockWriter::put`] wrote.
pub(crate) fn read_source(from: &mut Reader<'_>, form: &BlockForm) -> Result<SourceFacts, Bad> {
    let (mut commit_time_us, mut places, mut id) = (None, None, 0);
    for step in &form.0 {
        if let Some(branch) = step.branch
            && from.branch()? != branch
        {
            continue;
        }
        if step.text {
            let text = from.bytes()?;
            if step.wanted == Wanted::Sequence {
                places = Some(read_sequence(text).ok_or(Bad("source.sequence is not in its form"))?);
            }
            continue;
        }
        let number = from.long()?;
        match step.wanted {
            Wanted::CommitUs => commit_time_us = Some(number),
            Wanted::Transaction => id = number as u64,
            Wanted::Sequence | Wanted::Nothing => {}
        }
    }
    let commit_time_us = commit_time_us.ok_or(Bad("source.ts_us is missing"))?;
    let (commit_place, place) = places.ok_or(Bad("source.sequence is missing"))?;
    if from.branch()? {
        from.bytes()?;
        from.long()?;
        from.long()?;
    }
    let op = Op::from_code(from.bytes()?).ok_or(Bad("its op is none of r, c, u, d, t"))?;
    for _ts_ms_us_ns in 0..3 {
        from.optional_long()?;
    }
    Ok(SourceFacts { op, tx: Tx { id, commit_place, commit_time_us }, place })
}

/// The numbers of `["<commit's place>","<place>"]`.
fn read_sequence(sequence: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(sequence).ok()?.strip_prefix("[\"")?.strip_suffix("\"]")?;
    let (commit, place) = text.split_once("\",\"")?;
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
    Some((number(commit)?, number(place)?))
}
