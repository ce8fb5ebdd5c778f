//! `mainstem status`: asks a running server over HTTP. Whoever reaches that endpoint may see it, as with `/metrics`, so it needs no password.

use crate::codes;
use mainstem_env::net;
use mainstem_types::{Error, Result};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server that is there answers at once.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Prints what `/status` says. Exit code 1 when it says that something is wrong.
pub async fn show(address: &str) -> Result<ExitCode> {
    let unreachable = |cause: std::io::Error| {
        Error::retry(codes::NO_ANSWER, format!("no server answers at http://{address}/status"))
            .hint("Start it, or name its address: --http-listen HOST:PORT.")
            .caused_by(cause)
    };
    if address == "off" {
        let error = Error::fix(codes::NO_ANSWER, "`http_listen` is off, and the status is told over HTTP");
        return Err(error.hint("Ask over SQL: SELECT * FROM mainstem.sources;"));
    }
    let answer = tokio::time::timeout(ANSWER_TIME, ask(address)).await;
    let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => {
            print!("{body}");
            let wrong = body.lines().any(|line| line.starts_with('!'));
            Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        _ => Err(Error::fix(codes::NO_ANSWER, format!("what answers at http://{address} is no mainstem, or an older one"))),
    }
}

async fn ask(address: &str) -> std::io::Result<String> {
    // A server that listens on all addresses is here too.
    let address = address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, "7080"));
    let port = port.parse().map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let mut stream = net::connect(host.trim_matches(['[', ']']), port).await?;
    stream.write_all(format!("GET /status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
