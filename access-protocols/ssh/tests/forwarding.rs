//! Forwarded connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The clients' side, which has no permits.
#![allow(clippy::disallowed_methods)]

mod common;

use access_core::audit::Event;
use access_core::policy::{Action, Reason};
use common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that sends back in capitals what it gets, until the other side stops.
async fn shouting() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(&all.to_ascii_uppercase()).await.unwrap();
            });
        }
    });
    port
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Connects as soon as somebody listens.
async fn connect(port: u16) -> TcpStream {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
            return stream;
        }
        assert!(tokio::time::Instant::now() < deadline, "somebody listens on {port}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn port_event(code: &'static str) -> impl FnMut(&Event) -> bool {
    move |event| event.name() == "port" && event.code() == code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_port_leads_through_the_node_and_halves_close_apart() {
    let node = Node::start().await;
    let (target, local) = (shouting().await, free_port().await);
    let forward = format!("{local}:127.0.0.1:{target}");
    let mut client = spawn(node.ssh(&["-N", "-L", &forward], &[]));
    for _ in 0..2 {
        let mut stream = connect(local).await;
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut all)).await.unwrap().unwrap();
        assert_eq!(all, "HELLO");
    }
    let stopped = serde_json::to_value(node.event(port_event("T3003S")).await).unwrap();
    assert_eq!(stopped["addr"], format!("127.0.0.1:{target}"));
    assert_eq!((&stopped["tx"], &stopped["rx"]), (&5.into(), &5.into()));
    assert_eq!(stopped["forward"], "local");
    client.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_and_output_lead_through_the_node() {
    let node = Node::start().await;
    let target = shouting().await;
    let mut child = spawn(node.ssh(&["-W", &format!("127.0.0.1:{target}")], &[]));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"quiet").await.unwrap();
    drop(stdin);
    let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(text(&done.stdout), "QUIET");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_or_is_forbidden_says_so() {
    let node = Node::start().await;
    let closed = free_port().await;
    let done = node.run(&["-W", &format!("127.0.0.1:{closed}")], &[]).await;
    let said = text(&done.stderr);
    assert!(said.contains(&format!("connecting to 127.0.0.1:{closed}")), "{said}");
    node.event(port_event("T3003E")).await;

    node.rules.deny(|action, _| match action {
        Action::SshForward { .. } | Action::SshListen { .. } => {
            Some(Reason::Option { option: "port_forwarding", role: None })
        }
        _ => None,
    });
    let done = node.run(&["-W", "127.0.0.1:1"], &[]).await;
    let said = text(&done.stderr);
    assert!(said.contains("your roles do not permit this: port_forwarding"), "{said}");
    let denied = node.event(|event| event.name() == "access.decision" && event.code() == "ACD00W");
    denied.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_do_not_listen_and_agents_stay_where_they_are() {
    let node = Node::start().await;
    let done = node.run(&["-A", "-R", "0:127.0.0.1:1"], &["echo $SSH_AUTH_SOCK; exit 4"]).await;
    assert!(text(&done.stderr).contains("remote port forwarding failed"), "{}", text(&done.stderr));
    assert_eq!((text(&done.stdout).trim(), done.status.code()), ("", Some(4)));
    let refused = node.named("port").await;
    assert_eq!(refused["forward"], "remote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_permission_ends_forwarded_connections() {
    let node = Node::start().await;
    let (target, local) = (shouting().await, free_port().await);
    let mut client = spawn(node.ssh(&["-N", "-L", &format!("{local}:127.0.0.1:{target}")], &[]));
    let mut stream = connect(local).await;
    stream.write_all(b"x").await.unwrap();
    node.event(port_event("T3003I")).await;
    node.rules.deny(|action, _| {
        matches!(action, Action::SshForward { .. }).then(|| Reason::Other("changed".into()))
    });
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), read).await.expect("it ends");
    assert!(all.is_empty());
    assert!(client.try_wait().unwrap().is_none(), "the session itself goes on");
    client.kill().await.unwrap();
}
