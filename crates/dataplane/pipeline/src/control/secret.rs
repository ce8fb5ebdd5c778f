//! Passwords of sources at rest: ChaCha20-Poly1305 under a key from a file of the data directory or given from outside.

use crate::codes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use mainstem_env::Env;
use mainstem_types::{Error, Result};
use std::path::Path;

/// 256-bit key for secrets at rest. Has no `Debug`: it is never printed.
pub struct SecretKey(ChaCha20Poly1305);

impl SecretKey {
    /// From 64 hexadecimal digits, as given from outside.
    pub fn from_hex(text: &str) -> Result<Self> {
        let bad = || {
            Error::fix(codes::SECRET_KEY, "the secret key is not 64 hexadecimal digits")
                .hint("Make one with `openssl rand -hex 32`.")
        };
        let text = text.trim();
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut key = [0u8; 32];
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        }
        Ok(Self(ChaCha20Poly1305::new(Key::from_slice(&key))))
    }

    /// Reads the key file, or makes it, readable for its owner alone.
    pub fn from_file(env: &Env, path: &Path) -> Result<Self> {
        let wrap =
            |e: std::io::Error| Error::fix(codes::SECRET_KEY, format!("cannot use the key file {}", path.display())).caused_by(e);
        if !env.disk.exists(path) {
            let key: [u8; 32] = env.random();
            let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
            env.disk.replace(path, hex.as_bytes()).map_err(wrap)?;
            env.disk.make_private(path).map_err(wrap)?;
        }
        let bytes = env.disk.read(path).map_err(wrap)?;
        Self::from_hex(&String::from_utf8_lossy(&bytes))
    }

    /// Base64 of nonce and ciphertext.
    pub fn seal(&self, env: &Env, clear: &str) -> Result<String> {
        let nonce: [u8; 12] = env.random();
        let sealed = self
            .0
            .encrypt(Nonce::from_slice(&nonce), clear.as_bytes())
            .map_err(|_| Error::bug(codes::SECRET_KEY, "a secret could not be encrypted"))?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    pub fn open(&self, sealed: &str) -> Result<String> {
        let wrong = || {
            Error::fix(codes::SECRET_KEY, "a stored secret does not open with this key")
                .hint("Start with the key file (or MAINSTEM_SECRET_KEY) that this data directory was made with.")
        };
        let bytes = STANDARD.decode(sealed).map_err(|_| wrong())?;
        if bytes.len() < 12 {
            return Err(wrong());
        }
        let clear = self.0.decrypt(Nonce::from_slice(&bytes[..12]), &bytes[12..]).map_err(|_| wrong())?;
        String::from_utf8(clear).map_err(|_| wrong())
    }
}

/// The URL with its password taken out, for showing: `postgres://app:***@host/db` becomes `postgres://app@host/db`.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".to_string() };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let shown = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or("")),
        None => authority.to_string(),
    };
    let path = match path.split_once('?') {
        Some((path, query)) => {
            let kept: Vec<&str> = query.split('&').filter(|p| !p.to_ascii_lowercase().starts_with("password=")).collect();
            if kept.is_empty() { path.to_string() } else { format!("{path}?{}", kept.join("&")) }
        }
        None => path.to_string(),
    };
    format!("{scheme}://{shown}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        assert_eq!(without_password(url), expected);
    }

    #[test]
    fn urls_are_shown_without_passwords() {
        check("postgres://app:secret@localhost:5432/sakila", "postgres://app@localhost:5432/sakila");
        check("postgres://app:se@cret@h/db", "postgres://app@h/db");
        check("postgres://h/db?password=x&sslmode=require", "postgres://h/db?sslmode=require");
        check("postgres://h/db?password=x", "postgres://h/db");
        check("nonsense:secret", "***");
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // looks at the file as another program would
    fn the_key_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        SecretKey::from_file(&Env::real(), &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        SecretKey::from_file(&Env::real(), &path).unwrap();
    }

    #[test]
    fn sealed_secrets_open_only_with_their_key() {
        let env = Env::real();
        let key = SecretKey::from_hex(&"ab".repeat(32)).unwrap();
        let sealed = key.seal(&env, "postgres://u:p@h/d").unwrap();
        assert!(!sealed.contains("postgres"));
        assert_eq!(key.open(&sealed).unwrap(), "postgres://u:p@h/d");
        let other = SecretKey::from_hex(&"cd".repeat(32)).unwrap();
        assert_eq!(other.open(&sealed).unwrap_err().code(), codes::SECRET_KEY);
    }
}
