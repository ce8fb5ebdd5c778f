//! The HTTP endpoint: a first page, health, readiness with its reasons, status and metrics.

pub mod metrics;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use mainstem_env::Env;
use mainstem_listener::{Accepted, ListenMetrics, ListenSettings, Listener};
use mainstem_types::Result;
use mainstem_types::health::Trouble;
use mainstem_types::metrics::Metric;
use serde_json::json;
use std::fmt::Write;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection lives: all answers are short, so whoever has not sent its request by then, or not read the answer, never will.
/// A client that goes on asking connects again.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How long what is being answered gets to end after that, and when the server stops.
const END_GRACE: Duration = Duration::from_secs(2);
/// Connections at once, over all and from one address. Beyond, the oldest goes.
const CONNECTIONS_MAX: usize = 512;
const ADDRESS_CONNECTIONS_MAX: usize = 256;

static LISTEN_METRICS: ListenMetrics =
    ListenMetrics { open: &metrics::CONNECTIONS, accepted: &metrics::ACCEPTED, refused: &metrics::REFUSED };

/// What this door shows; implemented where all parts are known. Calls must not block. Whoever reaches the door may read all of it: names of
/// sources and tables, never a value, an address of a source or a secret.
pub trait HealthFacts: Send + Sync {
    /// False when the process cannot serve any more and is to be restarted.
    fn healthy(&self) -> bool {
        true
    }

    /// What is wrong now (recovery running, a disk nearly full); ready = none of them blocks.
    fn troubles(&self) -> Vec<Trouble>;

    /// The declared metrics of all crates.
    fn metrics(&self) -> Vec<&'static dyn Metric>;

    /// Gauges that are known only at run time, per source and table; those of one name stand together.
    fn samples(&self) -> Vec<Sample>;

    /// Sources, lag and tables, as a text for people.
    fn status(&self) -> String;

    /// How a client reaches SQL: a command line.
    fn sql_command(&self) -> String;
}

/// One value of a gauge with labels.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

/// The HTTP door.
pub struct HttpServer {
    env: Env,
    listener: Listener,
    routes: Router,
}

impl HttpServer {
    /// `listen` is `host:port`; port 0 takes any.
    pub async fn bind(env: Env, listen: &str, facts: Arc<dyn HealthFacts>) -> Result<HttpServer> {
        let settings = ListenSettings {
            clients: "HTTP",
            listen: listen.to_owned(),
            connections_max: 0, // nobody logs in: all wait, for one answer
            reserved: 0,
            waiting_max: CONNECTIONS_MAX,
            waiting_address_max: ADDRESS_CONNECTIONS_MAX,
            waiting_time: CONNECTION_TIME,
            stop_grace: END_GRACE,
            metrics: &LISTEN_METRICS,
        };
        let listener = Listener::bind(env.clone(), settings).await?;
        let routes = Router::new()
            .route("/", get(home))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/status", get(status))
            .route("/metrics", get(shown_metrics))
            .fallback(unknown)
            .with_state(facts);
        Ok(HttpServer { env, listener, routes })
    }

    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` resolves.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { env, listener, routes } = self;
        listener.run(shutdown, move |accepted| serve(env.clone(), accepted, routes.clone())).await;
    }
}

async fn serve(env: Env, accepted: Accepted, routes: Router) {
    let Accepted { stream, mut place, mut stopped, .. } = accepted;
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = place.expired() => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        _ = serving.as_mut() => {}
        () = env.clock.sleep(END_GRACE) => {}
    }
}

async fn home(State(facts): State<Arc<dyn HealthFacts>>) -> Response {
    let sql = facts.sql_command().replace('&', "&amp;").replace('<', "&lt;");
    Html(include_str!("home.html").replace("{version}", env!("CARGO_PKG_VERSION")).replace("{sql}", &sql)).into_response()
}

async fn healthz(State(facts): State<Arc<dyn HealthFacts>>) -> Response {
    match facts.healthy() {
        true => Json(json!({ "status": "ok" })).into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "failed" }))).into_response(),
    }
}

/// 200 also with troubles that do not block, and with what they are.
async fn readyz(State(facts): State<Arc<dyn HealthFacts>>) -> Response {
    let troubles = facts.troubles();
    let (status, word) = match (troubles.iter().any(|t| t.blocks), troubles.is_empty()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (false, false) => (StatusCode::OK, "ready, with troubles"),
        (false, true) => (StatusCode::OK, "ready"),
    };
    let reason = |t: &Trouble| json!({ "kind": t.kind, "where": t.place, "what": t.what, "hint": t.hint });
    let reasons: Vec<_> = troubles.iter().map(reason).collect();
    (status, Json(json!({ "status": word, "reasons": reasons }))).into_response()
}

async fn status(State(facts): State<Arc<dyn HealthFacts>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], facts.status()).into_response()
}

async fn shown_metrics(State(facts): State<Arc<dyn HealthFacts>>) -> Response {
    let mut text = String::new();
    facts.metrics().iter().for_each(|metric| metric.write(&mut text));
    let mut last = "";
    let troubles = facts.troubles().into_iter().map(|trouble| Sample {
        name: "mainstem_trouble",
        help: "1 for each thing that is wrong now; /readyz says what to do.",
        labels: vec![("kind", trouble.kind.to_owned()), ("where", trouble.place)],
        value: 1.0,
    });
    for sample in facts.samples().into_iter().chain(troubles) {
        if sample.name != last {
            let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} gauge", sample.name, sample.help);
            last = sample.name;
        }
        let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let _ = writeln!(text, "{}{{{}}} {}", sample.name, labels.join(","), sample.value);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn unknown() -> Response {
    let paths = ["/", "/healthz", "/readyz", "/status", "/metrics"];
    (StatusCode::NOT_FOUND, Json(json!({ "error": "no such path", "paths": paths }))).into_response()
}
