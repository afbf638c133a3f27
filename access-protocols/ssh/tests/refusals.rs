//! Who may not come in: what they are told, and what is written down.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The clients' side, which has no permits.
#![allow(clippy::disallowed_methods)]

mod common;

use std::sync::Arc;

use access_core::Clock;
use access_core::policy::{Action, Reason};
use access_core::protocol::{Admission, Incoming, Protocol};
use common::*;
use ssh_key::certificate::CertType;

/// What `ssh` says with a certificate, and the event that it leaves.
async fn refused(node: &Node, name: &str, wish: Wish<'_>) -> (String, serde_json::Value) {
    let identity = node.identity(name, wish);
    let done = output(node.ssh_as(&identity, &[], &["echo in"])).await;
    assert_eq!(done.status.code(), Some(255));
    assert_eq!(text(&done.stdout), "", "nothing runs");
    let event = node.named("auth").await;
    assert_eq!(event["success"], false);
    (text(&done.stderr), event)
}

/// `ssh` outside batch mode.
fn talkative(node: &Node, identity: &std::path::Path, more: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("setsid");
    command
        .args(["ssh", "-o", "BatchMode=no"])
        .args(more)
        .args(node.options(identity))
        .args(["-p", &node.addr.port().to_string()])
        .arg(format!("{}@127.0.0.1", node.login))
        .arg("echo in")
        .env_remove("DISPLAY")
        .env_remove("SSH_ASKPASS")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    command
}

fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_a_strangers() {
    let node = Node::start().await;
    let impostor = key();
    let (said, event) = refused(&node, "a", Wish { by: &impostor, ..node.wish() }).await;
    assert_has(&said, "Permission denied");
    assert!(!said.contains("access denied"), "strangers learn nothing: {said}");
    assert_has(event["error"].as_str().unwrap(), "not signed by an authority of this cluster");
    assert_eq!(event["user"], "alice");
    assert_eq!(event["login"], node.login.as_str());
    assert_eq!(event["code"], "T3007W");
}

#[tokio::test(flavor = "multi_thread")]
async fn expired() {
    let node = Node::start().await;
    let identity = node.identity("id", Wish { expires_in: -60, ..node.wish() });
    // In batch mode OpenSSH takes no part in dialogues, not even to show a text.
    let done = output(talkative(&node, &identity, &[])).await;
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(255), ""));
    let said = text(&done.stderr);
    assert_has(&said, "If it has expired, log in again");
    assert_eq!(said.matches("log in again").count(), 1, "told once: {said}");
    assert_has(&said, "Permission denied");
    let event = node.named("auth").await;
    assert_has(event["error"].as_str().unwrap(), "no valid certificate");
}

/// OpenSSH's client offers no host certificates, so this one is another.
#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_certificate_is_no_users() {
    let node = Node::start().await;
    let wish = Wish { by: &node.hosts, cert_type: CertType::Host, ..node.wish() };
    let path = node.identity("a", wish);
    let key = russh::keys::load_secret_key(&path, None).unwrap();
    let certificate =
        russh::keys::load_openssh_certificate(path.with_file_name("a-cert.pub")).unwrap();
    let (told, when_told) = tokio::sync::oneshot::channel();
    let client = Listener { told: Some(told) };
    let config = Arc::new(russh::client::Config::default());
    let mut client = russh::client::connect(config, node.addr, client).await.unwrap();
    let login = node.login.as_str();
    let _ = client.authenticate_openssh_cert(login, Arc::new(key), certificate).await;
    assert!(client.channel_open_session().await.is_err(), "nothing is served");
    let said = tokio::time::timeout(PATIENCE, when_told).await.unwrap().unwrap();
    assert_has(&said, "a host certificate, used as a user's");
    let event = node.named("auth").await;
    assert_has(event["error"].as_str().unwrap(), "wrong type");
}

struct Listener {
    told: Option<tokio::sync::oneshot::Sender<String>>,
}

impl russh::client::Handler for Listener {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn disconnected(
        &mut self,
        reason: russh::client::DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        if let Some(told) = self.told.take() {
            told.send(format!("{reason:?}")).unwrap();
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_critical_options_are_not_passed_over() {
    let node = Node::start().await;
    let wish = Wish { critical: vec![("verify-required", "")], ..node.wish() };
    let (said, event) = refused(&node, "a", wish).await;
    assert_has(&said, "unknown critical option \"verify-required\"");
    assert_has(event["error"].as_str().unwrap(), "verify-required");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_certificate_works_from_its_addresses_only() {
    let node = Node::start().await;
    let here =
        Wish { critical: vec![("source-address", "10.0.0.0/8,127.0.0.1/32")], ..node.wish() };
    let here = node.identity("here", here);
    assert!(output(node.ssh_as(&here, &[], &["true"])).await.status.success());
    let wish = Wish { critical: vec![("source-address", "10.0.0.0/8")], ..node.wish() };
    let (said, event) = refused(&node, "there", wish).await;
    assert_has(&said, "may not be used from 127.0.0.1");
    assert_has(event["error"].as_str().unwrap(), "may not be used from 127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_must_be_among_the_principals() {
    let node = Node::start().await;
    let (said, event) = refused(&node, "a", Wish { principals: &["bob"], ..node.wish() }).await;
    assert_has(&said, &format!("the certificate does not allow login \"{}\"", node.login));
    assert_has(event["error"].as_str().unwrap(), "does not allow login");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_principals_is_nobody_not_everybody() {
    let node = Node::start().await;
    let (said, _) = refused(&node, "a", Wish { principals: &[], ..node.wish() }).await;
    assert_has(&said, "the certificate names no logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_says_no() {
    let node = Node::start().await;
    node.rules.deny(|action, _| {
        matches!(action, Action::SshSession { .. })
            .then(|| Reason::NotAllowed { action: "ssh.session", target: "node/web-1".into() })
    });
    let done = node.run(&[], &["echo in"]).await;
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(255), ""));
    assert_has(&text(&done.stderr), "web-1: access denied, or there is no such thing");
    let decision = node.named("access.decision").await;
    assert_eq!(decision["code"], "ACD00W");
    assert_has(decision["reason"].as_str().unwrap(), "no role allows ssh.session");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_keys_passwords_and_dialogues_are_refused() {
    let node = Node::start().await;
    let identity = node.identity("id", node.wish());
    std::fs::remove_file(node.dir.path().join("id-cert.pub")).unwrap();
    let done = output(node.ssh_as(&identity, &[], &["echo in"])).await;
    assert_has(&text(&done.stderr), "Permission denied (publickey");
    let event = node.named("auth").await;
    assert_has(event["error"].as_str().unwrap(), "the plain key SHA256:");

    for method in ["password", "keyboard-interactive", "none", "hostbased"] {
        let preferred = format!("PreferredAuthentications={method}");
        let done = output(talkative(&node, &identity, &["-o", &preferred])).await;
        assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(255), ""), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_verified_by_the_host_authority() {
    let node = Node::start().await;
    let other = format!("@cert-authority * {}\n", key().public_key().to_openssh().unwrap());
    std::fs::write(&node.known_hosts, other).unwrap();
    let done = node.run(&[], &["echo in"]).await;
    assert_eq!(done.status.code(), Some(255));
    assert_has(&text(&done.stderr), "Host key verification failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_host_certificate_is_shown_from_then_on() {
    let node = Node::start().await;
    let (hosts, host) = (key(), key());
    let line = format!("@cert-authority * {}\n", hosts.public_key().to_openssh().unwrap());
    std::fs::write(&node.known_hosts, line).unwrap();
    assert!(!node.run(&[], &["true"]).await.status.success());
    let renewed = host_certificate(&hosts, &host, &["127.0.0.1"]);
    node.server.host_keys().replace(host, renewed.clone()).unwrap();
    assert!(node.run(&[], &["true"]).await.status.success());
    // Neither another's certificate nor a user's is taken.
    assert!(node.server.host_keys().replace(key(), renewed).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_says_nothing_is_cut_off() {
    let mut options = access_ssh::SshOptions::default();
    options.auth_deadline = std::time::Duration::from_millis(300);
    let node = Node::with(options, access_core::recording::MemoryRecorder::new(None)).await;
    for hello in [&b""[..], b"SSH-2.0-x\r\n"] {
        let mut stream = tokio::net::TcpStream::connect(node.addr).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, hello).await.unwrap();
        let mut all = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all);
        let ended = tokio::time::timeout(PATIENCE, read).await.expect("it is cut off");
        drop(ended);
        assert!(all.starts_with(b"SSH-2.0-Access\r\n"), "no version is told: {}", text(&all));
    }
    assert!(node.sink.names().is_empty(), "nobody tried anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_connections_and_sessions() {
    let node = Node::start().await;
    node.rules.limit(|limits| limits.max_connections = Some(1));
    let mut first = spawn(node.ssh(&[], &["cat"]));
    node.event(|event| event.name() == "session.start").await;
    let done = node.run(&[], &["true"]).await;
    assert_has(&text(&done.stderr), "1 connections are open, as many as your roles allow");
    let rejected = node.named("session.rejected").await;
    assert_eq!(rejected["max"], 1);
    first.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_log_that_cannot_be_written_lets_nobody_in() {
    let node = Node::start().await;
    node.sink.fail_with(Some(access_core::audit::AuditError::Full));
    let done = node.run(&[], &["echo in"]).await;
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(255), ""));
    assert_has(&text(&done.stderr), "the audit log cannot be written");
}

/// Serves one connection whose client showed a TLS certificate of this user, and logs in over it.
async fn log_in_behind_tls(node: &Node, peer: &str) -> std::process::Output {
    let wish = node.wish();
    let peer = node.trust.verify_ssh_any_login(
        &node.certificate_for(peer, &wish),
        None,
        access_host::SystemClock.now(),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (server, resource) = (std::sync::Arc::clone(&node.server), node.resource.id.clone());
    tokio::spawn(async move {
        let (stream, client) = listener.accept().await.unwrap();
        let incoming = Incoming {
            stream: Box::new(stream),
            peer: Some(peer.unwrap()),
            resource,
            client_addr: Some(client),
            trace_id: access_core::ids::TraceId::new("t-1").unwrap(),
            session: None,
            admission: Admission::unlimited(),
        };
        server.serve(incoming).await;
    });
    let identity = node.identity("id", wish);
    let mut command = tokio::process::Command::new("ssh");
    command
        .args(node.options(&identity))
        .args(["-p", &port.to_string(), &format!("{}@127.0.0.1", node.login), "echo in"])
        .kill_on_drop(true);
    output(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_ssh_must_name_the_same_user() {
    let node = Node::start().await;
    let done = log_in_behind_tls(&node, "alice").await;
    assert_eq!(text(&done.stdout), "in\n", "{}", text(&done.stderr));
    let done = log_in_behind_tls(&node, "bob").await;
    assert_eq!((text(&done.stdout).as_str(), done.status.code()), ("", Some(255)));
    let said = text(&done.stderr);
    assert!(
        said.contains("made out to alice, but the TLS certificate of the connection to bob"),
        "{said}"
    );
    let refused = node.named("auth").await;
    assert_eq!((&refused["user"], &refused["success"]), (&"alice".into(), &false.into()));
}
