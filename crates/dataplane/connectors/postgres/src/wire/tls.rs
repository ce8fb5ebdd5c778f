//! TLS as libpq understands `sslmode`, and the channel binding that SCRAM takes from the server's certificate.

use super::certificate::{Certificate, element};
use crate::codes;
use mainstem_env::Disk;
use mainstem_types::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::path::Path;
use std::sync::Arc;

/// `sslmode` of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// What of the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

/// PEM files of the URL.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Whom to trust; without it the machine's own roots.
    pub roots: Option<String>,
    /// Our own certificate and its key, for a server that asks for one.
    pub certificate: Option<String>,
    pub key: Option<String>,
}

/// The client's TLS set-up for a mode. As in libpq, `require` with a root file checks the chain.
pub fn config(mode: TlsMode, files: &TlsFiles, disk: &dyn Disk) -> Result<Arc<ClientConfig>> {
    let check = match mode {
        TlsMode::VerifyFull => Check::ChainAndName,
        TlsMode::VerifyCa => Check::Chain,
        TlsMode::Require if files.roots.is_some() => Check::Chain,
        _ => Check::Nothing,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut given = Vec::new();
    let inner = match check {
        Check::Nothing => None,
        _ => {
            let mut store = RootCertStore::empty();
            match &files.roots {
                Some(file) => given = pem_certificates("sslrootcert", file, disk)?,
                None => given = rustls_native_certs::load_native_certs().certs,
            }
            // One that rustls cannot read signs nothing but what `is_given` looks at.
            store.add_parsable_certificates(given.iter().cloned());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone()).build();
            verifier.ok()
        }
    };
    let verifier = Arc::new(Verifier { check, inner, given, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::bug(codes::TLS, "TLS cannot be set up").caused_by(e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let (Some(certificate), Some(key)) = (&files.certificate, &files.key) else {
        return Ok(Arc::new(config.with_no_client_auth()));
    };
    let chain = pem_certificates("sslcert", certificate, disk)?;
    let unusable = |cause: String| {
        Error::fix(codes::TLS, format!("the key in `{key}` cannot be used: {cause}"))
            .hint("Let `sslkey` name a file in PEM form, without a pass phrase, with the key of `sslcert`.")
    };
    let pem = disk.read(Path::new(key)).map_err(|e| unusable(e.to_string()))?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| unusable(e.to_string()))?;
    // Not compared with the certificate, which may be of a form that rustls cannot read; the server will.
    let key = provider.key_provider.load_private_key(private).map_err(|e| unusable(e.to_string()))?;
    let ours = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    Ok(Arc::new(config.with_client_cert_resolver(Arc::new(ours))))
}

fn pem_certificates(parameter: &str, file: &str, disk: &dyn Disk) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |cause: String| {
        Error::fix(codes::TLS, format!("the certificates in `{file}` cannot be read: {cause}"))
            .hint(format!("Let `{parameter}` name a file in PEM form."))
    };
    let pem = disk.read(Path::new(file)).map_err(|e| unreadable(e.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|e| unreadable(e.to_string()))?;
    if certificates.iter().any(|c| Certificate::parse(c).is_none()) {
        return Err(unreadable("it has something that is no certificate".into()));
    }
    if certificates.is_empty() {
        return Err(unreadable("it has no certificate".into()));
    }
    Ok(certificates)
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    /// The rules of the web's certificates, over the roots that they can read.
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates to trust.
    given: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// Whether one of those to trust signed it, as a self-signed one did itself, and both are valid now.
    fn is_given(&self, certificate: &Certificate<'_>, now: UnixTime) -> bool {
        let algorithms = &self.provider.signature_verification_algorithms;
        let signed = |root: Certificate<'_>| root.is_valid_at(now.as_secs()) && certificate.is_signed_by(&root, algorithms);
        certificate.is_old_style_server()
            && certificate.is_valid_at(now.as_secs())
            && self.given.iter().filter_map(|root| Certificate::parse(root)).any(signed)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let strict = match &self.inner {
            Some(inner) => inner.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let Err(refused) = strict else { return strict };
        let Some(certificate) = Certificate::parse(end_entity) else { return Err(refused) };
        // The chain holds when only the name was refused; else a given root has to have signed it itself.
        let unnamed = matches!(
            &refused,
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            )
        );
        if !unnamed && !self.is_given(&certificate, now) {
            return Err(refused);
        }
        if self.check == Check::ChainAndName && !certificate.names(&name.to_str()) {
            let unnamed = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
            return Err(unnamed);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match Certificate::parse(certificate).filter(Certificate::is_plain) {
            Some(plain) => {
                let named = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
                let mut good = named.map(|(_, algorithms)| plain.made(signed.signature(), message, algorithms));
                match good.any(|good| good) {
                    true => Ok(HandshakeSignatureValid::assertion()),
                    false => Err(CertificateError::BadSignature.into()),
                }
            }
            None => verify_tls12_signature(message, certificate, signed, algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match Certificate::parse(certificate).filter(Certificate::is_plain) {
            Some(plain) => {
                let key = SubjectPublicKeyInfoDer::from(plain.key_info);
                verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
            }
            None => verify_tls13_signature(message, certificate, signed, algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` (RFC 5929): the hash of the certificate by the hash of its own signature; MD5 and SHA-1 are replaced by
/// SHA-256. None where the RFC defines none (Ed25519).
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (body, _) = element(certificate, 0x30)?;
    let (_, rest) = element(body, 0x30)?;
    let (algorithm, _) = element(rest, 0x30)?;
    let (oid, parameters) = element(algorithm, 0x06)?;
    match oid {
        // 1.2.840.113549.1.1.x: md5, sha1, sha256, sha384, sha512 with RSA
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04 | 0x05 | 0x0b] => Some(Sha256::digest(certificate).to_vec()),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] => Some(Sha384::digest(certificate).to_vec()),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d] => Some(Sha512::digest(certificate).to_vec()),
        // RSASSA-PSS names its hash inside its parameters: 2.16.840.1.101.3.4.2.{1,2,3}
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a] => {
            let named = |last: u8| {
                let hash = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last];
                parameters.windows(hash.len()).any(|w| w == hash)
            };
            match () {
                () if named(3) => Some(Sha512::digest(certificate).to_vec()),
                () if named(2) => Some(Sha384::digest(certificate).to_vec()),
                () => Some(Sha256::digest(certificate).to_vec()),
            }
        }
        // 1.2.840.10045.4.1 and .4.3.x: ECDSA with sha1, sha256, sha384, sha512
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => {
            Some(Sha256::digest(certificate).to_vec())
        }
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => Some(Sha384::digest(certificate).to_vec()),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04] => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}
