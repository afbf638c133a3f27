//! An SSH server that asks a policy of one's own: `cargo run --example ssh_with_own_policy`.
//!
//! No cluster, no roles, no tunnel: an authority made on the spot, a rule in Rust, and stock `ssh`.
//! It prints the command to paste.
#![allow(clippy::print_stdout, reason = "an example that prints what to run")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access_ca::*;
use access_core::audit::MemorySink;
use access_core::gate::{Gate, GateOptions, PolicySource};
use access_core::identity::{AuthorityKind, Identity, Subject, TrustStore, VerifiedIdentity};
use access_core::policy::{Action, Context, Decision, Grant, Reason, SessionLimits, Target};
use access_core::protocol::{Admission, Incoming, Protocol};
use access_core::resource::{Resource, ResourceRef};
use access_core::*;
use access_host::{HostReach, SystemClock};
use access_ssh::{HostKeys, SshServer};
use tokio::sync::watch;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The rule: commands and shells, for an hour, and no forwarding.
struct NoForwarding(watch::Sender<u64>);

impl PolicySource for NoForwarding {
    fn decide(
        &self,
        who: &VerifiedIdentity,
        action: &Action,
        _target: &Target,
        _context: &Context,
        now: Timestamp,
    ) -> Decision {
        match action {
            Action::SshSession { .. } | Action::SshSftp { .. } => Decision::Allow(Grant::within(
                SessionLimits::until(now.plus(Duration::from_secs(3600))),
            )),
            other => Decision::Deny(Reason::Other(format!(
                "{} may not {} here",
                who.name(),
                other.name()
            ))),
        }
    }

    fn fresh_at(&self) -> Option<Timestamp> {
        None // Always current: it is the source itself.
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

#[tokio::main]
async fn main() -> Result {
    if access_host::sftp::run_if_invoked() {
        return Ok(()); // The SFTP server runs as the login user, in a process of its own.
    }
    let dir = tempfile::tempdir()?;
    let Setup { trust, host_keys, node, login } = set_up(dir.path())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let audit = Arc::new(MemorySink::new(1000));
    let policy = Arc::new(NoForwarding(watch::Sender::new(0)));
    let gate = Gate::new(policy, audit.clone(), Arc::clone(&clock), GateOptions::default());
    let server = SshServer::builder()
        .gate(Arc::new(gate))
        .reach(Arc::new(HostReach::builder().build()?))
        .audit(audit)
        .clock(clock)
        .trust(Arc::new(move || Arc::clone(&trust)))
        .host_keys(host_keys)
        .node(node.clone())
        .build()?;
    let server = Arc::new(server);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!(
        "ssh -p {} -i {dir}/key -o UserKnownHostsFile={dir}/known_hosts {login}@127.0.0.1",
        listener.local_addr()?.port(),
        dir = dir.path().display(),
    );
    loop {
        let (stream, client) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = Incoming {
            stream: Box::new(stream),
            peer: None,
            resource: node.id.clone(),
            client_addr: Some(client),
            trace_id: ids::TraceId::from_random(rand::random()),
            session: None,
            admission: Admission::unlimited(),
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.serve(connection).await });
    }
}

struct Setup {
    trust: Arc<TrustStore>,
    host_keys: HostKeys,
    node: Resource,
    login: Login,
}

/// Authorities, a host certificate for this server, a user certificate for whoever runs this.
fn set_up(dir: &Path) -> Result<Setup> {
    let now = SystemClock.now();
    let cluster = ClusterName::new("example.com")?;
    let store = SoftwareKeyStore::new(SealingKey::generate()?);
    let make = |kind| Authority::create(&store, &NewAuthority::new(cluster.clone(), kind), now);
    let (users, hosts) = (make(AuthorityKind::User)?, make(AuthorityKind::Host)?);
    let policy = IssuingPolicy::new(now, Duration::from_secs(3600));
    let id = ResourceRef::node(ResourceName::new("here")?);
    let host = HostId::from_random(rand::random());

    let host_key = access_client::KeySet::generate()?.ssh;
    let subject = Subject::Host {
        id: host.clone(),
        services: [identity::Service::Node].into(),
        resources: vec![id.clone()],
    };
    let mut draft =
        HostDraft::new(Identity::new(cluster.clone(), subject, now), Duration::from_secs(3600))?;
    draft.ssh_public_key = Some(host_key.public_key().key_data().clone());
    draft.ssh_principals.push("127.0.0.1".into());
    let host_certificate = draft.vet(&policy)?.sign(&hosts)?;
    let host_certificate = host_certificate.ssh().ok_or("no host certificate")?.clone();

    let login = Login::new(std::env::var("USER").unwrap_or_else(|_| "root".into()))?;
    let user_key = access_client::KeySet::generate()?;
    let subject = Subject::User { name: UserName::new(login.as_str())? };
    let mut identity = Identity::new(cluster.clone(), subject, now);
    identity.logins = vec![login.clone()];
    let mut draft = UserDraft::new(identity, Duration::from_secs(3600));
    draft.ssh_public_key = Some(user_key.ssh.public_key().key_data().clone());
    let user_certificate = draft.vet(&policy)?.sign(&users)?;

    let key = dir.join("key");
    write_private(&key, &user_key.ssh_private_openssh()?)?;
    let text = user_certificate.ssh_openssh()?.ok_or("no user certificate")?;
    std::fs::write(dir.join("key-cert.pub"), text)?;
    let known =
        format!("@cert-authority * {}\n", openssh_line(hosts.ssh_key().ok_or("no SSH half")?)?);
    std::fs::write(dir.join("known_hosts"), known)?;

    let trust = TrustStore::new(cluster, [users.trusted().clone(), hosts.trusted().clone()])?;
    Ok(Setup {
        trust: Arc::new(trust),
        host_keys: HostKeys::new(host_key, host_certificate)?,
        node: Resource::new(id, Default::default(), host),
        login,
    })
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
