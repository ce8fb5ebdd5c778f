//! The listener: accepts, counts, limits, cancels, stops.

use crate::codes;
use crate::connection::{Connection, Stop};
use crate::metrics;
use crate::scram::{Verifier, same};
use crate::session::Session;
use crate::startup;
use mainstem_env::{Env, JoinOnDrop, net};
use mainstem_types::sql::{SqlService, SqlSession};
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::{HashMap, hash_map};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Connections above the limit that are still read, to be told so or to cancel; beyond them sockets are just closed.
const REFUSALS_MAX: usize = 64;
/// How long running statements get to end when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

pub struct PgSettings {
    /// `host:port`; port 0 takes any.
    pub listen: String,
    /// PEM files; both or neither.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub connections_max: usize,
    /// Time a client has from connecting to being logged in.
    pub startup_max: Duration,
    /// What `server_version` says when the session has no word on it; drivers read the number in front.
    pub server_version: String,
}

impl Default for PgSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7432".into(),
            tls_cert: None,
            tls_key: None,
            connections_max: 100,
            startup_max: Duration::from_secs(60),
            server_version: concat!("15.0 (Mainstem ", env!("CARGO_PKG_VERSION"), ")").into(),
        }
    }
}

/// Who may log in. Called once per log-in; must not block.
pub trait Credentials: Send + Sync {
    /// None for a user that does not exist (the client cannot tell).
    fn verifier(&self, user: &str) -> Option<Verifier>;
}

/// What all connections share.
pub(crate) struct Shared {
    pub env: Env,
    pub settings: PgSettings,
    pub service: Arc<dyn SqlService>,
    pub users: Arc<dyn Credentials>,
    pub tls: Option<TlsAcceptor>,
    /// Makes the salts of users that do not exist.
    pub secret: [u8; 32],
    sessions: Mutex<Sessions>,
    open: AtomicUsize,
}

#[derive(Default)]
struct Sessions {
    last: i32,
    by_number: HashMap<i32, Entry>,
}

struct Entry {
    secret: Vec<u8>,
    session: Option<Arc<dyn SqlSession>>,
}

impl Shared {
    /// Takes a number (backend pid) and the key that cancels it.
    pub fn register(&self, long_key: bool) -> (i32, Vec<u8>) {
        let secret = self.env.random::<32>()[..if long_key { 32 } else { 4 }].to_vec();
        let mut sessions = self.sessions.lock();
        loop {
            sessions.last = if sessions.last == i32::MAX { 1 } else { sessions.last + 1 };
            let number = sessions.last;
            if let hash_map::Entry::Vacant(free) = sessions.by_number.entry(number) {
                free.insert(Entry { secret: secret.clone(), session: None });
                return (number, secret);
            }
        }
    }

    pub fn attach(&self, number: i32, session: Arc<dyn SqlSession>) {
        if let Some(entry) = self.sessions.lock().by_number.get_mut(&number) {
            entry.session = Some(session);
        }
    }

    pub fn unregister(&self, number: i32) {
        self.sessions.lock().by_number.remove(&number);
    }

    pub fn cancel(&self, number: i32, secret: &[u8]) {
        let session = {
            let sessions = self.sessions.lock();
            sessions.by_number.get(&number).filter(|e| same(&e.secret, secret)).and_then(|e| e.session.clone())
        };
        if let Some(session) = session {
            metrics::CANCELS.add(1);
            session.cancel();
        }
    }

    fn cancel_all(&self) {
        let sessions: Vec<_> = self.sessions.lock().by_number.values().filter_map(|e| e.session.clone()).collect();
        sessions.iter().for_each(|s| s.cancel());
    }
}

/// The Postgres door.
pub struct PgServer {
    listener: net::TcpListener,
    shared: Arc<Shared>,
}

impl PgServer {
    /// Binds the address and reads the TLS files; nothing is served before `run`.
    pub async fn bind(
        env: Env,
        settings: PgSettings,
        service: Arc<dyn SqlService>,
        users: Arc<dyn Credentials>,
    ) -> Result<PgServer> {
        let tls = match (&settings.tls_cert, &settings.tls_key) {
            (Some(cert), Some(key)) => Some(acceptor(&env, cert, key)?),
            (None, None) => None,
            _ => return Err(Error::fix(codes::TLS, "TLS needs both a certificate file and a key file")),
        };
        let listener = net::listen(&settings.listen).await.map_err(|cause| {
            let hint = match cause.kind() {
                std::io::ErrorKind::AddrInUse => "Stop the other process that has this address, or choose another port.",
                _ => "Choose an address of this machine, for example 127.0.0.1:7432.",
            };
            Error::fix(codes::LISTEN, format!("cannot listen on {} for PostgreSQL clients", settings.listen))
                .hint(hint)
                .caused_by(cause)
        })?;
        let (secret, sessions, open) = (env.random(), Mutex::default(), AtomicUsize::new(0));
        Ok(PgServer { listener, shared: Arc::new(Shared { env, settings, service, users, tls, secret, sessions, open }) })
    }

    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::fix(codes::LISTEN, "the listening socket is gone").caused_by(e))
    }

    /// Serves until `shutdown` resolves; then tells every client, gives running statements a few seconds, and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let (stop, stopped) = watch::channel(false);
        let mut tasks: Vec<JoinOnDrop<()>> = Vec::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            tasks.retain(|task| !task.is_finished());
            match accepted {
                Ok((stream, address)) => tasks.extend(self.admit(stream, address, stopped.clone())),
                Err(error) => {
                    // Out of file descriptors, mostly: wait for some to come back.
                    tracing::warn!(%error, "accepting a PostgreSQL client failed");
                    self.shared.env.clock.sleep(Duration::from_millis(100)).await;
                }
            }
        }
        let _ = stop.send(true);
        self.shared.cancel_all();
        let all = async {
            for task in &mut tasks {
                while !task.is_finished() {
                    self.shared.env.clock.sleep(Duration::from_millis(5)).await;
                }
            }
        };
        tokio::select! {
            () = all => {}
            () = self.shared.env.clock.sleep(STOP_GRACE) => {}
        }
    }

    fn admit(&self, stream: net::TcpStream, address: SocketAddr, stopped: watch::Receiver<bool>) -> Option<JoinOnDrop<()>> {
        metrics::ACCEPTED.add(1);
        let place = Place::take(&self.shared);
        let (max, taken) = (self.shared.settings.connections_max, place.number);
        if taken > max {
            metrics::REFUSED.add(1);
        }
        if taken > max + REFUSALS_MAX {
            return None;
        }
        Some(mainstem_env::spawn("pg-client", serve(place, stream, address, taken > max, stopped)))
    }
}

/// A counted place among the open connections, given back when dropped.
struct Place {
    shared: Arc<Shared>,
    number: usize,
}

impl Place {
    fn take(shared: &Arc<Shared>) -> Self {
        metrics::CONNECTIONS.add(1);
        Self { shared: shared.clone(), number: shared.open.fetch_add(1, Ordering::AcqRel) + 1 }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::AcqRel);
        metrics::CONNECTIONS.add(-1);
    }
}

async fn serve(place: Place, stream: net::TcpStream, address: SocketAddr, full: bool, stopped: watch::Receiver<bool>) {
    let shared = &place.shared;
    let _ = stream.set_nodelay(true);
    // A client whose machine vanished sends no end: ask for it.
    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
    let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE);
    let mut slot = None;
    let mut stop = stopped.clone();
    let started = tokio::select! {
        started = startup::start(shared, Box::new(stream), full, &mut slot) => Some(started),
        () = shared.env.clock.sleep(shared.settings.startup_max) => None,
        _ = stop.wait_for(|s| *s) => Some(Err(Stop::Gone)),
    };
    let started = started.unwrap_or_else(|| {
        metrics::STARTUP_TIMEOUTS.add(1);
        Err(Stop::Fatal(Error::retry(codes::STARTUP_TIMEOUT, "canceling authentication due to timeout")))
    });
    let Some(mut connection) = slot else { return };
    let stop = match started {
        Ok(None) | Err(Stop::Gone) => return,
        Ok(Some(client)) => Session::run(shared.clone(), &mut connection, client, address, stopped).await,
        Err(stop) => stop,
    };
    if let Stop::Fatal(error) | Stop::Error(error) = stop {
        tell(shared, &mut connection, &error).await;
    }
}

/// The last word to a client; one that does not read it does not hold us up.
async fn tell(shared: &Shared, connection: &mut Connection, error: &Error) {
    if error.code() == codes::PROTOCOL {
        metrics::PROTOCOL_ERRORS.add(1);
    }
    tracing::debug!(code = error.code().id, "closing a PostgreSQL connection");
    connection.reply.error(error, "FATAL");
    tokio::select! {
        () = connection.close() => {}
        () = shared.env.clock.sleep(Duration::from_secs(1)) => {}
    }
}

fn acceptor(env: &Env, cert: &Path, key: &Path) -> Result<TlsAcceptor> {
    let refuse = |path: &Path, what: &str| Error::fix(codes::TLS, format!("{} is not {what}", path.display()));
    let read = |path: &Path| {
        let failed = |e| Error::fix(codes::TLS, format!("cannot read the TLS file {}", path.display())).caused_by(e);
        env.disk.read(path).map_err(failed)
    };
    let chain = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| refuse(cert, "a PEM certificate").caused_by(e))?;
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| refuse(key, "a PEM private key").caused_by(e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|e| refuse(cert, "a certificate for this key").caused_by(e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
