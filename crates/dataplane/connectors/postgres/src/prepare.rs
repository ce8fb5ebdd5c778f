//! What capture needs on the server: publications, then the slot (decision 9: the other order can kill the slot). Idempotent, and
//! nothing is used or dropped that is not recorded as ours or named by the user (decision 4).

use crate::catalog::{Cells, Relation};
use crate::codes;
use crate::copy;
use crate::position::{Place, lsn_text, parse_lsn};
use crate::source::Inner;
use crate::wire::{quote_name, quote_text};
use mainstem_connector::Prepared;
use mainstem_types::{Error, Identity, Position, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// While a slot cannot be made yet, the transactions it waits for are told about this often.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// What `align_publications` found.
#[derive(Default)]
pub struct Captured {
    /// Tables that are wanted and not captured, with the reason.
    pub missing: HashMap<u32, String>,
    /// A publication of ours that was not there and was made.
    pub made: Option<String>,
}

pub async fn prepare(inner: &Inner, stored: Option<&Position>) -> Result<Prepared> {
    let relations = inner.relations(None).await?;
    let made = align_publications(inner, &relations).await?.made;
    if made.is_some() {
        inner.unreadable.store(true, Ordering::Release);
    }
    let stored = stored.and_then(|p| Place::parse(&p.0));
    let cluster = inner.cluster().await?;
    let here = |lsn| Place { system: cluster.system, timeline: cluster.timeline, lsn };
    let mut lost = match stored {
        Some(place) if place.system != 0 && place.system != cluster.system => {
            Some("the server is another cluster than the one read before".to_string())
        }
        _ => None,
    };
    let confirmed = match slot(inner).await? {
        Some(slot) => {
            own_slot(inner)?;
            slot.check(inner)?;
            // A slot older than its publication reads the catalog of a time without it, and fails for ever.
            let unreadable = inner.unreadable.swap(false, Ordering::AcqRel);
            match slot.lost().or(unreadable.then(|| "a publication was dropped, and what it missed is in no stream".to_string()))
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

/// A slot as `pg_replication_slots` shows it.
struct Slot {
    plugin: String,
    database: String,
    status: String,
    confirmed: u64,
    invalid: bool,
}

async fn slot(inner: &Inner) -> Result<Option<Slot>> {
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
    fn check(&self, inner: &Inner) -> Result<()> {
        let settings = &inner.settings;
        if self.plugin == "pgoutput" && self.database == settings.target.database {
            return Ok(());
        }
        let what = format!("slot {} has plugin `{}` and database `{}`", settings.slot, self.plugin, self.database);
        Err(Error::fix(codes::NOT_OURS, what).hint(format!("name a `pgoutput` slot of database {}", settings.target.database)))
    }

    fn lost(&self) -> Option<String> {
        let gone = self.status == "lost" || self.invalid;
        gone.then(|| "the server threw away log that the replication slot still needed".to_string())
    }
}

fn own_slot(inner: &Inner) -> Result<()> {
    let slot = &inner.settings.slot;
    if inner.settings.slot_given || inner.settings.owns("slot", slot) {
        return Ok(());
    }
    Err(Error::fix(codes::NOT_OURS, format!("replication slot {slot} exists and was not made by this data directory")).hint(
        format!(
            "give the source another name, name the slot with `slot = '{slot}'`, or drop it there: \
         SELECT pg_drop_replication_slot('{slot}')"
        ),
    ))
}

async fn create_slot(inner: &Inner) -> Result<u64> {
    let slot = &inner.settings.slot;
    if inner.settings.slot_given {
        return Err(Error::fix(codes::SLOT_LOST, format!("replication slot {slot} is missing or was invalidated"))
            .hint(format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")));
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

async fn drop_slot(inner: &Inner) -> Result<()> {
    let sql = format!("SELECT pg_drop_replication_slot({})", quote_text(&inner.settings.slot));
    inner.query(&sql).await.map(|_| ())
}

/// Which publication a table belongs in: 0 = all operations, 1 = inserts and truncates only.
fn home(relation: &Relation) -> usize {
    usize::from(relation.identity() == Identity::AppendOnly)
}

/// Brings our publications into line with the tables there are: a table is in the first only while it has a usable identity, so
/// that UPDATE and DELETE on it never fail on the source (decision 1). Publications named by the user are left alone.
pub async fn align_publications(inner: &Inner, relations: &BTreeMap<u32, Relation>) -> Result<Captured> {
    let wanted: Vec<&Relation> =
        relations.values().filter(|r| r.excluded().is_none() && inner.settings.tables.matches(&r.name)).collect();
    let mut members = members(inner).await?;
    let mut captured = Captured::default();
    if inner.settings.publications_given {
        if let Some(gone) = inner.settings.publications.iter().find(|p| !members.contains_key(*p)) {
            return Err(Error::fix(codes::NOT_OURS, format!("publication {gone} does not exist"))
                .hint("create it again, or name another: ALTER SOURCE ... SET (publication = '...')"));
        }
        let published: BTreeSet<u32> = members.values().flatten().copied().collect();
        for relation in wanted.iter().filter(|r| !published.contains(&r.oid)) {
            captured.missing.insert(relation.oid, format!("in none of the publications {}", inner.publication_list()));
        }
        return Ok(captured);
    }
    for (at, publication) in inner.settings.publications.iter().enumerate() {
        match members.get(publication) {
            Some(_) if !inner.settings.owns("publication", publication) => return Err(not_ours(publication)),
            Some(_) => {}
            None => {
                let operations = if at == 0 { "insert, update, delete, truncate" } else { "insert, truncate" };
                let sql = format!("CREATE PUBLICATION {} WITH (publish = '{operations}')", quote_name(publication));
                inner.query(&sql).await?;
                members.insert(publication.clone(), BTreeSet::new());
                captured.made = Some(publication.clone());
            }
        }
    }
    let mut moves = Moves::default();
    for (at, publication) in inner.settings.publications.iter().enumerate() {
        let have = members.get(publication).cloned().unwrap_or_default();
        let want: BTreeSet<u32> = wanted.iter().filter(|r| home(r) == at).map(|r| r.oid).collect();
        moves.drop.extend(have.difference(&want).map(|oid| (publication.clone(), *oid)));
        moves.add.extend(want.difference(&have).map(|oid| (publication.clone(), *oid)));
    }
    moves.run(inner, relations, &mut captured).await?;
    Ok(captured)
}

fn not_ours(publication: &str) -> Error {
    Error::fix(codes::NOT_OURS, format!("publication {publication} exists and was not made by this data directory")).hint(
        format!(
            "give the source another name, name it with `publication = '{publication}'`, or drop it there: \
         DROP PUBLICATION {}",
            quote_name(publication)
        ),
    )
}

/// Tables of each of our publications that exists.
async fn members(inner: &Inner) -> Result<BTreeMap<String, BTreeSet<u32>>> {
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

#[derive(Default)]
struct Moves {
    drop: Vec<(String, u32)>,
    add: Vec<(String, u32)>,
}

impl Moves {
    /// All in one transaction, so that a table that changes homes is never in neither; when that fails, one by one, so that a table
    /// we may not touch does not hold up the others.
    async fn run(self, inner: &Inner, relations: &BTreeMap<u32, Relation>, captured: &mut Captured) -> Result<()> {
        if self.drop.is_empty() && self.add.is_empty() {
            return Ok(());
        }
        let statement = |verb: &str, publication: &str, oid: u32| {
            let only = if verb == "ADD" { "ONLY " } else { "" };
            relations.get(&oid).map(|r| {
                let (publication, schema, name) = (quote_name(publication), quote_name(&r.name.schema), quote_name(&r.name.name));
                (oid, format!("ALTER PUBLICATION {publication} {verb} TABLE {only}{schema}.{name}"))
            })
        };
        // A table that was dropped left its publication by itself.
        let drops = self.drop.iter().filter_map(|(p, oid)| statement("DROP", p, *oid));
        let adds = self.add.iter().filter_map(|(p, oid)| statement("ADD", p, *oid));
        let all: Vec<(u32, String)> = drops.chain(adds).collect();
        if all.is_empty() {
            return Ok(());
        }
        let together = all.iter().map(|(_, s)| s.as_str()).collect::<Vec<_>>().join("; ");
        // ALTER PUBLICATION takes SHARE UPDATE EXCLUSIVE on each table: do not queue before the application.
        let guarded = |sql: &str| format!("BEGIN; SET LOCAL lock_timeout = '1s'; {sql}; COMMIT");
        if inner.query(&guarded(&together)).await.is_ok() {
            return Ok(());
        }
        for (oid, sql) in all {
            if let Err(error) = inner.query(&guarded(&sql)).await {
                if error.code() == codes::UNREACHABLE {
                    return Err(error);
                }
                tracing::warn!(error = error.chain(), statement = sql, "a publication could not be changed");
                captured.missing.insert(oid, format!("not published: {}", error.message()));
            }
        }
        Ok(())
    }
}

/// Drops what is recorded as ours.
pub async fn remove(inner: &Inner) -> Result<()> {
    let settings = &inner.settings;
    let mut left = Vec::new();
    if !settings.slot_given && settings.owns("slot", &settings.slot) {
        let slot = quote_text(&settings.slot);
        left.push(format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = {slot} AND active"
        ));
        left.push(format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {slot}"));
    }
    for publication in settings.publications.iter().filter(|p| !settings.publications_given && settings.owns("publication", p)) {
        left.push(format!("DROP PUBLICATION IF EXISTS {}", quote_name(publication)));
    }
    let mut attempts = 0;
    while let Some(sql) = left.first() {
        match inner.query(sql).await {
            Ok(_) => {
                left.remove(0);
            }
            // The walsender that we ended takes a moment to let go of the slot.
            Err(error) if error.code() == codes::SLOT_BUSY && attempts < 50 => {
                attempts += 1;
                inner.env.clock.sleep(Duration::from_millis(100)).await;
            }
            Err(error) => {
                let statements = left.join("; ");
                return Err(Error::new(error.kind(), error.code(), "what was made on the source could not all be dropped")
                    .hint(format!("run there: {statements}"))
                    .caused_by(error));
            }
        }
    }
    Ok(())
}
