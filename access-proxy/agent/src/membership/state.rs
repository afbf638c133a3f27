//! What a host keeps in its data directory.
//!
//! ```text
//! DATA_DIR/host/lock       held while a process uses the directory
//!               identity   keys, certificates and trust, as an identity file
//!               claims     what the certificates were asked to say
//!               pending    keys that were sent, or are about to be, and not answered yet
//! ```

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use access_client::{ClientError, Credentials, KeySet, TlsKey, proto};
use access_core::HostId;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use ssh_key::PrivateKey;
use tokio::time::Instant;
use tracing::{info, warn};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::error::AgentError;
use crate::files;
use crate::pause::random;

/// The largest of these files, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// How long another process is waited for: longer than any of our programs takes to finish.
const PATIENCE: Duration = Duration::from_secs(45);
const TRY_AGAIN: Duration = Duration::from_millis(50);

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
    /// Takes the folder, as soon as the process that has it lets it go: a daemon that was told to
    /// stop may still finish what is open while the next one starts.
    pub(super) async fn open(data_dir: &Path) -> Result<Self, AgentError> {
        let path = data_dir.join("host");
        files::make_dir(&path).map_err(|err| AgentError::file(&path, err))?;
        let lock_path = path.join("lock");
        let lock = files::open_rw(&lock_path).map_err(|err| AgentError::file(&lock_path, err))?;
        let began = Instant::now();
        let mut waits = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(AgentError::InUse(data_dir.to_owned()));
                }
                Err(TryLockError::Error(err)) => return Err(AgentError::file(&lock_path, err)),
            }
            if !std::mem::replace(&mut waits, true) {
                warn!(
                    "{} is in use by another process: waiting up to {} s for its end",
                    data_dir.display(),
                    PATIENCE.as_secs()
                );
            }
            // Polled, and not waited for in a thread: that could not be given up.
            tokio::time::sleep(TRY_AGAIN).await;
        }
        if waits {
            info!("the other process has ended, after {:.1} s", began.elapsed().as_secs_f64());
        }
        Ok(Self { path, _lock: lock })
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
    #[serde(default)]
    databases: Vec<String>,
}

impl Claims {
    fn of(claims: &proto::HostClaims) -> Self {
        let claims = claims.clone();
        let proto::HostClaims { nodename, services, resources, public_names, databases } = claims;
        Self { nodename, services, resources, public_names, databases }
    }

    fn into_proto(self) -> proto::HostClaims {
        let Self { nodename, services, resources, public_names, databases } = self;
        proto::HostClaims { nodename, services, resources, public_names, databases }
    }

    fn to_json(&self) -> Result<Vec<u8>, AgentError> {
        serde_json::to_vec(self).map_err(|err| AgentError::Setup(err.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_folder_in_use_is_waited_for_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).await.unwrap();
        let began = Instant::now();
        let Err(AgentError::InUse(path)) = StateDir::open(dir.path()).await else {
            panic!("two processes have one folder");
        };
        assert_eq!(path, dir.path());
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE + TRY_AGAIN * 2);

        let began = Instant::now();
        let release = async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(StateDir::open(dir.path()), release);
        assert!(second.is_ok());
        assert!(began.elapsed() <= PATIENCE / 2 + TRY_AGAIN * 2);
    }
}
