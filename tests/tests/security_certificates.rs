//! Certificates and tokens are good for what they were made for, and for nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use access_e2e::{Cluster, Done, Mask, Process, bin, run};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

const ALICE: &[&str] = &["--roles=access,editor", "--logins=root"];
const NODE: &str = "root@web-1.node.example.com";

fn with_alice() -> Cluster {
    let cluster = Cluster::start();
    cluster.add_user("alice", ALICE);
    cluster.login("alice").ok();
    cluster
}

fn profile(cluster: &Cluster, user: &str) -> PathBuf {
    cluster.home(user).join(cluster.proxy_addr.replace(':', "_"))
}

/// An identity with the keys and certificates of one file, that trusts what another one trusts.
fn spliced(cluster: &Cluster, keys: &str, name: &str) -> PathBuf {
    let trust = fs::read_to_string(profile(cluster, "alice").join("identity")).unwrap();
    let mark = "-----BEGIN ACCESS TRUST-----";
    let (keys, trust) = (keys.split(mark).next().unwrap(), trust.split(mark).nth(1).unwrap());
    cluster.write(name, &format!("{keys}{mark}{trust}"))
}

/// `access` with an identity file, in a home where nobody is logged in.
fn with_identity(cluster: &Cluster, identity: &std::path::Path, args: &[&str]) -> Done {
    let proxy = format!("--proxy={}", cluster.proxy_addr);
    let mut all = vec!["--identity", identity.to_str().unwrap(), &proxy];
    all.extend(args);
    cluster.access("nobody", &all, "")
}

/// Stock `ssh` with the keys in an identity file, straight at the jump host, and through it.
fn with_openssh(cluster: &Cluster, identity: &std::path::Path) -> Done {
    let text = fs::read_to_string(identity).unwrap();
    let end = "-----END OPENSSH PRIVATE KEY-----";
    let key = text.split_inclusive(end).next().unwrap();
    let key = cluster.write("foreign", &format!("{}\n", key.trim_start()));
    let certificate = text.lines().find(|line| line.contains("-cert-v01@")).unwrap();
    cluster.write("foreign-cert.pub", &format!("{certificate}\n"));
    let alices = profile(cluster, "alice");
    let config = cluster.ssh_config("alice");
    let config = fs::read_to_string(config)
        .unwrap()
        .replace(
            alices.join("ssh_key-cert.pub").to_str().unwrap(),
            &format!("{}-cert.pub", key.display()),
        )
        .replace(alices.join("ssh_key").to_str().unwrap(), key.to_str().unwrap());
    let config = cluster.write("foreign.conf", &config);
    run(&mut cluster.ssh(&config, &["-J", "root@proxy.example.com", NODE, "id"]), "")
}

fn refused_everywhere(cluster: &Cluster, identity: &std::path::Path, why: &str) {
    // The refusal of a certificate comes after the client's handshake in TLS 1.3, and a broken
    // connection may overtake it: each try is refused, one of them has to say why.
    let in_words = |what: &dyn Fn() -> Done| {
        let mut last = None;
        for _ in 0..10 {
            let done = what();
            assert!(done.code != 0 && done.out.is_empty(), "{done:?}");
            let told =
                ["Permission denied", "does not accept this certificate", "access denied", why];
            if told.iter().any(|text| done.err.contains(text)) {
                return done;
            }
            last = Some(done);
        }
        panic!("it is never said why: {last:?}");
    };
    let api = in_words(&|| with_identity(cluster, identity, &["ls"]));
    assert!(matches!(api.code, 3..=4), "{api:?}");
    in_words(&|| with_identity(cluster, identity, &["ssh", "root@web-1", "id"]));
    in_words(&|| with_openssh(cluster, identity));
}

#[test]
fn the_way_in_works_for_whom_it_is() {
    let cluster = with_alice();
    let own = fs::read_to_string(profile(&cluster, "alice").join("identity")).unwrap();
    let identity = spliced(&cluster, &own, "own.identity");
    with_identity(&cluster, &identity, &["ls"]).ok();
    with_identity(&cluster, &identity, &["ssh", "root@web-1", "id"]).ok();
    with_openssh(&cluster, &identity).ok();
}

#[test]
fn a_user_of_another_cluster_is_a_stranger() {
    let (cluster, other) = (with_alice(), with_alice());
    let theirs = fs::read_to_string(profile(&other, "alice").join("identity")).unwrap();
    // Unaltered, it is the client that sees another cluster of the same name.
    let unaltered = cluster.write("theirs.identity", &theirs);
    for args in [&["ls"][..], &["ssh", "root@web-1", "id"]] {
        let done = with_identity(&cluster, &unaltered, args);
        assert!(done.code != 0 && done.err.contains("does not prove to be"), "{done:?}");
    }
    let identity = spliced(&cluster, &theirs, "spliced.identity");
    refused_everywhere(&cluster, &identity, "Permission denied");
    // Both tried by name; the log has it, and nobody was let in.
    let events = cluster.events(&["session.start"]);
    assert!(events.is_empty(), "{events:?}");
    cluster.wait_for_event("auth", |event| event["success"] == false);
}

#[test]
fn a_host_is_no_user() {
    let cluster = with_alice();
    for host in ["agent", "proxy"] {
        let identity = cluster.path(host).join("host/identity");
        let node = with_identity(&cluster, &identity, &["ssh", "root@web-1", "id"]);
        assert!(node.code != 0 && node.out.is_empty(), "{host}: {node:?}");
        let jump = with_openssh(&cluster, &identity);
        assert!(jump.code == 255 && jump.out.is_empty(), "{host}: {jump:?}");
        for done in [&node, &jump] {
            let told = ["host", "Permission denied", "access denied", "does not accept"];
            assert!(told.iter().any(|text| done.err.contains(text)), "{host}: {done:?}");
        }
        // The API knows hosts, and they read the policy that they enforce. What is for
        // administrators, or secret, is not for them.
        let ctl = |args: &[&str]| {
            let mut command = Command::new(bin("accessctl"));
            command
                .env("ACCESS_HOME", cluster.home("nobody"))
                .arg("--identity")
                .arg(&identity)
                .arg(format!("--proxy={}", cluster.proxy_addr))
                .args(args);
            run(&mut command, "")
        };
        for args in [
            &["tokens", "add", "--type=node"][..],
            &["tokens", "ls"],
            &["users", "add", "mallory", "--roles=access", "--logins=root"],
            &["users", "update", "alice", "--roles=access"],
            &["users", "rm", "alice"],
            &["users", "reset", "alice"],
            &["lock", "--user=alice"],
            &["get", "token"],
            &["get", "invite"],
            &["rm", "node/web-2"],
            &["rm", "role/access"],
            &["audit", "search", "--from=1h"],
            &["recordings", "ls"],
            &["auth", "sign", "--user=alice", "--out=/dev/null/x"],
        ] {
            let done = ctl(args);
            assert!(matches!(done.code, 1..=4) && done.out.is_empty(), "{host} {args:?}: {done:?}");
            assert!(done.err.contains("denied") || args[0] == "auth", "{host} {args:?}: {done:?}");
        }
        for args in [&["get", "user"][..], &["get", "authority"]] {
            let done = ctl(args);
            for secret in ["argon2", "PRIVATE", "sealed", "password"] {
                assert!(!done.out.contains(secret), "{host} {args:?}: {done:?}");
            }
        }
    }
    assert!(cluster.events(&["session.start"]).is_empty());
}

/// A TLS connection with a certificate: whether the other side keeps it for a while.
fn keeps(cluster: &Cluster, mask: Mask, name: &str, alpn: &str) -> bool {
    let mut roots = RootCertStore::empty();
    let cas = fs::read(profile(cluster, "alice").join("cas.pem")).unwrap();
    for root in CertificateDer::pem_slice_iter(&cas) {
        roots.add(root.unwrap()).unwrap();
    }
    let (chain, key) = mask.into_parts();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![alpn.into()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    #[allow(clippy::disallowed_methods, reason = "a client of the proxy")]
    let tcp = TcpStream::connect(&cluster.proxy_addr).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut tls = StreamOwned::new(connection, tcp);
    loop {
        match tls.read(&mut [0; 1024]) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(err) => {
                return matches!(
                    err.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                );
            }
        }
    }
}

#[test]
fn only_agents_open_tunnels() {
    let cluster = with_alice();
    let alice = profile(&cluster, "alice").join("identity");
    let tunnel = |mask| keeps(&cluster, mask, "proxy.example.com", "access-tunnel");
    assert!(!tunnel(Mask::of_identity_file(&alice)), "a user has opened a tunnel");
    assert!(!tunnel(Mask::of_host(&cluster.path("proxy"))), "a proxy has opened a tunnel");
    assert!(!tunnel(Mask::forged("web-1.node.example.com")), "a stranger has opened a tunnel");
    let other = with_alice();
    assert!(!tunnel(Mask::of_host(&other.path("agent"))), "another cluster's agent has");
    // The true agent was not disturbed by any of it.
    cluster.access("alice", &["ssh", "root@web-1", "true"], "").ok();
    assert!(tunnel(Mask::of_host(&cluster.path("agent"))), "an agent cannot: nothing is proved");
}

/// A further agent, with a configuration of its own.
fn agent(cluster: &Cluster, data: &str, nodename: &str, token: &str) -> Process {
    let config = cluster.write(
        &format!("{data}.yaml"),
        &format!(
            "access:\n  nodename: {nodename}\n  data_dir: {}\n  proxy_server: {}\n  ca_pin: {}\n  \
             join_params: {{ method: token, token_name: {token} }}\nssh_service:\n  enabled: yes\n",
            cluster.path(data).display(),
            cluster.proxy_addr,
            cluster.pin
        ),
    );
    let mut command = Command::new(bin("agent"));
    command.arg("--config").arg(config);
    Process::start("agent", command)
}

#[test]
fn a_name_belongs_to_whoever_had_it_first() {
    let cluster = with_alice();
    let token = cluster.token("node");
    let second = agent(&cluster, "second", "web-1", &token);
    second.wait_for("whose the name is", |line| {
        line.contains("belongs to another host").then_some(())
    });
    drop(second);
    assert!(!cluster.path("second/host/identity").exists());
    // One that has joined under another name gains nothing by changing its own configuration, nor
    // what it keeps of its claims.
    let third = agent(&cluster, "third", "web-3", &token);
    third.wait_for("its tunnel", |line| line.contains("the tunnel is up").then_some(()));
    drop(third);
    let refused = agent(&cluster, "third", "web-1", &token);
    refused.wait_for("whose the name is", |line| {
        line.contains("belongs to another host").then_some(())
    });
    drop(refused);
    let claims = cluster.path("third/host/claims");
    let altered = fs::read_to_string(&claims).unwrap().replace("web-3", "web-1");
    fs::write(&claims, altered).unwrap();
    let third = agent(&cluster, "third", "web-1", &token);
    third.wait_for("its tunnel", |line| line.contains("the tunnel is up").then_some(()));
    // The first one still has it.
    cluster.access("alice", &["ssh", "root@web-1", "true"], "").ok();
    let start = cluster.wait_for_event("session.start", |event| event["user"] == "alice");
    let nodes = cluster.ctl(&["get", "node/web-1", "--format=json"], "").ok().out;
    let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
    assert_eq!(start["server_id"], nodes["spec"]["host"], "{start} {nodes}");
    drop(third);
}

#[test]
fn tokens_are_for_what_they_say() {
    let cluster = with_alice();
    let refused = |process: &Process, text: &str| {
        process.wait_for(&format!("{text:?}"), |line| line.contains(text).then_some(()));
    };
    // A node's token makes no proxy.
    let token = cluster.token("node");
    let config = cluster.write(
        "second-proxy.yaml",
        &format!(
            "access:\n  nodename: proxy-2\n  data_dir: {}\n  auth_server: {}\n  ca_pin: {}\n  \
             join_params: {{ method: token, token_name: {token} }}\nproxy_service:\n  \
             web_listen_addr: 127.0.0.1:0\n",
            cluster.path("proxy-2").display(),
            cluster.auth_addr,
            cluster.pin
        ),
    );
    let mut command = Command::new(bin("proxy"));
    command.arg("--config").arg(config);
    let proxy = Process::start("proxy", command);
    refused(&proxy, "the join token was refused");
    drop(proxy);
    // A proxy's makes no node.
    let process = agent(&cluster, "by-proxy-token", "web-4", &cluster.token("proxy"));
    refused(&process, "the join token was refused");
    drop(process);
    // Bound to another name.
    let bound =
        cluster.ctl(&["tokens", "add", "--type=node", "--names=web-9", "--format=json"], "").ok();
    let bound: serde_json::Value = serde_json::from_str(&bound.out).unwrap();
    let process = agent(&cluster, "bound", "web-5", bound["token"].as_str().unwrap());
    refused(&process, "bound to other names");
    drop(process);
    // Spent by its first use.
    let once = cluster.ctl(&["tokens", "add", "--type=node", "--uses=1", "--format=json"], "").ok();
    let once: serde_json::Value = serde_json::from_str(&once.out).unwrap();
    let once = once["token"].as_str().unwrap();
    let first = agent(&cluster, "first", "web-6", once);
    first.wait_for("its tunnel", |line| line.contains("the tunnel is up").then_some(()));
    let process = agent(&cluster, "again", "web-7", once);
    refused(&process, "the join token was refused");
    drop(process);
    // Removed, mistyped, or another's half.
    let gone = cluster.token("node");
    let name = gone.split('.').next().unwrap();
    cluster.ctl(&["tokens", "rm", name], "").ok();
    let half = format!("{}.{}", once.split('.').next().unwrap(), gone.split('.').nth(1).unwrap());
    for (data, token) in [("gone", gone.as_str()), ("half", &half), ("none", "0123456789abcdef.x")]
    {
        let process = agent(&cluster, data, "web-8", token);
        refused(&process, "the join token was refused");
        drop(process);
        assert!(!cluster.path(data).join("host/identity").exists(), "{data}");
    }
    for data in ["by-proxy-token", "bound", "again", "proxy-2"] {
        assert!(!cluster.path(data).join("host/identity").exists(), "{data}");
    }
}
