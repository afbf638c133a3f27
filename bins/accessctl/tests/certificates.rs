//! Authorities, certificates and recordings through the tool.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use access_client::proto::{HostClaims, RecordingPart};
use access_client::{AuthClient, AuthEndpoint, Credentials, KeySet};
use access_core::recording::{RecordingEnd, RecordingKind, RecordingMeta, RecordingWriter};
use access_core::time::Clock;
use access_core::{SessionId, UserName};
use access_host::SystemClock;
use common::{CLUSTER, Daemon};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

async fn with_user() -> Daemon {
    let auth = Daemon::start().await;
    auth.ctl(&["users", "add", "alice", "--roles=access,editor", "--logins=alice"]).await.ok();
    auth
}

fn is_private(path: &Path) -> bool {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777 == 0o600
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_file_is_read_back_and_holds() {
    let auth = with_user().await;
    let path = auth.path("alice.identity");
    let out = format!("--out={}", path.display());
    let args = ["auth", "sign", "--user=alice", "--format=file", "--ttl=1h", &out];
    auth.ctl(&args).await.ok();
    assert!(is_private(&path));
    let before = std::fs::read_to_string(&path).unwrap();
    let credentials = Credentials::from_identity_file(&before).unwrap();
    let now = SystemClock.now();
    let trust = credentials.trust_store().unwrap();
    let identity = trust.verify_tls(&credentials.tls_chain, now).unwrap();
    assert_eq!(identity.name(), "alice");
    let left = credentials.validity.not_after().since(now).as_secs();
    assert!((3500..=3600).contains(&left), "{left}");

    auth.ctl(&args).await.fails(1, &["is there already", "--overwrite"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    auth.ctl(&[&args[..], &["--overwrite"]].concat()).await.ok();
    assert_ne!(std::fs::read_to_string(&path).unwrap(), before);

    let long = format!("--out={}", auth.path("long").display());
    let done = auth.ctl(&["auth", "sign", "--user=alice", "--ttl=300d", &long]).await.ok();
    assert!(done.err.contains("shorter than asked for"), "{done:?}");
    auth.ctl(&["auth", "sign", "--user=nobody", "--out=x"]).await.fails(1, &["nobody"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_reads_what_is_written_for_it() {
    let auth = with_user().await;
    let path = auth.path("key");
    let out = format!("--out={}", path.display());
    auth.ctl(&["auth", "sign", "--user=alice", "--format=openssh", "--ttl=1h", &out]).await.ok();
    let certificate = auth.path("key-cert.pub");
    assert!(is_private(&path) && is_private(&certificate));
    let listed = Command::new("ssh-keygen").arg("-L").arg("-f").arg(&certificate).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("user certificate") && listed.contains("alice"), "{listed}");
    let public = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
    assert!(public.status.success());

    // The exported key is the one that signed.
    let exported = auth.ctl(&["auth", "export", "--type=user-ssh"]).await.ok().out;
    let ca = auth.path("ca.pub");
    std::fs::write(&ca, &exported).unwrap();
    let print = Command::new("ssh-keygen").arg("-l").arg("-f").arg(&ca).output().unwrap();
    let print = String::from_utf8(print.stdout).unwrap();
    let fingerprint = print.split(' ').nth(1).unwrap();
    assert!(listed.contains(fingerprint), "{fingerprint} in {listed}");
    let known = auth.ctl(&["auth", "export", "--type=host-ssh"]).await.ok().out;
    assert!(known.starts_with(&format!("@cert-authority *.{CLUSTER} ssh-ed25519 ")), "{known}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_key_chain_and_authorities() {
    let auth = with_user().await;
    let out = format!("--out={}", auth.path("srv").display());
    let names = "--host=db.internal.example,10.0.0.7";
    auth.ctl(&["auth", "sign", names, "--format=tls", "--ttl=1h", &out]).await.ok();
    for suffix in ["srv.key", "srv.crt", "srv.cas"] {
        assert!(is_private(&auth.path(suffix)));
    }
    let read = |name: &str| -> Vec<_> {
        CertificateDer::pem_file_iter(auth.path(name)).unwrap().map(Result::unwrap).collect()
    };
    let (chain, cas) = (read("srv.crt"), read("srv.cas"));
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = format!("{:?}", leaf.subject_alternative_name().unwrap().unwrap().value);
    assert!(names.contains("DNSName(\"db.internal.example\")"), "{names}");
    let roots: Vec<_> = ["tls-user", "tls-host"].map(|kind| format!("--type={kind}")).into();
    for kind in &roots {
        let pem = auth.ctl(&["auth", "export", kind]).await.ok().out;
        let root = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert!(cas.contains(&root), "{kind}");
    }
    let done = auth.ctl(&["auth", "sign", "--host=proxy.example.test", "--out=never"]).await;
    done.fails(3, &["reserved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_login_gets_an_identity_file_all_the_same() {
    let auth = Daemon::start().await;
    auth.ctl(&["users", "add", "bob", "--roles=auditor"]).await.ok();
    let out = format!("--out={}", auth.path("bob").display());
    auth.ctl(&["auth", "sign", "--user=bob", &out]).await.ok();
    let file = std::fs::read_to_string(auth.path("bob")).unwrap();
    Credentials::from_identity_file(&file).unwrap();
    auth.ctl(&["auth", "sign", "--user=bob", "--format=tls", &out]).await.ok();
    let done = auth.ctl(&["auth", "sign", "--user=bob", "--ttl=0s", "--out=never"]).await;
    done.fails(2, &["--ttl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_come_out_byte_for_byte() {
    let auth = Daemon::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = auth.service.clone();
    tokio::spawn(async move { serving.serve_tls(listener, std::future::pending()).await });

    // A host joins and uploads.
    let args = ["tokens", "add", "--type=node", "--format=json"];
    let token = auth.ctl(&args).await.json()["token"].as_str().unwrap().to_owned();
    let local = AuthClient::over_stream(auth.service.local_pipe());
    let claims = HostClaims {
        nodename: "web-1".into(),
        services: vec!["node".into()],
        resources: vec!["node/web-1".into()],
        public_names: Vec::new(),
        databases: Vec::new(),
    };
    let keys = KeySet::generate().unwrap();
    let host = local.join(&token, None, claims, keys).await.unwrap();
    let client = AuthClient::new(AuthEndpoint::authenticated(
        vec![address.parse().unwrap()],
        host.cluster.clone(),
        host.trust().unwrap(),
        host.shared_key().unwrap(),
        std::sync::Arc::new(SystemClock),
    ))
    .unwrap();
    let session = SessionId::new("0197e0d4-5f1c-4a6b-9c3d-2b1a0f9e8d7c").unwrap();
    let start = SystemClock.now();
    let user = UserName::new("alice").unwrap();
    let meta = RecordingMeta::new(session.clone(), RecordingKind::Ssh, user, "node/web-1", start);
    let mut writer = RecordingWriter::new(&meta).unwrap();
    writer.output(start, b"hello\r\n");
    writer.finish(&RecordingEnd::new(start, "exit"), None).unwrap();
    let bytes = writer.take();
    let part = RecordingPart { session_id: session.to_string(), data: bytes.to_vec() };
    client.recordings().upload(futures::stream::iter([part])).await.unwrap();

    let list = auth.ctl(&["recordings", "ls"]).await.ok().out;
    assert!(list.contains(session.as_str()) && list.contains("node/web-1"), "{list}");
    let out = auth.path("s.rec");
    let flag = format!("--out={}", out.display());
    auth.ctl(&["recordings", "download", session.as_str(), &flag]).await.ok();
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    assert!(is_private(&out));
    let again = auth.ctl(&["recordings", "download", session.as_str(), &flag]).await;
    again.fails(1, &["--overwrite"]);
    let none = auth.ctl(&["recordings", "download", "nothing", &format!("{flag}.2")]).await;
    none.fails(1, &["nothing"]);
    assert_eq!(
        std::fs::read_dir(auth.dir.path())
            .unwrap()
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().contains("s.rec")
            })
            .count(),
        1,
        "no half file is left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_gets_what_it_needs_and_is_told_what_to_do_with_it() {
    let auth = with_user().await;
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let path = |name: &str| auth.path(name).display().to_string();
    for (which, name) in [("db", "db.pem"), ("db-client", "db-client.pem")] {
        let roots = auth.ctl(&["auth", "export", &format!("--type={which}")]).await.ok().out;
        std::fs::write(auth.path(name), &roots).unwrap();
    }
    let (db, db_client) = (path("db.pem"), path("db-client.pem"));
    assert_ne!(std::fs::read(&db).unwrap(), std::fs::read(&db_client).unwrap());

    let out = format!("--out={}", path("pg"));
    let host = "--host=db.internal,10.0.0.5";
    let done = auth.ctl(&["auth", "sign", "--format=db", host, "--ttl=90d", &out]).await.ok();
    for line in [
        format!("ssl_cert_file = '{}'", path("pg.crt")),
        format!("ssl_key_file = '{}'", path("pg.key")),
        format!("ssl_ca_file = '{}'", path("pg.cas")),
        "hostssl all all 0.0.0.0/0 cert clientcert=verify-full".into(),
    ] {
        assert!(done.err.contains(&line), "{line} is not in {}", done.err);
    }
    assert!(is_private(&auth.path("pg.key")));
    // Its clients are accounts, and nobody else.
    assert_eq!(std::fs::read(auth.path("pg.cas")).unwrap(), std::fs::read(&db_client).unwrap());
    let certificate = path("pg.crt");
    let verify = |purpose: &str, certificate: &str| {
        let args = ["verify", "-CAfile", &db, "-purpose", purpose, "-verify_hostname"];
        openssl(&[&args[..], &["db.internal", certificate]].concat()).0
    };
    assert!(verify("sslserver", &certificate) && !verify("sslclient", &certificate));

    let out = format!("--out={}", path("roach"));
    let done = auth.ctl(&["auth", "sign", "--format=cockroachdb", host, &out]).await.ok();
    assert!(done.err.contains("ca-client.crt") && done.err.contains("node.key"), "{done:?}");
    let certificate = path("roach.crt");
    assert!(verify("sslserver", &certificate) && verify("sslclient", &certificate));
    let (_, subject) = openssl(&["x509", "-noout", "-subject", "-in", &certificate]);
    assert_eq!(subject.trim(), "subject=CN = node");
    let cas = std::fs::read_to_string(auth.path("roach.cas")).unwrap();
    assert_eq!(cas.matches("BEGIN CERTIFICATE").count(), 2);

    let out = format!("--out={}", path("x"));
    let user = ["auth", "sign", "--user=alice", "--format=db", &out];
    auth.ctl(&user).await.fails(2, &["--host"]);
}
