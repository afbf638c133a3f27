//! Accounts that are made on what answers as CockroachDB does, as far as its documentation tells.
//! Nothing here has met the real CockroachDB.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::{Arc, Mutex};

use access_core::role::CreateDbUserMode;
use access_postgres::{DatabaseProtocol, PostgresOptions, TargetAuth};
use common::{Ca, Gateway, Setup, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn row(columns: &[&str]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for column in columns {
        body.extend((column.len() as u32).to_be_bytes());
        body.extend(column.as_bytes());
    }
    message(b'D', &body)
}

/// What the script knows, and what it was asked.
#[derive(Default)]
struct Script {
    asked: Vec<String>,
    exists: bool,
    enabled: bool,
    roles: Vec<String>,
}

impl Script {
    /// Answers one statement, as the server would whose state this is.
    fn answer(&mut self, who: &str, sql: &str) -> Vec<u8> {
        self.asked.push(format!("{who}: {sql}"));
        let truth = |yes: bool| if yes { "t" } else { "f" };
        if sql.contains("rolcanlogin") {
            let exists = truth(self.exists);
            return row(&[exists, exists, truth(self.enabled), "f", exists]);
        }
        if sql.contains("SELECT DISTINCT") {
            return self.roles.iter().flat_map(|role| row(&[role])).collect();
        }
        if sql.contains("SHOW CLUSTER SESSIONS") {
            return row(&["f"]);
        }
        match sql {
            "CREATE ROLE \"alice\" LOGIN" => (self.exists, self.enabled) = (true, true),
            "GRANT \"reader\" TO \"alice\"" => self.roles = vec!["reader".into()],
            "REVOKE \"reader\" FROM \"alice\"" => self.roles.clear(),
            "ALTER ROLE \"alice\" NOLOGIN PASSWORD NULL" => self.enabled = false,
            "DROP ROLE \"alice\"" => {
                let error = b"SERROR\0VERROR\0C2BP01\0Mrole alice cannot be dropped\0\0";
                return message(b'E', error);
            }
            _ => {}
        }
        message(b'C', b"OK\0")
    }
}

/// Serves one connection by the script.
async fn serve(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    let len = stream.read_u32().await.unwrap() as usize;
    let mut startup = vec![0; len - 4];
    stream.read_exact(&mut startup).await.unwrap();
    let fields: Vec<String> = text(&startup[4..]).split('\0').map(str::to_owned).collect();
    let field = |name: &str| {
        let at = fields.iter().position(|field| field == name);
        at.map_or(String::new(), |at| fields[at + 1].clone())
    };
    let who = format!("{}@{}", field("user"), field("database"));
    let greeting = [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\x0013.0.0\0"),
        message(b'K', &[0x80, 0, 0, 1, 9, 9, 9, 9]),
        message(b'Z', b"I"),
    ];
    stream.write_all(&greeting.concat()).await.unwrap();
    let mut parsed = String::new();
    loop {
        let Ok(kind) = stream.read_u8().await else { return };
        let len = stream.read_u32().await.unwrap() as usize;
        let mut body = vec![0; len - 4];
        stream.read_exact(&mut body).await.unwrap();
        let sql = match kind {
            b'Q' => text(&body[..body.len() - 1]),
            b'P' => {
                parsed = text(&body[1..]).split('\0').next().unwrap().to_owned();
                continue;
            }
            b'S' => std::mem::take(&mut parsed),
            b'X' => return,
            _ => continue,
        };
        let mut answer = script.lock().unwrap().answer(&who, &sql);
        answer.extend(message(b'Z', b"I"));
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cockroachdb_is_asked_for_nothing_that_it_lacks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = Setup {
        auth: TargetAuth::Nothing,
        tls: None,
        addresses: vec![listener.local_addr().unwrap().to_string()],
        options: PostgresOptions::default(),
        admin: Some("access-admin"),
        protocol: DatabaseProtocol::CockroachDb,
    };
    let gateway = Gateway::serving(Ca::new("clients"), setup).await;
    gateway.rules.grant(|grant| {
        grant.database.create_user = CreateDbUserMode::BestEffortDrop;
        grant.database.roles = ["reader".to_owned()].into();
    });
    let script: Arc<Mutex<Script>> = Arc::default();
    let served = Arc::clone(&script);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, Arc::clone(&served)));
        }
    });
    drop(gateway.connect("alice").await);
    let event = gateway.wait_for(|event| event.name() == "db.session.user.deactivate").await;
    let event = serde_json::to_value(event).unwrap();
    let told = (&event["code"], &event["delete"], &event["deleted"]);
    assert_eq!(told, (&"TDB09I".into(), &true.into(), &false.into()), "{event:#}");

    let script = script.lock().unwrap();
    assert!(!script.enabled && script.roles.is_empty());
    let changes: Vec<&str> = script
        .asked
        .iter()
        .filter_map(|asked| asked.strip_prefix("access-admin@postgres: "))
        .filter(|sql| !sql.starts_with("SELECT"))
        .collect();
    assert_eq!(
        changes,
        [
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            "CREATE ROLE \"access-auto-user\"",
            "CREATE ROLE \"alice\" LOGIN",
            "GRANT \"access-auto-user\" TO \"alice\"",
            "GRANT \"reader\" TO \"alice\"",
            "COMMIT",
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            "SAVEPOINT before_drop",
            "DROP ROLE \"alice\"",
            "ROLLBACK TO SAVEPOINT before_drop",
            "REVOKE \"reader\" FROM \"alice\"",
            "ALTER ROLE \"alice\" NOLOGIN PASSWORD NULL",
            "COMMIT",
        ]
    );
    let all = script.asked.join("\n");
    assert!(!all.contains("advisory") && !all.contains("pg_stat_activity"), "{all}");
    assert!(all.contains("[SHOW CLUSTER SESSIONS]"), "{all}");
}
