//! What every door does before its protocol begins: bind, accept, limits, TLS, grace at the stop.
//!
//! A socket waits until its client has proved who it is ([`Place::admit`]). Those that wait have a bound of their own, so that sockets which
//! say nothing never take a place from a client that has logged in; where too many wait, the one that has waited longest goes, so that a
//! newcomer always has its chance.

pub mod codes;
mod tls;

pub use tls::{Tls, TlsFiles};

use mainstem_env::{Env, JoinOnDrop, net};
use mainstem_types::metrics::{Counter, Gauge};
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A client whose machine vanished sends no end: after this silence it is asked for one.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// After a failed accept (out of file descriptors, mostly) some have to come back first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct ListenSettings {
    /// Who comes here, for messages: `PostgreSQL`.
    pub clients: &'static str,
    /// `host:port`; port 0 takes any.
    pub listen: String,
    /// Clients at once that have logged in.
    pub connections_max: usize,
    /// Places of those that only administrators get.
    pub reserved: usize,
    /// Sockets at once that wait, over all and from one address (of IPv6, one /64).
    pub waiting_max: usize,
    pub waiting_address_max: usize,
    /// How long a socket may wait.
    pub waiting_time: Duration,
    /// How long tasks get to end when the server stops.
    pub stop_grace: Duration,
    pub metrics: &'static ListenMetrics,
}

/// What a door counts of its sockets.
pub struct ListenMetrics {
    /// Open sockets, those that wait included.
    pub open: &'static Gauge,
    pub accepted: &'static Counter,
    /// Sockets closed because others came while too many waited, and clients refused because too many were logged in.
    pub refused: &'static Counter,
}

pub struct Listener {
    socket: net::TcpListener,
    room: Arc<Room>,
    stop: watch::Sender<bool>,
}

/// An accepted socket with its place.
pub struct Accepted {
    pub stream: net::TcpStream,
    pub address: SocketAddr,
    pub place: Place,
    /// True once the server stops.
    pub stopped: watch::Receiver<bool>,
}

impl Listener {
    /// Binds the address. Clients that connect before `run` wait.
    pub async fn bind(env: Env, settings: ListenSettings) -> Result<Self> {
        let socket = net::listen(&settings.listen).await.map_err(|cause| {
            let hint = match cause.kind() {
                std::io::ErrorKind::AddrInUse => "another process has this address: stop it or choose another port",
                std::io::ErrorKind::PermissionDenied => "ports below 1024 need rights of their own: choose one above",
                _ => "choose an address of this machine, for example 127.0.0.1:7432",
            };
            Error::fix(codes::LISTEN, format!("cannot listen on {} for {} clients", settings.listen, settings.clients))
                .hint(hint)
                .caused_by(cause)
        })?;
        let (stop, _) = watch::channel(false);
        Ok(Self { socket, room: Arc::new(Room { env, settings, state: Mutex::default() }), stop })
    }

    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.socket.local_addr().map_err(|e| Error::fix(codes::LISTEN, "the listening socket is gone").caused_by(e))
    }

    /// Becomes true when the server stops.
    pub fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Runs `serve` as a task for every socket until `shutdown` resolves; then `stopped` is true for all, and the tasks get the grace.
    pub async fn run<F>(self, shutdown: impl Future<Output = ()> + Send, serve: impl Fn(Accepted) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let settings = &self.room.settings;
        let mut tasks: Vec<JoinOnDrop<()>> = Vec::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = &mut shutdown => break,
            };
            tasks.retain(|task| !task.is_finished());
            match accepted {
                Ok((stream, address)) => {
                    let _ = stream.set_nodelay(true);
                    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
                    let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE);
                    let place = Place::take(&self.room, address.ip());
                    let accepted = Accepted { stream, address, place, stopped: self.stop.subscribe() };
                    tasks.push(mainstem_env::spawn("client", serve(accepted)));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a {} client failed", settings.clients);
                    self.room.env.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.socket);
        let _ = self.stop.send(true);
        let all = async {
            for task in &mut tasks {
                task.wait().await;
            }
        };
        tokio::select! {
            () = all => {}
            () = self.room.env.clock.sleep(settings.stop_grace) => {}
        }
    }
}

struct Room {
    env: Env,
    settings: ListenSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    /// By age. Whoever drops the sender sends its socket away.
    waiting: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
    admitted: usize,
}

/// Why a socket that waits has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// It waited too long.
    Late,
    /// Others came, and it had waited longest.
    Crowded,
}

/// A counted place at a door, given back when dropped.
pub struct Place {
    room: Arc<Room>,
    number: u64,
    admitted: bool,
    crowded: Option<oneshot::Receiver<()>>,
}

impl Place {
    fn take(room: &Arc<Room>, address: IpAddr) -> Self {
        room.settings.metrics.accepted.add(1);
        room.settings.metrics.open.add(1);
        let address = group(address);
        let (held, crowded) = oneshot::channel();
        let mut state = room.state.lock();
        let near = state.waiting.iter().filter(|(_, (other, _))| *other == address);
        let (count, oldest_near) = (near.clone().count(), near.map(|(number, _)| *number).next());
        let oldest = state.waiting.keys().next().copied();
        let goes = match (count >= room.settings.waiting_address_max, state.waiting.len() >= room.settings.waiting_max) {
            (true, _) => oldest_near,
            (false, true) => oldest,
            (false, false) => None,
        };
        if let Some(goes) = goes {
            room.settings.metrics.refused.add(1);
            state.waiting.remove(&goes);
        }
        state.last += 1;
        let number = state.last;
        state.waiting.insert(number, (address, held));
        Self { room: room.clone(), number, admitted: false, crowded: Some(crowded) }
    }

    /// Resolves when a socket that waits has to go. Never to be asked again after `admit`.
    pub async fn expired(&mut self) -> Expired {
        let Self { room, crowded, .. } = self;
        let crowded = async move {
            match crowded {
                Some(crowded) => drop(crowded.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = crowded => Expired::Crowded,
            () = room.env.clock.sleep(room.settings.waiting_time) => Expired::Late,
        }
    }

    /// The client has logged in: it waits no longer and takes one of the places. False when there is none for it.
    pub fn admit(&mut self, administrator: bool) -> bool {
        let settings = &self.room.settings;
        let max = settings.connections_max.saturating_sub(if administrator { 0 } else { settings.reserved });
        let mut state = self.room.state.lock();
        state.waiting.remove(&self.number);
        self.admitted = state.admitted < max;
        match self.admitted {
            true => state.admitted += 1,
            false => settings.metrics.refused.add(1),
        }
        self.admitted
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.state.lock();
        match self.admitted {
            true => state.admitted -= 1,
            false => drop(state.waiting.remove(&self.number)),
        }
        self.room.settings.metrics.open.add(-1);
    }
}

/// What counts as one address: whoever has one of IPv6 has its whole /64.
pub fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static OPEN: Gauge = Gauge::new("open", "");
    static ACCEPTED: Counter = Counter::new("accepted", "");
    static REFUSED: Counter = Counter::new("refused", "");
    static METRICS: ListenMetrics = ListenMetrics { open: &OPEN, accepted: &ACCEPTED, refused: &REFUSED };

    fn room() -> Arc<Room> {
        let settings = ListenSettings {
            clients: "test",
            listen: "127.0.0.1:0".into(),
            connections_max: 4,
            reserved: 1,
            waiting_max: 5,
            waiting_address_max: 3,
            waiting_time: Duration::from_secs(3600),
            stop_grace: Duration::from_secs(1),
            metrics: &METRICS,
        };
        Arc::new(Room { env: Env::real(), settings, state: Mutex::default() })
    }

    fn crowded_out(places: &mut [Place]) -> Vec<usize> {
        let gone = |place: &mut Place| place.crowded.as_mut().unwrap().try_recv() == Err(oneshot::error::TryRecvError::Closed);
        places.iter_mut().enumerate().filter_map(|(i, place)| gone(place).then_some(i)).collect()
    }

    #[test]
    fn who_waits_longest_makes_room() {
        let room = room();
        let take = |from: &str| Place::take(&room, from.parse().unwrap());
        // One address has three places, all together five.
        let mut places: Vec<_> = ["10.0.0.1"; 4].iter().map(|from| take(from)).collect();
        assert_eq!(crowded_out(&mut places), [0]);
        places.extend([take("10.0.0.2"), take("10.0.0.3")]);
        assert_eq!(crowded_out(&mut places), [0]);
        places.push(take("10.0.0.4"));
        assert_eq!(crowded_out(&mut places), [0, 1]);
        // Who is admitted waits no more, and is never sent away.
        assert!(places[2].admit(false));
        places.extend([take("10.0.0.5"), take("10.0.0.6")]);
        assert_eq!(crowded_out(&mut places[3..]), [0]);
        drop(places);
        assert!(room.state.lock().waiting.is_empty());
        assert_eq!(room.state.lock().admitted, 0);
    }

    #[test]
    fn the_last_places_are_for_administrators() {
        let room = room();
        let mut places: Vec<_> = (1..=6).map(|n| Place::take(&room, IpAddr::from([10, 0, 1, n]))).collect();
        let admitted: Vec<_> =
            places.iter_mut().zip([false, false, false, false, true, true]).map(|(p, admin)| p.admit(admin)).collect();
        assert_eq!(admitted, [true, true, true, false, true, false]);
        places.remove(0);
        assert!(!Place::take(&room, IpAddr::from([10, 0, 2, 1])).admit(false), "the place that is left is reserved");
        assert!(Place::take(&room, IpAddr::from([10, 0, 2, 1])).admit(true));
    }

    #[test]
    fn one_network_is_one_address() {
        let same = |a: &str, b: &str| group(a.parse().unwrap()) == group(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }
}
