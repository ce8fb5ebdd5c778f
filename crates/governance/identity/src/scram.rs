//! Verifiers of SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), in the text form in which Postgres keeps them. The exchange itself is
//! the door's.

use crate::codes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mainstem_types::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::digest::Output;
use sha2::digest::core_api::BlockSizeUser;
use sha2::{Digest, Sha256, Sha512};
use std::fmt;
use std::str::FromStr;

/// As Postgres and Kafka have them.
pub const ITERATIONS: u32 = 4096;
const ITERATIONS_MAX: u32 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Sha256,
    Sha512,
}

impl Mechanism {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn key_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha256 => hmac::<Sha256>(key, parts).to_vec(),
            Self::Sha512 => hmac::<Sha512>(key, parts).to_vec(),
        }
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => salted::<Sha256>(password, salt, iterations),
            Self::Sha512 => salted::<Sha512>(password, salt, iterations),
        }
    }
}

/// What a server keeps of a password: enough to check a client and to prove itself, not enough to log in elsewhere.
/// Its text form is `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Verifier {
    mechanism: Mechanism,
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Verifier {
    /// `salt` is random (`env.random()`); `iterations` is normally [`ITERATIONS`].
    pub fn new(mechanism: Mechanism, password: &str, salt: [u8; 16], iterations: u32) -> Self {
        // As Postgres: a password that SASLprep refuses is taken as its bytes.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let salted = mechanism.salted(prepared.as_bytes(), &salt, iterations.max(1));
        let stored_key = mechanism.hash(&mechanism.hmac(&salted, &[b"Client Key"]));
        let server_key = mechanism.hmac(&salted, &[b"Server Key"]);
        Self { mechanism, salt: salt.to_vec(), iterations: iterations.max(1), stored_key, server_key }
    }

    /// For users that do not exist: the same salt for the same name under one `secret`, and keys that no password has.
    pub fn fake(mechanism: Mechanism, user: &str, secret: &[u8; 32], random: [u8; 32]) -> Self {
        let salt = Mechanism::Sha256.hmac(secret, &[user.as_bytes()])[..16].to_vec();
        let key = mechanism.hash(&random);
        Self { mechanism, salt, iterations: ITERATIONS, stored_key: key.clone(), server_key: key }
    }

    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Checks a client's proof over what both have said; the server's signature when it is right.
    pub fn check(&self, said: &[&[u8]], proof: &[u8]) -> Option<Vec<u8>> {
        let signature = self.mechanism.hmac(&self.stored_key, said);
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(p, s)| p ^ s).collect();
        let right = proof.len() == signature.len() && same(&self.mechanism.hash(&client_key), &self.stored_key);
        let answer = self.mechanism.hmac(&self.server_key, said);
        right.then_some(answer)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, stored, server) =
            (BASE64.encode(&self.salt), BASE64.encode(&self.stored_key), BASE64.encode(&self.server_key));
        write!(f, "{}${}:{salt}${stored}:{server}", self.mechanism.name(), self.iterations)
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
        let parse = || {
            let (name, rest) = text.split_once('$')?;
            let mechanism = [Mechanism::Sha256, Mechanism::Sha512].into_iter().find(|m| m.name() == name)?;
            let (iterations, rest) = rest.split_once(':')?;
            let (salt, keys) = rest.split_once('$')?;
            let (stored, server) = keys.split_once(':')?;
            let key = |text: &str| BASE64.decode(text).ok().filter(|key| key.len() == mechanism.key_bytes());
            let iterations = iterations.parse().ok().filter(|n| (1..=ITERATIONS_MAX).contains(n))?;
            let (salt, stored_key, server_key) = (BASE64.decode(salt).ok()?, key(stored)?, key(server)?);
            Some(Self { mechanism, salt, iterations, stored_key, server_key })
        };
        parse().ok_or_else(|| Error::fix(codes::VERIFIER, "this is not a SCRAM verifier").hint("Set the password again."))
    }
}

/// Compares in a time that does not depend on where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

fn hmac<D: Digest + BlockSizeUser>(key: &[u8], parts: &[&[u8]]) -> Output<D> {
    let mut block = vec![0; D::block_size()];
    match block.get_mut(..key.len()) {
        Some(start) => start.copy_from_slice(key),
        None => block.iter_mut().zip(D::digest(key)).for_each(|(b, k)| *b = k),
    }
    let padded = |pad: u8| D::new_with_prefix(block.iter().map(|b| b ^ pad).collect::<Vec<_>>());
    let mut inner = padded(0x36);
    parts.iter().for_each(|part| inner.update(part));
    padded(0x5c).chain_update(inner.finalize()).finalize()
}

/// PBKDF2, one block.
fn salted<D: Digest + BlockSizeUser>(password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
    let mut last = hmac::<D>(password, &[salt, &1u32.to_be_bytes()]);
    let mut sum = last.to_vec();
    for _ in 1..iterations {
        last = hmac::<D>(password, &[&last]);
        sum.iter_mut().zip(last.iter()).for_each(|(s, l)| *s ^= l);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn rfc_7677_example() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let verifier = Verifier::new(Mechanism::Sha256, "pencil", salt, 4096);
        let said = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                    c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let mut proof = BASE64.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let answer = verifier.check(&[said.as_bytes()], &proof).unwrap();
        assert_eq!(BASE64.encode(answer), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        proof[0] ^= 1;
        assert_eq!(verifier.check(&[said.as_bytes()], &proof), None);
        assert_eq!(verifier.check(&[said.as_bytes()], &[]), None);
        let text = verifier.to_string();
        assert_eq!(text.parse::<Verifier>().unwrap(), verifier);
        assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"), "{text}");
    }

    /// RFC 4231, test case 2, and RFC 7914's neighbours: a wrong block size shows here.
    #[test]
    fn sha_512() {
        let code = Mechanism::Sha512.hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            BASE64.encode(&code),
            "Fkt6e/z4GeLjlfvnO1bgo4e9ZCIugx/WECcM1+olBVSXWL91wFqZSm0DT2X48Ob9yuqxo01Ka0tjbgcKOLznNw=="
        );
        let verifier = Verifier::new(Mechanism::Sha512, "pencil", [1; 16], 4096);
        assert_eq!(verifier.to_string().parse::<Verifier>().unwrap(), verifier);
        assert_eq!(verifier.stored_key.len(), 64);
    }

    #[test]
    fn malformed_is_refused() {
        for text in ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AA==$AA==:AA==", "md5abc", "SCRAM-SHA-256$4096:!!$x:y"] {
            assert!(text.parse::<Verifier>().is_err(), "{text}");
        }
        // The keys of the one under the name of the other.
        let text = Verifier::new(Mechanism::Sha256, "x", [1; 16], 1).to_string().replace("256", "512");
        assert!(text.parse::<Verifier>().is_err(), "{text}");
    }
}
