//! Parsed queries by their text: what is asked again and again, by dashboards and by drivers that prepare nothing, is parsed once.

use datafusion::sql::sqlparser::ast::Statement;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Longer texts are parsed each time: a syntax tree takes many times its text.
const TEXT_BYTES_MAX: usize = 4096;
/// Queries per generation; two are kept.
const QUERIES_MAX: usize = 128;

/// What was asked for since the last change of generations, and before it.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    generations: Mutex<[HashMap<Box<str>, Arc<Statement>>; 2]>,
}

impl Parsed {
    pub(crate) fn get(&self, sql: &str) -> Option<Arc<Statement>> {
        let (text, statement) = {
            let mut generations = self.generations.lock();
            let [young, old] = &mut *generations;
            match young.get(sql) {
                Some(statement) => return Some(statement.clone()),
                None => old.remove_entry(sql)?,
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
        let [young, old] = &mut *generations;
        if young.len() >= QUERIES_MAX {
            *old = std::mem::take(young);
        }
        young.insert(text, statement);
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
        let kept: usize = parsed.generations.lock().iter().map(HashMap::len).sum();
        assert!(kept <= 2 * QUERIES_MAX, "{kept}");
        let long = format!("SELECT '{}'", "x".repeat(TEXT_BYTES_MAX));
        parsed.put(&long, &query(&long));
        assert!(parsed.get(&long).is_none());
    }
}
