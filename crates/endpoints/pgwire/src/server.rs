//! The Postgres door on its listener: numbers and cancel keys of sessions, and the way of a socket from its first byte to its last word.

use crate::codes;
use crate::connection::{Connection, Stop};
use crate::metrics;
use crate::session::Session;
use crate::startup;
use mainstem_env::Env;
use mainstem_identity::scram::same;
use mainstem_identity::{Attempts, Verifier};
use mainstem_listener::{Accepted, Expired, ListenMetrics, ListenSettings, Listener, Tls, TlsFiles};
use mainstem_types::sql::{SqlService, SqlSession};
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use std::collections::{HashMap, hash_map};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long running statements get to end when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

static LISTEN_METRICS: ListenMetrics =
    ListenMetrics { open: &metrics::CONNECTIONS, accepted: &metrics::ACCEPTED, refused: &metrics::REFUSED };

pub struct PgSettings {
    /// `host:port`; port 0 takes any.
    pub listen: String,
    pub tls: Option<TlsFiles>,
    /// Sessions at once; the last few are for administrators (`reserved`).
    pub connections_max: usize,
    pub reserved: usize,
    /// Sockets at once that have not logged in, over all and from one address. Beyond, the one that has waited longest goes.
    pub waiting_max: usize,
    pub waiting_address_max: usize,
    /// Time a client has from connecting to being logged in.
    pub startup_max: Duration,
    /// What `server_version` says when the session has no word on it; drivers read the number in front.
    pub server_version: String,
}

impl Default for PgSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7432".into(),
            tls: None,
            connections_max: 100,
            reserved: 3,
            waiting_max: 512,
            waiting_address_max: 256,
            startup_max: Duration::from_secs(10),
            server_version: concat!("15.0 (Mainstem ", env!("CARGO_PKG_VERSION"), ")").into(),
        }
    }
}

/// Who may log in. Must not block; what it says is true now, so that changes are seen at once.
pub trait Credentials: Send + Sync {
    /// For SCRAM-SHA-256. None for a user that does not exist (the client cannot tell).
    fn verifier(&self, user: &str) -> Option<Verifier>;

    /// Asked before each message of a session, whose user may be gone.
    fn exists(&self, user: &str) -> bool;

    /// Whether the reserved places are for this user too.
    fn is_administrator(&self, user: &str) -> bool;
}

/// What stands behind the door.
pub struct Backend {
    pub service: Arc<dyn SqlService>,
    pub users: Arc<dyn Credentials>,
}

/// What all connections share.
pub(crate) struct Shared {
    pub env: Env,
    pub settings: PgSettings,
    /// Not there while the server starts.
    backend: Arc<OnceLock<Backend>>,
    pub tls: Option<Arc<Tls>>,
    pub attempts: Attempts,
    /// Makes the salts of users that do not exist.
    pub secret: [u8; 32],
    sessions: Mutex<Sessions>,
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
    pub fn backend(&self) -> Result<&Backend, Stop> {
        let starting = || Error::retry(codes::STARTING, "the server is starting").hint("Try again in a moment.");
        self.backend.get().ok_or_else(|| Stop::Fatal(starting()))
    }

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
    listener: Listener,
    shared: Arc<Shared>,
}

impl PgServer {
    /// Binds the address and reads the TLS files. Until `backend` is set, clients are told that the server is starting.
    pub async fn bind(env: Env, settings: PgSettings, backend: Arc<OnceLock<Backend>>) -> Result<PgServer> {
        let tls = settings.tls.clone().map(|files| Tls::load(env.clone(), files)).transpose()?.map(Arc::new);
        let listen = ListenSettings {
            clients: "PostgreSQL",
            listen: settings.listen.clone(),
            connections_max: settings.connections_max,
            reserved: settings.reserved,
            waiting_max: settings.waiting_max,
            waiting_address_max: settings.waiting_address_max,
            waiting_time: settings.startup_max,
            stop_grace: STOP_GRACE,
            metrics: &LISTEN_METRICS,
        };
        let listener = Listener::bind(env.clone(), listen).await?;
        let (secret, attempts, sessions) = (env.random(), Attempts::default(), Mutex::default());
        Ok(PgServer { listener, shared: Arc::new(Shared { env, settings, backend, tls, attempts, secret, sessions }) })
    }

    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The certificate that is in use, if there is one.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.shared.tls.clone()
    }

    /// Serves until `shutdown` resolves; then tells every client, gives running statements a few seconds, and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, shared } = self;
        let (mut stopped, all) = (listener.stopped(), shared.clone());
        let _cancel = mainstem_env::spawn("pg-stop", async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
            all.cancel_all();
        });
        listener.run(shutdown, |accepted| serve(shared.clone(), accepted)).await;
    }
}

async fn serve(shared: Arc<Shared>, accepted: Accepted) {
    let Accepted { stream, address, mut place, stopped } = accepted;
    let mut slot = None;
    let mut stop = stopped.clone();
    // The start first: what has to go at once is told why, too.
    let started = tokio::select! {
        biased;
        started = startup::start(&shared, Box::new(stream), address.ip(), &mut slot) => started,
        expired = place.expired() => Err(Stop::Fatal(why(expired))),
        _ = stop.wait_for(|s| *s) => Err(Stop::Gone),
    };
    let Some(mut connection) = slot else { return };
    let stop = match started {
        Ok(None) | Err(Stop::Gone) => return,
        Ok(Some(client)) => match place.admit(client.administrator) {
            true => Session::run(shared.clone(), &mut connection, client, address, stopped).await,
            false => Stop::Fatal(
                Error::retry(codes::CONNECTIONS, "sorry, too many clients already")
                    .hint("Close connections, or raise `pg_connections_max`; the last few are for administrators."),
            ),
        },
        Err(stop) => stop,
    };
    if let Stop::Fatal(error) | Stop::Error(error) = stop {
        tell(&shared, &mut connection, &error).await;
    }
}

fn why(expired: Expired) -> Error {
    match expired {
        Expired::Late => {
            metrics::STARTUP_TIMEOUTS.add(1);
            Error::retry(codes::STARTUP_TIMEOUT, "canceling authentication due to timeout")
        }
        Expired::Crowded => Error::retry(codes::CONNECTIONS, "too many connections wait for their log-in")
            .hint("Try again, and look at what else connects from this address."),
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
