//! Databases that administrators register while agents run: served by labels, changed, removed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr, reason = "what was measured is worth a line")]

use std::fs;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, DbSite, Done, Postgres, Process, Way, run, without};
use nix::sys::signal::Signal;

/// An agent that hears of a change renews its certificates and opens a new tunnel.
const SOON: Duration = Duration::from_secs(30);
/// "Within a second", and what a loaded machine adds to that.
const AT_ONCE: Duration = Duration::from_secs(3);

const RESOURCES: &str = "db_service:\n  resources:\n  - labels: { env: [prod, stage] }\n";

/// A cluster whose agent serves what administrators register, and nothing else.
fn site() -> DbSite {
    let site = DbSite::start_with(|_| RESOURCES.to_owned());
    site.add_user("alice", "reader");
    site
}

fn document(name: &str, env: &str, port: u16, more: &str) -> String {
    format!(
        "kind: db\nversion: v1\nmetadata:\n  name: {name}\n  labels: {{ env: {env} }}\nspec:\n  \
         protocol: postgres\n  uri: localhost:{port}\n{more}"
    )
}

fn create(cluster: &Cluster, text: &str) {
    cluster.ctl(&["create", "-f", "-"], text).ok();
}

fn replace(cluster: &Cluster, text: &str) {
    cluster.ctl(&["create", "--force", "-f", "-"], text).ok();
}

/// Asks until the answer is right.
#[track_caller]
fn until(way: &Way, sql: &str, right: impl Fn(&Done) -> bool) -> Duration {
    let since = Instant::now();
    loop {
        let done = way.query(sql);
        if right(&done) {
            return since.elapsed();
        }
        assert!(since.elapsed() < SOON, "{}: {done:?}", way.name);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for the line of a database in what administrators see.
#[track_caller]
fn wait_for_line(cluster: &Cluster, name: &str, words: &[&str]) {
    let since = Instant::now();
    loop {
        let text = cluster.ctl(&["db", "ls"], "").ok().out;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        if words.iter().all(|word| line.contains(word)) {
            return;
        }
        assert!(since.elapsed() < SOON, "{words:?} are not in {text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A query that would last, and runs.
fn lasting(pg: &Postgres, way: &Way, mark: &str) -> Process {
    let psql =
        Process::start("psql", way.psql(&["-c", &format!("select pg_sleep(600), '{mark}'")]));
    pg.wait_for_executing(mark, 1);
    psql
}

#[track_caller]
fn ends_as_no_longer_served(psql: Process, pg: &Postgres, mark: &str, since: Instant) {
    psql.wait_for("its end", |line| {
        line.contains("FATAL:  session ended: db/orders is no longer served").then_some(())
    });
    assert!(since.elapsed() < AT_ONCE, "it took {:?}", since.elapsed());
    assert_eq!(psql.wait(), Some(2));
    pg.wait_for_executing(mark, 0);
}

/// What somebody gets who asks for a database that is not there.
#[track_caller]
fn absent(done: &Done, conninfo: &str) {
    assert!(done.code != 0 && done.out.is_empty(), "{done:?}");
    let nothing = conninfo.replace("orders.db.", "nothing-at-all.db.");
    assert_ne!(nothing, conninfo);
    let mut psql = std::process::Command::new("psql");
    let other = run(psql.arg(nothing).args(["-XAt", "-c", "select 1"]), "");
    assert_eq!(done.err.replace("orders.db.", "nothing-at-all.db."), other.err);
}

#[test]
fn a_database_comes_changes_and_goes_while_its_agent_runs() {
    if without("postgresql") {
        return;
    }
    let mut site = site();
    let cluster = &site.cluster;
    let none = site.access("alice", &["db", "connect", "--db-user=reader", "orders"]);
    assert!(none.code != 0 && none.err.contains("there is no database orders"), "{none:?}");

    let port = site.pg.port;
    create(cluster, &document("orders", "prod", port, "  description: Orders of the shop\n"));
    create(cluster, &document("elsewhere", "dev", port, ""));
    let straight = site.straight("alice", "reader");
    let took = until(&straight, "select current_user", |done| done.out == "reader\n");
    eprintln!("served {took:?} after it was registered");
    for way in site.ways("alice", "reader") {
        assert_eq!(way.query("select current_user").ok().out, "reader\n", "{}", way.name);
    }
    wait_for_line(cluster, "orders", &["postgres", "env=prod", "web-1", " healthy"]);
    // Labels that do not match: nobody serves it, and it looks like none.
    wait_for_line(cluster, "elsewhere", &["unknown: no agent serves it"]);
    let listed = site.access("alice", &["db", "ls"]).ok().out;
    assert!(listed.contains("orders") && listed.contains("Orders of the shop"), "{listed}");
    let elsewhere = straight.conninfo().replace("orders.db.", "elsewhere.db.");
    let mut psql = std::process::Command::new("psql");
    let done = run(psql.arg(elsewhere).args(["-XAt", "-c", "select 1"]), "");
    absent(&Done { err: done.err.replace("elsewhere", "orders"), ..done }, straight.conninfo());

    // It is as audited as any other, and Ctrl-C finds its way.
    let start = cluster.wait_for_event("db.session.start", |event| event["db_service"] == "orders");
    assert!(start["user"] == "alice" && start["db_user"] == "reader", "{start:#?}");
    let made = cluster.wait_for_event("resource.create", |event| event["name"] == "orders");
    assert_eq!(made["kind"], "db", "{made:#?}");
    let sleeping = lasting(&site.pg, &straight, "interrupted");
    sleeping.signal(Signal::SIGINT);
    sleeping.wait_for("that it was cancelled", |line| {
        line.contains("canceling statement due to user request").then_some(())
    });
    drop(sleeping);

    // What is read can be written again, whatever agents have told.
    let read = cluster.ctl(&["get", "db/orders"], "").ok().out;
    for words in ["origin: dynamic", "servers:", "hostname: web-1"] {
        assert!(read.contains(words), "{words:?} is not in\n{read}");
    }
    replace(cluster, &read);
    wait_for_line(cluster, "orders", &["web-1", " healthy"]);

    // Another address: for what comes from then on.
    let old = lasting(&site.pg, &straight, "at the old address");
    let other = Postgres::start(cluster);
    replace(cluster, &document("orders", "prod", other.port, ""));
    let at_other = format!("{}\n", other.port);
    let took = until(&straight, "show port", |done| done.out == at_other);
    eprintln!("at another address {took:?} after it was changed");
    assert_eq!(site.pg.executing("at the old address"), 1);

    // TLS is the document's. The wrong authority, and then the right one.
    let indented =
        |pem: &str| pem.lines().map(|line| format!("      {line}\n")).collect::<String>();
    let wrong = indented(&cluster.ctl(&["auth", "export", "--type=tls-host"], "").ok().out);
    let right = indented(&cluster.ctl(&["auth", "export", "--type=db"], "").ok().out);
    let tls = |more: &str| document("orders", "prod", other.port, &format!("  tls:\n{more}"));
    replace(cluster, &tls(&format!("    ca_cert: |\n{wrong}")));
    until(&straight, "select 1", |done| {
        done.err.contains("not by an authority that is trusted for it")
    });
    wait_for_line(cluster, "orders", &["unhealthy", "not by an authority"]);
    replace(cluster, &tls(&format!("    mode: verify-ca\n    ca_cert: |\n{right}")));
    until(&straight, "select 1", |done| done.out == "1\n");
    replace(cluster, &tls("    server_name: other.internal\n"));
    until(&straight, "select 1", |done| done.err.contains("certificate is not for"));
    replace(cluster, &document("orders", "prod", other.port, ""));
    until(&straight, "select 1", |done| done.out == "1\n");

    // Labels that match no more end what runs, wherever it leads.
    let session = lasting(&other, &straight, "relabelled");
    let since = Instant::now();
    replace(cluster, &document("orders", "dev", other.port, ""));
    ends_as_no_longer_served(session, &other, "relabelled", since);
    ends_as_no_longer_served(old, &site.pg, "at the old address", since);
    for port in [other.port, site.pg.port] {
        let port = format!(":{port}");
        cluster.wait_for_event("db.session.end", |end| {
            end["reason"] == "removed"
                && end["db_uri"].as_str().is_some_and(|uri| uri.ends_with(&port))
        });
    }
    absent(&straight.query("select 1"), straight.conninfo());
    wait_for_line(cluster, "orders", &["env=dev", "no agent serves it"]);
    replace(cluster, &document("orders", "stage", other.port, ""));
    until(&straight, "select 1", |done| done.out == "1\n");

    // An agent that is started anew serves what there is.
    site.cluster.agent.take();
    site.cluster.start_agent();
    until(&straight, "select 1", |done| done.out == "1\n");
    let session = lasting(&other, &straight, "removed");
    let since = Instant::now();
    site.cluster.ctl(&["rm", "db/orders"], "").ok();
    ends_as_no_longer_served(session, &other, "removed", since);
    absent(&straight.query("select 1"), straight.conninfo());
    assert!(!site.access("alice", &["db", "ls"]).ok().out.contains("orders"));
    let left = site.cluster.ctl(&["db", "ls"], "").ok().out;
    assert!(!left.contains("orders") && left.contains("elsewhere"), "{left}");
    // The name is free.
    create(&site.cluster, &document("orders", "prod", site.pg.port, ""));
    until(&straight, "select 1", |done| done.out == "1\n");
}

#[test]
fn what_decisions_look_at_is_in_the_document() {
    if without("postgresql") {
        return;
    }
    let site = site();
    let role = "kind: role\nversion: v1\nmetadata: { name: of-prod }\nspec:\n  allow:\n    \
                db_labels: { env: prod }\n    db_users: [reader]\n    db_names: [shop]\n";
    create(&site.cluster, role);
    site.add_user_with("bob", "of-prod", "reader", "shop");
    create(&site.cluster, &document("orders", "prod", site.pg.port, ""));
    let bob = site.straight("bob", "reader");
    until(&bob, "select 1", |done| done.out == "1\n");
    let session = lasting(&site.pg, &bob, "of prod");
    let since = Instant::now();
    replace(&site.cluster, &document("orders", "stage", site.pg.port, ""));
    session.wait_for("its end", |line| line.contains("access was withdrawn").then_some(()));
    assert!(since.elapsed() < AT_ONCE, "it took {:?}", since.elapsed());
    let done = bob.query("select 1");
    assert!(done.err.contains("access denied, or there is no such thing"), "{done:?}");
    assert!(site.straight("alice", "reader").query("select 1").out == "1\n");
}

#[test]
fn two_agents_serve_one_database() {
    if without("postgresql") {
        return;
    }
    let mut site = site();
    let token = site.cluster.token("node,db");
    site.cluster.write_agent_config(&token, "", RESOURCES);
    let text = fs::read_to_string(site.cluster.path("agent.yaml")).unwrap();
    let own = site.cluster.path("agent").display().to_string();
    let text =
        text.replace("nodename: web-1", "nodename: web-2").replace(&own, &format!("{own}-2"));
    let config = site.cluster.write("agent-2.yaml", &text);
    let mut command = std::process::Command::new(access_e2e::bin("agent"));
    command.arg("--config").arg(config);
    let second = Process::start("the second agent", command);
    create(&site.cluster, &document("orders", "prod", site.pg.port, ""));
    wait_for_line(&site.cluster, "orders", &["web-1", "web-2", " healthy"]);
    let straight = site.straight("alice", "reader");
    until(&straight, "select 1", |done| done.out == "1\n");
    // Either is enough.
    site.cluster.agent.take().unwrap().kill9();
    until(&straight, "select 1", |done| done.out == "1\n");
    site.cluster.start_agent();
    site.cluster.wait_for_node("web-1");
    second.kill9();
    until(&straight, "select 1", |done| done.out == "1\n");
}

#[test]
fn what_cannot_be_registered_says_why() {
    if without("postgresql") {
        return;
    }
    let section = |pg: &Postgres| format!("{RESOURCES}  databases:\n{}", pg.entry("orders", ""));
    let mut site = DbSite::start_with(section);
    wait_for_line(&site.cluster, "orders", &["web-1"]);
    let refused = |text: &str, words: &[&str]| {
        let done = site.cluster.ctl(&["create", "-f", "-"], text);
        assert_eq!(done.code, 1, "{text}\n{done:?}");
        for words in words {
            assert!(done.err.contains(words), "{words:?} is not in {done:?}");
        }
    };
    let good = document("salaries", "prod", 5432, "");
    let with = |more: &str| document("salaries", "prod", 5432, more);
    refused(
        &good.replace("uri: localhost:5432", "uri: localhost"),
        &["salaries", "spec.uri", "\"localhost\" is no HOST:PORT"],
    );
    refused(
        &good.replace("localhost:5432", "postgres://me:secret@localhost:5432/shop"),
        &["spec.uri", "without postgres://"],
    );
    refused(&good.replace("uri:", "url:"), &["unknown field \"url\", did you mean \"uri\"?"]);
    refused(
        &good.replace("protocol: postgres", "protocol: mysql"),
        &["spec.protocol", "\"mysql\"", "postgres, cockroachdb"],
    );
    refused(
        &with("  tls: { ca_cert_file: /etc/ca.pem }\n"),
        &["spec.tls.ca_cert_file", "agents read no files", "in PEM, in ca_cert"],
    );
    refused(
        &with("  tls: { ca_cert: /etc/ca.pem }\n"),
        &["spec.tls.ca_cert", "there is no certificate in it"],
    );
    refused(
        &with("  password_file: /etc/password\n"),
        &["spec.password_file", "db_service.databases of its agent's configuration"],
    );
    refused(&with("  tls: { mode: verify }\n"), &["spec.tls.mode", "did you mean \"verify-"]);
    refused(&good.replace("salaries", "auth"), &["db/auth is a reserved name"]);
    // A name of an agent's configuration, whose document is there or not.
    let named = good.replace("salaries", "orders");
    let taken = site.cluster.ctl(&["create", "--force", "-f", "-"], &named);
    assert!(taken.err.contains("db/orders belongs to host"), "{taken:?}");
    assert!(taken.err.contains("accessctl rm db/orders"), "{taken:?}");
    create(&site.cluster, &good);
    let again = site.cluster.ctl(&["create", "-f", "-"], &good);
    assert!(again.err.contains("exists already: add --force"), "{again:?}");

    // And the other way round, when an agent comes to name it in its configuration.
    let agent = site.cluster.agent.take().unwrap();
    agent.signal(Signal::SIGTERM);
    agent.wait();
    let config = fs::read_to_string(site.cluster.path("agent.yaml")).unwrap();
    site.cluster.write("agent.yaml", &config.replace("name: orders", "name: salaries"));
    site.cluster.start_agent();
    let agent = site.cluster.agent.take().unwrap();
    agent.wait_for("why it does not start", |line| {
        line.contains("db/salaries was registered by an administrator").then_some(())
    });
    assert_ne!(agent.wait(), Some(0));

    // Labels that it did not join with take a new token. Its own is good for half an hour.
    let first = config.split_once("token_name: ").unwrap().1.split(['.', ' ']).next().unwrap();
    site.cluster.ctl(&["tokens", "rm", first], "").ok();
    let wider = config.replace("env: [prod, stage]", "'*': '*'");
    site.cluster.write("agent.yaml", &wider);
    site.cluster.start_agent();
    let agent = site.cluster.agent.take().unwrap();
    agent.wait_for("why it does not start", |line| {
        line.contains("this host did not join to serve databases by").then_some(())
    });
    assert_ne!(agent.wait(), Some(0));
    let token = site.cluster.token("node,db");
    let (before, rest) = wider.split_once("token_name: ").unwrap();
    let (_, rest) = rest.split_once(' ').unwrap();
    site.cluster.write("agent.yaml", &format!("{before}token_name: {token} {rest}"));
    create(&site.cluster, &document("sandbox", "dev", 5432, ""));
    site.cluster.start_agent();
    wait_for_line(&site.cluster, "sandbox", &["web-1"]);
}
