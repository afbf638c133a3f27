//! A proxy that was altered gains nothing: whoever it answers for is found out, before a password,
//! a token or a key was said, and nothing is left behind at the client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::process::Command;

use access_e2e::{Cluster, Done, Impostor, Mask, PASSWORD, Process, bin, contains, run};

const ALICE: &[&str] = &["--roles=access", "--logins=root"];
const FOUND_OUT: &str = "does not prove to be the cluster that was asked for";
const UNREACHABLE: i32 = 5;

fn cluster() -> Cluster {
    let cluster = Cluster::start();
    cluster.add_user("alice", ALICE);
    cluster
}

/// A login at an impostor, by somebody who was never here.
fn login(cluster: &Cluster, impostor: &Impostor) -> Done {
    let (proxy, pin) = (format!("--proxy={}", impostor.addr), format!("--ca-pin={}", cluster.pin));
    let args = ["login", &proxy, &pin, "--user=alice"];
    cluster.access("mallory", &args, &format!("{PASSWORD}\n"))
}

fn nothing_was_gained(cluster: &Cluster, impostor: &Impostor) {
    let spoils = impostor.spoils();
    assert!(!contains(&spoils.heard, PASSWORD.as_bytes()), "the password was said");
    let home = cluster.home("mallory");
    let left: Vec<_> = walk(&home);
    assert!(left.is_empty(), "files appeared: {left:?}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn an_unaltered_proxy_in_between_is_none() {
    let cluster = cluster();
    let impostor = Impostor::before(&cluster.proxy_addr).start();
    login(&cluster, &impostor).ok();
    assert!(!walk(&cluster.home("mallory")).is_empty());
}

#[test]
fn a_forged_auth_is_found_out() {
    let cluster = cluster();
    let impostor = Impostor::before(&cluster.proxy_addr)
        .poses_as("auth.", Mask::forged("auth.example.com"))
        .start();
    login(&cluster, &impostor).fails(UNREACHABLE, FOUND_OUT);
    assert_eq!(impostor.spoils_of("auth.example.com").believed, 0);
    nothing_was_gained(&cluster, &impostor);
}

#[test]
fn another_host_of_the_cluster_is_not_auth() {
    let cluster = cluster();
    for host in ["agent", "proxy"] {
        let impostor = Impostor::before(&cluster.proxy_addr)
            .poses_as("auth.", Mask::of_host(&cluster.path(host)))
            .start();
        login(&cluster, &impostor).fails(UNREACHABLE, FOUND_OUT);
        // Nobody got as far as to send it the keys to be certified, so that it could swap them.
        assert_eq!(impostor.spoils_of("auth.example.com").believed, 0, "{host}");
        nothing_was_gained(&cluster, &impostor);
    }
}

#[test]
fn a_user_is_not_auth() {
    let cluster = cluster();
    cluster.login("alice").ok();
    let profile = cluster.home("alice").join(cluster.proxy_addr.replace(':', "_"));
    let impostor = Impostor::before(&cluster.proxy_addr)
        .poses_as("auth.", Mask::of_identity_file(&profile.join("identity")))
        .start();
    login(&cluster, &impostor).fails(UNREACHABLE, FOUND_OUT);
    assert_eq!(impostor.spoils_of("auth.example.com").believed, 0);
    nothing_was_gained(&cluster, &impostor);
}

#[test]
fn another_cluster_of_the_same_name_is_found_out() {
    let (cluster, other) = (cluster(), Cluster::without_agent());
    assert_ne!(cluster.pin, other.pin);
    // All of it: web, Auth, everything.
    let impostor = Impostor::before(&other.proxy_addr).start();
    login(&cluster, &impostor).fails(UNREACHABLE, FOUND_OUT);
    nothing_was_gained(&cluster, &impostor);
    // Auth alone: the ping is the true one's.
    let (chain_of_proxy, upstream) = (Mask::of_host(&cluster.path("proxy")), &other.proxy_addr);
    let ping =
        format!(r#"{{"cluster_name":"example.com","version":"0","ca_pins":["{}"]}}"#, other.pin);
    let impostor =
        Impostor::before(upstream).answers_as("127.0.0.1", chain_of_proxy, &ping).start();
    login(&cluster, &impostor).fails(UNREACHABLE, FOUND_OUT);
    nothing_was_gained(&cluster, &impostor);
}

#[test]
fn a_ping_that_lies_leads_nowhere() {
    let cluster = cluster();
    for (name, text) in [
        ("example.org", FOUND_OUT),
        ("x", FOUND_OUT),
        ("../../etc", "does not answer a ping"),
        ("a b\u{1b}[31m", "does not answer a ping"),
    ] {
        let ping = serde_json::json!({
            "cluster_name": name, "version": "0", "ca_pins": ["sha256:00"], "auth": {"methods": []},
        });
        let impostor = Impostor::before(&cluster.proxy_addr)
            .poses_as("auth.", Mask::of_host(&cluster.path("agent")))
            .answers_as("", Mask::of_host(&cluster.path("proxy")), &ping.to_string())
            .start();
        let done = login(&cluster, &impostor);
        assert!(!done.err.contains('\u{1b}'), "{:?}", done.err);
        assert!(done.code != 0 && done.err.contains(text), "{name}: {done:?}");
        nothing_was_gained(&cluster, &impostor);
    }
}

#[test]
fn the_proxy_is_not_the_node() {
    let cluster = cluster();
    for mask in [Mask::of_host(&cluster.path("proxy")), Mask::forged("web-1.node.example.com")] {
        let impostor = Impostor::before(&cluster.proxy_addr).poses_as("web-1.node.", mask).start();
        // Login goes through it, rightly: that part is not altered.
        login(&cluster, &impostor).ok();
        let proxy = format!("--proxy={}", impostor.addr);
        let done = cluster.access("mallory", &[&proxy, "ssh", "root@web-1", "id"], "");
        assert!(done.code != 0 && done.err.contains(FOUND_OUT), "{done:?}");
        assert_eq!(done.out, "");
        let config = cluster.ssh_config("mallory");
        let mut ssh = cluster.ssh(&config, &["root@web-1.node.example.com", "id"]);
        let done = run(&mut ssh, "");
        assert!(done.code == 255 && done.err.contains(FOUND_OUT), "{done:?}");
        assert_eq!(impostor.spoils_of("web-1.node.example.com").believed, 0);
    }
}

/// An `sshd` of the attacker's: it accepts the cluster's users, and its forwarding resolves the
/// node's name to this machine.
fn sshd(cluster: &Cluster, name: &str, key: &str) -> (Process, u16) {
    fs::create_dir_all("/run/sshd").unwrap();
    let users = cluster.ctl(&["auth", "export", "--type=user-ssh"], "").ok().out;
    let users = cluster.write(&format!("{name}-users"), &users);
    let hosts = cluster.write("hosts", "127.0.0.1 localhost web-1.node.example.com\n");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let certificate = cluster.path(&format!("{key}-cert.pub"));
    let certificate = if certificate.exists() {
        format!("HostCertificate {}\n", certificate.display())
    } else {
        String::new()
    };
    let config = cluster.write(
        &format!("{name}.conf"),
        &format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {key}\n{certificate}\
             TrustedUserCAKeys {users}\nUsePAM no\nStrictModes no\nPidFile none\n\
             PermitRootLogin yes\nLogLevel DEBUG\n",
            key = cluster.path(key).display(),
            users = users.display(),
        ),
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec"]).arg(format!(
        "mount --bind '{}' /etc/hosts; exec /usr/sbin/sshd -D -e -f '{}'",
        hosts.display(),
        config.display()
    ));
    let process = Process::start(name, command);
    process.wait_for("that it listens", |line| {
        line.contains(&format!("listening on 127.0.0.1 port {port}")).then_some(())
    });
    (process, port)
}

/// The SSH key and certificate in an identity file, for `sshd`.
fn ssh_key_of(cluster: &Cluster, identity: &str, name: &str) {
    let text = fs::read_to_string(cluster.path(identity)).unwrap();
    let end = "-----END OPENSSH PRIVATE KEY-----";
    let key = text.split_inclusive(end).next().unwrap();
    cluster.write(name, &format!("{}\n", key.trim_start()));
    let certificate = text.lines().find(|line| line.contains("-cert-v01@")).unwrap();
    cluster.write(&format!("{name}-cert.pub"), &format!("{certificate}\n"));
}

#[test]
fn behind_a_jump_host_the_node_is_still_the_node() {
    let cluster = cluster();
    // The attacker has the whole proxy: its key and certificate.
    ssh_key_of(&cluster, "proxy/host/identity", "stolen");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(cluster.path("own"));
    run(&mut keygen, "").ok();
    let (_jump, jump) = sshd(&cluster, "jump", "stolen");
    let impostor =
        Impostor::before(&cluster.proxy_addr).ssh_to(&format!("127.0.0.1:{jump}")).start();
    login(&cluster, &impostor).ok();
    let config = cluster.ssh_config("mallory");
    for key in ["stolen", "own"] {
        let (node, port) = sshd(&cluster, "node", key);
        let (port, target) = (port.to_string(), "root@web-1.node.example.com");
        let args = ["-p", &port, "-J", "root@proxy.example.com", target, "id"];
        let done = run(&mut cluster.ssh(&config, &args), "");
        assert!(
            done.code == 255 && done.err.contains("Host key verification failed"),
            "{key}: {done:?}"
        );
        assert_eq!(done.out, "");
        // It was reached, and the client left before it said who it is.
        node.wait_for("that somebody came", |line| line.contains("Connection from").then_some(()));
        assert!(!node.output().contains("Accepted"), "{}", node.output());
    }
    // With the checks off the trap works, so that it was the checks that held.
    let (_node, port) = sshd(&cluster, "node", "own");
    let port = port.to_string();
    let args = [
        "-p",
        &port,
        "-o",
        "StrictHostKeyChecking=no",
        "-J",
        "root@proxy.example.com",
        "root@web-1.node.example.com",
        "echo trapped",
    ];
    let done = run(&mut cluster.ssh(&config, &args), "").ok();
    assert_eq!(done.out.trim(), "trapped");
}

#[test]
fn a_jump_host_of_somebody_else_is_refused() {
    let cluster = cluster();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(cluster.path("own"));
    run(&mut keygen, "").ok();
    // A node's certificate is a host's too, but not the proxy's.
    ssh_key_of(&cluster, "agent/host/identity", "agents");
    for key in ["own", "agents"] {
        let (jump, port) = sshd(&cluster, "jump", key);
        let impostor =
            Impostor::before(&cluster.proxy_addr).ssh_to(&format!("127.0.0.1:{port}")).start();
        login(&cluster, &impostor).ok();
        let config = cluster.ssh_config("mallory");
        let args = ["-J", "root@proxy.example.com", "root@web-1.node.example.com", "id"];
        let done = run(&mut cluster.ssh(&config, &args), "");
        assert!(
            done.code == 255 && done.err.contains("Host key verification failed"),
            "{key}: {done:?}"
        );
        assert!(!jump.output().contains("Accepted"), "{}", jump.output());
    }
}

#[test]
fn an_agent_does_not_join_through_an_impostor() {
    let cluster = Cluster::without_agent();
    let token = cluster.token("node");
    let other = Cluster::without_agent();
    let forged = Impostor::before(&cluster.proxy_addr)
        .poses_as("auth.", Mask::forged("auth.example.com"))
        .start();
    let host = Impostor::before(&cluster.proxy_addr)
        .poses_as("auth.", Mask::of_host(&cluster.path("proxy")))
        .start();
    let elsewhere = Impostor::before(&other.proxy_addr).start();
    for (name, impostor) in [("forged", forged), ("host", host), ("elsewhere", elsewhere)] {
        let data = cluster.path(&format!("agent-{name}"));
        let config = cluster.write(
            "impostor-agent.yaml",
            &format!(
                "access:\n  nodename: web-1\n  data_dir: {}\n  proxy_server: {}\n  ca_pin: {}\n  \
                 join_params: {{ method: token, token_name: {token} }}\nssh_service:\n  \
                 enabled: yes\n",
                data.display(),
                impostor.addr,
                cluster.pin
            ),
        );
        let mut command = Command::new(bin("agent"));
        command.arg("--config").arg(config);
        let agent = Process::start("agent", command);
        agent.wait_for("that it was deceived", |line| line.contains(FOUND_OUT).then_some(()));
        drop(agent);
        let spoils = impostor.spoils();
        assert!(!contains(&spoils.heard, token.as_bytes()), "{name}: the token was said");
        assert_eq!(spoils.believed, 0, "{name}");
        assert!(!data.join("host/identity").exists(), "{name}: it has joined somebody");
    }
}
