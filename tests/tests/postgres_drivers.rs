//! Drivers, unchanged, straight to the proxy: what they do when all is well, and when it is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use access_e2e::{DbSite, run, without};
use serde_json::Value;

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
    if without("postgresql") || without("node-postgres") {
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
