//! What somebody can make who has the authorities' private keys: certificates that no program of
//! ours would issue.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use access_backend::{Backend, Key, Sqlite, SqliteOptions};
use access_ca::{
    Authority, AuthorityDocument, HostDraft, IssuingPolicy, PrivateHalf, SealingKey,
    SoftwareKeyStore,
};
use access_core::identity::{AuthorityKind, Identity, Service, Subject};
use access_core::{ClusterName, HostId, Timestamp};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use ssh_key::private::{Ed25519Keypair, KeypairData};

use crate::cluster::Cluster;
use crate::impostor::Mask;
use crate::run::run;

/// A cluster's authorities with their private keys, out of its store.
pub struct Authorities {
    dir: PathBuf,
    sealing: SealingKey,
    user: AuthorityDocument,
    host: AuthorityDocument,
}

impl Authorities {
    /// Copies the store of a cluster that runs, and opens the keys in the copy.
    pub fn of(cluster: &Cluster) -> Self {
        let (from, dir) = (cluster.path("auth"), cluster.path("stolen"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["access.db", "access.db-wal", "seal.key"] {
            fs::copy(from.join(name), dir.join(name)).unwrap();
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (user, host) = runtime.block_on(async {
            let store = Sqlite::open(SqliteOptions::new(dir.join("access.db"))).await.unwrap();
            let read = async |kind: AuthorityKind| -> AuthorityDocument {
                let segments = ["authorities", kind.as_str(), "example.com"];
                let key = Key::from_segments(segments).unwrap();
                let item = store.get(&key).await.unwrap().unwrap();
                serde_json::from_slice(&item.value).unwrap()
            };
            (read(AuthorityKind::User).await, read(AuthorityKind::Host).await)
        });
        let sealing = SealingKey::read_file(&dir.join("seal.key")).unwrap();
        Self { dir, sealing, user, host }
    }

    fn document(&self, kind: AuthorityKind) -> &AuthorityDocument {
        match kind {
            AuthorityKind::User => &self.user,
            AuthorityKind::Host => &self.host,
            AuthorityKind::Db | AuthorityKind::DbClient => {
                panic!("{kind} has no certificates here")
            }
        }
    }

    /// The authority, ready to sign.
    pub fn open(&self, kind: AuthorityKind) -> Authority {
        let store = SoftwareKeyStore::new(self.sealing.clone());
        Authority::open(&store, self.document(kind).clone()).unwrap()
    }

    /// The private key that signs SSH certificates, in a file for `ssh-keygen -s`.
    pub fn ssh_key(&self, kind: AuthorityKind) -> PathBuf {
        let path = self.dir.join(format!("{kind}-authority"));
        let stored = self.document(kind).active.ssh.as_ref().unwrap();
        let PrivateHalf::Sealed(sealed) = &stored.private_key else { panic!("{stored:?}") };
        let purpose = format!("key {} {}", stored.purpose, stored.id);
        let pkcs8 = self.sealing.open(&purpose, sealed).unwrap();
        // The key follows two headers of OCTET STRING, the second of 32 bytes (RFC 8410).
        let at = pkcs8.windows(4).position(|bytes| bytes == [4, 34, 4, 32]).unwrap() + 4;
        let seed: [u8; 32] = pkcs8[at..at + 32].try_into().unwrap();
        let key = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        let key = ssh_key::PrivateKey::try_from(key).unwrap();
        assert_eq!(key.public_key().key_data(), stored.public_key.ssh());
        key.write_openssh_file(&path, ssh_key::LineEnding::LF).unwrap();
        path
    }

    /// Has `ssh-keygen` sign a new key, with these arguments; gives the path of the key, beside
    /// which is the certificate.
    pub fn ssh_keygen(&self, kind: AuthorityKind, name: &str, args: &[&str]) -> PathBuf {
        let (authority, path) = (self.ssh_key(kind), self.dir.join(name));
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path);
        run(&mut make, "").ok();
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-I", name, "-s"]).arg(authority).args(args);
        run(sign.arg(path.with_extension("pub")), "").ok();
        path
    }

    /// What it takes to answer for Auth: the best that an attacker could have.
    pub fn mask_of_auth(&self) -> Mask {
        let subject = Subject::Host {
            id: HostId::from_random([7; 16]),
            services: BTreeSet::from([Service::Auth]),
            resources: Vec::new(),
        };
        let cluster = ClusterName::new("example.com").unwrap();
        let ttl = Duration::from_secs(3600);
        let key = access_client::KeySet::generate().unwrap().tls;
        let mut draft = HostDraft::new(Identity::new(cluster, subject, now()), ttl).unwrap();
        draft.tls_public_key = Some(key.spki().to_vec());
        let policy = IssuingPolicy::new(now(), ttl);
        let signed = draft.vet(&policy).unwrap().sign(&self.open(AuthorityKind::Host)).unwrap();
        let chain = signed.tls_chain().into_iter().map(CertificateDer::into_owned).collect();
        Mask::of(chain, PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()).into())
    }
}

fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_secs(i64::try_from(since.as_secs()).unwrap())
}
