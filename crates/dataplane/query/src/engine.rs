//! The engine: what all sessions share.

use crate::codes;
use crate::functions::{self, FunctionsByName};
use crate::session::{Session, SessionFacts};
use crate::settings::QuerySettings;
use crate::sql::parsed::Parsed;
use crate::sql::rewrite::Rewriter;
use crate::system::Library;
use crate::threads::Threads;
use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::config::Dialect;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::prelude::{SessionConfig, SessionContext};
use mainstem_env::{DiskStore, Env};
use mainstem_types::control::Control;
use mainstem_types::sql::{ClientInfo, SqlService, SqlSession};
use mainstem_types::system::SystemTable;
use mainstem_types::{Error, Result};
use mainstem_warehouse::Snapshot;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Gives the newest snapshot; called once per statement, so it must be cheap.
pub type SnapshotSource = Arc<dyn Fn() -> Result<Arc<Snapshot>> + Send + Sync>;

/// Name of the only warehouse yet.
pub(crate) const DATABASE: &str = "main";

/// What all sessions share: DataFusion's state, the snapshots' source, settings, the list of sessions. Queries run on threads of its own, so that they never hold up capture.
pub struct QueryEngine {
    pub(crate) env: Env,
    pub(crate) snapshots: SnapshotSource,
    pub(crate) control: Arc<dyn Control>,
    pub(crate) settings: QuerySettings,
    /// What `mainstem` has beside the sessions, by name.
    pub(crate) system: Vec<SystemTable>,
    /// All that names in SQL can mean.
    pub(crate) names: SessionState,
    /// What a statement runs with, copied for each of them, so without the functions: those of a plan are in the plan.
    pub(crate) running: SessionState,
    /// What expressions mean, first word first.
    pub(crate) planners: Vec<Arc<dyn ExprPlanner>>,
    pub(crate) functions: FunctionsByName,
    pub(crate) rewriter: Rewriter,
    pub(crate) parsed: Parsed,
    pub(crate) library: Library,
    /// Open sessions by a number of our own: the door's number may be taken twice by different doors.
    pub(crate) sessions: Mutex<BTreeMap<u64, Arc<SessionFacts>>>,
    next_session: AtomicU64,
    pub(crate) threads: Threads,
    me: Weak<QueryEngine>,
}

impl QueryEngine {
    /// `system` are the tables of `mainstem` that other parts have to show. Fails when threads cannot be started or the spill directory
    /// cannot be made.
    pub fn new(
        env: Env,
        snapshots: SnapshotSource,
        control: Arc<dyn Control>,
        settings: QuerySettings,
        system: Vec<SystemTable>,
    ) -> Result<Arc<Self>> {
        let threads = Threads::new(env.clock.clone(), settings.parallelism())?;
        let engine_error = |e: DataFusionError| Error::bug(codes::INTERNAL, "the query engine could not be set up").caused_by(e);
        let world = world(&env, &settings)?;
        let names = base_state(&settings, world).map_err(engine_error)?;
        let running = without_functions(&names);
        let library = Library::new().map_err(engine_error)?;
        let functions = functions::by_name();
        let mut planners = vec![functions::operators(functions.clone())];
        planners.extend(names.expr_planners().iter().cloned());
        Ok(Arc::new_cyclic(|me| Self {
            planners,
            functions,
            env,
            snapshots,
            control,
            settings,
            system,
            names,
            running,
            rewriter: Rewriter::default(),
            parsed: Parsed::default(),
            library,
            sessions: Mutex::default(),
            next_session: AtomicU64::new(1),
            threads,
            me: me.clone(),
        }))
    }
}

fn world(env: &Env, settings: &QuerySettings) -> Result<Arc<RuntimeEnv>> {
    let at = |e: std::io::Error| Error::fix(codes::STORAGE, "the directory for spilled data cannot be made").caused_by(e);
    let mode = if settings.spill_dir.as_os_str().is_empty() {
        DiskManagerMode::OsTmpDirectory
    } else {
        // What a killed run left behind is of no use to anybody.
        if env.disk.exists(&settings.spill_dir) {
            env.disk.remove_dir_all(&settings.spill_dir).map_err(at)?;
        }
        env.disk.create_dir_all(&settings.spill_dir).map_err(at)?;
        DiskManagerMode::Directories(vec![settings.spill_dir.clone()])
    };
    let spill = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(settings.spill_bytes_max);
    let world = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(settings.memory_bytes_max)))
        .with_disk_manager_builder(spill)
        .build_arc()
        .map_err(|e| Error::bug(codes::INTERNAL, "the query engine could not be set up").caused_by(e))?;
    let files = datafusion::datasource::object_store::ObjectStoreUrl::local_filesystem();
    world.register_object_store(files.as_ref(), Arc::new(DiskStore::new(env.disk.clone())));
    Ok(world)
}

fn base_state(settings: &QuerySettings, world: Arc<RuntimeEnv>) -> datafusion::common::Result<SessionState> {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(DATABASE, "public")
        .with_information_schema(false)
        .with_target_partitions(settings.parallelism())
        .with_batch_size(settings.batch_rows.max(1));
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.collect_spans = true;
    options.explain.physical_plan_only = true;
    options.execution.time_zone = Some("UTC".into());
    let context = SessionContext::new_with_config_rt(config, world);
    datafusion_pg_catalog::setup_pg_catalog(&context, DATABASE, datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider)
        .map_err(|e| *e)?;
    functions::register(&context);
    Ok(context.state())
}

fn without_functions(state: &SessionState) -> SessionState {
    // Looked up by the optimizer's rule for DISTINCT ON.
    let first_value = state.aggregate_functions().get("first_value").cloned();
    SessionStateBuilder::new_from_existing(state.clone())
        .with_scalar_functions(Vec::new())
        .with_higher_order_functions(Vec::new())
        .with_aggregate_functions(first_value.into_iter().collect())
        .with_window_functions(Vec::new())
        .build()
}

#[async_trait]
impl SqlService for QueryEngine {
    async fn open(&self, client: ClientInfo) -> Result<Arc<dyn SqlSession>> {
        if client.database != DATABASE {
            return Err(Error::fix(codes::UNKNOWN_DATABASE, format!("database \"{}\" does not exist", client.database))
                .hint(format!("Connect to \"{DATABASE}\", the only warehouse.")));
        }
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let Some(me) = self.me.upgrade() else { return Err(Error::bug(codes::INTERNAL, "the engine has ended")) };
        Ok(Session::open(me, number, client))
    }
}
