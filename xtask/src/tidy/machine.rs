//! The repository speaks of no machine: no path of somebody's disk, no host of somebody's package registry.

use super::{Tree, Violation};
use std::path::Path;

/// What this machine would leak: its own places and the registries it is set up with.
#[derive(Default)]
pub struct Machine {
    places: Vec<String>,
    hosts: Vec<String>,
}

/// Settings that may name a registry.
const REGISTRIES: [&str; 8] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_INDEX_URL",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "GOPROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
];

/// Directories that many machines have: naming one says nothing about a machine.
const SHARED: [&str; 9] = ["/", "/tmp", "/home", "/opt", "/usr", "/var", "/srv", "/mnt", "/data"];

impl Machine {
    pub fn this(root: &Path) -> Self {
        let home = std::env::var("HOME").unwrap_or_default();
        let parent = root.parent().unwrap_or(root);
        let places = [root.to_string_lossy(), parent.to_string_lossy(), home.into()]
            .iter()
            .filter(|place| place.starts_with('/') && !SHARED.contains(&place.as_ref()))
            .map(|place| format!("{}/", place.trim_end_matches('/')))
            .collect();
        let urls: Vec<String> = REGISTRIES.iter().filter_map(|name| std::env::var(name).ok()).collect();
        Self { places, hosts: urls.iter().flat_map(|urls| hosts(urls)).collect() }
    }
}

/// The hosts in a list of URLs, without those that mean this machine or everybody's registry.
fn hosts(urls: &str) -> Vec<String> {
    urls.split([',', ' '])
        .filter_map(|url| url.split_once("://"))
        .map(|(_, rest)| rest.split('/').next().unwrap_or_default())
        .map(|authority| authority.rsplit('@').next().unwrap_or_default())
        .map(|host| host.split(':').next().unwrap_or_default().to_owned())
        .filter(|host| {
            !matches!(host.as_str(), "" | "localhost" | "127.0.0.1" | "pypi.org" | "proxy.golang.org" | "registry.npmjs.org")
        })
        .collect()
}

pub fn check(tree: &Tree, machine: &Machine) -> Vec<Violation> {
    let mut found = Vec::new();
    // The settings by which a checkout would send its users to one registry.
    let settings = [concat!("index", "-url"), concat!("find", "-links"), concat!("replace", "-with")];
    for (path, text) in tree.files.iter().filter(|(path, _)| path.as_str() != "Cargo.lock") {
        let users = ["/home/", "/Users/"];
        for (n, line) in text.lines().enumerate() {
            let place = machine.places.iter().find(|place| line.contains(place.as_str())).map(String::as_str);
            let user = users.into_iter().find(|start| names_user(line, start));
            if let Some(place) = place.or(user) {
                let mend = "write it relative to the repository, or find it at run time";
                found.push(Violation::new(path, n + 1, "machine", format!("a path of one machine: `{place}...`"), mend));
            }
            let host = machine.hosts.iter().find(|host| line.contains(host.as_str())).map(String::as_str);
            let setting = settings.into_iter().find(|setting| line.contains(setting));
            if let Some(what) = host.or(setting) {
                let mend = "leave the choice of a registry to the machine's own settings";
                found.push(Violation::new(path, n + 1, "machine", format!("a package registry: `{what}`"), mend));
            }
        }
    }
    found
}

/// Whether a user's name follows, as a path has it; a pattern or a placeholder is none.
fn names_user(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let own = at == 0 || !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '}'));
        own && line[at + start.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{expect, tree};
    use super::*;

    #[test]
    fn machines_and_registries_are_not_named() {
        let machine = Machine { places: vec!["/build/".to_owned()], hosts: vec!["mirror.example".to_owned()] };
        let check = |text: &str, expected: &[&str]| expect(check(&tree(&[("a", text)]), &machine), expected);
        check("x\nsee /build/y", &["a:2 /build/"]);
        check("https://mirror.example/simple", &["a:1 mirror.example"]);
        let user = format!("/{}/ann/x", "home");
        check(&user, &["a:1 home"]);
        check(&format!("https://x.org{user}"), &[]);
        check(&format!("--{}-url x", "index"), &["a:1 registry"]);
        check("target/debug, ~/.cache, /usr/lib/postgresql", &[]);
        expect(super::check(&tree(&[("Cargo.lock", "mirror.example")]), &machine), &[]);
    }

    #[test]
    fn hosts_come_from_urls() {
        assert_eq!(hosts("https://u:p@mirror.example:8080/simple,direct"), ["mirror.example"]);
        assert_eq!(hosts("https://pypi.org/simple http://localhost:3141/"), Vec::<String>::new());
    }
}
