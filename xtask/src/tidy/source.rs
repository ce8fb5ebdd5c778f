//! Rust files as the rules see them: code without comments and strings, test parts marked. No parser: braces and words suffice, and
//! the tool compiles in seconds.

use super::{Tree, Violation};
use std::ops::Range;

/// A Rust file in two views of the same length and lines.
pub struct Source {
    /// Comments and the contents of strings are blanks.
    pub code: String,
    /// Comments are blanks.
    pub text: String,
    /// Byte ranges of `#[cfg(test)]` items.
    tests: Vec<Range<usize>>,
}

/// One function with a body. Lines count from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

impl Source {
    pub fn new(text: &str) -> Self {
        let (code, text) = blank(text);
        let tests = test_items(&code);
        Self { code, text, tests }
    }

    pub fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    pub fn line_of(&self, at: usize) -> usize {
        self.code.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Lines outside tests.
    pub fn lines(&self) -> usize {
        let in_tests: usize = self.tests.iter().map(|range| self.text[range.clone()].lines().count()).sum();
        self.text.lines().count().saturating_sub(in_tests)
    }

    /// Functions outside tests, in the order of the file.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for at in words(&self.code, "fn") {
            let rest = self.code[at + 2..].trim_start();
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if name.is_empty() || self.is_test(at) {
                continue;
            }
            if let Some(end) = body(&self.code, at).and_then(|open| closing(&self.code, open)) {
                let line = self.line_of(at);
                found.push(Function { name, line, lines: self.line_of(end) - line + 1 });
            }
        }
        found
    }
}

/// Whether all of the file is for tests, by its place.
pub fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// Every file opens with its reason.
pub fn headers(tree: &Tree) -> Vec<Violation> {
    let mend = "open the file with `//! <why it exists, or the invariant it keeps>`";
    tree.ending(".rs")
        .filter(|(_, text)| !text.lines().next().is_some_and(|line| line.starts_with("//!") && line.len() > "//! x".len()))
        .map(|(path, _)| Violation::new(path, 1, "reason", "the first line is no `//!` reason", mend))
        .collect()
}

/// Work put off is done, or named in an issue; a test that does not run says why.
pub fn marks(tree: &Tree) -> Vec<Violation> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let ignore = concat!("#[ign", "ore]");
    let mut found = Vec::new();
    for (path, text) in tree.ending(".rs") {
        for (n, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| words(line, mark).next().is_some()) {
                found.push(Violation::new(
                    path,
                    n + 1,
                    "marks",
                    format!("`{mark}` puts work off"),
                    "do it, or remove the mark and open an issue",
                ));
            }
            if line.contains(ignore) {
                let mend = "remove it, or write `#[ignore = \"<a reason that a stranger accepts>\"]`";
                found.push(Violation::new(path, n + 1, "marks", "a test that does not run, without a reason", mend));
            }
        }
    }
    found
}

/// Drawers for anything: what is put there belongs to nobody.
const DRAWERS: [&str; 6] = ["common", "util", "utils", "helper", "helpers", "misc"];

/// No module or crate is a drawer for anything.
pub fn names(tree: &Tree) -> Vec<Violation> {
    let mend = "name it after what it does, or put each item beside its user";
    tree.ending(".rs")
        .filter_map(|(path, _)| {
            let part = path.split('/').find(|part| DRAWERS.contains(&part.trim_end_matches(".rs")))?;
            Some(Violation::new(path, 1, "names", format!("`{part}` says nothing about what is inside"), mend))
        })
        .collect()
}

/// Where the word stands alone.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !part(at.checked_sub(1).and_then(|before| bytes.get(before))) && !part(bytes.get(at + word.len())))
}

/// The brace that opens the body of the item at `from`; None for one that ends with `;`.
fn body(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn test_items(code: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    code.match_indices(MARK)
        .map(|(at, _)| {
            let after = at + MARK.len();
            let end = match body(code, after) {
                Some(open) => closing(code, open).map_or(code.len(), |close| close + 1),
                None => code[after..].find(';').map_or(code.len(), |semicolon| after + semicolon + 1),
            };
            at..end
        })
        .collect()
}

/// The two views. What is blanked keeps its newlines and its number of bytes.
fn blank(text: &str) -> (String, String) {
    let mut code = text.as_bytes().to_vec();
    let mut plain = code.clone();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n);
                wipe(&mut code, at..end);
                wipe(&mut plain, at..end);
                at = end;
            }
            b'/' if bytes[at..].starts_with(b"/*") => {
                let end = comment_end(bytes, at);
                wipe(&mut code, at..end);
                wipe(&mut plain, at..end);
                at = end;
            }
            b'"' => {
                let (inside, end) = string_end(bytes, at);
                wipe(&mut code, inside);
                at = end;
            }
            b'\'' => {
                let end = char_end(text, at);
                wipe(&mut code, at + 1..end.saturating_sub(1).max(at + 1));
                at = end;
            }
            _ => at += 1,
        }
    }
    let string = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (string(code), string(plain))
}

fn wipe(bytes: &mut [u8], range: Range<usize>) {
    for byte in &mut bytes[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The inside of the string whose quote is at `from`, raw when `r` or `r##` stands before it, and where it ends.
fn string_end(bytes: &[u8], from: usize) -> (Range<usize>, usize) {
    let hashes = bytes[..from].iter().rev().take_while(|byte| **byte == b'#').count();
    let before = from - hashes;
    let raw = before > 0 && bytes[before - 1] == b'r' && {
        let start = if before > 1 && matches!(bytes[before - 2], b'b' | b'c') { before - 2 } else { before - 1 };
        start == 0 || !(bytes[start - 1].is_ascii_alphanumeric() || bytes[start - 1] == b'_')
    };
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if !raw => at += 2,
            b'"' if !raw => return (from + 1..at, at + 1),
            b'"' if bytes[at + 1..].iter().take(hashes).filter(|byte| **byte == b'#').count() == hashes => {
                return (from + 1..at, at + 1 + hashes);
            }
            _ => at += 1,
        }
    }
    (from + 1..bytes.len(), bytes.len())
}

/// Where the character that begins at `from` ends; one byte on when it is a lifetime.
fn char_end(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    if bytes.get(from + 1) == Some(&b'\\') {
        let after_escaped = from + 3;
        return bytes.iter().skip(after_escaped).position(|byte| *byte == b'\'').map_or(bytes.len(), |n| after_escaped + n + 1);
    }
    let mut chars = text[from + 1..].char_indices();
    match (chars.next(), chars.next()) {
        (Some(_), Some((n, '\''))) => from + 1 + n + 1,
        _ => from + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{expect, tree};
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let check = |text: &str, code: &str| assert_eq!(Source::new(text).code, code, "{text}");
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check(r#"x = "a\"{b"; y"#, r#"x = "     "; y"#);
        check(r##"r#"{"}"# ; b"##, r##"r#"   "# ; b"##);
        check("'{' '\\'' 'a &'a str", "' ' '  ' 'a &'a str");
        check("\"é{\"", "\"   \"");
        check("\"open", "\"    ");
    }

    #[test]
    fn functions_are_measured_without_tests() {
        let text = "//! x\nfn a<'x>(f: fn(u8) -> [u8; 2]) -> u8\nwhere u8: Copy,\n{\n  \"}\";\n}\ntrait T { fn absent(&self); }\n\
                    #[cfg(test)]\nmod tests {\n fn b() {\n }\n}\nimpl X { fn c() { fn d() {} } }\n";
        let function = |name: &str, line, lines| Function { name: name.to_owned(), line, lines };
        let source = Source::new(text);
        assert_eq!(source.functions(), [function("a", 2, 5), function("c", 13, 1), function("d", 13, 1)]);
        assert_eq!(source.lines(), 13 - 5);
    }

    #[test]
    fn a_file_needs_its_reason() {
        let files = [("a.rs", "//! Keeps order.\n"), ("b.rs", "use x;\n//! late\n"), ("c.rs", ""), ("d.rs", "//!\n")];
        expect(headers(&tree(&files)), &["b.rs:1 reason", "c.rs:1 reason", "d.rs:1 reason"]);
    }

    #[test]
    fn put_off_work_is_refused() {
        let mark = concat!("// TO", "DO: later\nlet a = TO", "DO_LIST;\n#[ign", "ore]\n#[ignore = \"needs root\"]\n");
        expect(marks(&tree(&[("a.rs", mark)])), &["a.rs:1 puts work off", "a.rs:3 without a reason"]);
    }

    #[test]
    fn drawers_are_refused() {
        let files = [("crates/a/src/utils.rs", ""), ("crates/common/src/lib.rs", ""), ("crates/a/src/uncommon.rs", "")];
        expect(names(&tree(&files)), &["crates/a/src/utils.rs:1 utils", "crates/common/src/lib.rs:1 common"]);
    }
}
