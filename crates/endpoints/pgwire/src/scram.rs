//! SCRAM-SHA-256 (RFC 5802, RFC 7677), server side. Only verifiers are kept, in the text form in which Postgres keeps them.

use crate::codes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mainstem_types::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

pub const ITERATIONS: u32 = 4096;
const ITERATIONS_MAX: u32 = 1_000_000;
const BLOCK_BYTES: usize = 64;
type Key = [u8; 32];

/// What a server keeps of a password: enough to check a client and to prove itself, not enough to log in elsewhere.
/// Its text form is `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Verifier {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// `salt` is random (`env.random()`); `iterations` is normally [`ITERATIONS`].
    pub fn new(password: &str, salt: [u8; 16], iterations: u32) -> Self {
        // As Postgres: a password that SASLprep refuses is taken as its bytes.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let salted = salted_password(prepared.as_bytes(), &salt, iterations.max(1));
        let stored_key = Sha256::digest(hmac(&salted, &[b"Client Key"])).into();
        Self { salt: salt.to_vec(), iterations: iterations.max(1), stored_key, server_key: hmac(&salted, &[b"Server Key"]) }
    }

    /// For users that do not exist: the same salt for the same name, and keys that no password has.
    fn fake(user: &str, secret: &Key, random: Key) -> Self {
        let salt = hmac(secret, &[user.as_bytes()])[..16].to_vec();
        Self { salt, iterations: ITERATIONS, stored_key: random, server_key: random }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, stored, server) = (BASE64.encode(&self.salt), BASE64.encode(self.stored_key), BASE64.encode(self.server_key));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl From<Verifier> for String {
    fn from(verifier: Verifier) -> String {
        verifier.to_string()
    }
}

impl TryFrom<String> for Verifier {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Verifier {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::fix(codes::VERIFIER, "a stored password is not a SCRAM-SHA-256 verifier; set the password again");
        let parse = || {
            let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
            let (salt, keys) = rest.split_once('$')?;
            let (stored, server) = keys.split_once(':')?;
            let key = |text: &str| Key::try_from(BASE64.decode(text).ok()?).ok();
            let iterations = iterations.parse().ok().filter(|n| (1..=ITERATIONS_MAX).contains(n))?;
            Some(Self { salt: BASE64.decode(salt).ok()?, iterations, stored_key: key(stored)?, server_key: key(server)? })
        };
        parse().ok_or_else(refuse)
    }
}

/// One exchange: `first` gives the server's first message, `finish` checks the client's proof.
pub(crate) struct Exchange {
    verifier: Verifier,
    known: bool,
    gs2_header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl Exchange {
    /// `client_first` as sent; an unknown user (`verifier` None) goes through the same steps and fails at the last.
    pub fn first(client_first: &[u8], user: &str, verifier: Option<Verifier>, secret: &Key, random: [Key; 2]) -> Result<Self> {
        let text = std::str::from_utf8(client_first).map_err(|_| malformed())?;
        let bare_at = text.match_indices(',').nth(1).ok_or_else(malformed)?.0 + 1;
        let (gs2_header, bare) = text.split_at(bare_at);
        if !gs2_header.starts_with("n,") && !gs2_header.starts_with("y,") {
            return Err(Error::fix(codes::UNSUPPORTED, "channel binding is not offered by this server"));
        }
        let mut client_nonce = None;
        for attribute in bare.split(',') {
            match attribute.as_bytes() {
                [b'm', b'=', ..] => return Err(malformed()),
                [b'r', b'=', _, ..] => client_nonce = client_nonce.or(attribute.get(2..)),
                _ => {}
            }
        }
        let client_nonce = client_nonce.ok_or_else(malformed)?;
        let nonce = format!("{client_nonce}{}", BASE64.encode(&random[0][..18]));
        let known = verifier.is_some();
        let verifier = verifier.unwrap_or_else(|| Verifier::fake(user, secret, random[1]));
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        let (gs2_header, client_first_bare) = (gs2_header.to_string(), bare.to_string());
        Ok(Self { verifier, known, gs2_header, client_first_bare, server_first, nonce })
    }

    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// The server's last message, or None when the proof is wrong.
    pub fn finish(&self, client_final: &[u8]) -> Result<Option<String>> {
        let text = std::str::from_utf8(client_final).map_err(|_| malformed())?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(malformed)?;
        let proof = Key::try_from(BASE64.decode(proof).map_err(|_| malformed())?).map_err(|_| malformed())?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c=")).ok_or_else(malformed)?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).ok_or_else(malformed)?;
        if binding != BASE64.encode(&self.gs2_header) || nonce != self.nonce {
            return Err(malformed());
        }
        let said = [self.client_first_bare.as_bytes(), b",", self.server_first.as_bytes(), b",", without_proof.as_bytes()];
        let signature = hmac(&self.verifier.stored_key, &said);
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(k, s)| *k ^= s);
        let right = same(&Key::from(Sha256::digest(client_key)), &self.verifier.stored_key);
        let proof = format!("v={}", BASE64.encode(hmac(&self.verifier.server_key, &said)));
        Ok((right && self.known).then_some(proof))
    }
}

fn malformed() -> Error {
    Error::fix(codes::PROTOCOL, "malformed SCRAM message")
}

/// Compares in a time that does not depend on where they differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut block = [0; BLOCK_BYTES];
    match block.get_mut(..key.len()) {
        Some(start) => start.copy_from_slice(key),
        None => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let mut inner = Sha256::new_with_prefix(block.map(|b| b ^ 0x36));
    parts.iter().for_each(|part| inner.update(part));
    Sha256::new_with_prefix(block.map(|b| b ^ 0x5c)).chain_update(inner.finalize()).finalize().into()
}

/// PBKDF2 with HMAC-SHA-256, one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut last = hmac(password, &[salt, &1u32.to_be_bytes()]);
    let mut sum = last;
    for _ in 1..iterations {
        last = hmac(password, &[&last]);
        sum.iter_mut().zip(last).for_each(|(s, l)| *s ^= l);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3, with its server nonce put in.
    #[test]
    fn rfc_7677_example() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let verifier = Verifier::new("pencil", salt, 4096);
        let mut exchange =
            Exchange::first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "user", Some(verifier.clone()), &[0; 32], [[1; 32]; 2]).unwrap();
        exchange.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into();
        exchange.server_first = format!("r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", exchange.nonce);
        let right = format!("c=biws,r={},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", exchange.nonce);
        let answer = exchange.finish(right.as_bytes()).unwrap();
        assert_eq!(answer.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        let wrong = right.replace("p=dHzb", "p=dHzc");
        assert_eq!(exchange.finish(wrong.as_bytes()).unwrap(), None);
        let text = verifier.to_string();
        assert_eq!(text.parse::<Verifier>().unwrap(), verifier);
        assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"), "{text}");
    }

    #[test]
    fn malformed_is_refused() {
        for text in ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AA==$AA==:AA==", "md5abc", "SCRAM-SHA-256$4096:!!$x:y"] {
            assert!(text.parse::<Verifier>().is_err(), "{text}");
        }
        for first in ["", "n", "n,,", "n,,n=a", "n,,n=a,r=", "p=tls-unique,,n=a,r=x", "n,,m=x,n=a,r=b"] {
            assert!(Exchange::first(first.as_bytes(), "a", None, &[0; 32], [[1; 32]; 2]).is_err(), "{first}");
        }
        let exchange = Exchange::first(b"n,,n=a,r=x", "a", None, &[0; 32], [[1; 32]; 2]).unwrap();
        for last in ["", "c=biws", ",p=", "c=biws,r=x,p=AAAA", "c=eSws,r=x,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="] {
            assert!(exchange.finish(last.as_bytes()).is_err(), "{last}");
        }
    }
}
