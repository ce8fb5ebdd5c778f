//! Error codes and their pages in `docs/errors/`: one page per code, one code per id, none without the other.

use super::source::{Source, is_test_file};
use super::{Tree, Violation};
use std::collections::BTreeMap;

const RULE: &str = "codes";
const PAGES: &str = "docs/errors/";
const CALL: &str = "Code::new(";

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut places: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| !is_test_file(path)) {
        for (line, id) in codes(text) {
            let Some(id) = id else {
                found.push(Violation::new(
                    path,
                    line,
                    RULE,
                    "an error code that is no literal",
                    "write its id as a literal, so that it can be found",
                ));
                continue;
            };
            if !well_formed(&id) {
                let mend = "AREA-NNN: two to eight capitals, a hyphen, three digits";
                found.push(Violation::new(path, line, RULE, format!("`{id}` is no error code"), mend));
            }
            if let Some((other, at)) = places.get(&id) {
                let text = format!("`{id}` is taken by {other}:{at}");
                found.push(Violation::new(
                    path,
                    line,
                    RULE,
                    text,
                    "use the next free number of the area, or the constant that exists",
                ));
                continue;
            }
            if tree.get(&format!("{PAGES}{id}.md")).is_none() {
                let mend = format!("write {PAGES}{id}.md: `# {id}: <short>`, what it means, what to do");
                found.push(Violation::new(path, line, RULE, format!("`{id}` has no page"), mend));
            }
            places.insert(id, (path.to_owned(), line));
        }
    }
    for (path, text) in tree.ending(".md") {
        let Some(id) = path.strip_prefix(PAGES).and_then(|name| name.strip_suffix(".md")).filter(|id| *id != "README") else {
            continue;
        };
        if !places.contains_key(id) {
            found.push(Violation::new(
                path,
                1,
                RULE,
                format!("no code `{id}` exists"),
                "remove the page, or name the code as the source does",
            ));
        }
        let title = text.lines().next().unwrap_or_default();
        if title.strip_prefix(&format!("# {id}: ")).is_none_or(|short| short.trim().is_empty()) {
            found.push(Violation::new(
                path,
                1,
                RULE,
                "the page does not open with its code",
                format!("begin with `# {id}: <short>`"),
            ));
        }
        if text.lines().filter(|line| !line.trim().is_empty()).count() < 3 {
            found.push(Violation::new(path, 1, RULE, "the page says too little", "say what the error means and what to do"));
        }
    }
    found
}

/// Line and id of every code made outside tests; no id when the argument is no literal.
fn codes(text: &str) -> Vec<(usize, Option<String>)> {
    if !text.contains(CALL) {
        return Vec::new();
    }
    let source = Source::new(text);
    source
        .code
        .match_indices(CALL)
        .filter(|(at, _)| !source.is_test(*at) && !source.code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, _)| {
            let argument = source.text[at + CALL.len()..].trim_start();
            let id = argument.strip_prefix('"').and_then(|rest| rest.split_once('"')).map(|(id, _)| id.to_owned());
            (source.line_of(at), id)
        })
        .collect()
}

fn well_formed(id: &str) -> bool {
    id.split_once('-').is_some_and(|(area, number)| {
        (2..=8).contains(&area.len())
            && area.bytes().all(|byte| byte.is_ascii_uppercase())
            && number.len() == 3
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{expect, tree};
    use super::*;

    const PAGE: &str = "# LOG-001: disk full\n\nThe log stopped.\n\nFree space.\n";

    #[test]
    fn codes_and_pages_belong_together() {
        let good = "const A: Code = Code::new(\"LOG-001\", \"53100\");\n// Code::new(\"LOG-009\"\n\
                    #[cfg(test)]\nmod tests { const B: Code = Code::new(\"LOG-002\", \"\"); }\n";
        let check = |files: &[(&str, &str)], expected: &[&str]| expect(check(&tree(files)), expected);
        check(&[("a.rs", good), ("docs/errors/LOG-001.md", PAGE), ("docs/errors/README.md", "")], &[]);
        check(&[("a.rs", good)], &["a.rs:1 no page"]);
        check(&[("docs/errors/LOG-001.md", PAGE)], &["docs/errors/LOG-001.md:1 no code"]);
        check(&[("a.rs", good), ("b.rs", good), ("docs/errors/LOG-001.md", PAGE)], &["b.rs:1 taken by a.rs:1"]);
        check(
            &[("a.rs", good), ("docs/errors/LOG-001.md", "# LOG-001\n\n")],
            &["docs/errors/LOG-001.md:1 does not open", "docs/errors/LOG-001.md:1 too little"],
        );
        check(
            &[("a.rs", "\nCode::new(\n    \"log-1\", \"\")"), ("docs/errors/log-1.md", "# log-1: a\nb\nc")],
            &["a.rs:2 no error code"],
        );
        check(&[("a.rs", "Code::new(ID, \"\")")], &["a.rs:1 no literal"]);
        check(&[("tests/a.rs", good), ("crates/a/src/tests.rs", good)], &[]);
    }
}
