//! TLS towards the database, by the words of `sslmode`.
//!
//! Files are looked at for every new connection and read again when they have changed, so that a renewed certificate
//! is shown without a restart.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use access_backend::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::conn_string::{SslMode, TlsFiles};

/// Makes the TLS of new connections.
#[derive(Debug)]
pub(crate) struct Connector {
    mode: SslMode,
    files: TlsFiles,
    last: Mutex<Option<(Stamps, ClientConfig)>>,
}

/// What tells whether files have changed: inode, length and times of each.
type Stamps = Vec<(u64, u64, i64, i64, i64, i64)>;

impl Connector {
    pub(crate) fn new(mode: SslMode, files: TlsFiles) -> Self {
        Self { mode, files, last: Mutex::default() }
    }

    /// The TLS of a connection that begins now.
    pub(crate) fn make(&self) -> Result<MakeRustlsConnect, Error> {
        let stamps = self.stamps()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = last.as_ref().filter(|(known, _)| *known == stamps) {
            return Ok(MakeRustlsConnect::new(config.clone()));
        }
        let config = self.config()?;
        *last = Some((stamps, config.clone()));
        Ok(MakeRustlsConnect::new(config))
    }

    fn stamps(&self) -> Result<Stamps, Error> {
        let TlsFiles { root, identity } = &self.files;
        let pair = identity.iter().flat_map(|(cert, key)| [("sslcert", cert), ("sslkey", key)]);
        root.iter()
            .map(|root| ("sslrootcert", root))
            .chain(pair)
            .map(|(name, path)| {
                let meta = fs::metadata(path).map_err(|error| unreadable(name, path, &error))?;
                let (modified, changed) = (meta.mtime(), meta.ctime());
                let (nanos, changed_nanos) = (meta.mtime_nsec(), meta.ctime_nsec());
                Ok((meta.ino(), meta.len(), modified, nanos, changed, changed_nanos))
            })
            .collect()
    }

    fn config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(format!("TLS can't be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(provider)?);
        let mut config = match &self.files.identity {
            Some((cert, key)) => builder
                .with_client_auth_cert(chain("sslcert", cert)?, private_key(key)?)
                .map_err(|error| {
                    refused(format!(
                        "sslcert {} and sslkey {} do not belong together ({error}); name a \
                         certificate and its own key",
                        cert.display(),
                        key.display()
                    ))
                })?,
            None => builder.with_no_client_auth(),
        };
        // A resumed session would go on with a certificate that has been replaced since.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let names = self.mode == SslMode::VerifyFull;
        let chains = names
            || self.mode == SslMode::VerifyCa
            || (self.mode == SslMode::Require && self.files.root.is_some());
        if !chains {
            return Ok(Arc::new(Lenient { provider, chains: None }));
        }
        let roots = Arc::new(self.roots()?);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| refused(format!("sslrootcert: {error}")))?;
        if names { Ok(inner) } else { Ok(Arc::new(Lenient { provider, chains: Some(inner) })) }
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        match &self.files.root {
            Some(path) => {
                for certificate in chain("sslrootcert", path)? {
                    roots.add(certificate).map_err(|error| {
                        refused(format!("sslrootcert {}: {error}", path.display()))
                    })?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    let reason = "this machine has no authorities of its own; name the \
                                  database's with sslrootcert";
                    return Err(refused(reason.into()));
                }
            }
        }
        Ok(roots)
    }
}

fn chain(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = fs::read(path).map_err(|error| unreadable(name, path, &error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(refused(format!("{name} {} holds no certificate in PEM", path.display()))),
    }
}

fn private_key(path: &PathBuf) -> Result<PrivateKeyDer<'static>, Error> {
    let meta = fs::metadata(path).map_err(|error| unreadable("sslkey", path, &error))?;
    // As libpq has it: for its owner alone, or root's and readable for one group.
    let allowed = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & allowed != 0 {
        let path = path.display();
        return Err(refused(format!("sslkey {path} is open to others; run: chmod 0600 {path}")));
    }
    PrivateKeyDer::from_pem_file(path)
        .map_err(|_| refused(format!("sslkey {} holds no private key in PEM", path.display())))
}

fn unreadable(name: &str, path: &Path, error: &std::io::Error) -> Error {
    refused(format!("{name} {} can't be read: {error}", path.display()))
}

fn refused(reason: String) -> Error {
    Error::Setting { setting: "storage.conn_string", reason }
}

/// Looks at less than the name: at the chain where there is a verifier for it, else only at the handshake.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    chains: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.chains else { return Ok(ServerCertVerified::assertion()) };
        // The name is what it looks at last.
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
