//! Our side: Auth, proxy and agent as three processes, and a user who has logged in.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::server::{ACCOUNT, DATABASE, free_port, wait_for};
use crate::Result;
use crate::process::{Running, output, program};

const PASSWORD: &str = "correct horse battery staple";
const USER: &str = "alice";

/// Three daemons; they end with this, the agent first.
#[derive(Debug)]
pub(super) struct Cluster {
    folder: PathBuf,
    agent: Option<Running>,
    /// The proxy.
    pub(super) proxy: Running,
    _auth: Running,
    proxy_addr: String,
    ca_pin: String,
    /// The database's port at the agent.
    pub(super) door: u16,
}

impl Cluster {
    /// Starts Auth and the proxy below a folder.
    ///
    /// # Errors
    /// When any of it fails.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let config = format!(
            "access:\n  data_dir: {}\n  log: {{ format: json }}\nauth_service:\n  \
             listen_addr: 127.0.0.1:0\n  cluster_name: example.com\n",
            folder.join("auth").display()
        );
        let (auth, auth_addr) = daemon(folder, "auth", &config, "auth is up")?;
        let status: Value =
            serde_json::from_str(&accessctl(folder, &["status", "--format=json"])?)?;
        let ca_pin = status.get("ca_pin").and_then(Value::as_str).ok_or("no pin")?.to_owned();
        let config = format!(
            "access:\n  nodename: proxy\n  data_dir: {data}\n  auth_server: {auth_addr}\n  \
             log: {{ format: json }}\n  ca_pin: {ca_pin}\n  \
             join_params: {{ method: token, token_name: {token} }}\nproxy_service:\n  \
             web_listen_addr: 127.0.0.1:0\n",
            data = folder.join("proxy").display(),
            token = token(folder, "proxy")?,
        );
        let (proxy, proxy_addr) = daemon(folder, "proxy", &config, "the proxy is up")?;
        let folder = folder.to_owned();
        Ok(Self { folder, agent: None, proxy, _auth: auth, proxy_addr, ca_pin, door: free_port()? })
    }

    /// The roots for which a database trusts its clients.
    ///
    /// # Errors
    /// When Auth does not tell.
    pub(super) fn client_roots(&self) -> Result<String> {
        accessctl(&self.folder, &["auth", "export", "--type=db-client"])
    }

    /// Starts the agent before a database whose certificate has this root, and logs the user in.
    ///
    /// # Errors
    /// When any of it fails.
    pub(super) fn serve(&mut self, port: u16, root: &Path) -> Result<()> {
        let config = format!(
            "access:\n  nodename: db-1\n  data_dir: {data}\n  proxy_server: {proxy}\n  \
             log: {{ format: json }}\n  ca_pin: {pin}\n  \
             join_params: {{ method: token, token_name: {token} }}\ndb_service:\n  databases:\n  \
             - name: bench\n    protocol: postgres\n    uri: localhost:{port}\n    \
             listen_addr: 127.0.0.1:{door}\n    tls: {{ ca_cert_file: {root} }}\n",
            data = self.folder.join("agent").display(),
            proxy = self.proxy_addr,
            pin = self.ca_pin,
            token = token(&self.folder, "db")?,
            door = self.door,
            root = root.display(),
        );
        let (agent, _) = daemon(&self.folder, "agent", &config, "the tunnel is up")?;
        self.agent = Some(agent);
        let proxy = format!("--proxy={}", self.proxy_addr);
        let (db_users, db_names) =
            (format!("--db-users={ACCOUNT}"), format!("--db-names={DATABASE}"));
        let added = accessctl(
            &self.folder,
            &[&proxy, "users", "add", USER, "--roles=access", &db_users, &db_names],
        )?;
        let link = added
            .split_whitespace()
            .map(|word| word.trim_matches('\''))
            .find(|word| word.starts_with("https://"))
            .ok_or("no invitation")?;
        let password = format!("{PASSWORD}\n");
        self.access(&["invite", "accept", link], &password)?;
        let pin = format!("--ca-pin={}", self.ca_pin);
        self.access(&["login", &proxy, &format!("--user={USER}"), &pin], &password)?;
        Ok(())
    }

    /// How stock clients reach the database through the proxy.
    ///
    /// # Errors
    /// When `access` does not tell.
    pub(super) fn conninfo(&self) -> Result<String> {
        let (user, name) = (format!("--db-user={ACCOUNT}"), format!("--db-name={DATABASE}"));
        let args = ["db", "config", "--format=json", &user, &name, "bench"];
        let parameters: Value = serde_json::from_str(&self.access(&args, "")?)?;
        let parameters = parameters.as_object().ok_or("no parameters")?;
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let words = parameters.iter().map(|(key, value)| format!("{key}={}", word(value)));
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    /// The agent's process.
    pub(super) fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Running::id)
    }

    fn access(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(program("access")?);
        output(command.env("ACCESS_HOME", self.folder.join("home")).args(args), input)
    }
}

/// `accessctl` on Auth's own host.
fn accessctl(folder: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program("accessctl")?);
    output(command.arg("--data-dir").arg(folder.join("auth")).args(args), "")
}

/// A join token.
fn token(folder: &Path, types: &str) -> Result<String> {
    let made = accessctl(folder, &["tokens", "add", "--type", types, "--format=json"])?;
    let made: Value = serde_json::from_str(&made)?;
    Ok(made.get("token").and_then(Value::as_str).ok_or("no token")?.to_owned())
}

/// Starts a daemon, and gives the address that it tells when it is up, if it does.
fn daemon(folder: &Path, name: &str, config: &str, up: &str) -> Result<(Running, String)> {
    let path = folder.join(format!("{name}.yaml"));
    fs::write(&path, config)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let log = folder.join(format!("{name}.log"));
    let file = File::create(&log)?;
    let mut command = Command::new(program(name)?);
    command.arg("--config").arg(&path).stdin(Stdio::null());
    command.stdout(file.try_clone()?).stderr(file);
    let process = Running(command.spawn()?);
    let addr = wait_for(name, || {
        let said = fs::read_to_string(&log).ok()?;
        said.lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let told = line.get("message")?.as_str()? == up;
            let addr = line.get("addr").and_then(Value::as_str).unwrap_or_default();
            told.then(|| addr.to_owned())
        })
    });
    match addr {
        Ok(addr) => Ok((process, addr)),
        Err(err) => Err(format!("{err}: {}", fs::read_to_string(&log).unwrap_or_default()).into()),
    }
}
