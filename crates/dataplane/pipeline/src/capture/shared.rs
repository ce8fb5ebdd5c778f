//! What a running source lets others see: its state, its tables, how far it is.

use crate::capture::dead_letters::{self, Letter};
use mainstem_types::sources::SourceTableStatus;
use mainstem_types::{Error, Position, UpstreamId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};

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
    /// The newest dead letters with their offsets, without values.
    pub letters: VecDeque<(i64, Letter)>,
}

impl Shared {
    pub fn new(state: SourceState) -> Self {
        let facts = Facts { state, error_code: None, error: None, head: None, tables: BTreeMap::new(), letters: VecDeque::new() };
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

    /// Shows dead letters; never their values.
    pub fn show_letters(&self, letters: impl IntoIterator<Item = (i64, Letter)>) {
        let mut facts = self.inner.lock();
        facts.letters.extend(letters.into_iter().map(|(offset, letter)| (offset, Letter { values: BTreeMap::new(), ..letter })));
        let surplus = facts.letters.len().saturating_sub(dead_letters::SHOWN_MAX);
        facts.letters.drain(..surplus);
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut Facts) -> T) -> T {
        look(&mut self.inner.lock())
    }
}
