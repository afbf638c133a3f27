//! The gateway that is shown for PostgreSQL does what it says, and is as short as it is said to be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub
)]

#[path = "../../access-protocols/postgres/tests/common/pg.rs"]
mod pg;
#[path = "../../access-protocols/postgres/tests/common/pki.rs"]
mod pki;

use std::fs;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use pg::Postgres;
use pki::Ca;

const CLUSTER: &str = "example.com";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_is_a_page_long() {
    let source = include_str!("../postgres_gateway.rs");
    assert!(source.lines().count() < 60, "{} lines", source.lines().count());
}

#[test]
fn nothing_is_dropped_through_it() {
    let pg = Postgres::with_hba("host all all 127.0.0.1/32 scram-sha-256\n");
    pg.sql("set password_encryption = 'scram-sha-256'; alter role reader password 'kept secret'");
    pg.sql("create table t as select 7 as n; alter table t owner to reader");
    let dir = tempfile::tempdir().unwrap();
    let (users, hosts) = (Ca::new("users"), Ca::new("hosts"));
    let (gateway, alice) = (hosts.server(&["localhost"]), users.user("alice"));
    for (name, content) in [
        ("users.crt", users.root_pem()),
        ("gateway.crt", gateway.cert_pem()),
        ("gateway.key", gateway.key_pem()),
        ("password", "kept secret\n".to_owned()),
        ("hosts.crt", hosts.root_pem()),
        ("alice.crt", alice.cert_pem()),
        ("alice.key", alice.key_pem()),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let port = pg::free_port();
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().with_file_name("examples").join("postgres_gateway");
    let mut gateway = Command::new(program);
    gateway.arg(format!("127.0.0.1:{port}")).arg(format!("localhost:{}", pg.port));
    let _gateway = Running(gateway.current_dir(dir.path()).spawn().unwrap());

    let conninfo = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user=reader dbname=postgres \
         sslmode=verify-full sslrootcert=hosts.crt sslcert=alice.crt sslkey=alice.key"
    );
    let psql = |sql: &str| -> Output {
        let mut psql = Command::new("psql");
        psql.current_dir(dir.path()).args(["-XAt", "-c", sql]).arg(&conninfo).output().unwrap()
    };
    let until = Instant::now() + Duration::from_secs(30);
    let answer = loop {
        let answer = psql("select n, current_user from t");
        if answer.status.success() {
            break answer;
        }
        assert!(Instant::now() < until, "{}", text(&answer.stderr));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(text(&answer.stdout), "7|reader\n");
    let refused = psql("drop table t");
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(said.contains("DROP TABLE is not allowed here"), "{said}");
    assert_eq!(pg.sql("select n from t"), "7");
}
