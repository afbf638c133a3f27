//! Certificates that were really signed by the cluster's authority, and are no good all the same;
//! and hosts of another cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::Command;

use access_core::identity::{AuthorityKind, SSH_IDENTITY_EXTENSION};
use access_e2e::{Authorities, Cluster, Done, Process, bin, off_by, run, without};
use serde_json::Value;

const TARGET: &str = "root@web-1.node.example.com";

struct Site {
    cluster: Cluster,
    authorities: Authorities,
    /// The identity that alice's certificates carry.
    identity: String,
}

impl Site {
    fn start() -> Self {
        let cluster = Cluster::start();
        cluster.add_user("alice", &["--roles=access", "--logins=root"]);
        cluster.login("alice").ok();
        let profile = cluster.home("alice").join(cluster.proxy_addr.replace(':', "_"));
        let own = ssh_key::Certificate::read_file(&profile.join("ssh_key-cert.pub")).unwrap();
        let identity = own.extensions().get(SSH_IDENTITY_EXTENSION).unwrap().clone();
        Self { authorities: Authorities::of(&cluster), cluster, identity }
    }

    /// A certificate with alice's identity, signed by `ssh-keygen` with an authority's key.
    fn signed(&self, by: AuthorityKind, name: &str, more: &[&str]) -> std::path::PathBuf {
        let identity = format!("extension:{SSH_IDENTITY_EXTENSION}={}", self.identity);
        let mut args = vec!["-O", &identity];
        args.extend(more);
        self.authorities.ssh_keygen(by, name, &args)
    }

    /// Stock `ssh` with a key and its certificate; alice's TLS certificate leads to the node.
    fn ssh(&self, key: &Path, more: &[&str]) -> Done {
        let config = fs::read_to_string(self.cluster.ssh_config("alice")).unwrap();
        let text: Vec<_> = config
            .lines()
            .filter(|line| !line.contains("IdentityFile") && !line.contains("CertificateFile"))
            .collect();
        let key = format!("IdentityFile={}", key.display());
        let config = self.cluster.write("signed.conf", &text.join("\n"));
        let mut args = vec!["-o", &key];
        args.extend(more);
        args.extend([TARGET, "echo in"]);
        run(&mut self.cluster.ssh(&config, &args), "")
    }

    /// Refused, told why in words, and written down with the same words.
    #[track_caller]
    fn refuses(&self, key: &Path, told: &str, noted: &str) -> Value {
        let done = self.ssh(key, &[]).fails(255, told);
        assert!(done.out.is_empty(), "{done:?}");
        self.cluster.wait_for_event("auth", |event| {
            event["success"] == false && event["error"].to_string().contains(noted)
        })
    }
}

#[test]
fn a_signature_alone_is_not_enough() {
    let site = Site::start();
    let user = |name: &str, more: &[&str]| {
        let mut args = vec!["-n", "root", "-V", "-1m:+1h"];
        args.extend(more);
        site.signed(AuthorityKind::User, name, &args)
    };
    // The way in works with one that Auth could have signed.
    assert_eq!(site.ssh(&user("good", &[]), &[]).ok().out, "in\n");

    let key = user("critical", &["-O", "critical:only-on-sundays=yes"]);
    let event = site.refuses(&key, "only-on-sundays", "only-on-sundays");
    assert_eq!(event["user"], "alice", "{event:#}");
    // ssh-keygen writes an option of its own that is not known here either.
    let key = user("forced", &["-O", "force-command=true"]);
    site.refuses(&key, "force-command", "force-command");
    let key = user("elsewhere", &["-O", "source-address=192.0.2.0/24"]);
    site.refuses(&key, "127.0.0.1", "127.0.0.1");
    let key = user("from-here", &["-O", "source-address=127.0.0.0/8"]);
    assert_eq!(site.ssh(&key, &[]).ok().out, "in\n");

    // Expired, and not yet valid: stock ssh offers them, and is told at the end.
    let told = "No certificate of example.com was presented that is valid now";
    for (name, span) in [("expired", "20200101:20200102"), ("early", "+1h:+2h")] {
        let key = site.signed(AuthorityKind::User, name, &["-n", "root", "-V", span]);
        site.refuses(&key, told, "no valid certificate");
        let agent = site.cluster.agent.as_ref().unwrap();
        agent.wait_for("why", |line| line.contains("expired or not yet valid").then_some(()));
        // Without a dialogue there is nobody to tell.
        site.ssh(&key, &["-o", "BatchMode=yes"]).fails(255, "Permission denied");
    }
    // For another login, for none, and a user's that the host authority signed.
    let key = site.signed(AuthorityKind::User, "other", &["-n", "daemon", "-V", "-1m:+1h"]);
    site.refuses(&key, "does not allow login \"root\"", "root");
    let key = site.signed(AuthorityKind::User, "nobody", &["-V", "-1m:+1h"]);
    let done = site.ssh(&key, &[]);
    assert!(done.code == 255 && done.out.is_empty(), "{done:?}");
    let key = site.signed(AuthorityKind::Host, "by-host", &["-n", "root", "-V", "-1m:+1h"]);
    site.refuses(&key, "access denied", "authority");
    let key = site.signed(AuthorityKind::Host, "host", &["-h", "-n", "root", "-V", "-1m:+1h"]);
    let done = site.ssh(&key, &[]);
    assert!(done.code == 255 && done.out.is_empty(), "{done:?}");

    // Of all of it, two sessions came, and the node still serves.
    let starts = site.cluster.events(&["session.start"]);
    assert_eq!(starts.len(), 2, "{starts:#?}");
    assert_eq!(site.ssh(&user("good-again", &[]), &[]).ok().out, "in\n");
}

#[test]
fn an_identity_file_expires() {
    if without("faketime") {
        return;
    }
    let site = Site::start();
    let path = site.cluster.path("alice.identity").display().to_string();
    let sign = ["auth", "sign", "--user=alice", "--format=file", "--ttl=1h", "--out", &path];
    site.cluster.ctl(&sign, "").ok();
    let proxy = format!("--proxy={}", site.cluster.proxy_addr);
    let later = |offset: &str, args: &[&str]| {
        let mut all = vec!["--identity", &path, &proxy];
        all.extend(args);
        let mut command = site.cluster.access_command("nobody", &all);
        off_by(&mut command, offset);
        run(&mut command, "")
    };
    assert_eq!(later("+0s", &["ssh", "root@web-1", "echo in"]).ok().out, "in\n");
    for args in [&["ls"][..], &["ssh", "root@web-1", "echo in"]] {
        let done = later("+2h", args).fails(4, "the certificate has expired at 20");
        assert!(done.out.is_empty() && done.err.contains("log in again"), "{done:?}");
    }
}

#[test]
fn an_agent_of_another_cluster_serves_nobody() {
    let site = Site::start();
    let mut other = Cluster::start();
    other.agent.take().unwrap().kill9();
    let config = site.cluster.write(
        "strange.yaml",
        &format!(
            "access:\n  nodename: web-1\n  data_dir: {}\n  proxy_server: {}\n  log: {{ format: \
             json }}\n  ca_pin: {}\nssh_service:\n  enabled: yes\n",
            other.path("agent").display(),
            site.cluster.proxy_addr,
            other.pin
        ),
    );
    let mut command = Command::new(bin("agent"));
    command.arg("--config").arg(config);
    let strange = Process::start("agent", command);
    strange.wait_for("whose proxy it is", |line| {
        line.contains("does not prove to be the cluster").then_some(())
    });
    assert!(!strange.output().contains("the tunnel is up"), "{}", strange.output());
    assert_eq!(site.cluster.access("alice", &["ssh", TARGET, "echo in"], "").ok().out, "in\n");
    // Home again, it goes on as it was.
    drop(strange);
    other.start_agent();
    other.wait_for_node("web-1");
}
