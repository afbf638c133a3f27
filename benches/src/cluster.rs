//! Our side: a quickstart, with its first user logged in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Result;
use crate::openssh::CIPHER;
use crate::process::{Running, output, program, start_until_line};

const PASSWORD: &str = "correct horse battery staple";

/// A quickstart that is ready.
#[derive(Debug)]
pub struct Quickstart {
    /// The process.
    pub process: Running,
    /// What it printed when it was ready.
    pub ready: Value,
    /// From its start until then.
    pub took: Duration,
}

impl Quickstart {
    /// Starts one on a data directory, new or not.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(data_dir: &Path) -> Result<Self> {
        let mut command = Command::new(program("quickstart")?);
        command.arg("--data-dir").arg(data_dir);
        command.args(["--listen", "127.0.0.1:0", "--print", "json", "--user", "bench"]);
        let (process, line, took) = start_until_line(&mut command)?;
        Ok(Self { process, ready: serde_json::from_str(&line)?, took })
    }

    fn field(&self, name: &str) -> Result<&str> {
        self.ready
            .get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| format!("no {name} in {}", self.ready).into())
    }
}

/// A cluster with a user who has logged in.
#[derive(Debug)]
pub struct Cluster {
    /// The quickstart; it ends with this.
    pub quickstart: Quickstart,
    /// The configuration of OpenSSH that `access config` printed, with the cipher for all.
    pub ssh_config: PathBuf,
    /// The node, as `ssh` is told.
    pub node: String,
    /// The proxy as a jump host, as `ssh -J` is told.
    pub jump: String,
}

impl Cluster {
    /// Starts a cluster below a folder, accepts the invitation and logs in.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn start(folder: &Path) -> Result<Self> {
        let quickstart = Quickstart::start(&folder.join("data"))?;
        let home = folder.join("home");
        let access = |args: &[&str], input: &str| -> Result<String> {
            let mut command = Command::new(program("access")?);
            output(command.env("ACCESS_HOME", &home).args(args), input)
        };
        let password = format!("{PASSWORD}\n");
        access(&["invite", "accept", quickstart.field("invite_url")?], &password)?;
        let proxy = format!("--proxy={}", quickstart.field("proxy_addr")?);
        let pin = format!("--ca-pin={}", quickstart.field("ca_pin")?);
        let user = format!("--user={}", quickstart.field("user")?);
        access(&["login", &proxy, &user, &pin], &password)?;
        let config = access(&["config"], "")?;
        let ssh_config = folder.join("ours.conf");
        let common = format!("Host *\n    Ciphers {CIPHER}\n    BatchMode yes\n\n");
        std::fs::write(&ssh_config, common + &config)?;
        let cluster = quickstart.field("cluster_name")?;
        let node = format!("{}.node.{cluster}", quickstart.field("node")?);
        let jump = format!("proxy.{cluster}");
        Ok(Self { quickstart, ssh_config, node, jump })
    }
}
