//! Puts the parts together, in the data's order, and takes them apart in the opposite one.

use crate::config::{self, Config, Loaded};
use crate::data_dir::DataDir;
use crate::disk::{self, DiskWatch};
use crate::facts::Facts;
use crate::registry;
use crate::users::{self, PgUsers};
use mainstem_env::{Env, JoinOnDrop};
use mainstem_envelope::Schemas;
use mainstem_eventlog::EventLog;
use mainstem_http::HttpServer;
use mainstem_identity::Users;
use mainstem_listener::{Tls, TlsFiles};
use mainstem_log::LocalLog;
use mainstem_pgwire::{Backend, PgServer, PgSettings};
use mainstem_pipeline::{SecretKey, Sources, SourcesParts};
use mainstem_query::{QueryEngine, SnapshotSource};
use mainstem_types::Result;
use mainstem_types::control::{Control, Router};
use mainstem_warehouse::Warehouse;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// A running server.
pub struct Server {
    env: Env,
    _data: DataDir,
    log: Arc<LocalLog>,
    warehouse: Arc<Warehouse>,
    sources: Arc<Sources>,
    /// By which everything is declared.
    pub control: Arc<dyn Control>,
    users: Arc<Users>,
    engine: Arc<QueryEngine>,
    facts: Arc<Facts>,
    backend: Arc<OnceLock<Backend>>,
    pub pg: Option<SocketAddr>,
    pub http: Option<SocketAddr>,
    /// The certificate of the Postgres door.
    pub tls: Option<Arc<Tls>>,
    stop: watch::Sender<bool>,
    doors: Vec<JoinOnDrop<()>>,
}

impl Server {
    /// Everything but letting clients in, which is [`open`](Self::open).
    pub async fn start(env: Env, loaded: Loaded, key: Option<String>) -> Result<Self> {
        let Loaded { mut config, settings, .. } = loaded;
        let data = DataDir::open(&env, &config.data)?;
        let path = std::path::absolute(&data.path).unwrap_or_else(|_| data.path.clone());
        let (stop, stopping) = watch::channel(false);
        // The doors are bound first: a port in use is told before anything is recovered. They answer "not ready" meanwhile.
        let watch = DiskWatch::new(env.clone(), &path, config.log.disk_reserve_bytes);
        let (facts, backend) = (Facts::new(watch.clone()), Arc::default());
        let http = bind_http(&env, &config, &facts).await?;
        let pg = bind_pg(&env, &config, &backend).await?;
        let http_address = http.as_ref().map(HttpServer::local_addr).transpose()?;
        let pg_address = pg.as_ref().map(PgServer::local_addr).transpose()?;
        let tls = pg.as_ref().and_then(PgServer::tls);
        let mut doors: Vec<_> =
            http.map(|http| mainstem_env::spawn("http", http.run(stopped(stopping.clone())))).into_iter().collect();
        doors.extend(pg.map(|pg| mainstem_env::spawn("pgwire", pg.run(stopped(stopping)))));
        if let Some(address) = pg_address {
            let _ = facts.sql_address.set(address);
        }

        disk::make_room(&env, &path)?;
        let log = LocalLog::open(env.clone(), &path.join("log"), config.log.clone())?;
        let face: Arc<dyn EventLog> = log.clone();
        let schemas = Arc::new(Schemas::load(face.clone()).await?);
        let warehouse = Warehouse::open(env.clone(), &path, face.clone(), schemas.clone(), config.warehouse.clone()).await?;
        let sources = Sources::open(SourcesParts {
            env: env.clone(),
            log: face.clone(),
            schemas,
            live: warehouse.clone(),
            connectors: registry::connectors(),
            key: secret_key(&env, &config, &path, key)?,
            spool_dir: path.join("spool").join("sources"),
            disk: Arc::new(move || watch.trouble()),
        })
        .await?;
        facts.connect(sources.clone());
        config.query.spill_dir = spill_dir(&config.query.spill_dir, &path);
        let tables = warehouse.clone();
        let snapshots: SnapshotSource = Arc::new(move || tables.snapshot());
        let users = Arc::new(Users::open(env.clone(), face.clone()).await?);
        let control: Arc<dyn Control> = Arc::new(Router { sources: sources.clone(), users: Some(users.clone()) });
        doors.push(mainstem_env::spawn("ballast", disk::keep_ballast(env.clone(), path.clone())));
        let mut system = sources.system_tables();
        system.extend(mainstem_warehouse::system_tables(snapshots.clone()));
        system.extend(mainstem_log::system_tables(face.clone()));
        system.extend(config::system_tables(settings));
        let engine = QueryEngine::new(env.clone(), snapshots, control.clone(), config.query.clone(), system)?;
        Ok(Self {
            env,
            _data: data,
            log,
            warehouse,
            sources,
            control,
            users,
            engine,
            facts,
            backend,
            pg: pg_address,
            http: http_address,
            tls,
            stop,
            doors,
        })
    }

    /// Lets clients in. The last step of a start, because the first start makes `admin` here: one that fails before has made nobody.
    /// Returns the password that was made and is shown once, if one was.
    pub async fn open(&self, admin_password: Option<String>) -> Result<Option<String>> {
        let made_password = users::make_admin(&self.env, &self.users, admin_password).await?;
        let _ = self.backend.set(Backend { service: self.engine.clone(), users: Arc::new(PgUsers(self.users.clone())) });
        self.facts.ready();
        Ok(made_password)
    }

    pub fn has_sources(&self) -> bool {
        !self.sources.sources().is_empty()
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

/// Given in hexadecimal digits, else of the file that the configuration names, else of the data directory.
fn secret_key(env: &Env, config: &Config, data: &Path, given: Option<String>) -> Result<SecretKey> {
    match (given, config.secret_key_file.as_str()) {
        (Some(hex), _) => SecretKey::from_hex(&hex),
        (None, "") => SecretKey::from_file(env, &data.join("secret.key")),
        (None, file) => SecretKey::from_file(env, Path::new(file)),
    }
}

/// It is emptied at each start, so it is never a directory that may have anything else in it.
fn spill_dir(configured: &Path, data: &Path) -> PathBuf {
    match configured.as_os_str().is_empty() {
        true => data.join("spool").join("queries"),
        false => configured.join("mainstem-queries"),
    }
}

async fn bind_http(env: &Env, config: &Config, facts: &Arc<Facts>) -> Result<Option<HttpServer>> {
    match config.http_listen.as_str() {
        "off" => Ok(None),
        listen => HttpServer::bind(env.clone(), listen, facts.clone()).await.map(Some),
    }
}

async fn bind_pg(env: &Env, config: &Config, backend: &Arc<OnceLock<Backend>>) -> Result<Option<PgServer>> {
    let tls = TlsFiles { cert: config.tls_cert.clone().into(), key: config.tls_key.clone().into() };
    let settings = PgSettings {
        listen: config.pg_listen.clone(),
        tls: (!config.tls_cert.is_empty()).then_some(tls),
        connections_max: config.pg_connections_max,
        ..PgSettings::default()
    };
    match config.pg_listen.as_str() {
        "off" => Ok(None),
        _ => PgServer::bind(env.clone(), settings, backend.clone()).await.map(Some),
    }
}
