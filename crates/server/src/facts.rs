//! What the server knows of itself, for `/readyz`, `/metrics` and the system schema.

use crate::config::Setting;
use mainstem_http::HealthFacts;
use mainstem_log::{EventLog, LocalLog};
use mainstem_pipeline::Sources;
use mainstem_query::{DeadLetterFact, SettingFact, SystemFacts, TopicFact};
use mainstem_types::metrics::Metric;
use mainstem_types::sources::SourceControl;
use parking_lot::RwLock;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module.
pub struct Facts {
    ready: AtomicBool,
    settings: Vec<Setting>,
    parts: RwLock<Option<(Arc<LocalLog>, Arc<Sources>)>>,
    metrics: Vec<&'static dyn Metric>,
}

impl Facts {
    pub fn new(settings: Vec<Setting>) -> Arc<Self> {
        let parts = [
            mainstem_log::metrics::all(),
            mainstem_envelope::metrics::all(),
            mainstem_postgres::metrics::all(),
            mainstem_pipeline::metrics::all(),
            mainstem_warehouse::metrics::all(),
            mainstem_query::metrics::all(),
            mainstem_pgwire::metrics::all(),
        ];
        Arc::new(Self { ready: AtomicBool::new(false), settings, parts: RwLock::new(None), metrics: parts.concat() })
    }

    pub fn connect(&self, log: Arc<LocalLog>, sources: Arc<Sources>) {
        *self.parts.write() = Some((log, sources));
    }

    pub fn ready(&self) {
        self.ready.store(true, Ordering::Release);
    }
}
