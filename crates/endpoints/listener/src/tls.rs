//! TLS with the certificate that the files hold now: they are looked at before each handshake, which costs far more than reading them.

use crate::codes;
use mainstem_env::Env;
use mainstem_types::{Error, Result};
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// PEM files: the chain, the server's own certificate first, and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A certificate that is replaced without a restart. Connections that are open keep theirs.
pub struct Tls {
    env: Env,
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    /// What the files held when they were read last, good or not.
    seen: Vec<u8>,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Reads the files; `NET-002` when they cannot be read or do not fit.
    pub fn load(env: Env, files: TlsFiles) -> Result<Self> {
        let (cert, key) = read(&env, &files)?;
        let acceptor = acceptor(&files, &cert, &key)?;
        Ok(Self { env, files, current: Mutex::new(Current { seen: [cert, key].concat(), acceptor }) })
    }

    /// For the next handshake. Files that changed and are bad leave the old certificate; that is logged once.
    pub fn acceptor(&self) -> TlsAcceptor {
        if let Err(error) = self.reload() {
            tracing::warn!(error = error.chain(), "the new TLS certificate is not taken, the old one stays");
        }
        self.current.lock().acceptor.clone()
    }

    /// Takes the certificate that the files hold now. An error when they changed since they were last looked at and are bad.
    pub fn reload(&self) -> Result<()> {
        // Files that are away for a moment are being replaced.
        let Ok((cert, key)) = read(&self.env, &self.files) else { return Ok(()) };
        let seen = [&cert[..], &key].concat();
        let mut current = self.current.lock();
        if current.seen == seen {
            return Ok(());
        }
        current.seen = seen;
        current.acceptor = acceptor(&self.files, &cert, &key)?;
        tracing::info!(file = %self.files.cert.display(), "a new TLS certificate is in use");
        Ok(())
    }
}

fn read(env: &Env, files: &TlsFiles) -> Result<(Vec<u8>, Vec<u8>)> {
    let read = |path: &Path| {
        let failed = |e| Error::fix(codes::TLS, format!("cannot read the TLS file {}", path.display())).caused_by(e);
        env.disk.read(path).map_err(failed)
    };
    Ok((read(&files.cert)?, read(&files.key)?))
}

fn acceptor(files: &TlsFiles, cert: &[u8], key: &[u8]) -> Result<TlsAcceptor> {
    let refuse = |path: &Path, what: &str| {
        Error::fix(codes::TLS, format!("{} is not {what}", path.display()))
            .hint("Name the PEM files of one pair in `tls_cert` and `tls_key`.")
    };
    let chain = CertificateDer::pem_slice_iter(cert)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| refuse(&files.cert, "a PEM certificate").caused_by(e))?;
    let secret = PrivateKeyDer::from_pem_slice(key).map_err(|e| refuse(&files.key, "a PEM private key").caused_by(e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|e| refuse(&files.cert, "a certificate for this key").caused_by(e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
