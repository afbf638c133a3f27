//! The authority of the database and of the contenders that are not ours.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::Result;

/// An authority that signs servers and clients; ECDSA on P-256, as ours.
#[derive(Debug)]
pub(super) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(super) root: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// The certificate.
    pub(super) cert: PathBuf,
    /// The key, for its owner alone.
    pub(super) key: PathBuf,
}

impl Authority {
    /// Makes one, which keeps its files in a folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "bench authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = folder.join("bench-root.crt");
        fs::write(&root, params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        Ok(Self { folder: folder.to_owned(), issuer, root })
    }

    /// A server's pair, for `localhost`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn server(&self, file: &str) -> Result<Pair> {
        let params = CertificateParams::new(vec!["localhost".to_owned()])?;
        self.sign(file, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's pair, for a database account.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn client(&self, file: &str, account: &str) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, account);
        self.sign(file, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        file: &str,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        let cert = self.folder.join(format!("{file}.crt"));
        fs::write(&cert, params.signed_by(&key, &self.issuer)?.pem())?;
        let path = self.folder.join(format!("{file}.key"));
        fs::write(&path, key.serialize_pem())?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Pair { cert, key: path })
    }
}
