//! The certificate that browsers and first contacts see.

use std::sync::Arc;

use access_core::tls::SharedKey;
use access_daemon::Exit;
use access_daemon::config::KeyPair;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Certificates by the name that is asked for; the first one for any other.
#[derive(Debug)]
struct Chosen(Vec<(EndEntity, Arc<CertifiedKey>)>);

type EndEntity = CertificateDer<'static>;

/// The configured certificates, or the cluster's own when there are none.
pub(crate) fn web_key(
    pairs: &[KeyPair],
    own: Arc<SharedKey>,
) -> Result<Arc<dyn ResolvesServerCert>, Exit> {
    if pairs.is_empty() {
        return Ok(own);
    }
    let provider = rustls::crypto::ring::default_provider();
    let mut chosen = Vec::new();
    for pair in pairs {
        let error = |path: &std::path::Path, err: &dyn std::fmt::Display| {
            Exit::usage(format!("proxy_service.https_keypairs: {}: {err}", path.display()))
        };
        let chain = CertificateDer::pem_file_iter(&pair.cert_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|err| error(&pair.cert_file, &err))?;
        let leaf = chain
            .first()
            .cloned()
            .ok_or_else(|| error(&pair.cert_file, &"there is no certificate in it"))?;
        let key = PrivateKeyDer::from_pem_file(&pair.key_file)
            .map_err(|err| error(&pair.key_file, &err))?;
        let key = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|err| error(&pair.key_file, &err))?;
        chosen.push((leaf, Arc::new(key)));
    }
    Ok(Arc::new(Chosen(chosen)))
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| name.to_owned().try_into().ok());
        let fits = |leaf: &EndEntity, name: &rustls_pki_types::ServerName<'_>| {
            rustls::server::ParsedCertificate::try_from(leaf)
                .is_ok_and(|cert| rustls::client::verify_server_name(&cert, name).is_ok())
        };
        let by_name = name.and_then(|name| self.0.iter().find(|(leaf, _)| fits(leaf, &name)));
        by_name.or_else(|| self.0.first()).map(|(_, key)| Arc::clone(key))
    }
}
