//! One database that is read: its control session, who its server is, and what source, stream and copies share.

use crate::catalog::{self, Relation};
use crate::codes;
use crate::feedback::Feedback;
use crate::position::{Place, lsn_text, parse_lsn};
use crate::registry::Registry;
use crate::settings::{Patterns, Settings};
use crate::wire::{Cells, Row, Session, protocol, quote_name, quote_text};
use mainstem_env::Env;
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Shared by the source, its stream and its copies.
pub struct Database {
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

/// A statement of the control session that takes longer is given up: its server hangs. The largest catalogs are read in a fraction of it.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// What identifies the server, read whenever reading begins.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    pub system: u64,
    pub timeline: u32,
    pub segment_bytes: u64,
}

impl Database {
    pub fn new(env: Env, settings: Settings) -> Self {
        Self {
            env,
            wanted: Mutex::new(settings.tables.clone()),
            settings,
            registry: Arc::default(),
            feedback: Arc::default(),
            control: tokio::sync::Mutex::default(),
            cluster: Mutex::default(),
            unreadable: AtomicBool::new(false),
        }
    }

    /// Other tables are wanted from now on.
    pub fn want(&self, patterns: Patterns) {
        *self.wanted.lock() = Arc::new(patterns);
    }

    /// The cluster as it was last recognized.
    pub fn known_cluster(&self) -> Option<Cluster> {
        *self.cluster.lock()
    }

    pub fn wanted(&self) -> Arc<Patterns> {
        self.wanted.lock().clone()
    }

    /// Runs SQL on the control session. After an error of the connection the next call connects anew.
    pub async fn query(&self, sql: &str) -> Result<Vec<Row>> {
        self.ask(async |session| session.query(sql).await).await
    }

    /// Asks on the control session, for a limited time.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut control = self.control.lock().await;
        let session = self.session(&mut control).await?;
        let result = tokio::select! {
            result = question(session) => result,
            () = self.env.clock.sleep(ANSWER_WAIT) => Err(Error::retry(
                codes::UNREACHABLE,
                format!("{} did not answer within {ANSWER_WAIT:?}", self.settings.target.place()),
            )
            .hint("See what the server is doing; it is asked again.")),
        };
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

    pub async fn fingerprint(&self, names: bool) -> Result<String> {
        self.ask(async |session| catalog::fingerprint(session, &self.settings.publications, names).await).await
    }

    pub async fn relations(&self, only: Option<&[u32]>) -> Result<BTreeMap<u32, Relation>> {
        self.ask(async |session| catalog::read(session, only).await).await
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

    pub async fn insert_lsn(&self) -> Result<u64> {
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
