//! One transport for everything we say to a Postgres server: catalog queries, COPY and replication. It frames messages itself so
//! that rows are read in place, without an allocation or a reference count per message; `postgres-protocol` writes what we send and
//! does SCRAM.

mod certificate;
mod connect;
mod failure;
mod frames;
mod quote;
mod session;
pub mod tls;

pub use connect::{ChannelBinding, Host, Target};
pub use failure::ServerError;
pub use frames::{Duplex, Frame, FrameReader, Io, protocol};
pub use quote::{quote_name, quote_text};
pub use session::{Cells, Row, Session};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            ServerError::parse(&bytes);
            tls::end_point(&bytes);
        }
    }
}
