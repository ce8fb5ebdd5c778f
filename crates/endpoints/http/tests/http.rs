//! The HTTP door asked by curl.
#![allow(clippy::disallowed_methods)] // drives the outside world

use mainstem_env::Env;
use mainstem_http::{HealthFacts, HttpServer, Sample};
use mainstem_types::health::Trouble;
use mainstem_types::metrics::{Counter, Metric};
use parking_lot::Mutex;
use std::process::Command;
use std::sync::Arc;

static SEEN: Counter = Counter::new("test_seen_total", "Things seen.");

#[derive(Default)]
struct Facts {
    troubles: Mutex<Vec<Trouble>>,
}

impl HealthFacts for Facts {
    fn troubles(&self) -> Vec<Trouble> {
        self.troubles.lock().clone()
    }
    fn status(&self) -> String {
        "all is well\n".into()
    }
    fn sql_command(&self) -> String {
        "psql <here>".into()
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
    assert!(taken.code().id == "NET-001" && taken.to_string().contains(&address.to_string()), "{taken}");
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
    check("/status", "all is well\n|200 text/plain; charset=utf-8");
    check("/readyz", "{\"reasons\":[],\"status\":\"ready\"}|200 application/json");
    let trouble =
        |blocks| Trouble { kind: "disk_full", place: "log".into(), what: "full".into(), hint: "Free some.".into(), blocks };
    let reasons = "{\"reasons\":[{\"hint\":\"Free some.\",\"kind\":\"disk_full\",\"what\":\"full\",\"where\":\"log\"}]";
    *facts.troubles.lock() = vec![trouble(false)];
    check("/readyz", &format!("{reasons},\"status\":\"ready, with troubles\"}}|200 application/json"));
    *facts.troubles.lock() = vec![trouble(true)];
    check("/readyz", &format!("{reasons},\"status\":\"not ready\"}}|503 application/json"));
    SEEN.add(2);
    check(
        "/metrics",
        "# HELP test_seen_total Things seen.\n# TYPE test_seen_total counter\ntest_seen_total 2\n\
         # HELP lag Lag.\n# TYPE lag gauge\nlag{source=\"shop\"} 1.5\nlag{source=\"a\\\"b\\\\\"} 1.5\n\
         # HELP mainstem_trouble 1 for each thing that is wrong now; /readyz says what to do.\n# TYPE mainstem_trouble gauge\n\
         mainstem_trouble{kind=\"disk_full\",where=\"log\"} 1\n\
         |200 text/plain; version=0.0.4; charset=utf-8",
    );
    check(
        "/x",
        "{\"error\":\"no such path\",\"paths\":[\"/\",\"/healthz\",\"/readyz\",\"/status\",\"/metrics\"]}|404 application/json",
    );
    let page = Command::new("curl").args(["-s", &format!("http://{address}/")]).output().unwrap();
    assert!(String::from_utf8_lossy(&page.stdout).contains("psql &lt;here>"));
    drop(stop);
    runtime.block_on(done).unwrap();
}
