//! `COPY (query) TO STDOUT` and `COPY table TO STDOUT`, as psql's `\copy` and drivers send them: a query whose rows leave as text or CSV.

use crate::codes;
use crate::connection::Stop;
use crate::encode::Cells;
use crate::metrics;
use crate::session::{Rows, Session};
use mainstem_types::sql::Outcome;
use mainstem_types::{Error, Result};

pub(crate) struct Copy {
    query: String,
    csv: bool,
    header: bool,
    delimiter: u8,
    null: String,
    quote: u8,
}

fn refuse(what: impl Into<String>) -> Error {
    Error::fix(codes::COPY, what).hint("Write COPY (query) TO STDOUT [WITH (FORMAT text|csv, HEADER, DELIMITER ',', NULL '')].")
}

/// None when the text is no COPY ... TO STDOUT; other COPYs are the engine's to refuse.
pub(crate) fn parse(text: &str) -> Result<Option<Copy>> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let Some(rest) = strip_word(text, "copy") else { return Ok(None) };
    let (query, rest) = if rest.starts_with('(') {
        let Some(end) = closing(rest) else { return Ok(None) };
        (rest[1..end].to_string(), rest[end + 1..].trim_start())
    } else {
        let Some(at) = find_to(rest) else { return Ok(None) };
        let (table, after) = rest.split_at(at);
        let query = match table.split_once('(').map(|(name, columns)| (name, columns.trim_end().strip_suffix(')'))) {
            Some((name, Some(columns))) => format!("SELECT {columns} FROM {name}"),
            Some((_, None)) => return Ok(None),
            None => format!("SELECT * FROM {table}"),
        };
        (query, after.trim_start())
    };
    let Some(rest) = strip_word(rest, "to").and_then(|r| strip_word(r, "stdout")) else { return Ok(None) };
    options(query, rest).map(Some)
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = (text.get(..word.len())?, text.get(word.len()..)?);
    let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (head.eq_ignore_ascii_case(word) && ends).then(|| rest.trim_start())
}

/// Where the word TO stands outside quotes and parentheses.
fn find_to(text: &str) -> Option<usize> {
    let (mut quoted, mut before) = (false, ' ');
    for (at, c) in text.char_indices() {
        quoted ^= c == '"';
        if !quoted && before.is_whitespace() && strip_word(&text[at..], "to").is_some() {
            return Some(at);
        }
        before = c;
    }
    None
}

/// The place of the parenthesis that closes the first one, past quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Both the list in parentheses and the older bare words (`CSV HEADER`).
fn options(query: String, text: &str) -> Result<Copy> {
    let text = strip_word(text, "with").unwrap_or(text);
    let text = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).unwrap_or(text);
    let mut copy = Copy { query, csv: false, header: false, delimiter: 0, null: String::new(), quote: b'"' };
    let (mut delimiter, mut null) = (None, None);
    let mut words = words(text)?.into_iter().peekable();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| refuse("COPY: an option lacks its value"));
        let byte = |text: String| match text.as_bytes() {
            [b] if b.is_ascii() && !matches!(b, b'\n' | b'\r') => Ok(*b),
            _ => Err(refuse("COPY: delimiter and quote are one character each")),
        };
        match word.to_ascii_lowercase().as_str() {
            "format" => match value()?.to_ascii_lowercase().as_str() {
                "csv" => copy.csv = true,
                "text" => copy.csv = false,
                _ => return Err(refuse("COPY: the formats offered are text and csv")),
            },
            "csv" => copy.csv = true,
            "delimiter" => delimiter = Some(byte(value()?)?),
            "null" => null = Some(value()?),
            "quote" => copy.quote = byte(value()?)?,
            "header" => {
                copy.header = match words.peek().map(|w| w.to_ascii_lowercase()).as_deref() {
                    Some("true" | "on" | "1") => words.next().is_some(),
                    Some("false" | "off" | "0") => words.next().is_none(),
                    _ => true,
                }
            }
            "encoding" if value()?.to_ascii_lowercase().replace('-', "") == "utf8" => {}
            "as" | "," => {}
            _ => return Err(refuse("COPY: unknown option")),
        }
    }
    copy.delimiter = delimiter.unwrap_or(if copy.csv { b',' } else { b'\t' });
    copy.null = null.unwrap_or_else(|| if copy.csv { String::new() } else { "\\N".into() });
    Ok(copy)
}

/// Words, commas and quoted strings; an E before a string only allows `\t`.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\'' {
            let escaped = words.last().is_some_and(|w| w.eq_ignore_ascii_case("e"));
            if escaped {
                words.pop();
            }
            let mut value = String::new();
            loop {
                match chars.next() {
                    Some('\'') if chars.peek() == Some(&'\'') => value.extend(chars.next()),
                    Some('\'') => break,
                    Some(c) => value.push(c),
                    None => return Err(refuse("COPY: unterminated string")),
                }
            }
            words.push(if escaped { value.replace("\\t", "\t") } else { value });
        } else if c == ',' {
            words.push(",".into());
        } else if !c.is_whitespace() {
            let mut word = c.to_string();
            while let Some(next) = chars.next_if(|n| !n.is_whitespace() && !matches!(n, ',' | '\'')) {
                word.push(next);
            }
            words.push(word);
        }
    }
    Ok(words)
}

impl Copy {
    fn row(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<()> {
        for (i, cell) in cells.iter().enumerate() {
            if i > 0 {
                out.push(self.delimiter);
            }
            if cell.is_null(row) {
                out.extend_from_slice(self.null.as_bytes());
                continue;
            }
            let at = out.len();
            cell.value(row, out)?;
            self.escape(at, out);
        }
        out.push(b'\n');
        Ok(())
    }

    /// Makes the value from `at` on safe to stand between delimiters.
    fn escape(&self, at: usize, out: &mut Vec<u8>) {
        let value = &out[at..];
        if self.csv {
            let special = |b: &u8| *b == self.delimiter || *b == self.quote || matches!(b, b'\n' | b'\r');
            if value == self.null.as_bytes() || value == b"\\." || value.iter().any(special) {
                let value = out.split_off(at);
                out.push(self.quote);
                for b in value {
                    if b == self.quote {
                        out.push(b);
                    }
                    out.push(b);
                }
                out.push(self.quote);
            }
        } else if value.iter().any(|b| *b < 0x20 || *b == b'\\' || *b == self.delimiter) {
            for b in out.split_off(at) {
                let escaped = match b {
                    0x08 => b'b',
                    0x0c => b'f',
                    b'\n' => b'n',
                    b'\r' => b'r',
                    b'\t' => b't',
                    0x0b => b'v',
                    b if b == b'\\' || b == self.delimiter => b,
                    b => {
                        out.push(b);
                        continue;
                    }
                };
                out.extend_from_slice(&[b'\\', escaped]);
            }
        }
    }
}

impl Session<'_> {
    pub async fn copy_out(&mut self, copy: &Copy) -> Result<(), Stop> {
        let Outcome::Rows { schema, batches, notices } = self.run_plain(&copy.query).await? else {
            return Err(refuse("COPY: the query returns no rows").into());
        };
        notices.iter().for_each(|n| self.connection.reply.notice(n));
        let count = schema.fields().len();
        self.connection.reply.message(b'H', |out| {
            out.push(0);
            out.extend_from_slice(&(count as u16).to_be_bytes());
            out.resize(out.len() + 2 * count, 0);
        });
        if copy.header {
            self.connection.reply.message(b'd', |out| {
                for (i, field) in schema.fields().iter().enumerate() {
                    if i > 0 {
                        out.push(copy.delimiter);
                    }
                    let at = out.len();
                    out.extend_from_slice(field.name().as_bytes());
                    copy.escape(at, out);
                }
                out.push(b'\n');
            });
        }
        let mut rows = Rows::new(schema, batches, &[]);
        let mut sent = 0u64;
        while let Some((batch, first)) = rows.next(self.connection, &*self.session).await? {
            let columns = batch.columns().iter().zip(rows.schema().fields());
            let cells = columns.map(|(array, field)| Cells::of(array, field, false)).collect::<Result<Vec<_>>>()?;
            for row in first..batch.num_rows() {
                self.connection.reply.try_message(b'd', |out| copy.row(&cells, row, out))?;
                self.connection.flush_when_full().await?;
                sent += 1;
            }
        }
        metrics::ROWS.add(sent);
        self.connection.reply.empty(b'c');
        self.connection.reply.complete(&format!("COPY {sent}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements() {
        let check = |text: &str, expected: Option<(&str, bool, bool, u8, &str)>| {
            let copy = parse(text).unwrap();
            let got = copy.as_ref().map(|c| (c.query.as_str(), c.csv, c.header, c.delimiter, c.null.as_str()));
            assert_eq!(got, expected, "{text}");
        };
        check("COPY (SELECT ')', 1) TO STDOUT", Some(("SELECT ')', 1", false, false, b'\t', "\\N")));
        check("copy (select 1) to stdout with csv header;", Some(("select 1", true, true, b',', "")));
        check(
            "COPY shop.film TO STDOUT (FORMAT csv, DELIMITER ';', NULL 'x')",
            Some(("SELECT * FROM shop.film ", true, false, b';', "x")),
        );
        check("COPY t (a, b) TO STDOUT", Some(("SELECT a, b FROM t ", false, false, b'\t', "\\N")));
        check("COPY t TO STDOUT (HEADER false, DELIMITER E'\\t')", Some(("SELECT * FROM t ", false, false, b'\t', "\\N")));
        check("COPY t FROM STDIN", None);
        check("COPY t TO '/tmp/x'", None);
        check("SELECT 1", None);
        for wrong in ["COPY t TO STDOUT (FORMAT binary)", "COPY t TO STDOUT (DELIMITER 'ab')", "COPY t TO STDOUT (FORCE x)"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
