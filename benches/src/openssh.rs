//! The other side: OpenSSH's own server, directly and as a jump host.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::process::{Running, output};

/// The cipher of every contender.
pub const CIPHER: &str = "aes128-gcm@openssh.com";

/// Two servers, `target` and `jump`, and a client's configuration for both.
#[derive(Debug)]
pub struct OpenSsh {
    servers: Vec<Running>,
    /// The client's configuration.
    pub ssh_config: PathBuf,
}

impl OpenSsh {
    /// Starts both below a folder. Users are let in by a certificate, as ours are.
    ///
    /// # Errors
    /// When `sshd` or `ssh-keygen` are not there, or fail.
    pub fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        // Where sshd keeps its unprivileged half; it insists on it when it is root's.
        if nix::unistd::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?.ok_or("who are you?")?.name;
        for name in ["ca", "host", "user"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name));
            output(&mut command, "")?;
        }
        let sign = |args: &[&str], key: &str| -> Result<String> {
            let mut command = Command::new("ssh-keygen");
            command.arg("-q").arg("-s").arg(folder.join("ca")).args(["-I", "bench"]).args(args);
            output(command.arg(folder.join(key)), "")
        };
        sign(&["-n", &user], "user.pub")?;
        sign(&["-h", "-n", "target,jump"], "host.pub")?;
        let authority = fs::read_to_string(folder.join("ca.pub"))?;
        fs::write(folder.join("known_hosts"), format!("@cert-authority target,jump {authority}"))?;
        let mut config = format!(
            "Host *\n    Ciphers {CIPHER}\n    BatchMode yes\n    User {user}\n    \
             IdentityFile {0}/user\n    CertificateFile {0}/user-cert.pub\n    \
             IdentitiesOnly yes\n    IdentityAgent none\n    UserKnownHostsFile {0}/known_hosts\n    \
             GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    \
             UpdateHostKeys no\n    CheckHostIP no\n",
            folder.display()
        );
        let mut servers = Vec::new();
        for name in ["target", "jump"] {
            let (server, port) = server(folder, name)?;
            servers.push(server);
            config.push_str(&format!(
                "Host {name}\n    HostName 127.0.0.1\n    HostKeyAlias {name}\n    Port {port}\n"
            ));
        }
        let ssh_config = folder.join("peer.conf");
        fs::write(&ssh_config, config)?;
        Ok(Self { servers, ssh_config })
    }

    /// Process ids of the servers.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.servers.iter().map(Running::id)
    }
}

/// Starts one server on a free port.
fn server(folder: &Path, name: &str) -> Result<(Running, u16)> {
    // Free at this moment; sshd cannot tell which port it took by itself.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = folder.join(format!("{name}.sshd"));
    fs::write(
        &config,
        format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\n\
             HostCertificate {0}/host-cert.pub\nTrustedUserCAKeys {0}/ca.pub\nUsePAM no\n\
             StrictModes no\nPidFile none\nLogLevel ERROR\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             MaxStartups 100\nPrintMotd no\n",
            folder.display()
        ),
    )?;
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(&config);
    let server = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    let deadline = Instant::now() + Duration::from_secs(10);
    #[allow(clippy::disallowed_methods, reason = "it asks whether a server listens, no more")]
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            return Err(format!("sshd does not listen on port {port}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((server, port))
}
