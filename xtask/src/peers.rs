//! The programs that the tests run against: software that nobody here wrote.
//!
//! A peer that is missing and cannot be installed fails the run with the reason, and so do the
//! tests that need it. `--without NAME` is the explicit way out; the tests hear of it by
//! `ACCESS_TEST_WITHOUT`, a list of names with commas between.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::builder::PossibleValuesParser;

use crate::run::{Outcome, done, find_program};

/// A peer: its name for `--without`, the programs or files that tests need, and where they come
/// from. Files are given by their path: absolute, or in the workspace.
#[derive(Debug)]
struct Peer {
    name: &'static str,
    programs: &'static [&'static str],
    package: &'static str,
}

/// Packages of npm begin with this; all others are Debian's.
const NPM: &str = "npm:";

const PEERS: &[Peer] = &[
    Peer { name: "sshd", programs: &["sshd"], package: "openssh-server" },
    Peer {
        name: "ssh",
        programs: &["ssh", "scp", "sftp", "ssh-keygen", "ssh-agent", "ssh-add"],
        package: "openssh-client",
    },
    Peer { name: "rsync", programs: &["rsync"], package: "rsync" },
    Peer { name: "sshpass", programs: &["sshpass"], package: "sshpass" },
    Peer { name: "openssl", programs: &["openssl"], package: "openssl" },
    Peer { name: "tcpdump", programs: &["tcpdump"], package: "tcpdump" },
    Peer { name: "gdb", programs: &["gdb"], package: "gdb" },
    Peer { name: "iproute2", programs: &["ip"], package: "iproute2" },
    Peer { name: "util-linux", programs: &["unshare", "setpriv"], package: "util-linux" },
    Peer { name: "mount", programs: &["mount", "umount"], package: "mount" },
    Peer { name: "faketime", programs: &["faketime"], package: "faketime" },
    Peer {
        name: "postgresql",
        programs: &["postgres", "initdb", "psql", "pg_dump", "pg_restore", "pgbench"],
        package: "postgresql",
    },
    Peer {
        name: "psycopg",
        programs: &["/usr/bin/python3", "/usr/lib/python3/dist-packages/psycopg/__init__.py"],
        package: "python3-psycopg",
    },
    Peer {
        name: "node-postgres",
        programs: &["node", "target/peers/node_modules/pg/package.json"],
        package: "npm:pg@8.13.1",
    },
    Peer {
        name: "pg-copy-streams",
        programs: &["target/peers/node_modules/pg-copy-streams/package.json"],
        package: "npm:pg-copy-streams@6.0.6",
    },
    Peer { name: "java", programs: &["java", "javac"], package: "default-jdk-headless" },
    Peer {
        name: "jdbc",
        programs: &["/usr/share/java/postgresql.jar"],
        package: "libpostgresql-jdbc-java",
    },
    Peer { name: "passwd", programs: &["useradd", "userdel"], package: "passwd" },
];

/// The names that `--without` takes.
pub(crate) fn known() -> PossibleValuesParser {
    PossibleValuesParser::new(PEERS.iter().map(|peer| peer.name))
}

/// Installs the peers that are missing, but those in `without`.
pub(crate) fn provide(without: &[String]) -> Outcome {
    let wanted: Vec<&Peer> =
        PEERS.iter().filter(|peer| !without.iter().any(|name| name == peer.name)).collect();
    let mut missing = missing(&wanted, |program| find_program(program).is_some());
    if !missing.is_empty() {
        println!("missing: {}", missing.join(", "));
        install(&missing)?;
        missing = self::missing(&wanted, |program| find_program(program).is_some());
        if !missing.is_empty() {
            return Err(format!("installed, and yet not there: {}", missing.join(", ")));
        }
    }
    // sshd refuses to start without it, and only a service manager or root makes it.
    if wanted.iter().any(|peer| peer.name == "sshd")
        && is_root()
        && !Path::new("/run/sshd").exists()
    {
        fs::create_dir_all("/run/sshd").map_err(|err| format!("cannot make /run/sshd: {err}"))?;
    }
    println!("all there: {}", wanted.iter().map(|peer| peer.name).collect::<Vec<_>>().join(", "));
    Ok(())
}

/// The packages of the peers of which a program is not there, each once.
fn missing(peers: &[&Peer], there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<&'static str> = peers
        .iter()
        .filter(|peer| !peer.programs.iter().all(|program| there(program)))
        .map(|peer| peer.package)
        .collect();
    packages.dedup();
    packages
}

fn install(packages: &[&str]) -> Outcome {
    let (npm, debian): (Vec<&str>, Vec<&str>) =
        packages.iter().partition(|package| package.starts_with(NPM));
    if !debian.is_empty() {
        install_debian(&debian)?;
    }
    for package in npm.iter().filter_map(|package| package.strip_prefix(NPM)) {
        let mut command = Command::new("npm");
        command.args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--prefix",
            "target/peers",
        ]);
        done(command.arg(package))
            .map_err(|why| format!("{why}; npm is needed for {package}, or pass --without NAME"))?;
    }
    Ok(())
}

fn install_debian(packages: &[&str]) -> Outcome {
    let list = packages.join(" ");
    let by_hand = format!(
        "install them (on Debian: apt-get install --no-install-recommends {list}) or pass \
         --without NAME for each"
    );
    if find_program("apt-get").is_none() {
        return Err(format!("missing: {list}, and there is no apt-get here; {by_hand}"));
    }
    if !is_root() {
        return Err(format!("missing: {list}, and only root may install them; {by_hand}"));
    }
    let failed = |why: String| format!("{why}; still missing: {list}; {by_hand}");
    done(apt().arg("update")).map_err(failed)?;
    done(apt().args(["install", "-y", "--no-install-recommends"]).args(packages)).map_err(failed)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-q").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_missing_when_one_of_its_programs_is() {
        let all: Vec<&Peer> = PEERS.iter().collect();
        assert!(missing(&all, |_| true).is_empty());
        assert_eq!(missing(&all, |program| program != "scp"), ["openssh-client"]);
        assert_eq!(missing(&all, |_| false).len(), PEERS.len());
    }

    #[test]
    fn names_are_given_once() {
        for peer in PEERS {
            assert_eq!(PEERS.iter().filter(|other| other.name == peer.name).count(), 1);
        }
    }
}
