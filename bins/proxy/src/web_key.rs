//! The certificate that browsers and first contacts see.

use std::path::Path;
use std::sync::Arc;

use access_core::tls::SharedKey;
use access_daemon::Exit;
use access_daemon::config::KeyPair;
use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Certificates by the name that is asked for, the first one for any other; the cluster's own when
/// none are configured.
#[derive(Debug)]
pub(crate) struct WebKey {
    configured: ArcSwap<Vec<Arc<CertifiedKey>>>,
    own: Arc<SharedKey>,
}

impl WebKey {
    pub(crate) fn new(pairs: &[KeyPair], own: Arc<SharedKey>) -> Result<Self, Exit> {
        Ok(Self { configured: ArcSwap::from_pointee(read(pairs)?), own })
    }

    /// Shows these to whoever comes from now on. The files are read again though their names stay
    /// the same: that is how certificates are renewed. Says whether there is anything new; an
    /// error leaves all as it was.
    pub(crate) fn replace(&self, pairs: &[KeyPair]) -> Result<bool, Exit> {
        let new = read(pairs)?;
        let old = self.configured.load();
        let same = new.len() == old.len()
            && new.iter().zip(old.iter()).all(|(new, old)| new.cert == old.cert);
        self.configured.store(Arc::new(new));
        Ok(!same)
    }
}

fn read(pairs: &[KeyPair]) -> Result<Vec<Arc<CertifiedKey>>, Exit> {
    let provider = rustls::crypto::ring::default_provider();
    let error = |path: &Path, err: &dyn std::fmt::Display| {
        Exit::usage(format!("proxy_service.https_keypairs: {}: {err}", path.display()))
    };
    let read = |pair: &KeyPair| {
        let chain = CertificateDer::pem_file_iter(&pair.cert_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|err| error(&pair.cert_file, &err))?;
        if chain.is_empty() {
            return Err(error(&pair.cert_file, &"there is no certificate in it"));
        }
        let key = PrivateKeyDer::from_pem_file(&pair.key_file)
            .map_err(|err| error(&pair.key_file, &err))?;
        let key = CertifiedKey::from_der(chain, key, &provider);
        Ok(Arc::new(key.map_err(|err| error(&pair.key_file, &err))?))
    };
    pairs.iter().map(read).collect()
}

impl ResolvesServerCert for WebKey {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let configured = self.configured.load();
        let Some(first) = configured.first() else { return self.own.resolve(hello) };
        let name = hello.server_name().and_then(|name| name.to_owned().try_into().ok());
        let fits = |key: &CertifiedKey, name: &rustls_pki_types::ServerName<'_>| {
            key.end_entity_cert()
                .and_then(rustls::server::ParsedCertificate::try_from)
                .is_ok_and(|cert| rustls::client::verify_server_name(&cert, name).is_ok())
        };
        let by_name = name.and_then(|name| configured.iter().find(|key| fits(key, &name)));
        Some(Arc::clone(by_name.unwrap_or(first)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use access_daemon::{DaemonFlags, Reload};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Writes a pair for a name, and tells its certificate.
    fn write(dir: &Path, file: &str, name: &str) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(dir.join(format!("{file}.crt")), made.cert.pem()).unwrap();
        fs::write(dir.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    /// What a client that asks for a name is shown.
    async fn shown(
        web: &Arc<WebKey>,
        name: &'static str,
        all: &[CertificateDer<'static>],
    ) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(web) as _);
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(all.iter().cloned());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let name = name.try_into().unwrap();
        let (client, _server) = tokio::join!(
            TlsConnector::from(Arc::new(client)).connect(name, ours),
            TlsAcceptor::from(Arc::new(server)).accept(theirs),
        );
        let client = client.unwrap();
        client.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    #[tokio::test]
    async fn a_renewed_pair_is_shown_after_a_reload_and_a_broken_one_never() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let pair = |file: &str| {
            let (cert, key) = (path(&format!("{file}.crt")), path(&format!("{file}.key")));
            format!("{{ cert_file: {}, key_file: {} }}", cert.display(), key.display())
        };
        let configure = |pairs: &str| {
            let text = format!("proxy_service: {{ https_keypairs: [{pairs}] }}\n");
            fs::write(path("access.yaml"), text).unwrap();
        };
        let old = write(dir.path(), "a", "a.example.com");
        configure(&pair("a"));
        let flags = DaemonFlags { config: Some(path("access.yaml")), ..DaemonFlags::default() };
        let config = flags.load().unwrap();
        let pairs = &config.proxy_service.https_keypairs;
        let web = Arc::new(WebKey::new(pairs, Arc::default()).unwrap());
        let mut reload = Reload::new(&config);
        reload.follow("proxy_service.https_keypairs", crate::daemon::follow_web_key(&web));
        assert_eq!(shown(&web, "a.example.com", std::slice::from_ref(&old)).await, *old);

        // Another certificate under the same name, as tools that renew them do it.
        let new = write(dir.path(), "a", "a.example.com");
        assert_eq!(
            shown(&web, "a.example.com", std::slice::from_ref(&old)).await,
            *old,
            "not before it is told"
        );
        reload.reload();
        assert_eq!(shown(&web, "a.example.com", std::slice::from_ref(&new)).await, *new);

        // A key that belongs to another certificate, and a file that is none.
        write(dir.path(), "b", "b.example.com");
        fs::copy(path("b.key"), path("a.key")).unwrap();
        reload.reload();
        assert_eq!(shown(&web, "a.example.com", std::slice::from_ref(&new)).await, *new);
        configure(&pair("missing"));
        reload.reload();
        assert_eq!(shown(&web, "a.example.com", std::slice::from_ref(&new)).await, *new);

        // One more, chosen by the name.
        let (a, b) =
            (write(dir.path(), "a", "a.example.com"), write(dir.path(), "b", "b.example.com"));
        configure(&format!("{}, {}", pair("a"), pair("b")));
        reload.reload();
        let all = [a.clone(), b.clone()];
        assert_eq!(shown(&web, "a.example.com", &all).await, *a);
        assert_eq!(shown(&web, "b.example.com", &all).await, *b);
    }
}
