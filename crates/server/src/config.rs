//! Configuration: `config/default.toml` names every key; a file, the environment and flags lay their values over it.

use crate::codes;
use mainstem_log::LogSettings;
use mainstem_query::QuerySettings;
use mainstem_types::system::{Kind, SystemTable};
use mainstem_types::{Error, Result};
use mainstem_warehouse::WarehouseSettings;
use serde::Deserialize;
use std::path::PathBuf;
use toml::{Table, Value};

/// The file in the repository that shows every option; also the list of known keys.
pub const DEFAULTS: &str = include_str!("../../../config/default.toml");

/// Variables of ours that are no configuration.
const OTHER_VARIABLES: [&str; 6] = [
    "MAINSTEM_ADMIN_PASSWORD",
    "MAINSTEM_PASSWORD",
    "MAINSTEM_SECRET_KEY",
    "MAINSTEM_FAILPOINT",
    "MAINSTEM_BIN",
    "MAINSTEM_CONFIG",
];
const OTHER_PREFIXES: [&str; 2] = ["MAINSTEM_SOURCE_", "MAINSTEM_TEST_"];

/// Keys that had another name: (old, new). The old one is still read, with a warning.
const RENAMED: [(&str, &str); 1] = [("connections_max", "pg_connections_max")];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data: PathBuf,
    pub pg_listen: String,
    pub http_listen: String,
    pub tls_cert: String,
    pub tls_key: String,
    pub pg_connections_max: usize,
    pub secret_key_file: String,
    pub log_format: LogFormat,
    pub log_level: String,
    #[serde(default)]
    pub log: LogSettings,
    #[serde(default)]
    pub warehouse: WarehouseSettings,
    #[serde(default)]
    pub query: QuerySettings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

/// Where values come from, weakest first.
pub struct Layers {
    /// Text of the configuration file with its name, when one was named or found.
    pub file: Option<(String, String)>,
    /// (variable, value), those that begin with MAINSTEM_.
    pub environment: Vec<(String, String)>,
    /// (key, value) from flags; sections by dots.
    pub flags: Vec<(String, String)>,
}

/// A configuration and what it was made of.
pub struct Loaded {
    pub config: Config,
    /// Key, effective value and where it comes from, for `mainstem.settings`.
    pub settings: Vec<Setting>,
    /// Given, but without effect.
    pub warnings: Vec<String>,
}

pub struct Setting {
    pub key: String,
    pub value: String,
    /// default, file, environment, flag
    pub origin: &'static str,
}

/// `mainstem.settings`: what is in force, secrets already masked, and where each value comes from.
pub fn system_tables(settings: Vec<Setting>) -> Vec<SystemTable> {
    let row = |s: &Setting| vec![s.key.as_str().into(), s.value.as_str().into(), s.origin.into()];
    let columns = &[("name", Kind::Text), ("value", Kind::Text), ("origin", Kind::Text)];
    vec![SystemTable::of_admin("settings", columns, move || settings.iter().map(row).collect())]
}

impl Config {
    pub fn load(layers: Layers) -> Result<Loaded> {
        let mut table = defaults()?;
        let mut settings = Vec::new();
        note_changes(&table, &mut settings, "default");
        let mut warnings = Vec::new();
        if let Some((name, text)) = &layers.file {
            let mut given: Table = text.parse().map_err(|e: toml::de::Error| {
                Error::fix(codes::BAD_VALUE, format!("{name}: {}", e.message()))
                    .hint("Write it as TOML; config/default.toml shows every key.")
            })?;
            for (old, new) in RENAMED {
                if let Some(value) = given.remove(old) {
                    warnings.push(format!("{name}: `{old}` is now called `{new}`"));
                    given.entry(new).or_insert(value);
                }
            }
            lay_table(&mut table, given, "", name)?;
            note_changes(&table, &mut settings, "file");
        }
        for (variable, value) in &layers.environment {
            if OTHER_VARIABLES.contains(&variable.as_str()) || OTHER_PREFIXES.iter().any(|p| variable.starts_with(p)) {
                continue;
            }
            let now = renamed(variable, |old| format!("MAINSTEM_{}", old.to_uppercase()), &mut warnings);
            match key_of_variable(&table, &now) {
                Some(key) => set(&mut table, &key, value, &format!("environment variable {variable}"))?,
                None => warnings.push(format!("environment variable {variable} is not an option of mainstem and has no effect")),
            }
        }
        note_changes(&table, &mut settings, "environment");
        for (key, value) in &layers.flags {
            let now = renamed(key, str::to_owned, &mut warnings);
            set(&mut table, &now, value, "command line")?;
        }
        note_changes(&table, &mut settings, "flag");
        let mut config: Config = Value::Table(table).try_into().map_err(|e: toml::de::Error| {
            Error::fix(codes::BAD_VALUE, format!("configuration: {}", e.message()))
                .hint("See config/default.toml, which shows every key with its form.")
        })?;
        if config.tls_cert.is_empty() != config.tls_key.is_empty() {
            return Err(
                Error::fix(codes::BAD_VALUE, "configuration: `tls_cert` and `tls_key` go together").hint("Give both, or none.")
            );
        }
        config.pg_listen = address("pg_listen", config.pg_listen)?;
        config.http_listen = address("http_listen", config.http_listen)?;
        Ok(Loaded { config, settings, warnings })
    }
}

/// The name that an old name has now, in the form in which it was given.
fn renamed(given: &str, form: impl Fn(&str) -> String, warnings: &mut Vec<String>) -> String {
    match RENAMED.iter().find(|(old, _)| form(old) == given) {
        Some((_, new)) => {
            warnings.push(format!("`{given}` is now called `{}`", form(new)));
            form(new)
        }
        None => given.to_owned(),
    }
}

/// An address to listen on: `host:port`, a bare port of this machine, or `off`.
fn address(key: &str, given: String) -> Result<String> {
    if given == "off" {
        return Ok(given);
    }
    if given.parse::<u16>().is_ok() {
        return Ok(format!("127.0.0.1:{given}"));
    }
    match given.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(given),
        _ => Err(Error::fix(codes::BAD_VALUE, format!("option `{key}` is an address HOST:PORT, not `{given}`"))
            .hint("Write 127.0.0.1:7432 for this machine alone, 0.0.0.0:7432 for all its addresses, or off.")),
    }
}

/// Brings the settings up to a table after a layer was laid over it.
fn note_changes(table: &Table, settings: &mut Vec<Setting>, origin: &'static str) {
    let mut rows = Vec::new();
    flatten(table, "", &mut rows);
    for (key, value) in rows {
        match settings.iter_mut().find(|s| s.key == key) {
            Some(known) if known.value == value => {}
            Some(known) => *known = Setting { key, value, origin },
            None => settings.push(Setting { key, value, origin }),
        }
    }
}

pub fn defaults() -> Result<Table> {
    DEFAULTS.parse().map_err(|e: toml::de::Error| Error::bug(codes::BAD_VALUE, format!("config/default.toml: {}", e.message())))
}

fn flatten(table: &Table, prefix: &str, rows: &mut Vec<(String, String)>) {
    for (key, value) in table {
        match value {
            Value::Table(section) => flatten(section, &format!("{prefix}{key}."), rows),
            Value::String(text) => rows.push((format!("{prefix}{key}"), text.clone())),
            other => rows.push((format!("{prefix}{key}"), other.to_string())),
        }
    }
}

fn lay_table(under: &mut Table, over: Table, prefix: &str, place: &str) -> Result<()> {
    for (key, value) in over {
        let full = format!("{prefix}{key}");
        match (under.get_mut(&key), value) {
            (Some(Value::Table(section)), Value::Table(over)) => lay_table(section, over, &format!("{full}."), place)?,
            (Some(known), value) if known.same_type(&value) => *known = value,
            (Some(known), value) => return Err(wrong_type(&full, known, &value.to_string(), place)),
            (None, _) => return Err(unknown(under, &key, prefix, place)),
        }
    }
    Ok(())
}

/// `MAINSTEM_WAREHOUSE_FLUSH_INTERVAL_MS` is `warehouse.flush_interval_ms`.
fn key_of_variable(table: &Table, variable: &str) -> Option<String> {
    let mut rows = Vec::new();
    flatten(table, "", &mut rows);
    let name = |key: &str| format!("MAINSTEM_{}", key.replace('.', "_").to_uppercase());
    rows.into_iter().map(|(key, _)| key).find(|key| name(key) == variable)
}

fn set(table: &mut Table, key: &str, text: &str, place: &str) -> Result<()> {
    let (section, name) = match key.split_once('.') {
        Some((section, name)) => match table.get_mut(section) {
            Some(Value::Table(inner)) => (inner, name),
            _ => return Err(unknown(table, section, "", place)),
        },
        None => (table, key),
    };
    let Some(known) = section.get_mut(name) else { return Err(unknown(section, name, "", place)) };
    let parsed = match known {
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        Value::Float(_) => text.parse().ok().map(Value::Float),
        _ => Some(Value::String(text.to_string())),
    };
    match parsed {
        Some(value) => *known = value,
        None => return Err(wrong_type(key, known, text, place)),
    }
    Ok(())
}

fn unknown(table: &Table, key: &str, prefix: &str, place: &str) -> Error {
    let nearest = table.keys().min_by_key(|known| strsim::damerau_levenshtein(key, known));
    let error = Error::fix(codes::UNKNOWN_KEY, format!("{place}: there is no option `{prefix}{key}`"));
    match nearest {
        Some(near) if strsim::damerau_levenshtein(key, near) <= 4 => error.hint(format!("Did you mean `{prefix}{near}`?")),
        _ => error.hint("See config/default.toml, which shows every key."),
    }
}

fn wrong_type(key: &str, known: &Value, given: &str, place: &str) -> Error {
    let form = match known {
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        Value::Float(_) => "a number",
        Value::Table(_) => "a section",
        _ => "text in quotes",
    };
    Error::fix(codes::BAD_VALUE, format!("{place}: option `{key}` is {form}, not `{given}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config> {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let file = Some(("mainstem.toml".to_string(), file.to_string()));
        Config::load(Layers { file, environment: own(environment), flags: own(flags) }).map(|loaded| loaded.config)
    }

    #[test]
    fn the_shown_defaults_are_the_defaults() {
        let config = load("", &[], &[]).unwrap();
        let bare: Config =
            toml::from_str(&DEFAULTS.lines().take_while(|line| !line.starts_with('[')).collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(
            format!("{config:?}"),
            format!("{bare:?}"),
            "a section of config/default.toml differs from the code's default"
        );
    }

    #[test]
    fn an_old_name_is_read_with_a_warning() {
        let own = |a: &str, b: &str| vec![(a.to_string(), b.to_string())];
        let file = |text: &str| Some(("mainstem.toml".to_string(), text.to_string()));
        let check = |layers: Layers, expected: usize, warnings: usize| {
            let loaded = Config::load(layers).unwrap();
            assert_eq!((loaded.config.pg_connections_max, loaded.warnings.len()), (expected, warnings), "{:?}", loaded.warnings);
        };
        check(Layers { file: file("connections_max = 7"), environment: vec![], flags: vec![] }, 7, 1);
        check(Layers { file: file("pg_connections_max = 7"), environment: vec![], flags: vec![] }, 7, 0);
        check(Layers { file: None, environment: own("MAINSTEM_CONNECTIONS_MAX", "8"), flags: vec![] }, 8, 1);
        check(Layers { file: None, environment: vec![], flags: own("connections_max", "9") }, 9, 1);
    }

    #[test]
    fn addresses() {
        let check = |given: &str, expected: Option<&str>| {
            assert_eq!(load("", &[], &[("pg_listen", given)]).ok().map(|c| c.pg_listen).as_deref(), expected, "{given}");
        };
        check("7432", Some("127.0.0.1:7432"));
        check("0.0.0.0:0", Some("0.0.0.0:0"));
        check("localhost:7432", Some("localhost:7432"));
        check("[::1]:7432", Some("[::1]:7432"));
        check("off", Some("off"));
        for wrong in ["", ":7432", "localhost", "localhost:", "127.0.0.1:99999", "99999", "pg:x"] {
            check(wrong, None);
        }
    }

    #[test]
    fn flag_beats_environment_beats_file() {
        let config = load("pg_listen = \"a:1\"", &[], &[]).unwrap();
        assert_eq!(config.pg_listen, "a:1");
        let config = load("pg_listen = \"a:1\"", &[("MAINSTEM_PG_LISTEN", "b:2")], &[]).unwrap();
        assert_eq!(config.pg_listen, "b:2");
        let config = load("pg_listen = \"a:1\"", &[("MAINSTEM_PG_LISTEN", "b:2")], &[("pg_listen", "c:3")]).unwrap();
        assert_eq!(config.pg_listen, "c:3");
    }

    fn check(file: &str, code: &str, hint: Option<&str>) {
        let error = load(file, &[], &[]).unwrap_err();
        assert_eq!((error.code().id, error.hint_text()), (code, hint), "{error}");
    }

    #[test]
    fn wrong_keys_and_values_are_refused() {
        check("pg_lisen = \"x\"", "CFG-001", Some("Did you mean `pg_listen`?"));
        check("connections_max = \"many\"", "CFG-002", None);
        check("pg_connections_max = \"many\"", "CFG-002", None);
        check("tls_cert = \"x\"", "CFG-002", Some("Give both, or none."));
        check("not toml", "CFG-002", Some("Write it as TOML; config/default.toml shows every key."));
    }
}
