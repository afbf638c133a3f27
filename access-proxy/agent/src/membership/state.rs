//! What a host keeps in its data directory.
//!
//! ```text
//! DATA_DIR/host/lock       held while a process uses the directory
//!               identity   keys, certificates and trust, as an identity file
//!               claims     what the certificates were asked to say
//!               pending    keys that were sent, or are about to be, and not answered yet
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use access_client::{ClientError, Credentials, KeySet, TlsKey, proto};
use access_core::HostId;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use ssh_key::PrivateKey;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::error::AgentError;
use crate::files;
use crate::pause::random;

/// The largest of these files, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The folder, locked for this process.
pub(super) struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Keys on their way to be certified.
pub(super) struct Pending {
    pub(super) host: HostId,
    pub(super) keys: KeySet,
}

impl Pending {
    /// A new host's id and keys.
    pub(super) fn draw() -> Result<Self, AgentError> {
        let keys = KeySet::generate()?;
        // The id is no secret, but two hosts with one id would lock each other out.
        let random = random();
        if random == [0; 16] {
            return Err(AgentError::Setup("the system gave no randomness".into()));
        }
        Ok(Self { host: HostId::from_random(random), keys })
    }
}

impl StateDir {
    pub(super) fn open(data_dir: &Path) -> Result<Self, AgentError> {
        let path = data_dir.join("host");
        files::make_dir(&path).map_err(|err| AgentError::file(&path, err))?;
        let lock_path = path.join("lock");
        let lock = files::open_rw(&lock_path).map_err(|err| AgentError::file(&lock_path, err))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(AgentError::InUse(data_dir.to_owned())),
            Err(std::fs::TryLockError::Error(err)) => Err(AgentError::file(&lock_path, err)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The credentials, if the host has joined.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, AgentError> {
        let path = self.path.join("identity");
        let Some(text) = self.read("identity")? else { return Ok(None) };
        let text = std::str::from_utf8(&text).map_err(|err| AgentError::file(&path, err))?;
        Credentials::from_identity_file(text).map(Some).map_err(|err| AgentError::file(&path, err))
    }

    /// Keeps credentials, after which nothing is pending.
    pub(super) fn save(
        &self,
        credentials: &Credentials,
        claims: &proto::HostClaims,
    ) -> Result<(), AgentError> {
        let text = credentials.to_identity_file()?;
        self.write("identity", text.as_bytes())?;
        self.write("claims", &Claims::of(claims).to_json()?)?;
        let pending = self.path.join("pending");
        files::remove(&pending).map_err(|err| AgentError::file(&pending, err))
    }

    /// What the certificates were asked to say.
    pub(super) fn claims(&self) -> Result<Option<proto::HostClaims>, AgentError> {
        let Some(json) = self.read("claims")? else { return Ok(None) };
        // One that cannot be read leads to a renewal, which writes it anew.
        Ok(serde_json::from_slice::<Claims>(&json).ok().map(Claims::into_proto))
    }

    /// Keys that were sent and not answered.
    pub(super) fn pending(&self) -> Result<Option<Pending>, AgentError> {
        let Some(json) = self.read("pending")? else { return Ok(None) };
        let path = self.path.join("pending");
        let stored: StoredPending =
            serde_json::from_slice(&json).map_err(|err| AgentError::file(&path, err))?;
        stored.read().map(Some).map_err(|err| AgentError::file(&path, err))
    }

    pub(super) fn save_pending(&self, pending: &Pending) -> Result<(), AgentError> {
        let stored = StoredPending {
            host: pending.host.clone(),
            ssh: pending.keys.ssh_private_openssh()?.to_string(),
            tls: BASE64.encode(pending.keys.tls.pkcs8()),
        };
        let json = serde_json::to_vec(&stored)
            .map(Zeroizing::new)
            .map_err(|err| ClientError::Malformed(err.to_string()))?;
        self.write("pending", &json)
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, AgentError> {
        let path = self.path.join(name);
        let contents =
            files::read_bounded(&path, MAX_FILE).map_err(|err| AgentError::file(&path, err))?;
        Ok(contents.map(Zeroizing::new))
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<(), AgentError> {
        let path = self.path.join(name);
        files::write_atomically(&path, contents).map_err(|err| AgentError::file(&path, err))
    }
}

#[derive(Serialize, Deserialize, ZeroizeOnDrop)]
struct StoredPending {
    #[zeroize(skip)]
    host: HostId,
    ssh: String,
    tls: String,
}

impl StoredPending {
    fn read(&self) -> Result<Pending, String> {
        let ssh = PrivateKey::from_openssh(self.ssh.as_str()).map_err(|err| err.to_string())?;
        let tls = BASE64.decode(self.tls.as_bytes()).map_err(|err| err.to_string())?;
        let tls = TlsKey::from_pkcs8(&Zeroizing::new(tls)).map_err(|err| err.to_string())?;
        Ok(Pending { host: self.host.clone(), keys: KeySet { ssh, tls } })
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    nodename: String,
    services: Vec<String>,
    resources: Vec<String>,
    public_names: Vec<String>,
}

impl Claims {
    fn of(claims: &proto::HostClaims) -> Self {
        let proto::HostClaims { nodename, services, resources, public_names } = claims.clone();
        Self { nodename, services, resources, public_names }
    }

    fn into_proto(self) -> proto::HostClaims {
        let Self { nodename, services, resources, public_names } = self;
        proto::HostClaims { nodename, services, resources, public_names }
    }

    fn to_json(&self) -> Result<Vec<u8>, AgentError> {
        serde_json::to_vec(self).map_err(|err| AgentError::Setup(err.to_string()))
    }
}
