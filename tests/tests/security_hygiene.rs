//! Secrets stay where they belong: not in logs, not in command lines, not in the audit log, not in
//! files that others can read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use access_e2e::{Cluster, PASSWORD, Process, bin, contains, run};

const ALICE: &[&str] = &["--roles=access", "--logins=root"];

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Starts Auth and the proxy over with everything in their logs, as far as it goes.
fn talkative(severity: &str) -> Cluster {
    let mut cluster = Cluster::without_agent();
    for name in ["proxy", "auth"] {
        drop(if name == "auth" { cluster.auth.take() } else { cluster.proxy.take() });
    }
    // The proxy joins anew, so that its token is said while the log is talkative.
    fs::remove_dir_all(cluster.path("proxy")).unwrap();
    let start = |name: &str, up: &str| {
        let path = cluster.path(&format!("{name}.yaml"));
        let config = fs::read_to_string(&path).unwrap();
        let format = "log: { format: json }";
        assert!(config.contains(format));
        let addr = if name == "auth" { &cluster.auth_addr } else { &cluster.proxy_addr };
        let config = config
            .replace("listen_addr: 127.0.0.1:0", &format!("listen_addr: {addr}"))
            .replace(format, &format!("log: {{ severity: {severity} }}"));
        fs::write(&path, config).unwrap();
        let mut command = Command::new(bin(name));
        command.arg("--config").arg(&path);
        let process = Process::start(name, command);
        process.wait_for("that it is up", |line| line.contains(up).then_some(()));
        process
    };
    let auth = start("auth", "auth is up");
    let proxy = start("proxy", "the proxy is up");
    cluster.auth = Some(auth);
    cluster.proxy = Some(proxy);
    cluster
}

/// Command lines and environments of every process, over and over, while `work` goes on.
fn command_lines_during<T>(work: impl FnOnce() -> T) -> (T, Vec<Vec<u8>>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    if !line.is_empty() && !seen.contains(&line) {
                        seen.push(line);
                    }
                }
            }
            seen
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        (done, watcher.join().unwrap())
    })
}

#[test]
fn secrets_are_said_nowhere() {
    for severity in ["debug", "trace"] {
        secrets_are_said_nowhere_at(severity);
    }
}

fn secrets_are_said_nowhere_at(severity: &str) {
    let mut cluster = talkative(severity);
    let token = cluster.token("node");
    let token_file = cluster.write("agent-token", &token);
    cluster.write_agent_config(token_file.to_str().unwrap(), "", "");
    let path = cluster.path("agent.yaml");
    let config = fs::read_to_string(&path).unwrap();
    let config =
        config.replace("log: { format: json }", &format!("log: {{ severity: {severity} }}"));
    fs::write(&path, config).unwrap();
    cluster.start_agent();
    cluster.wait_for_node("web-1");

    let link = {
        let proxy = format!("--proxy={}", cluster.proxy_addr);
        let mut args = vec![proxy.as_str(), "users", "add", "alice"];
        args.extend(ALICE);
        let out = cluster.ctl(&args, "").ok().out;
        let words = out.split_whitespace().map(|word| word.trim_matches('\''));
        words.into_iter().find(|word| word.starts_with("https://")).unwrap().to_owned()
    };
    let invitation = link.split("token=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let typed = format!("{PASSWORD}\n");
    let mut said = String::new();
    let ((), lines) = command_lines_during(|| {
        // The link too is read from standard input.
        let both = format!("{link}\n{typed}");
        let done = cluster.access("alice", &["--debug", "invite", "accept", "-"], &both).ok();
        said.push_str(&format!("{}{}", done.out, done.err));
        let [proxy, pin] =
            [format!("--proxy={}", cluster.proxy_addr), format!("--ca-pin={}", cluster.pin)];
        let args = ["--debug", "login", &proxy, &pin, "--user=alice"];
        let wrong = cluster.access("alice", &args, "the wrong horse\n");
        assert_ne!(wrong.code, 0);
        said.push_str(&format!("{}{}", wrong.out, wrong.err));
        let done = cluster.access("alice", &args, &typed).ok();
        said.push_str(&format!("{}{}", done.out, done.err));
        let done = cluster.access("alice", &["--debug", "ssh", "root@web-1", "true"], "").ok();
        said.push_str(&format!("{}{}", done.out, done.err));
    });
    assert!(lines.iter().any(|line| contains(line, b"login\0")), "the login was not seen");
    let again = cluster.access("alice", &["invite", "accept", &link], &typed);
    assert_ne!(again.code, 0, "an invitation was redeemed twice");
    said.push_str(&again.err);
    cluster.wait_for_event("session.end", |event| event["user"] == "alice");

    let proxy_token = fs::read_to_string(cluster.path("proxy-token")).unwrap();
    let parts_of = |token: &str| token.split_once('.').unwrap().1.to_owned();
    let key = fs::read_to_string(cluster.path("agent/host/identity")).unwrap();
    let key_line = key.lines().nth(3).unwrap().to_owned();
    let secrets = [
        ("the password", PASSWORD.to_owned()),
        ("a wrong password", "the wrong horse".to_owned()),
        ("the join token", parts_of(&token)),
        ("the proxy's join token", parts_of(&proxy_token)),
        ("the invitation", parts_of(&invitation)),
        ("the agent's key", key_line),
    ];
    let [auth, proxy, agent] =
        [&cluster.auth, &cluster.proxy, &cluster.agent].map(|one| one.as_ref().unwrap().output());
    assert!(auth.contains("DEBUG") && agent.contains("DEBUG"), "the logs are not talkative");
    let logs = [("auth", &auth), ("proxy", &proxy), ("agent", &agent), ("access", &said)];
    for (what, secret) in &secrets {
        for (who, log) in logs {
            let line = log.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{severity}: {what} is in the log of {who}: {line:?}");
        }
        for line in &lines {
            let line = String::from_utf8_lossy(line);
            assert!(!line.contains(secret.as_str()), "{what} is in a command line: {line}");
        }
        // In the data directories a host's own key is at home, and nothing else.
        for folder in ["auth", "proxy", "agent", "home"] {
            for path in walk(&cluster.path(folder)) {
                let metadata = fs::symlink_metadata(&path).unwrap();
                if !metadata.is_file() || path.ends_with("agent/host/identity") {
                    continue;
                }
                let content = fs::read(&path).unwrap();
                let found = contains(&content, secret.as_bytes());
                assert!(!found, "{what} is in {}", path.display());
            }
        }
    }
    // The method finds what is there.
    let jsonl = walk(&cluster.path("auth"))
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let jsonl = fs::read(jsonl.expect("there is no audit log")).unwrap();
    assert!(contains(&jsonl, b"alice") && contains(&jsonl, b"session.start"));
}

#[test]
fn files_are_for_their_owner_alone() {
    let mut cluster = Cluster::start();
    cluster.add_user("alice", ALICE);
    cluster.login("alice").ok();
    cluster.access("alice", &["ssh", "root@web-1", "true"], "").ok();
    cluster.wait_for_event("session.end", |event| event["user"] == "alice");
    let signed = cluster.path("signed");
    let out = format!("--out={}", signed.display());
    cluster.ctl(&["auth", "sign", "--user=alice", &out], "").ok();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&signed), 0o600);
    for folder in ["auth", "proxy", "agent", "home/alice"] {
        let mut seen = 0;
        for path in walk(&cluster.path(folder)) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let most = if kind.is_dir() { 0o700 } else { 0o600 };
            assert!(kind.is_dir() || kind.is_file() || kind.is_socket(), "{}", path.display());
            assert_eq!(mode(&path) & !most, 0, "{} has mode {:o}", path.display(), mode(&path));
            seen += 1;
        }
        assert!(seen > 3, "{folder} has {seen} files");
    }
    // A data directory that others can read is refused.
    drop(cluster.agent.take());
    fs::set_permissions(cluster.path("agent"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(bin("agent"));
    command.arg("--config").arg(cluster.path("agent.yaml"));
    let done = run(&mut command, "");
    assert!(done.code != 0 && done.err.contains("chmod 700"), "{done:?}");
}
