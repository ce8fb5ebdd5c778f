//! The scripted system passes what every source must pass, so that tests above the contract may believe it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests
#![allow(clippy::disallowed_methods)] // tests run on the real machine

use async_trait::async_trait;
use mainstem_connector::{Options, Source, SourceSettings};
use mainstem_env::Env;
use mainstem_testkit::scripted::{self, Cell, World};
use mainstem_testkit::source_suite;
use mainstem_testkit::source_suite::{Change, LOG, ROWS, SAMPLES, System};
use mainstem_types::{ColumnType, Position, SourceName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

struct Scripted(World);

async fn scripted() -> Scripted {
    let world = World::default();
    world.create(LOG, &[("v", ColumnType::Text)]);
    world.create(ROWS, &[("v", ColumnType::Text)]);
    let columns = [ColumnType::Int64, ColumnType::Bool, ColumnType::Float64, ColumnType::Text];
    let columns: Vec<_> = ["n", "b", "f", "t"].into_iter().zip(columns).collect();
    world.create(SAMPLES, &columns);
    Scripted(world)
}

fn cell(text: impl ToString) -> Cell {
    Some(text.to_string())
}

fn changes(change: &Change) -> Vec<scripted::Change> {
    let row = |id: i64, v: &str| vec![cell(id), cell(v)];
    vec![match change {
        Change::Insert { table, id, v } => scripted::Change::Insert { table: table.to_string(), row: row(*id, v) },
        Change::Update { table, id, v } => scripted::Change::Update { table: table.to_string(), row: row(*id, v) },
        Change::Move { table, from, to } => scripted::Change::Move { table: table.to_string(), from: *from, to: *to },
        Change::Delete { table, id } => scripted::Change::Delete { table: table.to_string(), id: *id },
        Change::Empty { table } => scripted::Change::Empty { table: table.to_string() },
        Change::Fill { table, from, count, bytes } => {
            let insert = |at| scripted::Change::Insert { table: table.to_string(), row: row(from + at, &"f".repeat(*bytes)) };
            return (0..*count).map(insert).collect();
        }
    }]
}

#[async_trait]
impl System for Scripted {
    fn open(&self) -> Arc<dyn Source> {
        let settings = SourceSettings {
            name: SourceName::new("suite").unwrap(),
            url: "scripted://here/suite".into(),
            options: Options::default(),
            owned: BTreeSet::new(),
            spool_dir: None,
        };
        scripted::connector(self.0.clone()).open(Env::real(), settings).unwrap()
    }

    async fn transaction(&self, told: &[Change], hold: Duration, commit: bool) {
        let id = self.0.begin();
        tokio::time::sleep(hold).await;
        let changes: Vec<_> = told.iter().flat_map(changes).collect();
        self.0.end(id, &changes, commit);
    }

    async fn insert_samples(&self) -> usize {
        let first = self.0.rows(SAMPLES).len() as i64 + 1;
        let values = [
            [cell(i64::MAX), cell(true), cell(-0.5), cell("tab\tnew\nline")],
            [cell(i64::MIN), cell(false), cell(f64::NAN), cell("")],
            [None, None, None, None],
        ];
        let insert = |(at, values): (usize, [Cell; 4])| {
            let row = [cell(first + at as i64)].into_iter().chain(values).collect();
            scripted::Change::Insert { table: SAMPLES.into(), row }
        };
        self.0.commit(&values.into_iter().enumerate().map(insert).collect::<Vec<_>>());
        3
    }

    async fn rows(&self, table: &str) -> BTreeMap<i64, String> {
        self.0.rows(table).into_iter().map(|(id, row)| (id, row[1].clone().unwrap())).collect()
    }

    async fn released(&self) -> Option<Position> {
        self.0.released()
    }

    async fn sessions(&self) -> usize {
        self.0.sessions()
    }

    /// It waits for ever.
    fn silence(&self) -> Duration {
        Duration::from_millis(10)
    }
}

source_suite!(scripted());
