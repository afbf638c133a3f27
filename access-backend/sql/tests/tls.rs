//! TLS towards PostgreSQL itself: what each `sslmode` accepts, certificates of both sides, and their renewal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access_backend::{Backend, Error};
use access_backend_sql::{Engine, Sql, SqlOptions};
use common::{Server, item};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `NAME.crt` and `NAME.key`, valid for the days given from now.
fn sign(dir: &Path, issuer: &Issuer, name: &str, hosts: &[&str], days: i64) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(30);
    params.not_after = now + time::Duration::days(days);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    write(&dir.join(format!("{name}.crt")), &certificate.pem());
    write(&dir.join(format!("{name}.key")), &key.serialize_pem());
}

/// Replaces a file as a whole, readable for its owner alone.
fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(draft, path).unwrap();
}

/// A server that wants certificates, and the files of its users.
struct Site {
    server: Arc<Server>,
    files: tempfile::TempDir,
    issuer: Issuer,
    database: String,
}

impl Site {
    fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let issuer = authority("databases");
        let dir = files.path().to_owned();
        write(&dir.join("ca.crt"), &issuer.pem());
        write(&dir.join("other.crt"), &authority("strangers").pem());
        sign(&dir, &issuer, "server", &["localhost"], 30);
        sign(&dir, &issuer, "postgres", &[], 30);
        let server = Server::start_with(|data| {
            for (from, to) in
                [("server.crt", "server.crt"), ("server.key", "server.key"), ("ca.crt", "ca.crt")]
            {
                fs::copy(dir.join(from), data.join(to)).unwrap();
            }
            let hba = "local all all trust\nhostssl all all 127.0.0.1/32 cert clientcert=verify-full\n\
                       hostssl all all ::1/128 cert clientcert=verify-full\n";
            fs::write(data.join("pg_hba.conf"), hba).unwrap();
            let config = data.join("postgresql.auto.conf");
            let more = "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.crt'\n";
            fs::write(&config, fs::read_to_string(&config).unwrap() + more).unwrap();
        });
        let database = server.database();
        Self { server, files, issuer, database }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn options(&self, host: &str, more: &str) -> SqlOptions {
        let dir = self.files.path().display();
        let more = more.replace("DIR", &dir.to_string());
        let url =
            format!("postgres://postgres@{host}:{}/{}?{more}", self.server.port, self.database);
        let mut options = SqlOptions::new(Engine::Postgres, &url).unwrap();
        options.patience = Duration::from_millis(500);
        options
    }

    async fn open(&self, host: &str, more: &str) -> Result<Sql, Error> {
        Sql::open(self.options(host, more)).await
    }
}

const MINE: &str = "sslcert=DIR/postgres.crt&sslkey=DIR/postgres.key";

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_accepts_what_it_says() {
    let site = Site::start();
    for (host, more, expected) in [
        ("localhost", "sslmode=verify-full&sslrootcert=DIR/ca.crt", Ok(())),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=DIR/ca.crt", Err("for another host")),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=DIR/ca.crt", Ok(())),
        ("localhost", "sslmode=verify-ca&sslrootcert=DIR/other.crt", Err("not trusted")),
        ("localhost", "sslmode=verify-full&sslrootcert=DIR/other.crt", Err("sslrootcert")),
        ("localhost", "sslmode=require&sslrootcert=DIR/other.crt", Err("not trusted")),
        ("localhost", "sslmode=require", Ok(())),
        ("localhost", "sslmode=prefer", Ok(())),
        ("localhost", "sslmode=allow", Ok(())),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=DIR/none.crt",
            Err("none.crt can't be read"),
        ),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=DIR/server.key",
            Err("no certificate in PEM"),
        ),
        ("localhost", "sslmode=disable", Err("refuses the user postgres")),
    ] {
        let result = site.open(host, &format!("{more}&{MINE}")).await;
        match (result, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(said)) => {
                let error = error.to_string();
                assert!(
                    error.contains(said) && error.starts_with("storage.conn_string"),
                    "{more}: {error}"
                );
            }
            (result, _) => panic!("{host} {more}: {result:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_certificate_that_will_not_do_is_said() {
    let site = Site::start();
    let root = "sslmode=verify-full&sslrootcert=DIR/ca.crt";
    let said = async |more: &str| {
        site.open("localhost", &format!("{root}&{more}")).await.unwrap_err().to_string()
    };
    let error = said("application_name=none").await;
    assert!(error.contains("sslcert"), "{error}");
    sign(site.files.path(), &site.issuer, "late", &[], -1);
    let error = said("sslcert=DIR/late.crt&sslkey=DIR/late.key").await;
    assert!(error.contains("sslcert has expired"), "{error}");
    sign(site.files.path(), &authority("strangers"), "stranger", &[], 30);
    let error = said("sslcert=DIR/stranger.crt&sslkey=DIR/stranger.key").await;
    assert!(error.contains("refuses the client certificate"), "{error}");
    let error = said("sslcert=DIR/postgres.crt&sslkey=DIR/server.key").await;
    assert!(error.contains("do not belong together"), "{error}");
    let error = said("sslcert=DIR/server.crt&sslkey=DIR/server.key").await;
    assert!(error.contains("refuses the user postgres"), "{error}");
    fs::set_permissions(site.path("postgres.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = said(MINE).await;
    assert!(error.contains("chmod 0600"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let site = Site::start();
    let store = site
        .open("localhost", &format!("sslmode=verify-full&sslrootcert=DIR/ca.crt&{MINE}"))
        .await
        .unwrap();
    store.put(item("/a", "1")).await.unwrap();
    // The one on the disk is of no use any more; who is connected stays so.
    sign(site.files.path(), &site.issuer, "postgres", &[], -1);
    store.put(item("/a", "2")).await.unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    site.server.sql(&site.database, end);
    let error = loop {
        match store.put(item("/a", "3")).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("has expired"), "{error}");
    sign(site.files.path(), &site.issuer, "postgres", &[], 30);
    store.put(item("/a", "4")).await.unwrap();
}
