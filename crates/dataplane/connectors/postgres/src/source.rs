//! One Postgres database as a source: what the pipeline calls, and the control session behind it.

use crate::catalog::{self, Cells, Relation};
use crate::copiers::Copiers;
use crate::decoder::Decoder;
use crate::feedback::Feedback;
use crate::position::{Place, lsn_text, parse_lsn};
use crate::preflight;
use crate::prepare;
use crate::registry::Registry;
use crate::settings::{Patterns, SPEC, Settings};
use crate::spool::Spool;
use crate::stream::Stream;
use crate::wire::{Row, Session, protocol, quote_name, quote_text};
use crate::{bulk::Bulk, codes};
use async_trait::async_trait;
use mainstem_connector::{ChangeStream, Finding, FoundTable, Options, Prepared, Severity, Source, TableCopy};
use mainstem_env::{Env, JoinOnDrop, Moment, spawn};
use mainstem_types::{Error, Position, Result, UpstreamId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Shared by the source, its stream and its copies.
pub struct Inner {
    pub env: Env,
    pub settings: Settings,
    /// Which tables are wanted; may change while we run.
    wanted: Mutex<Arc<Patterns>>,
    pub registry: Arc<Registry>,
    pub feedback: Arc<Feedback>,
    /// The session for catalog queries; connected on demand.
    control: tokio::sync::Mutex<Option<Session>>,
    cluster: Mutex<Option<Cluster>>,
    /// The slot cannot be read on, whatever its status says (a publication was missing for a while): `prepare` makes it anew.
    pub unreadable: AtomicBool,
}

/// What `discover` found last, good while the catalog's fingerprint and what is wanted are the same.
struct Discovered {
    /// While it is the same, nobody committed anything: what was found is good without another look.
    snapshot: String,
    fingerprint: String,
    wanted: Arc<Patterns>,
    until: Moment,
    tables: Arc<Vec<FoundTable>>,
}

/// Estimates of rows have no fingerprint: they are looked up this often.
const DISCOVERED_GOOD: Duration = Duration::from_secs(60);
/// A table that could not be published, or not change publications, is tried again this often.
const MISSING_RETRY: Duration = Duration::from_secs(5);

/// What identifies the server, read whenever reading begins.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    pub system: u64,
    pub timeline: u32,
    pub segment_bytes: u64,
}

pub struct PostgresSource {
    inner: Arc<Inner>,
    copiers: Copiers,
    /// Runs from the first stream on.
    watch: Mutex<Option<JoinOnDrop<()>>>,
    discovered: tokio::sync::Mutex<Option<Discovered>>,
}

impl PostgresSource {
    pub fn new(env: Env, settings: Settings) -> Self {
        let inner = Inner {
            env,
            wanted: Mutex::new(settings.tables.clone()),
            settings,
            registry: Arc::default(),
            feedback: Arc::default(),
            control: tokio::sync::Mutex::default(),
            cluster: Mutex::default(),
            unreadable: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
            copiers: Copiers::default(),
            watch: Mutex::default(),
            discovered: tokio::sync::Mutex::default(),
        }
    }
}

impl Inner {
    pub fn wanted(&self) -> Arc<Patterns> {
        self.wanted.lock().clone()
    }

    /// Runs SQL on the control session. After an error of the connection the next call connects anew.
    pub async fn query(&self, sql: &str) -> Result<Vec<Row>> {
        let mut control = self.control.lock().await;
        let session = self.session(&mut control).await?;
        let result = session.query(sql).await;
        if result.is_err() {
            *control = None; // it may hold an open transaction
        }
        result
    }

    async fn session<'a>(&self, control: &'a mut Option<Session>) -> Result<&'a mut Session> {
        if control.as_ref().is_none_or(Session::is_spent) {
            *control = Some(self.settings.target.connect(&self.env, false).await?);
        }
        control.as_mut().ok_or_else(|| Error::retry(codes::UNREACHABLE, "no session"))
    }

    /// Passes a result on, and notes when the slot turned out to be unreadable.
    pub fn noted<T>(&self, result: Result<T>) -> Result<T> {
        if result.as_ref().is_err_and(|e| e.code() == codes::SLOT_LOST) {
            self.unreadable.store(true, Ordering::Release);
        }
        result
    }

    /// Which transactions are visible now.
    pub async fn snapshot(&self) -> Result<String> {
        let rows = self.query("SELECT pg_current_snapshot()").await?;
        Ok(rows.into_iter().next().and_then(|mut row| row.pop().flatten()).unwrap_or_default())
    }

    pub async fn fingerprint(&self) -> Result<String> {
        let mut control = self.control.lock().await;
        let session = self.session(&mut control).await?;
        let result = catalog::fingerprint(session, &self.settings.publications).await;
        if result.is_err() {
            *control = None;
        }
        result
    }

    pub async fn relations(&self, only: Option<&[u32]>) -> Result<BTreeMap<u32, Relation>> {
        let mut control = self.control.lock().await;
        let session = self.session(&mut control).await?;
        let result = catalog::read(session, only).await;
        if result.is_err() {
            *control = None;
        }
        result
    }

    pub async fn relation(&self, oid: u32) -> Result<Option<Relation>> {
        Ok(self.relations(Some(&[oid])).await?.remove(&oid))
    }

    pub async fn cluster(&self) -> Result<Cluster> {
        if let Some(cluster) = *self.cluster.lock() {
            return Ok(cluster);
        }
        let mut session = self.settings.target.connect(&self.env, true).await?;
        Ok(self.identify(&mut session).await?.0)
    }

    /// Who the server is now, and how far its log is durable; on a replication session.
    pub async fn identify(&self, session: &mut Session) -> Result<(Cluster, u64)> {
        // IDENTIFY_SYSTEM needs no right beyond the REPLICATION that capture needs anyway.
        let system = session.query_one("IDENTIFY_SYSTEM").await?;
        let segment = self.query("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'").await?;
        let cells = Cells(&system);
        let segment_bytes = segment.first().and_then(|r| r.first()?.as_deref()?.parse().ok()).unwrap_or(16 << 20);
        let cluster = Cluster { system: cells.number(0)?, timeline: cells.number(1)?, segment_bytes };
        let flushed = parse_lsn(cells.text(2)?).ok_or_else(|| protocol("no place where the log ends"))?;
        *self.cluster.lock() = Some(cluster);
        Ok((cluster, flushed))
    }

    pub async fn place(&self, lsn: u64) -> Result<Place> {
        let cluster = self.cluster().await?;
        Ok(Place { system: cluster.system, timeline: cluster.timeline, lsn })
    }

    pub fn publication_list(&self) -> String {
        self.settings.publications.iter().map(|p| quote_name(p)).collect::<Vec<_>>().join(",")
    }

    pub fn start_replication(&self, from: u64) -> String {
        format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '2', publication_names {}, streaming 'on')",
            quote_name(&self.settings.slot),
            lsn_text(from),
            quote_text(&self.publication_list())
        )
    }

    /// Ends a session of ours from before that still holds the slot: of a crashed process, or one cut off in the middle of a peek.
    pub async fn free_slot(&self) -> Result<()> {
        let sql = format!(
            "SELECT pg_terminate_backend(a.pid) FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid \
             WHERE s.slot_name = {} AND a.application_name = {} AND a.usename = current_user",
            quote_text(&self.settings.slot),
            quote_text(&self.settings.target.application)
        );
        self.query(&sql).await.map(|_| ())
    }

    async fn insert_lsn(&self) -> Result<u64> {
        let rows = self.query("SELECT pg_current_wal_insert_lsn()").await?;
        let lsn = rows.first().and_then(|r| parse_lsn(r.first()?.as_deref()?));
        let lsn = lsn.ok_or_else(|| Error::retry(codes::STATEMENT, "the server did not say where its log ends"))?;
        self.end_of_record(lsn).await
    }

    /// A place where the next record would go, brought back to where the last one ended: at the start of a page the server counts the
    /// page's header already, which no walsender ever reports as passed.
    pub async fn end_of_record(&self, lsn: u64) -> Result<u64> {
        let segment = self.cluster().await?.segment_bytes;
        Ok(match () {
            () if lsn % segment == 40 => lsn - 40,
            () if lsn % 8192 == 24 => lsn - 24,
            () => lsn,
        })
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn check(&self) -> Result<Vec<Finding>> {
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
        let now = self.inner.env.clock.moment();
        let mut last = discovered.as_mut().filter(|d| Arc::ptr_eq(&d.wanted, &wanted) && now < d.until);
        if let Some(last) = last.as_ref().filter(|last| last.snapshot == snapshot) {
            return Ok(last.tables.clone());
        }
        let fingerprint = self.inner.fingerprint().await?;
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
        *discovered = Some(Discovered { snapshot, fingerprint, wanted, until: Moment(now.0 + good), tables: tables.clone() });
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
        *self.inner.wanted.lock() = Arc::new(wanted);
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
        if let (0, Some(cluster)) = (place.system, *self.inner.cluster.lock()) {
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
        let parent = catalog::root(relations, relation.oid).and_then(|oid| relations.get(&oid)).map(|r| r.name.clone());
        let excluded = match relation.excluded() {
            Some(reason) => Some(reason.to_string()),
            None if !wanted.matches(&relation.name) => Some("outside `tables`".to_string()),
            None => captured.missing.get(&relation.oid).cloned(),
        };
        FoundTable {
            schema: self.inner.registry.intern(relation),
            rows_estimated: relation.rows_estimated,
            parent,
            excluded,
            body: Some(relation.body(captured.published.get(&relation.oid).copied().unwrap_or(0))),
        }
    }
}
