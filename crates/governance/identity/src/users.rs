//! The users: their state in `_mainstem.users`, who may log in, and what is declared about them.

use crate::codes;
use crate::password::Passwords;
use crate::scram::{Mechanism, Verifier};
use crate::token::Token;
use async_trait::async_trait;
use mainstem_env::Env;
use mainstem_eventlog::{Compacted, EventLog, Value};
use mainstem_types::control::{Control, Outcome, UserDeclaration, shown_name};
use mainstem_types::ids::ADMIN;
use mainstem_types::{Error, Principal, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

type Cause = Box<dyn std::error::Error + Send + Sync>;

const TOPIC: &str = "_mainstem.users";
/// As in Postgres.
const NAME_BYTES_MAX: usize = 63;

/// One who may log in. A group is a name in its members' records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub passwords: Passwords,
    /// A program: it logs in with tokens, and no person is asked for a password.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub service: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

/// A user as the topic has it: JSON.
#[derive(Clone)]
struct Record(User);

impl Value for Record {
    fn encode(&self) -> Result<Vec<u8>, Cause> {
        Ok(serde_json::to_vec(&self.0)?)
    }

    /// A bare verifier of SCRAM-SHA-256, as `pg_authid` has it, is a user of an older version.
    fn decode(bytes: &[u8]) -> Result<Self, Cause> {
        if bytes.starts_with(b"SCRAM-SHA-") {
            let verifier = std::str::from_utf8(bytes)?.parse().map_err(|_| "no SCRAM verifier")?;
            return Ok(Self(User { passwords: Passwords::of(verifier), ..User::default() }));
        }
        Ok(Self(serde_json::from_slice(bytes)?))
    }
}

/// All users. Changes are durable when their call returns, and what is asked after that sees them.
pub struct Users {
    env: Env,
    users: Compacted<String, Record>,
    /// One change at a time: each is checked against what is there.
    changing: tokio::sync::Mutex<()>,
}

impl Users {
    /// Reads the users from their topic, which is made when there is none.
    pub async fn open(env: Env, log: Arc<dyn EventLog>) -> Result<Self> {
        let users = Compacted::open(env.clone(), log, TOPIC).await?;
        Ok(Self { env, users, changing: tokio::sync::Mutex::default() })
    }

    fn get(&self, name: &str) -> Option<User> {
        self.users.get(&name.to_owned()).map(|record| record.0)
    }

    async fn put(&self, name: &str, user: User) -> Result<()> {
        self.users.put(name.to_owned(), Record(user)).await
    }

    pub fn exists(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn verifier(&self, name: &str, mechanism: Mechanism) -> Option<Verifier> {
        self.get(name)?.passwords.verifier(mechanism).cloned()
    }

    /// For doors over which the password itself comes; computes for some 20 ms.
    pub async fn check(&self, name: &str, password: String) -> bool {
        let Some(user) = self.get(name) else { return false };
        mainstem_env::blocking(move || user.passwords.check(&password)).await == Some(true)
    }

    /// Whose token this is, if it is one that is still worth something.
    pub fn token(&self, text: &str) -> Option<Principal> {
        let (id, secret) = Token::parts(text)?;
        let now_ms = self.env.clock.now_us() / 1000;
        let owns = |user: &User| user.tokens.iter().any(|token| token.id == id && token.check(secret, now_ms));
        self.users.entries().into_iter().find(|(_, user)| owns(&user.0)).map(|(name, _)| Principal(name.as_str().into()))
    }

    /// Gives a user a token; its text is returned and kept nowhere.
    pub async fn add_token(&self, name: &str, expires_ms: Option<i64>) -> Result<String> {
        let _changing = self.changing.lock().await;
        let mut user = self.user(name)?;
        let (token, text) = Token::new(&self.env, expires_ms);
        user.tokens.push(token);
        self.put(name, user).await?;
        Ok(text)
    }

    /// Sets the password, plain or as a verifier; makes the user when there is none. For who need not be asked: the first start, and the
    /// command line of a stopped server.
    pub async fn set_password(&self, name: &str, password: &str) -> Result<()> {
        let _changing = self.changing.lock().await;
        let user = self.get(name).unwrap_or_default();
        self.put_password(name, user, password).await
    }

    async fn put_password(&self, name: &str, mut user: User, password: &str) -> Result<()> {
        check_name(name)?;
        let (env, password) = (self.env.clone(), password.to_owned());
        let made = mainstem_env::blocking(move || Passwords::new(&env, &password)).await;
        user.passwords = made.unwrap_or_else(|| Err(Error::bug(codes::PASSWORD, "a password could not be hashed")))?;
        self.put(name, user).await
    }

    fn user(&self, name: &str) -> Result<User> {
        let absent = || Error::fix(codes::ABSENT, format!("role \"{}\" does not exist", shown_name(name)));
        self.get(name).ok_or_else(absent)
    }
}

fn check_name(name: &str) -> Result<()> {
    let bad = name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control);
    if bad || name.starts_with("pg_") || name.starts_with("mainstem") {
        return Err(Error::fix(codes::NAME, "this cannot be a user's name")
            .hint("A name has 1 to 63 bytes, no control characters, and begins with neither `pg_` nor `mainstem`."));
    }
    Ok(())
}

#[async_trait]
impl Control<UserDeclaration> for Users {
    async fn execute(&self, _: &Principal, declaration: UserDeclaration) -> Result<Outcome> {
        let _changing = self.changing.lock().await;
        match declaration {
            UserDeclaration::Create { name, .. } if self.exists(&name) => {
                return Err(Error::fix(codes::TAKEN, format!("role \"{}\" already exists", shown_name(&name)))
                    .hint("ALTER USER ... PASSWORD '...' gives it another password."));
            }
            UserDeclaration::Create { name, password } => self.put_password(&name, User::default(), &password).await?,
            UserDeclaration::Alter { name, password } => {
                let user = self.user(&name)?;
                self.put_password(&name, user, &password).await?;
            }
            UserDeclaration::Drop { name, .. } if name == ADMIN => {
                return Err(Error::fix(codes::LAST, "the last administrator cannot be dropped"));
            }
            UserDeclaration::Drop { name, if_exists: true } if !self.exists(&name) => {
                let skipped = format!("role \"{}\" does not exist, skipping", shown_name(&name));
                return Ok(Outcome::notices(vec![skipped]));
            }
            UserDeclaration::Drop { name, .. } => {
                self.user(&name)?;
                self.users.remove(name).await?;
            }
        }
        Ok(Outcome::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_older_version_is_read() {
        let verifier = Verifier::new(Mechanism::Sha256, "secret", [1; 16], 4096);
        let user = Record::decode(verifier.to_string().as_bytes()).unwrap().0;
        assert!(user.passwords.check("secret") && user.passwords.verifier(Mechanism::Sha256) == Some(&verifier));
        assert!([&b"SCRAM-SHA-256$4096:cut"[..], b"", b"{"].iter().all(|bytes| Record::decode(bytes).is_err()));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let env = Env::real();
        let (token, text) = Token::new(&env, None);
        let groups = BTreeSet::from(["readers".to_owned()]);
        let user = User { passwords: Passwords::new(&env, "secret").unwrap(), service: true, groups, tokens: vec![token] };
        let bytes = Record(user.clone()).encode().unwrap();
        assert_eq!(Record::decode(&bytes).unwrap().0, user);
        let shown = String::from_utf8(bytes).unwrap();
        assert!(!shown.contains("\"secret\"") && !shown.contains(Token::parts(&text).unwrap().1));
    }

    #[test]
    fn names() {
        for (name, good) in [("eve", true), ("Ève", true), ("", false), ("pg_x", false), ("a\nb", false)] {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
        assert!(check_name(&"x".repeat(64)).is_err());
    }
}
