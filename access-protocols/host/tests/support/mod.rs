//! What the tests of this crate share: permits from a real gate, an account of their own, and
//! reading a process to its end.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use access_core::audit::MemorySink;
use access_core::gate::{Gate, GateOptions, PolicySource};
use access_core::identity::{
    AuthorityKind, Identity, SSH_IDENTITY_EXTENSION, Subject, TrustStore, TrustedAuthority,
};
use access_core::policy::{Action, Context, Decision, Grant, Reason, SessionLimits, Target};
use access_core::reach::{ExitStatus, Process, ProcessRequest, Program, Reach};
use access_core::resource::{Labels, Resource, ResourceRef};
use access_core::time::{Clock, Timestamp};
use access_core::{ClusterName, HostId, Login, Permit, ResourceName, UserName, VerifiedIdentity};
use access_host::{HostReach, SystemClock};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Allows everything until it is told to stop.
pub(crate) struct Policy {
    allows: AtomicBool,
    pub(crate) permit_pty: AtomicBool,
    changes: watch::Sender<u64>,
}

impl Policy {
    pub(crate) fn withdraw(&self) {
        self.allows.store(false, Ordering::SeqCst);
        self.changes.send_modify(|tick| *tick += 1);
    }
}

impl PolicySource for Policy {
    fn decide(
        &self,
        _: &VerifiedIdentity,
        _: &Action,
        _: &Target,
        _: &Context,
        _: Timestamp,
    ) -> Decision {
        if self.allows.load(Ordering::SeqCst) {
            let mut limits = SessionLimits::until(Timestamp::MAX);
            limits.permit_pty = self.permit_pty.load(Ordering::SeqCst);
            Decision::Allow(Grant::within(limits))
        } else {
            Decision::Deny(Reason::UserLocked)
        }
    }

    fn fresh_at(&self) -> Option<Timestamp> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A gate, and somebody to ask at it.
pub(crate) struct Door {
    gate: Gate,
    who: VerifiedIdentity,
    pub(crate) policy: Arc<Policy>,
}

impl Door {
    pub(crate) fn new() -> Self {
        let policy = Arc::new(Policy {
            allows: AtomicBool::new(true),
            permit_pty: AtomicBool::new(true),
            changes: watch::Sender::new(0),
        });
        let gate = Gate::new(
            policy.clone(),
            Arc::new(MemorySink::new(1000)),
            Arc::new(SystemClock),
            GateOptions::default(),
        );
        Self { gate, who: somebody(), policy }
    }

    pub(crate) async fn permit(&self, action: Action) -> Permit {
        self.permit_on(action, "node/here").await
    }

    pub(crate) async fn permit_on(&self, action: Action, resource: &str) -> Permit {
        let id: ResourceRef = resource.parse().unwrap();
        let host = HostId::new("host-1").unwrap();
        let target = Target::Resource(Resource::new(id, Labels::new(), host));
        self.gate.authorize(&self.who, action, target, Context::default()).await.unwrap()
    }

    pub(crate) async fn session(&self, login: &str) -> Permit {
        self.permit(Action::SshSession { login: Login::new(login).unwrap() }).await
    }
}

/// An identity that was verified like any other: by a certificate of a trusted authority.
fn somebody() -> VerifiedIdentity {
    let cluster = ClusterName::new("test.internal").unwrap();
    let authority = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[8; 32]));
    let now = SystemClock.now();
    let name = UserName::new("alice").unwrap();
    let identity = Identity::new(cluster.clone(), Subject::User { name }, now);
    let secs = u64::try_from(now.as_secs()).unwrap();
    let mut builder =
        Builder::new(vec![1; 16], key.public_key().key_data().clone(), secs - 60, secs + 3600)
            .unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.key_id("alice").unwrap();
    builder.valid_principal("alice").unwrap();
    let document = String::from_utf8(identity.encode().unwrap()).unwrap();
    builder.extension(SSH_IDENTITY_EXTENSION, document).unwrap();
    let certificate = builder.sign(&authority).unwrap();
    let trusted = TrustedAuthority {
        kind: AuthorityKind::User,
        cluster: cluster.clone(),
        ssh: vec![authority.public_key().key_data().clone()],
        tls: vec![],
    };
    TrustStore::new(cluster, [trusted])
        .unwrap()
        .verify_ssh_any_login(&certificate, None, now)
        .unwrap()
}

pub(crate) fn resource(kind_and_name: &str) -> ResourceRef {
    kind_and_name.parse().unwrap()
}

pub(crate) fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

/// An account: one made for the test when it runs as root, otherwise whoever runs it.
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    made: Option<tempfile::TempDir>,
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

impl Account {
    pub(crate) fn new() -> Self {
        Self::with_shell("/bin/bash")
    }

    /// One with another login shell, if accounts can be made here.
    pub(crate) fn with_shell(shell: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !is_root() {
            let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
            return Self { name: user.name, home: user.dir, made: None };
        }
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("acc{}x{number}", std::process::id());
        let home = tempfile::tempdir().unwrap();
        {
            let _lock = lock_accounts();
            // More groups than one, so that a child with the primary one alone is noticed.
            let done = Command::new("useradd")
                .args(["-M", "-s", shell, "-G", "daemon,games", "-d"])
                .arg(home.path())
                .arg(&name)
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        let user = nix::unistd::User::from_name(&name).unwrap().unwrap();
        nix::unistd::chown(home.path(), Some(user.uid), Some(user.gid)).unwrap();
        Self { name, home: home.path().to_owned(), made: Some(home) }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.made.is_some() {
            let _lock = lock_accounts();
            let _ = Command::new("userdel").arg("-f").arg(&self.name).output();
        }
    }
}

/// Tests run in parallel, in several processes; the tools that edit accounts give up when another
/// one is at it.
fn lock_accounts() -> nix::fcntl::Flock<File> {
    let path = std::env::temp_dir().join("access-host-test-accounts.lock");
    let file = File::create(path).unwrap();
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap()
}

pub(crate) fn reach() -> HostReach {
    HostReach::builder().sftp_executable(env!("CARGO_BIN_EXE_access-sftp-server")).build().unwrap()
}

pub(crate) fn command(line: &str) -> ProcessRequest {
    ProcessRequest { program: Program::Command(line.into()), ..Default::default() }
}

/// Starts a command as a login, without a terminal.
pub(crate) async fn start(door: &Door, login: &str, line: &str) -> Process {
    reach().spawn(&door.session(login).await, command(line)).await.unwrap()
}

/// Runs a command to its end: output, errors, status.
pub(crate) async fn run(door: &Door, login: &str, line: &str) -> (String, String, ExitStatus) {
    finish(start(door, login, line).await).await
}

/// Reads a process to its end, without input.
pub(crate) async fn finish(process: Process) -> (String, String, ExitStatus) {
    let Process { stdin, mut stdout, stderr, control } = process;
    drop(stdin);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let reading = async {
        let errors = async {
            if let Some(mut stderr) = stderr {
                stderr.read_to_end(&mut err).await.unwrap();
            }
        };
        let (read, ()) = tokio::join!(stdout.read_to_end(&mut out), errors);
        read.unwrap();
        control.wait().await.unwrap()
    };
    let status = tokio::time::timeout(PATIENCE, reading).await.expect("the process hangs");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(err), status)
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process exists; a zombie does.
pub(crate) fn exists(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}
