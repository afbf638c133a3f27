//! Drivers, unchanged, straight to the proxy: what they do when all is well, and when it is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use access_e2e::{DbSite, run, without};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tokio::net::{TcpStream, UnixListener};
use tokio_stream::StreamExt;

fn driver(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("drivers").join(file)
}

/// What `access db config` prints for programs.
fn config(site: &DbSite, user: &str) -> Value {
    let args = ["db", "config", "--db-user=owner", "--db-name=shop", "--format=json", "orders"];
    serde_json::from_str(&site.access(user, &args).ok().out).unwrap()
}

#[test]
fn psycopg() {
    if without("postgresql") || without("psycopg") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "owner");
    let straight = site.straight("alice", "owner");
    // Debian's own Python, which has Debian's packages.
    let mut python = Command::new("/usr/bin/python3");
    let done = run(python.arg(driver("psycopg3.py")).arg(straight.conninfo()), "");
    assert_eq!(done.out, "ok\n", "{}", done.err);
    // What was sent in a pipeline is there, statement by statement.
    let executed = site.cluster.wait_for_events("db.session.postgres.statements.execute", 200);
    assert!(executed.len() >= 200, "{}", executed.len());
}

#[test]
fn node_postgres() {
    if without("postgresql") || without("node-postgres") || without("pg-copy-streams") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "owner");
    let modules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/peers/node_modules");
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules).arg(driver("node-postgres.js"));
    let done = run(node.arg(config(&site, "alice").to_string()), "");
    assert_eq!(done.out, "ok\n", "{}", done.err);
}

#[test]
fn jdbc() {
    if without("postgresql") || without("jdbc") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "owner");
    let told = config(&site, "alice");
    let text = |field: &str| match &told[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // It reads keys in DER only, and finds the proxy by name: as if by DNS.
    let key = site.cluster.path("alice.pk8");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-outform",
        "DER",
        "-in",
        &text("sslkey"),
        "-out",
    ]);
    run(openssl.arg(&key), "").ok();
    let hosts = site.cluster.path("hosts");
    fs::write(&hosts, format!("{} {}\n", text("hostaddr"), text("host"))).unwrap();
    let mut java = Command::new("java");
    java.arg(format!("-Djdk.net.hosts.file={}", hosts.display()))
        .args(["-cp", "/usr/share/java/postgresql.jar"])
        .arg(driver("Jdbc.java"));
    for field in ["host", "port", "user", "dbname", "sslrootcert", "sslcert"] {
        java.arg(text(field));
    }
    let done = run(java.arg(&key), "");
    assert_eq!(done.out, "ok\n", "{}", done.err);
}

#[test]
fn sqlx() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "owner");
    let told = config(&site, "alice");
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx_options(&told, folder.path());
        ordinary(&options).await;
        copies(&options).await;
        errors(&options).await;
        many_at_once(&options).await;
        what_is_left_in_the_middle(&site, &options).await;
        refusals(&told, &options).await;
    });
    let prepared = site.cluster.wait_for_event("db.session.postgres.statements.parse", |event| {
        event["query"] == "select name from t where id = $1"
    });
    assert!(prepared["user"] == "alice" && prepared["db_user"] == "owner", "{prepared:#?}");
}

/// What `access db config` says, for sqlx. It has no word for `hostaddr`: a socket leads to the
/// proxy as DNS would, and the name stays what TLS is verified for.
#[allow(clippy::disallowed_methods, reason = "a driver dials as drivers do")]
fn sqlx_options(told: &Value, folder: &std::path::Path) -> PgConnectOptions {
    let text = |field: &str| told[field].as_str().unwrap().to_owned();
    let port = u16::try_from(told["port"].as_u64().unwrap()).unwrap();
    let listener = UnixListener::bind(folder.join(format!(".s.PGSQL.{port}"))).unwrap();
    let proxy = format!("{}:{port}", text("hostaddr"));
    tokio::spawn(async move {
        while let Ok((mut driver, _)) = listener.accept().await {
            let mut proxy = TcpStream::connect(&proxy).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut driver, &mut proxy).await;
            });
        }
    });
    PgConnectOptions::new_without_pgpass()
        .host(&text("host"))
        .port(port)
        .socket(folder)
        .username(&text("user"))
        .database(&text("dbname"))
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(text("sslrootcert"))
        .ssl_client_cert(text("sslcert"))
        .ssl_client_key(text("sslkey"))
        .application_name("sqlx")
}

/// Prepared statements with values of all sorts, transactions, and savepoints.
async fn ordinary(options: &PgConnectOptions) {
    let mut conn = options.connect().await.unwrap();
    conn.execute("create temp table t (id int primary key, name text, data bytea, ids int[])")
        .await
        .unwrap();
    for n in 0..50_i32 {
        let done = sqlx::query("insert into t values ($1, $2, $3, $4)")
            .bind(n)
            .bind((n % 7 != 0).then(|| format!("row {n}")))
            .bind(vec![n as u8; 9])
            .bind(vec![n, -n])
            .execute(&mut conn)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
    }
    for n in 0..50_i32 {
        let name: Option<String> = sqlx::query_scalar("select name from t where id = $1")
            .bind(n)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(name, (n % 7 != 0).then(|| format!("row {n}")));
    }
    let rows: Vec<(i32, Vec<u8>, Vec<i32>)> =
        sqlx::query_as("select id, data, ids from t order by id")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    assert!(rows.len() == 50 && rows[9] == (9, vec![9; 9], vec![9, -9]), "{:?}", rows[9]);

    let mut outer = conn.begin().await.unwrap();
    outer.execute("delete from t where id < 10").await.unwrap();
    let mut inner = outer.begin().await.unwrap();
    inner.execute("delete from t").await.unwrap();
    inner.rollback().await.unwrap();
    outer.commit().await.unwrap();
    let left: i64 =
        sqlx::query_scalar("select count(*) from t").fetch_one(&mut conn).await.unwrap();
    assert_eq!(left, 40);
    conn.close().await.unwrap();
}

async fn copies(options: &PgConnectOptions) {
    let mut conn = options.connect().await.unwrap();
    conn.execute("create temp table c (id int, text text)").await.unwrap();
    let lines: Vec<String> = (0..5000).map(|n| format!("{n}\ttext of {n}\n")).collect();
    let mut copy = conn.copy_in_raw("copy c from stdin").await.unwrap();
    for some in lines.chunks(700) {
        copy.send(some.concat().into_bytes()).await.unwrap();
    }
    assert_eq!(copy.finish().await.unwrap(), 5000);
    let mut copy = conn.copy_in_raw("copy c from stdin").await.unwrap();
    copy.send(&b"1\tgiven up\n"[..]).await.unwrap();
    copy.abort("thought better of it").await.unwrap();
    let mut copied = Vec::new();
    {
        let sql = "copy (select * from c order by id) to stdout";
        let mut copy = conn.copy_out_raw(sql).await.unwrap();
        while let Some(piece) = copy.next().await {
            copied.extend_from_slice(&piece.unwrap());
        }
    }
    assert!(copied == lines.concat().as_bytes(), "what was copied in is not what is copied out");
    conn.close().await.unwrap();
}

fn sqlstate(err: &sqlx::Error) -> String {
    let err = err.as_database_error().unwrap_or_else(|| panic!("not the database's: {err}"));
    err.code().unwrap().into_owned()
}

async fn errors(options: &PgConnectOptions) {
    let mut conn = options.connect().await.unwrap();
    for (sql, code) in [
        ("select 1 / (select 0)", "22012"),
        ("select * from nowhere", "42P01"),
        ("selekt 1", "42601"),
        (
            "do $$ begin raise exception 'mine' using errcode = 'ABCDE', hint = 'so'; end $$",
            "ABCDE",
        ),
    ] {
        let err = sqlx::query(sql).execute(&mut conn).await.unwrap_err();
        assert_eq!(sqlstate(&err), code, "{sql}: {err}");
        // As it was before, by the simple protocol and with what was prepared.
        conn.execute("select 1").await.unwrap();
        let four: i32 =
            sqlx::query_scalar("select $1 + 1").bind(3).fetch_one(&mut conn).await.unwrap();
        assert_eq!(four, 4);
    }
    conn.execute("create temp table u (id int constraint only_once unique)").await.unwrap();
    let twice = sqlx::query("insert into u values ($1), ($1)").bind(1);
    let err = twice.execute(&mut conn).await.unwrap_err();
    let err = err.as_database_error().unwrap();
    assert!(err.is_unique_violation() && err.constraint() == Some("only_once"), "{err}");
    conn.close().await.unwrap();
}

/// A pool, and notifications over it.
async fn many_at_once(options: &PgConnectOptions) {
    let pool = PgPoolOptions::new().max_connections(6).connect_with(options.clone()).await.unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("news").await.unwrap();
    let tasks: Vec<_> = (0..60_i64)
        .map(|n| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let sql = "select count(*) * $1 from generate_series(1, 2000)";
                sqlx::query_scalar::<_, i64>(sql).bind(n).fetch_one(&pool).await.unwrap()
            })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), 2000 * n as i64);
    }
    sqlx::query("select pg_notify('news', $1)").bind("hello").execute(&pool).await.unwrap();
    let heard = listener.recv().await.unwrap();
    assert_eq!((heard.channel(), heard.payload()), ("news", "hello"));
    drop(listener);
    pool.close().await;
}

/// Futures that are dropped, and queries that are ended: sqlx itself sends no CancelRequest.
async fn what_is_left_in_the_middle(site: &DbSite, options: &PgConnectOptions) {
    let mut conn = options.connect().await.unwrap();
    // The answer to what was given up is skipped, however much of it there is.
    let late = sqlx::query("select pg_sleep(0.5), repeat('x', 100000)").execute(&mut conn);
    assert!(tokio::time::timeout(Duration::from_millis(50), late).await.is_err());
    {
        let mut rows =
            sqlx::query_scalar::<_, i32>("select generate_series(1, 200000)").fetch(&mut conn);
        assert_eq!(rows.next().await.unwrap().unwrap(), 1);
    }
    let five: i32 = sqlx::query_scalar("select 5").fetch_one(&mut conn).await.unwrap();
    assert_eq!(five, 5);

    conn.execute("set statement_timeout to '100ms'").await.unwrap();
    let err = sqlx::query("select pg_sleep(600)").execute(&mut conn).await.unwrap_err();
    assert_eq!(sqlstate(&err), "57014", "{err}");
    conn.execute("set statement_timeout to 0").await.unwrap();

    // One is cancelled from beside it, by the number that the database gave it.
    let pid: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut conn).await.unwrap();
    let asleep = tokio::spawn(async move {
        let done = sqlx::query("select pg_sleep(600), 'beside'").execute(&mut conn).await;
        (conn, done)
    });
    tokio::task::block_in_place(|| site.pg.wait_for_executing("'beside'", 1));
    let mut other = options.connect().await.unwrap();
    let cancelled = sqlx::query_scalar::<_, bool>("select pg_cancel_backend($1)").bind(pid);
    assert!(cancelled.fetch_one(&mut other).await.unwrap());
    let (mut conn, done) = asleep.await.unwrap();
    assert_eq!(sqlstate(&done.unwrap_err()), "57014");
    let six: i32 = sqlx::query_scalar("select 6").fetch_one(&mut conn).await.unwrap();
    assert_eq!(six, 6);

    // A connection that is dropped with its query: over for the cluster, and nobody else's loss.
    let dropped = tokio::spawn(async move {
        sqlx::query("select pg_sleep(600), 'dropped'").execute(&mut conn).await
    });
    tokio::task::block_in_place(|| site.pg.wait_for_executing("'dropped'", 1));
    let ended = |site: &DbSite| site.cluster.events(&["db.session.end"]).len();
    let before = tokio::task::block_in_place(|| ended(site));
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    let ends =
        tokio::task::block_in_place(|| site.cluster.wait_for_events("db.session.end", before + 1));
    assert!(ends.iter().all(|end| end["reason"] == "client"), "{ends:#?}");
    // A database goes on with what somebody asked who is gone, as it does without us.
    let terminate = sqlx::query_scalar::<_, bool>("select pg_terminate_backend($1)").bind(pid);
    assert!(terminate.fetch_one(&mut other).await.unwrap());
    other.close().await.unwrap();
}

async fn refusals(told: &Value, options: &PgConnectOptions) {
    let refused = async |options: PgConnectOptions| match PgConnection::connect_with(&options).await
    {
        Ok(_) => panic!("it was not refused"),
        Err(err) => err,
    };
    let err = refused(options.clone().username("reader")).await;
    assert_eq!(sqlstate(&err), "28000", "{err}");
    let message = err.as_database_error().unwrap().message();
    assert!(message.contains("access denied, or there is no such thing"), "{err}");
    // The certificate of the agent is for `orders`, by the cluster's authority.
    let name = told["host"].as_str().unwrap();
    let err = refused(options.clone().host(&format!("no-{name}"))).await;
    assert!(matches!(err, sqlx::Error::Tls(_) | sqlx::Error::Io(_)), "{err:?}");
    let err = refused(options.clone().ssl_root_cert(told["sslcert"].as_str().unwrap())).await;
    assert!(err.to_string().contains("certificate"), "{err:?}");
}
