//! Run-time settings of a session: SET, SHOW, RESET.

use crate::codes;
use crate::sql::declarations::duration;
use crate::sql::errors::nearest;
use mainstem_types::{Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// What SHOW knows, with defaults: those that clients read, and those that drivers and tools set without being asked.
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("application_name", ""),
    ("backslash_quote", "safe_encoding"),
    ("bytea_output", "hex"),
    ("check_function_bodies", "on"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "notice"),
    ("cursor_tuple_fraction", "0.1"),
    ("datestyle", "ISO, MDY"),
    ("default_tablespace", ""),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "on"),
    ("enable_seqscan", "on"),
    ("escape_string_warning", "on"),
    ("extra_float_digits", "1"),
    ("geqo", "on"),
    ("idle_in_transaction_session_timeout", "0"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "on"),
    ("jit", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C.UTF-8"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("lock_timeout", "0"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("password_encryption", "scram-sha-256"),
    ("row_security", "on"),
    ("search_path", "\"$user\", public"),
    ("server_encoding", "UTF8"),
    ("server_version", "15.0"),
    ("server_version_num", "150000"),
    ("session_authorization", "admin"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("synchronous_commit", "on"),
    ("timezone", "UTC"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "on"),
    ("work_mem", "4MB"),
    ("xmloption", "content"),
];

const READ_ONLY: &[&str] = &[
    "server_version",
    "server_version_num",
    "server_encoding",
    "integer_datetimes",
    "is_superuser",
    "lc_collate",
    "lc_ctype",
    "max_identifier_length",
    "max_index_keys",
    "session_authorization",
];

/// How SHOW and ParameterStatus spell the names that have capitals.
pub(crate) fn spelled(name: &str) -> &str {
    match name {
        "timezone" => "TimeZone",
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        name => name,
    }
}

/// The values of one session. Setting is transactional, as in Postgres.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    /// What the session began with, where it differs from `DEFAULTS`.
    initial: BTreeMap<String, String>,
    set: BTreeMap<String, String>,
    /// SET LOCAL: to the end of the transaction.
    local: BTreeMap<String, String>,
    /// `set` as it was at BEGIN.
    before: Option<BTreeMap<String, String>>,
}

impl Variables {
    pub(crate) fn new(initial: BTreeMap<String, String>) -> Self {
        Self { initial, ..Self::default() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let default = || DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let own = self.local.get(name).or_else(|| self.set.get(name)).or_else(|| self.initial.get(name));
        own.map(String::as_str).or_else(default)
    }

    /// All settings with their values, by name.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let mut names: Vec<&str> = DEFAULTS.iter().map(|(name, _)| *name).collect();
        names.extend(self.set.keys().map(String::as_str).filter(|name| !DEFAULTS.iter().any(|(known, _)| known == name)));
        names.into_iter().map(|name| (name.to_string(), self.get(name).unwrap_or("").to_string())).collect()
    }

    /// `value` None: back to what the session began with.
    pub(crate) fn assign(&mut self, name: &str, value: Option<String>, local: bool) -> Result<()> {
        // Names with a period are an application's own, as in Postgres.
        if !name.contains('.') && !DEFAULTS.iter().any(|(known, _)| *known == name) {
            let error = Error::fix(codes::UNKNOWN_SETTING, format!("unrecognized configuration parameter \"{name}\""));
            return Err(match nearest(name, DEFAULTS.iter().map(|(name, _)| *name)) {
                Some(near) => error.hint(format!("Perhaps you meant \"{}\".", spelled(near))),
                None => error.hint("SHOW ALL lists the settings of a session."),
            });
        }
        if READ_ONLY.contains(&name) {
            return Err(Error::fix(codes::INVALID_SETTING, format!("parameter \"{name}\" cannot be changed")));
        }
        let value = value.map(|value| checked(name, value)).transpose()?;
        let values = if local { &mut self.local } else { &mut self.set };
        match value {
            Some(value) => {
                values.insert(name.to_string(), value);
            }
            None => {
                values.remove(name);
            }
        }
        if !local {
            self.local.remove(name);
        }
        Ok(())
    }

    pub(crate) fn reset_all(&mut self) {
        self.set.clear();
        self.local.clear();
    }

    pub(crate) fn begin(&mut self) {
        self.before = Some(self.set.clone());
    }

    pub(crate) fn end(&mut self, committed: bool) {
        if let Some(before) = self.before.take()
            && !committed
        {
            self.set = before;
        }
        self.local.clear();
    }

    /// Schemas of the search path, `$user` replaced.
    pub(crate) fn search_path(&self, user: &str) -> Vec<String> {
        let entry = |text: &str| match text.trim().trim_matches('"') {
            "$user" => user.to_string(),
            name => name.to_string(),
        };
        self.get("search_path").unwrap_or("public").split(',').map(entry).filter(|name| !name.is_empty()).collect()
    }

    /// None = no limit.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.get("statement_timeout").and_then(|text| duration(text, 1)).filter(|timeout| !timeout.is_zero())
    }
}

/// The value as it is kept, or why it cannot be.
fn checked(name: &str, value: String) -> Result<String> {
    let refuse = |hint: &str| {
        Err(Error::fix(codes::INVALID_SETTING, format!("invalid value for parameter \"{}\"", spelled(name))).hint(hint))
    };
    match name {
        "client_encoding" if !matches!(value.to_uppercase().replace('-', "").as_str(), "UTF8" | "UNICODE" | "SQL_ASCII") => {
            refuse("Everything here is UTF8.")
        }
        "client_encoding" => Ok("UTF8".into()),
        "standard_conforming_strings" if !on(&value) => refuse("Strings are always standard-conforming here."),
        "statement_timeout" | "lock_timeout" | "idle_in_transaction_session_timeout" if duration(&value, 1).is_none() => {
            refuse("A number of milliseconds, or a number with ms, s, min, h or d.")
        }
        "timezone" if !matches!(value.to_uppercase().as_str(), "UTC" | "GMT" | "ETC/UTC" | "ZULU" | "0" | "+00" | "+00:00") => {
            refuse("Times are shown in UTC here; x AT TIME ZONE 'Europe/Berlin' gives another zone's clock.")
        }
        "datestyle" if !value.to_lowercase().contains("iso") && value.contains(|c: char| c.is_alphabetic()) => {
            match value.to_lowercase().as_str() {
                "mdy" | "dmy" | "ymd" => Ok(format!("ISO, {}", value.to_uppercase())),
                _ => refuse("Dates are shown in ISO style here."),
            }
        }
        "datestyle" => Ok(if value.contains(',') { value.to_uppercase() } else { "ISO, MDY".into() }),
        "transaction_isolation" | "default_transaction_isolation" => {
            let value = value.to_lowercase();
            let known = ["read committed", "read uncommitted", "repeatable read", "serializable"].contains(&value.as_str());
            if known { Ok(value) } else { refuse("read committed, repeatable read or serializable.") }
        }
        _ => Ok(value),
    }
}

fn on(value: &str) -> bool {
    matches!(value.to_lowercase().as_str(), "on" | "true" | "yes" | "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_follow_transactions() {
        let mut v = Variables::new(BTreeMap::from([("application_name".to_string(), "psql".to_string())]));
        assert_eq!(v.get("application_name"), Some("psql"));
        v.begin();
        v.assign("search_path", Some("shop, \"$user\"".into()), false).unwrap();
        v.assign("statement_timeout", Some("3s".into()), true).unwrap();
        assert_eq!(v.search_path("admin"), ["shop", "admin"]);
        assert_eq!(v.statement_timeout(), Some(Duration::from_secs(3)));
        v.end(false);
        assert_eq!(v.search_path("admin"), ["admin", "public"]);
        assert_eq!(v.statement_timeout(), None);
        v.assign("my.own", Some("1".into()), false).unwrap();
        assert_eq!(v.get("my.own"), Some("1"));
    }

    #[test]
    fn wrong_settings_are_refused() {
        let check = |name: &str, value: &str, state: &str, hint: &str| {
            let error = Variables::default().assign(name, Some(value.into()), false).unwrap_err();
            assert_eq!((error.code().sqlstate, error.hint_text().unwrap_or("")), (state, hint), "{name} = {value}");
        };
        check("serch_path", "x", "42704", "Perhaps you meant \"search_path\".");
        check("server_version", "16", "22023", "");
        check("client_encoding", "LATIN1", "22023", "Everything here is UTF8.");
        check("statement_timeout", "soon", "22023", "A number of milliseconds, or a number with ms, s, min, h or d.");
    }
}
