//! What capture needs on the server: publications, then the slot (decision 9: the other order can kill the slot). Idempotent, and
//! nothing is used or dropped that is not recorded as ours or named by the user (decision 4).

use crate::catalog::Relation;
use crate::codes;
use crate::copy;
use crate::database::{Cluster, Database};
use crate::position::{Place, lsn_text, parse_lsn};
use crate::published::{self, MEMBERS, USABLE_IDENTITY, operations};
use crate::settings::Patterns;
use crate::wire::{Cells, Session, quote_name, quote_text};
use mainstem_connector::Prepared;
use mainstem_types::{Error, Identity, Position, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// While a slot cannot be made yet, the transactions it waits for are told about this often.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// A source that is dropped here is not waited for longer.
const REMOVE_WAIT: Duration = Duration::from_secs(5);

/// How often tables are looked for that lost their identity.
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(50);
const WATCH_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Tables that change publications in one transaction at most: each holds a lock until its end, and the server's room for locks is the
/// application's as well.
const MOVES_TOGETHER_MAX: usize = 200;

/// What `align_publications` found.
#[derive(Default)]
pub struct Captured {
    /// Tables that are wanted and not captured, with the reason.
    pub missing: HashMap<u32, String>,
    /// Tables that are published already and could not change publications yet: each stays where it is, and its move is due again soon.
    pub postponed: BTreeSet<u32>,
    /// A publication of ours that was not there, or left something out, and was put right.
    pub made: Option<String>,
    /// By which entry of a publication a table's updates come: another one after it was out for a while.
    pub published: HashMap<u32, u64>,
}

pub async fn prepare(inner: &Database, stored: Option<&Position>) -> Result<Prepared> {
    let relations = inner.relations(None).await?;
    let made = align_publications(inner, &relations, &inner.wanted()).await?.made;
    if made.is_some() {
        inner.unreadable.store(true, Ordering::Release);
    }
    let stored = stored.and_then(|p| Place::parse(&p.0));
    let (cluster, mut lost) = recognize(inner, stored.as_ref()).await?;
    let here = |lsn| Place { system: cluster.system, timeline: cluster.timeline, lsn };
    let confirmed = match slot(inner).await? {
        Some(slot) => {
            own_slot(inner)?;
            slot.check(inner)?;
            // A slot older than its publication reads the catalog of a time without it, and fails for ever.
            let unreadable = inner.unreadable.swap(false, Ordering::AcqRel);
            match slot
                .lost()
                .or(unreadable.then(|| "a publication was dropped or altered, and what it missed is in no stream".to_string()))
            {
                Some(reason) => {
                    lost = Some(reason);
                    if !inner.settings.slot_given {
                        inner.unreadable.store(unreadable, Ordering::Release); // the drop may fail and be tried again
                        inner.free_slot().await?;
                        drop_slot(inner).await?;
                    }
                    create_slot(inner).await?
                }
                None => slot.confirmed,
            }
        }
        None => {
            if stored.is_some() && lost.is_none() {
                lost = Some(format!("replication slot {} is gone", inner.settings.slot));
            }
            create_slot(inner).await?
        }
    };
    if let (Some(place), None) = (stored, &lost)
        && confirmed > place.lsn
    {
        lost = Some(format!(
            "replication slot {} was moved to {}, past {} where reading had stopped",
            inner.settings.slot,
            lsn_text(confirmed),
            lsn_text(place.lsn)
        ));
    }
    inner.unreadable.store(false, Ordering::Release);
    let start = match (stored, &lost) {
        (Some(place), None) => here(place.lsn),
        _ => here(confirmed),
    };
    Ok(Prepared { start: start.position(), lost })
}

/// Asks the server who it is, and why the place where reading stopped is not in its log, when it is not: START_REPLICATION accepts a
/// place that is yet to come, and skips what commits before it.
async fn recognize(inner: &Database, stored: Option<&Place>) -> Result<(Cluster, Option<String>)> {
    // A session of its own, each time: the server may have been put back, or another may have taken its place.
    let mut session = inner.settings.target.connect(&inner.env, true).await?;
    let (cluster, flushed) = inner.identify(&mut session).await?;
    let Some(place) = stored.filter(|place| place.system != 0) else { return Ok((cluster, None)) };
    let stopped = lsn_text(place.lsn);
    let lost = if place.system != cluster.system {
        Some("the server is another cluster than the one read before".to_string())
    } else if flushed < place.lsn {
        Some(format!("the server went back in time: its log ends at {}, and reading had stopped at {stopped}", lsn_text(flushed)))
    } else if place.timeline != cluster.timeline && !place.is_before_switch(&history(&mut session, cluster.timeline).await?) {
        let (before, now) = (place.timeline, cluster.timeline);
        Some(format!("the server went over to timeline {now}, which does not have {stopped} of timeline {before}"))
    } else {
        None
    };
    Ok((cluster, lost))
}

/// The history file of a timeline; empty when the server does not have it, as it has none of the first.
async fn history(session: &mut Session, timeline: u32) -> Result<String> {
    match session.query_one(&format!("TIMELINE_HISTORY {timeline}")).await {
        Ok(row) => Ok(Cells(&row).text(1)?.to_string()),
        Err(error) if error.code() == codes::UNREACHABLE => Err(error),
        Err(error) => {
            tracing::warn!(error = error.chain(), timeline, "no history of the server's timeline");
            Ok(String::new())
        }
    }
}

/// A slot as `pg_replication_slots` shows it.
struct Slot {
    plugin: String,
    database: String,
    status: String,
    confirmed: u64,
    invalid: bool,
}

async fn slot(inner: &Database) -> Result<Option<Slot>> {
    let sql = format!(
        "SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(wal_status, ''), coalesce(confirmed_flush_lsn, '0/0'), \
         restart_lsn IS NULL FROM pg_replication_slots WHERE slot_name = {}",
        quote_text(&inner.settings.slot)
    );
    let rows = inner.query(&sql).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let cells = Cells(row);
    Ok(Some(Slot {
        plugin: cells.text(0)?.to_string(),
        database: cells.text(1)?.to_string(),
        status: cells.text(2)?.to_string(),
        confirmed: parse_lsn(cells.text(3)?).unwrap_or(0),
        invalid: cells.flag(4),
    }))
}

impl Slot {
    fn check(&self, inner: &Database) -> Result<()> {
        let settings = &inner.settings;
        if self.plugin == "pgoutput" && self.database == settings.target.database {
            return Ok(());
        }
        let what = format!("slot {} has plugin `{}` and database `{}`", settings.slot, self.plugin, self.database);
        Err(Error::fix(codes::NOT_OURS, what).hint(format!("Name a `pgoutput` slot of database {}.", settings.target.database)))
    }

    fn lost(&self) -> Option<String> {
        let gone = self.status == "lost" || self.invalid;
        gone.then(|| "the server threw away log that the replication slot still needed".to_string())
    }
}

fn own_slot(inner: &Database) -> Result<()> {
    let slot = &inner.settings.slot;
    if inner.settings.slot_given || inner.settings.owns("slot", slot) {
        return Ok(());
    }
    Err(Error::fix(codes::NOT_OURS, format!("replication slot {slot} exists and was not made by this data directory")).hint(
        format!(
            "Give the source another name, name the slot with `slot = '{slot}'`, or drop it there: \
         SELECT pg_drop_replication_slot('{slot}');"
        ),
    ))
}

async fn create_slot(inner: &Database) -> Result<u64> {
    let slot = &inner.settings.slot;
    if inner.settings.slot_given {
        return Err(Error::fix(codes::SLOT_LOST, format!("replication slot {slot} is missing or was invalidated"))
            .hint(format!("Run there: SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput');")));
    }
    // Waits until the transactions that run now have ended; a session of its own, so that catalog queries go on.
    let mut session = inner.settings.target.connect(&inner.env, false).await?;
    let sql = format!("SELECT lsn FROM pg_create_logical_replication_slot({}, 'pgoutput')", quote_text(slot));
    let making = session.query_one(&sql);
    tokio::pin!(making);
    let row = loop {
        tokio::select! {
            row = &mut making => break row?,
            () = inner.env.clock.sleep(TELL_INTERVAL) => copy::tell_blockers(inner, &copy::running(inner).await?).await?,
        }
    };
    parse_lsn(Cells(&row).text(0)?).ok_or_else(|| Error::retry(codes::STATEMENT, "the new slot has no position"))
}

async fn drop_slot(inner: &Database) -> Result<()> {
    let sql = format!("SELECT pg_drop_replication_slot({})", quote_text(&inner.settings.slot));
    inner.query(&sql).await.map(|_| ())
}

/// Which publication a table belongs in: 0 = all operations, 1 = inserts and truncates only.
fn home(relation: &Relation) -> usize {
    usize::from(relation.identity() == Identity::AppendOnly)
}

/// Brings our publications into line with the tables there are: a table is in the first only while it has a usable identity, so
/// that UPDATE and DELETE on it never fail on the source (decision 1). Publications named by the user are left alone.
pub async fn align_publications(inner: &Database, relations: &BTreeMap<u32, Relation>, wanted: &Patterns) -> Result<Captured> {
    let wanted: Vec<&Relation> = relations.values().filter(|r| r.excluded().is_none() && wanted.matches(&r.name)).collect();
    let mut members = members(inner).await?;
    if inner.settings.publications_given {
        return look_at_given(inner, &wanted, &members).await;
    }
    let mut captured = Captured::default();
    for (at, publication) in inner.settings.publications.iter().enumerate() {
        match members.get(publication) {
            Some(_) if !inner.settings.owns("publication", publication) => return Err(not_ours(publication)),
            Some(_) => {}
            None => {
                let sql = format!("CREATE PUBLICATION {} WITH (publish = '{}')", quote_name(publication), operations(at));
                inner.query(&sql).await?;
                members.insert(publication.clone(), BTreeSet::new());
                captured.made = Some(publication.clone());
            }
        }
    }
    let edited = published::edited(inner).await?;
    let mut moves = Moves::default();
    for (at, publication) in inner.settings.publications.iter().enumerate() {
        if edited.publications.contains(publication) {
            tracing::warn!(publication, "somebody changed what the publication publishes: it is set right");
            let sql = format!("ALTER PUBLICATION {} SET (publish = '{}')", quote_name(publication), operations(at));
            inner.query(&sql).await?;
            captured.made = Some(publication.clone());
        }
        let have = members.get(publication).cloned().unwrap_or_default();
        let want: BTreeSet<u32> = wanted.iter().filter(|r| home(r) == at).map(|r| r.oid).collect();
        for (oid, add) in have.difference(&want).map(|oid| (oid, false)).chain(want.difference(&have).map(|oid| (oid, true))) {
            moves.0.entry(*oid).or_default().push((add, publication.clone()));
        }
        for oid in have.intersection(&want).filter(|oid| edited.tables.contains(&(publication.clone(), **oid))) {
            moves.0.entry(*oid).or_default().extend([(false, publication.clone()), (true, publication.clone())]);
        }
    }
    moves.run(inner, relations, &mut captured).await?;
    // A new entry in the first tells that something was missed; inserts that the second missed are told by nothing.
    let missed = |(publication, oid): &&(String, u32)| {
        inner.settings.publications.first() != Some(publication) && !captured.postponed.contains(oid)
    };
    if let Some((publication, _)) = edited.tables.iter().find(missed) {
        captured.made = Some(publication.clone());
    }
    captured.published = published_by(inner).await?;
    Ok(captured)
}

/// What publications named by the user have; they are never changed.
async fn look_at_given(inner: &Database, wanted: &[&Relation], members: &BTreeMap<String, BTreeSet<u32>>) -> Result<Captured> {
    if let Some(gone) = inner.settings.publications.iter().find(|p| !members.contains_key(*p)) {
        return Err(Error::fix(codes::NOT_OURS, format!("publication {gone} does not exist"))
            .hint("Create it again, or name another: ALTER SOURCE ... SET (publication = '...');"));
    }
    let entries = published::entries(inner).await?;
    if let Some(gap) = published::gaps(&entries, wanted).into_iter().next() {
        return Err(Error::fix(codes::NARROWED, gap.message).hint(gap.fix));
    }
    let mut captured = Captured { published: published::numbers(&entries), ..Captured::default() };
    let there: BTreeSet<u32> = members.values().flatten().copied().collect();
    for relation in wanted.iter().filter(|r| !there.contains(&r.oid)) {
        captured.missing.insert(relation.oid, format!("in none of the publications {}", inner.publication_list()));
    }
    Ok(captured)
}

async fn published_by(inner: &Database) -> Result<HashMap<u32, u64>> {
    let names: Vec<String> = inner.settings.publications.iter().map(|p| quote_text(p)).collect();
    let names = names.join(", ");
    let sql = format!("SELECT r.prrelid, max(r.oid::bigint) {MEMBERS} AND p.pubupdate AND p.pubname IN ({names}) GROUP BY 1");
    let mut published = HashMap::new();
    for row in inner.query(&sql).await? {
        let cells = Cells(&row);
        published.insert(cells.number(0)?, cells.number(1)?);
    }
    Ok(published)
}

fn not_ours(publication: &str) -> Error {
    Error::fix(codes::NOT_OURS, format!("publication {publication} exists and was not made by this data directory")).hint(
        format!(
            "Give the source another name, name it with `publication = '{publication}'`, or drop it there: \
         DROP PUBLICATION {};",
            quote_name(publication)
        ),
    )
}

/// Looks, as often as costs the server no more than a fiftieth of a core, for tables that lost their identity and still publish updates:
/// UPDATE and DELETE fail on those until they are moved (decision 1). The catalog poll would find them too, but reads much more.
pub async fn keep_updates_working(inner: Arc<Database>) {
    if inner.settings.publications_given {
        return; // never changed by us; the administrator's script has a trigger for it
    }
    let mut seen = String::new();
    loop {
        // What goes wrong stops the stream or the poll as well, which say so; or the poll was faster.
        let cost = move_identityless(&inner, &mut seen).await.unwrap_or_default();
        inner.env.clock.sleep((cost * 50).clamp(WATCH_INTERVAL_MIN, WATCH_INTERVAL_MAX)).await;
    }
}

/// `seen`: the snapshot in which all was well. Returns about how long the server looked for.
async fn move_identityless(inner: &Database, seen: &mut String) -> Result<Duration> {
    let clock = &inner.env.clock;
    let asked = clock.moment();
    let snapshot = inner.snapshot().await?;
    let answered = clock.moment();
    if snapshot == *seen {
        return Ok(Duration::ZERO);
    }
    let (Some(updates), Some(append)) = (inner.settings.publications.first(), inner.settings.publications.last()) else {
        return Ok(Duration::ZERO);
    };
    let sql = format!("SELECT r.prrelid {MEMBERS} AND p.pubname = {} AND NOT ({USABLE_IDENTITY})", quote_text(updates));
    let lost: Vec<u32> = inner.query(&sql).await?.iter().filter_map(|row| Cells(row).number(0).ok()).collect();
    // The way there and back is no cost of the server's.
    let cost = (clock.moment() - answered).saturating_sub(answered - asked);
    if lost.is_empty() {
        *seen = snapshot;
        return Ok(cost);
    }
    let relations = inner.relations(Some(&lost)).await?;
    let mut moves = Moves::default();
    for relation in relations.values().filter(|r| home(r) == 1) {
        tracing::warn!(table = %relation.name, "lost its replica identity: from now on its inserts and truncates only are captured");
        moves.0.insert(relation.oid, vec![(false, updates.clone()), (true, append.clone())]);
    }
    moves.run(inner, &relations, &mut Captured::default()).await?;
    Ok(cost)
}

/// Tables of each of our publications that exists.
async fn members(inner: &Database) -> Result<BTreeMap<String, BTreeSet<u32>>> {
    let names: Vec<String> = inner.settings.publications.iter().map(|p| quote_text(p)).collect();
    let names = names.join(", ");
    // A publication of the user's may be FOR ALL TABLES or IN SCHEMA: pg_publication_tables unfolds those.
    let sql = format!(
        "SELECT p.pubname, r.prrelid FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid \
         WHERE p.pubname IN ({names}) UNION SELECT t.pubname, c.oid FROM pg_publication_tables t \
         JOIN pg_namespace n ON n.nspname = t.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
         WHERE t.pubname IN ({names})"
    );
    let mut members: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for row in inner.query(&sql).await? {
        let cells = Cells(&row);
        let tables = members.entry(cells.text(0)?.to_string()).or_default();
        tables.extend(cells.get(1).and_then(|oid| oid.parse::<u32>().ok()));
    }
    Ok(members)
}

/// Which tables leave and enter which publications, by table.
#[derive(Default)]
struct Moves(BTreeMap<u32, Vec<Move>>);

/// Into a publication or (false) out of it; the first sorts behind.
type Move = (bool, String);

impl Moves {
    /// Many tables in one transaction. When that fails, one by one, so that a table we may not touch does not hold up the others. Always
    /// each with all its moves, so that one that changes homes is never in neither.
    async fn run(self, inner: &Database, relations: &BTreeMap<u32, Relation>, captured: &mut Captured) -> Result<()> {
        // A table that was dropped left its publication by itself.
        let all: Vec<(&Relation, Vec<Move>)> =
            self.0.into_iter().filter_map(|(oid, moves)| Some((relations.get(&oid)?, moves))).collect();
        for chunk in all.chunks(MOVES_TOGETHER_MAX) {
            if inner.query(&guarded(chunk)).await.is_ok() {
                continue;
            }
            for (relation, moves) in chunk {
                move_alone(inner, relation, moves, captured).await?;
            }
        }
        Ok(())
    }
}

/// ALTER PUBLICATION takes SHARE UPDATE EXCLUSIVE on each table, as VACUUM, ANALYZE and CREATE INDEX CONCURRENTLY do: do not queue before
/// the application.
fn guarded(tables: &[(&Relation, Vec<Move>)]) -> String {
    format!("BEGIN; SET LOCAL lock_timeout = '1s'; {}; COMMIT", statements(tables).join("; "))
}

async fn move_alone(inner: &Database, relation: &Relation, moves: &[Move], captured: &mut Captured) -> Result<()> {
    let Err(error) = inner.query(&guarded(&[(relation, moves.to_vec())])).await else { return Ok(()) };
    if error.code() == codes::UNREACHABLE {
        return Err(error);
    }
    tracing::warn!(error = error.chain(), table = %relation.name, "a publication could not be changed");
    let leaving: Vec<Move> = moves.iter().filter(|(add, _)| !add).cloned().collect();
    // What is missing is forgotten with all its rows: not for a lock that somebody holds for a while.
    if !leaving.is_empty() && error.code() != codes::RIGHTS {
        captured.postponed.insert(relation.oid);
        return Ok(());
    }
    captured.missing.insert(relation.oid, format!("not published: {}", error.message()));
    // Only its owner may let a table in, and whoever owns the publication may take it out: its updates must not fail for our sake.
    if !leaving.is_empty()
        && leaving.len() < moves.len()
        && let Err(error) = inner.query(&guarded(&[(relation, leaving)])).await
    {
        tracing::warn!(error = error.chain(), table = %relation.name, "a table could not be taken out of a publication");
    }
    Ok(())
}

/// One statement per publication and direction.
fn statements(tables: &[(&Relation, Vec<Move>)]) -> Vec<String> {
    let mut names: BTreeMap<&Move, Vec<String>> = BTreeMap::new();
    for (relation, moves) in tables {
        for to in moves {
            names.entry(to).or_default().push(relation.quoted());
        }
    }
    let statement = |((add, publication), names): (&Move, Vec<String>)| {
        let publication = quote_name(publication);
        match add {
            true => format!("ALTER PUBLICATION {publication} ADD TABLE ONLY {}", names.join(", ONLY ")),
            false => format!("ALTER PUBLICATION {publication} DROP TABLE {}", names.join(", ")),
        }
    };
    names.into_iter().map(statement).collect()
}

/// Drops what is recorded as ours. Answers within `REMOVE_WAIT`, whatever the server does.
pub async fn remove(inner: &Database) -> Result<()> {
    let settings = &inner.settings;
    let mut left = VecDeque::new();
    if !settings.slot_given && settings.owns("slot", &settings.slot) {
        let slot = quote_text(&settings.slot);
        left.push_back(format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = {slot} AND active"
        ));
        left.push_back(format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {slot}"));
    }
    for publication in settings.publications.iter().filter(|p| !settings.publications_given && settings.owns("publication", p)) {
        left.push_back(format!("DROP PUBLICATION IF EXISTS {}", quote_name(publication)));
    }
    let dropped = tokio::select! {
        dropped = drop_all(inner, &mut left) => dropped,
        () = inner.env.clock.sleep(REMOVE_WAIT) => {
            Err(Error::retry(codes::UNREACHABLE, format!("{} did not answer within {REMOVE_WAIT:?}", settings.target.place())))
        }
    };
    dropped.map_err(|error| {
        let statements = Vec::from(left).join("; ");
        Error::new(error.kind(), error.code(), "what was made on the source could not all be dropped")
            .hint(format!("Run there: {statements};"))
            .caused_by(error)
    })
}

/// Runs the statements in their order; each leaves `left` when it is done.
async fn drop_all(inner: &Database, left: &mut VecDeque<String>) -> Result<()> {
    while let Some(sql) = left.front() {
        match inner.query(sql).await {
            Ok(_) => drop(left.pop_front()),
            // The walsender that we ended takes a moment to let go of the slot.
            Err(error) if error.code() == codes::SLOT_BUSY => inner.env.clock.sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
