//! Certificates for databases: OpenSSL verifies them, a real PostgreSQL takes them, and nobody in
//! the cluster takes their holder for anybody.
#![allow(clippy::disallowed_methods, reason = "real processes run by the real clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use access_ca::*;
use access_core::Login;
use access_core::identity::{AuthorityKind, TrustedAuthority, VerifyError};
use access_core::{Timestamp, TrustStore};
use common::*;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

/// A key of our own, with its private half in PEM: what an agent, or a server, makes.
struct OwnKey {
    pem: String,
    spki: Vec<u8>,
}

fn own_key() -> OwnKey {
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let public = PublicKey::from_raw(KeyAlgorithm::EcdsaP256, pair.public_key().as_ref()).unwrap();
    let body = data_encoding::BASE64.encode(pkcs8.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    OwnKey { pem, spki: public.spki_der().to_vec() }
}

fn account(authority: &Authority, name: &str, key: &OwnKey, policy: &IssuingPolicy) -> Signed {
    let draft = DatabaseClientDraft {
        cluster: cluster(),
        account: Login::new(name).unwrap(),
        tls_public_key: key.spki.clone(),
        ttl: DatabaseClientDraft::TTL,
    };
    draft.vet(policy).unwrap().sign(authority).unwrap()
}

fn server(authority: &Authority, server: DatabaseServer, key: &OwnKey) -> Signed {
    let names = ["localhost", "db.example.net", "127.0.0.1"];
    let draft = DatabaseServerDraft {
        cluster: cluster(),
        server,
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        tls_public_key: key.spki.clone(),
        ttl: HOUR,
    };
    draft.vet(&policy()).unwrap().sign(authority).unwrap()
}

#[test]
fn authorities_of_databases_sign_no_ssh_certificates() {
    for kind in [AuthorityKind::Db, AuthorityKind::DbClient] {
        let authority = authority(kind);
        assert!(authority.ssh_key().is_none() && authority.trusted().ssh.is_empty());
        let text = serde_json::to_string(authority.document()).unwrap();
        assert!(!text.contains("ssh"), "{text}");
        let opened = Authority::open(&store(), serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(opened.pin(), authority.pin());
        let err = user_draft(&["root"]).vet(&policy()).unwrap().sign(&opened).unwrap_err();
        assert!(matches!(err, Error::WrongAuthority { .. }), "{err}");
    }
}

#[test]
fn databases_and_accounts_are_nobody_in_the_cluster() {
    let [users, hosts, db, db_client] = AuthorityKind::ALL.map(authority);
    let trust = trust(&[&users, &hosts, &db, &db_client]);
    let key = own_key();
    let alice = account(&db_client, "alice", &key, &policy());
    let node = server(&db, DatabaseServer::CockroachNode, &key);
    for signed in [&alice, &node] {
        assert!(signed.identity().is_none());
        let verdict = trust.verify_tls(&signed.tls_chain(), now());
        assert_eq!(verdict.unwrap_err(), VerifyError::Untrusted);
    }
    // Not even one that carries an identity: of an authority that proves none, it is a claim.
    let user = user_draft(&["root"]).vet(&policy()).unwrap().sign(&users).unwrap();
    for kind in [AuthorityKind::Db, AuthorityKind::DbClient] {
        let other = TrustedAuthority { kind, ..users.trusted().clone() };
        let trust = TrustStore::new(cluster(), [other]).unwrap();
        let verdict = trust.verify_tls(&user.tls_chain(), now());
        assert_eq!(verdict.unwrap_err(), VerifyError::Untrusted);
        let login = Login::new("root").unwrap();
        let verdict = trust.verify_ssh_user(user.ssh().unwrap(), &login, None, now());
        assert_eq!(verdict.unwrap_err(), VerifyError::Untrusted);
    }
}

#[test]
fn each_is_signed_by_its_own_authority() {
    let (db, db_client) = (authority(AuthorityKind::Db), authority(AuthorityKind::DbClient));
    let draft = DatabaseClientDraft {
        cluster: cluster(),
        account: Login::new("alice").unwrap(),
        tls_public_key: own_key().spki,
        ttl: HOUR,
    };
    for other in [&db, &authority(AuthorityKind::User), &authority(AuthorityKind::Host)] {
        let err = draft.clone().vet(&policy()).unwrap().sign(other).unwrap_err();
        assert!(matches!(err, Error::WrongAuthority { .. }), "{err}");
    }
    draft.vet(&policy()).unwrap().sign(&db_client).unwrap();
}

#[test]
fn an_account_s_certificate_ends_in_minutes_and_never_after_its_user_s() {
    let db_client = authority(AuthorityKind::DbClient);
    let (key, now) = (own_key(), Timestamp::from_secs(now().as_secs()));
    let mut policy = IssuingPolicy::new(now, DatabaseClientDraft::TTL);
    let signed = account(&db_client, "alice", &key, &policy);
    assert_eq!(signed.validity().not_after(), now.plus(Duration::from_secs(600)));
    policy.not_after = Some(now.plus(Duration::from_secs(7)));
    let signed = account(&db_client, "alice", &key, &policy);
    assert_eq!(signed.validity().not_after(), now.plus(Duration::from_secs(7)));
}

#[test]
fn accounts_that_a_certificate_cannot_name_are_refused() {
    for name in ["x".repeat(65), "x".repeat(128)] {
        let draft = DatabaseClientDraft {
            cluster: cluster(),
            account: Login::new(&name).unwrap(),
            tls_public_key: own_key().spki,
            ttl: HOUR,
        };
        assert!(matches!(draft.vet(&policy()), Err(Error::Account { .. })), "{name}");
    }
}

#[test]
fn openssl_verifies_them_for_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (db, db_client) = (authority(AuthorityKind::Db), authority(AuthorityKind::DbClient));
    let key = own_key();
    let db_root = write("db.pem", &pem(db.tls_root()));
    let client_root = write("db-client.pem", &pem(db_client.tls_root()));
    let plain = server(&db, DatabaseServer::Plain, &key);
    let node = server(&db, DatabaseServer::CockroachNode, &key);
    let alice = account(&db_client, "alice", &key, &policy());
    let plain = write("plain.pem", &pem(plain.tls_leaf().unwrap()));
    let node = write("node.pem", &pem(node.tls_leaf().unwrap()));
    let alice = write("alice.pem", &pem(alice.tls_leaf().unwrap()));
    let verify = |root: &str, leaf: &str, more: &[&str]| {
        let args = [&["verify", "-x509_strict", "-CAfile", root], more, &[leaf]].concat();
        run("openssl", &args).status.success()
    };
    let (as_server, as_client) = (["-purpose", "sslserver"], ["-purpose", "sslclient"]);
    assert!(verify(
        &db_root,
        &plain,
        &[&as_server[..], &["-verify_hostname", "localhost"]].concat()
    ));
    assert!(verify(&db_root, &node, &[&as_server[..], &["-verify_ip", "127.0.0.1"]].concat()));
    assert!(verify(&db_root, &node, &as_client));
    assert!(verify(&client_root, &alice, &as_client));
    assert!(!verify(&db_root, &plain, &as_client));
    assert!(!verify(&client_root, &alice, &as_server));
    assert!(!verify(&db_root, &alice, &as_client));
    assert!(!verify(&client_root, &node, &as_client));

    let text = |path: &str| stdout("openssl", &["x509", "-in", path, "-noout", "-text"]);
    for (path, parts) in [
        (&node, ["Subject: CN = node", "DNS:db.example.net", "IP Address:127.0.0.1"]),
        (&alice, ["Subject: CN = alice", "Digital Signature, Key Encipherment", "CA:FALSE"]),
    ] {
        let text = text(path);
        for part in parts {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
    assert!(!text(&alice).contains("Alternative Name"), "{}", text(&alice));
}

/// A PostgreSQL of our own, which trusts nobody but the authority `db_client`.
struct Postgres {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

/// PostgreSQL does not run as root; then it runs as `postgres`.
fn server_user() -> Option<(u32, u32)> {
    let number = |args: &[&str]| stdout("id", args).trim().parse().unwrap();
    (number(&["-u"]) == 0).then(|| (number(&["-u", "postgres"]), number(&["-g", "postgres"])))
}

fn postgres_program(name: &str) -> PathBuf {
    let bin = stdout("pg_config", &["--bindir"]);
    Path::new(bin.trim()).join(name)
}

impl Postgres {
    fn start(db: &Authority, db_client: &Authority) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let user = server_user();
        if let Some((uid, gid)) = user {
            chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let as_server = |program: &Path| {
            let mut command = Command::new(program);
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command.current_dir(dir.path());
            command
        };
        let mut initdb = as_server(&postgres_program("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&data);
        let output = initdb.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let key = own_key();
        let certificate = server(db, DatabaseServer::Plain, &key);
        for (name, text) in [
            ("server.key", key.pem.as_str()),
            ("server.crt", &certificate.tls_chain_pem()),
            ("clients.cas", &pem(db_client.tls_root())),
            (
                "pg_hba.conf",
                "local all all trust\nhostssl all all all cert clientcert=verify-full\n",
            ),
        ] {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = user {
                chown(&path, Some(uid), Some(gid)).unwrap();
            }
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = as_server(&postgres_program("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(dir.path());
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "fsync=off".into(),
            "ssl=on".into(),
            "ssl_cert_file=server.crt".into(),
            "ssl_key_file=server.key".into(),
            "ssl_ca_file=clients.cas".into(),
        ] {
            command.arg("-c").arg(setting);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Self { dir, port, child };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !started.local("select 1").status.success() {
            assert!(Instant::now() < deadline, "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        started
    }

    fn local(&self, sql: &str) -> Output {
        let (dir, port) = (self.dir.path().to_str().unwrap(), self.port.to_string());
        run("psql", &["-X", "-h", dir, "-p", &port, "-U", "postgres", "-Atc", sql, "postgres"])
    }

    /// `psql` with a certificate, as a database user.
    fn connect(
        &self,
        files: &Path,
        root: &Authority,
        signed: &Signed,
        key: &OwnKey,
        user: &str,
    ) -> Output {
        let write = |name: &str, text: &str| {
            let path = files.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        let conninfo = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user={user} dbname=postgres \
             sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
            self.port,
            write("root.pem", &pem(root.tls_root())),
            write("leaf.pem", &pem(signed.tls_leaf().unwrap())),
            write("leaf.key", &key.pem),
        );
        let sql = "select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()";
        run("psql", &["-X", "-Atc", sql, &conninfo])
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        // "Immediate" shutdown, so that nothing stays behind.
        let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn postgresql_takes_the_account_that_the_certificate_names_and_no_other() {
    let (db, db_client) = (authority(AuthorityKind::Db), authority(AuthorityKind::DbClient));
    let postgres = Postgres::start(&db, &db_client);
    assert!(postgres.local("create role alice login; create role bob login").status.success());
    let files = tempfile::tempdir().unwrap();
    let key = own_key();
    let connect =
        |signed: &Signed, user: &str| postgres.connect(files.path(), &db, signed, &key, user);
    let alice = account(&db_client, "alice", &key, &policy());
    let good = connect(&alice, "alice");
    assert_eq!(String::from_utf8_lossy(&good.stdout), "alice|t\n", "{good:?}");

    let refused = |output: Output, why: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    };
    // Somebody else's account.
    refused(connect(&alice, "bob"), "certificate authentication failed");
    // An authority of the same name, of another cluster.
    let foreign = account(&authority(AuthorityKind::DbClient), "alice", &key, &policy());
    refused(connect(&foreign, "alice"), "");
    // A user's own certificate opens no database: the agent's decision would be left out.
    let mut draft = UserDraft::new(user(&["alice"]), HOUR);
    draft.tls_public_key = Some(key.spki.clone());
    let user = draft.vet(&policy()).unwrap().sign(&authority(AuthorityKind::User)).unwrap();
    refused(connect(&user, "alice"), "");
    // One that has ended.
    let past = IssuingPolicy::new(now().minus(HOUR), Duration::from_secs(600));
    refused(connect(&account(&db_client, "alice", &key, &past), "alice"), "expired");
}
