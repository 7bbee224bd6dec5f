//! HTTPS: the certificate and the private key.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::options::TlsFiles;
use crate::{Error, Result};

/// Accepts TLS 1.2 and 1.3 with the certificate of `files`.
///
/// # Errors
/// If a file cannot be read, has no certificate or no key, or if the two do not belong together.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let certificates = CertificateDer::pem_file_iter(&files.cert);
    let certificates = certificates.and_then(|found| found.collect::<Result<Vec<_>, _>>());
    let certificates = certificates.map_err(|error| invalid("tls_cert", &files.cert, error))?;
    if certificates.is_empty() {
        return Err(invalid("tls_cert", &files.cert, "the file has no certificate, expected PEM"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|error| invalid("tls_key", &files.key, error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::failed)?
        .with_no_client_auth()
        .with_single_cert(certificates, key);
    let mut config = config.map_err(|error| {
        invalid("tls_key", &files.key, format!("it does not fit the certificate: {error}"))
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn invalid(option: &'static str, file: &Path, problem: impl ToString) -> Error {
    let (value, problem) = (file.display().to_string(), problem.to_string());
    Error::InvalidOption { option, value, problem }
}
