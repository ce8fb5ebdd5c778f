//! What the server knows of itself, for `/readyz`, `/metrics` and the system schema.

use crate::config::Setting;
use crate::registry;
use mainstem_http::{HealthFacts, Sample};
use mainstem_log::{EventLog, LocalLog};
use mainstem_pipeline::{Letter, Sources};
use mainstem_query::{DeadLetterFact, SettingFact, SystemFacts, TopicFact};
use mainstem_types::metrics::Metric;
use mainstem_types::sources::{SourceStatus, SourceTableStatus};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Reads what `mainstem.*` shows from the parts that know it, at each query.
pub struct Facts {
    ready: AtomicBool,
    settings: Vec<Setting>,
    parts: RwLock<Option<(Arc<LocalLog>, Arc<Sources>)>>,
    metrics: Vec<&'static dyn Metric>,
}

/// The metrics of all parts, in the order of the data's way.
fn declared() -> Vec<&'static dyn Metric> {
    let connectors = registry::connectors();
    let mut metrics: Vec<_> = connectors.iter().flat_map(|connector| connector.metrics()).copied().collect();
    let parts = [
        mainstem_pipeline::metrics::all(),
        mainstem_envelope::metrics::all(),
        mainstem_log::metrics::all(),
        mainstem_warehouse::metrics::all(),
        mainstem_query::metrics::all(),
        mainstem_pgwire::metrics::all(),
    ];
    metrics.extend(parts.concat());
    metrics
}

impl Facts {
    pub fn new(settings: Vec<Setting>) -> Arc<Self> {
        Arc::new(Self { ready: AtomicBool::new(false), settings, parts: RwLock::new(None), metrics: declared() })
    }

    pub fn connect(&self, log: Arc<LocalLog>, sources: Arc<Sources>) {
        *self.parts.write() = Some((log, sources));
    }

    pub fn ready(&self) {
        self.ready.store(true, Ordering::Release);
    }
}

impl HealthFacts for Facts {
    fn unready(&self) -> Vec<String> {
        if !self.ready.load(Ordering::Acquire) {
            return vec!["recovery is running".to_string()];
        }
        if mainstem_log::metrics::POISONED.get() != 0 {
            return vec!["the log takes no more appends after a disk error: mend the disk, then restart".to_string()];
        }
        Vec::new()
    }

    fn metrics(&self) -> Vec<&'static dyn Metric> {
        self.metrics.clone()
    }

    fn samples(&self) -> Vec<Sample> {
        let Some(sources) = self.parts.read().as_ref().map(|(_, sources)| sources.clone()) else { return Vec::new() };
        let mut samples = Vec::new();
        for source in sources.sources() {
            let labels = vec![("source", source.name.to_string())];
            let lags = [
                ("mainstem_source_lag_bytes", "Bytes of the source's log that are not visible here yet.", source.lag_bytes),
                (
                    "mainstem_source_lag_ms",
                    "Age of the newest visible commit while something is outstanding, milliseconds.",
                    source.lag_ms,
                ),
            ];
            for (name, help, value) in lags {
                if let Some(value) = value {
                    samples.push(Sample { name, help, labels: labels.clone(), value: value as f64 });
                }
            }
        }
        for table in sources.tables() {
            let labels = vec![
                ("source", table.source.to_string()),
                ("schema", table.schema_name),
                ("table", table.table_name),
                ("state", table.state.as_str().to_string()),
            ];
            let help = "Changes of a captured table taken in since the start; its state is a label.";
            samples.push(Sample { name: "mainstem_source_table_changes", help, labels, value: table.changes_total as f64 });
        }
        samples.sort_by_key(|s| s.name);
        samples
    }
}

impl SystemFacts for Facts {
    fn sources(&self) -> Vec<SourceStatus> {
        self.parts.read().as_ref().map(|(_, sources)| sources.sources()).unwrap_or_default()
    }

    fn source_tables(&self) -> Vec<SourceTableStatus> {
        self.parts.read().as_ref().map(|(_, sources)| sources.tables()).unwrap_or_default()
    }

    fn topics(&self) -> Vec<TopicFact> {
        let partitions = self.parts.read().as_ref().map(|(log, _)| log.partitions()).unwrap_or_default();
        let fact = |p: mainstem_log::PartitionInfo| TopicFact {
            topic: p.at.topic.to_string(),
            partition: p.at.partition,
            start_offset: p.start,
            end_offset: p.end,
            bytes: p.bytes as i64,
        };
        partitions.into_iter().map(fact).collect()
    }

    fn settings(&self) -> Vec<SettingFact> {
        let fact = |s: &Setting| SettingFact { name: s.key.clone(), value: s.value.clone(), origin: s.origin.to_string() };
        self.settings.iter().map(fact).collect()
    }

    fn dead_letters(&self) -> Vec<DeadLetterFact> {
        let letters = self.parts.read().as_ref().map(|(_, sources)| sources.dead_letters()).unwrap_or_default();
        let fact = |(topic, offset, letter): (String, i64, Letter)| DeadLetterFact {
            topic,
            partition: 0,
            offset,
            at_us: letter.at_us,
            error_code: letter.error_code,
            error: letter.error,
        };
        letters.into_iter().map(fact).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page `docs/reference/metrics.md`.
    fn reference() -> String {
        let mut page = "# Metrics\n\nWhat `/metrics` shows in the Prometheus text format, in the order of the data's way. Beside these, lags of sources and rows of\n\
                        tables with their names as labels (`mainstem_source_...`).\n\n| metric | kind | what it tells |\n|---|---|---|\n"
            .to_string();
        for metric in declared() {
            let mut shown = String::new();
            metric.write(&mut shown);
            let kind = if shown.contains(" counter\n") { "counter" } else { "gauge" };
            page.push_str(&format!("| `{}` | {kind} | {} |\n", metric.name(), metric.help()));
        }
        page
    }

    /// `MAINSTEM_WRITE_DOCS=1 cargo test -p mainstem-server reference` writes the page anew.
    #[test]
    #[allow(clippy::disallowed_methods)] // reads the repository, not a data directory
    fn the_reference_page_names_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");
        if std::env::var_os("MAINSTEM_WRITE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == reference(), "docs/reference/metrics.md differs: run this test with MAINSTEM_WRITE_DOCS=1");
    }
}
