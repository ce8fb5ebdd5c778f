//! What a connector says of itself: from it come the check of a `WITH` list and the reference page.

use crate::Connector;
use mainstem_types::control::shown_name;
use mainstem_types::source_block::SourceBlock;
use mainstem_types::{Code, Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An option name that the connector does not have.
pub const UNKNOWN_OPTION: Code = Code::new("SRC-001", "22023");
/// An option value of the wrong form.
pub const BAD_OPTION: Code = Code::new("SRC-002", "22023");

/// A connector's face.
#[derive(Debug)]
pub struct Spec {
    /// `postgres`
    pub name: &'static str,
    pub title: &'static str,
    /// URL schemes, first the usual one.
    pub schemes: &'static [&'static str],
    /// A whole statement that works as it stands.
    pub example: &'static str,
    pub options: &'static [OptionSpec],
    /// How envelopes say where a change comes from.
    pub source_block: SourceBlock,
    /// How its types are held.
    pub types: &'static [TypeSpec],
}

/// Types of the system that are held in the same way.
#[derive(Debug)]
pub struct TypeSpec {
    /// Names, as the system spells them.
    pub names: &'static str,
    /// The Postgres type that SQL and the wire show.
    pub shown: &'static str,
    /// The Arrow type.
    pub held: &'static str,
    /// Values that cannot be held; empty when all can.
    pub refused: &'static str,
}

#[derive(Debug)]
pub struct OptionSpec {
    pub name: &'static str,
    pub kind: OptionKind,
    pub default: &'static str,
    /// One or two sentences, with the unit.
    pub help: &'static str,
    pub secret: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    Text,
    Bool,
    /// Comma-separated.
    List,
    /// Whole number, bounds included.
    Number {
        min: i64,
        max: i64,
    },
    /// `10s`, `5min`, `500ms`.
    Duration,
    OneOf(&'static [&'static str]),
}

/// Options of every source, whatever its connector: what the pipeline does with what it reads.
static COMMON: [OptionSpec; 1] = [OptionSpec {
    name: "on_bad_value",
    kind: OptionKind::OneOf(&["stop_table", "dead_letter"]),
    default: "stop_table",
    help: "What becomes of a row with a value that cannot be held: its table stops, or goes on without the row, which is kept in the \
           topic `_mainstem.dead_letters.<source>` and listed in `mainstem.dead_letters`.",
    secret: false,
}];

/// Options that passed `Spec::check`; absent ones read as their default.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Options(pub BTreeMap<String, String>);

impl Spec {
    /// Checks names and forms. Unknown names are refused with the nearest right one.
    pub fn check(&self, given: BTreeMap<String, String>) -> Result<Options> {
        for (name, value) in &given {
            let Some(option) = self.all().find(|o| o.name == name) else {
                return Err(self.unknown(name));
            };
            option.check(value)?;
        }
        Ok(Options(given))
    }

    fn all(&self) -> impl Iterator<Item = &OptionSpec> {
        self.options.iter().chain(&COMMON)
    }

    fn unknown(&self, name: &str) -> Error {
        let nearest = self.all().map(|o| o.name).min_by_key(|known| strsim::damerau_levenshtein(name, known));
        let hint = match nearest {
            Some(near) if strsim::damerau_levenshtein(name, near) <= 3 => format!("Did you mean `{near}`?"),
            _ => {
                let names: Vec<_> = self.all().map(|o| format!("`{}`", o.name)).collect();
                format!("A {} source has the options {}.", self.name, names.join(", "))
            }
        };
        Error::fix(UNKNOWN_OPTION, format!("a {} source has no option `{name}`", self.name)).hint(hint)
    }

    /// The value of an option, or its default.
    pub fn value<'a>(&self, options: &'a Options, name: &str) -> &'a str {
        match options.0.get(name) {
            Some(value) => value,
            None => self.all().find(|o| o.name == name).map_or("", |o| o.default),
        }
    }

    /// The Markdown of the reference page, `docs/reference/connectors/<name>.md`. A test of the connector keeps the page equal to it.
    pub fn reference(&self) -> String {
        let schemes: Vec<_> = self.schemes.iter().map(|scheme| format!("`{scheme}://`")).collect();
        let mut page = format!(
            "# {}\n\n```sql\n{}\n```\n\nURLs begin with {}. The options of `WITH`; other names are refused with the nearest right one \
             ([SRC-001](../../errors/SRC-001.md)).\n\n| option | form | default | what it does |\n|---|---|---|---|\n",
            self.title,
            self.example,
            schemes.join(" or ")
        );
        for option in self.all() {
            let default = if option.default.is_empty() { "none".to_string() } else { format!("`{}`", option.default) };
            page.push_str(&format!("| `{}` | {} | {} | {} |\n", option.name, option.kind.form(), default, option.help));
        }
        page.push_str("\n## Types\n\n| type | shown as | held as | values that cannot be held |\n|---|---|---|---|\n");
        for kind in self.types {
            page.push_str(&format!("| {} | {} | {} | {} |\n", kind.names, kind.shown, kind.held, kind.refused));
        }
        page
    }
}

/// That none of the connectors accepts a URL; `code` is the caller's. Says nothing of the URL but its scheme.
pub fn no_connector(code: Code, url: &str, connectors: &[Arc<dyn Connector>]) -> Error {
    let schemes: Vec<_> = connectors.iter().flat_map(|c| c.spec().schemes).map(|s| format!("{s}://")).collect();
    let given = url.split_once("://").map_or("no scheme", |(scheme, _)| shown_name(scheme));
    Error::fix(code, format!("no connector speaks the URL's scheme (`{given}`)"))
        .hint(format!("Begin the source's URL with {}.", schemes.join(" or ")))
}

impl Options {
    /// The value of an option that every source has, or its default.
    pub fn common(&self, name: &str) -> &str {
        let default = || COMMON.iter().find(|o| o.name == name).map_or("", |o| o.default);
        self.0.get(name).map_or_else(default, String::as_str)
    }
}

impl OptionSpec {
    fn check(&self, value: &str) -> Result<()> {
        let good = match self.kind {
            OptionKind::Text | OptionKind::List => true,
            OptionKind::Bool => matches!(value, "true" | "false"),
            OptionKind::Number { min, max } => value.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)),
            OptionKind::Duration => parse_duration_ms(value).is_some(),
            OptionKind::OneOf(values) => values.contains(&value),
        };
        if good {
            return Ok(());
        }
        let shown = if self.secret { "its value".to_string() } else { format!("`{value}`") };
        Err(Error::fix(BAD_OPTION, format!("option `{}`: {shown} is not {}", self.name, self.kind.form())).hint(self.help))
    }
}

impl OptionKind {
    pub fn form(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Bool => "true or false".into(),
            Self::List => "a comma-separated list".into(),
            Self::Number { min, max } => format!("a whole number from {min} to {max}"),
            Self::Duration => "a duration such as `10s`, `5min` or `500ms`".into(),
            Self::OneOf(values) => format!("one of {}", values.join(", ")),
        }
    }
}

/// Milliseconds of `500ms`, `10s`, `5min`, `2h`; None when it has another form.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit)
}
