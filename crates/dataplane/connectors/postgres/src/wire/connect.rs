//! From a URL to a session that is logged in: TLS as `sslmode` says, then password, MD5 or SCRAM, with the session's settings pinned.

use super::failure::ServerError;
use super::frames::{FrameReader, Io, lost, protocol};
use super::session::Session;
use super::tls::{self, TlsFiles, TlsMode};
use crate::{codes, metrics};
use bytes::BytesMut;
use mainstem_env::{Env, net};
use mainstem_types::{Error, Result};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use rustls_pki_types::ServerName;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Name(String),
    /// Directory of a Unix socket.
    Socket(String),
}

/// Whether a login is bound to its TLS channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    /// Where both sides can.
    Prefer,
    Require,
}

/// Everything a login needs. Has a password: never printed, so no Debug.
#[derive(Clone)]
pub struct Target {
    /// Tried in this order.
    pub hosts: Vec<(Host, u16)>,
    /// A standby is passed over.
    pub primary_only: bool,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    pub tls: TlsMode,
    pub tls_files: TlsFiles,
    pub channel_binding: ChannelBinding,
    /// Settings of the user's for each session; ours come after them.
    pub options: String,
    pub application: String,
    pub connect_timeout: Duration,
}

/// What the sessions of a source are pinned to (decision 7): role and database defaults must not reach the text of values.
const PINNED: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("synchronous_commit", "local"),
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// The version that brought `transaction_timeout`, which would end a long copy.
const TRANSACTION_TIMEOUT_SINCE: u32 = 17;

impl Target {
    /// `host:port/database`, for messages.
    pub fn place(&self) -> String {
        let shown = |(host, port): &(Host, u16)| match host {
            Host::Name(name) => format!("{name}:{port}"),
            Host::Socket(directory) => format!("{directory}:{port}"),
        };
        format!("{}/{}", self.hosts.iter().map(shown).collect::<Vec<_>>().join(","), self.database)
    }

    /// Logs in, on the first host that lets us. `replication` sessions speak the replication protocol as well as SQL.
    pub async fn connect(&self, env: &Env, replication: bool) -> Result<Session> {
        let mut failed = None;
        for address in &self.hosts {
            let one = Self { hosts: vec![address.clone()], ..self.clone() };
            let session = tokio::select! {
                session = one.connect_to(env, address, replication) => session,
                () = env.clock.sleep(self.connect_timeout) => Err(one.late()),
            };
            match session {
                Ok(session) => return Ok(session),
                // The first says most: those after it may be standbys that are meant to refuse.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| self.late()))
    }

    fn late(&self) -> Error {
        Error::retry(codes::UNREACHABLE, format!("{} did not answer within {:?}", self.place(), self.connect_timeout))
            .hint("Check host, port and firewalls.")
    }

    async fn connect_to(&self, env: &Env, address: &(Host, u16), replication: bool) -> Result<Session> {
        let named = matches!(address.0, Host::Name(_));
        let first_plain = matches!(self.tls, TlsMode::Disable | TlsMode::Allow) || !named;
        let first = self.attempt(env, address, replication, !first_plain).await;
        match first {
            // libpq's `allow` and `prefer` turn to the other way when the first is refused.
            Err(error) if self.tls == TlsMode::Allow && error.code() == codes::LOGIN && named => {
                self.attempt(env, address, replication, true).await.map_err(|_| error)
            }
            Err(error) if self.tls == TlsMode::Prefer && matches!(error.code().id, "PG-003" | "PG-007") && !first_plain => {
                self.attempt(env, address, replication, false).await.map_err(|_| error)
            }
            other => other,
        }
    }

    async fn attempt(&self, env: &Env, address: &(Host, u16), replication: bool, encrypt: bool) -> Result<Session> {
        let unreachable = |e| {
            Error::retry(codes::UNREACHABLE, format!("no connection to {}", self.place()))
                .hint("Check that the server runs and that host and port are right.")
                .caused_by(e)
        };
        let (io, end_point): (Box<dyn Io>, Option<Vec<u8>>) = match &address.0 {
            Host::Socket(directory) => {
                let path = format!("{directory}/.s.PGSQL.{}", address.1);
                (Box::new(net::UnixStream::connect(path).await.map_err(unreachable)?), None)
            }
            Host::Name(name) => {
                let tcp = net::connect(name, address.1).await.map_err(unreachable)?;
                if encrypt { self.encrypt(env, name, tcp).await? } else { (Box::new(tcp), None) }
            }
        };
        let encrypted = encrypt && end_point.is_some();
        let mut login =
            Login { target: self, reader: FrameReader::new(io), end_point, encrypted, version: 0, standby: false, bound: false };
        login.run(replication).await?;
        if login.standby && self.primary_only {
            return Err(Error::retry(codes::UNREACHABLE, format!("{} is a standby", self.place()))
                .hint("Name the primary among the hosts of the URL; after a failover it is found by itself."));
        }
        let version = login.version;
        let mut session = Session::new(login.reader, self.place());
        if version >= TRANSACTION_TIMEOUT_SINCE && !replication {
            // Older servers refuse a startup that names it.
            session.query("SET transaction_timeout = 0").await?;
        }
        Ok(session)
    }

    /// Asks for TLS. Some(empty) as end point = encrypted, but without a channel binding.
    async fn encrypt(&self, env: &Env, name: &str, mut tcp: net::TcpStream) -> Result<(Box<dyn Io>, Option<Vec<u8>>)> {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        tcp.write_all(&request).await.map_err(lost)?;
        match tcp.read_u8().await.map_err(lost)? {
            b'S' => {}
            b'N' if self.tls == TlsMode::Prefer => return Ok((Box::new(tcp), None)),
            b'N' => {
                return Err(Error::fix(codes::TLS, format!("{} offers no TLS", self.place()))
                    .hint("Switch `ssl` on in the server, or use sslmode=prefer."));
            }
            _ => return Err(protocol("an answer to the request for TLS that is neither S nor N")),
        }
        let config = tls::config(self.tls, &self.tls_files, &*env.disk)?;
        let server = ServerName::try_from(name.to_string())
            .map_err(|e| Error::fix(codes::TLS, format!("`{name}` cannot stand in a certificate")).caused_by(e))?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(server, tcp).await.map_err(|e| {
            Error::fix(codes::TLS, format!("TLS with {} failed: {e}", self.place()))
                .hint("Check `sslmode` and `sslrootcert`; verify-full also wants the certificate to name the host of the URL.")
        })?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let end_point = certificate.and_then(|c| tls::end_point(c)).unwrap_or_default();
        Ok((Box::new(stream), Some(end_point)))
    }
}

struct Login<'a> {
    target: &'a Target,
    reader: FrameReader<Box<dyn Io>>,
    end_point: Option<Vec<u8>>,
    encrypted: bool,
    /// The server's major version, once it told.
    version: u32,
    /// It said that it is in recovery.
    standby: bool,
    /// The login is bound to the TLS channel.
    bound: bool,
}

impl Login<'_> {
    /// Startup, authentication, and everything up to the first ReadyForQuery.
    async fn run(&mut self, replication: bool) -> Result<()> {
        // The last word on a setting counts.
        let pinned = PINNED.iter().map(|(k, v)| format!("-c {k}={}", v.replace(' ', "\\ "))).collect::<Vec<_>>().join(" ");
        let options = format!("{} {pinned}", self.target.options);
        let mut parameters = vec![
            ("user", self.target.user.as_str()),
            ("database", self.target.database.as_str()),
            ("application_name", self.target.application.as_str()),
            ("client_encoding", "UTF8"),
        ];
        let with_sender = format!("{options} -c wal_sender_timeout=60s");
        parameters.push(("options", if replication { &with_sender } else { &options }));
        if replication {
            parameters.push(("replication", "database"));
        }
        let mut out = BytesMut::new();
        frontend::startup_message(parameters, &mut out).map_err(|_| protocol("a startup that cannot be written"))?;
        self.send(out).await?;
        loop {
            let frame = self.reader.next().await?;
            let body = self.reader.bytes(frame.body.clone()).to_vec();
            match frame.tag {
                b'R' => self.authenticate(&body).await?,
                b'Z' => return Ok(()),
                b'E' => return Err(self.refused(&body)),
                b'S' => {
                    if let Some(version) = body.strip_prefix(b"server_version\0") {
                        let digits = version.iter().take_while(|b| b.is_ascii_digit());
                        self.version = digits.fold(0u32, |n, d| n.saturating_mul(10).saturating_add(u32::from(d - b'0')));
                    }
                    self.standby |= body == b"in_hot_standby\0on\0";
                }
                _ => {} // the key for cancelling, notices
            }
        }
    }

    fn refused(&self, body: &[u8]) -> Error {
        let error = ServerError::parse(body);
        // PgBouncer answers so to startup parameters that it does not know.
        if error.message.contains("unsupported startup parameter") {
            return Error::fix(codes::POOLER, format!("{}: {}", self.target.place(), error.message))
                .hint("Give the address of the server itself: a connection pooler cannot carry replication.");
        }
        error.into_error(&self.target.place())
    }

    async fn send(&mut self, out: BytesMut) -> Result<()> {
        self.reader.io().write_all(&out).await.map_err(lost)?;
        self.reader.io().flush().await.map_err(lost)
    }

    fn password(&self) -> Result<&[u8]> {
        let password = self.target.password.as_ref().ok_or_else(|| {
            Error::fix(codes::LOGIN, format!("{} wants a password and the URL has none", self.target.place()))
                .hint("Write postgres://user:password@host/database.")
        })?;
        Ok(password.as_bytes())
    }

    async fn authenticate(&mut self, body: &[u8]) -> Result<()> {
        if body.len() < 4 {
            return Err(protocol("a login request of impossible length"));
        }
        let mut out = BytesMut::new();
        let method = int(&body[..4]);
        if self.target.channel_binding == ChannelBinding::Require && !self.bound && method != 10 {
            return Err(self.unbound());
        }
        match method {
            0 => return Ok(()),
            3 => frontend::password_message(self.password()?, &mut out).map_err(|_| self.bad_password())?,
            5 if body.len() >= 8 => {
                let salt = [body[4], body[5], body[6], body[7]];
                let hash = md5_hash(self.target.user.as_bytes(), self.password()?, salt);
                frontend::password_message(hash.as_bytes(), &mut out).map_err(|_| self.bad_password())?;
            }
            10 => return self.scram(&body[4..]).await,
            other => {
                return Err(Error::fix(codes::LOGIN, format!("{} wants login method {other}", self.target.place()))
                    .hint("Choose SCRAM, MD5, a clear-text password or `trust` in the server's pg_hba.conf."));
            }
        }
        self.send(out).await
    }

    fn unbound(&self) -> Error {
        Error::fix(codes::LOGIN, format!("{} offers no login bound to its TLS channel", self.target.place()))
            .hint("Leave `channel_binding=require` out of the URL, or switch `ssl` and SCRAM on in the server.")
    }

    fn bad_password(&self) -> Error {
        Error::fix(codes::LOGIN, "the password has a zero byte")
    }

    async fn scram(&mut self, mechanisms: &[u8]) -> Result<()> {
        let offered = |name: &str| mechanisms.split(|b| *b == 0).any(|m| m == name.as_bytes());
        let wanted = self.target.channel_binding;
        let binding = self.end_point.clone().filter(|e| !e.is_empty() && wanted != ChannelBinding::Disable);
        let (mechanism, binding) = match binding {
            Some(binding) if offered(sasl::SCRAM_SHA_256_PLUS) => {
                (sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(binding))
            }
            // "We could, you did not offer": the server then notices a downgrade.
            _ if wanted == ChannelBinding::Require => return Err(self.unbound()),
            Some(_) if self.encrypted => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            _ => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        if !offered(mechanism) {
            return Err(Error::fix(codes::LOGIN, format!("{} offers no SCRAM-SHA-256", self.target.place())));
        }
        let refused = |e: std::io::Error| Error::fix(codes::LOGIN, format!("SCRAM failed: {e}"));
        let mut scram = sasl::ScramSha256::new(self.password()?, binding);
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut out).map_err(refused)?;
        self.send(out).await?;
        let first = self.sasl_body(11).await?;
        scram.update(&first).map_err(refused)?;
        let mut out = BytesMut::new();
        frontend::sasl_response(scram.message(), &mut out).map_err(refused)?;
        self.send(out).await?;
        let last = self.sasl_body(12).await?;
        scram.finish(&last).map_err(refused)?;
        if mechanism == sasl::SCRAM_SHA_256_PLUS {
            metrics::CHANNEL_BOUND_LOGINS.add(1);
            self.bound = true;
        }
        Ok(())
    }

    async fn sasl_body(&mut self, step: i32) -> Result<Vec<u8>> {
        loop {
            let frame = self.reader.next().await?;
            let body = self.reader.bytes(frame.body.clone());
            match frame.tag {
                b'R' if body.len() >= 4 && int(&body[..4]) == step => return Ok(body[4..].to_vec()),
                b'E' => {
                    let body = body.to_vec();
                    return Err(self.refused(&body));
                }
                b'N' | b'S' => {}
                _ => return Err(protocol("something else in the middle of SCRAM")),
            }
        }
    }
}

fn int(bytes: &[u8]) -> i32 {
    bytes.try_into().map_or(0, i32::from_be_bytes)
}
