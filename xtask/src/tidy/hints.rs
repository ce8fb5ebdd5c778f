//! One voice in hints, as in Postgres's: a sentence that begins with a capital and ends with a period (a statement to run: with its
//! semicolon), whoever shows it.

use super::source::{Source, is_test_file};
use super::{Tree, Violation};

const CALL: &str = ".hint(";

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| path.starts_with("crates/") && !is_test_file(path)) {
        let source = Source::new(text);
        for (at, _) in source.code.match_indices(CALL).filter(|(at, _)| !source.is_test(*at)) {
            let Some(hint) = literal(&source.text[at + CALL.len()..]) else { continue };
            let begins = !hint.starts_with(char::is_lowercase);
            let ends = hint.ends_with(['.', '?', ';']);
            if !(begins && ends) {
                let fix = "say what to do in a sentence with a capital and a period; end a statement to run with its semicolon";
                found.push(Violation::new(path, source.line_of(at), "hints", format!("a hint that is no sentence: {hint}"), fix));
            }
        }
    }
    found
}

/// The text of a string literal that an argument begins with, in `format!` or not; None for anything else.
fn literal(argument: &str) -> Option<&str> {
    let argument = argument.trim_start();
    let argument = argument.strip_prefix("format!(").unwrap_or(argument).trim_start().strip_prefix('"')?;
    let escaped = |at: usize| argument[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    let end = argument.match_indices('"').map(|(at, _)| at).find(|at| !escaped(*at))?;
    Some(&argument[..end])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{expect, tree};
    use super::*;

    #[test]
    fn hints_are_sentences() {
        let one = |code: &str, expected: &[&str]| {
            expect(check(&tree(&[("crates/a/src/b.rs", &format!("fn f() {{\n{code}\n}}"))])), expected);
        };
        one("e.hint(\"Use the ISO form.\")", &[]);
        one("e.hint(\"Run there: DROP PUBLICATION x;\")", &[]);
        one("e.hint(format!(\"Did you mean `{near}`?\"))", &[]);
        one("e.hint(\n    \"Say \\\"so\\\".\"\n)", &[]);
        one("e.hint(text)", &[]);
        one("// e.hint(\"use it\")", &[]);
        one("e.hint(\"use the ISO form.\")", &["crates/a/src/b.rs:2 use the ISO form."]);
        one("e.hint(format!(\"Use {this}\"))", &["crates/a/src/b.rs:2 Use {this}"]);
    }
}
