//! Puts the parts together, in the data's order, and takes them apart in the opposite one.

use crate::config::{Config, Loaded};
use crate::data_dir::DataDir;
use crate::facts::Facts;
use crate::registry;
use crate::users::{self, Users};
use mainstem_env::{Env, JoinOnDrop};
use mainstem_envelope::Schemas;
use mainstem_eventlog::EventLog;
use mainstem_http::HttpServer;
use mainstem_log::LocalLog;
use mainstem_pgwire::{PgServer, PgSettings};
use mainstem_pipeline::{SecretKey, Sources, SourcesParts};
use mainstem_query::{QueryEngine, SnapshotSource};
use mainstem_types::Result;
use mainstem_warehouse::Warehouse;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// A running server.
pub struct Server {
    _data: DataDir,
    log: Arc<LocalLog>,
    warehouse: Arc<Warehouse>,
    pub sources: Arc<Sources>,
    pub pg: Option<SocketAddr>,
    pub http: Option<SocketAddr>,
    /// The admin's password when this start made it.
    pub made_password: Option<String>,
    stop: watch::Sender<bool>,
    doors: Vec<JoinOnDrop<()>>,
}

impl Server {
    pub async fn start(env: Env, loaded: Loaded, admin_password: Option<String>, key: Option<String>) -> Result<Self> {
        let Loaded { mut config, settings, .. } = loaded;
        let data = DataDir::open(&env, &config.data)?;
        let path = std::path::absolute(&data.path).unwrap_or_else(|_| data.path.clone());
        let (stop, stopping) = watch::channel(false);
        // The doors are bound first: a port in use is told before anything is recovered. HTTP answers "not ready" meanwhile.
        let facts = Facts::new(settings);
        let http = bind_http(&env, &config, &facts).await?;
        let http_address = http.as_ref().map(HttpServer::local_addr).transpose()?;
        let mut doors: Vec<_> =
            http.map(|http| mainstem_env::spawn("http", http.run(stopped(stopping.clone())))).into_iter().collect();

        let log = LocalLog::open(env.clone(), &path.join("log"), config.log.clone())?;
        let face: Arc<dyn EventLog> = log.clone();
        let schemas = Arc::new(Schemas::load(face.clone()).await?);
        let warehouse = Warehouse::open(env.clone(), &path, face.clone(), schemas.clone(), config.warehouse.clone()).await?;
        let key = match key {
            Some(hex) => SecretKey::from_hex(&hex)?,
            None => SecretKey::from_file(&env, &key_file(&config, &path))?,
        };
        let sources = Sources::open(SourcesParts {
            env: env.clone(),
            log: face.clone(),
            schemas,
            live: warehouse.clone(),
            connectors: registry::connectors(),
            key,
            spool_dir: path.join("spool").join("sources"),
        })
        .await?;
        facts.connect(log.clone(), sources.clone());
        // It is emptied at each start, so it is never a directory that may have anything else in it.
        config.query.spill_dir = match config.query.spill_dir.as_os_str().is_empty() {
            true => path.join("spool").join("queries"),
            false => config.query.spill_dir.join("mainstem-queries"),
        };
        let tables = warehouse.clone();
        let snapshots: SnapshotSource = Arc::new(move || tables.snapshot());
        let engine = QueryEngine::new(env.clone(), snapshots, sources.clone(), config.query.clone(), facts.clone())?;
        let (users, made_password) = users::open(&env, &face, admin_password).await?;
        let pg = bind_pg(&env, &config, engine, users).await?;
        let pg_address = pg.as_ref().map(PgServer::local_addr).transpose()?;
        doors.extend(pg.map(|pg| mainstem_env::spawn("pgwire", pg.run(stopped(stopping)))));
        facts.ready();
        Ok(Self { _data: data, log, warehouse, sources, pg: pg_address, http: http_address, made_password, stop, doors })
    }

    /// Clean stop: doors closed, sources stopped, hot rows flushed, log closed; the next start replays nothing.
    pub async fn stop(self) -> Result<()> {
        let _ = self.stop.send(true);
        self.sources.stop();
        self.warehouse.close().await?;
        drop(self.doors);
        self.log.close().await;
        Ok(())
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn key_file(config: &Config, data: &Path) -> PathBuf {
    match config.secret_key_file.as_str() {
        "" => data.join("secret.key"),
        file => PathBuf::from(file),
    }
}

async fn bind_http(env: &Env, config: &Config, facts: &Arc<Facts>) -> Result<Option<HttpServer>> {
    match config.http_listen.as_str() {
        "off" => Ok(None),
        listen => HttpServer::bind(env.clone(), listen, facts.clone()).await.map(Some),
    }
}

async fn bind_pg(env: &Env, config: &Config, engine: Arc<QueryEngine>, users: Users) -> Result<Option<PgServer>> {
    let file = |name: &str| (!name.is_empty()).then(|| PathBuf::from(name));
    let settings = PgSettings {
        listen: config.pg_listen.clone(),
        tls_cert: file(&config.tls_cert),
        tls_key: file(&config.tls_key),
        connections_max: config.connections_max,
        ..PgSettings::default()
    };
    match config.pg_listen.as_str() {
        "off" => Ok(None),
        _ => PgServer::bind(env.clone(), settings, engine, Arc::new(users)).await.map(Some),
    }
}
