//! Who may log in: SCRAM verifiers in `_mainstem.users`. `admin` is the only user yet.

use mainstem_env::Env;
use mainstem_eventlog::{Compacted, EventLog, Value};
use mainstem_pgwire::Credentials;
use mainstem_pgwire::scram::{ITERATIONS, Verifier};
use mainstem_types::Result;
use std::sync::Arc;

type Cause = Box<dyn std::error::Error + Send + Sync>;

const USER_TOPIC: &str = "_mainstem.users";
pub const ADMIN: &str = "admin";

/// All users with their verifiers; no password is kept.
pub struct Users(Compacted<String, Stored>);

/// A verifier as its record has it: PostgreSQL's text form.
#[derive(Clone)]
struct Stored(Verifier);

impl Value for Stored {
    fn encode(&self) -> Result<Vec<u8>, Cause> {
        Ok(self.0.to_string().into_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Cause> {
        let verifier = std::str::from_utf8(bytes)?.parse().map_err(|_| "no SCRAM verifier")?;
        Ok(Self(verifier))
    }
}

impl Credentials for Users {
    fn verifier(&self, user: &str) -> Option<Verifier> {
        self.0.get(&user.to_string()).map(|stored| stored.0)
    }
}

/// Reads the users; makes `admin` at the first start. Returns the password that was made and is shown once, if one was.
pub async fn open(env: &Env, log: &Arc<dyn EventLog>, given: Option<String>) -> Result<(Users, Option<String>)> {
    let users = Compacted::open(env.clone(), log.clone(), USER_TOPIC).await?;
    if users.get(&ADMIN.to_string()).is_some() {
        return Ok((Users(users), None));
    }
    let (password, made) = match given {
        Some(password) => (password, None),
        None => {
            let password: String = env.random::<12>().iter().map(|b| format!("{b:02x}")).collect();
            (password.clone(), Some(password))
        }
    };
    let verifier = Verifier::new(&password, env.random(), ITERATIONS);
    users.put(ADMIN.to_string(), Stored(verifier)).await?;
    Ok((Users(users), made))
}
