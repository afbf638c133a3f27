//! Stock OpenSSH through proxy and tunnel, with nothing but what `access config` prints; and the
//! user's own tool, what it records and what is audited.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, Done, Process, run, without};
use serde_json::Value;

const NODE: &str = "web-1.node.example.com";

/// A cluster with a user who is logged in, and their OpenSSH configuration.
struct Site {
    cluster: Cluster,
    config: PathBuf,
    me: String,
    known_hosts: Option<Vec<u8>>,
}

impl Site {
    fn start() -> Self {
        let cluster = Cluster::start();
        let me = own_name();
        cluster.add_user("alice", &["--roles=access,auditor", &format!("--logins={me}")]);
        cluster.login("alice").ok();
        let config = cluster.ssh_config("alice");
        Self { cluster, config, me, known_hosts: own_known_hosts() }
    }

    fn target(&self) -> String {
        format!("{}@{NODE}", self.me)
    }

    /// Stock `ssh` that must not ask anything, to the node.
    fn ssh(&self, flags: &[&str], command: &[&str]) -> Command {
        let target = self.target();
        let mut args = vec!["-o", "BatchMode=yes"];
        args.extend(flags);
        args.push(&target);
        args.extend(command);
        self.cluster.ssh(&self.config, &args)
    }

    fn stock(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(&self.config).args(["-o", "BatchMode=yes"]);
        command.env("HOME", self.cluster.dir.path());
        command
    }

    /// Nothing was written where OpenSSH keeps the hosts that it was told to believe.
    fn assert_no_host_was_remembered(&self) {
        assert_eq!(own_known_hosts(), self.known_hosts);
        assert!(!self.cluster.path(".ssh/known_hosts").exists());
    }
}

fn own_account() -> nix::unistd::User {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap()
}

fn own_name() -> String {
    own_account().name
}

fn own_known_hosts() -> Option<Vec<u8>> {
    fs::read(own_account().dir.join(".ssh/known_hosts")).ok()
}

/// A server that answers one line on each connection, and its port.
fn answering() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            // Whoever asked may be gone.
            let _ = write!(stream, "heard {line}");
        }
    });
    port
}

/// Runs a command on a terminal of 33 rows and 101 columns.
fn on_terminal(command: &Command, input: &str) -> Done {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| format!("'{}'", word.to_str().unwrap()));
    let line = format!("stty rows 33 cols 101 && {}", words.collect::<Vec<_>>().join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            script.env(name, value);
        }
    }
    run(&mut script, input)
}

#[test]
fn stock_ssh_reaches_the_node() {
    let site = Site::start();
    let ssh =
        |flags: &[&str], command: &[&str], input: &str| run(&mut site.ssh(flags, command), input);

    // Commands, their exit codes, and three streams apart.
    let done = ssh(&[], &["cat; echo to stderr >&2; exit 23"], "to stdin\n");
    assert_eq!((done.code, done.out.as_str()), (23, "to stdin\n"), "{done:?}");
    assert!(done.err.ends_with("to stderr\n"), "{done:?}");
    // Standard input that ends, ends the command's; nothing is lost of what is long.
    let long = "0123456789abcdef".repeat(1 << 16);
    let done = ssh(&[], &["wc -c"], &long).ok();
    assert_eq!(done.out.trim(), (16 << 16).to_string());
    let done = ssh(&[], &["head -c 3000000 /dev/zero | tr '\\0' x"], "").ok();
    assert_eq!(done.out.len(), 3_000_000);
    // What a signal ends is told as such.
    let done = ssh(&[], &["kill -TERM $$"], "");
    assert_eq!(done.code, 255, "{done:?}");
    // The session is the account's own: name, home, shell, and where it is.
    let done = ssh(&[], &["id -un; echo $HOME; echo $SHELL; pwd"], "").ok();
    let me = own_account();
    let home = me.dir.to_str().unwrap();
    let shell = me.shell.to_str().unwrap();
    assert_eq!(done.out.lines().collect::<Vec<_>>(), [&site.me, home, shell, home]);

    // A terminal with its size.
    let done = on_terminal(&site.ssh(&["-tt"], &["stty size; tty; exit 4"]), "");
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.out.contains("33 101") && done.out.contains("/dev/pts/"), "{done:?}");
    // A login shell on it, with what is typed.
    let done = run(&mut site.ssh(&["-tt"], &[]), "echo sum: $((19 + 23))\nexit 5\n");
    assert_eq!((done.code, done.out.contains("sum: 42")), (5, true), "{done:?}");

    // Through the proxy's own SSH server, with no program of ours on the way.
    let done = ssh(&["-J", "proxy.example.com"], &["cat; exit 24"], "by jump host\n");
    assert_eq!((done.code, done.out.as_str()), (24, "by jump host\n"), "{done:?}");

    // Host keys are verified: without the authority there is no session.
    for flags in [&[][..], &["-J", "proxy.example.com"]] {
        let mut all = vec!["-o", "UserKnownHostsFile=/dev/null"];
        all.extend(flags);
        let done = ssh(&all, &["echo reached"], "").fails(255, "Host key verification failed");
        assert!(!done.out.contains("reached"), "{done:?}");
    }
    // And so are certificates: the bare key is worth nothing.
    let config = fs::read_to_string(&site.config).unwrap();
    let bare: String = config
        .lines()
        .filter(|line| !line.contains("CertificateFile"))
        .collect::<Vec<_>>()
        .join("\n");
    // OpenSSH finds a certificate beside the key by itself, so that the key stands alone.
    let key = site.cluster.path("bare_key");
    fs::copy(identity_file(&config), &key).unwrap();
    let bare = bare.replace(&identity_file(&config), key.to_str().unwrap());
    let bare = site.cluster.write("bare.conf", &bare);
    let target = site.target();
    let args = ["-o", "BatchMode=yes", &target, "echo reached"];
    let done = run(&mut site.cluster.ssh(&bare, &args), "").fails(255, "Permission denied");
    assert!(!done.out.contains("reached"), "{done:?}");

    site.assert_no_host_was_remembered();
}

fn identity_file(config: &str) -> String {
    let line = config.lines().find(|line| line.trim().starts_with("IdentityFile")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

#[test]
fn connections_are_forwarded() {
    let site = Site::start();
    let port = answering();

    let there = format!("127.0.0.1:{port}");
    let done = run(&mut site.ssh(&["-W", &there], &[]), "by -W\n").ok();
    assert_eq!(done.out, "heard by -W\n");
    let done =
        run(&mut site.ssh(&["-J", "proxy.example.com", "-W", &there], &[]), "by both\n").ok();
    assert_eq!(done.out, "heard by both\n");

    // On this side a socket file, so that no port has to be guessed.
    let socket = site.cluster.path("forward");
    let forward = format!("{}:{there}", socket.display());
    let process = Process::start(
        "ssh -L",
        site.ssh(&["-N", "-L", &forward, "-o", "ExitOnForwardFailure=yes"], &[]),
    );
    for round in 0..3 {
        let mut stream = connect(&socket);
        writeln!(stream, "by -L {round}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("heard by -L {round}\n"));
    }
    process.signal(nix::sys::signal::Signal::SIGTERM);
    process.wait();

    // What does not listen is refused, and said so.
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("127.0.0.1:{}", listener.local_addr().unwrap().port())
    };
    let done = run(&mut site.ssh(&["-W", &closed], &[]), "nobody\n");
    assert!(done.code == 255 && done.err.contains("refused"), "{done:?}");

    // Every one of them was audited: how it began, how it ended, and what could not begin.
    let of = |code: &str, addr: &str| {
        site.cluster.wait_for_event("port", |event| event["code"] == code && event["addr"] == addr)
    };
    assert_eq!(of("T3003I", &there)["user"], "alice");
    assert!(of("T3003S", &there)["rx"].as_u64() > Some(0));
    assert_eq!(of("T3003E", &closed)["user"], "alice");
}

/// Connects when the socket listens.
fn connect(path: &Path) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(err) => assert!(Instant::now() < deadline, "{}: {err}", path.display()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn files_are_copied() {
    let site = Site::start();
    let [here, there] = ["here", "there"].map(|name| site.cluster.path(name));
    fs::create_dir_all(here.join("deep/er")).unwrap();
    fs::create_dir(&there).unwrap();
    let bytes: Vec<u8> =
        (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(here.join("large"), &bytes).unwrap();
    fs::write(here.join("empty"), "").unwrap();
    fs::write(here.join("deep/er/a file with blanks"), "text\n").unwrap();
    let target = site.target();
    let remote = |name: &str| format!("{target}:{}", there.join(name).display());

    // scp, both ways; today's speaks sftp, -O the old protocol.
    for (flag, name) in [("-s", "by-sftp"), ("-O", "by-scp")] {
        let mut scp = site.stock("scp");
        run(scp.args([flag, "-r", "-p"]).arg(&here).arg(remote(name)), "").ok();
        assert_same(&here, &there.join(name));
        let back = site.cluster.path(&format!("back-{name}"));
        run(site.stock("scp").args([flag, "-r"]).arg(remote(name)).arg(&back), "").ok();
        assert_same(&here, &back);
    }
    let mut scp = site.stock("scp");
    run(scp.arg(remote("nothing")).arg(&here), "").fails(1, "No such file");

    // sftp, by a batch.
    let there_text = there.display();
    let batch = site.cluster.write(
        "batch",
        &format!(
            "mkdir {there_text}/sftp\ncd {there_text}/sftp\nput {here}/large\nrename large moved\n\
             ls -l\nget moved {back}\nchmod 640 moved\nput {here}/empty\nrm empty\n",
            here = here.display(),
            back = site.cluster.path("sftp-back").display(),
        ),
    );
    let mut sftp = site.stock("sftp");
    let done = run(sftp.arg("-b").arg(&batch).arg(&target), "").ok();
    assert!(done.out.contains("3000000") && done.out.contains("moved"), "{}", done.out);
    assert_eq!(fs::read(site.cluster.path("sftp-back")).unwrap(), bytes);
    assert_eq!(fs::read(there.join("sftp/moved")).unwrap(), bytes);
    assert!(!there.join("sftp/empty").exists() && !there.join("sftp/large").exists());
    let failing = site.cluster.write("failing", "get /no/such/file\n");
    let done = run(site.stock("sftp").arg("-b").arg(&failing).arg(&target), "");
    assert_eq!(done.code, 1, "{done:?}");

    if !without("rsync") {
        let rsh = format!("ssh -F {} -o BatchMode=yes", site.config.display());
        let rsync = |from: String, to: String| {
            let mut command = Command::new("rsync");
            command.args(["--archive", "--delete", "--stats", "-e", &rsh, &from, &to]);
            run(command.env("HOME", site.cluster.dir.path()), "").ok()
        };
        rsync(format!("{}/", here.display()), remote("rsync/"));
        assert_same(&here, &there.join("rsync"));
        // What has changed is all that travels the second time.
        let mut changed = bytes.clone();
        changed.truncate(2_900_000);
        changed.extend_from_slice(b"another end");
        fs::write(here.join("large"), &changed).unwrap();
        fs::remove_file(here.join("empty")).unwrap();
        let done = rsync(format!("{}/", here.display()), remote("rsync/"));
        let sent = done.out.lines().find_map(|line| line.strip_prefix("Literal data: ")).unwrap();
        let sent: usize = sent.replace(',', "").split(' ').next().unwrap().parse().unwrap();
        assert!(sent < 200_000, "{}", done.out);
        assert_same(&here, &there.join("rsync"));
        let back = site.cluster.path("rsync-back");
        rsync(remote("rsync/"), format!("{}/", back.display()));
        assert_same(&here, &back);
    }

    // The user's own tool, by the node's short name.
    let from = here.join("large").display().to_string();
    let to = format!("{}@web-1:{}", site.me, there.join("own").display());
    site.cluster.access("alice", &["scp", "-q", &from, &to], "").ok();
    assert_same(&here.join("large"), &there.join("own"));

    // What was done to files is in the audit log, by name.
    let path = there.join("sftp/moved").display().to_string();
    site.cluster.wait_for_event("sftp", |event| event.to_string().contains(&path));
    site.assert_no_host_was_remembered();
}

fn assert_same(a: &Path, b: &Path) {
    run(Command::new("diff").arg("-r").arg(a).arg(b), "").ok();
}

#[test]
fn own_tool_carries_exit_codes_and_identity_files() {
    let site = Site::start();
    let cluster = &site.cluster;
    let target = format!("{}@web-1", site.me);
    for code in [0, 1, 42, 254] {
        let done = cluster.access("alice", &["ssh", &target, &format!("exit {code}")], "");
        assert_eq!(done.code, code, "{done:?}");
    }
    // Without a login it is the only one that the certificate allows; flags stand before.
    let done =
        cluster.access("alice", &["ssh", "-o", "BatchMode=yes", "web-1", "cat"], "in\n").ok();
    assert_eq!(done.out, "in\n");
    // Flags of a command are the command's.
    let done = cluster.access("alice", &["ssh", &target, "printf", "%s.", "-t", "--help"], "").ok();
    assert_eq!(done.out, "-t.--help.");

    // The same without any login, by an identity file.
    let identity = cluster.path("ci.identity").display().to_string();
    cluster
        .ctl(&["auth", "sign", "--user=alice", "--format=file", "--ttl=1h", "--out", &identity], "")
        .ok();
    let proxy = format!("--proxy={}", cluster.proxy_addr);
    let by_file = |args: &[&str]| {
        let mut all = vec!["--identity", &identity, &proxy];
        all.extend(args);
        cluster.access("nobody-here", &all, "")
    };
    assert!(by_file(&["ls"]).ok().out.contains("web-1"));
    assert!(by_file(&["status"]).ok().out.contains("alice"));
    let done = by_file(&["ssh", &target, "echo by identity; exit 7"]);
    assert_eq!((done.code, done.out.as_str()), (7, "by identity\n"), "{done:?}");
    let file = cluster.write("note", "noted\n").display().to_string();
    let copy = cluster.path("copied");
    by_file(&["scp", "-q", &file, &format!("{target}:{}", copy.display())]).ok();
    assert_eq!(fs::read_to_string(copy).unwrap(), "noted\n");
    site.assert_no_host_was_remembered();
}

#[test]
fn sessions_are_recorded_and_audited() {
    let site = Site::start();
    let cluster = &site.cluster;
    let typed = "echo recorded-$((40 + 2))\nprintf '\\303\\251t\\303\\251\\n'\nexit 4\n";
    let done = run(&mut site.ssh(&["-tt"], &[]), typed);
    assert_eq!(done.code, 4, "{done:?}");
    let end = cluster.wait_for_event("session.end", |event| event["interactive"] == true);
    let sid = end["sid"].as_str().unwrap().to_owned();
    assert_eq!((&end["user"], &end["login"]), (&"alice".into(), &site.me.as_str().into()));
    assert_eq!(end["exitCode"], 4, "{end:#}");
    cluster.wait_for_event("session.upload", |event| event["sid"] == sid.as_str());

    // Shown as it was, by whoever may.
    let done = cluster.access("alice", &["play", &sid, "--format=text"], "").ok();
    assert!(done.out.contains("recorded-42") && done.out.contains("été"), "{done:?}");
    assert!(!done.err.contains("not complete"), "{done:?}");
    let cast = cluster.access("alice", &["play", &sid, "--format=cast"], "").ok().out;
    let header: Value = serde_json::from_str(cast.lines().next().unwrap()).unwrap();
    assert_eq!(header["version"], 2, "{header}");
    // The same by way of a file, which is noticed when it is changed.
    let list = cluster.ctl(&["recordings", "ls", "--format=json"], "").ok();
    let list: Value = serde_json::from_str(&list.out).unwrap();
    let listed = list.as_array().unwrap().iter().find(|one| one["spec"]["session"] == sid.as_str());
    assert_eq!(listed.expect("it is listed")["spec"]["user"], "alice");
    let file = cluster.path("session.rec");
    let name = file.display().to_string();
    cluster.ctl(&["recordings", "download", &sid, "--out", &name], "").ok();
    let done = cluster.access("alice", &["play", &name, "--format=text"], "").ok();
    assert!(done.out.contains("recorded-42"), "{done:?}");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let done = cluster.access("alice", &["play", &name, "--format=text"], "");
    assert_eq!(done.code, 1, "{done:?}");
    // Whoever is no auditor does not see what others did.
    cluster.add_user("bob", &["--roles=access", "--logins=bob"]);
    cluster.login("bob").ok();
    let done = cluster.access("bob", &["play", &sid], "");
    assert!(done.code != 0 && !done.out.contains("recorded-42"), "{done:?}");

    // A command, and a transfer of a file: each a session, with its events in their order.
    run(&mut site.ssh(&[], &["echo audited; exit 3"]), "");
    let exec = cluster.wait_for_event("exec", |event| event["command"] == "echo audited; exit 3");
    assert_eq!(exec["exitCode"].to_string().trim_matches('"'), "3", "{exec:#}");
    let order = names_of(cluster, &exec);
    assert_eq!(order, ["session.start", "exec", "session.end"]);
    let file = cluster.write("to-send", "sent\n");
    let to = format!("{}:{}", site.target(), cluster.path("sent").display());
    run(site.stock("scp").args(["-q", "-s"]).arg(&file).arg(&to), "").ok();
    let sftp = cluster.wait_for_event("sftp", |event| event.to_string().contains("/sent"));
    let order = names_of(cluster, &sftp);
    assert_eq!(order.first().map(String::as_str), Some("session.start"), "{order:?}");
    assert_eq!(order.last().map(String::as_str), Some("session.end"), "{order:?}");
    assert!(order.iter().any(|name| name == "sftp"), "{order:?}");
}

/// The names of the events of one session in the order in which its node wrote them, up to its
/// end.
fn names_of(cluster: &Cluster, of: &Value) -> Vec<String> {
    let sid = &of["sid"];
    cluster.wait_for_event("session.end", |event| event["sid"] == *sid);
    let mut events = cluster.events(&["session.start", "exec", "sftp", "session.end"]);
    events.retain(|event| event["sid"] == *sid && event["writer"] == of["writer"]);
    events.sort_by_key(|event| event["seq"].as_u64());
    events.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}
