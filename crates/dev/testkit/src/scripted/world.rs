//! The system itself: tables, the log of its transactions, and what is to go wrong.

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use mainstem_connector::{BadRow, Seen};
use mainstem_types::{
    ChangeBatch, Code, Column, ColumnId, ColumnType, Error, ErrorKind, Identity, Op, Position, TableName, TableSchema, Tx,
    UpstreamId,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A value in its text form; None is NULL.
pub type Cell = Option<String>;

/// A text that no column can hold here: its row is reported, its value never copied.
pub const UNHOLDABLE: &str = "#unholdable";

/// Of all errors of the script: who reads them looks at their kind.
pub(super) const TOLD: Code = mainstem_connector::BAD_OPTION;

/// What a transaction does. The first column is the key.
#[derive(Clone, Debug)]
pub enum Change {
    Insert {
        table: String,
        row: Vec<Cell>,
    },
    /// Every column; the key stays.
    Update {
        table: String,
        row: Vec<Cell>,
    },
    Move {
        table: String,
        from: i64,
        to: i64,
    },
    Delete {
        table: String,
        id: i64,
    },
    Empty {
        table: String,
    },
}

/// A call of the contract that can be made to fail or to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Prepare,
    Discover,
    Head,
    Stream,
    /// The stream's next item.
    Next,
    Copy,
    /// The copy's next rows.
    CopyNext,
}

/// See the module. Clones are the same system.
#[derive(Clone, Default)]
pub struct World(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<String, Table>,
    next_table: u64,
    log: Vec<Transaction>,
    next_id: u64,
    /// Transactions that have begun and not ended.
    open: BTreeSet<u64>,
    /// Acknowledged: transactions of the log up to here may be forgotten.
    released: Option<usize>,
    sessions: usize,
    /// Positions of an earlier incarnation are lost.
    lost: bool,
    faults: VecDeque<(Call, ErrorKind)>,
    paused: BTreeSet<Call>,
    /// Streams begin at what was acknowledged, not where they are asked to.
    repeats: bool,
    /// Calls until everything stands still; None: it never does.
    calls_left: Option<u64>,
}

struct Table {
    schema: Arc<TableSchema>,
    rows: BTreeMap<i64, Vec<Cell>>,
    next_column: i32,
}

/// A committed transaction: its events in order.
pub(super) struct Transaction {
    pub id: u64,
    pub events: Arc<Vec<Event>>,
}

/// One row change as the log has it.
pub(super) struct Event {
    pub schema: Arc<TableSchema>,
    pub op: Op,
    pub row: Vec<Cell>,
    /// Of an update that changed the key.
    pub old: Option<i64>,
}

impl World {
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Looking) -> T) -> T {
        look(&mut Looking(self.0.state.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a table of schema `main`: a key (bigint) and further columns.
    pub fn create(&self, table: &str, columns: &[(&str, ColumnType)]) {
        let mut state = self.state();
        state.next_table += 1;
        let upstream = UpstreamId(state.next_table);
        let named = [("id", ColumnType::Int64)].into_iter().chain(columns.iter().cloned());
        let columns: Vec<Column> = named.enumerate().map(|(at, (name, kind))| column(at as i32 + 1, name, kind)).collect();
        let next_column = columns.len() as i32 + 1;
        let key = vec![ColumnId(1)];
        let schema = TableSchema {
            upstream,
            name: TableName::new("main", table),
            version: 0,
            columns,
            identity: Identity::Key { columns: key.clone() },
            record_key: key,
        };
        state.tables.insert(table.into(), Table { schema: Arc::new(schema), rows: BTreeMap::new(), next_column });
        drop(state);
        self.0.changed.notify_waiters();
    }

    pub fn drop_table(&self, table: &str) {
        self.state().tables.remove(table);
    }

    /// Adds a column, NULL in the rows there are.
    pub fn add_column(&self, table: &str, name: &str, kind: ColumnType) {
        self.reshape(table, |table, schema| {
            schema.columns.push(column(table.next_column, name, kind));
            table.next_column += 1;
            table.rows.values_mut().for_each(|row| row.push(None));
        });
    }

    pub fn drop_column(&self, table: &str, name: &str) {
        self.reshape(table, |table, schema| {
            let at = schema.columns.iter().position(|c| &*c.name == name).unwrap();
            schema.columns.remove(at);
            table.rows.values_mut().for_each(|row| drop(row.remove(at)));
        });
    }

    pub fn rename_column(&self, table: &str, from: &str, to: &str) {
        self.reshape(table, |_, schema| {
            schema.columns.iter_mut().filter(|c| &*c.name == from).for_each(|c| c.name = to.into());
        });
    }

    fn reshape(&self, table: &str, change: impl FnOnce(&mut Table, &mut TableSchema)) {
        let mut state = self.state();
        let table = state.tables.get_mut(table).unwrap();
        let mut schema = table.schema.as_ref().clone();
        schema.version += 1;
        change(table, &mut schema);
        table.schema = Arc::new(schema);
    }

    /// One transaction.
    pub fn commit(&self, changes: &[Change]) {
        let id = self.begin();
        self.end(id, changes, true);
    }

    /// The number of a transaction that begins now.
    pub fn begin(&self) -> u64 {
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        state.open.insert(id);
        id
    }

    /// Ends it: all of `changes` happen, or none.
    pub fn end(&self, id: u64, changes: &[Change], commit: bool) {
        let mut state = self.state();
        state.open.remove(&id);
        if commit {
            let events: Vec<Event> = changes.iter().filter_map(|change| state.apply(change)).collect();
            state.log.push(Transaction { id, events: Arc::new(events) });
        }
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// The next call of this kind fails.
    pub fn fail(&self, call: Call, kind: ErrorKind) {
        self.state().faults.push_back((call, kind));
        self.0.changed.notify_waiters();
    }

    /// Calls of this kind wait until `resume`.
    pub fn pause(&self, call: Call) {
        self.state().paused.insert(call);
    }

    pub fn resume(&self, call: Call) {
        self.state().paused.remove(&call);
        self.0.changed.notify_waiters();
    }

    /// The place where a reader stopped is gone: it must begin anew.
    pub fn lose_positions(&self) {
        self.state().lost = true;
        self.fail(Call::Next, ErrorKind::Retry);
    }

    /// After `n` more calls of the contract every call waits for ever, as for a process that is about to die; None: no more.
    pub fn halt_after(&self, n: Option<u64>) {
        self.state().calls_left = n;
    }

    /// Returns once everything stands still.
    pub async fn halted(&self) {
        self.until(|looking| looking.0.calls_left == Some(0)).await;
    }

    pub(super) fn count_call(&self) {
        if let Some(left) = &mut self.state().calls_left {
            *left = left.saturating_sub(1);
        }
        self.0.changed.notify_waiters();
    }

    /// From now on streams repeat what was handed out and not acknowledged, whatever place they are asked for.
    pub fn repeat_unacknowledged(&self) {
        self.state().repeats = true;
    }

    /// What a table holds, without the rows that nobody can hold.
    pub fn rows(&self, table: &str) -> BTreeMap<i64, Vec<Cell>> {
        let state = self.state();
        let good = |row: &Vec<Cell>| row.iter().all(|cell| cell.as_deref() != Some(UNHOLDABLE));
        let rows = state.tables.get(table).map(|table| table.rows.clone()).unwrap_or_default();
        rows.into_iter().filter(|(_, row)| good(row)).collect()
    }

    pub fn tables(&self) -> Vec<String> {
        self.state().tables.keys().cloned().collect()
    }

    pub fn released(&self) -> Option<Position> {
        self.state().released.map(position)
    }

    pub fn sessions(&self) -> usize {
        self.state().sessions
    }

    /// Whether a call of this kind fails now, as the script says.
    pub(super) fn fault(&self, call: Call) -> Result<(), Error> {
        let mut state = self.state();
        match state.faults.iter().position(|(at, _)| *at == call).and_then(|at| state.faults.remove(at)) {
            Some((_, kind)) => Err(Error::new(kind, TOLD, format!("the script lets {call:?} fail"))),
            None => Ok(()),
        }
    }

    /// Waits while calls of this kind are paused, then fails when the script says so.
    pub(super) async fn pass(&self, call: Call) -> Result<(), Error> {
        self.count_call();
        self.until(|looking| looking.0.calls_left != Some(0) && !looking.0.paused.contains(&call)).await;
        self.fault(call)
    }

    /// Returns once `ready` says so.
    pub(super) async fn until(&self, mut ready: impl FnMut(&mut Looking) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Listening first: what changes in between is not missed.
            changed.as_mut().enable();
            if self.with(&mut ready) {
                return;
            }
            changed.await;
        }
    }
}

/// The system, looked at by its source.
pub(super) struct Looking<'a>(MutexGuard<'a, State>);

impl Looking<'_> {
    pub fn head(&self) -> usize {
        self.0.log.len()
    }

    pub fn transaction(&self, at: usize) -> Option<(u64, Arc<Vec<Event>>)> {
        self.0.log.get(at).map(|tx| (tx.id, tx.events.clone()))
    }

    pub fn schemas(&self) -> Vec<(Arc<TableSchema>, i64)> {
        self.0.tables.values().map(|table| (table.schema.clone(), table.rows.len() as i64)).collect()
    }

    /// Where a stream begins that is asked to begin at `from`.
    pub fn start(&self, from: usize) -> usize {
        if self.0.repeats { self.0.released.map_or(from, |released| released.min(from)) } else { from }
    }

    pub fn is_paused(&self, call: Call) -> bool {
        self.0.calls_left == Some(0) || self.0.paused.contains(&call)
    }

    pub fn has_fault(&self, call: Call) -> bool {
        self.0.faults.iter().any(|(at, _)| *at == call)
    }

    pub fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.0.lost)
    }

    pub fn release(&mut self, at: usize) {
        self.0.released = self.0.released.max(Some(at));
    }

    pub fn sessions(&mut self) -> &mut usize {
        &mut self.0.sessions
    }

    /// A table as it is now, and what a copy of it has seen.
    pub fn snapshot(&self, upstream: UpstreamId) -> Option<(Arc<TableSchema>, Vec<Vec<Cell>>, Seen)> {
        let table = self.0.tables.values().find(|table| table.schema.upstream == upstream)?;
        let next = self.0.next_id + 1;
        let seen = Seen { below: 0, from: next, except: self.0.open.clone() };
        let seen = if self.0.open.is_empty() { Seen { below: next, ..seen } } else { seen };
        Some((table.schema.clone(), table.rows.values().cloned().collect(), seen))
    }
}

impl State {
    fn apply(&mut self, change: &Change) -> Option<Event> {
        let (Change::Insert { table, .. }
        | Change::Update { table, .. }
        | Change::Move { table, .. }
        | Change::Delete { table, .. }
        | Change::Empty { table }) = change;
        let table = self.tables.get_mut(table)?;
        let schema = table.schema.clone();
        let nulls = vec![None; schema.columns.len()];
        let key = |row: &[Cell]| row[0].as_deref().and_then(|text| text.parse::<i64>().ok()).expect("a key");
        let event = |op, row, old| Some(Event { schema: schema.clone(), op, row, old });
        match change {
            Change::Insert { row, .. } => {
                assert_eq!(row.len(), nulls.len(), "a value for each column of {}", schema.name);
                assert!(table.rows.insert(key(row), row.clone()).is_none(), "{:?} is there already", row[0]);
                event(Op::Create, row.clone(), None)
            }
            Change::Update { row, .. } => {
                assert_eq!(row.len(), nulls.len(), "a value for each column of {}", schema.name);
                *table.rows.get_mut(&key(row))? = row.clone();
                event(Op::Update, row.clone(), None)
            }
            Change::Move { from, to, .. } => {
                let mut row = table.rows.remove(from)?;
                row[0] = Some(to.to_string());
                assert!(table.rows.insert(*to, row.clone()).is_none(), "{to} is there already");
                event(Op::Update, row, Some(*from))
            }
            Change::Delete { id, .. } => {
                table.rows.remove(id)?;
                let mut row = nulls;
                row[0] = Some(id.to_string());
                event(Op::Delete, row, None)
            }
            Change::Empty { .. } => {
                table.rows.clear();
                event(Op::Truncate, nulls, None)
            }
        }
    }
}

fn column(id: i32, name: &str, kind: ColumnType) -> Column {
    let (source_type, pg_type) = match kind {
        ColumnType::Int64 => ("NUMBER", "int8"),
        ColumnType::Bool => ("FLAG", "bool"),
        ColumnType::Float64 => ("REAL", "float8"),
        _ => ("TEXT", "text"),
    };
    Column {
        id: ColumnId(id),
        name: name.into(),
        kind,
        not_null: id == 1,
        source_type: source_type.into(),
        pg_type: Some(pg_type.into()),
        type_modifier: -1,
        missing_value: None,
    }
}

pub(super) fn position(at: usize) -> Position {
    Position::new(&format!("line {at}"))
}

pub(super) fn place(position: &Position) -> Option<usize> {
    position.0.strip_prefix("line ")?.parse().ok()
}

/// About the bytes of its decoded form.
pub(super) fn bytes(event: &Event) -> usize {
    64 + event.row.iter().flatten().map(String::len).sum::<usize>()
}

/// Events of one table on their way into a batch.
pub(super) struct Gathered {
    schema: Arc<TableSchema>,
    rows: Vec<Vec<Cell>>,
    ops: Vec<Op>,
    places: Vec<u64>,
    orders: Vec<u32>,
    txs: Vec<(u32, Tx)>,
    old: Vec<Vec<Cell>>,
    old_rows: Vec<u32>,
    pub bytes: usize,
}

/// Where an event stands.
#[derive(Clone, Copy)]
pub(super) struct Stand {
    pub tx: Tx,
    pub order: u32,
}

impl Gathered {
    pub fn new(schema: Arc<TableSchema>) -> Self {
        Self {
            schema,
            rows: Vec::new(),
            ops: Vec::new(),
            places: Vec::new(),
            orders: Vec::new(),
            txs: Vec::new(),
            old: Vec::new(),
            old_rows: Vec::new(),
            bytes: 0,
        }
    }

    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Takes an event. One whose values cannot be held is given back; what is certain of it is taken: that the row it replaces is gone.
    pub fn push(&mut self, event: &Event, stand: Stand) -> Option<Box<BadRow>> {
        self.bytes += bytes(event);
        let bad = event.row.iter().position(|cell| cell.as_deref() == Some(UNHOLDABLE));
        let Some(at) = bad else {
            self.add(event.op, event.row.clone(), event.old, stand);
            return None;
        };
        if event.op == Op::Update {
            let mut gone = vec![None; event.row.len()];
            gone[0] = event.old.map(|id| id.to_string()).or_else(|| event.row[0].clone());
            self.add(Op::Delete, gone, None, stand);
        }
        let column = &self.schema.columns[at];
        let message = format!("{}: a value of column `{}` cannot be held", self.schema.name, column.name);
        Some(Box::new(BadRow {
            schema: self.schema.clone(),
            op: event.op,
            tx: stand.tx,
            place: stand.tx.commit_place,
            order: stand.order,
            values: event.row.clone(),
            error: Error::fix(TOLD, message),
        }))
    }

    fn add(&mut self, op: Op, row: Vec<Cell>, old: Option<i64>, stand: Stand) {
        if let Some(old) = old {
            let mut image = vec![None; row.len()];
            image[0] = Some(old.to_string());
            self.old.push(image);
            self.old_rows.push(self.ops.len() as u32);
        }
        self.rows.push(row);
        self.ops.push(op);
        self.places.push(stand.tx.commit_place);
        self.orders.push(stand.order);
        let end = self.ops.len() as u32;
        match self.txs.last_mut() {
            Some((last, tx)) if *tx == stand.tx => *last = end,
            _ => self.txs.push((end, stand.tx)),
        }
    }

    pub fn finish(self) -> ChangeBatch {
        let batch = |rows: &[Vec<Cell>]| {
            let arrays = self.schema.columns.iter().enumerate().map(|(at, column)| array(&column.kind, rows, at)).collect();
            RecordBatch::try_new(self.schema.arrow(), arrays).expect("rows of their schema")
        };
        ChangeBatch {
            rows: batch(&self.rows),
            old: (!self.old.is_empty()).then(|| batch(&self.old)),
            schema: self.schema,
            ops: self.ops,
            places: self.places,
            orders: self.orders,
            txs: self.txs,
            old_rows: self.old_rows,
            unchanged: Vec::new(),
        }
    }
}

fn array(kind: &ColumnType, rows: &[Vec<Cell>], at: usize) -> ArrayRef {
    let cells = rows.iter().map(|row| row[at].as_deref());
    match kind {
        ColumnType::Int64 => Arc::new(Int64Array::from_iter(cells.map(|c| c.map(|text| text.parse::<i64>().expect("a number"))))),
        ColumnType::Float64 => {
            Arc::new(Float64Array::from_iter(cells.map(|c| c.map(|text| text.parse::<f64>().expect("a number")))))
        }
        ColumnType::Bool => Arc::new(BooleanArray::from_iter(cells.map(|c| c.map(|text| text == "true")))),
        ColumnType::Text => Arc::new(StringArray::from_iter(cells)),
        other => panic!("the scripted system has no {other:?}"),
    }
}
