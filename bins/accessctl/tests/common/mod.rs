//! An Auth Service for the tool to talk to, and the tool as a process.
#![allow(dead_code, reason = "not every test file uses everything")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use access_auth::{AuthService, Options};
use access_backend::{Backend, Memory, Sqlite, SqliteOptions};
use access_core::ClusterName;
use access_host::SystemClock;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::process::Command;

pub(crate) const CLUSTER: &str = "example.test";

/// A service on a memory store that listens on the local socket of a data directory.
pub(crate) struct Daemon {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) service: AuthService,
}

impl Daemon {
    pub(crate) async fn start() -> Self {
        let dir = private_dir();
        let service = AuthService::open(Arc::new(Memory::default()), options(dir.path())).await;
        let service = service.unwrap();
        let listener = UnixListener::bind(dir.path().join("auth.sock")).unwrap();
        let serving = service.clone();
        tokio::spawn(async move { serving.serve_unix(listener, std::future::pending()).await });
        Self { dir, service }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the tool on this daemon's data directory.
    pub(crate) async fn ctl(&self, args: &[&str]) -> Done {
        self.ctl_with(args, "").await
    }

    /// The same with something on standard input.
    pub(crate) async fn ctl_with(&self, args: &[&str], input: &str) -> Done {
        let dir = self.dir.path().to_str().unwrap();
        run(&[&["--data-dir", dir], args].concat(), input, &[]).await
    }
}

/// A folder that nobody else may enter, as data directories must be.
pub(crate) fn private_dir() -> tempfile::TempDir {
    let mode = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir, Arc::new(SystemClock));
    options.cluster_name = Some(ClusterName::new(CLUSTER).unwrap());
    options.proxies = vec!["proxy.example.test:443".into()];
    options
}

/// Makes a cluster in a data directory with a store on disk, and ends.
pub(crate) async fn make_store(dir: &Path) {
    let store = Arc::new(Sqlite::open(SqliteOptions::new(dir.join("access.db"))).await.unwrap());
    let service = AuthService::open(Arc::clone(&store), options(dir)).await.unwrap();
    service.close().await;
    drop(service);
    store.close().await.unwrap();
}

/// What a run of the tool came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    pub(crate) fn json(self) -> serde_json::Value {
        let done = self.ok();
        serde_json::from_str(&done.out).unwrap_or_else(|err| panic!("{err}: {done:?}"))
    }

    /// The run failed with this code, and said all of this.
    pub(crate) fn fails(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for text in texts {
            assert!(self.err.contains(text), "{text:?} is missing in {self:?}");
        }
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The tool, with nothing of the tester's own environment and folder.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_accessctl"));
    command
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("ACCESS_HOME", "/nonexistent")
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs the tool.
pub(crate) async fn run(args: &[&str], input: &str, env: &[(&str, &str)]) -> Done {
    let mut child = command(args).envs(env.iter().copied()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Who does not read its input ends before it is written.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    child.wait_with_output().await.unwrap().into()
}
