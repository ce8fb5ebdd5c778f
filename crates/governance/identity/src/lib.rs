//! Who may log in, and what is kept of their secrets: never a password, only what checks one.
//!
//! Doors ask here and run their own exchange; whether somebody may do what they ask is decided elsewhere.

pub mod attempts;
pub mod codes;
pub mod password;
pub mod scram;
pub mod token;
pub mod users;

pub use attempts::Attempts;
pub use password::Passwords;
pub use scram::{Mechanism, Verifier};
pub use users::{User, Users};
