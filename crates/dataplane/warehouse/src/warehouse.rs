//! The warehouse as others hold it: opening, snapshots, and the tail that feeds it.

use crate::codes;
use crate::settings::WarehouseSettings;
use crate::snapshot::Snapshot;
use crate::source::{Source, SourceState};
use crate::table::Ground;
use async_trait::async_trait;
use mainstem_env::{Env, spawn_thread};
use mainstem_envelope::Schemas;
use mainstem_envelope::tail::{self, LiveTables, Receiver, Sender, Visible};
use mainstem_log::EventLog;
use mainstem_types::{Error, Result, SourceName};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// All live tables of a data directory.
pub struct Warehouse {
    pub(crate) ground: Ground,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) schemas: Arc<Schemas>,
    pub(crate) sources: RwLock<BTreeMap<SourceName, Arc<Source>>>,
    appliers: Mutex<BTreeMap<SourceName, Applier>>,
    pub(crate) stop: watch::Sender<bool>,
}

/// The thread that applies a source's groups.
struct Applier {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Warehouse {
    /// Opens the live tables below `dir` (`tables/`, `index/`): loads every table's Delta state and replays the log after it. Returns
    /// when everything that the log holds is visible again; nothing is before.
    pub async fn open(
        env: Env,
        dir: &Path,
        log: Arc<dyn EventLog>,
        schemas: Arc<Schemas>,
        settings: WarehouseSettings,
    ) -> Result<Arc<Self>> {
        let ground = Ground { env, settings: Arc::new(settings), dir: dir.to_path_buf(), seed: 0 };
        let (stop, _) = watch::channel(false);
        Ok(Arc::new(Self { ground, log, schemas, sources: RwLock::default(), appliers: Mutex::default(), stop }))
    }

    /// What a query sees from now on: every source at its last barrier. Costs what changed since the last call.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>> {
        let sources: Vec<Arc<Source>> = self.sources.read().values().cloned().collect();
        let mut snapshot = Snapshot::default();
        for source in sources {
            source.snapshot()?.add_to(&source.name, &mut snapshot);
        }
        Ok(Arc::new(snapshot))
    }

    fn source(&self, name: &SourceName) -> Arc<Source> {
        let new = || Arc::new(Source::new(name.clone(), SourceState::new(self.ground.clone()), None));
        self.sources.write().entry(name.clone()).or_insert_with(new).clone()
    }

    async fn stop_applier(&self, name: &SourceName) {
        let applier = self.appliers.lock().remove(name);
        if let Some(applier) = applier {
            applier.stop.send_replace(true);
            let _ = mainstem_env::blocking(move || applier.thread.join()).await;
        }
    }

    fn run_applier(&self, source: Arc<Source>, mut groups: Receiver) -> Result<Applier> {
        let (stop, mut stopped) = watch::channel(false);
        let runtime = tokio::runtime::Handle::current();
        let reader =
            crate::replay::GroupReader { log: self.log.clone(), schemas: self.schemas.clone(), runtime: runtime.clone() };
        let clock = self.ground.env.clock.clone();
        let work = move || {
            loop {
                let next = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        _ = stopped.wait_for(|s| *s) => None,
                        group = groups.next() => group,
                    }
                });
                let Some(mut group) = next else { return };
                let done = source.apply(&mut group, &mut |state, barrier| reader.read(state, barrier), clock.now_us());
                if let Err(error) = done {
                    tracing::error!(source = %source.name, error = %error.chain(), "live tables stop at their last barrier");
                    return;
                }
            }
        };
        let thread =
            spawn_thread("apply", work).map_err(|e| Error::retry(codes::IO, "cannot start an applier thread").caused_by(e))?;
        Ok(Applier { stop, thread })
    }
}

#[async_trait]
impl LiveTables for Warehouse {
    async fn attach(&self, source: &SourceName) -> Result<Sender> {
        if *self.stop.borrow() {
            return Err(Error::retry(codes::CLOSED, "the warehouse is closed"));
        }
        self.stop_applier(source).await;
        if self.source(source).with_state(|state| state.halted) {
            let text = format!("the live tables of source {source} stopped inside a barrier; restart to replay it");
            return Err(Error::retry(codes::CLOSED, text));
        }
        let (sender, receiver) = tail::channel();
        let applier = self.run_applier(self.source(source), receiver)?;
        self.appliers.lock().insert(source.clone(), applier);
        Ok(sender)
    }

    fn visible(&self, source: &SourceName) -> watch::Receiver<Option<Visible>> {
        self.source(source).visible.subscribe()
    }

    async fn forget(&self, name: &SourceName, files: bool) -> Result<()> {
        self.stop_applier(name).await;
        let Some(source) = self.sources.write().remove(name) else { return Ok(()) };
        source.visible.send_replace(None);
        if files {
            source.with_state(|state| {
                let tables = std::mem::take(&mut state.tables);
                state.gone.extend(tables.into_values().flat_map(crate::table::Table::retire));
                state.touch();
            });
        }
        Ok(())
    }
}
