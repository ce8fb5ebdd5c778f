//! The scripted system through the contract.

use super::world::{Call, Event, Gathered, Looking, Stand, TOLD, World, bytes, place, position};
use async_trait::async_trait;
use mainstem_connector::{
    ChangeStream, CommitPoint, Connector, Copied, Finding, FoundTable, ITEM_BYTES_MAX, OptionKind, OptionSpec, Options, Prepared,
    Seen, Source, SourceSettings, Spec, StreamItem, TableCopy, TypeSpec,
};
use mainstem_env::Env;
use mainstem_types::metrics::Metric;
use mainstem_types::source_block::SourceBlock;
use mainstem_types::{Error, Op, Position, Result, TableSchema, Tx, UpstreamId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Transactions up to this share an item.
const SMALL_BYTES: usize = ITEM_BYTES_MAX / 2;

static SPEC: Spec = Spec {
    name: "scripted",
    title: "Scripted",
    schemes: &["scripted"],
    example: "CREATE SOURCE play FROM 'scripted://here/play';",
    options: &[OptionSpec {
        name: "tables",
        kind: OptionKind::List,
        default: "",
        help: "Names of tables to capture; all when empty.",
        secret: false,
    }],
    source_block: SourceBlock::plain("scripted", "mainstem.scripted"),
    types: &[TypeSpec { names: "`NUMBER`", shown: "`int8`", held: "Int64", refused: "" }],
};

/// What a registry lists.
pub fn connector(world: World) -> Arc<dyn Connector> {
    Arc::new(Scripted(world))
}

/// The connector of one system.
pub struct Scripted(World);

impl Connector for Scripted {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn accepts(&self, url: &str) -> bool {
        url.starts_with("scripted://")
    }

    fn database(&self, url: &str) -> String {
        url.rsplit('/').next().unwrap_or("").to_string()
    }

    fn default_schema(&self, _: &str) -> String {
        "main".to_string()
    }

    fn metrics(&self) -> &'static [&'static dyn Metric] {
        &[]
    }

    fn open(&self, _: Env, settings: SourceSettings) -> Result<Arc<dyn Source>> {
        let options = Mutex::new(settings.options);
        Ok(Arc::new(ScriptedSource { world: self.0.clone(), options, found: Mutex::default() }))
    }
}

struct ScriptedSource {
    world: World,
    options: Mutex<Options>,
    /// What `discover` gave last, for the same answer while nothing changed.
    found: Mutex<Arc<Vec<FoundTable>>>,
}

impl ScriptedSource {
    fn wants(&self, table: &str) -> bool {
        let options = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = SPEC.value(&options, "tables");
        wanted.is_empty() || wanted.split(',').any(|name| name.trim() == table)
    }
}

fn at(position: &Position) -> Result<usize> {
    place(position).ok_or_else(|| Error::fix(TOLD, format!("`{position}` is no line of a script")))
}

#[async_trait]
impl Source for ScriptedSource {
    async fn check(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn administrator_script(&self, _: &[Finding]) -> Result<Option<String>> {
        Ok(None)
    }

    fn remote_objects(&self) -> Vec<String> {
        Vec::new()
    }

    async fn prepare(&self, stored: Option<&Position>) -> Result<Prepared> {
        self.world.pass(Call::Prepare).await?;
        let (head, lost) = self.world.with(|world| {
            let lost = world.take_lost() && stored.is_some();
            let head = world.head();
            if stored.is_none() || lost {
                world.release(head);
            }
            (head, lost)
        });
        Ok(Prepared { start: position(head), lost: lost.then(|| "the script lost it".to_string()) })
    }

    async fn discover(&self) -> Result<Arc<Vec<FoundTable>>> {
        self.world.pass(Call::Discover).await?;
        let now: Vec<FoundTable> = self.world.with(|world| {
            let found = |(schema, rows): (Arc<TableSchema>, i64)| {
                let excluded = (!self.wants(&schema.name.name)).then(|| "not among `tables`".to_string());
                FoundTable { schema, rows_estimated: Some(rows), parents: Vec::new(), excluded, body: None }
            };
            world.schemas().into_iter().map(found).collect()
        });
        let mut last = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(a, b): (&FoundTable, &FoundTable)| Arc::ptr_eq(&a.schema, &b.schema) && a.excluded == b.excluded;
        if last.len() != now.len() || !last.iter().zip(&now).all(same) {
            *last = Arc::new(now);
        }
        Ok(last.clone())
    }

    fn reconfigure(&self, options: &Options) -> Result<bool> {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options.clone();
        Ok(true)
    }

    async fn stream(&self, from: &Position) -> Result<Box<dyn ChangeStream>> {
        self.world.pass(Call::Stream).await?;
        let from = at(from)?;
        let next = self.world.with(|world| world.start(from));
        let session = Session::new(&self.world);
        Ok(Box::new(Stream { session, from, next, known: BTreeMap::new(), items: VecDeque::new(), broken: None }))
    }

    async fn copy(&self, table: UpstreamId) -> Result<Box<dyn TableCopy>> {
        self.world.pass(Call::Copy).await?;
        let session = Session::new(&self.world);
        let (snapshot, head) = self.world.with(|world| (world.snapshot(table), world.head()));
        let gone = || Error::retry(TOLD, format!("table {table} is gone"));
        let (schema, rows, seen) = snapshot.ok_or_else(gone)?;
        // As of the snapshot, whenever it is read.
        let tx = Tx { id: 0, commit_place: head as u64, commit_time_us: 0 };
        let mut items = VecDeque::new();
        let mut gathered = Gathered::new(schema.clone());
        for row in rows {
            let event = Event { schema: schema.clone(), op: Op::Read, row, old: None };
            items.extend(gathered.push(&event, Stand { tx, order: 0 }).map(Copied::BadRow));
            if gathered.len() >= 1000 || gathered.bytes >= ITEM_BYTES_MAX {
                let full = std::mem::replace(&mut gathered, Gathered::new(schema.clone()));
                items.push_back(Copied::Rows(full.finish()));
            }
        }
        if gathered.len() > 0 {
            items.push_back(Copied::Rows(gathered.finish()));
        }
        Ok(Box::new(Copy { session, schema, seen, upto: position(head), items }))
    }

    async fn head(&self) -> Result<Position> {
        self.world.pass(Call::Head).await?;
        Ok(position(self.world.with(|world| world.head())))
    }

    fn parse_position(&self, text: &str) -> Result<Position> {
        at(&Position::new(text)).map(position)
    }

    fn covers(&self, a: &Position, b: &Position) -> bool {
        matches!((place(a), place(b)), (Some(a), Some(b)) if a >= b)
    }

    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<i64> {
        Some(place(to)? as i64 - place(from)? as i64)
    }

    async fn remove(&self) -> Result<()> {
        Ok(())
    }
}

/// A session that the system counts.
struct Session(World);

impl Session {
    fn new(world: &World) -> Self {
        world.with(|world| *world.sessions() += 1);
        Self(world.clone())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.with(|world| *world.sessions() -= 1);
    }
}

struct Stream {
    session: Session,
    /// Where the reader asked it to begin: what is repeated in front of it comes in items of its own.
    from: usize,
    /// The first transaction that was not read.
    next: usize,
    /// Columns as told in this stream.
    known: BTreeMap<UpstreamId, Arc<TableSchema>>,
    items: VecDeque<StreamItem>,
    broken: Option<Error>,
}

#[async_trait]
impl ChangeStream for Stream {
    async fn next(&mut self) -> Result<StreamItem> {
        let world = self.session.0.clone();
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(item);
            }
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            world.count_call();
            let next = self.next;
            let ready =
                |world: &mut Looking<'_>| world.has_fault(Call::Next) || (world.head() > next && !world.is_paused(Call::Next));
            world.until(ready).await;
            if let Err(error) = world.fault(Call::Next) {
                self.broken = Some(error);
                continue;
            }
            self.read();
        }
    }

    fn acknowledge(&mut self, position: &Position) {
        if let Some(at) = place(position) {
            self.session.0.with(|world| world.release(at));
        }
    }
}

impl Stream {
    /// Reads transactions into items until one is full; a larger transaction leaves in pieces.
    fn read(&mut self) {
        let (mut open, mut bytes): (Vec<Gathered>, usize) = (Vec::new(), 0);
        while bytes < SMALL_BYTES {
            let Some((id, events)) = self.session.0.with(|world| world.transaction(self.next)) else { break };
            let tx = Tx { id, commit_place: self.next as u64 + 1, commit_time_us: 1_000_000 * (self.next as i64 + 1) };
            for (order, event) in events.iter().enumerate() {
                let upstream = event.schema.upstream;
                let fresh = self.known.get(&upstream).is_none_or(|known| !Arc::ptr_eq(known, &event.schema));
                if fresh || bytes >= ITEM_BYTES_MAX {
                    // Whole transactions in front of it leave first, then a piece of this one.
                    if !open.is_empty() {
                        self.hand_out(&mut open, order == 0);
                    }
                    bytes = 0;
                }
                if fresh {
                    self.known.insert(upstream, event.schema.clone());
                    self.items.push_back(StreamItem::Schema(event.schema.clone()));
                }
                let at = match open.iter().position(|gathered| Arc::ptr_eq(gathered.schema(), &event.schema)) {
                    Some(at) => at,
                    None => {
                        open.push(Gathered::new(event.schema.clone()));
                        open.len() - 1
                    }
                };
                let before = open[at].bytes;
                let bad = open[at].push(event, Stand { tx, order: order as u32 });
                bytes += open[at].bytes - before;
                self.items.extend(bad.map(StreamItem::BadRow));
            }
            self.next += 1;
            if self.next == self.from || !self.next_is_plain() {
                break;
            }
        }
        self.hand_out(&mut open, true);
    }

    /// Whether the next transaction may share an item: not one with columns of its own, nor one that may leave in pieces.
    fn next_is_plain(&self) -> bool {
        let Some((_, events)) = self.session.0.with(|world| world.transaction(self.next)) else { return false };
        let known = |event: &Event| self.known.get(&event.schema.upstream).is_some_and(|known| Arc::ptr_eq(known, &event.schema));
        events.iter().map(bytes).sum::<usize>() < SMALL_BYTES && events.iter().all(known)
    }

    /// Hands out what was gathered; `whole`: it ends with the transaction before `next`.
    fn hand_out(&mut self, open: &mut Vec<Gathered>, whole: bool) {
        let batches: Vec<_> = std::mem::take(open).into_iter().filter(|g| g.len() > 0).map(Gathered::finish).collect();
        if batches.is_empty() && !whole {
            return;
        }
        let point = CommitPoint { position: position(self.next), commit_time_us: 1_000_000 * self.next as i64 };
        self.items.push_back(StreamItem::Changes { batches, end: whole.then_some(point) });
    }
}

struct Copy {
    session: Session,
    schema: Arc<TableSchema>,
    seen: Seen,
    upto: Position,
    items: VecDeque<Copied>,
}

#[async_trait]
impl TableCopy for Copy {
    fn schema(&self) -> Arc<TableSchema> {
        self.schema.clone()
    }

    fn seen(&self) -> Seen {
        self.seen.clone()
    }

    fn upto(&self) -> Position {
        self.upto.clone()
    }

    async fn next(&mut self) -> Result<Option<Copied>> {
        self.session.0.pass(Call::CopyNext).await?;
        Ok(self.items.pop_front())
    }
}
