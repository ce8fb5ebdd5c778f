//! What the documents owe a reader: the two commands, links that lead somewhere, a configuration file that parses.

use super::{Tree, Violation};

const RULE: &str = "documents";
const COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];
const NEEDED: [&str; 6] = ["README.md", "ARCHITECTURE.md", "STYLE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"];
const CONFIG: &str = "config/default.toml";

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for path in NEEDED {
        if tree.get(path).is_none() {
            found.push(Violation::new(path, 0, RULE, "missing", "write it; STYLE.md says what it is for"));
        }
    }
    for command in COMMANDS {
        if !tree.get("README.md").is_none_or(|text| text.contains(command)) {
            found.push(Violation::new(
                "README.md",
                1,
                RULE,
                format!("`{command}` is not shown"),
                "show a newcomer the two commands",
            ));
        }
    }
    found.extend(members_described(tree));
    found.extend(tree.ending(".md").flat_map(|(path, text)| dead_links(tree, path, text)));
    found.extend(tree.ending(".rs").flat_map(|(path, text)| dead_references(tree, path, text)));
    match tree.get(CONFIG).map(str::parse::<toml::Table>) {
        Some(Ok(_)) => {}
        Some(Err(e)) => {
            let line = e.span().zip(tree.get(CONFIG)).map_or(1, |(span, text)| text[..span.start].lines().count().max(1));
            found.push(Violation::new(CONFIG, line, RULE, e.message(), "it must parse: it is the reference of every option"));
        }
        None => found.push(Violation::new(CONFIG, 0, RULE, "missing", "show every option with its default")),
    }
    found
}

/// ARCHITECTURE.md has a line for every crate of the workspace.
fn members_described(tree: &Tree) -> Vec<Violation> {
    let (Some(map), Some(root)) = (tree.get("ARCHITECTURE.md"), tree.get("Cargo.toml")) else { return Vec::new() };
    let root: toml::Table = root.parse().unwrap_or_default();
    let members = root.get("workspace").and_then(|workspace| workspace.get("members")).and_then(toml::Value::as_array);
    members
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str)
        .filter(|member| !map.contains(&format!("`{}`", member.strip_prefix("crates/").unwrap_or(member))))
        .map(|member| {
            let mend = "say what it owns, whether it is a boundary, and what it never knows";
            Violation::new("ARCHITECTURE.md", 1, RULE, format!("`{member}` is not described"), mend)
        })
        .collect()
}

/// Relative links to files that are not there.
fn dead_links(tree: &Tree, path: &str, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (n, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let wanted = resolve(path, file);
            let inside = format!("{wanted}/");
            if tree.get(&wanted).is_none() && !tree.files.keys().any(|known| known.starts_with(&inside)) {
                found.push(Violation::new(
                    path,
                    n + 1,
                    RULE,
                    format!("the link `{target}` leads nowhere"),
                    "mend the path or remove the link",
                ));
            }
        }
    }
    found
}

/// Pages that a comment names and that are not there.
fn dead_references(tree: &Tree, path: &str, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("docs/") {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
            let page = line[at..].split(|c| !plain(c)).next().unwrap_or_default().trim_end_matches('.');
            if page.ends_with(".md") && tree.get(page).is_none() {
                found.push(Violation::new(
                    path,
                    n + 1,
                    RULE,
                    format!("`{page}` does not exist"),
                    "write the page, or mend its name",
                ));
            }
        }
    }
    found
}

fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = if link.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{expect, tree};
    use super::*;

    const WHOLE: [(&str, &str); 8] = [
        ("README.md", "cargo xtask demo\ncargo xtask test\n[map](ARCHITECTURE.md) [docs](docs) [x](https://x.org)"),
        ("ARCHITECTURE.md", "`base/types`"),
        ("STYLE.md", ""),
        ("CONTRIBUTING.md", ""),
        ("CHANGELOG.md", ""),
        ("LICENSE", ""),
        ("docs/a/b.md", "[up](../../README.md#x) [here](#y)\n```\n[code](nowhere)\n```\n"),
        ("config/default.toml", "a = 1\n"),
    ];

    #[track_caller]
    fn with(path: &str, text: &str, expected: &[&str]) {
        let mut files = tree(&WHOLE);
        files.files.insert(path.to_owned(), text.to_owned());
        expect(check(&files), expected);
    }

    #[test]
    fn documents_keep_their_promises() {
        with("x", "", &[]);
        with("README.md", "cargo xtask test", &["README.md:1 cargo xtask demo"]);
        with("docs/a/b.md", "\n[gone](../c.md)", &["docs/a/b.md:2 ../c.md"]);
        with(
            "a.rs",
            "//! See `docs/a/b.md`.\n/// docs/a/<id>.md\nlet x = \"docs/c.md\"; // x\n// docs/c.md.",
            &["a.rs:4 docs/c.md"],
        );
        with("config/default.toml", "a = 1\nb = \n", &["config/default.toml:2"]);
        with("Cargo.toml", "[workspace]\nmembers = ['crates/base/types', 'tests']", &["ARCHITECTURE.md:1 `tests`"]);
        let mut files = tree(&WHOLE);
        files.files.remove("LICENSE");
        expect(check(&files), &["LICENSE:0 missing"]);
    }
}
