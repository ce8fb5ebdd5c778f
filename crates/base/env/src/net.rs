//! TCP. Thin on purpose: the seam where a simulated network goes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
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

/// How much must have come before a socket wakes its reader (`SO_RCVLOWAT`, socket(7)). It outlives the halves of a split stream.
pub struct LowWater(OwnedFd);

impl LowWater {
    pub fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self(stream.as_fd().try_clone_to_owned()?))
    }

    /// 1 is what a socket has. Lowering it wakes a reader for whom enough is there now.
    pub fn set(&self, bytes: u32) -> io::Result<()> {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        let (value, length) = ((&raw const bytes).cast(), size_of::<libc::c_int>() as libc::socklen_t);
        // SAFETY: the descriptor is open as long as `self`, and the option's value is one int that lives through the call.
        let answer = unsafe { libc::setsockopt(self.0.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, value, length) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_reader_sleeps_below_the_mark_and_wakes_when_it_is_lowered() {
        let listener = listen("127.0.0.1:0").await.unwrap();
        let mut reader = connect("127.0.0.1", listener.local_addr().unwrap().port()).await.unwrap();
        let (mut writer, _) = listener.accept().await.unwrap();
        let mark = LowWater::of(&reader).unwrap();
        mark.set(1000).unwrap();
        let mut buffer = [0; 4096];
        // Nothing is there: the reader waits from here on.
        assert!(reader.read(&mut buffer).now_or_never().is_none());
        writer.write_all(&[7; 999]).await.unwrap();
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, reader.read(&mut buffer)).await.is_err());
        mark.set(1).unwrap();
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 999);
        mark.set(1000).unwrap();
        writer.write_all(&[7; 1000]).await.unwrap();
        assert!(reader.read(&mut buffer).await.unwrap() > 0);
    }
}
