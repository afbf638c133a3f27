//! Output against that of `sshd`, in one run. Run by hand, optimised:
//! `cargo test --release -p access-ssh --test throughput -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The clients' side, which has no permits.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::print_stdout)]

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::*;
use tokio::process::{Child, Command};

/// An `sshd` with the same authorities.
async fn sshd(node: &Node, cipher: &str) -> (Child, u16) {
    let dir = node.dir.path();
    let host = key();
    write_private(&dir.join("host"), &host.to_openssh(ssh_key::LineEnding::LF).unwrap());
    let certificate = host_certificate(&node.hosts, &host, &["127.0.0.1"]);
    std::fs::write(dir.join("host-cert.pub"), certificate.to_openssh().unwrap()).unwrap();
    let ca = node.users.public_key().to_openssh().unwrap();
    std::fs::write(dir.join("users.pub"), ca).unwrap();
    let port =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let config = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {dir}/host\nHostCertificate {dir}/host-cert.pub\n\
         TrustedUserCAKeys {dir}/users.pub\nPidFile none\nUsePAM no\nStrictModes no\n\
         PermitRootLogin yes\nCiphers {cipher}\n",
        dir = dir.display()
    );
    std::fs::write(dir.join("sshd_config"), config).unwrap();
    std::fs::create_dir_all("/run/sshd").unwrap();
    let child = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(dir.join("sshd_config"))
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (child, port)
}

async fn time(
    node: &Node,
    identity: &Path,
    port: u16,
    cipher: &str,
    up: u64,
    args: &[&str],
) -> Duration {
    // The shell only feeds standard input.
    let mut command = Command::new("sh");
    command
        .args(["-c", "head -c \"$UP\" /dev/zero | ssh \"$@\"", "ssh"])
        .env("UP", up.to_string())
        .args(node.options(identity))
        .args(["-o", &format!("Ciphers={cipher}")])
        .args(["-p", &port.to_string(), &format!("{}@127.0.0.1", node.login)])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let before = Instant::now();
    assert!(command.status().await.unwrap().success());
    before.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn against_sshd() {
    let node = Node::start().await;
    let identity = node.identity("id", node.wish());
    for cipher in ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"] {
        let (mut child, port) = sshd(&node, cipher).await;
        for (what, up, args) in [
            ("1 GiB out", 0, &["head -c 1073741824 /dev/zero"][..]),
            ("1 GiB in", 1 << 30, &["cat > /dev/null"]),
            ("true", 0, &["true"]),
        ] {
            let (mut theirs, mut ours) = (Duration::MAX, Duration::MAX);
            for _ in 0..5 {
                theirs = theirs.min(time(&node, &identity, port, cipher, up, args).await);
                ours = ours.min(time(&node, &identity, node.addr.port(), cipher, up, args).await);
            }
            println!(
                "{cipher} {what}: sshd {theirs:.3?}, ours {ours:.3?}: {:.2} of its speed",
                theirs.as_secs_f64() / ours.as_secs_f64()
            );
        }
        child.kill().await.unwrap();
    }
}
