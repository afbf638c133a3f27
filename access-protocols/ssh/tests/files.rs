//! Files by `sftp`, `scp` and `rsync`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::path::PathBuf;

use access_core::audit::Event;
use access_core::policy::{Action, Reason};
use common::*;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

fn sample(node: &Node) -> PathBuf {
    let path = node.dir.path().join("sample");
    let data: Vec<u8> =
        (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    std::fs::write(&path, data).unwrap();
    path
}

fn identity(node: &Node) -> PathBuf {
    node.identity("id", node.wish())
}

fn sftp(node: &Node, batch: &str) -> Command {
    let file = node.dir.path().join("batch");
    std::fs::write(&file, batch).unwrap();
    let mut command = Command::new("sftp");
    command
        .args(node.options(&identity(node)))
        .args(["-P", &node.addr.port().to_string(), "-b"])
        .arg(file)
        .arg(format!("{}@127.0.0.1", node.login));
    command
}

fn deny_copies(node: &Node) {
    node.rules.deny(|action, _| {
        matches!(action, Action::SshSftp { .. })
            .then(|| Reason::Option { option: "ssh_file_copy", role: None })
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_moves_files_and_every_operation_is_written_down() {
    let node = Node::start().await;
    let source = sample(&node);
    let dir = node.dir.path().join("far");
    let batch = format!(
        "mkdir {dir}\nput {source} {dir}/up\nget {dir}/up {dir}/down\nchmod 600 {dir}/up\n\
         rename {dir}/up {dir}/moved\nsymlink {dir}/moved {dir}/link\nrm {dir}/link\n-rm {dir}/none\n\
         ls {dir}\n",
        dir = dir.display(),
        source = source.display(),
    );
    let done = output(sftp(&node, &batch)).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    let original = std::fs::read(&source).unwrap();
    assert!(std::fs::read(dir.join("moved")).unwrap() == original);
    assert!(std::fs::read(dir.join("down")).unwrap() == original);

    node.event(|event| event.name() == "session.end").await;
    let events: Vec<serde_json::Value> =
        node.sink.envelopes().iter().map(|e| serde_json::to_value(e).unwrap()).collect();
    let seen: Vec<(String, String)> = events
        .iter()
        .filter(|event| event["event"] == "sftp")
        .map(|event| {
            let path = event["path"].as_str().unwrap();
            let name = path.strip_prefix(&format!("{}/", dir.display())).unwrap_or("");
            (event["code"].as_str().unwrap().to_owned(), name.to_owned())
        })
        .collect();
    for expected in [
        ("TS012I", ""),
        ("TS001I", "up"),
        ("TS007I", "up"),
        ("TS016I", "up"),
        ("TS018I", "link"),
        ("TS011I", "link"),
        ("TS011E", "none"),
        ("TS009I", ""),
    ] {
        let expected = (expected.0.to_owned(), expected.1.to_owned());
        assert!(seen.contains(&expected), "{expected:?} is not in {seen:?}");
    }
    let summary = events.iter().find(|event| event["event"] == "sftp_summary").unwrap();
    assert_eq!(summary["uploaded_bytes"], 3_000_000);
    assert_eq!(summary["downloaded_bytes"], 3_000_000);
    assert_eq!(summary["files"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_in_both_protocols_and_rsync() {
    let node = Node::start().await;
    let source = sample(&node);
    let original = std::fs::read(&source).unwrap();
    let identity = identity(&node);
    let remote =
        |name: &str| format!("{}@127.0.0.1:{}/{name}", node.login, node.dir.path().display());
    for (protocol, name) in [("-s", "by-sftp"), ("-O", "by-scp")] {
        let mut up = Command::new("scp");
        up.args(node.options(&identity))
            .args([protocol, "-p", "-P", &node.addr.port().to_string()])
            .arg(&source)
            .arg(remote(name));
        let done = output(up).await;
        assert!(done.status.success(), "{protocol}: {}", text(&done.stderr));
        assert!(std::fs::read(node.dir.path().join(name)).unwrap() == original);
        let back = node.dir.path().join(format!("{name}-back"));
        let mut down = Command::new("scp");
        down.args(node.options(&identity))
            .args([protocol, "-P", &node.addr.port().to_string()])
            .arg(remote(name))
            .arg(&back);
        assert!(output(down).await.status.success());
        assert!(std::fs::read(back).unwrap() == original);
    }
    let shell = format!("ssh {} -p {}", node.options(&identity).join(" "), node.addr.port());
    let mut rsync = Command::new("rsync");
    rsync.args(["-a", "-e", &shell]).arg(&source).arg(remote("by-rsync"));
    let done = output(rsync).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(std::fs::read(node.dir.path().join("by-rsync")).unwrap() == original);
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_can_be_forbidden() {
    let node = Node::start().await;
    let source = sample(&node);
    deny_copies(&node);
    let done = output(sftp(&node, "ls\n")).await;
    assert!(!done.status.success());
    let said = text(&done.stderr);
    assert!(said.contains("access denied: your roles do not permit this: ssh_file_copy"), "{said}");
    assert_eq!(node.named("sftp").await["code"], "TS020E");

    let mut scp = Command::new("scp");
    scp.args(node.options(&identity(&node)))
        .args(["-O", "-P", &node.addr.port().to_string()])
        .arg(&source)
        .arg(format!("{}@127.0.0.1:{}", node.login, node.dir.path().join("no").display()));
    let done = output(scp).await;
    assert!(!done.status.success());
    assert!(text(&done.stderr).contains("ssh_file_copy"));
    assert_eq!(node.named("scp").await["code"], "T3010E");
    assert!(!node.dir.path().join("no").exists());
    assert!(node.run(&[], &["true"]).await.status.success(), "the rest is allowed");
}

/// One SFTP packet: kind, id, a path, flags and attributes that say nothing.
fn packet(kind: u8, id: u32, path: &str) -> Vec<u8> {
    let length = u32::try_from(path.len()).unwrap();
    let mut body = vec![kind];
    body.extend(id.to_be_bytes());
    body.extend(length.to_be_bytes());
    body.extend(path.as_bytes());
    body.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

/// Two requests under one id could have one take the other's place in the audit log.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_used_twice_at_once_ends_the_session() {
    const OPEN: u8 = 3;
    const REMOVE: u8 = 13;
    let node = Node::start().await;
    let kept = node.dir.path().join("kept");
    std::fs::write(&kept, "kept").unwrap();
    let mut child = spawn(node.ssh(&["-s"], &["sftp"]));
    let mut stdin = child.stdin.take().unwrap();
    let packets = [
        vec![0, 0, 0, 5, 1, 0, 0, 0, 3],
        packet(OPEN, 7, "/etc/hostname"),
        packet(OPEN, 7, "/dev/null"),
        packet(REMOVE, 8, kept.to_str().unwrap()),
    ];
    stdin.write_all(&packets.concat()).await.unwrap();
    let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let said = text(&done.stderr);
    assert!(said.contains("used the SFTP request id 7 twice"), "{said}");
    assert_eq!(node.named("session.end").await["reason"], "failed");
    let failed = node
        .event(|event| matches!(event, Event::Subsystem(event) if event.exit_error.is_some()))
        .await;
    let why = serde_json::to_value(failed).unwrap()["exitError"].as_str().unwrap().to_owned();
    assert!(why.contains("id 7 twice"), "{why}");
    let sftp = node.named("sftp").await;
    assert_eq!(sftp["path"], "/etc/hostname", "the first is in the log all the same");
    assert!(kept.exists(), "nothing is done after it");
}
