//! The Postgres wire: translates the protocol to SqlService and decides nothing.
