//! The URL of a source as libpq reads it: several hosts, TLS, and what hosting companies and frameworks print into one.

use crate::codes;
use crate::wire::tls::{TlsFiles, TlsMode};
use crate::wire::{ChannelBinding, Host, Target};
use mainstem_types::{Error, Result};
use percent_encoding::percent_decode_str;
use std::time::Duration;

/// The first is the usual one.
pub const SCHEMES: &[&str] = &["postgres", "postgresql"];

/// Parameters that decide what is connected to and how: a slip in one of these names is no parameter of somebody else's.
const WEIGHTY: &[&str] =
    &["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "user", "password", "dbname", "options"];

fn bad_url(what: &str) -> Error {
    Error::fix(codes::BAD_URL, format!("the URL of the source: {what}"))
        .hint("Write it as Write postgres://user:password@host:5432/database?sslmode=require..")
}

fn decoded(text: &str) -> Result<String> {
    Ok(percent_decode_str(text).decode_utf8().map_err(|_| bad_url("it is not UTF-8 after decoding %"))?.into_owned())
}

/// Target and notes: what of the URL has no bearing here.
pub fn parse(url: &str, application: &str) -> Result<(Target, Vec<String>)> {
    let rest = SCHEMES.iter().find_map(|s| url.strip_prefix(s)?.strip_prefix("://"));
    let rest = rest.ok_or_else(|| bad_url("it does not begin with postgres://"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, addresses) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (decoded(user)?, Some(decoded(password)?)),
        None => (decoded(login)?, None),
    };
    let mut given = Given::default();
    for address in addresses.split(',') {
        let (host, port) = match address.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((host, port)) => (host.to_string(), port.strip_prefix(':').unwrap_or("")),
            None => {
                let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
                (decoded(host)?, port)
            }
        };
        given.hosts.push(host);
        given.ports.push(port.to_string());
    }
    let mut target = Target {
        hosts: Vec::new(),
        primary_only: false,
        database: decoded(database)?,
        user,
        password,
        tls: TlsMode::Prefer,
        tls_files: TlsFiles::default(),
        channel_binding: ChannelBinding::Prefer,
        options: String::new(),
        application: application.to_string(),
        connect_timeout: Duration::from_secs(10),
    };
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        given.parameter(&mut target, &decoded(key)?, decoded(value)?)?;
    }
    target.hosts = given.addresses()?;
    target.primary_only |= target.hosts.len() > 1;
    target.tls = given.tls_mode();
    if target.user.is_empty() {
        return Err(bad_url("it has no user"));
    }
    if target.database.is_empty() {
        target.database = target.user.clone();
    }
    Ok((target, given.notes))
}

/// What is judged once all parameters are known.
#[derive(Default)]
struct Given {
    hosts: Vec<String>,
    ports: Vec<String>,
    mode: Option<TlsMode>,
    /// `ssl=true`.
    ssl: bool,
    /// `sslrootcert=system`.
    system_roots: bool,
    notes: Vec<String>,
}

impl Given {
    fn parameter(&mut self, target: &mut Target, key: &str, value: String) -> Result<()> {
        let list = |value: &str| value.split(',').map(str::to_string).collect();
        match key {
            "sslmode" => self.mode = self.mode(&value)?,
            "ssl" => self.ssl = !matches!(value.as_str(), "false" | "0" | "off" | "no"),
            "sslrootcert" if value == "system" => self.system_roots = true,
            "sslrootcert" => target.tls_files.roots = Some(value),
            "sslcert" => target.tls_files.certificate = Some(value),
            "sslkey" => target.tls_files.key = Some(value),
            "host" => self.hosts = list(&value),
            "hostaddr" if self.hosts.iter().all(|host| host.is_empty()) => self.hosts = list(&value),
            "port" => self.ports = list(&value),
            "user" => target.user = value,
            "password" => target.password = Some(value),
            "dbname" => target.database = value,
            "options" => target.options = value,
            "connect_timeout" => {
                let seconds: u64 = value.parse().map_err(|_| bad_url("connect_timeout is a number of seconds"))?;
                if seconds > 0 {
                    target.connect_timeout = Duration::from_secs(seconds);
                }
            }
            "channel_binding" => {
                target.channel_binding = match value.as_str() {
                    "require" => ChannelBinding::Require,
                    "disable" => ChannelBinding::Disable,
                    _ => ChannelBinding::Prefer,
                }
            }
            "gssencmode" if value == "require" => return Err(bad_url("gssencmode=require: GSSAPI is not spoken here")),
            "gssencmode" => {}
            "target_session_attrs" => self.session_attributes(target, &value),
            other => self.without_bearing(other)?,
        }
        Ok(())
    }

    /// Prisma and node-postgres have words of their own for it.
    fn mode(&mut self, value: &str) -> Result<Option<TlsMode>> {
        if value == "no-verify" {
            return Ok(Some(TlsMode::Require));
        }
        let modes = "disable, allow, prefer, require, verify-ca or verify-full";
        TlsMode::parse(value).map(Some).ok_or_else(|| bad_url(&format!("sslmode is one of {modes}")))
    }

    fn session_attributes(&mut self, target: &mut Target, value: &str) {
        target.primary_only = value != "any";
        if matches!(value, "read-only" | "standby" | "prefer-standby") {
            self.notes.push(format!(
                "`target_session_attrs={value}` in the URL: the primary is read all the same, a standby cannot be captured"
            ));
        }
    }

    /// Never refused for its name, unless it looks like a slip in one that matters.
    fn without_bearing(&mut self, key: &str) -> Result<()> {
        let meant = WEIGHTY.iter().find(|known| strsim::damerau_levenshtein(&key.to_lowercase(), known) <= 1);
        if let Some(meant) = meant.filter(|_| key.len() > 3) {
            return Err(bad_url(&format!("it has a parameter `{key}`; did you mean `{meant}`?")));
        }
        let because = match key {
            "schema" | "currentSchema" | "search_path" => ": `tables` says what is captured, for example tables = 'public.*'",
            "pgbouncer" => ": a pooler cannot carry replication, give the address of the server itself",
            "application_name" | "fallback_application_name" => ": sessions of ours are called `mainstem <source>`",
            "sslcrl" | "sslcrldir" => ": no list of revoked certificates is read",
            "require_auth" => ": any login that the server asks for is made",
            _ => "",
        };
        self.notes.push(format!("`{key}` in the URL is ignored{because}"));
        Ok(())
    }

    fn addresses(&self) -> Result<Vec<(Host, u16)>> {
        if self.ports.len() > 1 && self.ports.len() != self.hosts.len() {
            return Err(bad_url("it has another number of ports than of hosts"));
        }
        let address = |(at, name): (usize, &String)| {
            let port = match self.ports.get(at).or(self.ports.last()).map(String::as_str) {
                None | Some("") => 5432,
                Some(port) => port.parse().map_err(|_| bad_url("its port is not a number from 1 to 65535"))?,
            };
            let host = match name.as_str() {
                "" => Host::Name("localhost".into()),
                name if name.starts_with('/') => Host::Socket(name.to_string()),
                name => Host::Name(name.to_string()),
            };
            Ok((host, port))
        };
        self.hosts.iter().enumerate().map(address).collect()
    }

    /// As in libpq: the machine's own roots are for full verification, and `ssl=true` means `require`.
    fn tls_mode(&self) -> TlsMode {
        match self.mode {
            _ if self.system_roots => TlsMode::VerifyFull,
            Some(mode) => mode,
            None if self.ssl => TlsMode::Require,
            None => TlsMode::Prefer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url: &str, hosts: &str, expected: (&str, Option<&str>, &str)| {
            let (t, _) = parse(url, "x").unwrap();
            let shown = |(host, port): &(Host, u16)| match host {
                Host::Name(h) | Host::Socket(h) => format!("{h} {port}"),
            };
            assert_eq!(t.hosts.iter().map(shown).collect::<Vec<_>>().join(", "), hosts, "{url}");
            assert_eq!((t.user.as_str(), t.password.as_deref(), t.database.as_str()), expected, "{url}");
            assert_eq!(t.primary_only, hosts.contains(','), "{url}");
        };
        check("postgres://a:b%40c@h:1/d", "h 1", ("a", Some("b@c"), "d"));
        check("postgresql://a@[::1]:7/d?sslmode=disable", "::1 7", ("a", None, "d"));
        check("postgres://a@%2Fvar%2Frun/d", "/var/run 5432", ("a", None, "d"));
        check("postgres://a@/d?host=/tmp&port=9", "/tmp 9", ("a", None, "d"));
        check("postgres://a@h", "h 5432", ("a", None, "a"));
        check("postgres://a@h:1,[::1]:2,i/d", "h 1, ::1 2, i 5432", ("a", None, "d"));
        check("postgres://a@/d?host=h,i&port=9", "h 9, i 9", ("a", None, "d"));
        check("postgres://a@/d?host=h,i&port=9,10", "h 9, i 10", ("a", None, "d"));
        check("postgres://a@/d?hostaddr=127.0.0.1", "127.0.0.1 5432", ("a", None, "d"));
        let bad = [
            "mysql://h/d",
            "postgres://h/d",
            "postgres://a@h:x/d",
            "postgres://a@h/d?sslmode=yes",
            "postgres://a@h,i/d?port=1,2,3",
            "postgres://a@h/d?sslmod=verify-full",
            "postgres://a@h/d?sslMode=verify-full",
            "postgres://a@h/d?gssencmode=require",
        ];
        for bad in bad {
            assert_eq!(parse(bad, "x").err().map(|e| e.code().id), Some("PG-001"), "{bad}");
        }
    }

    #[test]
    fn parameters() {
        let check = |query: &str, notes: &[&str]| {
            let (target, found) = parse(&format!("postgres://a@h/d?{query}"), "x").unwrap();
            assert_eq!(found.len(), notes.len(), "{query}: {found:?}");
            assert!(found.iter().zip(notes).all(|(note, word)| note.contains(word)), "{query}: {found:?}");
            target
        };
        assert_eq!(check("options=-c%20geqo%3Doff", &[]).options, "-c geqo=off");
        assert_eq!(check("options=endpoint%3Dep-1", &[]).options, "endpoint=ep-1");
        check("keepalives=1&keepalives_idle=30&tcp_user_timeout=9", &["`keepalives`", "`keepalives_idle`", "`tcp_user_timeout`"]);
        check("schema=public&pgbouncer=true&connection_limit=5", &["tables = 'public.*'", "pooler", "`connection_limit`"]);
        check("application_name=x&sslcrl=f", &["mainstem <source>", "revoked"]);
        check("gssencmode=prefer", &[]);
        assert!(check("target_session_attrs=read-write", &[]).primary_only);
        assert!(!check("target_session_attrs=any", &[]).primary_only);
        assert!(check("target_session_attrs=standby", &["primary"]).primary_only);
        assert_eq!(check("ssl=true", &[]).tls, TlsMode::Require);
        assert_eq!(check("ssl=false", &[]).tls, TlsMode::Prefer);
        assert_eq!(check("ssl=true&sslmode=verify-ca", &[]).tls, TlsMode::VerifyCa);
        assert_eq!(check("sslmode=no-verify", &[]).tls, TlsMode::Require);
        assert_eq!(check("sslrootcert=system", &[]).tls, TlsMode::VerifyFull);
        assert_eq!(check("sslmode=require&sslrootcert=system", &[]).tls, TlsMode::VerifyFull);
        let files = check("sslcert=c.pem&sslkey=k.pem&sslrootcert=r.pem", &[]).tls_files;
        assert_eq!(
            (files.certificate.as_deref(), files.key.as_deref(), files.roots.as_deref()),
            (Some("c.pem"), Some("k.pem"), Some("r.pem"))
        );
        assert_eq!(check("connect_timeout=0", &[]).connect_timeout, Duration::from_secs(10));
        assert_eq!(check("channel_binding=require", &[]).channel_binding, ChannelBinding::Require);
    }
}
