//! Licences of every dependency, by the lists in `deny.toml`: the same answer as cargo-deny's, without installing it.

use super::{Tree, Violation};
use crate::run;
use std::path::Path;

const RULE: &str = "licences";
const LISTS: &str = "deny.toml";

pub struct Package {
    pub name: String,
    pub version: String,
    /// SPDX expression; empty when the package has none.
    pub licence: String,
}

/// Every package that cargo resolves for the workspace, without our own.
pub fn packages(root: &Path) -> Result<Vec<Package>, Violation> {
    let metadata =
        |offline: &[&str]| run::output(run::cargo(root).args(["metadata", "--format-version", "1", "--locked"]).args(offline));
    // A fresh machine has not downloaded the packages yet.
    let text = metadata(&["--offline"]).or_else(|| metadata(&[])).ok_or_else(|| {
        let mend = "`cargo check` brings it up to date; commit it";
        Violation::new("Cargo.lock", 0, RULE, "`cargo metadata --locked` fails: the file does not fit the manifests", mend)
    })?;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let foreign = json["packages"].as_array().into_iter().flatten().filter(|package| !package["source"].is_null());
    let packages: Vec<Package> =
        foreign.map(|p| Package { name: text(&p["name"]), version: text(&p["version"]), licence: text(&p["license"]) }).collect();
    if packages.is_empty() {
        return Err(Violation::new("Cargo.lock", 0, RULE, "cargo's metadata lists no packages", "look at `cargo metadata`"));
    }
    Ok(packages)
}

pub fn check(tree: &Tree, packages: &[Package]) -> Vec<Violation> {
    let lists: toml::Table = match tree.get(LISTS).map(str::parse) {
        Some(Ok(lists)) => lists,
        _ => return vec![Violation::new(LISTS, 0, RULE, "missing or no TOML", "list the allowed licences in [licenses]")],
    };
    let section = lists.get("licenses");
    let allowed = names(section.and_then(|section| section.get("allow")));
    let exceptions = section.and_then(|section| section.get("exceptions")).and_then(toml::Value::as_array);
    let exceptions: Vec<(&str, Vec<&str>)> = exceptions
        .into_iter()
        .flatten()
        .filter_map(|exception| Some((exception.get("crate")?.as_str()?, names(exception.get("allow")))))
        .collect();
    let mut found = Vec::new();
    for package in packages {
        let of_package = exceptions.iter().filter(|(name, _)| *name == package.name).flat_map(|(_, names)| names);
        let allowed: Vec<&str> = allowed.iter().chain(of_package).copied().collect();
        if !permits(&package.licence, &allowed) {
            let text = format!("{} {} is under `{}`", package.name, package.version, package.licence);
            found.push(Violation::new(
                "Cargo.lock",
                0,
                RULE,
                text,
                "drop the dependency; an exception in deny.toml needs a reason a lawyer accepts",
            ));
        }
    }
    for (name, _) in exceptions.iter().filter(|(name, _)| !packages.iter().any(|package| package.name == *name)) {
        found.push(Violation::new(LISTS, 0, RULE, format!("an exception for `{name}`, which is not used"), "remove it"));
    }
    found
}

fn names(value: Option<&toml::Value>) -> Vec<&str> {
    value.and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_str).collect()
}

/// Whether the allowed licences satisfy an SPDX expression. `A WITH exception` only adds rights to `A`; an old `A/B` means `A OR B`.
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let good = either(&mut rest, allowed);
    good && rest.is_empty()
}

fn either(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut good = both(words, allowed);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        good |= both(words, allowed);
    }
    good
}

fn both(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut good = one(words, allowed);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        good &= one(words, allowed);
    }
    good
}

fn one(words: &mut &[&str], allowed: &[&str]) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let good = either(words, allowed);
            match *words {
                [")", rest @ ..] => {
                    *words = rest;
                    good
                }
                _ => false,
            }
        }
        [licence, "WITH", _, rest @ ..] | [licence, rest @ ..] => {
            *words = rest;
            allowed.contains(licence)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{expect, tree};
    use super::*;

    #[test]
    fn expressions_are_weighed() {
        let check =
            |expression: &str, good: bool| assert_eq!(permits(expression, &["MIT", "Apache-2.0", "ISC"]), good, "{expression}");
        check("MIT", true);
        check("GPL-3.0", false);
        check("MIT/GPL-3.0", true);
        check("GPL-3.0 OR MIT", true);
        check("GPL-3.0 AND MIT", false);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("GPL-2.0 WITH Classpath-exception-2.0", false);
        check("(MIT OR GPL-3.0) AND ISC", true);
        check("(GPL-3.0 OR LGPL-3.0) AND ISC", false);
        check("MIT AND (ISC", false);
        check("", false);
    }

    #[test]
    fn lists_decide() {
        let lists = "[licenses]\nallow = ['MIT']\nexceptions = [{ crate = 'a', allow = ['MPL-2.0'] }]\n";
        let package = |name: &str, licence: &str| Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.to_owned(),
        };
        let check = |packages: &[Package], expected: &[&str]| expect(check(&tree(&[("deny.toml", lists)]), packages), expected);
        check(&[package("a", "MPL-2.0"), package("b", "MIT")], &[]);
        check(&[package("a", "MIT"), package("b", "MPL-2.0")], &["Cargo.lock:0 b 1.0.0"]);
        check(&[package("b", "MIT")], &["deny.toml:0 for `a`"]);
        expect(super::check(&tree(&[]), &[]), &["deny.toml:0 missing"]);
    }
}
