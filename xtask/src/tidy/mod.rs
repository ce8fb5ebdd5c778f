//! The house rules that no compiler checks. Each rule is a pure function from the tree to its violations, so that its test is data.

mod arrows;
mod codes;
mod documents;
mod hints;
mod licences;
mod machine;
mod ratchet;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::run as programs;

/// What is wrong and where; `mend` says what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    pub rule: &'static str,
    pub text: String,
    pub mend: String,
}

impl Violation {
    pub fn new(file: &str, line: usize, rule: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, rule, text: text.into(), mend: mend.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}\n    {}", self.file, self.line.max(1), self.rule, self.text, self.mend)
    }
}

/// Every text file of the repository by its path from the root, with `/` between.
#[derive(Default)]
pub struct Tree {
    pub files: BTreeMap<String, String>,
}

impl Tree {
    fn read(root: &Path) -> Result<Self, String> {
        let mut tree = Self::default();
        for path in list(root)? {
            // A path that git knows and the disk does not is a deletion under way; a file that is not text has no house rules.
            if let Ok(bytes) = std::fs::read(root.join(&path))
                && let Ok(text) = String::from_utf8(bytes)
            {
                tree.files.insert(path, text);
            }
        }
        Ok(tree)
    }

    pub fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Files whose name ends so, such as `.rs`.
    pub fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files.iter().filter(move |(path, _)| path.ends_with(end)).map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// What git tracks or would track; without git, everything but build output.
fn list(root: &Path) -> Result<Vec<String>, String> {
    let git = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    if let Some(names) = programs::output(Command::new("git").arg("-C").arg(root).args(git)) {
        return Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect());
    }
    let mut names = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| format!("cannot list {}: {e}", dir.display()))? {
            let path = entry.map_err(|e| format!("cannot list {}: {e}", dir.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if matches!(name.as_str(), "target" | ".git" | "__pycache__" | "node_modules") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if let Ok(inside) = path.strip_prefix(root) {
                names.push(inside.to_string_lossy().into_owned());
            }
        }
    }
    Ok(names)
}

/// Prints every violation and answers how many there are.
pub fn run(root: &Path) -> Result<usize, String> {
    let tree = Tree::read(root)?;
    let mut found = Vec::new();
    found.extend(arrows::check(&tree));
    found.extend(source::headers(&tree));
    found.extend(source::names(&tree));
    found.extend(source::marks(&tree));
    found.extend(codes::check(&tree));
    found.extend(hints::check(&tree));
    found.extend(documents::check(&tree));
    found.extend(machine::check(&tree, &machine::Machine::this(root)));
    found.extend(ratchet::check(&tree, &ratchet::before(root)));
    match licences::packages(root) {
        Ok(packages) => found.extend(licences::check(&tree, &packages)),
        Err(violation) => found.push(violation),
    }
    found.sort();
    for violation in &found {
        println!("{violation}");
    }
    match found.len() {
        0 => println!("tidy: {} files, nothing to fix", tree.files.len()),
        n => println!("tidy: {n} to fix in {} files", tree.files.len()),
    }
    Ok(found.len())
}

#[cfg(test)]
pub mod testing {
    //! `check(rule, tree, expected)` for every rule.

    use super::*;

    pub fn tree(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// Each expected entry is `file:line` followed by words that the text must contain.
    #[track_caller]
    pub fn expect(mut found: Vec<Violation>, expected: &[&str]) {
        found.sort();
        let shown: Vec<String> = found.iter().map(|v| format!("{}:{} {}", v.file, v.line, v.text)).collect();
        assert_eq!(shown.len(), expected.len(), "found {shown:#?}, expected {expected:#?}");
        for (found, expected) in shown.iter().zip(expected) {
            let (place, words) = expected.split_once(' ').unwrap_or((expected, ""));
            assert!(found.starts_with(&format!("{place} ")) && found.contains(words), "found {found}, expected {expected}");
        }
        assert!(found.iter().all(|v| !v.mend.is_empty()), "a violation without advice");
    }
}
