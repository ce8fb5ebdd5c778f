//! Health, readiness and metrics over HTTP.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mainstem_env::{Env, net};
use mainstem_types::metrics::Metric;
use mainstem_types::{Code, Error, Result};
use serde_json::json;
use std::fmt::Write;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub const LISTEN: Code = Code::new("NET-023", "58030");

/// How long open requests get to end when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What this door shows; implemented where all parts are known. Calls must not block.
pub trait HealthFacts: Send + Sync {
    /// False when the process cannot serve any more and is to be restarted.
    fn healthy(&self) -> bool {
        true
    }

    /// What stands between now and serving (recovery running, log refuses appends); empty = ready. Words for operators, no secrets.
    fn unready(&self) -> Vec<String>;

    /// The declared metrics of all crates.
    fn metrics(&self) -> Vec<&'static dyn Metric>;

    /// Gauges that are known only at run time, per source and table; those of one name stand together.
    fn samples(&self) -> Vec<Sample>;
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
    listener: net::TcpListener,
    routes: Router,
}

impl HttpServer {
    /// `listen` is `host:port`; port 0 takes any.
    pub async fn bind(env: Env, listen: &str, facts: Arc<dyn HealthFacts>) -> Result<HttpServer> {
        let listener = net::listen(listen).await.map_err(|cause| {
            let hint = match cause.kind() {
                std::io::ErrorKind::AddrInUse => "Stop the other process that has this address, or choose another port.",
                _ => "Choose an address of this machine, for example 127.0.0.1:7080.",
            };
            Error::fix(LISTEN, format!("cannot listen on {listen} for HTTP clients")).hint(hint).caused_by(cause)
        })?;
        let routes = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .fallback(unknown)
            .with_state(facts);
        Ok(HttpServer { env, listener, routes })
    }

    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::fix(LISTEN, "the listening socket is gone").caused_by(e))
    }

    /// Serves until `shutdown` resolves.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) {
        let (stop, mut stopping) = tokio::sync::watch::channel(false);
        let serve = axum::serve(self.listener, self.routes).with_graceful_shutdown(async move {
            shutdown.await;
            let _ = stop.send(true);
        });
        let grace = async {
            let _ = stopping.wait_for(|stopping| *stopping).await;
            self.env.clock.sleep(STOP_GRACE).await;
        };
        tokio::select! {
            _ = serve.into_future() => {}
            () = grace => {}
        }
    }
}

async fn healthz(State(facts): State<Arc<dyn HealthFacts>>) -> Response {
    match facts.healthy() {
        true => Json(json!({ "status": "ok" })).into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "failed" }))).into_response(),
    }
}

async fn readyz(State(facts): State<Arc<dyn HealthFacts>>) -> Response {
    let reasons = facts.unready();
    match reasons.is_empty() {
        true => Json(json!({ "status": "ready" })).into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "reasons": reasons }))).into_response(),
    }
}

async fn metrics(State(facts): State<Arc<dyn HealthFacts>>) -> Response {
    let mut text = String::new();
    facts.metrics().iter().for_each(|metric| metric.write(&mut text));
    let mut last = "";
    for sample in facts.samples() {
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
    let paths = ["/healthz", "/readyz", "/metrics"];
    (StatusCode::NOT_FOUND, Json(json!({ "error": "no such path", "paths": paths }))).into_response()
}
