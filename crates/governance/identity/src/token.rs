//! Tokens: passwords for programs. Random, so that a plain hash of them is enough; named by what anybody may see; they end.

use crate::scram::same;
use mainstem_env::Env;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What is kept of a token. Its text, shown once, is `mst_<id>_<secret>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: String,
    hash: String,
    /// Milliseconds since 1970; from then on it is worth nothing. None: until it is taken back.
    pub expires_ms: Option<i64>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Token {
    /// A new one, with its text.
    pub fn new(env: &Env, expires_ms: Option<i64>) -> (Self, String) {
        let (id, secret) = (hex(&env.random::<6>()), hex(&env.random::<24>()));
        let text = format!("mst_{id}_{secret}");
        (Self { id, hash: hex(&Sha256::digest(secret)), expires_ms }, text)
    }

    /// The id and the secret in a text, if it is a token's.
    pub fn parts(text: &str) -> Option<(&str, &str)> {
        text.strip_prefix("mst_")?.split_once('_')
    }

    pub fn check(&self, secret: &str, now_ms: i64) -> bool {
        let alive = self.expires_ms.is_none_or(|end| now_ms < end);
        same(hex(&Sha256::digest(secret)).as_bytes(), self.hash.as_bytes()) && alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_until_it_ends() {
        let (token, text) = Token::new(&Env::real(), Some(1000));
        let (id, secret) = Token::parts(&text).unwrap();
        assert_eq!(id, token.id);
        assert!(token.check(secret, 999) && !token.check(secret, 1000) && !token.check("", 0) && !token.check(id, 0));
        assert!(!format!("{token:?}").contains(secret));
        assert_eq!(Token::parts("mst_x"), None);
        assert_eq!(Token::parts("password"), None);
    }
}
