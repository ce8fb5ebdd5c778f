//! The Postgres wire: translates the protocol to `SqlService` and decides nothing.
//!
//! Protocol 3.0 and 3.2 as in the chapter "Frontend/Backend Protocol" of the PostgreSQL manual. The messages are read and written by
//! our own code: decoders that are to face the network must refuse every malformed body, and rows go from Arrow arrays to the
//! socket's buffer without a value in between.

mod arrays;
pub mod codes;
mod connection;
mod copy;
mod encode;
mod extended;
#[doc(hidden)]
pub mod fuzz;
mod message;
pub mod metrics;
mod number;
mod parameter;
mod reply;
mod scram;
mod server;
mod session;
mod startup;
mod text;
mod types;

pub use server::{Backend, Credentials, PgServer, PgSettings};
