//! Several Auth processes on one PostgreSQL.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::cluster::{Cluster, addr_of};
use crate::postgres::Postgres;
use crate::process::Process;
use crate::run::{Done, bin, run};

/// Auth processes that share a database, the file of the sealing key, and a folder for recordings.
pub struct Replicas {
    /// Their database.
    pub store: Postgres,
    folder: PathBuf,
    running: Vec<Replica>,
}

struct Replica {
    name: String,
    addr: String,
    process: Option<Process>,
}

impl Replicas {
    /// Starts so many of them at the same moment, on an empty database. Of the cluster nothing else
    /// runs; its commands go to the first of them, and its proxy is to be told of all.
    pub fn start(count: usize) -> (Self, Cluster) {
        let store = Postgres::store();
        let mut cluster = Cluster::without_processes();
        fs::create_dir(cluster.path("shared")).unwrap();
        let name = |at: usize| if at == 0 { "auth".to_owned() } else { format!("auth-{at}") };
        let new = |at| Replica { name: name(at), addr: "127.0.0.1:0".into(), process: None };
        let running = (0..count).map(new).collect();
        let folder = cluster.path("");
        let mut replicas = Self { store, folder, running };
        for at in 0..count {
            replicas.spawn(at);
        }
        for at in 0..count {
            replicas.wait(at);
        }
        let addrs: Vec<_> = replicas.running.iter().map(|one| one.addr.clone()).collect();
        // As it stands in the proxy's configuration: a list.
        cluster.auth_addr = format!("[{}]", addrs.join(", "));
        cluster.learn_pin();
        (replicas, cluster)
    }

    /// Their addresses, as `--auth-server` takes them.
    pub fn addrs(&self) -> String {
        self.running.iter().map(|one| one.addr.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The process of one.
    pub fn process(&self, at: usize) -> &Process {
        self.running[at].process.as_ref().unwrap()
    }

    /// Ends one as a crash does.
    pub fn kill9(&mut self, at: usize) {
        self.running[at].process.take().unwrap().kill9();
    }

    /// Starts one again, on the port that it had, and waits until it serves.
    pub fn start_again(&mut self, at: usize) {
        self.spawn(at);
        self.wait(at);
    }

    /// `accessctl` on the host of one.
    pub fn ctl(&self, at: usize, args: &[&str], input: &str) -> Done {
        let mut command = Command::new(bin("accessctl"));
        command.arg("--data-dir").arg(self.folder.join(&self.running[at].name)).args(args);
        run(&mut command, input)
    }

    /// Whether one made the cluster when it was started.
    pub fn made_it(&self, at: usize) -> bool {
        self.process(at).wait_for("that Auth is up", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "auth is up").then(|| line["new"].as_bool()).flatten()
        })
    }

    fn spawn(&mut self, at: usize) {
        let Self { folder, store, running } = self;
        let Replica { name, addr, process } = &mut running[at];
        let data = folder.join(&*name);
        fs::create_dir_all(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        let config = folder.join(format!("{name}.yaml"));
        fs::write(
            &config,
            format!(
                "access:\n  data_dir: {}\n  log: {{ format: json }}\n  storage:\n    type: postgres\n    \
                 conn_string: \"{}\"\n    recordings: {}\nauth_service:\n  listen_addr: {addr}\n  \
                 cluster_name: example.com\n",
                data.display(),
                store.conn_string("access", "access_backend"),
                folder.join("shared/recordings").display(),
            ),
        )
        .unwrap();
        let mut command = Command::new(bin("auth"));
        command.arg("--config").arg(config);
        command.env("ACCESS_SEAL_KEY_FILE", folder.join("shared/seal.key"));
        *process = Some(Process::start(name, command));
    }

    fn wait(&mut self, at: usize) {
        let replica = &mut self.running[at];
        let process = replica.process.as_ref().unwrap();
        replica.addr = process.wait_for("its address", |line| addr_of(line, "auth is up"));
    }
}
