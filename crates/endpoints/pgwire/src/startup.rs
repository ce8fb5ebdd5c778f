//! From an accepted socket to a session: encryption, protocol version, SCRAM, parameters.

use crate::codes;
use crate::connection::{Connection, Stop, Stream};
use crate::message::{First, STARTUP_BYTES_MAX};
use crate::metrics;
use crate::reply::put_string;
use crate::scram::Exchange;
use crate::server::{Credentials, Shared};
use bytes::{Buf, Bytes};
use mainstem_identity::attempts::Verdict;
use mainstem_listener::group;
use mainstem_types::{Error, Principal};
use std::net::IpAddr;

/// A client that has proved who it is.
pub(crate) struct Client {
    pub principal: Principal,
    pub administrator: bool,
    pub database: String,
    pub application: String,
    /// Protocol 3.2 has longer cancel keys.
    pub long_key: bool,
    /// Settings asked for at start-up, in order.
    pub settings: Vec<(String, String)>,
}

/// Parameters that are no run-time settings.
const NOT_SETTINGS: [&str; 6] = ["user", "database", "application_name", "client_encoding", "options", "replication"];

/// Leads a socket to a client; None when the packet was a cancel request. On an error the connection, to tell it on, is left in
/// `slot`.
pub(crate) async fn start(
    shared: &Shared,
    stream: Box<dyn Stream>,
    address: IpAddr,
    slot: &mut Option<Connection>,
) -> Result<Option<Client>, Stop> {
    let mut asked = (false, false);
    *slot = Some(Connection::new(stream));
    loop {
        let connection = slot.as_mut().ok_or(Stop::Gone)?;
        match connection.first().await? {
            First::Tls if !asked.0 => {
                asked.0 = true;
                secure(shared, slot).await?;
            }
            First::Gss if !asked.1 => {
                asked.1 = true;
                connection.reply.byte(b'N');
                connection.flush().await?;
            }
            First::Tls | First::Gss => return Err(Stop::Fatal(Error::fix(codes::PROTOCOL, "encryption was asked for twice"))),
            First::Cancel { number, secret } => {
                shared.cancel(number, &secret);
                return Ok(None);
            }
            First::Startup { minor, parameters } => return login(shared, connection, address, minor, parameters).await.map(Some),
        }
    }
}

async fn secure(shared: &Shared, slot: &mut Option<Connection>) -> Result<(), Stop> {
    let connection = slot.as_mut().ok_or(Stop::Gone)?;
    let Some(tls) = &shared.tls else {
        connection.reply.byte(b'N');
        return connection.flush().await;
    };
    if connection.has_input() {
        // Clear bytes behind the request would pass for encrypted ones (CVE-2021-23214).
        return Err(Stop::Fatal(Error::fix(codes::PROTOCOL, "received unencrypted data after the request for encryption")));
    }
    connection.reply.byte(b'S');
    connection.flush().await?;
    let stream = slot.take().ok_or(Stop::Gone)?.into_stream();
    match tls.acceptor().accept(stream).await {
        Ok(stream) => {
            *slot = Some(Connection::new(Box::new(stream)));
            Ok(())
        }
        Err(_) => {
            metrics::PROTOCOL_ERRORS.add(1);
            Err(Stop::Gone)
        }
    }
}

async fn login(
    shared: &Shared,
    connection: &mut Connection,
    address: IpAddr,
    minor: u16,
    parameters: Vec<(String, String)>,
) -> Result<Client, Stop> {
    negotiate(connection, minor, &parameters);
    let value = |name: &str| parameters.iter().find(|p| p.0 == name).map(|p| p.1.clone());
    let fatal = |error: Error| Stop::Fatal(error);
    let user = value("user").filter(|u| !u.is_empty());
    let user =
        user.ok_or_else(|| fatal(Error::fix(codes::PROTOCOL, "no PostgreSQL user name specified in the start-up packet")))?;
    if value("replication").is_some_and(|v| !matches!(v.as_str(), "false" | "off" | "no" | "0")) {
        return Err(fatal(Error::fix(codes::UNSUPPORTED, "replication connections are not served here")));
    }
    if let Some(encoding) = value("client_encoding") {
        let plain: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
        if !["utf8", "unicode", "auto"].contains(&plain.to_ascii_lowercase().as_str()) {
            let error = Error::fix(codes::UNSUPPORTED, "the only client_encoding served here is UTF8");
            return Err(fatal(error.hint("Set PGCLIENTENCODING=UTF8 or leave it out.")));
        }
    }
    let users = &*shared.backend()?.users;
    authenticate(shared, users, connection, &user, address).await?;
    let mut settings = options(&value("options").unwrap_or_default());
    let asked = parameters.iter().filter(|p| !NOT_SETTINGS.contains(&p.0.as_str()) && !p.0.starts_with("_pq_."));
    settings.extend(asked.cloned());
    Ok(Client {
        database: value("database").filter(|d| !d.is_empty()).unwrap_or_else(|| user.clone()),
        administrator: users.is_administrator(&user),
        principal: Principal(user.into()),
        application: value("application_name").unwrap_or_default(),
        long_key: minor >= 2,
        settings,
    })
}

/// Tells a client of a newer protocol, or with protocol options, what is spoken here.
fn negotiate(connection: &mut Connection, minor: u16, parameters: &[(String, String)]) {
    let unknown: Vec<_> = parameters.iter().filter(|p| p.0.starts_with("_pq_.")).collect();
    if minor > 2 || !unknown.is_empty() {
        connection.reply.message(b'v', |out| {
            out.extend_from_slice(&(3u32 << 16 | u32::from(minor.min(2))).to_be_bytes());
            out.extend_from_slice(&(unknown.len() as u32).to_be_bytes());
            unknown.iter().for_each(|p| put_string(out, &p.0));
        });
    }
}

/// `-c name=value` and `--name=value`, with `\` before a space that is meant.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => words.last_mut().into_iter().for_each(|w| w.extend(chars.next())),
            c if c.is_whitespace() => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|w| w.push(c)),
        }
    }
    let settings = words.iter().map(|w| w.strip_prefix("--").or(w.strip_prefix("-c")).unwrap_or(w));
    settings.filter_map(|w| w.split_once('=')).map(|(n, v)| (n.replace('-', "_"), v.to_string())).collect()
}

async fn password(connection: &mut Connection) -> Result<Bytes, Stop> {
    match connection.frame(STARTUP_BYTES_MAX).await? {
        (b'p', body) => Ok(body),
        _ => Err(Stop::Fatal(Error::fix(codes::PROTOCOL, "expected a password message"))),
    }
}

async fn authenticate(
    shared: &Shared,
    users: &dyn Credentials,
    connection: &mut Connection,
    user: &str,
    address: IpAddr,
) -> Result<(), Stop> {
    connection.reply.authentication(10, b"SCRAM-SHA-256\0\0");
    connection.flush().await?;
    let mut initial = password(connection).await?;
    let malformed = || Stop::Fatal(Error::fix(codes::PROTOCOL, "malformed SASL message"));
    let name_end = initial.iter().position(|b| *b == 0).ok_or_else(malformed)?;
    if &initial.split_to(name_end)[..] != b"SCRAM-SHA-256" {
        return Err(Stop::Fatal(Error::fix(codes::UNSUPPORTED, "the only authentication offered is SCRAM-SHA-256")));
    }
    initial.advance(1);
    initial.try_get_i32().ok().filter(|n| usize::try_from(*n) == Ok(initial.len())).ok_or_else(malformed)?;
    let (verifier, random) = (users.verifier(user), [shared.env.random(), shared.env.random()]);
    let exchange = Exchange::first(&initial, user, verifier, &shared.secret, random).map_err(Stop::Fatal)?;
    connection.reply.authentication(11, exchange.server_first().as_bytes());
    connection.flush().await?;
    let last = password(connection).await?;
    let (address, now) = (group(address), || shared.env.clock.moment());
    match shared.attempts.begin(user, address, now()) {
        Verdict::Wait(pause) if pause.is_zero() => {}
        Verdict::Wait(pause) => shared.env.clock.sleep(pause).await,
        Verdict::Refuse(pause) => {
            metrics::LOGINS_FAILED.add(1);
            let seconds = pause.as_secs() + 1;
            let error = Error::denied(codes::GUESSING, format!("too many failed log-ins of user \"{user}\" from this address"));
            return Err(Stop::Fatal(error.hint(format!("Try again in {seconds} s; from other addresses it works now."))));
        }
    }
    match exchange.finish(&last).map_err(Stop::Fatal)? {
        Some(proof) => {
            shared.attempts.succeeded(user, address);
            connection.reply.authentication(12, proof.as_bytes());
            connection.reply.authentication(0, &[]);
            Ok(())
        }
        None => {
            shared.attempts.failed(user, address, now());
            metrics::LOGINS_FAILED.add(1);
            let error = Error::denied(codes::PASSWORD, format!("password authentication failed for user \"{user}\""));
            Err(Stop::Fatal(error))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn options() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            assert_eq!(super::options(text), expected);
        };
        check("-c search_path=shop,public", &[("search_path", "shop,public")]);
        check("-csearch_path=a --statement-timeout=5", &[("search_path", "a"), ("statement_timeout", "5")]);
        check("-c datestyle=iso\\ mdy", &[("datestyle", "iso mdy")]);
        check("", &[]);
    }
}
