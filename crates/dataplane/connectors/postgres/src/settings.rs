//! Options of a source: parsed and checked without touching the network.

use crate::codes;
use crate::source_block::{SOURCE_BLOCK, TYPES};
use crate::url;
use crate::wire::Target;
use mainstem_connector::{OptionKind, OptionSpec, Options, SourceSettings, Spec};
use mainstem_types::{Error, Result, TableName};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

pub static SPEC: Spec = Spec {
    name: "postgres",
    source_block: SOURCE_BLOCK,
    types: TYPES,
    title: "PostgreSQL",
    schemes: url::SCHEMES,
    example: "CREATE SOURCE shop FROM 'postgres://app:secret@localhost:5432/sakila' WITH (tables = 'public.*');",
    options: &[
        OptionSpec {
            name: "tables",
            kind: OptionKind::List,
            default: "*.*",
            help: "Which tables: `schema.name` with `*` in either part; `!` in front takes tables out again.",
            secret: false,
        },
        OptionSpec {
            name: "slot",
            kind: OptionKind::Text,
            default: "",
            help: "An existing logical slot (plugin `pgoutput`) to read instead of one made by us. It is never dropped.",
            secret: false,
        },
        OptionSpec {
            name: "publication",
            kind: OptionKind::List,
            default: "",
            help: "Existing publications to read instead of ones made by us. They are never changed.",
            secret: false,
        },
        OptionSpec {
            name: "sslrootcert",
            kind: OptionKind::Text,
            default: "",
            help: "PEM file with the certificates to trust; the machine's own when absent.",
            secret: false,
        },
        OptionSpec {
            name: "copy_connections",
            kind: OptionKind::Number { min: 1, max: 8 },
            default: "2",
            help: "Connections that read tables while they are copied, all together.",
            secret: false,
        },
        OptionSpec {
            name: "copy_piece_mib",
            kind: OptionKind::Number { min: 1, max: 1 << 20 },
            default: "64",
            help: "A table larger than this many MiB is copied in pieces of this size, which `copy_connections` share.",
            secret: false,
        },
        OptionSpec {
            name: "bulk",
            kind: OptionKind::Bool,
            default: "true",
            help: "Whether a large backlog is read in bulk through SQL, which is several times faster than streaming.",
            secret: false,
        },
        OptionSpec {
            name: "deletion_vectors",
            kind: OptionKind::OneOf(&["on", "off"]),
            default: "on",
            help: "`off`: a file with changed rows is written anew at each flush, for readers of the Delta tables that know no deletion vectors.",
            secret: false,
        },
    ],
};

/// Everything known of a source before the first connection. Has a password: no Debug.
pub struct Settings {
    pub source: String,
    pub target: Target,
    /// Of the URL, what has no bearing here.
    pub notes: Vec<String>,
    /// As they were when the source was opened.
    pub options: Options,
    pub tables: Arc<Patterns>,
    pub slot: String,
    /// Named by the user: never made, never dropped.
    pub slot_given: bool,
    /// Both of ours, or those the user named.
    pub publications: Vec<String>,
    pub publications_given: bool,
    pub owned: BTreeSet<String>,
    pub spool: Option<PathBuf>,
    pub copy_connections: usize,
    pub copy_piece_bytes: i64,
    pub bulk: bool,
}

impl Settings {
    pub fn parse(settings: &SourceSettings) -> Result<Self> {
        let source = settings.name.to_string();
        let option = |name: &str| SPEC.value(&settings.options, name).to_string();
        let list = |name: &str| -> Vec<String> {
            option(name).split(',').map(|p| p.trim().to_string()).filter(|p| !p.is_empty()).collect()
        };
        let (mut target, notes) = url::parse(&settings.url, &format!("mainstem {source}"))?;
        if !option("sslrootcert").is_empty() {
            target.tls_files.roots = Some(option("sslrootcert"));
        }
        let (slot, publications) = (option("slot"), list("publication"));
        Ok(Self {
            target,
            notes,
            options: settings.options.clone(),
            tables: Arc::new(Patterns::parse(&option("tables"))?),
            slot_given: !slot.is_empty(),
            slot: if slot.is_empty() { format!("mainstem_{source}") } else { slot },
            publications_given: !publications.is_empty(),
            publications: if publications.is_empty() {
                vec![format!("mainstem_{source}"), format!("mainstem_{source}_append")]
            } else {
                publications
            },
            owned: settings.owned.clone(),
            spool: settings.spool_dir.clone(),
            copy_connections: option("copy_connections").parse().unwrap_or(2),
            copy_piece_bytes: option("copy_piece_mib").parse().unwrap_or(64) << 20,
            bulk: option("bulk") == "true",
            source,
        })
    }

    /// The names under which what we make is recorded.
    pub fn remote_objects(&self) -> Vec<String> {
        let mut names = Vec::new();
        if !self.publications_given {
            names.extend(self.publications.iter().map(|p| format!("publication {p}")));
        }
        if !self.slot_given {
            names.push(format!("slot {}", self.slot));
        }
        names
    }

    pub fn owns(&self, kind: &str, name: &str) -> bool {
        self.owned.contains(&format!("{kind} {name}"))
    }
}

/// `tables`: what to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Vec<(bool, String, String)>);

impl Patterns {
    pub fn parse(text: &str) -> Result<Self> {
        let mut patterns = Vec::new();
        if text.split(',').all(|part| part.trim().is_empty()) {
            return Err(Error::fix(codes::NO_MATCH, "`tables` is empty: it names no table")
                .hint("Write tables = '*.*' for every table, or leave the option out for the same."));
        }
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (wanted, part) = part.strip_prefix('!').map_or((true, part), |p| (false, p.trim()));
            let (schema, name) = part.split_once('.').unwrap_or(("public", part));
            if schema.is_empty() || name.is_empty() {
                return Err(Error::fix(codes::NO_MATCH, format!("`{part}` in `tables` is not `schema.name`"))
                    .hint("Write, for example, tables = 'public.*, sales.orders'."));
            }
            patterns.push((wanted, schema.to_string(), name.to_string()));
        }
        if !patterns.iter().any(|(wanted, ..)| *wanted) {
            patterns.insert(0, (true, "*".into(), "*".into()));
        }
        Ok(Self(patterns))
    }

    pub fn matches(&self, table: &TableName) -> bool {
        let hit = |wanted| {
            self.0.iter().any(|(w, schema, name)| *w == wanted && like(schema, &table.schema) && like(name, &table.name))
        };
        hit(true) && !hit(false)
    }

    /// Patterns that take in none of these tables: most likely misspelt.
    pub fn without_match<'a>(&self, tables: impl Iterator<Item = &'a TableName> + Clone) -> Vec<String> {
        let idle = |schema: &str, name: &str| !tables.clone().any(|t| like(schema, &t.schema) && like(name, &t.name));
        let wanted = self.0.iter().filter(|(wanted, schema, name)| *wanted && idle(schema, name));
        wanted.map(|(_, schema, name)| format!("`{schema}.{name}`")).collect()
    }
}

/// `*` stands for any run of characters.
fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `MAINSTEM_WRITE_DOCS=1 cargo test -p mainstem-postgres reference` writes the page anew.
    #[test]
    #[allow(clippy::disallowed_methods)] // reads the repository, not a data directory
    fn the_reference_page_is_that_of_the_spec() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../docs/reference/connectors/postgres.md");
        if std::env::var_os("MAINSTEM_WRITE_DOCS").is_some() {
            std::fs::write(path, SPEC.reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == SPEC.reference(),
            "docs/reference/connectors/postgres.md differs: run this test with MAINSTEM_WRITE_DOCS=1"
        );
    }

    #[test]
    fn patterns() {
        let check = |text: &str, schema: &str, name: &str, expected: bool| {
            let got = Patterns::parse(text).unwrap().matches(&TableName::new(schema, name));
            assert_eq!(got, expected, "{text} {schema}.{name}");
        };
        check("*.*", "any", "t", true);
        check("public.*, sales.orders", "public", "a", true);
        check("public.*, sales.orders", "sales", "orders", true);
        check("public.*, sales.orders", "sales", "orders2", false);
        check("film", "public", "film", true);
        check("!*.log_*", "public", "log_1", false);
        check("!*.log_*", "public", "catalog_1", true);
        check("*.a*b*c", "s", "a1b2c", true);
        check("*.a*b*c", "s", "a1c2b", false);
        check("Public.T", "public", "t", false);
        for empty in ["", " ", ",", " , "] {
            assert_eq!(Patterns::parse(empty).unwrap_err().code().id, "PG-016", "{empty:?}");
        }
    }
}
