//! How the log of a Delta table is known to be what we wrote: each commit has, in its `commitInfo`, the checksum of its own text
//! (`mainstemSum`, computed with sixteen zeros in its place) and one of the state that it leads to (`mainstemState`). The last version,
//! its state and the checksum of the last checkpoint are in the log of Mainstem too (`_mainstem.flushed`).

use crate::context::Resume;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

const SUM_KEY: &str = "mainstemSum";
pub(super) const STATE_KEY: &str = "mainstemState";
/// Tag of an `add` action: the file's seal.
pub(super) const SEAL_TAG: &str = "mainstem.seal";
const NO_SUM: &str = "0000000000000000";

/// A checkpoint as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub version: u64,
    pub bytes: u64,
    pub sum: u64,
}

/// What the log of Mainstem says of a Delta table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    /// How far the table is durable, changes that needed no commit included.
    #[serde(flatten)]
    pub resume: Resume,
    /// The last version; None = there was none.
    #[serde(default)]
    pub version: Option<u64>,
    /// The checksum of the state that it led to.
    #[serde(default)]
    pub state: u64,
    #[serde(default)]
    pub checkpoint: Option<Checkpoint>,
}

/// The checksum of what an `add` action says of rows.
pub(super) fn file_sum(add: &Value) -> u64 {
    let vector = &add["deletionVector"];
    let said = json!([
        add["path"],
        add["size"],
        add["tags"][SEAL_TAG],
        vector["pathOrInlineDv"],
        vector["offset"],
        vector["sizeInBytes"],
        vector["cardinality"],
    ]);
    xxh3_64(said.to_string().as_bytes())
}

/// The checksum of a table's state: `files` is the wrapping sum of those of its `add` actions, `schema` our own in its text.
pub(super) fn state_sum(files: u64, schema: &str, resume: &Resume) -> u64 {
    xxh3_64(json!([files, schema, resume.seq, resume.offset, resume.topic_generation]).to_string().as_bytes())
}

/// The `commitInfo` of a commit that leads to `state`, its own checksum still to be put in.
pub(super) fn commit_info(operation: &str, now_ms: i64, version: u64, state: u64) -> Value {
    json!({"commitInfo": {
        "timestamp": now_ms, "operation": operation, "operationParameters": {}, "isBlindAppend": false, "engineInfo": "mainstem",
        "mainstemVersion": version, STATE_KEY: format!("{state:016x}"), SUM_KEY: NO_SUM,
    }})
}

/// Where the digits of a commit's own checksum begin.
fn sum_at(text: &[u8]) -> Option<usize> {
    let key = format!("\"{SUM_KEY}\":\"");
    let first_line = text.split(|byte| *byte == b'\n').next()?;
    let at = first_line.windows(key.len()).position(|part| part == key.as_bytes())? + key.len();
    (at + NO_SUM.len() <= first_line.len()).then_some(at)
}

/// Puts its checksum into the text of a commit.
pub(super) fn put_sum(text: &mut String) {
    if let Some(at) = sum_at(text.as_bytes()) {
        let sum = format!("{:016x}", xxh3_64(text.as_bytes()));
        text.replace_range(at..at + NO_SUM.len(), &sum);
    }
}

/// Whether the text of a commit is what we wrote as this version.
pub(super) fn is_ours(text: &[u8], version: u64) -> bool {
    let Some(at) = sum_at(text) else { return false };
    let mut zeroed = text.to_vec();
    zeroed[at..at + NO_SUM.len()].copy_from_slice(NO_SUM.as_bytes());
    let sum = format!("{:016x}", xxh3_64(&zeroed));
    let first = serde_json::Deserializer::from_slice(text).into_iter::<Value>().next();
    let named = first.and_then(Result::ok).and_then(|action| action["commitInfo"]["mainstemVersion"].as_u64());
    text[at..at + NO_SUM.len()] == *sum.as_bytes() && named == Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_commit_is_not_ours() {
        let mut text =
            format!("{}\n{}\n", commit_info("MERGE", 17, 4, 0xabc), json!({"add": {"path": "mainstemSum\":\"x", "size": 5}}));
        assert!(!is_ours(text.as_bytes(), 4));
        put_sum(&mut text);
        assert!(is_ours(text.as_bytes(), 4));
        assert!(!is_ours(text.as_bytes(), 5));
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] ^= 1;
            assert!(!is_ours(&wrong, 4), "byte {at}");
            assert!(!is_ours(&text.as_bytes()[..at], 4), "cut at {at}");
        }
    }
}
