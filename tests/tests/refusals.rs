//! Bad input, as those meet it who type it: each a clear message, an exit code that tells what
//! kind of failure it is, and the cluster as it was before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, Done, PASSWORD, bin, run};
use nix::sys::signal::Signal;

const DAEMONS: [&str; 3] = ["auth", "proxy", "agent"];

fn daemon(name: &str, config: &Path) -> Command {
    let mut command = Command::new(bin(name));
    command.arg("--config").arg(config);
    command
}

/// An error is one line of the program's own; nothing panicked.
#[track_caller]
fn clean(done: Done) -> Done {
    assert!(!done.err.contains("panicked") && !done.err.contains("RUST_BACKTRACE"), "{done:?}");
    done
}

fn own_name() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name
}

#[test]
fn configurations() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.yaml");
    let check = |text: &str, code: i32, expected: &[&str]| {
        fs::write(&file, text).unwrap();
        for name in DAEMONS {
            let done = clean(run(daemon(name, &file).arg("--check"), ""));
            assert_eq!(done.code, code, "{name} {text:?}: {done:?}");
            let said = if code == 0 { &done.out } else { &done.err };
            for expected in expected {
                assert!(said.contains(expected), "{name} {text:?}: no {expected:?} in {done:?}");
            }
        }
    };
    check("access:\n  nodename: web-1\n", 0, &["the configuration is good"]);
    // The field, its line, and the nearest valid name.
    check(
        "access:\n  nodename: a\n  data_dri: /x\n",
        2,
        &["access.yaml:3:", "data_dri", "\"data_dir\""],
    );
    check("acess:\n  nodename: a\n", 2, &["access.yaml:1:", "acess", "\"access\""]);
    check("auth_service:\n  listen_adr: 127.0.0.1:1\n", 2, &["access.yaml:2:", "\"listen_addr\""]);
    check("proxy_service:\n  web_listen: 127.0.0.1:1\n", 2, &["access.yaml:2:", "web_listen"]);
    check("ssh_service:\n  label: { env: prod }\n", 2, &["access.yaml:2:", "\"labels\""]);
    check("ssh_service:\n  enabled: perhaps\n", 2, &["access.yaml:2:"]);
    check("access:\n  diag_addr: here\n", 2, &["access.yaml:2:", "HOST:PORT"]);
    check("access: [\n", 2, &["access.yaml:"]);
    for name in DAEMONS {
        let done = clean(run(&mut daemon(name, &dir.path().join("absent.yaml")), ""));
        let done = done.fails(2, "cannot read the configuration");
        assert!(done.err.contains("absent.yaml"), "{done:?}");
        clean(run(Command::new(bin(name)).arg("--no-such-flag"), "")).fails(2, "--no-such-flag");
    }
}

#[test]
fn places_to_start_in() {
    let cluster = Cluster::without_agent();
    let starts = |name: &str, data: &Path, more: &str| {
        let text = format!("access:\n  data_dir: {}\n{more}", data.display());
        let config = cluster.write(&format!("bad-{name}.yaml"), &text);
        clean(run(&mut daemon(name, &config), ""))
    };
    // What is open to others, or no directory.
    let open = cluster.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o750)).unwrap();
    for name in DAEMONS {
        starts(name, &open, "").fails(1, "chmod 700");
        let done = starts(name, &cluster.path("auth.yaml"), "").fails(1, "is no directory");
        assert!(done.err.contains("auth.yaml"), "{done:?}");
    }
    // Ports that are taken.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let section =
        format!("auth_service:\n  listen_addr: {addr}\n  cluster_name: other.example.com\n");
    let done = starts("auth", &cluster.path("auth-2"), &section).fails(1, "in use");
    assert!(done.err.contains(&addr.to_string()) && done.err.contains("listen_addr"), "{done:?}");
    let section = format!(
        "  auth_server: {}\n  ca_pin: {}\nproxy_service:\n  web_listen_addr: {addr}\n",
        cluster.auth_addr, cluster.pin
    );
    let done = starts("proxy", &cluster.path("proxy-2"), &section).fails(1, "in use");
    assert!(done.err.contains("web_listen_addr"), "{done:?}");
    let section = format!("  diag_addr: {addr}\n");
    let done = starts("auth", &cluster.path("auth-3"), &section).fails(1, "in use");
    assert!(done.err.contains(&addr.to_string()), "{done:?}");

    // A store that another process holds, and one that is not whole.
    let section = "auth_service:\n  listen_addr: 127.0.0.1:0\n";
    let done = starts("auth", &cluster.path("auth"), section).fails(1, "another process");
    assert!(done.err.contains("access.db"), "{done:?}");
    cluster.ctl(&["status"], "").ok();
    let mut cluster = cluster;
    let auth = cluster.auth.take().unwrap();
    auth.signal(Signal::SIGKILL);
    auth.wait();
    let broken = cluster.path("broken");
    fs::create_dir(&broken).unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(cluster.path("auth")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), broken.join(entry.file_name())).unwrap();
        }
    }
    // Without its log only the file counts, of which the middle is gone.
    for side in ["access.db-wal", "access.db-shm"] {
        let _ = fs::remove_file(broken.join(side));
    }
    let database = broken.join("access.db");
    fs::write(&database, b"SQLite format 3\0 and then nothing of it").unwrap();
    let text = format!("access:\n  data_dir: {}\n{section}", broken.display());
    let config = cluster.write("broken.yaml", &text);
    let done = clean(run(&mut daemon("auth", &config), ""));
    assert!(done.code == 1 && done.err.contains("access.db"), "{done:?}");
    // Nothing is made anew over what is broken.
    assert!(fs::read(&database).unwrap().starts_with(b"SQLite format 3\0 and then"));
    // The one that was killed comes back as it was.
    let pin = cluster.pin.clone();
    cluster.start_auth();
    assert_eq!(cluster.pin, pin);
}

/// Starts an agent that has to join.
fn join(cluster: &Cluster, name: &str, data: &str, token: &str, pin: &str) -> Done {
    let text = format!(
        "access:\n  nodename: {name}\n  data_dir: {}\n  proxy_server: {}\n  ca_pin: {pin}\n  \
         join_params: {{ method: token, token_name: {token} }}\nssh_service:\n  enabled: yes\n",
        cluster.path(data).display(),
        cluster.proxy_addr
    );
    let config = cluster.write(&format!("{data}.yaml"), &text);
    clean(run(&mut daemon("agent", &config), ""))
}

#[test]
fn joining() {
    let cluster = Cluster::without_agent();
    let refused = |name: &str, token: &str, text: &str| {
        let text = format!("the join token was refused: {text}");
        join(&cluster, name, name, token, &cluster.pin).fails(1, &text);
        // Who was refused has nothing.
        let nodes = cluster.ctl(&["nodes", "ls"], "").ok();
        assert!(!nodes.out.contains(name), "{nodes:?}");
    };
    let add = |args: &[&str]| {
        let mut all = vec!["tokens", "add", "--format=json"];
        all.extend(args);
        let done = cluster.ctl(&all, "").ok();
        let token: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        token["token"].as_str().unwrap().to_owned()
    };

    refused(
        "n-1",
        "0123456789abcdef.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef",
        "the join token is not valid",
    );
    refused("n-2", "nonsense", "the join token is not valid");
    let good = add(&["--type=node"]);
    let (id, secret) = good.split_once('.').unwrap();
    let swapped: String = secret.chars().rev().collect();
    refused("n-3", &format!("{id}.{swapped}"), "the join token is not valid");
    let removed = add(&["--type=node"]);
    cluster.ctl(&["tokens", "rm", &removed], "").ok();
    refused("n-4", &removed, "the join token is not valid");
    let for_proxy = add(&["--type=proxy"]);
    refused("n-5", &for_proxy, "the join token is for proxy, not for node");
    let bound = add(&["--type=node", "--names=web-7"]);
    refused("n-6", &bound, "the join token is not for node/n-6: it is bound to other names");

    // One that was good until a moment ago.
    let brief = add(&["--type=node", "--ttl=1s"]);
    let expired = "the join token has expired: make a new one with `accessctl tokens add`";
    // It is time itself that has to pass: trying it out meanwhile would use it.
    std::thread::sleep(Duration::from_millis(1500));
    refused("n-7", &brief, expired);

    // One that was used: its one user keeps what they have.
    let once = add(&["--type=node", "--uses=1"]);
    let mut cluster = cluster;
    cluster.write_agent_config(&once, "", "");
    cluster.start_agent();
    cluster.wait_for_node("web-1");
    join(&cluster, "n-8", "n-8", &once, &cluster.pin)
        .fails(1, "the join token was refused: the join token is spent: it was used as often");
    // A name keeps its owner.
    join(&cluster, "web-1", "n-9", &good, &cluster.pin)
        .fails(1, "node/web-1 belongs to another host");
    // Somebody who is not the pinned cluster.
    let other = format!("sha256:{}", "00".repeat(32));
    let done =
        join(&cluster, "n-10", "n-10", &good, &other).fails(1, "does not prove to be the cluster");
    assert!(done.err.contains("CA pin"), "{done:?}");
    join(&cluster, "n-11", "n-11", &good, "sha256:12").fails(2, "access.ca_pin: ");
    // Attempts are in the audit log.
    cluster.wait_for_event("instance.join", |event| event["success"] == false);
}

#[test]
fn people() {
    let mut cluster = Cluster::start();
    let me = own_name();
    cluster.add_user("alice", &["--roles=access", &format!("--logins={me}")]);

    // Before a login.
    cluster.access("alice", &["ls"], "").fails(4, "not logged in: run access login");
    cluster.access("nobody", &["ssh", "web-1"], "").fails(4, "not logged in");
    let proxy = format!("--proxy={}", cluster.proxy_addr);
    let pin = format!("--ca-pin={}", cluster.pin);
    let login = |user: &str, more: &[&str], password: &str| {
        let user = format!("--user={user}");
        let mut args = vec!["login", &proxy, &user];
        args.extend(more);
        clean(cluster.access("nobody", &args, &format!("{password}\n")))
    };
    // A wrong password and no such user look alike.
    let wrong =
        login("alice", &[&pin], "not the right one").fails(4, "invalid user name or password");
    let nobody = login("mallory", &[&pin], PASSWORD).fails(4, "invalid user name or password");
    assert_eq!(wrong.err, nobody.err);
    let silence = ["login", &proxy, &pin, "--user=alice"];
    clean(cluster.access("nobody", &silence, "")).fails(2, "a secret is needed");
    let other = format!("--ca-pin=sha256:{}", "00".repeat(32));
    login("alice", &[&other], PASSWORD).fails(5, "does not prove to be the cluster");
    login("alice", &["--ca-pin=sha256:xy"], PASSWORD).fails(2, "is no CA pin");
    login("alice", &[], PASSWORD).fails(5, "needs --ca-pin");
    let port = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let silent = format!("--proxy={port}");
    let args = ["login", &silent, "--user=alice", &pin];
    cluster.access("nobody", &args, "x\n").fails(5, &format!("cannot reach {port}"));
    cluster.access("nobody", &["login", "--user=alice"], "").fails(2, "--proxy=HOST:PORT");
    cluster.access("nobody", &["lss"], "").fails(2, "'ls'");
    cluster.wait_for_event("user.login", |event| event["success"] == false);
    assert!(!cluster.home("nobody").join("current").exists(), "failed logins leave nothing");

    // Logged in, and not allowed.
    cluster.login("alice").ok();
    cluster
        .access("alice", &["ssh", "daemon@web-1", "true"], "")
        .fails(255, "the certificate does not allow login \"daemon\"");
    cluster.wait_for_event("auth", |event| event["success"] == false && event["user"] == "alice");
    let mut ctl = Command::new(bin("accessctl"));
    ctl.args(["--proxy", &cluster.proxy_addr, "users", "ls"]);
    ctl.env("ACCESS_HOME", cluster.home("alice"));
    clean(run(&mut ctl, "")).fails(3, "access denied");
    // Nodes that never were.
    let absent = cluster.access("alice", &["ssh", &format!("{me}@web-9"), "true"], "");
    let absent = absent.fails(255, "there is no node web-9");
    // A role with another account, for a session that its certificate does not name: nothing.
    let config = cluster.ssh_config("alice");
    let stock = |name: &str| {
        let target = format!("{me}@{name}.node.example.com");
        run(&mut cluster.ssh(&config, &["-o", "BatchMode=yes", &target, "true"]), "")
    };
    stock("web-1").ok();
    assert_eq!(stock("web-9").code, 255);

    // A node that is gone is told like one that never was.
    let agent = cluster.agent.take().unwrap();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    let gone = cluster.access("alice", &["ssh", &format!("{me}@web-1"), "true"], "");
    let gone = gone.fails(255, "there is no node web-1");
    assert_eq!(gone.err.replace("web-1", "web-9"), absent.err);

    // A user who is gone is not let in with the certificates of before.
    cluster.ctl(&["users", "rm", "alice"], "").ok();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let done = cluster.access("alice", &["ls"], "");
        if done.code != 0 {
            assert!([3, 4].contains(&done.code), "{done:?}");
            break;
        }
        assert!(Instant::now() < deadline, "a removed user still lists nodes");
    }

    // And nobody is reached when the proxy is gone.
    cluster.proxy.take().unwrap().kill9();
    cluster.access("alice", &["ls"], "").fails(5, "cannot reach");
}

#[test]
fn certificates_that_do_not_hold() {
    let cluster = Cluster::start();
    let me = own_name();
    cluster.add_user("alice", &["--roles=access", &format!("--logins={me}")]);
    cluster.login("alice").ok();
    let config = cluster.ssh_config("alice");

    // Of another cluster's authority, for the same name and login.
    let other = Cluster::without_agent();
    other.add_user("alice", &["--roles=access", &format!("--logins={me}")]);
    let sign = |cluster: &Cluster, subject: &str, format: &str, name: &str| {
        let path = other.path(name).display().to_string();
        let args = ["auth", "sign", subject, format, "--ttl=1h", "--out", &path];
        cluster.ctl(&args, "").ok();
        path
    };
    let with_key = |key: &str| {
        let identity = format!("IdentityFile={key}");
        let certificate = format!("CertificateFile={key}-cert.pub");
        let target = format!("{me}@web-1.node.example.com");
        // Only the way to the node, and what it must prove, is taken from the configuration.
        let text: Vec<_> = fs::read_to_string(&config)
            .unwrap()
            .lines()
            .filter(|line| !line.contains("IdentityFile") && !line.contains("CertificateFile"))
            .map(str::to_owned)
            .collect();
        let config = cluster.write("other.conf", &text.join("\n"));
        let args = ["-o", "BatchMode=yes", "-o", &identity, "-o", &certificate, &target, "echo in"];
        run(&mut cluster.ssh(&config, &args), "")
    };
    let own = sign(&cluster, "--user=alice", "--format=openssh", "own");
    assert_eq!(with_key(&own).ok().out, "in\n");
    let foreign = sign(&other, "--user=alice", "--format=openssh", "foreign");
    let done = with_key(&foreign).fails(255, "Permission denied");
    assert!(done.out.is_empty(), "{done:?}");
    cluster.wait_for_event("auth", |event| event["success"] == false);
    // A host's, used as a user's.
    let host = sign(&cluster, &format!("--host={me}"), "--format=openssh", "host");
    let done = with_key(&host);
    assert!(done.code == 255 && done.out.is_empty(), "{done:?}");
    assert!(done.err.contains("denied") || done.err.contains("wrong type"), "{done:?}");

    // The same for the API.
    let foreign = sign(&other, "--user=alice", "--format=file", "foreign.identity");
    let proxy = format!("--proxy={}", cluster.proxy_addr);
    let done = cluster.access("nobody", &["--identity", &foreign, &proxy, "ls"], "");
    assert!([4, 5].contains(&done.code), "{done:?}");
    // What is no identity file says so.
    let nonsense = cluster.write("nonsense", "-----BEGIN NONSENSE-----\n").display().to_string();
    let done = clean(cluster.access("nobody", &["--identity", &nonsense, &proxy, "ls"], ""));
    assert!(done.code == 1 && done.err.contains("identity"), "{done:?}");
    let done = cluster.access("nobody", &["--identity", "/no/such/file", &proxy, "ls"], "");
    done.fails(1, "there is no file /no/such/file");
}

#[test]
fn documents() {
    let cluster = Cluster::without_agent();
    let create = |text: &str, code: i32, expected: &str| {
        let done = clean(cluster.ctl(&["create", "-f", "-"], text)).fails(code, expected);
        assert!(done.out.is_empty(), "{done:?}");
    };
    let role =
        |spec: &str| format!("kind: role\nversion: v1\nmetadata: {{ name: dev }}\nspec: {spec}\n");
    create(
        &role("{ allow: { logns: [a] } }"),
        1,
        "unknown field \"logns\", did you mean \"logins\"?",
    );
    create(
        &role("{ allow: { request: { roles: [acess] } } }"),
        1,
        "spec.allow.request.roles: role \"acess\" does not exist, did you mean \"access\"?",
    );
    create(&role("{ allow: { logins: [\"{{internal.nothing}}\"] } }"), 1, "unknown internal trait");
    create(&role("{ allow: { node_labels: { env: \"^[$\" } } }"), 1, "spec.allow.node_labels");
    let user = "kind: user\nversion: v1\nmetadata: { name: carol }\nspec: { roles: [nosuch] }\n";
    create(user, 1, "role \"nosuch\" does not exist");
    create(&role("{}").replace("v1", "v9"), 1, "\"v9\"");
    create(&role("{}").replace("kind: role", "kind: rolle"), 1, "rolle");
    create("", 1, "");
    // Nothing was written of any of them.
    let done = cluster.ctl(&["get", "role/dev"], "").fails(1, "there is no role dev");
    assert!(done.out.is_empty());
    let users = cluster.ctl(&["users", "ls"], "").ok();
    assert!(!users.out.contains("carol"), "{users:?}");
    cluster
        .ctl(&["users", "add", "dave", "--roles=acess"], "")
        .fails(1, "role \"acess\" does not exist, did you mean \"access\"?");
    cluster.ctl(&["users", "rm", "dave"], "").fails(1, "there is no user dave");
    cluster.ctl(&["get", "rolle"], "").fails(2, "role");
    cluster.ctl(&["create", "-f", "/no/such/file"], "").fails(1, "there is no file /no/such/file");
    let mut absent = Command::new(bin("accessctl"));
    absent.args(["--data-dir", "/no/such/dir", "status"]);
    clean(run(&mut absent, "")).fails(1, "is no data directory of an Auth Service");
}
