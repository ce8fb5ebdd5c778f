//! What a running source lets others see: its state, its tables, how far it is.

use mainstem_types::sources::SourceTableStatus;
use mainstem_types::{Error, Position, UpstreamId};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// The life of a source, as `mainstem.sources.state` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    Starting,
    Snapshotting,
    Streaming,
    Retrying,
    Paused,
    Failed,
}

impl SourceState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Snapshotting => "snapshotting",
            Self::Streaming => "streaming",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Failed => "failed",
        }
    }
}

/// Facts of one source, written by its runner, read by SQL.
pub struct Shared {
    inner: Mutex<Facts>,
}

pub struct Facts {
    pub state: SourceState,
    pub error_code: Option<String>,
    pub error: Option<String>,
    /// The head of the source's log as last asked for.
    pub head: Option<Position>,
    pub tables: BTreeMap<UpstreamId, SourceTableStatus>,
}

impl Shared {
    pub fn new(state: SourceState) -> Self {
        let facts = Facts { state, error_code: None, error: None, head: None, tables: BTreeMap::new() };
        Self { inner: Mutex::new(facts) }
    }

    pub fn set_state(&self, state: SourceState) {
        let mut facts = self.inner.lock();
        facts.state = state;
        if matches!(state, SourceState::Snapshotting | SourceState::Streaming | SourceState::Paused) {
            facts.error_code = None;
            facts.error = None;
        }
    }

    pub fn set_error(&self, state: SourceState, error: &Error) {
        let mut facts = self.inner.lock();
        facts.state = state;
        facts.error_code = Some(error.code().id.to_string());
        facts.error = Some(match error.hint_text() {
            Some(hint) => format!("{} ({hint})", error.message()),
            None => error.message().to_string(),
        });
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut Facts) -> T) -> T {
        look(&mut self.inner.lock())
    }
}
