//! A cluster: Auth, proxy and agent as three processes, and a user's home.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::Process;
use crate::run::{Done, bin, run};

/// The password of every user that the tests make.
pub const PASSWORD: &str = "correct horse battery staple";

/// Three processes with three configuration files; the agent knows only the proxy's port.
pub struct Cluster {
    /// Everything that it keeps.
    pub dir: tempfile::TempDir,
    /// The Auth Service.
    pub auth: Option<Process>,
    /// The proxy.
    pub proxy: Option<Process>,
    /// The agent.
    pub agent: Option<Process>,
    /// The proxy's address.
    pub proxy_addr: String,
    /// The Auth Service's address.
    pub auth_addr: String,
    /// The cluster's pin.
    pub pin: String,
}

/// The address in the JSON log line with this message.
pub(crate) fn addr_of(line: &str, message: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value["message"] == message).then(|| value["addr"].as_str().map(str::to_owned)).flatten()
}

impl Cluster {
    /// Starts all three, with the agent serving node `web-1`.
    pub fn start() -> Self {
        Self::start_with("", "")
    }

    /// Starts all three; the texts are added to the `access` section of the agent's configuration
    /// and to the end of it.
    pub fn start_with(agent_common: &str, agent_more: &str) -> Self {
        let mut cluster = Self::without_agent();
        let token = cluster.token("node");
        cluster.write_agent_config(&token, agent_common, agent_more);
        cluster.start_agent();
        cluster.wait_for_node("web-1");
        cluster
    }

    /// Starts Auth and the proxy only.
    pub fn without_agent() -> Self {
        let mut cluster = Self::without_processes();
        cluster.start_auth();
        cluster.add_proxy();
        cluster
    }

    /// A folder, and nothing that runs yet.
    pub(crate) fn without_processes() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("access-e2e-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .unwrap();
        Self {
            dir,
            auth: None,
            proxy: None,
            agent: None,
            proxy_addr: "127.0.0.1:0".into(),
            auth_addr: "127.0.0.1:0".into(),
            pin: String::new(),
        }
    }

    /// Starts the proxy for the first time.
    pub fn add_proxy(&mut self) {
        let token = self.token("proxy");
        self.write("proxy-token", &token);
        self.start_proxy();
    }

    /// A path within the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the cluster's folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Starts Auth, on the port that it had before.
    pub fn start_auth(&mut self) {
        let config = self.write(
            "auth.yaml",
            &format!(
                "access:\n  data_dir: {}\n  log: {{ format: json }}\nauth_service:\n  \
                 listen_addr: {}\n  cluster_name: example.com\n",
                self.path("auth").display(),
                self.auth_addr
            ),
        );
        let process = daemon("auth", &config);
        self.auth_addr = process.wait_for("its address", |line| addr_of(line, "auth is up"));
        self.auth = Some(process);
        self.learn_pin();
    }

    /// Asks Auth for the pin.
    pub(crate) fn learn_pin(&mut self) {
        let status = self.ctl(&["status", "--format=json"], "").ok();
        let status: Value = serde_json::from_str(&status.out).unwrap();
        self.pin = status["ca_pin"].as_str().unwrap().to_owned();
    }

    /// Starts the proxy, on the port that it had before.
    pub fn start_proxy(&mut self) {
        let config = self.write(
            "proxy.yaml",
            &format!(
                "access:\n  nodename: proxy\n  data_dir: {data}\n  auth_server: {auth}\n  \
                 log: {{ format: json }}\n  ca_pin: {pin}\n  \
                 join_params: {{ method: token, token_name: {token} }}\nproxy_service:\n  \
                 web_listen_addr: {listen}\n",
                data = self.path("proxy").display(),
                auth = self.auth_addr,
                pin = self.pin,
                token = self.path("proxy-token").display(),
                listen = self.proxy_addr,
            ),
        );
        let process = daemon("proxy", &config);
        self.proxy_addr = process.wait_for("its address", |line| addr_of(line, "the proxy is up"));
        self.proxy = Some(process);
    }

    /// Writes the agent's configuration.
    pub fn write_agent_config(&self, token: &str, common: &str, more: &str) {
        self.write(
            "agent.yaml",
            &format!(
                "access:\n  nodename: web-1\n  data_dir: {data}\n  proxy_server: {proxy}\n  \
                 log: {{ format: json }}\n  ca_pin: {pin}\n  \
                 join_params: {{ method: token, token_name: {token} }}\n{common}ssh_service:\n  \
                 enabled: yes\n  labels: {{ env: prod }}\n{more}",
                data = self.path("agent").display(),
                proxy = self.proxy_addr,
                pin = self.pin,
            ),
        );
    }

    /// Starts the agent with the configuration that was written.
    pub fn start_agent(&mut self) {
        self.start_agent_as(|_| {});
    }

    /// The same, with something about the process changed before it starts.
    pub fn start_agent_as(&mut self, prepare: impl FnOnce(&mut Command)) {
        let mut command = daemon_command("agent", &self.path("agent.yaml"));
        prepare(&mut command);
        self.agent = Some(Process::start("agent", command));
    }

    /// `accessctl` on the Auth Service's own host.
    pub fn ctl(&self, args: &[&str], input: &str) -> Done {
        let mut command = Command::new(bin("accessctl"));
        command.arg("--data-dir").arg(self.path("auth")).args(args);
        run(&mut command, input)
    }

    /// A join token.
    pub fn token(&self, types: &str) -> String {
        let done = self.ctl(&["tokens", "add", "--type", types, "--format=json"], "").ok();
        let token: Value = serde_json::from_str(&done.out).unwrap();
        token["token"].as_str().unwrap().to_owned()
    }

    /// Waits until a node can be reached: its agent has said that a tunnel stands.
    pub fn wait_for_node(&self, name: &str) {
        let agent = self.agent.as_ref().unwrap();
        agent.wait_for(&format!("that {name} can be reached"), |line| {
            line.contains("the tunnel is up").then_some(())
        });
    }

    /// A user with a password, and their invitation redeemed.
    pub fn add_user(&self, name: &str, args: &[&str]) {
        let mut all = vec!["users", "add", name];
        all.extend(args);
        let proxy = format!("--proxy={}", self.proxy_addr);
        let mut with_proxy = vec![proxy.as_str()];
        with_proxy.extend(all);
        let done = self.ctl(&with_proxy, "").ok();
        let link = done
            .out
            .split_whitespace()
            .map(|word| word.trim_matches('\''))
            .find(|word| word.starts_with("https://"))
            .unwrap_or_else(|| panic!("no invitation link in:\n{}", done.out))
            .to_owned();
        self.access(name, &["invite", "accept", &link], &format!("{PASSWORD}\n")).ok();
    }

    /// Logs a user in.
    pub fn login(&self, name: &str) -> Done {
        let proxy = format!("--proxy={}", self.proxy_addr);
        let pin = format!("--ca-pin={}", self.pin);
        let user = format!("--user={name}");
        self.access(name, &["login", &proxy, &user, &pin], &format!("{PASSWORD}\n"))
    }

    /// `access`, with a home for each user.
    pub fn access(&self, user: &str, args: &[&str], input: &str) -> Done {
        run(&mut self.access_command(user, args), input)
    }

    /// The same as a command.
    pub fn access_command(&self, user: &str, args: &[&str]) -> Command {
        let mut command = Command::new(bin("access"));
        command.env("ACCESS_HOME", self.home(user)).args(args);
        command
    }

    /// Where a user's logins are.
    pub fn home(&self, user: &str) -> PathBuf {
        self.path("home").join(user)
    }

    /// A file with an OpenSSH configuration for a user who is logged in.
    pub fn ssh_config(&self, user: &str) -> PathBuf {
        let config = self.access(user, &["config"], "").ok().out;
        self.write(&format!("ssh-{user}.conf"), &config)
    }

    /// Stock `ssh` with that configuration.
    pub fn ssh(&self, config: &Path, args: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(config).args(args).env("HOME", self.dir.path());
        command
    }

    /// The audit events of some types, oldest first.
    pub fn events(&self, types: &[&str]) -> Vec<Value> {
        let list = types.join(",");
        let args = ["audit", "search", "--type", &list, "--limit=100000", "--format=json"];
        let done = self.ctl(&args, "").ok();
        let mut events: Vec<Value> = serde_json::from_str(&done.out).unwrap();
        events.sort_by_key(|event| event["time"].as_str().unwrap_or_default().to_owned());
        events
    }

    /// Waits until there are so many events of a type, and gives them, oldest first.
    #[track_caller]
    pub fn wait_for_events(&self, kind: &str, count: usize) -> Vec<Value> {
        let deadline = std::time::Instant::now() + TOLD_WITHIN;
        loop {
            let events = self.events(&[kind]);
            if events.len() >= count {
                return events;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "there are {} {kind} events, not {count}",
                events.len()
            );
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// Waits for an event of a type that fits.
    pub fn wait_for_event(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + TOLD_WITHIN;
        loop {
            let events = self.events(&[kind]);
            if let Some(event) = events.into_iter().find(&fits) {
                return event;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "no {kind} event fits; there are:\n{:#?}",
                self.events(&[kind])
            );
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

/// How long events may take to arrive: agents that Auth was away from call again within half a
/// minute.
const TOLD_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

fn daemon(name: &str, config: &Path) -> Process {
    Process::start(name, daemon_command(name, config))
}

/// A daemon of ours with a configuration, not started yet.
pub fn daemon_command(name: &str, config: &Path) -> Command {
    let mut command = Command::new(bin(name));
    command.arg("--config").arg(config).env("RUST_BACKTRACE", "1");
    command
}

/// The quickstart as a process.
pub struct Quickstart {
    /// The process.
    pub process: Process,
    /// What it printed when it was ready.
    pub ready: Value,
}

impl Quickstart {
    /// Starts it on a data directory.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_on(data_dir, "127.0.0.1:0")
    }

    /// Starts it on a data directory, at an address.
    pub fn start_on(data_dir: &Path, listen: &str) -> Self {
        let mut command = Self::command(data_dir, listen);
        command.args(["--print", "json"]);
        let process = Process::start("quickstart", command);
        let ready = process.wait_for("that it is ready", |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            value.get("proxy_addr").is_some().then_some(value)
        });
        Self { process, ready }
    }

    /// What starts it.
    pub fn command(data_dir: &Path, listen: &str) -> Command {
        let mut command = Command::new(bin("quickstart"));
        command.arg("--data-dir").arg(data_dir).args(["--listen", listen]);
        command
    }

    /// A field of what it printed.
    pub fn field(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("{name} in {}", self.ready))
    }
}
