//! What is wrong right now, in words for operators. Each part says its own troubles; the server gathers them for `/readyz` and a metric.

/// One thing that is wrong now; gone from the list once it is mended. Shown to whoever reaches the HTTP door: names of sources and
/// tables may stand in it, values, addresses and secrets never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A word for machines, of a small fixed set: `disk_full`, `source_silent`, `table_damaged`. A label of the metric.
    pub kind: &'static str,
    /// Which part it is about: `log`, `source shop`, `table shop.orders`.
    pub place: String,
    /// One sentence: what is the matter.
    pub what: String,
    /// What to do next.
    pub hint: String,
    /// True when no query can be answered because of it, so that nobody is to be sent here: `/readyz` then answers 503. What only makes
    /// rows old (a source that does not answer, a full disk) or concerns one table does not block.
    pub blocks: bool,
}
