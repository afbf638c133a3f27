//! `ssh -J` through the jump host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The clients' side, which has no permits.
#![allow(clippy::disallowed_methods)]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access_core::gate::{Gate, GateOptions, Guarded};
use access_core::policy::{Action, Reason, Target};
use access_core::reach::{BoxedStream, Process, ProcessRequest, Reach, ReachError};
use access_core::{Clock, Permit, Resource};
use access_host::SystemClock;
use access_ssh::{HostKeys, JumpHost};
use async_trait::async_trait;
use common::*;
use tokio::net::TcpStream;
use tokio::process::Command;

/// Leads to the one node that there is.
struct ToNode(SocketAddr);

#[async_trait]
impl Reach for ToNode {
    async fn dial(&self, permit: &Permit) -> Result<Guarded<BoxedStream>, ReachError> {
        let Target::Resource(Resource { id, .. }) = permit.target() else { panic!("a resource") };
        assert_eq!((permit.action(), id.to_string().as_str()), (&Action::See, "node/web-1"));
        let stream = TcpStream::connect(self.0).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Ok(permit.guard(Box::new(stream)))
    }

    async fn spawn(&self, _: &Permit, _: ProcessRequest) -> Result<Process, ReachError> {
        Err(ReachError::NotPermitted("a process"))
    }
}

struct Jump {
    node: Node,
    addr: SocketAddr,
}

impl Jump {
    async fn start() -> Self {
        let node = Node::start().await;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let host = key();
        let certificate = host_certificate(&node.hosts, &host, &["127.0.0.1"]);
        let (trust, resource) = (Arc::clone(&node.trust), node.resource.clone());
        let gate = Gate::new(
            node.rules.clone(),
            Arc::new(node.sink.clone()),
            Arc::clone(&clock),
            GateOptions::default(),
        );
        let jump = JumpHost::builder()
            .gate(Arc::new(gate))
            .reach(Arc::new(ToNode(node.addr)))
            .audit(Arc::new(node.sink.clone()))
            .clock(clock)
            .trust(Arc::new(move || Arc::clone(&trust)))
            .host_keys(HostKeys::new(host, certificate).unwrap())
            .directory(Arc::new(move |name: &str| (name == "web-1").then(|| resource.clone())))
            .build()
            .unwrap();
        let jump = Arc::new(jump);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, client) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let jump = Arc::clone(&jump);
                tokio::spawn(async move { jump.serve(Box::new(stream), Some(client)).await });
            }
        });
        Self { node, addr }
    }

    fn identity(&self) -> PathBuf {
        let path = self.node.dir.path().join("id");
        if path.exists() { path } else { self.node.identity("id", self.node.wish()) }
    }

    /// A configuration file: `-J` hands no options on to the jump.
    fn config(&self, identity: &Path) -> PathBuf {
        let path = self.node.dir.path().join("config");
        let text = format!(
            "Host *\n  StrictHostKeyChecking yes\n  UserKnownHostsFile {}\n  \
             GlobalKnownHostsFile /dev/null\n  IdentitiesOnly yes\n  IdentityAgent none\n  \
             BatchMode yes\n  IdentityFile {}\n  User {}\n",
            self.node.known_hosts.display(),
            identity.display(),
            self.node.login,
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn ssh(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(self.config(&self.identity()))
            .args(args)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn through(&self) -> String {
        format!("127.0.0.1:{}", self.addr.port())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_reached_by_its_short_and_its_full_name() {
    let jump = Jump::start().await;
    for name in ["web-1", "web-1.node.example.com"] {
        let done = output(jump.ssh(&[
            "-o",
            "HostKeyAlias=web-1",
            "-J",
            &jump.through(),
            name,
            "echo in; exit 3",
        ]))
        .await;
        assert_eq!(
            (text(&done.stdout).as_str(), done.status.code()),
            ("in\n", Some(3)),
            "{}",
            text(&done.stderr)
        );
    }
    // What runs in it is the node's own SSH: it has verified the user itself.
    assert_eq!(jump.node.named("session.start").await["user"], "alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn much_passes_through_unharmed() {
    let jump = Jump::start().await;
    let command =
        "head -c 20000000 /dev/zero | tr '\\0' x | tee /dev/stderr | sha256sum >/dev/null";
    let done = output(jump.ssh(&["-J", &jump.through(), "web-1", command])).await;
    assert!(done.status.success());
    assert_eq!(done.stderr.len(), 20_000_000);
    assert!(done.stderr.iter().all(|byte| *byte == b'x'));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_and_what_is_not_there_look_alike() {
    let jump = Jump::start().await;
    jump.node.rules.deny(|action, target| {
        (*action == Action::See && target.to_string() == "node/web-1")
            .then(|| Reason::NotAllowed { action: "see", target: target.to_string() })
    });
    let mut said = Vec::new();
    for name in ["web-1", "web-2"] {
        let done = output(jump.ssh(&["-J", &jump.through(), name, "echo in"])).await;
        assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(255), ""));
        let text = text(&done.stderr);
        assert!(text.contains("no such node, or no access to it"), "{text}");
        let line = text.lines().find(|line| line.contains("no such node")).unwrap();
        said.push(line.replace(name, "NAME"));
    }
    assert_eq!(said[0], said[1]);
    assert_eq!(jump.node.named("access.decision").await["code"], "ACD00W");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_has_no_sessions_and_says_what_to_do() {
    let jump = Jump::start().await;
    let port = jump.addr.port().to_string();
    let done = output(jump.ssh(&["-p", &port, "127.0.0.1", "echo in"])).await;
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(255), ""));
    assert!(text(&done.stderr).contains("use ssh -J"), "{}", text(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_no_further() {
    let jump = Jump::start().await;
    let impostor = key();
    jump.node.identity("id", Wish { by: &impostor, ..jump.node.wish() });
    let done = output(jump.ssh(&["-J", &jump.through(), "web-1", "echo in"])).await;
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(255), ""));
    let event = jump.node.named("auth").await;
    assert_eq!(event["user"], "alice");
    assert!(event["server_hostname"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_node_ends_the_jump() {
    let jump = Jump::start().await;
    let mut child = spawn(jump.ssh(&["-J", &jump.through(), "web-1", "echo ready; sleep 1000"]));
    jump.node.event(|event| event.name() == "session.start").await;
    let before = std::time::Instant::now();
    jump.node
        .rules
        .deny(|action, _| (*action == Action::See).then(|| Reason::Other("withdrawn".into())));
    tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(before.elapsed() < std::time::Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(jump.node.named("session.end").await["reason"], "client");
}
