//! What publications give of their tables. A row filter, a column list or an operation that is left out gives other rows than the
//! source's without a word: those named by the user are refused, ours are put right.

use crate::catalog::Relation;
use crate::database::Database;
use crate::wire::{Cells, quote_name, quote_text};
use mainstem_types::{Identity, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Tables of publications.
pub const MEMBERS: &str = "FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid \
    WHERE true";

/// Whether the server lets UPDATE and DELETE on table `c` be published.
pub const USABLE_IDENTITY: &str = "c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid \
    AND i.indimmediate AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident))";

const OPERATIONS: [&str; 4] = ["insert", "update", "delete", "truncate"];
/// A message names this many tables: enough to know which are meant.
const NAMED_MAX: usize = 3;

/// What the first (0) or the second (1) of our publications publishes.
pub fn operations(at: usize) -> &'static str {
    if at == 0 { "insert, update, delete, truncate" } else { "insert, truncate" }
}

/// One table in one publication.
pub struct Entry {
    publication: String,
    table: u32,
    /// In the order of `OPERATIONS`.
    publishes: [bool; 4],
    filtered: bool,
    listed: bool,
    /// The server lets its updates be published. In the same snapshot, for a table may lose its identity and change publications.
    usable: bool,
    /// Another number after it was out, or the publication was altered. 0 when its updates do not come.
    number: u64,
}

/// Something that is not captured although it should be, and the statement that mends it.
pub struct Gap {
    pub message: String,
    pub fix: String,
}

/// The tables of our publications, those of FOR ALL TABLES and IN SCHEMA as well. Row filters and column lists are of PostgreSQL 15: by way
/// of JSON a column that the server does not have is NULL.
pub async fn entries(inner: &Database) -> Result<Vec<Entry>> {
    let sql = format!(
        "SELECT p.pubname, c.oid, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, (to_jsonb(t) ->> 'rowfilter') IS NOT NULL, \
         (to_jsonb(r) ->> 'prattrs') IS NOT NULL, {USABLE_IDENTITY}, \
         (p.xmin::text::bigint & 2147483647) << 32 | coalesce(r.oid::bigint, 1) \
         FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname JOIN pg_namespace n ON n.nspname = t.schemaname \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
         LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid WHERE p.pubname IN ({})",
        names(inner)
    );
    let entry = |row: &crate::wire::Row| {
        let cells = Cells(row);
        let publishes = [2, 3, 4, 5].map(|at| cells.flag(at));
        Ok(Entry {
            publication: cells.text(0)?.to_string(),
            table: cells.number(1)?,
            publishes,
            filtered: cells.flag(6),
            listed: cells.flag(7),
            usable: cells.flag(8),
            number: if publishes[1] { cells.number(9)? } else { 0 },
        })
    };
    inner.query(&sql).await?.iter().map(entry).collect()
}

fn names(inner: &Database) -> String {
    inner.settings.publications.iter().map(|p| quote_text(p)).collect::<Vec<_>>().join(", ")
}

/// By which entry a table's updates come.
pub fn numbers(entries: &[Entry]) -> HashMap<u32, u64> {
    let mut numbers = HashMap::new();
    for entry in entries.iter().filter(|e| e.number != 0) {
        let number = numbers.entry(entry.table).or_insert(entry.number);
        *number = entry.number.max(*number);
    }
    numbers
}

/// What publications leave out of wanted tables. Several may share a table: an operation comes when one of them has it for all rows.
pub fn gaps(entries: &[Entry], wanted: &[&Relation]) -> Vec<Gap> {
    let mut of: BTreeMap<u32, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        of.entry(entry.table).or_default().push(entry);
    }
    let mut found: BTreeMap<(&str, Narrowed), Vec<&Relation>> = BTreeMap::new();
    for relation in wanted {
        let Some(entries) = of.get(&relation.oid) else { continue };
        if let Some((publication, narrowed)) = narrowed(entries, relation.identity()) {
            found.entry((publication, narrowed)).or_default().push(relation);
        }
    }
    let whole = entries.iter().find(|e| e.publishes == [true; 4]).map(|e| e.publication.as_str());
    found.into_iter().map(|((publication, narrowed), tables)| gap(publication, &narrowed, &tables, whole)).collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Narrowed {
    Columns,
    Rows,
    Without(Vec<&'static str>),
}

fn narrowed<'a>(entries: &[&'a Entry], identity: Identity) -> Option<(&'a str, Narrowed)> {
    if let Some(entry) = entries.iter().find(|e| e.listed) {
        return Some((&entry.publication, Narrowed::Columns));
    }
    // Without an identity, inserts and truncates are all there can be.
    let keyed = identity != Identity::AppendOnly && entries.iter().all(|e| e.usable);
    let needed = |at: &usize| keyed || matches!(at, 0 | 3);
    let lacking: Vec<usize> =
        (0..OPERATIONS.len()).filter(needed).filter(|at| !entries.iter().any(|e| e.publishes[*at] && !e.filtered)).collect();
    let first = lacking.first()?;
    if let Some(entry) = entries.iter().find(|e| e.filtered && e.publishes[*first]) {
        return Some((&entry.publication, Narrowed::Rows));
    }
    Some((&entries.first()?.publication, Narrowed::Without(lacking.into_iter().map(|at| OPERATIONS[at]).collect())))
}

/// `whole`: a publication of all operations.
fn gap(publication: &str, narrowed: &Narrowed, tables: &[&Relation], whole: Option<&str>) -> Gap {
    let mut shown: Vec<String> = tables.iter().take(NAMED_MAX).map(|r| r.name.to_string()).collect();
    if tables.len() > NAMED_MAX {
        shown.push(format!("{} more", tables.len() - NAMED_MAX));
    }
    let (shown, name) = (shown.join(", "), quote_name(publication));
    let quoted: Vec<String> = tables.iter().map(|r| r.quoted()).collect();
    let (all, only) = (quoted.join(", "), quoted.join(", ONLY "));
    let again =
        format!("BEGIN; ALTER PUBLICATION {name} DROP TABLE {all}; ALTER PUBLICATION {name} ADD TABLE ONLY {only}; COMMIT;");
    match narrowed {
        Narrowed::Columns => {
            Gap { message: format!("publication {publication} publishes a list of columns only of {shown}"), fix: again }
        }
        Narrowed::Rows => {
            Gap { message: format!("publication {publication} publishes only some rows of {shown} (WHERE)"), fix: again }
        }
        Narrowed::Without(lacking) => Gap {
            message: format!("publication {publication} does not publish {} of {shown}", lacking.join(", ")),
            fix: match whole {
                Some(whole) => {
                    format!(
                        "BEGIN; ALTER PUBLICATION {name} DROP TABLE {all}; ALTER PUBLICATION {} ADD TABLE ONLY {only}; COMMIT;",
                        quote_name(whole)
                    )
                }
                None => format!("ALTER PUBLICATION {name} SET (publish = '{}');", operations(0)),
            },
        },
    }
}

/// What somebody else changed in our publications.
#[derive(Default)]
pub struct Edited {
    /// Those that do not publish what they should.
    pub publications: Vec<String>,
    /// Tables with a filter or a list of columns.
    pub tables: BTreeSet<(String, u32)>,
}

pub async fn edited(inner: &Database) -> Result<Edited> {
    let sql = format!(
        "SELECT p.pubname, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, r.prrelid FROM pg_publication p \
         LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid \
         AND coalesce(to_jsonb(r) ->> 'prqual', to_jsonb(r) ->> 'prattrs') IS NOT NULL WHERE p.pubname IN ({})",
        names(inner)
    );
    let mut edited = Edited::default();
    for row in inner.query(&sql).await? {
        let cells = Cells(&row);
        let publication = cells.text(0)?.to_string();
        let updates = inner.settings.publications.first() == Some(&publication);
        if [1, 2, 3, 4].map(|at| cells.flag(at)) != [true, updates, updates, true] && !edited.publications.contains(&publication)
        {
            edited.publications.push(publication.clone());
        }
        if let Some(table) = cells.get(5).and_then(|oid| oid.parse().ok()) {
            edited.tables.insert((publication, table));
        }
    }
    Ok(edited)
}
