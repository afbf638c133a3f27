//! What bad input gets: a clear error, an event, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use access_core::audit::Event;
use access_core::policy::{Action, Reason};
use access_postgres::{PostgresOptions, TargetAuth, TargetTls, TlsMode};
use common::{Ca, Gateway, PATIENCE, Postgres, Setup, text};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// What an ErrorResponse at the start of these bytes says: `S` to `H`.
fn field(bytes: &[u8], kind: u8) -> String {
    assert_eq!(bytes.first(), Some(&b'E'), "{bytes:?}");
    bytes[5..]
        .split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(&[kind]))
        .map(text)
        .unwrap_or_default()
}

async fn answer(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("it stays open");
    answer
}

fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    for (name, value) in parameters {
        body.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

async fn stderr(gateway: &Gateway, account: &str) -> String {
    text(&gateway.run(account, "select 1").await.stderr)
}

/// Waits for the event of a connection that came to nothing, of that user, and looks at it.
async fn refused(gateway: &Gateway, user: &str, login: Option<&str>, why: &str) {
    let event = gateway.wait_for(|event| match event {
        Event::Auth(auth) => {
            auth.user.as_str() == user
                && auth.login.as_ref().map(|login| login.as_str()) == login
                && auth.outcome.error.as_ref().is_some_and(|error| error.as_str().contains(why))
        }
        _ => false,
    });
    let event = serde_json::to_value(event.await).unwrap();
    assert!(event["success"] == false && event["addr.remote"].is_string(), "{event:#}");
    assert_eq!((&event["server_hostname"], &event["proto"]), (&"orders".into(), &"db".into()));
}

/// For what gets nowhere near a database.
fn unreachable() -> Setup {
    Setup {
        auth: TargetAuth::Nothing,
        tls: None,
        addresses: vec!["127.0.0.1:1".into()],
        options: PostgresOptions::default(),
        admin: None,
        protocol: access_postgres::DatabaseProtocol::Postgres,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_the_unwelcome_are_told_why() {
    let pg = Postgres::start();
    let mut setup = Setup::of(&pg);
    setup.options = options(|options| options.startup_deadline = Duration::from_millis(300));
    let gateway = Gateway::with(&pg, setup).await;

    // Without TLS, and with TLS but no certificate.
    let mut clear = gateway.tcp().await;
    clear.write_all(&startup(&[("user", "reader")])).await.unwrap();
    let said = answer(clear).await;
    assert_eq!(field(&said, b'C'), "28000");
    assert!(field(&said, b'M').contains("TLS is required"));
    refused(&gateway, "unknown", None, "TLS is required").await;
    // Messages before their time, and before TLS; and a client that says half of something.
    let mut early = gateway.tcp().await;
    early.write_all(b"Q\0\0\0\x0dselect 1\0").await.unwrap();
    assert_eq!(field(&answer(early).await, b'C'), "08P01");
    refused(&gateway, "unknown", None, "invalid length of startup packet").await;
    let mut half = gateway.tcp().await;
    half.write_all(&startup(&[("user", "reader")])[..9]).await.unwrap();
    assert!(answer(half).await.is_empty());
    refused(&gateway, "unknown", None, "the client says nothing").await;
    let dir = gateway.dir.path().display();
    let nobody = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=reader dbname=postgres \
         sslmode=verify-full sslrootcert={dir}/root.crt sslcert={dir}/none sslkey={dir}/none",
        gateway.addr.port()
    );
    let psql =
        tokio::process::Command::new("psql").args(["-X", &nobody, "-c", "select 1"]).output();
    let said = text(&psql.await.unwrap().stderr);
    assert!(said.contains("requires a client certificate"), "{said}");
    assert!(said.contains("access db login"), "{said}");
    refused(&gateway, "unknown", Some("reader"), "requires a client certificate").await;

    // Bad beginnings within TLS.
    let version_2 = [&[0, 0, 0, 8, 0, 2, 0, 0][..]].concat();
    let cases: [(Vec<u8>, &str, &str); 8] = [
        (
            [&[0, 1, 134, 160][..], &[b'x'; 99_996]].concat(),
            "08P01",
            "invalid length of startup packet: 100000",
        ),
        (vec![0xff; 4], "08P01", "invalid length of startup packet"),
        (version_2, "0A000", "unsupported frontend protocol 2.0"),
        (startup(&[("database", "x")]), "28000", "no PostgreSQL user name"),
        (Vec::new(), "08P01", "no startup packet was sent in time"),
        (startup(&[("user", "reader")])[..9].to_vec(), "08P01", "was sent in time"),
        // A query, before a session is asked for.
        (
            b"Q\0\0\0\x0dselect 1\0".to_vec(),
            "08P01",
            "invalid length of startup packet: 1358954496",
        ),
        (startup(&[("user", "a\nb")]), "28000", "login"),
    ];
    for (bytes, code, message) in cases {
        let mut raw = gateway.raw().await;
        raw.write_all(&bytes).await.unwrap();
        raw.flush().await.unwrap();
        let said = answer(raw).await;
        assert_eq!(field(&said, b'C'), code);
        let told = field(&said, b'M');
        assert!(told.contains(message), "{told}");
        let login = bytes.ends_with(b"a\nb\0\0").then_some("a\nb");
        refused(&gateway, "alice", login, &told).await;
    }

    // Denied by the gate, before anything is dialled.
    gateway.rules.deny(|action| match action {
        Action::Database { user, .. } if user.as_str() == "alice" => {
            Some(Reason::Other("not alice".into()))
        }
        _ => None,
    });
    let said = stderr(&gateway, "alice").await;
    assert!(said.contains("access denied, or there is no such thing"), "{said}");
    assert!(said.contains("(db_users)"), "{said}");
    // A database that is not there looks the same.
    let databases = gateway.server.databases();
    let served: Vec<_> = databases.all().iter().map(|db| (**db).clone()).collect();
    databases.replace([]);
    assert_eq!(stderr(&gateway, "alice").await, said);
    refused(&gateway, "alice", Some("alice"), "access denied").await;
    databases.replace(served);
    // What only the database knows is in its own words.
    let said = stderr(&gateway, "nobody").await;
    assert!(said.contains("role \"nobody\" does not exist"), "{said}");

    // Within a session.
    for hostile in [&b"Q\x80\0\0\0"[..], b"Q\0\0\0\x01", b"S\x7f\xff\xff\xff"] {
        let mut raw = gateway.raw().await;
        raw.write_all(&startup(&[("user", "reader"), ("database", "postgres")])).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"Z\0\0\0\x05I") {
            assert!(raw.read_buf(&mut seen).await.unwrap() > 0, "{}", text(&seen));
        }
        raw.write_all(hostile).await.unwrap();
        raw.flush().await.unwrap();
        let said = answer(raw).await;
        assert_eq!(field(&said, b'C'), "08P01");
        assert!(field(&said, b'M').contains("invalid length"), "{}", field(&said, b'M'));
    }
    let malformed = |name: &String| name == "db.session.malformed_packet";
    assert_eq!(gateway.sink.names().iter().filter(|name| malformed(name)).count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_fills_no_log() {
    let gateway = Gateway::serving(Ca::new("clients"), unreachable()).await;
    let began = Instant::now();
    let knock = async |at: usize| {
        let mut tcp = gateway.tcp().await;
        let said = match at % 3 {
            // Words that are none, and a wish to cancel what nobody has.
            0 => b"Q\0\0\0\x0dselect 1\0".to_vec(),
            1 => [&[0, 0, 0, 16, 4, 210, 22, 46][..], &[7; 8]].concat(),
            _ => startup(&[("user", "reader")]),
        };
        tcp.write_all(&said).await.unwrap();
        answer(tcp).await;
    };
    for at in 0..45 {
        knock(at).await;
    }
    let events = gateway.sink.names().len();
    // Ten, and one for each second that it took.
    let most = 11 + usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!((10..=most).contains(&events), "{events} of 45, {most} at most");
    // Who shows a certificate of the cluster is no stranger.
    for _ in 0..20 {
        let mut raw = gateway.raw().await;
        raw.write_all(&startup(&[("database", "x")])).await.unwrap();
        raw.flush().await.unwrap();
        answer(raw).await;
    }
    let alice = gateway.events().iter().filter(|event| event["user"] == "alice").count();
    assert_eq!(alice, 20);
}

/// Shows a certificate, whoever's key it is that comes with it.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_good_leave_an_event() {
    let gateway = Gateway::serving(Ca::new("clients"), unreachable()).await;
    let (good, other) = (gateway.users.user("alice"), gateway.users.user("bob"));
    let foreign = Ca::new("users").user("mallory");
    // The certificate of one with the key of another.
    let stolen = CertifiedKey::new(vec![good.cert.clone()], other.certified().key.clone());
    for (shown, alert, claimed, why) in [
        (
            foreign.certified(),
            AlertDescription::UnknownCA,
            "mallory",
            "not signed by an authority of this cluster",
        ),
        (Arc::new(stolen), AlertDescription::DecryptError, "unknown", "BadSignature"),
        (
            gateway.hosts.client("host").certified(),
            AlertDescription::UnknownCA,
            "host",
            "not signed by an authority of this cluster",
        ),
    ] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(gateway.hosts.root()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(common::pki::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(Shown(shown)));
        let mut tcp = gateway.tcp().await;
        tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'S');
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let told = async {
            let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await?;
            // More than the alert waits for: it is told all the same.
            stream.write_all(&startup(&[("user", "reader")])).await?;
            stream.read_u8().await
        };
        let err = tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap_err();
        let inner = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        assert_eq!(inner, Some(&rustls::Error::AlertReceived(alert)), "{err}");
        let event = gateway.wait_for(|event| match event {
            Event::Auth(auth) => auth.user.as_str() == claimed,
            _ => false,
        });
        let event = serde_json::to_value(event.await).unwrap();
        assert!(event["error"].as_str().unwrap().contains(why), "{event:#}");
        for (field, value) in [("server_hostname", "orders"), ("proto", "db")] {
            assert_eq!(event[field], value, "{event:#}");
        }
        assert!(event["success"] == false && event["addr.remote"].is_string(), "{event:#}");
    }
    let names = gateway.sink.names();
    assert!(names.len() == 3 && names.iter().all(|name| name == "auth"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_needs_a_role_that_allows_it() {
    let pg = Postgres::start();
    pg.sql("alter role reader replication");
    let gateway = Gateway::before(&pg).await;
    let conninfo = format!("{} replication=database", gateway.conninfo("reader", "postgres"));
    let identify = || async {
        let mut psql = tokio::process::Command::new("psql");
        let output = psql.args(["-XAt", &conninfo, "-c", "IDENTIFY_SYSTEM"]).output().await;
        output.unwrap()
    };
    let said = text(&identify().await.stderr);
    assert!(said.contains("your roles do not permit this: replication"), "{said}");
    gateway.rules.grant(|grant| grant.database.replication = true);
    let output = identify().await;
    assert!(text(&output.stdout).ends_with("|postgres\n"), "{output:?}");
}

fn options(change: impl FnOnce(&mut PostgresOptions)) -> PostgresOptions {
    let mut options = PostgresOptions::default();
    change(&mut options);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_what_it_should_be_is_named_as_that() {
    let pg = Postgres::start();
    let roots = || [pg.db_ca.root()];
    let said = |setup| async {
        let gateway = Gateway::with(&pg, setup).await;
        let said = stderr(&gateway, "reader").await;
        let events = gateway.events();
        let start = events.iter().find(|event| event["event"] == "db.session.start");
        if !said.is_empty() {
            assert_eq!(start.expect("no event")["code"], "TDB00W");
        }
        said
    };

    let mut wrong_name = Setup::of(&pg);
    wrong_name.addresses = vec![format!("127.0.0.1:{}", pg.port)];
    let words = said(wrong_name).await;
    assert!(words.contains("the database's certificate is not for 127.0.0.1"), "{words}");

    let mut any_name = Setup::of(&pg);
    any_name.addresses = vec![format!("127.0.0.1:{}", pg.port)];
    any_name.tls = Some(TargetTls::new(TlsMode::VerifyCa, roots()).unwrap());
    assert_eq!(said(any_name).await, "");

    let mut other_name = Setup::of(&pg);
    other_name.addresses = vec![format!("127.0.0.1:{}", pg.port)];
    other_name.tls = Some(
        TargetTls::new(TlsMode::VerifyFull, roots()).unwrap().server_name("localhost").unwrap(),
    );
    assert_eq!(said(other_name).await, "");

    let mut wrong_root = Setup::of(&pg);
    wrong_root.tls =
        Some(TargetTls::new(TlsMode::VerifyFull, [Ca::new("another").root()]).unwrap());
    let words = said(wrong_root).await;
    assert!(words.contains("not by an authority that is trusted for it"), "{words}");

    let mut down = Setup::of(&pg);
    down.addresses = vec!["localhost:1".into()];
    let words = said(down).await;
    assert!(words.contains("the database orders cannot be reached"), "{words}");

    let mut second = Setup::of(&pg);
    second.addresses = vec!["localhost:1".into(), format!("localhost:{}", pg.port)];
    assert_eq!(said(second).await, "", "the second address is tried");

    let mut no_proof = Setup::of(&pg);
    no_proof.auth = TargetAuth::Nothing;
    let words = said(no_proof).await;
    assert!(words.contains("valid client certificate"), "{words}");

    // One that accepts and says nothing is given up for the next.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stalled = Setup::of(&pg);
    stalled.options = options(|options| options.address_deadline = Duration::from_millis(300));
    let port = silent.local_addr().unwrap().port();
    stalled.addresses = vec![format!("localhost:{port}"), format!("localhost:{}", pg.port)];
    assert_eq!(said(stalled).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_our_certificate_is_named_as_that() {
    let pg = Postgres::start();
    let mut other = Postgres::start();
    // The gateway's certificates are by an authority that the server does not know.
    other.client_ca = pg.client_ca.clone();
    let gateway = Gateway::before(&other).await;
    let said = stderr(&gateway, "reader").await;
    assert!(said.contains("refuses the cluster's certificate"), "{said}");
    assert!(said.contains("accessctl auth export --type=db-client"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_password_is_a_fallback_that_must_be_asked_for() {
    let pg = Postgres::with_hba("hostssl all all 127.0.0.1/32 scram-sha-256\n");
    pg.sql("set password_encryption = 'scram-sha-256'; alter role reader password 'kept secret'");
    let gateway = Gateway::before(&pg).await;
    let said = stderr(&gateway, "reader").await;
    assert!(said.contains("asks for a password (SCRAM), which is not configured"), "{said}");
    let file = tempfile::NamedTempFile::new().unwrap();
    for (password, expected) in
        [("kept secret\n", ""), ("wrong\n", "password authentication failed")]
    {
        std::fs::write(file.path(), password).unwrap();
        let mut setup = Setup::of(&pg);
        setup.auth = TargetAuth::password_file(file.path());
        let gateway = Gateway::with(&pg, setup).await;
        let said = stderr(&gateway, "reader").await;
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
    }
}
