//! Opening: what the log says of tables and barriers, what their Delta logs hold, and the changes since.

use crate::delta::DeltaTable;
use crate::files::{DataFile, arrow_error, io_error, load, read, segment_of};
use crate::flush::{FLUSHED_TOPIC, Flushed, LastBarrier};
use crate::keys::KeyCodec;
use crate::metrics;
use crate::replay::GroupReader;
use crate::rows::{Home, Resume, Rows};
use crate::run::{Run, RunBuilder};
use crate::segment::{Body, Segment};
use crate::source::{Source, SourceState};
use crate::spill::Hold;
use crate::table::{Ground, Table, remove_dir};
use arrow::array::{Array, ArrayRef, new_null_array};
use mainstem_envelope::tail::Visible;
use mainstem_eventlog::{EventLog, KeyedReader, TopicPartition};
use mainstem_types::barrier::{BARRIER_TOPIC, TABLE_TOPIC};
use mainstem_types::{Barrier, Column, Result, SourceName, TableId, TableRecord, TableSchema, TableState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the log's control topics say.
pub(crate) struct Words {
    pub records: Vec<TableRecord>,
    pub dropped: Vec<TableId>,
    pub barriers: BTreeMap<SourceName, LastBarrier>,
    pub flushed: BTreeMap<(TableId, u32), Resume>,
}

pub(crate) async fn read_words(log: &Arc<dyn EventLog>) -> Result<Words> {
    let mut words = Words { records: Vec::new(), dropped: Vec::new(), barriers: BTreeMap::new(), flushed: BTreeMap::new() };
    let mut tables: KeyedReader<TableId, TableRecord> = KeyedReader::new(log.clone(), TABLE_TOPIC);
    for change in tables.read().await? {
        match change.value.filter(|r| r.state != TableState::Dropped) {
            Some(record) => words.records.push(record),
            None => words.dropped.push(change.key),
        }
    }
    let mut barriers: KeyedReader<SourceName, Barrier> = KeyedReader::new(log.clone(), BARRIER_TOPIC);
    for change in barriers.read().await? {
        let Some(Barrier { source, seq, position, commit_time_us, .. }) = change.value else { continue };
        words.barriers.insert(source, LastBarrier { seq, position, commit_time_us });
    }
    let mut flushed: KeyedReader<SourceName, Flushed> = KeyedReader::new(log.clone(), FLUSHED_TOPIC);
    for change in flushed.read().await? {
        let Some(Flushed { tables, barrier }) = change.value else { continue };
        words.flushed.extend(tables.into_iter().map(|t| ((t.table, t.generation.0), t.resume)));
        let Some(barrier) = barrier else { continue };
        let later = |known: &LastBarrier| known.seq < barrier.seq;
        if words.barriers.get(&change.key).is_none_or(later) {
            words.barriers.insert(change.key, barrier);
        }
    }
    Ok(words)
}

/// A random number that makes hashed keys this directory's own. Without its file, runs of other seeds mean nothing.
pub(crate) fn seed(ground: &Ground) -> Result<u64> {
    let dir = ground.dir.join("index");
    let path = dir.join("seed");
    let disk = &ground.env.disk;
    if disk.exists(&path)
        && let Ok(bytes) = disk.read(&path).map_err(io_error(&path, "read"))?.try_into()
    {
        return Ok(u64::from_le_bytes(bytes));
    }
    remove_dir(&ground.env, &dir);
    disk.create_dir_all(&dir).map_err(io_error(&dir, "create"))?;
    let bytes: [u8; 8] = ground.env.random();
    disk.replace(&path, &bytes).map_err(io_error(&path, "write"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Loads all tables and replays the log after them. On a thread that may block.
pub(crate) fn open_sources(ground: &Ground, words: Words, reader: &GroupReader) -> Result<BTreeMap<SourceName, Arc<Source>>> {
    for id in &words.dropped {
        remove_dir(&ground.env, &ground.dir.join("tables").join(id.to_string()));
        remove_dir(&ground.env, &ground.dir.join("index").join(id.to_string()));
    }
    let mut states: BTreeMap<SourceName, SourceState> = BTreeMap::new();
    for record in words.records {
        let state = states.entry(record.source.clone()).or_insert_with(|| SourceState::new(ground.clone()));
        let id = record.table;
        state.topics.insert(record.topic.clone(), id);
        let table = open_table(ground, Arc::new(record), &words.flushed);
        state.tables.insert(id, table);
    }
    let mut sources = BTreeMap::new();
    for name in words.barriers.keys() {
        states.entry(name.clone()).or_insert_with(|| SourceState::new(ground.clone()));
    }
    for (name, mut state) in states {
        let barrier = words.barriers.get(&name);
        replay(&mut Hold::Alone(&mut state), reader);
        let visible = barrier.map(|barrier| {
            state.seq = barrier.seq;
            state.tables.values_mut().for_each(|t| t.set_position(&barrier.position.0));
            Visible {
                seq: barrier.seq,
                position: barrier.position.clone(),
                commit_time_us: barrier.commit_time_us,
                at_us: ground.env.clock.now_us(),
            }
        });
        state.touch();
        sources.insert(name.clone(), Arc::new(Source::new(name, state, visible)));
    }
    Ok(sources)
}

/// Everything after what is flushed, table by table: nobody sees anything before all are done. A barrier is appended together with its
/// rows, so a topic's end is its end at the last barrier.
fn replay(state: &mut Hold<'_>, reader: &GroupReader) {
    let ids: Vec<TableId> = state.tables.keys().copied().collect();
    let spans: BTreeMap<_, (i64, i64)> = reader.log.partitions().into_iter().map(|p| (p.at, (p.start, p.end))).collect();
    for id in ids {
        let Some(table) = state.tables.get_mut(&id) else { continue };
        let at = TopicPartition { topic: table.record.topic.clone(), partition: 0 };
        let (start, end) = spans.get(&at).copied().unwrap_or_default();
        if table.live.as_ref().is_some_and(|l| l.flushed.seq == 0) {
            // Nothing of this generation is durable, so nothing of it was let go: what is missing belonged to those before.
            table.offset = start;
        }
        if table.broken.is_some() || table.live.is_none() {
            table.offset = end;
            continue;
        }
        let done = reader.read_table(state, id, end);
        let Some(table) = state.tables.get_mut(&id) else { continue };
        match done {
            Ok(events) => {
                tracing::debug!(table = %table.record.name, events, "replayed");
                metrics::REPLAYED_ROWS.add(events);
                table.offset = table.offset.max(end);
                table.catch_up_record();
            }
            Err(error) => table.fail(error),
        }
    }
}

fn open_table(ground: &Ground, record: Arc<TableRecord>, flushed: &BTreeMap<(TableId, u32), Resume>) -> Table {
    let mut table = Table::new(ground.clone(), record.clone());
    keep_only(ground, &record);
    let Some(live) = record.live else {
        table.discarded = record.generation.0;
        return table;
    };
    if record.generation != live {
        table.discarded = record.generation.0;
    }
    let home = ground.home(&record.source, record.table, live);
    let noted = flushed.get(&(record.table, live.0)).copied().unwrap_or_default();
    match open_rows(&home, &record, noted) {
        Ok(rows) => {
            table.offset = rows.flushed.offset;
            table.topic_generation = rows.flushed.topic_generation;
            table.live = Some(rows);
        }
        Err(error) => table.fail(error),
    }
    table
}

/// Removes what is left of generations that are not live: a copy that was under way begins anew after a start.
fn keep_only(ground: &Ground, record: &TableRecord) {
    for kind in ["tables", "index"] {
        let dir = ground.dir.join(kind).join(record.table.to_string());
        let names = if ground.env.disk.exists(&dir) { ground.env.disk.list(&dir).unwrap_or_default() } else { Vec::new() };
        for name in names.into_iter().filter(|n| record.live.is_none_or(|live| *n != live.to_string())) {
            remove_dir(&ground.env, &dir.join(name));
        }
    }
}

fn open_rows(home: &Home, record: &TableRecord, noted: Resume) -> Result<Rows> {
    let delta = DeltaTable::load(home)?;
    let mut rows = Rows::new(home.clone(), delta.schema.clone().unwrap_or_else(|| record.schema.clone()));
    rows.flushed = if noted.seq > delta.resume.seq { noted } else { delta.resume };
    rows.delta_version = delta.version;
    rows.changed = delta.version.is_none();
    let seen = sweep_dir(home, &delta)?;
    for (segment, name) in delta.names() {
        let file = load(home.env.disk.as_ref(), &home.dir, name, &rows.schema)?;
        let dead = delta.files.get(&segment).map(|f| f.dead.clone()).unwrap_or_default();
        rows.live_rows += file.rows.saturating_sub(dead.len());
        rows.segments.insert(segment, Segment::filed(Arc::new(file), dead));
    }
    rows.next_segment = seen.max(rows.segments.keys().max().copied().unwrap_or(0)) + 1;
    rows.delta = Arc::new(parking_lot::Mutex::new(delta));
    open_runs(home, &mut rows)?;
    Ok(rows)
}

/// Removes files that the last version does not refer to: of a flush that did not get to its commit, or superseded. Returns the
/// largest segment number seen.
fn sweep_dir(home: &Home, delta: &DeltaTable) -> Result<u32> {
    if !home.env.disk.exists(&home.dir) {
        return Ok(0);
    }
    let referenced = delta.referenced();
    let mut largest = 0;
    for name in home.env.disk.list(&home.dir).map_err(io_error(&home.dir, "list"))? {
        largest = largest.max(segment_of(&name).unwrap_or(0));
        let ours = name.ends_with(".parquet") || name.ends_with(".bin") || name.ends_with("#new");
        if ours && !referenced.contains(&name) {
            let path = home.dir.join(&name);
            home.env.disk.remove_file(&path).map_err(io_error(&path, "remove"))?;
        }
    }
    Ok(largest)
}

/// Maps the runs that cover files of this table; rebuilds what is missing or damaged from the files' key columns.
fn open_runs(home: &Home, rows: &mut Rows) -> Result<()> {
    let disk = home.env.disk.as_ref();
    let Some(codec) = rows.codec.clone() else { return Ok(()) };
    disk.create_dir_all(&home.index_dir).map_err(io_error(&home.index_dir, "create"))?;
    let mut missing: BTreeSet<u32> = rows.segments.keys().copied().collect();
    for name in disk.list(&home.index_dir).map_err(io_error(&home.index_dir, "list"))? {
        let path = home.index_dir.join(name);
        let run = Run::open(disk, &path, codec.fingerprint)?.filter(|run| run.segments.iter().any(|s| missing.contains(s)));
        match run {
            Some(run) => {
                run.segments.iter().for_each(|s| {
                    missing.remove(s);
                });
                rows.next_segment = rows.next_segment.max(run.segments.iter().max().map_or(0, |s| s + 1));
                rows.index.add_run(run);
            }
            None => disk.remove_file(&path).map_err(io_error(&path, "remove"))?,
        }
    }
    for segment in missing {
        if let Some(Segment { body: Body::File(filed), .. }) = rows.segments.get(&segment) {
            rows.index.add_run(rebuild_run(home, &rows.schema, &codec, &filed.file, segment)?);
        }
    }
    Ok(())
}

/// The run of one file, from its key columns. Columns that were added after it are NULL in it.
pub(crate) fn rebuild_run(home: &Home, schema: &TableSchema, codec: &KeyCodec, file: &DataFile, segment: u32) -> Result<Run> {
    let disk = home.env.disk.as_ref();
    let columns: Vec<_> = codec.columns.iter().map(|at| &schema.columns[*at]).collect();
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_ref()).collect();
    let name = format!("{}-{}.run", file.name, uuid::Builder::from_random_bytes(home.env.random()).into_uuid());
    let mut run = RunBuilder::new(disk, home.index_dir.join(name), segment, codec.fingerprint);
    let mut first = 0;
    for batch in read(disk, &file.path, &names, None)? {
        let batch = batch.map_err(arrow_error)?;
        let array = |column: &&Column| match batch.column_by_name(&column.name) {
            Some(array) => array.clone(),
            None => new_null_array(&column.kind.arrow(), batch.num_rows()),
        };
        let arrays: Vec<ArrayRef> = columns.iter().map(array).collect();
        let arrays: Vec<&dyn Array> = arrays.iter().map(|a| a.as_ref()).collect();
        run.add(codec.keys_of(&arrays, batch.num_rows())?, first)?;
        first += batch.num_rows() as u32;
    }
    metrics::RUNS_REBUILT.add(1);
    run.finish()
}
