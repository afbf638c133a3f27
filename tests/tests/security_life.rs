//! Permits live: what an administrator withdraws ends at once, in words; and an agent that hears
//! nothing from Auth grants nothing new.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr, reason = "what was measured is worth a line")]

use std::io::Write;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, Done, PASSWORD, Process, run};
use nix::sys::signal::Signal;

const ALICE: &[&str] = &["--roles=access", "--logins=root"];
const NODE: &str = "root@web-1.node.example.com";
/// "Within a second", and what a loaded machine adds to that.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A session that would last, and prints that it has begun.
struct Lasting {
    ssh: Process,
    user: String,
    _stdin: std::process::ChildStdin,
}

impl Lasting {
    fn start(cluster: &Cluster, user: &str, more: &[&str]) -> Self {
        let config = cluster.ssh_config(user);
        let mut args = more.to_vec();
        args.extend([NODE, "echo begun; sleep 60; echo over"]);
        let mut ssh = Process::start("ssh", cluster.ssh(&config, &args));
        ssh.wait_for("that it has begun", |line| line.contains("begun").then_some(()));
        let stdin = ssh.stdin();
        Self { ssh, user: user.to_owned(), _stdin: stdin }
    }

    /// Ends soon after `since`, and says why.
    fn ends(self, since: Instant, why: &str) {
        let Self { ssh, user, _stdin } = self;
        ssh.wait_for(&format!("{why:?} to {user}"), |line| {
            // The second is what a jump host says, which is not within the session.
            let said = line.contains("session ended") || line.contains("Received disconnect");
            (said && line.contains(why)).then_some(())
        });
        let output = ssh.output();
        let code = ssh.wait();
        let took = since.elapsed();
        assert!(took < AT_ONCE, "it took {took:?}");
        assert!(code != Some(0) && !output.contains("over"), "{code:?}: {output}");
        eprintln!("{user}: {why:?} after {took:?}");
    }
}

fn refused(cluster: &Cluster, user: &str, why: &str) {
    let config = cluster.home(user).join(cluster.proxy_addr.replace(':', "_")).join("ssh_config");
    for more in [&[][..], &["-J", "root@proxy.example.com"]] {
        let mut args = more.to_vec();
        args.extend([NODE, "id"]);
        let done = run(&mut cluster.ssh(&config, &args), "");
        assert_ne!(done.code, 0, "{more:?} {done:?}");
        assert_eq!(done.out, "", "{more:?}");
        // A jump host says nothing of nodes to whom it does not show them.
        let told = done.err.contains(why) || done.err.contains("no such node, or no access to it");
        assert!(told, "{more:?} {done:?}");
    }
}

fn void(done: &Done) {
    assert!(done.code == 3 || done.code == 4, "{done:?}");
}

#[test]
fn what_is_withdrawn_ends_at_once() {
    let cluster = Cluster::start();
    let users = ["lockee", "changed", "removed", "left", "reset", "updated", "bystander"];
    for user in users {
        cluster.add_user(user, ALICE);
        cluster.login(user).ok();
    }
    let bystander = Lasting::start(&cluster, "bystander", &[]);

    let session = Lasting::start(&cluster, "lockee", &[]);
    let jumped = Lasting::start(&cluster, "lockee", &["-J", "root@proxy.example.com"]);
    let terminal = Lasting::start(&cluster, "lockee", &["-tt"]);
    let since = Instant::now();
    cluster.ctl(&["lock", "--user=lockee", "--message=laptop stolen"], "").ok();
    session.ends(since, "lock");
    jumped.ends(since, "lock");
    terminal.ends(since, "lock");
    refused(&cluster, "lockee", "lock");
    void(&cluster.access("lockee", &["ls"], ""));
    cluster.wait_for_event("session.end", |event| {
        event["user"] == "lockee" && event["reason"] == "access withdrawn"
    });

    let session = Lasting::start(&cluster, "removed", &[]);
    let since = Instant::now();
    cluster.ctl(&["users", "rm", "removed"], "").ok();
    session.ends(since, "withdrawn");
    refused(&cluster, "removed", "no longer good");
    void(&cluster.access("removed", &["ls"], ""));

    let session = Lasting::start(&cluster, "reset", &[]);
    let since = Instant::now();
    cluster.ctl(&["users", "reset", "reset"], "").ok();
    session.ends(since, "withdrawn");
    refused(&cluster, "reset", "no longer good");
    void(&cluster.access("reset", &["ls"], ""));

    let session = Lasting::start(&cluster, "updated", &[]);
    let since = Instant::now();
    cluster.ctl(&["users", "update", "updated", "--roles=auditor"], "").ok();
    session.ends(since, "withdrawn");
    refused(&cluster, "updated", "no longer good");

    // From another machine.
    let session = Lasting::start(&cluster, "left", &[]);
    let mut elsewhere = cluster.access_command(
        "left-elsewhere",
        &[
            "login",
            &format!("--proxy={}", cluster.proxy_addr),
            &format!("--ca-pin={}", cluster.pin),
            "--user=left",
        ],
    );
    run(&mut elsewhere, &format!("{PASSWORD}\n")).ok();
    let since = Instant::now();
    cluster.access("left-elsewhere", &["logout"], "").ok();
    session.ends(since, "withdrawn");
    refused(&cluster, "left", "no longer good");
    void(&cluster.access("left", &["ls"], ""));
    cluster.login("left").ok();
    cluster.access("left", &["ssh", "root@web-1", "true"], "").ok();

    // Last, because everybody has the role.
    let session = Lasting::start(&cluster, "changed", &[]);
    let role = cluster.ctl(&["get", "role/access", "--format=yaml"], "").ok().out;
    let narrowed = role.replace("{{internal.logins}}", "nobody-{{internal.logins}}");
    assert_ne!(role, narrowed);
    let since = Instant::now();
    cluster.ctl(&["create", "--force"], &narrowed).ok();
    session.ends(since, "withdrawn");
    // Nobody else's session ended before that.
    bystander.ends(since, "withdrawn");
    refused(&cluster, "changed", "access denied");
}

#[test]
fn without_auth_nothing_new_is_granted() {
    const MAX: Duration = Duration::from_secs(8);
    let cluster = Cluster::start_with("  max_staleness: 8s\n", "");
    cluster.add_user("alice", ALICE);
    cluster.login("alice").ok();
    let config = cluster.ssh_config("alice");
    let ssh = |command: &str| run(&mut cluster.ssh(&config, &[NODE, command]), "");
    ssh("true").ok();

    let mut session = Process::start("ssh", cluster.ssh(&config, &[NODE, "cat"]));
    let mut stdin = session.stdin();
    let mut echo = |word: &str| {
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
        session.wait_for(&format!("{word} back"), |line| (line == word).then_some(()));
    };
    echo("before");
    let auth = cluster.auth.as_ref().unwrap();
    auth.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    // Before the policy is too old, what it allows is allowed.
    ssh("true").ok();
    let refusal = loop {
        let done = ssh("true");
        if done.code != 0 {
            break done;
        }
        assert!(stopped.elapsed() < MAX * 3, "new sessions are still granted");
        std::thread::sleep(Duration::from_millis(200));
    };
    for part in ["the policy here is", "8 s that are allowed", "the auth service cannot be reached"]
    {
        assert!(refusal.err.contains(part), "{part:?} in {refusal:?}");
    }
    let agent = cluster.agent.as_ref().unwrap();
    echo("meanwhile");

    auth.signal(Signal::SIGCONT);
    let back = Instant::now();
    loop {
        let done = ssh("true");
        if done.code == 0 {
            break;
        }
        assert!(back.elapsed() < Duration::from_secs(20), "{done:?}\n{}", agent.output());
        std::thread::sleep(Duration::from_millis(200));
    }
    eprintln!("granted again after {:?}", back.elapsed());
    echo("after");
    // What was refused is told once it can be.
    let event = cluster.wait_for_event("access.decision", |event| {
        event["reason"].as_str().unwrap_or_default().contains("the auth service cannot be reached")
    });
    assert_eq!(event["user"], "alice");
    drop(stdin);
    assert_eq!(session.wait(), Some(0));
}

#[test]
fn an_auth_that_is_gone_and_comes_back() {
    let mut cluster = Cluster::start_with("  max_staleness: 8s\n", "");
    cluster.add_user("alice", ALICE);
    cluster.login("alice").ok();
    let config = cluster.ssh_config("alice");
    cluster.auth.take().unwrap().kill9();
    let gone = Instant::now();
    loop {
        let done = run(&mut cluster.ssh(&config, &[NODE, "true"]), "");
        if done.code != 0 {
            assert!(done.err.contains("the auth service cannot be reached"), "{done:?}");
            break;
        }
        assert!(gone.elapsed() < Duration::from_secs(25), "new sessions are still granted");
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.start_auth();
    let back = Instant::now();
    while run(&mut cluster.ssh(&config, &[NODE, "true"]), "").code != 0 {
        assert!(back.elapsed() < Duration::from_secs(25), "nothing is granted any more");
        std::thread::sleep(Duration::from_millis(200));
    }
    eprintln!("granted again after {:?}", back.elapsed());
}
