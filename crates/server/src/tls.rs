//! TLS from certificate files: a chain and its key in PEM form, read once, when the server starts.
//!
//! HTTP/1.1 alone is offered (ALPN). No client certificates: keys say who calls. A renewed certificate needs a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, crypto::ring};

use crate::error::ServerError;

/// Where the certificate lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain in PEM form, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM form.
    pub key: PathBuf,
}

/// Reads the files and sees whether they go together.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServerError> {
    let (certificate, key) = (&files.certificate, &files.key);
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(certificate, "a certificate", error))?;
    if chain.is_empty() {
        return Err(unreadable(certificate, "a certificate", pem::Error::NoItemsFound));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, "a private key", error))?;
    let refused = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => problem(
            key,
            format!(
                "this key does not belong to the certificate in {}; give both of one pair",
                certificate.display()
            ),
        ),
        error => {
            problem(certificate, format!("{error}; give a certificate and its key as its issuer made them"))
        }
    };
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unreadable(path: &Path, what: &str, error: pem::Error) -> ServerError {
    problem(
        path,
        match error {
            pem::Error::Io(error) => format!("cannot be read: {error}"),
            pem::Error::NoItemsFound => format!("there is no {}; give it in PEM form", &what[2..]),
            error => format!("is not {what} in PEM form: {error:?}"),
        },
    )
}

fn problem(path: &Path, problem: String) -> ServerError {
    ServerError::Tls { path: path.to_owned(), problem }
}
