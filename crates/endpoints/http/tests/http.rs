//! The HTTP door asked by curl.
#![allow(clippy::disallowed_methods)] // drives the outside world

use mainstem_env::Env;
use mainstem_http::{HealthFacts, HttpServer, Sample};
use mainstem_types::metrics::{Counter, Metric};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

static SEEN: Counter = Counter::new("test_seen_total", "Things seen.");

#[derive(Default)]
struct Facts {
    ready: AtomicBool,
}

impl HealthFacts for Facts {
    fn unready(&self) -> Vec<String> {
        if self.ready.load(Ordering::SeqCst) { Vec::new() } else { vec!["recovery is running".into()] }
    }
    fn metrics(&self) -> Vec<&'static dyn Metric> {
        vec![&SEEN]
    }
    fn samples(&self) -> Vec<Sample> {
        let sample = |source: &str| Sample { name: "lag", help: "Lag.", labels: vec![("source", source.into())], value: 1.5 };
        vec![sample("shop"), sample("a\"b\\")]
    }
}

#[test]
fn answers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let facts = Arc::new(Facts::default());
    let server = runtime.block_on(HttpServer::bind(Env::real(), "127.0.0.1:0", facts.clone())).unwrap();
    let address = server.local_addr().unwrap();
    let taken = runtime.block_on(HttpServer::bind(Env::real(), &address.to_string(), facts.clone())).err().unwrap();
    assert!(taken.code().id == "NET-023" && taken.to_string().contains(&address.to_string()), "{taken}");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let done = runtime.spawn(server.run(async {
        let _ = stopped.await;
    }));
    let check = |path: &str, expected: &str| {
        let url = format!("http://{address}{path}");
        let out = Command::new("curl").args(["-s", "-w", "|%{http_code} %{content_type}", &url]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), expected, "{path}");
    };
    check("/healthz", "{\"status\":\"ok\"}|200 application/json");
    check("/readyz", "{\"reasons\":[\"recovery is running\"],\"status\":\"not ready\"}|503 application/json");
    facts.ready.store(true, Ordering::SeqCst);
    check("/readyz", "{\"status\":\"ready\"}|200 application/json");
    SEEN.add(2);
    check(
        "/metrics",
        "# HELP test_seen_total Things seen.\n# TYPE test_seen_total counter\ntest_seen_total 2\n\
         # HELP lag Lag.\n# TYPE lag gauge\nlag{source=\"shop\"} 1.5\nlag{source=\"a\\\"b\\\\\"} 1.5\n\
         |200 text/plain; version=0.0.4; charset=utf-8",
    );
    check("/x", "{\"error\":\"no such path\",\"paths\":[\"/healthz\",\"/readyz\",\"/metrics\"]}|404 application/json");
    drop(stop);
    runtime.block_on(done).unwrap();
}
