//! The exchange of SCRAM-SHA-256 (RFC 5802, RFC 7677), server side. What is kept of passwords is `mainstem-identity`'s.

use crate::codes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mainstem_identity::{Mechanism, Verifier};
use mainstem_types::{Error, Result};

type Random = [u8; 32];

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
    pub fn first(
        client_first: &[u8],
        user: &str,
        verifier: Option<Verifier>,
        secret: &Random,
        random: [Random; 2],
    ) -> Result<Self> {
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
        let verifier = verifier.unwrap_or_else(|| Verifier::fake(Mechanism::Sha256, user, secret, random[1]));
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(verifier.salt()), verifier.iterations());
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
        let proof = BASE64.decode(proof).map_err(|_| malformed())?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c=")).ok_or_else(malformed)?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).ok_or_else(malformed)?;
        if binding != BASE64.encode(&self.gs2_header) || nonce != self.nonce {
            return Err(malformed());
        }
        let said = [self.client_first_bare.as_bytes(), b",", self.server_first.as_bytes(), b",", without_proof.as_bytes()];
        let answer = self.verifier.check(&said, &proof).filter(|_| self.known);
        Ok(answer.map(|signature| format!("v={}", BASE64.encode(signature))))
    }
}

fn malformed() -> Error {
    Error::fix(codes::PROTOCOL, "malformed SCRAM message")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3, with its server nonce put in.
    #[test]
    fn rfc_7677_example() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let verifier = Verifier::new(Mechanism::Sha256, "pencil", salt, 4096);
        let mut exchange =
            Exchange::first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "user", Some(verifier), &[0; 32], [[1; 32]; 2]).unwrap();
        exchange.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into();
        exchange.server_first = format!("r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", exchange.nonce);
        let right = format!("c=biws,r={},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", exchange.nonce);
        let answer = exchange.finish(right.as_bytes()).unwrap();
        assert_eq!(answer.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        let wrong = right.replace("p=dHzb", "p=dHzc");
        assert_eq!(exchange.finish(wrong.as_bytes()).unwrap(), None);
    }

    #[test]
    fn malformed_is_refused() {
        for first in ["", "n", "n,,", "n,,n=a", "n,,n=a,r=", "p=tls-unique,,n=a,r=x", "n,,m=x,n=a,r=b"] {
            assert!(Exchange::first(first.as_bytes(), "a", None, &[0; 32], [[1; 32]; 2]).is_err(), "{first}");
        }
        let exchange = Exchange::first(b"n,,n=a,r=x", "a", None, &[0; 32], [[1; 32]; 2]).unwrap();
        for last in ["", "c=biws", ",p=", "c=eSws,r=x,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="] {
            assert!(exchange.finish(last.as_bytes()).is_err(), "{last}");
        }
    }
}
