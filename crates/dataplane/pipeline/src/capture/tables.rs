//! The tables of one source: which are live, which are being copied, and what a change of columns means for each.

use crate::capture::shared::Shared;
use mainstem_connector::{FoundTable, Seen};
use mainstem_types::sources::SourceTableStatus;
use mainstem_types::{
    Column, ColumnId, Generation, Identity, Position, SourceName, TableId, TableName, TableRecord, TableSchema, TableState,
    UpstreamId,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Where a table is on its way to being live.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// To be copied; its changes are staged from now on.
    Waiting,
    Copying,
    /// Copied whole; live once the stream has passed `upto`.
    Finishing {
        seen: Seen,
        upto: Position,
    },
    Live,
    Failed,
}

/// One captured table.
pub struct Entry {
    pub record: Arc<TableRecord>,
    pub phase: Phase,
    pub rows_copied: u64,
    pub rows_estimated: Option<i64>,
    pub changes_total: u64,
    pub last_commit_us: Option<i64>,
    /// Whether this generation's staging topic has been made.
    pub staged: bool,
    /// What the catalog poll saw ahead of the stream: applied once the stream has passed the position.
    pub ahead: Option<(Arc<TableSchema>, Position)>,
}

/// What a change of columns asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    None,
    /// Columns were added (NULL in old rows) or dropped: the live table goes on.
    InPlace,
    /// Anything else: copied anew beside, then swapped.
    Rebuild(&'static str),
}

impl Entry {
    pub fn new(record: TableRecord, rows_estimated: Option<i64>) -> Self {
        let live = record.live == Some(record.generation) && record.state == TableState::Streaming;
        let phase = match record.state {
            _ if live => Phase::Live,
            TableState::Failed => Phase::Failed,
            _ => Phase::Waiting,
        };
        Self {
            record: Arc::new(record),
            phase,
            rows_copied: 0,
            rows_estimated,
            changes_total: 0,
            last_commit_us: None,
            staged: false,
            ahead: None,
        }
    }

    /// The topic in which changes wait while the coming (or running) copy is not done.
    pub fn staging_topic(&self) -> String {
        let generation = match self.phase {
            Phase::Waiting => self.record.generation.0 + 1,
            _ => self.record.generation.0,
        };
        format!("_mainstem.staging.{}.{generation}", self.record.table)
    }

    pub fn change_record(&mut self, change: impl FnOnce(&mut TableRecord)) {
        change(Arc::make_mut(&mut self.record));
    }

    /// Takes new columns into the record.
    pub fn set_schema(&mut self, schema: Arc<TableSchema>) {
        let stays = |id: ColumnId| schema.columns.iter().any(|column| column.id == id);
        let dropped: Vec<_> =
            self.record.schema.columns.iter().filter(|column| !stays(column.id)).map(|column| column.name.clone()).collect();
        self.change_record(|r| {
            r.dropped_columns.extend(dropped);
            r.schema = schema;
        });
    }

    pub fn start_generation(&mut self, schema: Arc<TableSchema>) {
        self.change_record(|r| {
            r.dropped_columns.clear();
            r.schema = schema;
        });
        self.phase = Phase::Copying;
        self.rows_copied = 0;
        // Why it is copied stays said until it is live.
        self.change_record(|r| r.state = TableState::Snapshotting);
    }

    /// What going from the record's columns to `new` means.
    pub fn change_to(&self, new: &TableSchema) -> Change {
        let old = &self.record.schema;
        if same_shape(old, new) {
            return Change::None;
        }
        if old.identity != new.identity {
            return Change::Rebuild("its replica identity changed");
        }
        for column in &new.columns {
            match old.columns.iter().find(|c| c.id == column.id) {
                Some(before) if !same_column(before, column) => {
                    return Change::Rebuild("a column was renamed or has another type");
                }
                Some(_) => {}
                None if column.missing_value.is_some() => return Change::Rebuild("a column was added with a default value"),
                None if self.record.dropped_columns.contains(&column.name)
                    || old.columns.iter().any(|before| before.name == column.name) =>
                {
                    return Change::Rebuild("a column's name was used before");
                }
                None => {}
            }
        }
        Change::InPlace
    }

    /// Nothing is on its way for it.
    fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Failed) && self.ahead.is_none()
    }

    fn status(&self, source: &SourceName) -> SourceTableStatus {
        let name = &self.record.schema.name;
        SourceTableStatus {
            source: source.clone(),
            schema_name: name.schema.to_string(),
            table_name: name.name.to_string(),
            state: self.record.state,
            rows_copied: self.rows_copied as i64,
            rows_estimated: self.rows_estimated,
            changes_total: self.changes_total as i64,
            last_commit_at: self.last_commit_us,
            error_code: self.record.error_code.as_deref().map(str::to_string),
            error: self.record.error.as_deref().map(str::to_string),
            inserts_only: Some(self.record.schema.identity == Identity::AppendOnly),
        }
    }
}

/// Whether two schemas hold the same columns, identity and key; versions and fill values aside.
pub fn same_shape(a: &TableSchema, b: &TableSchema) -> bool {
    a.name == b.name
        && a.identity == b.identity
        && a.record_key == b.record_key
        && a.columns.len() == b.columns.len()
        && a.columns.iter().zip(&b.columns).all(|(a, b)| same_column(a, b))
}

fn same_column(a: &Column, b: &Column) -> bool {
    a.id == b.id && a.name == b.name && a.kind == b.kind && a.source_type == b.source_type && a.type_modifier == b.type_modifier
}

/// The captured tables of one source, and what became of the others. What happens all the time costs nothing per table that has no part
/// in it: there may be thousands.
pub struct Tables {
    pub source: SourceName,
    /// Whether tables are written without deletion vectors.
    without_vectors: bool,
    /// Whose tables stand under the source's own name.
    default_schema: Arc<str>,
    entries: BTreeMap<UpstreamId, Entry>,
    /// Relations seen but not captured, with the reason.
    excluded: BTreeMap<UpstreamId, (TableName, String)>,
    /// Records to go out with the next barrier.
    changed: BTreeSet<UpstreamId>,
    gone: Vec<Arc<TableRecord>>,
    /// Records that were taken last.
    taken: Vec<Arc<TableRecord>>,
    /// All that are not settled, and some that are again.
    unsettled: BTreeSet<UpstreamId>,
    /// Not yet shown as they are.
    unshown: BTreeSet<UpstreamId>,
}

impl Tables {
    pub fn new(source: SourceName, default_schema: &str, records: Vec<TableRecord>) -> Self {
        let entries: BTreeMap<_, _> = records.into_iter().map(|r| (r.schema.upstream, Entry::new(r, None))).collect();
        let all: BTreeSet<_> = entries.keys().copied().collect();
        Self {
            source,
            without_vectors: false,
            default_schema: default_schema.into(),
            entries,
            excluded: BTreeMap::new(),
            changed: BTreeSet::new(),
            gone: Vec::new(),
            taken: Vec::new(),
            unsettled: all.clone(),
            unshown: all,
        }
    }

    /// As the source's options have it now.
    pub fn set_without_vectors(&mut self, without_vectors: bool) {
        self.without_vectors = without_vectors;
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.record.without_vectors != without_vectors) {
            entry.change_record(|r| r.without_vectors = without_vectors);
            self.changed.insert(*id);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (UpstreamId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    pub fn get(&self, upstream: UpstreamId) -> Option<&Entry> {
        self.entries.get(&upstream)
    }

    /// To be changed: shown anew, and looked at when something is due.
    pub fn entry(&mut self, upstream: UpstreamId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&upstream)?;
        self.unsettled.insert(upstream);
        self.unshown.insert(upstream);
        Some(entry)
    }

    /// The tables for which something is on its way.
    pub fn unsettled(&mut self) -> impl Iterator<Item = (UpstreamId, &Entry)> {
        self.unsettled.retain(|id| self.entries.get(id).is_some_and(|e| !e.is_settled()));
        self.unsettled.iter().filter_map(|id| Some((*id, self.entries.get(id)?)))
    }

    /// With `public` as the default schema, `public.film` of source `shop` is `shop.film`; `sales.orders` is `shop_sales.orders`.
    pub fn query_name(&self, upstream: &TableName) -> TableName {
        match upstream.schema.as_ref() {
            schema if *schema == *self.default_schema => TableName::new(self.source.as_str(), &upstream.name),
            schema => TableName::new(&format!("{}_{schema}", self.source), &upstream.name),
        }
    }

    /// Names of topics that belong to tables here.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.values().map(|e| &e.record.topic)
    }

    /// Adds a table that was not there; its first copy will make generation 1. `taken`: the names of all topics there are: one of this
    /// table's name belongs to another table (or to one that was dropped) and is not mixed with this one.
    pub fn add(&mut self, table: TableId, found: &FoundTable, taken: &mut HashSet<Arc<str>>) {
        let schema = found.schema.clone();
        let upstream = schema.upstream;
        let mut topic = topic_name(&self.source, &schema.name);
        if taken.contains(topic.as_str()) {
            topic = format!("{topic}_{table}");
        }
        let topic: Arc<str> = topic.into();
        taken.insert(topic.clone());
        let record = TableRecord {
            table,
            source: self.source.clone(),
            name: self.query_name(&schema.name),
            topic,
            state: TableState::Waiting,
            generation: Generation(0),
            live: None,
            parents: found.parents.iter().map(|p| self.query_name(p)).collect(),
            schema,
            dropped_columns: BTreeSet::new(),
            without_vectors: self.without_vectors,
            error_code: None,
            error: None,
            body: found.body.clone(),
        };
        self.entries.insert(upstream, Entry::new(record, found.rows_estimated));
        self.unsettled.insert(upstream);
        self.touch(upstream);
    }

    /// Forgets a table; its last record goes out with the next barrier.
    pub fn remove(&mut self, upstream: UpstreamId) -> Option<Entry> {
        let mut entry = self.entries.remove(&upstream)?;
        entry.change_record(|r| r.state = TableState::Dropped);
        self.changed.remove(&upstream);
        self.unshown.insert(upstream);
        self.gone.push(entry.record.clone());
        Some(entry)
    }

    pub fn is_excluded(&self, upstream: UpstreamId) -> bool {
        self.excluded.contains_key(&upstream)
    }

    pub fn set_excluded(&mut self, excluded: BTreeMap<UpstreamId, (TableName, String)>) {
        let before = std::mem::replace(&mut self.excluded, excluded);
        self.unshown.extend(before.into_keys().chain(self.excluded.keys().copied()));
    }

    /// Notes that the record goes out with the next barrier.
    pub fn touch(&mut self, upstream: UpstreamId) {
        if self.entries.contains_key(&upstream) {
            self.changed.insert(upstream);
            self.unshown.insert(upstream);
        }
    }

    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty() || !self.gone.is_empty()
    }

    /// Records that changed since they were last taken, for the next barrier.
    pub fn take_changed(&mut self) -> Vec<Arc<TableRecord>> {
        let mut records = std::mem::take(&mut self.gone);
        let changed = std::mem::take(&mut self.changed);
        records.extend(changed.iter().filter_map(|id| self.entries.get(id)).map(|e| e.record.clone()));
        self.taken.clone_from(&records);
        records
    }

    /// The barrier for which records were taken last may not have been written: the next one has them again.
    pub fn take_back(&mut self) {
        for record in std::mem::take(&mut self.taken) {
            match record.state {
                TableState::Dropped => self.gone.push(record),
                _ => self.touch(record.schema.upstream),
            }
        }
    }

    pub fn publish(&mut self, shared: &Shared, paused: bool) {
        let status = |upstream: &UpstreamId| match (self.entries.get(upstream), self.excluded.get(upstream)) {
            (Some(entry), _) => {
                let mut status = entry.status(&self.source);
                if paused && status.state != TableState::Failed {
                    status.state = TableState::Paused;
                }
                Some(status)
            }
            (None, Some((name, reason))) => Some(excluded_status(&self.source, name, reason)),
            (None, None) => None,
        };
        let statuses: Vec<_> = std::mem::take(&mut self.unshown).into_iter().map(|id| (id, status(&id))).collect();
        shared.with(|facts| {
            for (upstream, status) in statuses {
                match status {
                    Some(status) => drop(facts.tables.insert(upstream, status)),
                    None => drop(facts.tables.remove(&upstream)),
                }
            }
        });
    }
}

fn excluded_status(source: &SourceName, name: &TableName, reason: &str) -> SourceTableStatus {
    SourceTableStatus {
        source: source.clone(),
        schema_name: name.schema.to_string(),
        table_name: name.name.to_string(),
        state: TableState::Excluded,
        rows_copied: 0,
        rows_estimated: None,
        changes_total: 0,
        last_commit_at: None,
        error_code: None,
        error: Some(reason.to_string()),
        inserts_only: None,
    }
}

/// Longest topic name before a suffix, bytes; Kafka's bound is 249.
const TOPIC_BYTES_MAX: usize = 200;

/// The topic of a table as Debezium names it: what Kafka does not allow in a topic's name becomes `_`.
fn topic_name(source: &SourceName, upstream: &TableName) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = format!("{source}.{}.{}", upstream.schema, upstream.name).chars().map(allowed).collect();
    name[..name.len().min(TOPIC_BYTES_MAX - 24)].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstem_types::{ColumnType, Identity};

    fn column(id: i32, name: &str, kind: ColumnType) -> Column {
        let source_type = format!("{kind:?}").into();
        Column {
            id: ColumnId(id),
            name: name.into(),
            kind,
            not_null: false,
            source_type,
            pg_type: None,
            type_modifier: -1,
            missing_value: None,
        }
    }

    fn schema(columns: Vec<Column>) -> TableSchema {
        TableSchema {
            upstream: UpstreamId(7),
            name: TableName::new("public", "t"),
            version: 0,
            columns,
            identity: Identity::Key { columns: vec![ColumnId(1)] },
            record_key: vec![ColumnId(1)],
        }
    }

    fn entry(columns: Vec<Column>) -> Entry {
        let mut tables = Tables::new(SourceName::new("shop").unwrap(), "public", vec![]);
        let schema = Arc::new(schema(columns));
        let found = FoundTable { schema, rows_estimated: None, parents: Vec::new(), excluded: None, body: None };
        tables.add(TableId(1), &found, &mut HashSet::new());
        tables.entries.remove(&UpstreamId(7)).unwrap()
    }

    fn check(columns: Vec<Column>, expected: Change) {
        let entry = entry(vec![column(1, "id", ColumnType::Int32), column(2, "name", ColumnType::Text)]);
        assert_eq!(entry.change_to(&schema(columns)), expected);
    }

    #[test]
    fn what_a_change_of_columns_means() {
        let id = || column(1, "id", ColumnType::Int32);
        let name = || column(2, "name", ColumnType::Text);
        check(vec![id(), name()], Change::None);
        check(vec![id()], Change::InPlace);
        check(vec![id(), name(), column(3, "x", ColumnType::Date)], Change::InPlace);
        check(vec![id(), column(2, "title", ColumnType::Text)], Change::Rebuild("a column was renamed or has another type"));
        check(vec![id(), column(2, "name", ColumnType::Bytes)], Change::Rebuild("a column was renamed or has another type"));
        check(vec![id(), column(3, "name", ColumnType::Text)], Change::Rebuild("a column's name was used before"));
        let filled = Column { missing_value: Some("0".into()), ..column(3, "x", ColumnType::Int32) };
        check(vec![id(), name(), filled], Change::Rebuild("a column was added with a default value"));
        // The name of a column that was dropped before, also when the server was started anew since.
        let mut entry = entry(vec![id(), name()]);
        entry.set_schema(Arc::new(schema(vec![id()])));
        let again = schema(vec![id(), column(3, "name", ColumnType::Text)]);
        let after_restart = Entry::new(entry.record.as_ref().clone(), None);
        for entry in [&entry, &after_restart] {
            assert_eq!(entry.change_to(&again), Change::Rebuild("a column's name was used before"));
        }
        entry.start_generation(Arc::new(again.clone()));
        assert_eq!(entry.change_to(&again), Change::None);
        assert!(entry.record.dropped_columns.is_empty());
    }

    #[test]
    fn what_is_shown_follows_the_tables() {
        let shared = Shared::new(crate::capture::shared::SourceState::Streaming);
        let mut tables = Tables::new(SourceName::new("shop").unwrap(), "public", vec![]);
        let check = |tables: &mut Tables, expected: &[(u64, TableState)], unsettled: usize| {
            tables.publish(&shared, false);
            let shown: Vec<_> = shared.with(|f| f.tables.iter().map(|(id, status)| (id.0, status.state)).collect());
            assert_eq!(shown, expected);
            assert_eq!(tables.unsettled().count(), unsettled);
        };
        let left_out = |id: u64| BTreeMap::from([(UpstreamId(id), (TableName::new("public", "v"), "a view".to_string()))]);
        let schema = Arc::new(schema(vec![column(1, "id", ColumnType::Int32)]));
        let found = FoundTable { schema, rows_estimated: None, parents: Vec::new(), excluded: None, body: None };
        tables.add(TableId(1), &found, &mut HashSet::new());
        tables.set_excluded(left_out(8));
        check(&mut tables, &[(7, TableState::Waiting), (8, TableState::Excluded)], 1);
        let entry = tables.entry(UpstreamId(7)).unwrap();
        entry.phase = Phase::Live;
        entry.change_record(|r| r.state = TableState::Streaming);
        check(&mut tables, &[(7, TableState::Streaming), (8, TableState::Excluded)], 0);
        assert_eq!(tables.take_changed().len(), 1);
        tables.remove(UpstreamId(7));
        tables.set_excluded(left_out(9));
        check(&mut tables, &[(9, TableState::Excluded)], 0);
        let gone = tables.take_changed();
        assert_eq!((gone.len(), gone[0].state), (1, TableState::Dropped));
    }

    #[test]
    fn records_of_a_barrier_that_was_not_written_go_out_with_the_next() {
        let mut tables = Tables::new(SourceName::new("shop").unwrap(), "public", vec![]);
        let schema = Arc::new(schema(vec![column(1, "id", ColumnType::Int32)]));
        let found = FoundTable { schema, rows_estimated: None, parents: Vec::new(), excluded: None, body: None };
        tables.add(TableId(1), &found, &mut HashSet::new());
        assert_eq!(tables.take_changed().len(), 1);
        tables.take_back();
        assert_eq!(tables.take_changed().len(), 1);
        tables.remove(UpstreamId(7));
        assert_eq!(tables.take_changed()[0].state, TableState::Dropped);
        tables.take_back();
        assert!(tables.has_changes());
        assert_eq!(tables.take_changed()[0].state, TableState::Dropped);
        assert!(!tables.has_changes() && tables.take_changed().is_empty());
    }

    #[test]
    fn names_follow_the_schema() {
        let shop = SourceName::new("shop").unwrap();
        assert_eq!(topic_name(&shop, &TableName::new("public", "film")), "shop.public.film");
        assert_eq!(topic_name(&shop, &TableName::new("public", "Größe 1")), "shop.public.Gr__e_1");
        let check = |default: &str, schema: &str, expected: &str| {
            let tables = Tables::new(shop.clone(), default, vec![]);
            assert_eq!(tables.query_name(&TableName::new(schema, "t")), TableName::new(expected, "t"));
        };
        check("public", "public", "shop");
        check("public", "sales", "shop_sales");
        check("sakila", "sakila", "shop");
        check("sakila", "public", "shop_public");
    }
}
