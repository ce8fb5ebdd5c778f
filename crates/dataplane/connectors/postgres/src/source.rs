//! One Postgres database as a source: what the pipeline calls.

use crate::catalog::{self, Relation};
use crate::copiers::Copiers;
use crate::database::Database;
use crate::decoder::Decoder;
use crate::position::Place;
use crate::preflight;
use crate::prepare;
use crate::settings::{Patterns, SPEC, Settings};
use crate::spool::Spool;
use crate::stream::Stream;
use crate::{bulk::Bulk, codes};
use async_trait::async_trait;
use mainstem_connector::{ChangeStream, Finding, FoundTable, Options, Prepared, Severity, Source, TableCopy};
use mainstem_env::{Env, JoinOnDrop, Moment, spawn};
use mainstem_types::{Error, Position, Result, TableName, UpstreamId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What `discover` found last, good while the catalog's fingerprint and what is wanted are the same.
struct Discovered {
    /// While it is the same, nobody committed anything: what was found is good without another look.
    snapshot: String,
    fingerprint: String,
    /// Values are printed as names of catalog entries: the fingerprint has those too.
    names: bool,
    wanted: Arc<Patterns>,
    until: Moment,
    tables: Arc<Vec<FoundTable>>,
}

/// Estimates of rows have no fingerprint: they are looked up this often.
const DISCOVERED_GOOD: Duration = Duration::from_secs(60);
/// A table that could not be published, or not change publications, is tried again this often.
const MISSING_RETRY: Duration = Duration::from_secs(5);

/// How often a pre-flight is begun whose tables are dropped meanwhile.
const CHECKS_MAX: usize = 4;

pub struct PostgresSource {
    inner: Arc<Database>,
    copiers: Copiers,
    /// Runs from the first stream on.
    watch: Mutex<Option<JoinOnDrop<()>>>,
    discovered: tokio::sync::Mutex<Option<Discovered>>,
}

impl PostgresSource {
    pub fn new(env: Env, settings: Settings) -> Self {
        Self {
            copiers: Copiers::new(settings.copy_connections),
            inner: Arc::new(Database::new(env, settings)),
            watch: Mutex::default(),
            discovered: tokio::sync::Mutex::default(),
        }
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn check(&self) -> Result<Vec<Finding>> {
        // A table that is dropped between two of its questions may make one of them fail: then all are asked anew.
        for _ in 1..CHECKS_MAX {
            match preflight::run(&self.inner).await {
                Err(error) if error.code() == codes::STATEMENT => {}
                found => return found,
            }
        }
        preflight::run(&self.inner).await
    }

    /// Role, grants and publications for what would be captured (decision 5). After it ran, a source with the options it names needs
    /// no further human step.
    async fn administrator_script(&self, findings: &[Finding]) -> Result<Option<String>> {
        match findings.iter().any(|f| f.severity == Severity::Fatal && f.code == codes::RIGHTS.id) {
            true => preflight::administrator_script(&self.inner).await.map(Some),
            false => Ok(None),
        }
    }

    fn remote_objects(&self) -> Vec<String> {
        self.inner.settings.remote_objects()
    }

    async fn prepare(&self, stored: Option<&Position>) -> Result<Prepared> {
        let prepared = prepare::prepare(&self.inner, stored).await?;
        if prepared.lost.is_some() {
            // Transactions of another history may have the same numbers: an unchanged snapshot means nothing.
            *self.discovered.lock().await = None;
        }
        Ok(prepared)
    }

    async fn discover(&self) -> Result<Arc<Vec<FoundTable>>> {
        let mut discovered = self.discovered.lock().await;
        // Both before the read: what changes in between is seen by the next call.
        let snapshot = self.inner.snapshot().await?;
        let wanted = self.inner.wanted();
        let names = discovered.as_ref().is_some_and(|d| d.names);
        let now = self.inner.env.clock.moment();
        let mut last = discovered.as_mut().filter(|d| Arc::ptr_eq(&d.wanted, &wanted) && now < d.until);
        if let Some(last) = last.as_ref().filter(|last| last.snapshot == snapshot) {
            return Ok(last.tables.clone());
        }
        let fingerprint = self.inner.fingerprint(names).await?;
        if let Some(last) = last.as_mut().filter(|last| last.fingerprint == fingerprint) {
            last.snapshot = snapshot;
            return Ok(last.tables.clone());
        }
        let relations = self.inner.relations(None).await?;
        let captured = prepare::align_publications(&self.inner, &relations, &wanted).await?;
        if let Some(publication) = &captured.made {
            // Changes that passed meanwhile are in no stream.
            return self
                .inner
                .noted(Err(Error::retry(codes::SLOT_LOST, format!("publication {publication} was dropped or altered"))));
        }
        let tables = relations.values().map(|r| self.found(r, &relations, &captured, &wanted)).collect();
        let tables: Arc<Vec<FoundTable>> = Arc::new(tables);
        self.inner.registry.observe(&relations);
        let settled = captured.missing.is_empty() && captured.postponed.is_empty();
        let good = if settled { DISCOVERED_GOOD } else { MISSING_RETRY };
        let names = relations.values().any(|r| r.shows_names);
        let until = Moment(now.0 + good);
        *discovered = Some(Discovered { snapshot, fingerprint, names, wanted, until, tables: tables.clone() });
        Ok(tables)
    }

    fn reconfigure(&self, options: &Options) -> Result<bool> {
        let tables = |options: &Options| options.0.get("tables").cloned();
        let (old, mut new) = (&self.inner.settings.options, options.clone());
        let wanted = Patterns::parse(SPEC.value(options, "tables"))?;
        // All but `tables` must be as it was.
        match tables(old) {
            Some(tables) => drop(new.0.insert("tables".into(), tables)),
            None => drop(new.0.remove("tables")),
        }
        if new != *old {
            return Ok(false);
        }
        self.inner.want(wanted);
        Ok(true)
    }

    async fn stream(&self, from: &Position) -> Result<Box<dyn ChangeStream>> {
        let inner = &self.inner;
        let place = Place::parse(&from.0)
            .ok_or_else(|| Error::corrupt(codes::PROTOCOL, format!("`{from}` is not a position in a Postgres log")))?;
        let place = inner.place(place.lsn).await?;
        let watch = || spawn("postgres identities", prepare::keep_updates_working(inner.clone()));
        self.watch.lock().get_or_insert_with(watch);
        inner.free_slot().await?;
        let xmax = inner.query("SELECT pg_snapshot_xmax(pg_current_snapshot())").await?;
        let near = xmax.first().and_then(|r| r.first()?.as_deref()?.parse().ok()).unwrap_or(0);
        let (disk, directory) = (inner.env.disk.clone(), inner.settings.spool.clone());
        let spool = Spool::open(disk, directory)?;
        inner.feedback.reset(place.lsn);
        inner.registry.begin_again();
        let decoder = Decoder::new(inner.registry.clone(), place, near, spool);
        let bulk = inner.noted(Bulk::start(inner.clone(), place.lsn).await)?;
        let streaming = bulk.is_none();
        let mut stream = Stream::new(inner.clone(), decoder, inner.feedback.clone(), bulk);
        if streaming {
            inner.noted(stream.connect().await)?;
        }
        Ok(Box::new(stream))
    }

    async fn copy(&self, table: UpstreamId) -> Result<Box<dyn TableCopy>> {
        self.copiers.copy(&self.inner, table).await
    }

    async fn head(&self) -> Result<Position> {
        let lsn = self.inner.insert_lsn().await?;
        self.inner.feedback.ask_keepalive(lsn);
        Ok(self.inner.place(lsn).await?.position())
    }

    fn parse_position(&self, text: &str) -> Result<Position> {
        let mut place = Place::parse(text).ok_or_else(|| {
            Error::fix(codes::BAD_URL, format!("`{text}` is not a place in a Postgres log"))
                .hint("Write, for example, '0/16B3748'.")
        })?;
        if let (0, Some(cluster)) = (place.system, self.inner.known_cluster()) {
            (place.system, place.timeline) = (cluster.system, cluster.timeline);
        }
        Ok(place.position())
    }

    fn covers(&self, a: &Position, b: &Position) -> bool {
        match (Place::parse(&a.0), Place::parse(&b.0)) {
            (Some(a), Some(b)) => a.covers(&b),
            _ => false,
        }
    }

    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<i64> {
        let (from, to) = (Place::parse(&from.0)?, Place::parse(&to.0)?);
        let same = from.system == to.system || from.system == 0 || to.system == 0;
        same.then(|| to.lsn.wrapping_sub(from.lsn) as i64)
    }

    fn inserts_only(&self, table: &TableName) -> String {
        let table = catalog::quoted(table);
        format!(
            "It has no replica identity, which tells the row that an update or a delete changes. Run in the source database: \
             ALTER TABLE {table} REPLICA IDENTITY FULL; or add a primary key."
        )
    }

    async fn remove(&self) -> Result<()> {
        prepare::remove(&self.inner).await
    }
}

impl PostgresSource {
    fn found(
        &self,
        relation: &Relation,
        relations: &BTreeMap<u32, Relation>,
        captured: &prepare::Captured,
        wanted: &Patterns,
    ) -> FoundTable {
        let parents = catalog::ancestors(relations, relation.oid).into_iter().map(|r| r.name.clone()).collect();
        let excluded = match relation.excluded() {
            Some(reason) => Some(reason.to_string()),
            None if !wanted.matches(&relation.name) => Some("outside `tables`".to_string()),
            None => captured.missing.get(&relation.oid).cloned(),
        };
        FoundTable {
            schema: self.inner.registry.intern(relation),
            rows_estimated: relation.rows_estimated,
            parents,
            excluded,
            body: Some(relation.body(captured.published.get(&relation.oid).copied().unwrap_or(0))),
        }
    }
}
