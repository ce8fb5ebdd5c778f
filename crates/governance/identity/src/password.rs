//! What is kept of a password: a verifier for each way to prove it, so that no door needs the password itself.

use crate::codes;
use crate::scram::{ITERATIONS, Mechanism, Verifier};
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use mainstem_env::Env;
use mainstem_types::{Error, Result};
use serde::{Deserialize, Serialize};

/// Longer ones are somebody's attempt to make the server compute.
const PASSWORD_BYTES_MAX: usize = 1024;

/// Verifiers of one password. Given as a verifier it has that one alone. `Debug` shows nothing of them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passwords {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scram_sha_256: Option<Verifier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scram_sha_512: Option<Verifier>,
    /// In the PHC string format; for doors over which the password itself comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argon2id: Option<String>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

impl Passwords {
    /// `given` is the password, or a SCRAM verifier of it (psql's `\password` sends one). Computes for some 50 ms: call it in
    /// `mainstem_env::blocking`. `USR-002` says which rule it breaks.
    pub fn new(env: &Env, given: &str) -> Result<Self> {
        let refuse = |why: &str| Error::fix(codes::PASSWORD, format!("this password is not taken: {why}"));
        if given.is_empty() {
            return Err(refuse("it is empty").hint("Give one that is hard to guess."));
        }
        if given.len() > PASSWORD_BYTES_MAX {
            return Err(refuse("it is longer than 1024 bytes").hint("Give a shorter one."));
        }
        if given.starts_with("SCRAM-SHA-") && given.contains('$') {
            return given.parse::<Verifier>().map(Self::of);
        }
        let md5 = given.strip_prefix("md5").is_some_and(|d| d.len() == 32 && d.bytes().all(|b| b.is_ascii_hexdigit()));
        if md5 {
            return Err(refuse("it is an MD5 verifier")
                .hint("Run SET password_encryption = 'scram-sha-256' first, or give the password."));
        }
        let scram = |mechanism| Some(Verifier::new(mechanism, given, env.random(), ITERATIONS));
        let failed = |_| Error::bug(codes::PASSWORD, "a password could not be hashed");
        let salt = SaltString::encode_b64(&env.random::<16>()).map_err(failed)?;
        let argon2id = Argon2::default().hash_password(given.as_bytes(), &salt).map_err(failed)?.to_string();
        Ok(Self { scram_sha_256: scram(Mechanism::Sha256), scram_sha_512: scram(Mechanism::Sha512), argon2id: Some(argon2id) })
    }

    pub fn of(verifier: Verifier) -> Self {
        let mut passwords = Self::default();
        match verifier.mechanism() {
            Mechanism::Sha256 => passwords.scram_sha_256 = Some(verifier),
            Mechanism::Sha512 => passwords.scram_sha_512 = Some(verifier),
        }
        passwords
    }

    pub fn verifier(&self, mechanism: Mechanism) -> Option<&Verifier> {
        match mechanism {
            Mechanism::Sha256 => self.scram_sha_256.as_ref(),
            Mechanism::Sha512 => self.scram_sha_512.as_ref(),
        }
    }

    /// Whether this is the password. Computes for some 20 ms. A password that was given as a verifier is checked with that.
    pub fn check(&self, password: &str) -> bool {
        if let Some(hash) = self.argon2id.as_deref().and_then(|text| PasswordHash::new(text).ok()) {
            return password.len() <= PASSWORD_BYTES_MAX && Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        }
        let kept = self.scram_sha_256.as_ref().or(self.scram_sha_512.as_ref());
        kept.is_some_and(|kept| {
            let salt = <[u8; 16]>::try_from(kept.salt());
            salt.is_ok_and(|salt| Verifier::new(kept.mechanism(), password, salt, kept.iterations()) == *kept)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_for_every_way_to_prove_it() {
        let env = Env::real();
        let passwords = Passwords::new(&env, "pass wörd").unwrap();
        assert!(passwords.check("pass wörd") && !passwords.check("pass word") && !passwords.check(""));
        let verifier = passwords.verifier(Mechanism::Sha256).unwrap().clone();
        assert!(passwords.verifier(Mechanism::Sha512).is_some());
        // As psql sends it: that verifier and nothing else.
        let sent = Passwords::new(&env, &verifier.to_string()).unwrap();
        assert!(sent.verifier(Mechanism::Sha256) == Some(&verifier) && sent.verifier(Mechanism::Sha512).is_none());
        assert!(sent.check("pass wörd") && !sent.check("pass word"));
    }

    #[test]
    fn rules() {
        let env = Env::real();
        let long = "x".repeat(1025);
        for (given, code) in [
            ("", "USR-002"),
            (long.as_str(), "USR-002"),
            ("md50123456789abcdef0123456789abcdef", "USR-002"),
            ("SCRAM-SHA-256$4096:xx", "USR-001"),
        ] {
            assert_eq!(Passwords::new(&env, given).unwrap_err().code().id, code, "{given}");
        }
    }
}
