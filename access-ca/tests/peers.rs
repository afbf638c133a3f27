//! OpenSSH and OpenSSL read, verify and use what is issued.
#![allow(clippy::disallowed_methods, reason = "real processes run by the real clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use access_ca::*;
use access_core::Login;
use access_core::identity::AuthorityKind;
use common::*;

/// Files of one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.text(name)
    }

    /// Makes an SSH key pair as its owner would; its public half comes back.
    fn ssh_key(&self, name: &str, args: &[&str]) -> String {
        let path = self.text(name);
        stdout("ssh-keygen", &[&["-q", "-N", "", "-C", "owner", "-f", &path], args].concat());
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap()
    }
}

fn me() -> String {
    stdout("id", &["-un"]).trim().to_owned()
}

fn user_certificate(authority: &Authority, public_key: &str, logins: &[&str]) -> String {
    let mut draft = UserDraft::new(user(logins), HOUR);
    draft.ssh_public_key = Some(parse_ssh_key(public_key).unwrap());
    let signed = draft.vet(&policy()).unwrap().sign(authority).unwrap();
    signed.ssh_openssh().unwrap().unwrap()
}

fn host_certificate(authority: &Authority, public_key: &str) -> String {
    let mut draft = HostDraft::new(host(), HOUR).unwrap();
    draft.ssh_public_key = Some(parse_ssh_key(public_key).unwrap());
    let signed = draft.vet(&policy()).unwrap().sign(authority).unwrap();
    signed.ssh_openssh().unwrap().unwrap()
}

#[test]
fn ssh_keygen_reads_what_was_issued() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::EcdsaP256] {
        let files = Files::new();
        let authority = authority_with(AuthorityKind::User, algorithm);
        let public = files.ssh_key("id", &["-t", "ed25519"]);
        let mut draft = UserDraft::new(user(&["alice", "deploy"]), HOUR);
        draft.identity.source_pin = Some("203.0.113.0/24,2001:db8::/32".parse().unwrap());
        draft.ssh_public_key = Some(parse_ssh_key(&public).unwrap());
        let signed = draft.vet(&policy()).unwrap().sign(&authority).unwrap();
        let path = files.write("id-cert.pub", &signed.ssh_openssh().unwrap().unwrap());
        let listing = stdout("ssh-keygen", &["-L", "-f", &path]);
        let serial = format!("Serial: {}", signed.ssh().unwrap().serial());
        for part in [
            "ssh-ed25519-cert-v01@openssh.com user certificate",
            "Key ID: \"alice\"",
            serial.as_str(),
            "                alice\n                deploy\n",
            "source-address 203.0.113.0/24,2001:db8::/32",
            "permit-pty",
            "permit-port-forwarding",
            "identity@access",
        ] {
            assert!(listing.contains(part), "{part:?} is not in\n{listing}");
        }
        assert!(!listing.contains("X11") && !listing.contains("agent-forwarding"), "{listing}");
    }
}

#[test]
fn keys_that_are_too_weak_or_of_no_use_are_refused() {
    let files = Files::new();
    for (name, args) in [
        ("ed", ["-t", "ed25519"].as_slice()),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
    ] {
        assert!(parse_ssh_key(&files.ssh_key(name, args)).is_ok(), "{name}");
    }
    let weak = files.ssh_key("weak", &["-t", "rsa", "-b", "1024"]);
    let err = parse_ssh_key(&weak).unwrap_err().to_string();
    assert!(err.contains("2048 to 8192 bits, not 1024"), "{err}");
    let authority = authority(AuthorityKind::User);
    let own = std::fs::read_to_string(files.path("ed.pub")).unwrap();
    let certificate = user_certificate(&authority, &own, &["root"]);
    for line in ["", "ssh-ed25519", "ssh-ed25519 AAAA", &certificate, &"A".repeat(5000)] {
        assert!(matches!(parse_ssh_key(line), Err(Error::SshKey(_))), "{line:?}");
    }
}

/// `sshd` on a loopback port; killed when dropped.
struct Sshd {
    child: Child,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    fn start(files: &Files, settings: &str) -> Self {
        // As root, sshd drops privileges into this directory and refuses to start without it.
        if me() == "root" {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            // The port is free now; another may take it before sshd does, then the next is tried.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = files.write(
                "sshd_config",
                &format!(
                    "Port {port}\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\n\
                     StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n\
                     AuthorizedKeysFile none\n{settings}"
                ),
            );
            let log = std::fs::File::create(files.path("sshd.log")).unwrap();
            let child = Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f", &config])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("/usr/sbin/sshd is needed by this test");
            let mut sshd = Self { child, port };
            while Instant::now() < deadline && sshd.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return sshd;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(
                Instant::now() < deadline,
                "sshd does not listen: {}",
                std::fs::read_to_string(files.path("sshd.log")).unwrap_or_default()
            );
        }
    }

    fn ssh(&self, files: &Files, certificate: &Path, host: &str) -> Output {
        let option = |name: &str, value: &str| format!("-o{name}={value}");
        Command::new("ssh")
            .args(["-F", "none", "-T", "-p", &self.port.to_string(), "-i", &files.text("id")])
            .arg(option("CertificateFile", certificate.to_str().unwrap()))
            .arg(option("IdentitiesOnly", "yes"))
            .arg(option("IdentityAgent", "none"))
            .arg(option("BatchMode", "yes"))
            .arg(option("StrictHostKeyChecking", "yes"))
            .arg(option("UserKnownHostsFile", &files.text("known_hosts")))
            .arg(option("GlobalKnownHostsFile", "/dev/null"))
            .arg(option("HostKeyAlias", host))
            .arg(option("ConnectTimeout", "20"))
            .arg(format!("{}@127.0.0.1", me()))
            .arg("echo reached")
            .stdin(Stdio::null())
            .output()
            .expect("ssh is needed by this test")
    }
}

fn reached(output: &Output) -> bool {
    output.status.success() && output.stdout == b"reached\n"
}

fn sshd_and_ssh_agree(algorithm: KeyAlgorithm, subject: &[&str]) {
    let files = Files::new();
    let users = authority_with(AuthorityKind::User, algorithm);
    let hosts = authority_with(AuthorityKind::Host, algorithm);
    let user_key = files.ssh_key("id", subject);
    let host_key = files.ssh_key("host", subject);
    files.write("user_ca.pub", &openssh_line(users.ssh_key().unwrap()).unwrap());
    files.write("host-cert.pub", &host_certificate(&hosts, &host_key));
    let authority_line = format!(
        "@cert-authority *.node.example.com {}\n",
        openssh_line(hosts.ssh_key().unwrap()).unwrap()
    );
    files.write("known_hosts", &authority_line);
    let settings = format!(
        "HostKey {}\nHostCertificate {}\nTrustedUserCAKeys {}\n",
        files.text("host"),
        files.text("host-cert.pub"),
        files.text("user_ca.pub"),
    );
    let sshd = Sshd::start(&files, &settings);
    let connect = |certificate: &str, host: &str| {
        files.write("id-cert.pub", certificate);
        sshd.ssh(&files, &files.path("id-cert.pub"), host)
    };
    let node = "web-1.node.example.com";
    let me = me();

    let good = user_certificate(&users, &user_key, &[&me]);
    let output = connect(&good, node);
    assert!(
        reached(&output),
        "{}\nsshd: {}",
        String::from_utf8_lossy(&output.stderr),
        std::fs::read_to_string(files.path("sshd.log")).unwrap()
    );
    // The client holds the host to its names.
    let output = connect(&good, "web-2.node.example.com");
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(!reached(&output) && says.contains("name is not a listed principal"), "{says}");

    // What the server must refuse.
    let refused = |certificate: &str| {
        let output = connect(certificate, node);
        let says = String::from_utf8_lossy(&output.stderr);
        assert!(!reached(&output) && says.contains("Permission denied"), "{says}");
    };
    refused(&user_certificate(&users, &user_key, &["somebody-else"]));
    refused(&user_certificate(&authority(AuthorityKind::User), &user_key, &[&me]));
    refused(&host_certificate(&hosts, &user_key));
    let issue = |change: &dyn Fn(&mut UserDraft), policy: &IssuingPolicy| {
        let mut draft = UserDraft::new(user(&[&me]), HOUR);
        draft.ssh_public_key = Some(parse_ssh_key(&user_key).unwrap());
        change(&mut draft);
        let signed = draft.vet(policy).unwrap().sign(&users).unwrap();
        signed.ssh_openssh().unwrap().unwrap()
    };
    let past = IssuingPolicy { now: now().minus(3 * HOUR), ..policy() };
    refused(&issue(&|_| {}, &past));
    let pinned = |to: &str| {
        let to = to.to_owned();
        move |draft: &mut UserDraft| draft.identity.source_pin = Some(to.parse().unwrap())
    };
    refused(&issue(&pinned("203.0.113.0/24"), &policy()));
    assert!(reached(&connect(&issue(&pinned("127.0.0.0/8"), &policy()), node)));
}

#[test]
fn sshd_and_ssh_agree_on_an_ed25519_authority() {
    sshd_and_ssh_agree(KeyAlgorithm::Ed25519, &["-t", "ed25519"]);
}

#[test]
fn sshd_and_ssh_agree_on_a_p256_authority() {
    sshd_and_ssh_agree(KeyAlgorithm::EcdsaP256, &["-t", "ecdsa", "-b", "256"]);
}

#[test]
fn sshd_and_ssh_agree_on_rsa_subjects() {
    sshd_and_ssh_agree(KeyAlgorithm::Ed25519, &["-t", "rsa", "-b", "2048"]);
}

#[test]
fn openssl_verifies_chains_and_names() {
    let files = Files::new();
    let (users, hosts) = (authority(AuthorityKind::User), authority(AuthorityKind::Host));
    let user = user_draft(&["root"]).vet(&policy()).unwrap().sign(&users).unwrap();
    let host = host_draft().vet(&policy()).unwrap().sign(&hosts).unwrap();
    let user_root = files.write("user-root.pem", &pem(users.tls_root()));
    let host_root = files.write("host-root.pem", &pem(hosts.tls_root()));
    let user_leaf = files.write("user.pem", &pem(user.tls_leaf().unwrap()));
    let host_leaf = files.write("host.pem", &host.tls_chain_pem());
    let verify = |root: &str, leaf: &str, more: &[&str]| {
        let args = [&["verify", "-x509_strict", "-CAfile", root], more, &[leaf]].concat();
        run("openssl", &args)
    };
    let passes = |output: &Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    passes(&verify(&user_root, &user_leaf, &["-purpose", "sslclient"]));
    passes(&verify(&host_root, &host_leaf, &["-purpose", "sslclient"]));
    let name = ["-purpose", "sslserver", "-verify_hostname", "web-1.node.example.com"];
    passes(&verify(&host_root, &host_leaf, &name));

    assert!(!verify(&host_root, &user_leaf, &[]).status.success());
    assert!(!verify(&user_root, &user_leaf, &["-purpose", "sslserver"]).status.success());
    let name = ["-verify_hostname", "web-2.node.example.com"];
    assert!(!verify(&host_root, &host_leaf, &name).status.success());

    let text = stdout("openssl", &["x509", "-in", &user_leaf, "-noout", "-text"]);
    for part in ["Subject: CN = alice", "URI:spiffe://example.com/user/alice", "CA:FALSE"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn awkward_names_make_certificates_that_openssl_reads() {
    let files = Files::new();
    let authority = authority(AuthorityKind::User);
    let root = files.write("root.pem", &pem(authority.tls_root()));
    for name in ["zoë@example.com", "CN=admin", "a+b=c\\d\"e", &"x".repeat(128)] {
        let mut draft = user_draft(&[]);
        draft.ssh_public_key = None;
        let name = access_core::UserName::new(name).unwrap();
        draft.identity.subject = access_core::identity::Subject::User { name: name.clone() };
        draft.identity.logins = vec![Login::new("root").unwrap()];
        let signed = draft.vet(&policy()).unwrap().sign(&authority).unwrap();
        let leaf = files.write("leaf.pem", &pem(signed.tls_leaf().unwrap()));
        stdout("openssl", &["verify", "-x509_strict", "-CAfile", &root, &leaf]);
        let parsed = x509_parser::parse_x509_certificate(signed.tls_leaf().unwrap()).unwrap().1;
        let names: Vec<_> = parsed.subject().iter_attributes().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(names.first().unwrap().as_str().unwrap(), name.as_str());
    }
}
