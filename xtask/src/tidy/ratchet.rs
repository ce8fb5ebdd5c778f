//! Long files and functions: new ones are refused, old ones stand in `xtask/ratchet.txt` with a number that may only fall.

use super::source::{Source, is_test_file};
use super::{Tree, Violation};
use crate::run;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const RULE: &str = "ratchet";
const LIST: &str = "xtask/ratchet.txt";
/// What a reader takes in at one sitting.
const FILE_LINES_MAX: usize = 800;
/// What a reader sees at once.
const FUNCTION_LINES_MAX: usize = 70;

/// One line of the list: `<lines> <path> # reason` or `<lines> <path>::<function> # reason`.
type List = BTreeMap<String, Entry>;

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    line: usize,
    number: usize,
}

/// Earlier states of the list: the last commit and the one before.
pub fn before(root: &Path) -> Vec<String> {
    let show = |commit: &str| run::output(Command::new("git").arg("-C").arg(root).arg("show").arg(format!("{commit}:{LIST}")));
    ["HEAD", "HEAD^"].into_iter().filter_map(show).collect()
}

pub fn check(tree: &Tree, before: &[String]) -> Vec<Violation> {
    let mut found = Vec::new();
    let list = parse(tree.get(LIST).unwrap_or_default(), &mut found);
    for old in before {
        for (key, old) in parse(old, &mut Vec::new()) {
            if let Some(now) = list.get(&key).filter(|now| now.number > old.number) {
                let text = format!("`{key}` rose from {} to {}", old.number, now.number);
                found.push(Violation::new(LIST, now.line, RULE, text, "numbers here may only fall: split it"));
            }
        }
    }
    let mut used = Vec::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| !is_test_file(path)) {
        for (key, line, lines, max) in long(path, text) {
            let entry = list.get(&key);
            used.push(key.clone());
            let allowed = entry.map_or(max, |entry| entry.number);
            if lines > allowed {
                let text = format!("`{key}` has {lines} lines, {allowed} are allowed");
                found.push(Violation::new(path, line, RULE, text, "split it where one part can be named"));
            } else if let Some(entry) = entry.filter(|entry| lines < entry.number) {
                let text = format!("`{key}` has {lines} lines now");
                found.push(Violation::new(LIST, entry.line, RULE, text, format!("well done: write {lines}")));
            }
        }
    }
    for (key, entry) in list.iter().filter(|(key, _)| !used.contains(key)) {
        found.push(Violation::new(LIST, entry.line, RULE, format!("`{key}` is not long any more"), "well done: remove the line"));
    }
    found
}

/// Key, line, lines and limit of what is too long in a file. Functions of one name count as one.
fn long(path: &str, text: &str) -> Vec<(String, usize, usize, usize)> {
    let source = Source::new(text);
    let mut functions: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for function in source.functions().into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
        let longest = functions.entry(function.name).or_default();
        *longest = (*longest).max((function.lines, function.line));
    }
    let mut long: Vec<_> =
        functions.into_iter().map(|(name, (lines, line))| (format!("{path}::{name}"), line, lines, FUNCTION_LINES_MAX)).collect();
    let lines = source.lines();
    if lines > FILE_LINES_MAX {
        long.push((path.to_owned(), 1, lines, FILE_LINES_MAX));
    }
    long
}

fn parse(text: &str, found: &mut Vec<Violation>) -> List {
    let mut list = List::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        let (entry, reason) = line.split_once('#').unwrap_or((line, ""));
        let mut words = entry.split_whitespace();
        match (words.next().and_then(|word| word.parse().ok()), words.next(), reason.trim()) {
            (Some(number), Some(key), reason) if !reason.is_empty() => {
                list.insert(key.to_owned(), Entry { line: n + 1, number });
            }
            _ => found.push(Violation::new(
                LIST,
                n + 1,
                RULE,
                format!("not understood: `{line}`"),
                "write `<lines> <path>[::<function>] # reason`",
            )),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::super::testing::{expect, tree};
    use super::*;

    #[track_caller]
    fn with(list: &str, before: &[&str], text: &str, expected: &[&str]) {
        let before: Vec<String> = before.iter().map(|text| (*text).to_owned()).collect();
        expect(check(&tree(&[("a.rs", text), (LIST, list)]), &before), expected);
    }

    fn function(lines: usize) -> String {
        format!("//! x\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn functions_and_files_stay_short() {
        with("", &[], &function(70), &[]);
        with("", &[], &function(71), &["a.rs:2 71 lines, 70"]);
        with("", &[], &"\n".repeat(801), &["a.rs:1 801 lines, 800"]);
        with("", &[], &format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(790), "\n".repeat(99)), &[]);
        with("", &[], &format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(99)), &[]);
    }

    #[test]
    fn exceptions_only_fall() {
        with("90 a.rs::f # state machine", &[], &function(90), &[]);
        with("90 a.rs::f # state machine", &[], &function(91), &["a.rs:2 91 lines, 90"]);
        with("90 a.rs::f # state machine", &[], &function(80), &["xtask/ratchet.txt:1 80 lines now"]);
        with("# list\n90 a.rs::f # state machine", &[], &function(60), &["xtask/ratchet.txt:2 not long"]);
        with(
            "90 a.rs::f # state machine",
            &["88 a.rs::f # state machine"],
            &function(90),
            &["xtask/ratchet.txt:1 rose from 88 to 90"],
        );
        with("90 a.rs::f", &[], "", &["xtask/ratchet.txt:1 not understood"]);
    }
}
