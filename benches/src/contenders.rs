//! The four ways to a node.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::cluster::Cluster;
use crate::openssh::OpenSsh;

/// A way to run a command on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// OpenSSH straight to sshd.
    Direct,
    /// OpenSSH through `access proxy ssh`, our proxy, a tunnel and our agent.
    OursByProgram,
    /// OpenSSH through one sshd to another, with `-J`.
    PeerByJump,
    /// OpenSSH with `-J` through our proxy's jump host, a tunnel and our agent.
    OursByJump,
}

impl Way {
    /// All of them, in the order in which they take turns.
    pub const ALL: [Self; 4] =
        [Self::Direct, Self::OursByProgram, Self::PeerByJump, Self::OursByJump];

    /// Its name in the tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "OpenSSH, direct to sshd",
            Self::OursByProgram => "ours, ProxyCommand `access proxy ssh`",
            Self::PeerByJump => "OpenSSH, ssh -J sshd sshd",
            Self::OursByJump => "ours, ssh -J proxy",
        }
    }
}

/// Both sides, up and ready.
#[derive(Debug)]
pub struct Contenders {
    /// Ours.
    pub cluster: Cluster,
    /// Theirs.
    pub openssh: OpenSsh,
    _folder: tempfile::TempDir,
}

impl Contenders {
    /// Starts everything, in a folder of its own.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn start() -> Result<Self> {
        let folder = private_folder()?;
        let cluster = Cluster::start(folder.path())?;
        let openssh = OpenSsh::start(&folder.path().join("openssh"))?;
        Ok(Self { cluster, openssh, _folder: folder })
    }

    /// `ssh` that runs a command on a node, this way.
    pub fn ssh(&self, way: Way, command: &str) -> Command {
        let peer = self.openssh.ssh_config.as_path();
        let ours = self.cluster.ssh_config.as_path();
        let (config, jump, node): (&Path, Option<&str>, &str) = match way {
            Way::Direct => (peer, None, "target"),
            Way::OursByProgram => (ours, None, &self.cluster.node),
            Way::PeerByJump => (peer, Some("jump"), "target"),
            Way::OursByJump => (ours, Some(&self.cluster.jump), &self.cluster.node),
        };
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(config);
        if let Some(jump) = jump {
            ssh.arg("-J").arg(jump);
        }
        ssh.arg(node).arg(command);
        ssh
    }
}

/// A temporary folder for its owner alone.
///
/// # Errors
/// When it cannot be made.
pub fn private_folder() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o700);
    Ok(tempfile::Builder::new().prefix("access-bench-").permissions(permissions).tempdir()?)
}
