//! The quickstart as a newcomer meets it: what it prints works when pasted, and a second start is
//! the same cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use access_e2e::{Done, PASSWORD, Process, Quickstart, run};
use nix::sys::signal::Signal;

/// A shell of somebody who pastes.
struct Shell {
    dir: tempfile::TempDir,
    /// What stands before each line: what was exported so far.
    exports: String,
}

impl Shell {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), exports: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn paste(&self, line: &str, input: &str) -> Done {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{}{line}", self.exports))
            .env("HOME", self.dir.path())
            .env_remove("ACCESS_HOME")
            .env_remove("ACCESS_PROXY")
            .env_remove("ACCESS_USER");
        run(&mut command, input)
    }

    /// Exports the path to the tools that a quickstart laid out.
    fn use_tools_of(&mut self, data_dir: &Path) {
        self.exports = format!("export PATH='{}/bin':\"$PATH\"\n", data_dir.display());
    }
}

fn password() -> String {
    format!("{PASSWORD}\n")
}

/// Redeems the invitation and logs in.
fn enter(shell: &Shell, quickstart: &Quickstart) {
    let invite = quickstart.field("invite_url");
    shell.paste(&format!("access invite accept '{invite}'"), &password()).ok();
    login(shell, quickstart).ok();
}

fn login(shell: &Shell, quickstart: &Quickstart) -> Done {
    let [proxy, user, pin] = ["proxy_addr", "user", "ca_pin"].map(|name| quickstart.field(name));
    let line = format!("access login --proxy='{proxy}' --user={user} --ca-pin={pin}");
    shell.paste(&line, &password())
}

#[test]
fn the_printed_lines_work_when_pasted() {
    let mut shell = Shell::new();
    // A path with a blank needs quoting in what is printed.
    let data = shell.path("my data");
    let process = Process::start("quickstart", Quickstart::command(&data, "127.0.0.1:0"));
    process.wait_for("its last line", |line| line.starts_with("Ctrl-C").then_some(()));
    let text = process.output();
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("  ")).map(str::trim_end).collect();
    let [export, invite, login, ls, ssh] = lines[..] else { panic!("other lines:\n{text}") };
    shell.exports = format!("{export}\n");
    shell.paste(invite, &password()).ok();
    let done = shell.paste(login, &password()).ok();
    assert!(done.out.starts_with("Logged in to access.internal as "), "{}", done.out);
    let node = ssh.rsplit('@').next().unwrap();
    let done = shell.paste(ls, "").ok();
    assert!(done.out.lines().any(|line| line.starts_with(node)), "{}", done.out);
    // A login shell, and what is typed into it.
    let done = shell.paste(ssh, "echo answer: $((6 * 7))\nexit 3\n");
    assert_eq!((done.code, done.out.contains("answer: 42")), (3, true), "{done:?}");
    let done = shell.paste(&format!("{ssh} 'echo out; echo err >&2; exit 9'"), "");
    assert_eq!((done.code, done.out.as_str()), (9, "out\n"), "{done:?}");
    assert!(done.err.contains("err"), "{done:?}");
    // The administrator's line stands within a sentence.
    let admin = text.lines().find_map(|line| line.split_once("tool: ")).unwrap().1;
    let done = shell.paste(admin, "").ok();
    assert!(done.out.contains("access.internal"), "{}", done.out);
    // An invitation can be redeemed once.
    let again = shell.paste(invite, &password());
    assert_ne!(again.code, 0, "{again:?}");
    process.signal(Signal::SIGINT);
    assert_eq!(process.wait(), Some(0));
}

#[test]
fn a_second_start_is_the_same_cluster_with_the_same_users() {
    let mut shell = Shell::new();
    let data = shell.path("data");
    shell.use_tools_of(&data);
    let first = Quickstart::start(&data);
    let fields: BTreeSet<&str> =
        first.ready.as_object().unwrap().keys().map(String::as_str).collect();
    let contract = [
        "cluster_name",
        "proxy_addr",
        "auth_addr",
        "ca_file",
        "ca_pin",
        "data_dir",
        "user",
        "invite_url",
        "node",
    ];
    assert_eq!(fields, contract.into());
    // The line of JSON is all of standard output: a script may parse it whole.
    let json = first.process.output();
    assert!(json.trim_end().lines().all(|line| line.starts_with('{')), "{json}");
    assert_eq!(first.field("data_dir"), data.to_str().unwrap());
    assert!(fs::read_to_string(first.field("ca_file")).unwrap().contains("BEGIN CERTIFICATE"));
    enter(&shell, &first);
    let [node, proxy] = ["node", "proxy_addr"].map(|name| first.field(name).to_owned());
    shell.paste(&format!("access ssh {node} true"), "").ok();
    let Quickstart { process, ready } = first;
    process.signal(Signal::SIGINT);
    assert_eq!(process.wait(), Some(0));

    let second = Quickstart::start_on(&data, &proxy);
    for field in ["cluster_name", "ca_pin", "user", "node", "proxy_addr", "ca_file"] {
        assert_eq!(second.ready[field], ready[field], "{field}");
    }
    assert!(second.ready["invite_url"].is_null(), "{}", second.ready);
    // The certificates of before hold, and so does the password.
    let done = shell.paste(&format!("access ssh {node} 'echo still here'"), "").ok();
    assert_eq!(done.out, "still here\n");
    login(&shell, &second).ok();
    let wrong = shell.paste(&format!("access login --proxy={proxy}"), "not the password at all\n");
    wrong.fails(4, "invalid user name or password");
    // What the first run recorded and logged is there.
    let done = shell.paste(
        &format!(
            "accessctl --data-dir '{}' audit search --type=exec --format=json",
            data.display()
        ),
        "",
    );
    assert!(done.ok().out.contains("true"));
}

#[test]
fn it_listens_on_ipv6_too() {
    let mut shell = Shell::new();
    let data = shell.path("data");
    shell.use_tools_of(&data);
    let quickstart = Quickstart::start_on(&data, "[::1]:0");
    assert!(quickstart.field("proxy_addr").starts_with("[::1]:"), "{}", quickstart.ready);
    assert!(quickstart.field("invite_url").starts_with("https://[::1]:"));
    enter(&shell, &quickstart);
    let node = quickstart.field("node");
    let done = shell.paste(&format!("access ssh {node} 'exit 5'"), "");
    assert_eq!(done.code, 5, "{done:?}");
    // By the jump host, whose address stands in brackets in known_hosts.
    let done = shell.paste(
        &format!(
            "access config > $HOME/config && ssh -F $HOME/config -o BatchMode=yes -J proxy.access.internal \
             {node}.node.access.internal 'exit 6'"
        ),
        "",
    );
    assert_eq!(done.code, 6, "{done:?}");
    quickstart.process.signal(Signal::SIGTERM);
    assert_eq!(quickstart.process.wait(), Some(0));
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let shell = Shell::new();
    let refused = |data: &Path, listen: &str, text: &str| {
        let done = run(&mut Quickstart::command(data, listen), "").fails(1, text);
        assert!(done.out.is_empty(), "{done:?}");
        assert!(done.err.starts_with("quickstart: "), "{done:?}");
        assert!(!done.err.contains("panicked"), "{done:?}");
        done
    };
    let data = shell.path("data");
    let running = Quickstart::start(&data);
    let proxy = running.field("proxy_addr").to_owned();
    let done = refused(&data, "127.0.0.1:0", "another process");
    assert!(done.err.contains("access.db"), "{}", done.err);
    let done = refused(&shell.path("other"), &proxy, "in use");
    assert!(done.err.contains(&proxy), "{}", done.err);
    // The first is not disturbed by either.
    let mut status = Command::new(data.join("bin/accessctl"));
    run(status.arg("--data-dir").arg(&data).arg("status"), "").ok();

    let open = shell.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    let done = refused(&open, "127.0.0.1:0", "chmod 700");
    assert!(done.err.contains("755") && done.err.contains("open to others"), "{}", done.err);
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0, "nothing is written into it");

    let file = shell.path("file");
    fs::write(&file, "").unwrap();
    refused(&file, "127.0.0.1:0", "is no directory");
    let done = refused(&file.join("data"), "127.0.0.1:0", "cannot use the data directory");
    assert!(done.err.contains("file/data"), "{}", done.err);

    let closed = shell.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let done = run(&mut bound_by_modes(Quickstart::command(&closed, "127.0.0.1:0")), "");
    let done = done.fails(1, "Permission denied");
    assert!(done.err.contains(closed.to_str().unwrap()), "{}", done.err);

    // What it is called with is checked as well.
    run(&mut Quickstart::command(&data, "nowhere"), "").fails(2, "--listen");
}

/// The same command, for which file modes count: root's capability to ignore them is dropped.
fn bound_by_modes(command: Command) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return command;
    }
    let mut bound = Command::new("setpriv");
    bound
        .args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    bound
}
