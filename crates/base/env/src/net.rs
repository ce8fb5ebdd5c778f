//! TCP. Thin on purpose: the seam where a simulated network goes.

use std::io;
pub use tokio::net::{TcpListener, TcpStream, UnixStream};

/// Connects with Nagle's delay off: a lone commit waits for nothing.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub async fn listen(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}
