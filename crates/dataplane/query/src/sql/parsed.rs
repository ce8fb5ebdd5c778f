//! Parsed queries by their text: what is asked again and again, by dashboards and by drivers that prepare nothing, is parsed once.

use datafusion::sql::sqlparser::ast::Statement;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Longer texts are parsed each time: a syntax tree takes many times its text.
const TEXT_BYTES_MAX: usize = 4096;
/// Bytes of text, and queries, per generation; two generations are kept.
const BYTES_MAX: usize = 64 * 1024;
const QUERIES_MAX: usize = 128;

/// What was asked for since the last change of generations, and before it.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Box<str>, Arc<Statement>>,
    young_bytes: usize,
    old: HashMap<Box<str>, Arc<Statement>>,
}

impl Parsed {
    pub(crate) fn get(&self, sql: &str) -> Option<Arc<Statement>> {
        if sql.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (text, statement) = {
            let mut generations = self.generations.lock();
            match generations.young.get(sql) {
                Some(statement) => return Some(statement.clone()),
                None => generations.old.remove_entry(sql)?,
            }
        };
        self.insert(text, statement.clone());
        Some(statement)
    }

    pub(crate) fn put(&self, sql: &str, statement: &Arc<Statement>) {
        if sql.len() <= TEXT_BYTES_MAX {
            self.insert(sql.into(), statement.clone());
        }
    }

    fn insert(&self, text: Box<str>, statement: Arc<Statement>) {
        let mut generations = self.generations.lock();
        let full = generations.young.len() >= QUERIES_MAX || generations.young_bytes + text.len() > BYTES_MAX;
        let gone = full.then(|| {
            generations.young_bytes = 0;
            let young = std::mem::take(&mut generations.young);
            std::mem::replace(&mut generations.old, young)
        });
        generations.young_bytes += text.len();
        generations.young.insert(text, statement);
        drop(generations);
        // Hundreds of trees: not while others wait.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::rewrite::Rewriter;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let (rewriter, parsed) = (Rewriter::default(), Parsed::default());
        let text = |n: usize| format!("SELECT {n}");
        let query = |sql: &str| Arc::new(rewriter.parse(sql, &|_| None).unwrap());
        for n in 0..10 * QUERIES_MAX {
            parsed.put(&text(n), &query(&text(n)));
            assert_eq!(parsed.get(&text(0)).unwrap(), query(&text(0)), "after {n}");
        }
        assert!(parsed.get(&text(10 * QUERIES_MAX - 1)).is_some());
        assert!(parsed.get(&text(1)).is_none());
        let kept = |parsed: &Parsed| {
            let generations = parsed.generations.lock();
            generations.young.len() + generations.old.len()
        };
        assert!(kept(&parsed) <= 2 * QUERIES_MAX, "{}", kept(&parsed));
        for n in 0..QUERIES_MAX {
            let wide = format!("SELECT '{n}{}'", "x".repeat(4000));
            parsed.put(&wide, &query(&wide));
        }
        assert!(kept(&parsed) <= 2 * BYTES_MAX / 4000, "{}", kept(&parsed));
        let long = format!("SELECT '{}'", "x".repeat(TEXT_BYTES_MAX));
        parsed.put(&long, &query(&long));
        assert!(parsed.get(&long).is_none());
    }
}
