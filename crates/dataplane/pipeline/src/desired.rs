//! Desired state: what users declared of sources, as the last record per name in `_mainstem.sources` (policy compact).

use mainstem_connector::Options;
use mainstem_env::Env;
use mainstem_eventlog::{Compacted, EventLog};
use mainstem_types::{Result, SourceName, TableId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

pub const SOURCE_TOPIC: &str = "_mainstem.sources";
/// Key of the record that says which table ids are taken; no source can have this name.
const IDS_KEY: &str = "#table_ids";

/// One source as declared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceRecord {
    pub name: SourceName,
    pub connector: String,
    /// The URL, encrypted: it holds the password.
    pub sealed_url: String,
    /// The URL without its password.
    pub shown_url: String,
    pub options: Options,
    pub paused: bool,
    /// Remote objects (slot, publications) this directory recorded before making them (decision 4).
    pub owned: BTreeSet<String>,
    /// Set when the source was dropped: barriers of a later source of this name go on after this number.
    pub dropped_at_seq: Option<u64>,
}

/// What a record of the topic says.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Declared {
    /// Under [`IDS_KEY`]: table ids below it are taken.
    TableIds(u64),
    Source(Box<SourceRecord>),
}

/// All desired state.
pub struct Desired(Compacted<String, Declared>);

impl Desired {
    /// Reads the whole topic (made when missing).
    pub async fn open(env: Env, log: Arc<dyn EventLog>) -> Result<Self> {
        Compacted::open(env, log, SOURCE_TOPIC).await.map(Self)
    }

    pub fn sources(&self) -> Vec<SourceRecord> {
        let source = |(_, declared)| match declared {
            Declared::Source(record) => Some(*record),
            Declared::TableIds(_) => None,
        };
        self.0.entries().into_iter().filter_map(source).collect()
    }

    /// Durable on return.
    pub async fn save(&self, record: &SourceRecord) -> Result<()> {
        self.0.put(record.name.to_string(), Declared::Source(Box::new(record.clone()))).await
    }

    fn next_table_id(&self) -> u64 {
        match self.0.get(&IDS_KEY.to_string()) {
            Some(Declared::TableIds(next)) => next,
            _ => 1,
        }
    }
}

/// Table ids are reserved in blocks, so that making a table does not wait for a commit of its own.
const ID_BLOCK: u64 = 64;

/// Hands out table ids, never one twice in a data directory.
pub struct TableIds {
    desired: Arc<Desired>,
    /// (next to hand out, first not reserved)
    range: tokio::sync::Mutex<(u64, u64)>,
}

impl TableIds {
    pub fn new(desired: Arc<Desired>) -> Self {
        let next = desired.next_table_id();
        Self { desired, range: tokio::sync::Mutex::new((next, next)) }
    }

    pub async fn next(&self) -> Result<TableId> {
        let mut range = self.range.lock().await;
        if range.0 >= range.1 {
            let reserved = range.0 + ID_BLOCK;
            self.desired.0.put(IDS_KEY.to_string(), Declared::TableIds(reserved)).await?;
            range.1 = reserved;
        }
        range.0 += 1;
        Ok(TableId(range.0 - 1))
    }
}
