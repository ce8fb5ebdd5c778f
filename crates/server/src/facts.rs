//! What the server knows of itself, for `/readyz` and `/metrics`.

use crate::disk::DiskWatch;
use crate::registry;
use mainstem_http::{HealthFacts, Sample};
use mainstem_pipeline::{DiskTrouble, Sources};
use mainstem_types::TableState;
use mainstem_types::health::Trouble;
use mainstem_types::metrics::Metric;
use mainstem_types::sources::{SourceStatus, SourceTableStatus};
use parking_lot::RwLock;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

type Reporter = Box<dyn Fn() -> Vec<Trouble> + Send + Sync>;

/// Gathers what the parts say of themselves: for `/readyz`, `/metrics` and the status page.
pub struct Facts {
    ready: AtomicBool,
    sources: RwLock<Option<Arc<Sources>>>,
    metrics: Vec<&'static dyn Metric>,
    disk: Arc<DiskWatch>,
    reporters: RwLock<Vec<Reporter>>,
    pub sql_address: OnceLock<SocketAddr>,
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
        mainstem_http::metrics::all(),
        crate::disk::metrics(),
    ];
    metrics.extend(parts.concat());
    metrics
}

impl Facts {
    pub fn new(disk: Arc<DiskWatch>) -> Arc<Self> {
        Arc::new(Self {
            ready: AtomicBool::new(false),
            sources: RwLock::new(None),
            metrics: declared(),
            disk,
            reporters: RwLock::default(),
            sql_address: OnceLock::new(),
        })
    }

    /// A part that knows troubles of its own; it is asked at each look at `/readyz` and `/metrics`, and must not block.
    pub fn report(&self, reporter: impl Fn() -> Vec<Trouble> + Send + Sync + 'static) {
        self.reporters.write().push(Box::new(reporter));
    }

    pub fn connect(&self, sources: Arc<Sources>) {
        let known = sources.clone();
        self.report(log_troubles);
        let disk = self.disk.clone();
        self.report(move || disk.trouble().map(disk_trouble).into_iter().collect());
        self.report(move || source_troubles(known.sources(), &known.tables()));
        *self.sources.write() = Some(sources);
    }

    pub fn ready(&self) {
        self.ready.store(true, Ordering::Release);
    }
}

impl HealthFacts for Facts {
    fn troubles(&self) -> Vec<Trouble> {
        if !self.ready.load(Ordering::Acquire) {
            return vec![Trouble {
                kind: "starting",
                place: "server".into(),
                what: "recovery is running".into(),
                hint: "Wait; the log says how far it is.".into(),
                blocks: true,
            }];
        }
        self.reporters.read().iter().flat_map(|reporter| reporter()).collect()
    }

    fn metrics(&self) -> Vec<&'static dyn Metric> {
        // Asked, so that its metrics are of now.
        let _ = self.disk.trouble();
        self.metrics.clone()
    }

    fn samples(&self) -> Vec<Sample> {
        let Some(sources) = self.sources.read().clone() else { return Vec::new() };
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

    fn status(&self) -> String {
        let (sources, tables) = match self.sources.read().as_ref() {
            Some(sources) => (sources.sources(), sources.tables()),
            None => Default::default(),
        };
        let mut text = format!("mainstem {}\n", env!("CARGO_PKG_VERSION"));
        for trouble in self.troubles() {
            let _ = writeln!(text, "! {}: {}. {}", trouble.place, trouble.what, trouble.hint);
        }
        let number = |n: Option<i64>| n.map_or("-".to_owned(), |n| n.to_string());
        let code = |code: Option<String>| code.unwrap_or_default();
        let rows = sources.into_iter().map(|s| {
            let count = tables.iter().filter(|t| t.source == s.name).count();
            [s.name.to_string(), s.state, number(s.lag_ms), number(s.lag_bytes), count.to_string(), code(s.error_code)]
        });
        put_table(&mut text, ["source", "state", "lag ms", "lag bytes", "tables", "error"], rows.collect());
        let rows = tables.iter().map(|t| {
            let (state, changes) = (t.state.as_str().to_owned(), t.changes_total.to_string());
            [
                t.source.to_string(),
                format!("{}.{}", t.schema_name, t.table_name),
                state,
                t.rows_copied.to_string(),
                changes,
                code(t.error_code.clone()),
            ]
        });
        put_table(&mut text, ["source", "table", "state", "rows copied", "changes", "error"], rows.collect());
        text
    }

    fn sql_command(&self) -> String {
        match self.sql_address.get() {
            Some(address) => format!("psql postgresql://admin@{address}/main"),
            None => "(pg_listen is off)".to_owned(),
        }
    }
}

/// What keeps rows of sources from being new. The texts of errors stay in `mainstem.sources`: they may name addresses.
fn source_troubles(sources: Vec<SourceStatus>, tables: &[SourceTableStatus]) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for source in sources {
        let place = format!("source {}", source.name);
        let code = source.error_code.map(|code| format!(" ({code})")).unwrap_or_default();
        let kind = match source.state.as_str() {
            "retrying" => Some("source_retrying"),
            "failed" => Some("source_failed"),
            _ => None,
        };
        if let Some(kind) = kind {
            let hint = "Ask SQL for the reason: SELECT name, state, error FROM mainstem.sources;".into();
            let what = format!("its rows stay as they are: it is {}{code}", source.state);
            troubles.push(Trouble { kind, place: place.clone(), what, hint, blocks: false });
        }
        let failed = tables.iter().filter(|t| t.source == source.name && t.state == TableState::Failed).count();
        if failed > 0 {
            let hint =
                "Ask SQL for the reasons: SELECT table_name, error FROM mainstem.source_tables WHERE state = 'failed';".into();
            let what = format!("tables that follow it no more: {failed}");
            troubles.push(Trouble { kind: "tables_failed", place, what, hint, blocks: false });
        }
    }
    troubles
}

fn log_troubles() -> Vec<Trouble> {
    let poisoned = Trouble {
        kind: "log_stopped",
        place: "log".into(),
        what: "the log takes no more appends after a disk error".into(),
        hint: "Mend the disk, then restart.".into(),
        blocks: true,
    };
    if mainstem_log::metrics::POISONED.get() == 0 { Vec::new() } else { vec![poisoned] }
}

/// Columns as wide as they must be, after an empty line; nothing when there are no rows.
fn put_table<const N: usize>(text: &mut String, heads: [&str; N], rows: Vec<[String; N]>) {
    if rows.is_empty() {
        return;
    }
    let heads = heads.map(str::to_owned);
    let all = || std::iter::once(&heads).chain(&rows);
    let widths: Vec<_> = (0..N).map(|i| all().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    text.push('\n');
    for row in all() {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:w$}", w = *width)).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}

fn disk_trouble(trouble: DiskTrouble) -> Trouble {
    Trouble {
        kind: if trouble.full { "disk_full" } else { "disk_low" },
        place: "disk".into(),
        what: trouble.message,
        hint: "Free space on that disk, or lower retention; no restart is needed.".into(),
        // What is there is read as before.
        blocks: false,
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
            let kind = ["counter", "histogram"].into_iter().find(|kind| shown.contains(&format!(" {kind}\n"))).unwrap_or("gauge");
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
