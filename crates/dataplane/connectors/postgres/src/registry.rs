//! What we know of the tables' shapes, now and before, so that a Relation message (which has names and types, but no column ids) finds
//! the columns it means (decision 17), and which tables' rows stopped.

use crate::catalog::{self, CatalogColumn, Relation};
use crate::pgoutput;
use crate::position::widen;
use mainstem_types::{ColumnId, Identity, TableSchema};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Shapes remembered per table: enough for a stream that lags behind a burst of DDL.
const SHAPES_MAX: usize = 16;

#[derive(Clone, Debug)]
struct Shape {
    schema: Arc<TableSchema>,
    /// Name, type and modifier of each column, as a Relation message tells them.
    columns: Vec<(String, u32, i32)>,
}

#[derive(Default)]
pub struct Registry {
    shapes: Mutex<HashMap<u32, Vec<Shape>>>,
    /// Tables whose rows are left out, with the reason for which they are to be copied anew; none for one that failed.
    stopped: Mutex<HashMap<u32, String>>,
    /// How many are stopped: rows of a healthy source pay for one load, not for a lock.
    stopped_count: AtomicUsize,
    /// Mismatches reported in this stream.
    reported: Mutex<HashMap<u32, (Columns, Columns)>>,
    /// Each table's columns as the catalog showed them last.
    columns: Mutex<HashMap<u32, Vec<CatalogColumn>>>,
    /// Tables copied by this process: rows that the copy has not are younger than the columns it saw.
    copied: Mutex<HashSet<u32>>,
    /// Tables whose rows here may be wrong, for the stream to tell.
    stale: Mutex<VecDeque<(u32, String)>>,
    stale_wake: Notify,
}

/// Whether a column gave its name and type to another one: the log's messages do not tell the two apart.
fn replaced(before: &[CatalogColumn], now: &[CatalogColumn]) -> bool {
    before.iter().any(|old| {
        let alike = |c: &&CatalogColumn| c.column.name == old.column.name && c.type_oid == old.type_oid;
        now.iter().find(alike).is_some_and(|c| c.column.id != old.column.id)
    })
}

/// Name, type and type modifier of each column.
type Columns = Vec<(String, u32, i32)>;

fn columns_of(relation: &Relation) -> Columns {
    relation.columns.iter().map(|c| (c.column.name.to_string(), c.type_oid, c.type_modifier)).collect()
}

fn columns_said(relation: &pgoutput::Relation) -> Columns {
    relation.columns.iter().map(|c| (c.name.clone(), c.type_oid, c.type_modifier)).collect()
}

/// What a Relation message turned out to be.
pub enum Match {
    Schema(Arc<TableSchema>),
    /// The table is to be copied anew; `new` when this was not yet reported. Without a schema the rows that follow cannot be understood.
    Stale {
        new: bool,
        reason: String,
        schema: Option<Arc<TableSchema>>,
    },
}

impl Registry {
    /// The schema of a relation as the catalog shows it; the same Arc as long as nothing changes.
    pub fn intern(&self, relation: &Relation) -> Arc<TableSchema> {
        self.keep(relation.oid, relation.schema(0), columns_of(relation))
    }

    fn keep(&self, oid: u32, schema: TableSchema, columns: Vec<(String, u32, i32)>) -> Arc<TableSchema> {
        let mut shapes = self.shapes.lock();
        let known = shapes.entry(oid).or_default();
        let same = |shape: &&Shape| catalog_equal(&shape.schema, &schema) && shape.columns == columns;
        if let Some(shape) = known.iter().find(same) {
            return shape.schema.clone();
        }
        let version = known.iter().map(|s| s.schema.version + 1).max().unwrap_or(0);
        let schema = catalog::versioned(schema, version);
        known.push(Shape { schema: schema.clone(), columns });
        if known.len() > SHAPES_MAX {
            known.remove(0);
        }
        schema
    }

    /// Finds the columns that a Relation message means: in the catalog as it is now, in a shape seen before, or, when columns were
    /// only added since, in the front part of the catalog's.
    ///
    /// `tx` wrote the rows that follow. Names and types may be the same although a column was dropped and added again: that can be
    /// only where numbers are missing, and while the transaction that last changed the columns is not older than `tx`.
    pub fn resolve(&self, said: &pgoutput::Relation, now: Option<&Relation>, tx: u64) -> Match {
        let wanted = columns_said(said);
        if let Some(now) = now {
            let have = columns_of(now);
            if have == wanted {
                let doubtful = !only_added(now, wanted.len())
                    && now.columns.iter().any(|c| widen(c.changed_by, tx) >= tx)
                    && !self.copied.lock().contains(&now.oid);
                if doubtful {
                    let reason = format!("the columns of {} may be others than they were, under the same names", now.name);
                    // The message may be the last one before the copy's rows: those after it have the columns of now.
                    let schema = Some(self.fit(said, now.schema(0), wanted));
                    return Match::Stale { new: !self.is_stopped(now.oid), reason, schema };
                }
                return Match::Schema(self.fit(said, now.schema(0), wanted));
            }
            if have.len() > wanted.len() && have[..wanted.len()] == wanted && only_added(now, wanted.len()) {
                let mut schema = now.schema(0);
                schema.columns.truncate(wanted.len());
                return Match::Schema(self.fit(said, schema, wanted));
            }
        }
        let before =
            self.shapes.lock().get(&said.oid).and_then(|known| known.iter().rev().find(|s| s.columns == wanted).cloned());
        if let Some(shape) = before {
            return Match::Schema(self.fit(said, (*shape.schema).clone(), wanted));
        }
        let have = now.map(columns_of).unwrap_or_default();
        let new = self.reported.lock().insert(said.oid, (wanted.clone(), have.clone())) != Some((wanted, have));
        let reason = format!("the columns of {}.{} changed in a way that the log does not tell", said.schema, said.name);
        Match::Stale { new, reason, schema: None }
    }

    /// The schema with the identity and name that hold for the rows that follow the message.
    fn fit(&self, said: &pgoutput::Relation, mut schema: TableSchema, columns: Vec<(String, u32, i32)>) -> Arc<TableSchema> {
        schema.name = mainstem_types::TableName::new(&said.schema, &said.name);
        let flagged: Vec<ColumnId> =
            said.columns.iter().zip(&schema.columns).filter(|(said, _)| said.key).map(|(_, c)| c.id).collect();
        let exists = |ids: &[ColumnId]| ids.iter().all(|id| schema.columns.iter().any(|c| c.id == *id));
        schema.identity = match (said.identity, &schema.identity) {
            (b'n', _) => Identity::AppendOnly,
            (b'f', Identity::Key { columns }) if exists(columns) => schema.identity.clone(),
            (b'f', _) => Identity::WholeRow,
            _ if flagged.is_empty() => Identity::AppendOnly,
            // The catalog knows the order of the key's columns, the message which they are.
            (_, Identity::Key { columns }) if same_set(columns, &flagged) => schema.identity.clone(),
            _ => Identity::Key { columns: flagged },
        };
        if !exists(&schema.record_key) {
            schema.record_key = Vec::new();
        }
        self.keep(said.oid, schema, columns)
    }

    /// Compares with what was observed before (decision 17): a table whose columns were replaced behind the log's back is to be copied anew.
    pub fn observe(&self, relations: &BTreeMap<u32, Relation>) {
        let mut columns = self.columns.lock();
        for relation in relations.values().filter(|r| r.kind == b'r') {
            let before = columns.get(&relation.oid);
            if before == Some(&relation.columns) {
                continue;
            }
            if before.is_some_and(|before| replaced(before, &relation.columns)) {
                let reason = format!("{}: a column was dropped and added again under its name", relation.name);
                self.stale.lock().push_back((relation.oid, reason));
                self.stale_wake.notify_one();
            }
            columns.insert(relation.oid, relation.columns.clone());
        }
        columns.retain(|oid, _| relations.contains_key(oid));
    }

    /// A copy began with this shape. A change that nobody noticed before it stays to be noticed: the stream must hear of it too.
    pub fn copied(&self, relation: &Relation) {
        self.columns.lock().entry(relation.oid).or_insert_with(|| relation.columns.clone());
        self.copied.lock().insert(relation.oid);
    }

    pub fn take_stale(&self) -> Option<(u32, String)> {
        self.stale.lock().pop_front()
    }

    /// Returns when `take_stale` may have something.
    pub async fn staleness(&self) {
        self.stale_wake.notified().await;
    }

    /// The newest shape of the columns that a Relation message told of: numbers of columns only grow.
    pub fn newest(&self, said: &pgoutput::Relation) -> Option<Arc<TableSchema>> {
        let wanted = columns_said(said);
        let age = |s: &&Shape| s.schema.columns.iter().map(|c| i64::from(c.id.0)).sum::<i64>();
        let shapes = self.shapes.lock();
        let newest = shapes.get(&said.oid)?.iter().filter(|s| s.columns == wanted).max_by_key(age)?.clone();
        drop(shapes); // `fit` takes it again
        Some(self.fit(said, (*newest.schema).clone(), wanted))
    }

    /// The table's rows stop until the next copy of it, for which `stale` is the reason, or until the stream begins anew.
    pub fn stop(&self, oid: u32, stale: String) {
        self.change_stopped(|stopped| drop(stopped.insert(oid, stale)));
    }

    pub fn start(&self, oid: u32) {
        self.change_stopped(|stopped| drop(stopped.remove(&oid)));
    }

    /// A stream begins at a place that is stored. What the one before it told may have been lost with it: what is to be copied anew and
    /// was not is told again.
    pub fn begin_again(&self) {
        let mut untold: Vec<_> = Vec::new();
        self.change_stopped(|stopped| untold = stopped.drain().collect());
        self.reported.lock().clear();
        if !untold.is_empty() {
            self.stale.lock().extend(untold);
            self.stale_wake.notify_one();
        }
    }

    fn change_stopped(&self, change: impl FnOnce(&mut HashMap<u32, String>)) {
        let mut stopped = self.stopped.lock();
        change(&mut stopped);
        self.stopped_count.store(stopped.len(), Ordering::Release);
    }

    pub fn is_stopped(&self, oid: u32) -> bool {
        self.stopped_count.load(Ordering::Acquire) > 0 && self.stopped.lock().contains_key(&oid)
    }
}

fn same_set(a: &[ColumnId], b: &[ColumnId]) -> bool {
    a.len() == b.len() && a.iter().all(|id| b.contains(id))
}

/// No column before the first `count` was ever dropped, and those after come later: then the front part is what it was.
fn only_added(now: &Relation, count: usize) -> bool {
    now.columns.iter().take(count).enumerate().all(|(at, c)| c.column.id.0 as usize == at + 1)
}

fn catalog_equal(a: &TableSchema, b: &TableSchema) -> bool {
    a.name == b.name && a.columns == b.columns && a.identity == b.identity && a.record_key == b.record_key
}
