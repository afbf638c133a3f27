//! Clocks that are an hour off: whose certificate it is that does not hold, everybody is told that
//! a clock is wrong, and by how much where that can be known; nothing is written meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use access_e2e::{Cluster, Done, PASSWORD, Process, bin, off_by, run, without};
use nix::sys::signal::Signal;

const TARGET: &str = "root@web-1.node.example.com";

fn at(cluster: &Cluster, user: &str, offset: &str, args: &[&str], input: &str) -> Done {
    let mut command = cluster.access_command(user, args);
    off_by(&mut command, offset);
    let done = run(&mut command, input);
    assert!(!done.err.contains("panicked"), "{done:?}");
    done
}

#[test]
fn of_somebody_who_logs_in() {
    if without("faketime") {
        return;
    }
    let cluster = Cluster::start();
    cluster.add_user("alice", &["--roles=access", "--logins=root"]);
    let proxy = format!("--proxy={}", cluster.proxy_addr);
    let pin = format!("--ca-pin={}", cluster.pin);
    let login = ["login", &proxy, "--user=alice", &pin];

    // Ahead, the certificates of the cluster still hold, and Auth itself says what time it is.
    let ahead = at(&cluster, "nobody", "+1h", &login, PASSWORD).fails(1, "the clock here is 3");
    assert!(ahead.err.contains("s ahead of the cluster's: set it"), "{ahead:?}");
    // Behind, they do not hold yet: that proves nothing, and says how far off the clock is.
    let behind = at(&cluster, "nobody", "-1h", &login, PASSWORD).fails(1, "the clock here is 35");
    assert!(behind.err.contains("s before that: set the clock here"), "{behind:?}");
    let lost = at(&cluster, "nobody", "+400d", &login, PASSWORD).fails(1, "expired at 20");
    assert!(lost.err.contains("set the clock here if it is wrong"), "{lost:?}");
    assert!(!cluster.home("nobody").join("current").exists(), "failed logins leave nothing");
    // The password was never sent, so that nobody tried to log in.
    assert!(cluster.events(&["user.login"]).is_empty());

    // Logged in, and then the clock goes wrong.
    cluster.login("alice").ok();
    for args in [&["ls"][..], &["ssh", "root@web-1", "echo in"]] {
        let behind = at(&cluster, "alice", "-1h", args, "").fails(1, "the clock here is 35");
        assert!(behind.err.contains("s behind the cluster's: set it"), "{behind:?}");
        assert!(behind.out.is_empty(), "{behind:?}");
    }
    // An hour ahead is within what the certificates allow: they hold for twelve.
    at(&cluster, "alice", "+1h", &["ssh", "root@web-1", "echo in"], "").ok();
    let expired = at(&cluster, "alice", "+13h", &["ssh", "root@web-1", "echo in"], "");
    let expired = expired.fails(4, "the certificate has expired at 20");
    assert!(expired.err.contains("log in again"), "{expired:?}");
    // Everything is as it was.
    cluster.access("alice", &["ssh", "root@web-1", "echo in"], "").ok();
}

#[test]
fn of_an_agent_that_joins() {
    if without("faketime") {
        return;
    }
    let cluster = Cluster::without_agent();
    let token = cluster.token("node");
    let join = |data: &str, offset: &str| {
        let text = format!(
            "access:\n  nodename: web-7\n  data_dir: {}\n  proxy_server: {}\n  ca_pin: {}\n  \
             join_params: {{ method: token, token_name: {token} }}\nssh_service:\n  enabled: yes\n",
            cluster.path(data).display(),
            cluster.proxy_addr,
            cluster.pin
        );
        let mut command = Command::new(bin("agent"));
        command.arg("--config").arg(cluster.write(&format!("{data}.yaml"), &text));
        off_by(&mut command, offset);
        command
    };
    let ahead = run(&mut join("ahead", "+1h"), "").fails(1, "the clock here is 3");
    assert!(ahead.err.contains("s ahead of the cluster's: set it"), "{ahead:?}");
    let behind = run(&mut join("behind", "-1h"), "").fails(1, "the clock here is 35");
    assert!(behind.err.contains("s before that: set the clock here"), "{behind:?}");
    for data in ["ahead", "behind"] {
        assert!(!cluster.path(data).join("host/identity").exists(), "{data} has half joined");
    }
    // The token was not used up, and the same data directory serves once the clock is right.
    let joined = Process::start("agent", join("behind", "+0s"));
    joined.wait_for("its tunnel", |line| line.contains("the tunnel is up").then_some(()));
    joined.signal(Signal::SIGTERM);
    assert_eq!(joined.wait(), Some(0));
}

#[test]
fn of_an_agent_that_runs() {
    if without("faketime") {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.add_user("alice", &["--roles=access", "--logins=root"]);
    cluster.login("alice").ok();
    let config = cluster.ssh_config("alice");

    // Behind: its own certificate does not hold yet, and it does not start.
    cluster.agent.take().unwrap().kill9();
    cluster.start_agent_as(|command| off_by(command, "-1h"));
    let agent = cluster.agent.take().unwrap();
    agent.wait_for("that its clock is behind", |line| {
        (line.contains("the clock here is 35") && line.contains("s behind the cluster's"))
            .then_some(())
    });
    assert_eq!(agent.wait(), Some(1));

    // So far ahead that users' certificates have expired for it, and its own has not.
    cluster.start_agent_as(|command| off_by(command, "+13h"));
    cluster.wait_for_node("web-1");
    // The refusal comes after the handshake, and the end of the connection may overtake it.
    let told = (0..10).any(|_| {
        let done = cluster.access("alice", &["ssh", "root@web-1", "echo in"], "");
        assert!(done.code == 255 && done.out.is_empty(), "{done:?}");
        done.err.contains("one of the two clocks is wrong")
    });
    assert!(told, "nobody is told of a clock");
    // Stock ssh brings no TLS certificate through the jump host; its own is judged by the agent.
    let jump = ["-J", "root@proxy.example.com", TARGET, "echo in"];
    let done = run(&mut cluster.ssh(&config, &jump), "").fails(255, "that is valid now");
    assert!(done.out.is_empty(), "{done:?}");
    let agent = cluster.agent.take().unwrap();
    agent.wait_for("why", |line| line.contains("expired or not yet valid").then_some(()));
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    // What it wrote down has its time, which is to come.
    let args = ["audit", "search", "--type=auth", "--to=2099-01-01T00:00:00Z", "--format=json"];
    let events = cluster.ctl(&args, "").ok();
    assert!(events.out.contains("no valid certificate"), "{events:?}");

    cluster.start_agent();
    cluster.wait_for_node("web-1");
    run(&mut cluster.ssh(&config, &jump), "").ok();
}
