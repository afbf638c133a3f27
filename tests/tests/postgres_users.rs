//! Accounts on a database that are made for sessions, by roles of the cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use access_e2e::{DbSite, PASSWORD, Postgres, Process, Way, run, without};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has the account made, with the roles of the others.
const KEEP: &str = r#"{"kind":"role","version":"v1","metadata":{"name":"maker"},"spec":{
    "options":{"create_db_user_mode":"keep"},
    "allow":{"db_labels":{"env":"prod"},"db_names":["shop"],
             "db_roles":["reader","{{internal.db_roles}}"]}}}"#;

const DROP: &str = r#"{"kind":"role","version":"v1","metadata":{"name":"dropper"},"spec":{
    "options":{"create_db_user_mode":"best_effort_drop"},
    "allow":{"db_labels":{"env":"prod"},"db_names":["shop"],"db_roles":["reader"]}}}"#;

const NO_WRITER: &str = r#"{"kind":"role","version":"v1","metadata":{"name":"no-writer"},"spec":{
    "deny":{"db_roles":["wri*"]}}}"#;

/// A site whose database has an admin user.
fn start() -> DbSite {
    let site = DbSite::start_with(|pg| {
        pg.sql(
            "create role \"access-admin\" login createrole; create role writer; \
             grant reader, writer to \"access-admin\" with admin option",
        );
        let admin = "    admin_user: { name: access-admin }\n";
        format!("db_service:\n  databases:\n{}", pg.entry("orders", admin))
    });
    site.pg.sql_in("shop", "create table goods as select 1 as n; grant select on goods to reader");
    for role in [KEEP, DROP, NO_WRITER] {
        site.cluster.ctl(&["create", "-f", "-"], role).ok();
    }
    site
}

fn add_user(site: &DbSite, name: &str, roles: &str) {
    std::fs::create_dir_all(site.home(name)).unwrap();
    let roles = format!("--roles={roles}");
    site.cluster.add_user(name, &[&roles, "--db-roles=writer"]);
    site.cluster.login(name).ok();
}

/// A user whose name is no name of a folder, with a home of another name.
fn add_hostile_user(site: &DbSite, name: &str, home: &str) {
    std::fs::create_dir_all(site.home(home)).unwrap();
    let cluster = &site.cluster;
    let (proxy, pin) =
        (format!("--proxy={}", cluster.proxy_addr), format!("--ca-pin={}", cluster.pin));
    let added = cluster.ctl(&[&proxy, "users", "add", name, "--roles=dropper"], "").ok().out;
    let words = added.split_whitespace().map(|word| word.trim_matches('\''));
    let link = words.into_iter().find(|word| word.starts_with("https://")).unwrap();
    let password = format!("{PASSWORD}\n");
    cluster.access(home, &["invite", "accept", link], &password).ok();
    let user = format!("--user={name}");
    cluster.access(home, &["login", &proxy, &user, &pin], &password).ok();
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether an account can log in, and its roles; nothing when there is none.
fn state(pg: &Postgres, name: &str) -> String {
    pg.sql(&format!(
        "select rolcanlogin || ':' || coalesce((select string_agg(r.rolname, ',' order by \
         r.rolname) from pg_auth_members m join pg_roles r on r.oid = m.roleid \
         where m.member = u.oid), '') from pg_roles u where rolname = {}",
        literal(name)
    ))
}

#[track_caller]
fn wait_for_state(pg: &Postgres, name: &str, expected: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = state(pg, name);
        if now == expected {
            return;
        }
        assert!(Instant::now() < until, "{name}: {now:?}, not {expected:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const OFF: &str = "false:access-auto-user";

/// A session that stays.
fn stay(site: &DbSite, way: &Way, mark: &str) -> Process {
    let sql = format!("select pg_sleep(600), '{mark}'");
    let psql = Process::start("psql", way.psql(&["-c", &sql]));
    site.pg.wait_for_executing(mark, 1);
    psql
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn accounts_are_made_for_sessions_and_disabled_after_them() {
    if without("postgresql") {
        return;
    }
    let site = start();
    add_user(&site, "alice", "maker,auditor");
    add_user(&site, "bob", "maker,no-writer");

    // It is known beforehand as whom, and need not be said.
    let listed = site.access("alice", &["db", "ls"]).ok().out;
    assert!(
        listed.lines().any(|line| line.contains("orders") && line.contains("alice")),
        "{listed}"
    );
    let connect = |user: &str, sql: &str| {
        let args = ["db", "connect", "--db-name=shop", "orders", "--", "-XAt", "-c", sql];
        run(&mut site.access_command(user, &args), "")
    };
    let roles = "select current_user, string_agg(rolname, ',' order by rolname) from pg_roles \
                 where pg_has_role(oid, 'member')";
    let done = connect("alice", roles).ok();
    assert_eq!(done.out.trim(), "alice|access-auto-user,alice,reader,writer");
    assert_eq!(connect("alice", "select n from goods").ok().out.trim(), "1");
    // A role that is denied is not granted.
    assert_eq!(connect("bob", roles).ok().out.trim(), "bob|access-auto-user,bob,reader");
    for user in ["alice", "bob"] {
        wait_for_state(&site.pg, user, OFF);
    }
    let made =
        site.cluster.wait_for_event("db.session.user.create", |event| event["user"] == "alice");
    assert_eq!((&made["code"], &made["username"]), (&"TDB08I".into(), &"alice".into()));
    assert_eq!(texts(&made["roles"]), ["reader", "writer"]);
    let gone =
        site.cluster.wait_for_event("db.session.user.deactivate", |event| event["user"] == "alice");
    assert_eq!((&gone["code"], &gone["delete"]), (&"TDB09I".into(), &false.into()));

    // As nobody else.
    let refused = site.straight("alice", "reader").query("select 1");
    assert!(refused.code != 0 && refused.err.contains("connect as alice"), "{refused:?}");

    // Two sessions at once, over ways of their own; the second's end leaves the first alone.
    let ways = site.ways("alice", "alice");
    let sessions: Vec<_> = ["first", "second"].map(|mark| stay(&site, &ways[3], mark)).into();
    let mut sessions = sessions.into_iter();
    let (first, second) = (sessions.next().unwrap(), sessions.next().unwrap());
    assert_eq!(state(&site.pg, "alice"), "true:access-auto-user,reader,writer");
    second.kill9();
    let ends = site.cluster.events(&["db.session.end"]).len();
    site.cluster.wait_for_events("db.session.end", ends.max(4));
    assert_eq!(state(&site.pg, "alice"), "true:access-auto-user,reader,writer");
    // A lock ends the first, and with it the account.
    site.cluster.ctl(&["lock", "--user=alice"], "").ok();
    wait_for_state(&site.pg, "alice", OFF);
    drop(first);

    // Other roles the next time.
    site.cluster.ctl(&["users", "update", "bob", "--roles=maker", "--db-roles=writer"], "").ok();
    site.cluster.login("bob").ok();
    for way in site.ways("bob", "bob") {
        let done = way.query(roles).ok();
        assert_eq!(done.out.trim(), "bob|access-auto-user,bob,reader,writer", "{}", way.name);
    }
    site.pg.sql("revoke writer from \"access-admin\"");
    site.cluster.ctl(&["users", "update", "bob", "--roles=maker,no-writer"], "").ok();
    site.cluster.login("bob").ok();
    assert_eq!(connect("bob", roles).ok().out.trim(), "bob|access-auto-user,bob,reader");
}

#[test]
fn accounts_are_dropped_unless_they_own_something() {
    if without("postgresql") {
        return;
    }
    let site = start();
    site.pg.sql_in("shop", "grant create on schema public to reader");
    let hostile = "Al\"ice'; drop role writer--";
    add_hostile_user(&site, hostile, "odd");
    let way = site.connect("odd", hostile);
    let done = way.query("select current_user").ok();
    assert_eq!(done.out.trim(), hostile);
    wait_for_state(&site.pg, hostile, "");
    way.query("create table mine (n int)").ok();
    wait_for_state(&site.pg, hostile, OFF);
    assert_eq!(site.pg.sql("select count(*) from pg_roles where rolname = 'writer'"), "1");
    let events = site.cluster.wait_for_events("db.session.user.deactivate", 2);
    let deleted: Vec<_> = events.iter().map(|event| &event["deleted"]).collect();
    assert_eq!(deleted, [&Value::Bool(true), &Value::Bool(false)], "{events:#?}");
}

#[test]
fn what_stands_in_the_way_of_an_account_is_named() {
    if without("postgresql") {
        return;
    }
    let site = start();
    site.pg.sql("create role carol login; grant writer to carol");
    add_user(&site, "carol", "maker");
    let way = site.straight("carol", "carol");
    let refused = |why: &str| {
        let done = way.query("select 1");
        assert!(done.code != 0 && done.out.is_empty() && done.err.contains(why), "{done:?}");
    };
    // Somebody else's account is left as it is.
    refused("was not made by access");
    assert_eq!(state(&site.pg, "carol"), "true:writer");
    let event = site.cluster.wait_for_event("db.session.user.create", |_| true);
    assert_eq!((&event["code"], &event["success"]), (&"TDB08W".into(), &false.into()));
    assert!(event["error"].as_str().unwrap().contains("was not made by access"), "{event:#}");
    site.pg.sql("drop role carol");
    // Roles that are not there, and rights that the admin user lacks.
    let missing = KEEP.replace("\"reader\"", "\"nowhere\"");
    site.cluster.ctl(&["create", "--force", "-f", "-"], &missing).ok();
    let until = Instant::now() + PATIENCE;
    while !way.query("select 1").err.contains("has no role \"nowhere\" (from db_roles)") {
        assert!(Instant::now() < until, "{:?}", way.query("select 1"));
        std::thread::sleep(Duration::from_millis(100));
    }
    site.cluster.ctl(&["create", "--force", "-f", "-"], KEEP).ok();
    site.pg.sql("alter role \"access-admin\" nocreaterole");
    let until = Instant::now() + PATIENCE;
    while !way.query("select 1").err.contains("ALTER ROLE \"access-admin\" CREATEROLE") {
        assert!(Instant::now() < until, "{:?}", way.query("select 1"));
        std::thread::sleep(Duration::from_millis(100));
    }
    refused("\"access-admin\" may not make accounts");
    assert_eq!(state(&site.pg, "carol"), "");
    site.pg.sql("alter role \"access-admin\" createrole");
    way.query("select 1").ok();
    wait_for_state(&site.pg, "carol", OFF);
}

#[test]
fn what_a_killed_agent_left_is_disabled_by_the_next() {
    if without("postgresql") {
        return;
    }
    let mut site = start();
    add_user(&site, "alice", "maker");
    add_user(&site, "bob", "maker");
    let session = stay(&site, &site.straight("alice", "alice"), "abandoned");
    site.cluster.agent.take().unwrap().kill9();
    drop(session);
    site.pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'alice'");
    assert_eq!(state(&site.pg, "alice"), "true:access-auto-user,reader,writer");
    site.cluster.start_agent();
    site.cluster.wait_for_node("web-1");
    let until = Instant::now() + PATIENCE;
    let way = site.straight("bob", "bob");
    while way.query("select 1").code != 0 {
        assert!(Instant::now() < until, "{:?}", way.query("select 1"));
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_for_state(&site.pg, "alice", OFF);
    wait_for_state(&site.pg, "bob", OFF);
}

#[test]
fn an_agent_that_is_told_to_stop_leaves_nothing_behind() {
    if without("postgresql") {
        return;
    }
    let mut site = start();
    add_user(&site, "alice", "maker");
    let session = stay(&site, &site.straight("alice", "alice"), "interrupted");
    let agent = site.cluster.agent.take().unwrap();
    agent.signal(Signal::SIGTERM);
    // Sessions may go on for half a minute; this one would for ten.
    assert_eq!(agent.wait_within(Duration::from_secs(60)), Some(0));
    // Nobody is there any more who could do it later.
    assert_eq!(state(&site.pg, "alice"), OFF);
    assert_eq!(site.pg.executing("interrupted"), 0);
    let ends = site.cluster.events(&["db.session.end"]);
    assert_eq!(ends.len(), 1, "{ends:#?}");
    assert_eq!(ends[0]["reason"], "agent stopped", "{ends:#?}");
    let gone = site.cluster.events(&["db.session.user.deactivate"]);
    assert!(gone.len() == 1 && gone[0]["code"] == "TDB09I", "{gone:#?}");
    drop(session);
}
