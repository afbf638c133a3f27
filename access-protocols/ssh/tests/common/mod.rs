//! A node behind a gate, served by SSH on loopback, and the real OpenSSH clients to reach it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::type_complexity,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access_core::audit::{Envelope, Event, MemorySink};
use access_core::gate::{Gate, GateOptions, PolicySource};
use access_core::identity::{AuthorityKind, SSH_IDENTITY_EXTENSION, Subject, TrustedAuthority};
use access_core::ids::{ResourceName, TraceId};
use access_core::policy::{Action, Context, Decision, Grant, Reason, SessionLimits, Target};
use access_core::protocol::{Admission, Incoming, Protocol};
use access_core::reach::Reach;
use access_core::recording::{MemoryRecorder, Recorder};
use access_core::{
    Clock, ClusterName, HostId, Identity, Login, Resource, ResourceRef, Timestamp, TrustStore,
    UserName, VerifiedIdentity,
};
use access_host::{HostReach, SystemClock};
use access_ssh::{HostKeys, SshOptions, SshServer};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Algorithm, Certificate, LineEnding, PrivateKey};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;

pub const CLUSTER: &str = "example.com";

/// Everything that a test may wait for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A policy that a test changes as it likes.
pub struct Rules {
    pub deny: Mutex<Option<Box<dyn Fn(&Action, &Target) -> Option<Reason> + Send>>>,
    pub limits: Mutex<SessionLimits>,
    changes: watch::Sender<u64>,
}

impl Rules {
    fn new() -> Arc<Self> {
        let mut limits = SessionLimits::until(Timestamp::MAX);
        limits.record = access_core::role::RecordMode::Off;
        Arc::new(Self {
            deny: Mutex::new(None),
            limits: Mutex::new(limits),
            changes: watch::Sender::new(0),
        })
    }

    pub fn deny(&self, deny: impl Fn(&Action, &Target) -> Option<Reason> + Send + 'static) {
        *self.deny.lock().unwrap() = Some(Box::new(deny));
        self.changes.send_modify(|n| *n += 1);
    }

    pub fn limit(&self, change: impl FnOnce(&mut SessionLimits)) {
        change(&mut self.limits.lock().unwrap());
    }
}

impl PolicySource for Rules {
    fn decide(
        &self,
        _who: &VerifiedIdentity,
        action: &Action,
        target: &Target,
        _context: &Context,
        _now: Timestamp,
    ) -> Decision {
        if let Some(reason) =
            self.deny.lock().unwrap().as_ref().and_then(|deny| deny(action, target))
        {
            return Decision::Deny(reason);
        }
        Decision::Allow(Grant::within(*self.limits.lock().unwrap()))
    }

    fn fresh_at(&self) -> Option<Timestamp> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A certificate to be made.
pub struct Wish<'a> {
    pub principals: &'a [&'a str],
    pub cert_type: CertType,
    pub expires_in: i64,
    pub critical: Vec<(&'a str, &'a str)>,
    pub by: &'a PrivateKey,
}

pub struct Node {
    pub dir: tempfile::TempDir,
    pub users: PrivateKey,
    pub hosts: PrivateKey,
    pub addr: SocketAddr,
    pub rules: Arc<Rules>,
    pub gate: Arc<Gate>,
    pub sink: MemorySink,
    pub recorder: MemoryRecorder,
    pub trust: Arc<TrustStore>,
    pub server: Arc<SshServer>,
    pub resource: Resource,
    pub login: String,
    pub known_hosts: PathBuf,
}

pub fn key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

pub fn cluster() -> ClusterName {
    ClusterName::new(CLUSTER).unwrap()
}

fn now_secs() -> u64 {
    u64::try_from(SystemClock.now().as_secs()).unwrap()
}

pub fn host_certificate(by: &PrivateKey, key: &PrivateKey, names: &[&str]) -> Certificate {
    let now = now_secs();
    let mut builder = Builder::new_with_random_nonce(
        &mut rand::rng(),
        key.public_key().key_data().clone(),
        now - 60,
        now + 3600,
    )
    .unwrap();
    builder.key_id("web-1").unwrap().cert_type(CertType::Host).unwrap();
    for name in names {
        builder.valid_principal(*name).unwrap();
    }
    builder.sign(by).unwrap()
}

pub fn trust_store(users: &PrivateKey, hosts: &PrivateKey) -> Arc<TrustStore> {
    let authority = |kind, key: &PrivateKey| TrustedAuthority {
        kind,
        cluster: cluster(),
        ssh: vec![key.public_key().key_data().clone()],
        tls: vec![],
    };
    let authorities =
        [authority(AuthorityKind::User, users), authority(AuthorityKind::Host, hosts)];
    Arc::new(TrustStore::new(cluster(), authorities).unwrap())
}

impl Node {
    pub async fn start() -> Self {
        Self::with(SshOptions::default(), MemoryRecorder::new(None)).await
    }

    pub async fn with(options: SshOptions, recorder: MemoryRecorder) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().unwrap();
        let (users, hosts, host) = (key(), key(), key());
        let trust = trust_store(&users, &hosts);
        let certificate = host_certificate(&hosts, &host, &["127.0.0.1", "web-1"]);
        let (rules, sink) = (Rules::new(), MemorySink::new(100_000));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let gate = Arc::new(Gate::new(
            rules.clone(),
            Arc::new(sink.clone()),
            Arc::clone(&clock),
            GateOptions::default(),
        ));
        let reach: Arc<dyn Reach> = Arc::new(
            HostReach::builder().sftp_server("/usr/lib/openssh/sftp-server", []).build().unwrap(),
        );
        let resource = Resource::new(
            ResourceRef::node(ResourceName::new("web-1").unwrap()),
            [("env".to_owned(), "test".to_owned())].into(),
            HostId::new("host-1").unwrap(),
        );
        let known_hosts = dir.path().join("known_hosts");
        let line = format!("@cert-authority * {}\n", hosts.public_key().to_openssh().unwrap());
        std::fs::write(&known_hosts, line).unwrap();
        let server = {
            let trust = Arc::clone(&trust);
            let recorder: Arc<dyn Recorder> = Arc::new(recorder.clone());
            SshServer::builder()
                .gate(Arc::clone(&gate))
                .reach(reach)
                .audit(Arc::new(sink.clone()))
                .clock(clock)
                .trust(Arc::new(move || Arc::clone(&trust)))
                .recorder(recorder)
                .host_keys(HostKeys::new(host, certificate).unwrap())
                .node(resource.clone())
                .options(options)
                .build()
                .unwrap()
        };
        let server = Arc::new(server);
        let addr = listen(Arc::clone(&server), resource.id.clone()).await;
        let login = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
        Self {
            dir,
            users,
            hosts,
            addr,
            rules,
            gate,
            sink,
            recorder,
            trust,
            server,
            resource,
            login,
            known_hosts,
        }
    }

    /// A certificate of the user authority for the login of this process, valid for an hour.
    pub fn wish(&self) -> Wish<'_> {
        Wish {
            principals: std::slice::from_ref(Box::leak(Box::new(&*Box::leak(
                self.login.clone().into_boxed_str(),
            )))),
            cert_type: CertType::User,
            expires_in: 3600,
            critical: vec![],
            by: &self.users,
        }
    }

    /// The certificate of another key, made out to this user.
    pub fn certificate_for(&self, user: &str, wish: &Wish<'_>) -> Certificate {
        self.certify(user, &key(), wish)
    }

    fn certify(&self, user: &str, key: &PrivateKey, wish: &Wish<'_>) -> Certificate {
        let now = i64::try_from(now_secs()).unwrap();
        let before = u64::try_from(now + wish.expires_in).unwrap();
        let mut builder = Builder::new_with_random_nonce(
            &mut rand::rng(),
            key.public_key().key_data().clone(),
            u64::try_from(now - 7200).unwrap(),
            before,
        )
        .unwrap();
        builder.key_id(user).unwrap().cert_type(wish.cert_type).unwrap();
        for principal in wish.principals {
            builder.valid_principal(*principal).unwrap();
        }
        if wish.principals.is_empty() {
            builder.all_principals_valid().unwrap();
        }
        for (name, value) in &wish.critical {
            let (name, value) = (*name, *value);
            builder.critical_option(name, value).unwrap();
        }
        let mut identity = Identity::new(
            cluster(),
            Subject::User { name: UserName::new(user).unwrap() },
            Timestamp::from_secs(now - 60),
        );
        identity.logins = wish.principals.iter().map(|login| Login::new(login).unwrap()).collect();
        let document = String::from_utf8(identity.encode().unwrap()).unwrap();
        if wish.cert_type == CertType::User {
            builder.extension(SSH_IDENTITY_EXTENSION, &document).unwrap();
            builder.extension("permit-pty", "").unwrap();
        }
        builder.sign(wish.by).unwrap()
    }

    /// Writes a key and a certificate as a client has them, and returns the key's path.
    pub fn identity(&self, name: &str, wish: Wish<'_>) -> PathBuf {
        let key = key();
        let certificate = self.certify("alice", &key, &wish);
        let path = self.dir.path().join(name);
        write_private(&path, &key.to_openssh(LineEnding::LF).unwrap());
        let public = self.dir.path().join(format!("{name}.pub"));
        std::fs::write(public, key.public_key().to_openssh().unwrap()).unwrap();
        let cert = self.dir.path().join(format!("{name}-cert.pub"));
        std::fs::write(cert, certificate.to_openssh().unwrap()).unwrap();
        path
    }

    /// Options for `ssh`, `scp` and `sftp`: strict, with nothing of this machine's.
    pub fn options(&self, identity: &Path) -> Vec<String> {
        let option = |text: String| ["-o".to_owned(), text];
        [
            ["-F".to_owned(), "/dev/null".to_owned()],
            option("StrictHostKeyChecking=yes".into()),
            option(format!("UserKnownHostsFile={}", self.known_hosts.display())),
            option("GlobalKnownHostsFile=/dev/null".into()),
            option("IdentitiesOnly=yes".into()),
            option("IdentityAgent=none".into()),
            option("BatchMode=yes".into()),
            option(format!("IdentityFile={}", identity.display())),
        ]
        .concat()
    }

    /// `ssh` to the node; what follows the destination is `args`.
    pub fn ssh_as(&self, identity: &Path, before: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(self.options(identity))
            .args(["-p", &self.addr.port().to_string()])
            .args(before)
            .arg(format!("{}@127.0.0.1", self.login))
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// The same with a good certificate.
    pub fn ssh(&self, before: &[&str], args: &[&str]) -> Command {
        let identity = self.dir.path().join("id");
        if !identity.exists() {
            self.identity("id", self.wish());
        }
        self.ssh_as(&identity, before, args)
    }

    pub async fn run(&self, before: &[&str], args: &[&str]) -> Output {
        output(self.ssh(before, args)).await
    }

    /// Waits for an event.
    pub async fn event(&self, fits: impl FnMut(&Event) -> bool) -> Envelope {
        tokio::time::timeout(PATIENCE, self.sink.wait_for(fits))
            .await
            .unwrap_or_else(|_| panic!("no such event among {:?}", self.sink.names()))
    }

    pub async fn named(&self, name: &str) -> serde_json::Value {
        serde_json::to_value(self.event(|event| event.name() == name).await).unwrap()
    }
}

/// Serves a listener until the test ends.
pub async fn listen(server: Arc<SshServer>, resource: ResourceRef) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, client) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (server, resource) = (Arc::clone(&server), resource.clone());
            tokio::spawn(async move {
                server
                    .serve(Incoming {
                        stream: Box::new(stream),
                        peer: None,
                        resource,
                        client_addr: Some(client),
                        trace_id: TraceId::from_random(rand::random()),
                        session: None,
                        admission: Admission::unlimited(),
                    })
                    .await;
            });
        }
    });
    addr
}

pub fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

pub async fn output(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    tokio::time::timeout(PATIENCE, command.spawn().unwrap().wait_with_output())
        .await
        .expect("the client is done in time")
        .unwrap()
}

pub fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
