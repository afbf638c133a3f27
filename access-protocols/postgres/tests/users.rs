//! Accounts that are made for sessions, on a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::time::{Duration, Instant};

use access_core::policy::Reason;
use access_core::role::CreateDbUserMode;
use common::{Gateway, PATIENCE, Postgres, Setup, text};
use serde_json::Value;

const ADMIN: &str = "access-admin";

/// A server with an admin user, in which nobody is called alice.
fn server() -> Postgres {
    let pg = Postgres::start();
    pg.sql(
        "drop role alice; create role \"access-admin\" login createrole; \
         create role writer; create role \"Odd \"\"one\"\"; --\"; \
         grant reader, writer, \"Odd \"\"one\"\"; --\" to \"access-admin\" with admin option",
    );
    pg
}

async fn gateway(pg: &Postgres, mode: CreateDbUserMode, roles: &[&str]) -> Gateway {
    let gateway = Gateway::with(pg, Setup { admin: Some(ADMIN), ..Setup::of(pg) }).await;
    grant(&gateway, mode, roles);
    gateway
}

fn grant(gateway: &Gateway, mode: CreateDbUserMode, roles: &[&str]) {
    gateway.rules.grant(|grant| {
        grant.database.create_user = mode;
        grant.database.roles = roles.iter().map(|role| (*role).to_owned()).collect();
    });
}

/// Whether the account can log in, and its roles.
fn state(pg: &Postgres) -> String {
    pg.sql(
        "select rolcanlogin || ':' || coalesce((select string_agg(r.rolname, ',' order by r.rolname) \
         from pg_auth_members m join pg_roles r on r.oid = m.roleid where m.member = u.oid), '') \
         from pg_roles u where rolname = 'alice'",
    )
}

async fn wait_for_state(pg: &Postgres, expected: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = state(pg);
        if now == expected {
            return;
        }
        assert!(Instant::now() < until, "{now}, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The events about accounts: what, of whom, how it went.
fn told(gateway: &Gateway) -> Vec<String> {
    let about = |event: &Value| {
        let name = event["event"].as_str()?.strip_prefix("db.session.")?.to_owned();
        if !name.starts_with("user.") && !name.starts_with("permissions.") {
            return None;
        }
        let code = event["code"].as_str().unwrap();
        let roles = event["roles"].as_array().map(|roles| format!(" {roles:?}"));
        let gone = match &event["deleted"] {
            Value::Bool(true) => " gone",
            Value::Bool(false) => " disabled",
            _ => "",
        };
        Some(format!("{name} {code}{}{gone}", roles.unwrap_or_default()))
    };
    gateway.events().iter().filter_map(about).collect()
}

async fn wait_for_told(gateway: &Gateway, count: usize) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let told = told(gateway);
        if told.len() >= count {
            return told;
        }
        assert!(Instant::now() < until, "{told:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const OFF: &str = "false:access-auto-user";

#[tokio::test(flavor = "multi_thread")]
async fn an_account_lives_as_long_as_its_sessions() {
    let pg = server();
    let odd = "Odd \"one\"; --";
    let gateway = gateway(&pg, CreateDbUserMode::Keep, &["reader", odd]).await;
    let done = gateway.run("alice", "select current_user, pg_has_role('reader', 'usage')").await;
    assert_eq!(text(&done.stdout), "alice|t\n", "{}", text(&done.stderr));
    wait_for_state(&pg, OFF).await;
    assert_eq!(
        wait_for_told(&gateway, 3).await,
        [
            "user.create TDB08I [String(\"reader\"), String(\"Odd \\\"one\\\"; --\")]",
            "permissions.update TDB07I [String(\"reader\"), String(\"Odd \\\"one\\\"; --\")]",
            "user.deactivate TDB09I disabled",
        ]
    );

    // Other roles the next time; a password that it gave itself does not last.
    grant(&gateway, CreateDbUserMode::Keep, &["writer"]);
    let client = gateway.connect("alice").await;
    assert_eq!(state(&pg), "true:access-auto-user,writer");
    client.batch_execute("alter role alice password 'own'").await.unwrap();
    // Another session of the same user, and one that would have other roles.
    let second = gateway.connect("alice").await;
    grant(&gateway, CreateDbUserMode::Keep, &["reader", "writer"]);
    let refused = gateway.run("alice", "select 1").await;
    assert!(text(&refused.stderr).contains("are on with other roles"), "{refused:?}");
    assert!(text(&refused.stderr).contains("FATAL"), "{refused:?}");
    drop(client);
    gateway.wait_for(|event| event.name() == "db.session.end").await;
    second.query_one("select 1", &[]).await.unwrap();
    assert_eq!(state(&pg), "true:access-auto-user,writer");
    drop(second);
    wait_for_state(&pg, OFF).await;
    let password = "select rolpassword is null from pg_authid where rolname = 'alice'";
    assert_eq!(pg.sql(password), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_owns_nothing_is_dropped() {
    let pg = server();
    let gateway = gateway(&pg, CreateDbUserMode::BestEffortDrop, &["reader"]).await;
    let done = gateway.run("alice", "select current_user").await;
    assert_eq!(text(&done.stdout), "alice\n", "{}", text(&done.stderr));
    wait_for_state(&pg, "").await;
    pg.sql("grant create on schema public to reader");
    let done = gateway.run("alice", "create table public.mine (n int)").await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    wait_for_state(&pg, OFF).await;
    let told = wait_for_told(&gateway, 6).await;
    assert_eq!(
        [&told[2], &told[5]],
        ["user.deactivate TDB09I gone", "user.deactivate TDB09I disabled"]
    );
    pg.sql("drop table mine");
    gateway.run("alice", "select 1").await;
    wait_for_state(&pg, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_made_here_is_left_alone() {
    let pg = server();
    pg.sql("create role alice login; grant writer to alice");
    let gateway = gateway(&pg, CreateDbUserMode::BestEffortDrop, &["reader"]).await;
    let refused = text(&gateway.run("alice", "select 1").await.stderr);
    assert!(refused.contains("was not made by access"), "{refused}");
    assert!(refused.contains("GRANT \"access-auto-user\" TO \"alice\""), "{refused}");
    assert_eq!(state(&pg), "true:writer");
    assert_eq!(told(&gateway), ["user.create TDB08W [String(\"reader\")]"]);
    let start = gateway.events().into_iter().find(|event| event["event"] == "db.session.start");
    let start = start.unwrap();
    assert_eq!(start["code"], "TDB00W");
    assert!(start["error"].as_str().unwrap().contains("was not made by access"), "{start}");

    // Handed over, it is ours; but not with more than roles.
    pg.sql(
        "create role \"access-auto-user\"; grant \"access-auto-user\" to alice; \
            grant \"access-auto-user\" to \"access-admin\" with admin option; \
            alter role alice createdb",
    );
    let refused = text(&gateway.run("alice", "select 1").await.stderr);
    assert!(refused.contains("was given more than roles"), "{refused}");
    assert_eq!(state(&pg), "true:access-auto-user,writer", "nothing was changed");
    pg.sql("alter role alice nocreatedb");
    let done = gateway.run("alice", "select 1").await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    wait_for_state(&pg, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lacking_is_named() {
    let pg = server();
    let gateway = gateway(&pg, CreateDbUserMode::Keep, &["reader", "nowhere", "No\"where"]).await;
    let failed = async || text(&gateway.run("alice", "select 1").await.stderr);
    let refused = failed().await;
    assert!(refused.contains(r#"has no role "No\"where", "nowhere" (from db_roles)"#), "{refused}");
    assert_eq!(state(&pg), "", "nothing is half made");
    let other = text(&gateway.run("reader", "select 1").await.stderr);
    assert!(other.contains("connect as alice"), "{other}");

    grant(&gateway, CreateDbUserMode::Keep, &["reader"]);
    pg.sql("alter role \"access-admin\" nocreaterole");
    let refused = failed().await;
    assert!(refused.contains("\"access-admin\" may not make accounts"), "{refused}");
    assert!(refused.contains("ALTER ROLE \"access-admin\" CREATEROLE"), "{refused}");
    pg.sql("alter role \"access-admin\" createrole nologin");
    let refused = failed().await;
    assert!(refused.contains("its admin user access-admin cannot log in"), "{refused}");
    // A superuser's role is granted by superusers only.
    pg.sql("alter role \"access-admin\" login; create role boss superuser");
    grant(&gateway, CreateDbUserMode::Keep, &["boss"]);
    let refused = failed().await;
    assert!(refused.contains("may not grant the role \"boss\""), "{refused}");
    assert_eq!(state(&pg), "");
    assert!(told(&gateway).iter().all(|event| event.starts_with("user.create TDB08W")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_permit_is_that_of_its_account() {
    let pg = server();
    let gateway = gateway(&pg, CreateDbUserMode::Keep, &["reader"]).await;
    let client = gateway.connect("alice").await;
    let running = tokio::spawn(async move { client.query_one("select pg_sleep(600)", &[]).await });
    let until = Instant::now() + PATIENCE;
    while pg.sql("select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and usename = 'alice'") == "0" {
        assert!(Instant::now() < until, "it does not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.rules.deny(|_| Some(Reason::UserLocked));
    running.await.unwrap().unwrap_err();
    wait_for_state(&pg, OFF).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_left_that_was_killed_is_looked_after() {
    let pg = server();
    pg.sql(
        "create role \"access-auto-user\"; create role \"x\"\"; drop role reader;--\" login; \
            grant \"access-auto-user\", writer to \"x\"\"; drop role reader;--\"; \
            create role bystander login; grant writer to bystander",
    );
    pg.sql("grant \"access-auto-user\" to \"access-admin\" with admin option");
    let gateway = gateway(&pg, CreateDbUserMode::Keep, &["reader"]).await;
    let _client = gateway.connect("alice").await;
    gateway.wait_for(|event| event.name() == "db.session.user.deactivate").await;
    let left = "select rolname from pg_roles where rolcanlogin and rolname in \
                ('alice', 'bystander', 'x\"; drop role reader;--') order by 1";
    assert_eq!(pg.sql(left), "alice\nbystander");
    let roles = "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.roleid \
                 join pg_roles u on u.oid = m.member \
                 where u.rolname like 'x%' and r.rolname = 'writer'";
    assert_eq!(pg.sql(roles), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_at_once_share_one_account() {
    let pg = server();
    let gateways = [
        gateway(&pg, CreateDbUserMode::BestEffortDrop, &["reader"]).await,
        gateway(&pg, CreateDbUserMode::BestEffortDrop, &["reader"]).await,
    ];
    // Two agents, each with short sessions of the same user, which begin while others end.
    let sessions = (0..24).map(|number| {
        let gateway = &gateways[number % 2];
        async move {
            for _ in 0..3 {
                let done = gateway.run("alice", "select current_user").await;
                assert_eq!(text(&done.stdout), "alice\n", "{}", text(&done.stderr));
            }
        }
    });
    futures::future::join_all(sessions).await;
    wait_for_state(&pg, "").await;
    for gateway in &gateways {
        assert!(told(gateway).iter().all(|event| !event.contains('W')), "{:#?}", told(gateway));
    }
}
