//! Who may know whom, read from the manifests. Folder = layer; inside the data plane, the table below.

use super::{Tree, Violation};
use std::collections::BTreeMap;

const RULE: &str = "arrows";

/// Inside the data plane, against the flow of data: what each crate may know beside `types`, `env` and `governance`.
const DATAPLANE: [(&str, &[&str]); 6] = [
    ("connector", &[]),
    ("log", &["eventlog"]),
    ("envelope", &["eventlog"]),
    ("pipeline", &["connector", "envelope", "eventlog"]),
    ("warehouse", &["envelope", "eventlog"]),
    ("query", &["warehouse"]),
];

/// Libraries that stay behind one door: their name, and the folders whose manifests may name them.
const FENCED: [(&str, &[&str]); 7] = [
    ("datafusion", &["crates/dataplane/query"]),
    ("datafusion-*", &["crates/dataplane/query"]),
    ("parquet", &["crates/dataplane/warehouse", "crates/dataplane/query"]),
    ("axum", &["crates/endpoints/http"]),
    ("kafka-protocol", &["crates/base/eventlog"]),
    ("postgres-protocol", &["crates/dataplane/connectors"]),
    ("tokio-postgres", &["crates/dataplane/connectors"]),
];

/// Fenced, but harmless where tests compare with the outside: as a dev-dependency, and in `crates/dev`, `tests`, `benches`.
const FREE_IN_TESTS: [&str; 3] = ["parquet", "postgres-protocol", "tokio-postgres"];

/// Everything a manifest says, reduced to names.
struct Manifest<'a> {
    path: &'a str,
    text: &'a str,
    /// The folder of the crate.
    dir: &'a str,
    layer: Layer<'a>,
    name: String,
    /// Package name, and whether it is a dev-dependency.
    dependencies: Vec<(String, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer<'a> {
    Types,
    Env,
    EventLog,
    Governance,
    Dataplane(&'a str),
    Connector,
    Operations,
    /// What all endpoints stand on.
    Listener,
    Endpoint,
    Server,
    Dev,
    Tests,
    Xtask,
}

fn layer(dir: &str) -> Option<Layer<'_>> {
    let parts: Vec<&str> = dir.split('/').collect();
    Some(match parts[..] {
        ["crates", "base", "types"] => Layer::Types,
        ["crates", "base", "env"] => Layer::Env,
        ["crates", "base", "eventlog"] => Layer::EventLog,
        ["crates", "governance", _] => Layer::Governance,
        ["crates", "dataplane", "connectors", _] => Layer::Connector,
        ["crates", "dataplane", name] => Layer::Dataplane(name),
        ["crates", "operations", _] => Layer::Operations,
        ["crates", "endpoints", "listener"] => Layer::Listener,
        ["crates", "endpoints", _] => Layer::Endpoint,
        ["crates", "server"] => Layer::Server,
        ["crates", "dev", _] => Layer::Dev,
        ["tests" | "benches" | "fuzz"] => Layer::Tests,
        ["xtask"] => Layer::Xtask,
        _ => return None,
    })
}

/// Whether the one may name the other in `[dependencies]`.
fn may(from: Layer<'_>, to: Layer<'_>) -> bool {
    use Layer::{
        Connector, Dataplane, Dev, Endpoint, Env, EventLog, Governance, Listener, Operations, Server, Tests, Types, Xtask,
    };
    match (from, to) {
        (_, Tests | Xtask | Server) => false,
        (Tests, _) => true,
        (Xtask | Types, _) => false,
        (Env, to) => to == Types,
        (_, Types | Env) => true,
        (_, Dev) => false,
        (Server, _) => true,
        (_, Connector) => false,
        (EventLog, _) => false,
        (Governance, to) => matches!(to, Governance | EventLog),
        (Endpoint, Listener) => true,
        (Endpoint | Listener | Operations, to) => matches!(to, Governance | Operations),
        (Dev, EventLog) => true,
        (Connector | Dev, to) => to == Dataplane("connector"),
        (Dataplane("connector"), _) => false,
        (Dataplane(_), Governance) => true,
        (Dataplane(from), EventLog) => knows(from, "eventlog"),
        (Dataplane(from), Dataplane(to)) => knows(from, to),
        (Dataplane(_), _) => false,
    }
}

fn knows(from: &str, to: &str) -> bool {
    DATAPLANE.iter().any(|(name, knows)| *name == from && knows.contains(&to))
}

/// Whether the one may name the other in `[dev-dependencies]` alone: tests want the tools, and a real log below what writes to one.
fn may_in_tests(from: Layer<'_>, to: Layer<'_>) -> bool {
    match to {
        Layer::Dev => true,
        Layer::Dataplane("log") => matches!(from, Layer::Governance | Layer::Dataplane(_)),
        _ => false,
    }
}

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut manifests = Vec::new();
    for (path, text) in tree.ending("Cargo.toml") {
        let Some(dir) = path.strip_suffix("/Cargo.toml") else { continue };
        match read(path, text, dir) {
            Ok(manifest) => manifests.push(manifest),
            Err(violation) => found.push(violation),
        }
    }
    found.extend(members(tree, &manifests));
    let layers: BTreeMap<&str, Layer<'_>> = manifests.iter().map(|m| (m.name.as_str(), m.layer)).collect();
    for manifest in &manifests {
        found.extend(names(manifest));
        for (dependency, dev) in &manifest.dependencies {
            let line = line_of(manifest.text, dependency);
            if let Some(to) = layers.get(dependency.as_str()) {
                let allowed = may(manifest.layer, *to) || (*dev && may_in_tests(manifest.layer, *to));
                if !allowed {
                    found.push(Violation::new(
                        manifest.path,
                        line,
                        RULE,
                        forbidden(manifest, dependency, *to),
                        advice(manifest.layer, *to),
                    ));
                }
            }
            found.extend(fenced(manifest, dependency, *dev, line));
        }
    }
    found
}

fn read<'a>(path: &'a str, text: &'a str, dir: &'a str) -> Result<Manifest<'a>, Violation> {
    let table: toml::Table = text
        .parse()
        .map_err(|e: toml::de::Error| Violation::new(path, 1, RULE, format!("no TOML: {}", e.message()), "mend the manifest"))?;
    let layer = layer(dir).ok_or_else(|| {
        let mend = "move it into crates/<layer>/<name>, or give the new layer its arrows in xtask/src/tidy/arrows.rs";
        Violation::new(path, 1, RULE, format!("`{dir}` is in no layer"), mend)
    })?;
    let name = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str).unwrap_or_default();
    let mut dependencies = Vec::new();
    let targets = table.get("target").and_then(toml::Value::as_table);
    for table in std::iter::once(&table).chain(targets.into_iter().flat_map(|t| t.values()).filter_map(toml::Value::as_table)) {
        for (section, dev) in [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)] {
            for (key, value) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
                dependencies.push((package.to_owned(), dev));
            }
        }
    }
    Ok(Manifest { path, text, dir, layer, name: name.to_owned(), dependencies })
}

/// Every crate is a member; a forgotten one would be checked by nobody.
fn members(tree: &Tree, manifests: &[Manifest<'_>]) -> Vec<Violation> {
    let root: toml::Table = tree.get("Cargo.toml").and_then(|text| text.parse().ok()).unwrap_or_default();
    let list = root.get("workspace").and_then(|workspace| workspace.get("members")).and_then(toml::Value::as_array);
    let members: Vec<&str> = list.into_iter().flatten().filter_map(toml::Value::as_str).collect();
    manifests
        .iter()
        .filter(|manifest| !members.contains(&manifest.dir))
        .map(|manifest| {
            let text = format!("`{}` is no member of the workspace", manifest.dir);
            Violation::new(manifest.path, 1, RULE, text, "add it to `members` in Cargo.toml, in the order of the flow")
        })
        .collect()
}

fn names(manifest: &Manifest<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let folder = manifest.dir.rsplit('/').next().unwrap_or_default();
    let expected = if manifest.layer == Layer::Xtask { "xtask".to_owned() } else { format!("mainstem-{folder}") };
    if manifest.name != expected {
        let text = format!("the package is named `{}`, its folder wants `{expected}`", manifest.name);
        found.push(Violation::new(
            manifest.path,
            line_of(manifest.text, "name"),
            RULE,
            text,
            "name the package after its folder",
        ));
    }
    if let Layer::Dataplane(name) = manifest.layer
        && !DATAPLANE.iter().any(|(known, _)| *known == name)
    {
        let mend = "add its line to DATAPLANE in xtask/src/tidy/arrows.rs and to ARCHITECTURE.md";
        found.push(Violation::new(manifest.path, 1, RULE, format!("nothing says what `{name}` may know"), mend));
    }
    found
}

fn forbidden(manifest: &Manifest<'_>, dependency: &str, to: Layer<'_>) -> String {
    match to {
        Layer::Dev => format!("`{}` ships `{dependency}`, which is for tests", manifest.name),
        _ => format!("`{}` must not know `{dependency}`", manifest.name),
    }
}

fn advice(from: Layer<'_>, to: Layer<'_>) -> &'static str {
    match (from, to) {
        (_, Layer::Dev) => "move it to [dev-dependencies]",
        (_, Layer::Dataplane("log")) => {
            "only `server`, `tests` and `benches` name the log on disk: go through its contract, `base/eventlog`"
        }
        (_, Layer::Connector) => "only `server`, `tests` and `benches` name a connector: go through the contract in `connector`",
        (Layer::Endpoint, _) => "doors reach engines through the service traits in `types`; `server` puts the engine in",
        (Layer::Dev, _) => "testkit knows `base` and the contract only, so that every crate can test with it",
        _ => "let the lower crate define what it needs (a trait in `types`), or move the item down; see ARCHITECTURE.md",
    }
}

fn fenced(manifest: &Manifest<'_>, dependency: &str, dev: bool, line: usize) -> Option<Violation> {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => dependency.starts_with(start),
        None => dependency == pattern,
    };
    let (_, homes) = FENCED.iter().find(|(pattern, _)| matches(pattern))?;
    let at_home = homes.iter().any(|home| manifest.dir == *home || manifest.dir.starts_with(&format!("{home}/")));
    let testing = dev || matches!(manifest.layer, Layer::Dev | Layer::Tests);
    if at_home || (testing && FREE_IN_TESTS.contains(&dependency)) {
        return None;
    }
    let text = format!("`{dependency}` belongs to {} alone", homes.join(" and "));
    Some(Violation::new(manifest.path, line, "fence", text, "use what that crate offers, or add there what is missing"))
}

/// The line that begins with the key; 1 when it is written another way.
fn line_of(manifest: &str, key: &str) -> usize {
    let names = |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    manifest.lines().position(names).map_or(1, |n| n + 1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{expect, tree};
    use super::*;

    /// Crates as `dir: dependency dependency dev:dependency`.
    fn house(crates: &[&str]) -> Vec<Violation> {
        let mut files = Vec::new();
        let mut members = Vec::new();
        for line in crates {
            let (dir, dependencies) = line.split_once(':').unwrap();
            let folder = dir.rsplit('/').next().unwrap();
            let name = if dir == "xtask" { dir.to_owned() } else { format!("mainstem-{folder}") };
            let (mut normal, mut dev) = (String::new(), String::new());
            for dependency in dependencies.split_whitespace() {
                match dependency.strip_prefix("dev:") {
                    Some(dependency) => dev += &format!("{dependency} = \"1\"\n"),
                    None => normal += &format!("{dependency}.workspace = true\n"),
                }
            }
            members.push(format!("{dir:?}"));
            files.push((
                format!("{dir}/Cargo.toml"),
                format!("[package]\nname = {name:?}\n[dependencies]\n{normal}[dev-dependencies]\n{dev}"),
            ));
        }
        files.push(("Cargo.toml".to_owned(), format!("[workspace]\nmembers = [{}]\n", members.join(","))));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        check(&tree(&files))
    }

    const ALL: [&str; 10] = [
        "crates/base/types:",
        "crates/base/env: mainstem-types",
        "crates/base/eventlog: mainstem-types mainstem-env",
        "crates/dataplane/connector: mainstem-types",
        "crates/dataplane/connectors/postgres: mainstem-connector",
        "crates/dataplane/log: mainstem-env mainstem-eventlog",
        "crates/dataplane/envelope: mainstem-eventlog",
        "crates/dataplane/warehouse: mainstem-eventlog mainstem-envelope dev:mainstem-log",
        "crates/dev/testkit: mainstem-connector",
        "crates/endpoints/http: mainstem-types axum",
    ];

    #[track_caller]
    fn with(line: &str, expected: &[&str]) {
        let dir = line.split(':').next().unwrap();
        let mut crates: Vec<&str> = ALL.iter().copied().filter(|other| other.split(':').next() != Some(dir)).collect();
        crates.push(line);
        expect(house(&crates), expected);
    }

    #[test]
    fn arrows_point_down() {
        expect(house(&ALL), &[]);
        with("crates/base/types: mainstem-env", &["crates/base/types/Cargo.toml:4 must not know"]);
        with("crates/base/env: mainstem-eventlog", &["crates/base/env/Cargo.toml:4 must not know"]);
        with("crates/base/eventlog: mainstem-log", &["crates/base/eventlog/Cargo.toml:4 must not know"]);
        with("crates/governance/identity: mainstem-eventlog dev:mainstem-log", &[]);
        with("crates/governance/identity: mainstem-connector", &["crates/governance/identity/Cargo.toml:4 must not know"]);
        with("crates/dataplane/warehouse: mainstem-log", &["crates/dataplane/warehouse/Cargo.toml:4 must not know"]);
        with("crates/dataplane/connector: mainstem-eventlog", &["crates/dataplane/connector/Cargo.toml:4 must not know"]);
        with("crates/dataplane/connector: mainstem-log", &["crates/dataplane/connector/Cargo.toml:4 must not know"]);
        with(
            "crates/dataplane/connectors/files: mainstem-postgres",
            &["crates/dataplane/connectors/files/Cargo.toml:4 mainstem-postgres"],
        );
        with("crates/dataplane/connectors/files: mainstem-log", &["crates/dataplane/connectors/files/Cargo.toml:4 mainstem-log"]);
        with("crates/dataplane/log: mainstem-envelope", &["crates/dataplane/log/Cargo.toml:4 mainstem-envelope"]);
        with("crates/dataplane/query: mainstem-types mainstem-warehouse", &[]);
        with("crates/dataplane/query: mainstem-log", &["crates/dataplane/query/Cargo.toml:4 mainstem-log"]);
        with("crates/endpoints/listener: mainstem-env", &[]);
        with("crates/endpoints/kafka: mainstem-http", &["crates/endpoints/kafka/Cargo.toml:4 must not know"]);
        with("crates/dataplane/query: mainstem-eventlog", &["crates/dataplane/query/Cargo.toml:4 mainstem-eventlog"]);
        with("crates/endpoints/http: axum mainstem-eventlog", &["crates/endpoints/http/Cargo.toml:5 mainstem-eventlog"]);
        with("crates/endpoints/http: axum mainstem-warehouse", &["crates/endpoints/http/Cargo.toml:5 mainstem-warehouse"]);
        with("crates/dataplane/pipeline: mainstem-postgres", &["crates/dataplane/pipeline/Cargo.toml:4 mainstem-postgres"]);
        with("crates/server: mainstem-log mainstem-postgres mainstem-warehouse mainstem-http", &[]);
        with("tests: mainstem-postgres mainstem-testkit", &[]);
        with("xtask: mainstem-types", &["xtask/Cargo.toml:4 mainstem-types"]);
    }

    #[test]
    fn test_tools_do_not_ship() {
        with("crates/dataplane/log: dev:mainstem-testkit", &[]);
        with("crates/dataplane/log: mainstem-testkit", &["crates/dataplane/log/Cargo.toml:4 for tests"]);
        with("crates/server: mainstem-testkit", &["crates/server/Cargo.toml:4 for tests"]);
        with("crates/dev/testkit: mainstem-eventlog", &[]);
        with("crates/dataplane/envelope: dev:mainstem-log", &[]);
        with("crates/endpoints/http: axum dev:mainstem-log", &["crates/endpoints/http/Cargo.toml:6 mainstem-log"]);
        with("crates/dev/testkit: mainstem-log", &["crates/dev/testkit/Cargo.toml:4 mainstem-log"]);
        with("crates/dataplane/pipeline: dev:mainstem-postgres", &["crates/dataplane/pipeline/Cargo.toml:5 mainstem-postgres"]);
    }

    #[test]
    fn libraries_stay_behind_their_door() {
        with("crates/dataplane/query: datafusion datafusion-pg-catalog parquet", &[]);
        with("crates/dataplane/warehouse: datafusion-common", &["crates/dataplane/warehouse/Cargo.toml:4 datafusion-common"]);
        with("benches: datafusion parquet", &["benches/Cargo.toml:4 datafusion"]);
        with("crates/dataplane/log: dev:parquet", &[]);
        with("crates/dataplane/log: parquet", &["crates/dataplane/log/Cargo.toml:4 parquet"]);
        with("crates/endpoints/pgwire: axum", &["crates/endpoints/pgwire/Cargo.toml:4 axum"]);
        with("crates/dataplane/connectors/postgres: tokio-postgres", &[]);
    }

    #[test]
    fn every_crate_has_a_place() {
        with(
            "crates/dataplane/stream: mainstem-log",
            &["crates/dataplane/stream/Cargo.toml:1 nothing says", "crates/dataplane/stream/Cargo.toml:4"],
        );
        with("crates/extra: mainstem-log", &["crates/extra/Cargo.toml:1 in no layer"]);
        let mut files = vec![("Cargo.toml", "[workspace]\nmembers = []"), ("xtask/Cargo.toml", "[package]\nname = \"tool\"")];
        expect(check(&tree(&files)), &["xtask/Cargo.toml:1 no member", "xtask/Cargo.toml:2 named `tool`"]);
        files.push(("crates/server/Cargo.toml", "[package"));
        assert_eq!(check(&tree(&files)).len(), 3);
    }
}
