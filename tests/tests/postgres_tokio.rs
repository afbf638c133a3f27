//! tokio-postgres, unchanged and straight to the proxy. It asks within TLS that a query be cancelled,
//! where no proxy can see which: that has to arrive at the agent of the session all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access_e2e::{DbSite, Process, bin, without};
use bytes::Bytes;
use futures::future::join_all;
use futures::{SinkExt, StreamExt};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::task::block_in_place;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

const PATIENCE: Duration = Duration::from_secs(30);

/// What `access db config` prints for programs, as this driver takes it.
struct Told {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Told {
    fn to(site: &DbSite, user: &str) -> Self {
        let args = ["db", "config", "--db-user=owner", "--db-name=shop", "--format=json", "orders"];
        let told: Value = serde_json::from_str(&site.access(user, &args).ok().out).unwrap();
        let text = |field: &str| told[field].as_str().unwrap().to_owned();
        let mut config = Config::new();
        config
            .host(text("host"))
            .hostaddr(text("hostaddr").parse().unwrap())
            .port(told["port"].as_u64().unwrap().try_into().unwrap())
            .user(text("user"))
            .dbname(text("dbname"))
            .ssl_mode(SslMode::Require);
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(text("sslrootcert")).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let chain = CertificateDer::pem_file_iter(text("sslcert")).unwrap();
        let key = PrivateKeyDer::from_pem_file(text("sslkey")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        Self { config, tls: MakeRustlsConnect::new(tls) }
    }

    async fn connect(&self) -> Client {
        let (client, connection) = self.config.connect(self.tls.clone()).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A query that would last, and its connection.
    async fn asleep(
        &self,
        site: &DbSite,
    ) -> (Arc<Client>, tokio::task::JoinHandle<Result<u64, tokio_postgres::Error>>) {
        let client = Arc::new(self.connect().await);
        let sleeper = Arc::clone(&client);
        let query = tokio::spawn(async move { sleeper.execute("select pg_sleep(600)", &[]).await });
        block_in_place(|| site.pg.wait_for_executing("pg_sleep(600)", 1));
        (client, query)
    }
}

/// The error of a query that was cancelled.
async fn ended(
    query: tokio::task::JoinHandle<Result<u64, tokio_postgres::Error>>,
) -> tokio_postgres::Error {
    let ended = tokio::time::timeout(PATIENCE, query).await.expect("it was not cancelled");
    ended.unwrap().unwrap_err()
}

fn sqlstate(err: &tokio_postgres::Error) -> &str {
    err.code().unwrap_or_else(|| panic!("not the database's: {err}")).code()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

#[test]
fn tokio_postgres() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "owner");
    let told = Told::to(&site, "alice");
    run(async {
        let client = told.connect().await;
        client.batch_execute("create temp table t (id int primary key, name text)").await.unwrap();
        let put = client.prepare("insert into t values ($1, $2)").await.unwrap();
        // All of them on their way before the first is answered.
        let puts = (0..100_i32).map(|id| {
            let (client, put) = (&client, &put);
            async move {
                let name = (id % 7 != 0).then(|| format!("row {id}"));
                client.execute(put, &[&id, &name]).await.unwrap()
            }
        });
        let put = join_all(puts).await;
        assert_eq!(put, vec![1; 100]);
        let row = client.query_one("select name from t where id = $1", &[&8_i32]).await.unwrap();
        assert_eq!(row.get::<_, Option<&str>>(0), Some("row 8"));

        let lines: String = (100..5000).map(|id| format!("{id}\ttext of {id}\n")).collect();
        let sink = client.copy_in("copy t from stdin").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(Bytes::from(lines.clone())).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 4900);
        let out = "copy (select * from t where id >= 100 order by id) to stdout";
        let mut copied = std::pin::pin!(client.copy_out(out).await.unwrap());
        let mut back = Vec::new();
        while let Some(piece) = copied.next().await {
            back.extend_from_slice(&piece.unwrap());
        }
        assert!(back == lines.as_bytes(), "what was copied in is not what is copied out");

        for (sql, code) in [("select 1/0", "22012"), ("select * from nowhere", "42P01")] {
            assert_eq!(sqlstate(&client.execute(sql, &[]).await.unwrap_err()), code);
        }
        drop(client);

        let (client, query) = told.asleep(&site).await;
        client.cancel_token().cancel_query(told.tls.clone()).await.unwrap();
        assert_eq!(sqlstate(&ended(query).await), "57014");
        let row = client.query_one("select 9", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 9);

        let mut other = told.config.clone();
        let refused = other.user("reader").connect(told.tls.clone()).await;
        let Err(refused) = refused else { panic!("it was not refused") };
        assert_eq!(sqlstate(&refused), "28000");
        let message = refused.as_db_error().unwrap().message();
        assert!(message.contains("access denied, or there is no such thing"), "{message}");
    });
}

/// The agent's own name for its host.
fn host_of(agent: &Process) -> String {
    agent.wait_for("who it is", |line| {
        let said: Value = serde_json::from_str(line).ok()?;
        let up = said["message"] == "the agent is up";
        up.then(|| said["host"].as_str().map(str::to_owned)).flatten()
    })
}

fn start_second(site: &DbSite) -> Process {
    let mut command = std::process::Command::new(bin("agent"));
    command.arg("--config").arg(site.cluster.path("agent-2.yaml"));
    let agent = Process::start("the second agent", command);
    agent
        .wait_for("that it can be reached", |line| line.contains("the tunnel is up").then_some(()));
    agent
}

#[test]
fn a_wish_to_cancel_finds_the_agent_of_its_session() {
    if without("postgresql") {
        return;
    }
    let resources = "db_service:\n  resources:\n  - labels: { env: prod }\n";
    let mut site = DbSite::start_with(|_| resources.to_owned());
    let token = site.cluster.token("node,db");
    site.cluster.write_agent_config(&token, "", resources);
    let text = fs::read_to_string(site.cluster.path("agent.yaml")).unwrap();
    let own = site.cluster.path("agent").display().to_string();
    let text =
        text.replace("nodename: web-1", "nodename: web-2").replace(&own, &format!("{own}-2"));
    site.cluster.write("agent-2.yaml", &text);
    let document = format!(
        "kind: db\nversion: v1\nmetadata:\n  name: orders\n  labels: {{ env: prod }}\nspec:\n  \
         protocol: postgres\n  uri: localhost:{}\n",
        site.pg.port
    );
    site.cluster.ctl(&["create", "-f", "-"], &document).ok();
    let mut second = Some(start_second(&site));
    site.add_user("alice", "owner");
    // The second joined for what was there; the first has a certificate for it with its next tunnel.
    let first = site.cluster.agent.as_ref().unwrap();
    let until = Instant::now() + PATIENCE;
    while first.output().matches("the tunnel is up").count() < 2 {
        assert!(Instant::now() < until, "{}", first.output());
        std::thread::sleep(Duration::from_millis(100));
    }
    let told = Told::to(&site, "alice");
    let first_host = host_of(site.cluster.agent.as_ref().unwrap());
    run(async {
        let (client, query) = told.asleep(&site).await;
        block_in_place(|| {
            let start = site.cluster.wait_for_event("db.session.start", |_| true);
            // The other one comes anew, so that its tunnel is the newest.
            if start["server_id"] == first_host.as_str() {
                second.take().unwrap().kill9();
                second = Some(start_second(&site));
            } else {
                site.cluster.agent.take().unwrap().kill9();
                site.cluster.start_agent();
                site.cluster.wait_for_node("web-1");
            }
        });
        client.cancel_token().cancel_query(told.tls.clone()).await.unwrap();
        assert_eq!(sqlstate(&ended(query).await), "57014");
        block_in_place(|| {
            let passed = site.cluster.wait_for_events("db.session.cancel", 1);
            assert!(passed.len() == 1 && passed[0]["code"] == "ACB00I", "{passed:#?}");
        });
    });
    drop(second);
}
