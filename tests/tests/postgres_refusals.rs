//! What is not allowed or goes wrong on the way to a database: the words in `psql`, the event, and
//! everybody else unharmed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use access_e2e::{Cluster, DbSite, Done, Postgres, Process, run, without};

/// `psql` with a connection string.
fn psql(conninfo: &str) -> Done {
    let mut command = Command::new("psql");
    run(command.arg(conninfo).args(["-XAt", "-c", "select 1"]), "")
}

#[track_caller]
fn says(done: &Done, words: &[&str]) {
    assert!(done.code != 0 && done.out.is_empty(), "{done:?}");
    for words in words {
        assert!(done.err.contains(words), "{words:?} is not in {done:?}");
    }
}

#[test]
fn people_who_may_not() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "reader");
    let way = site.straight("alice", "reader");
    assert_eq!(psql(way.conninfo()).ok().out, "1\n");
    let with = |from: &str, to: &str| {
        assert!(way.conninfo().contains(from), "{}", way.line);
        way.conninfo().replace(from, to)
    };

    // Accounts and databases that are not allowed, and such that do not exist, look alike.
    let denied = "access denied, or there is no such thing";
    for user in ["owner", "postgres", "nobody-at-all"] {
        let words = format!("the user {user} (db_users)");
        says(&psql(&with("user=reader", &format!("user={user}"))), &[denied, &words]);
        let event = site.cluster.wait_for_event("db.session.start", |event| event["login"] == user);
        assert!(event["code"] == "TDB00W" && event["success"] == false, "{event:#?}");
        assert!(event["user"] == "alice" && event["db_name"] == "shop", "{event:#?}");
    }
    for name in ["postgres", "template1", "no_such_database"] {
        let words = format!("the database name {name} (db_names)");
        says(&psql(&with("dbname=shop", &format!("dbname={name}"))), &[denied, &words]);
        let event = site.cluster.wait_for_event("db.session.start", |event| {
            event["db_name"] == name && event["code"] == "TDB00W"
        });
        assert!(event["user"] == "alice" && event["db_user"] == "reader", "{event:#?}");
    }
    // None of these reached the database.
    let connected = "select count(*) from pg_stat_activity where usename = 'owner'";
    assert_eq!(site.pg.sql(connected), "0");

    // A database that is not there.
    let done = psql(&with("host=orders.db", "host=ordres.db"));
    // Its name is in the client's TLS, and that is where the answer can be.
    says(&done, &["unrecognized name"]);
    let event = site.cluster.wait_for_event("auth", |event| event["server_hostname"] == "ordres");
    assert!(event["proto"] == "db" && event["success"] == false, "{event:#?}");
    let connect = ["db", "connect", "--db-user=reader", "ordres"];
    site.access("alice", &connect).fails(1, "there is no database ordres");
    site.access("alice", &["db", "login", "ordres"]).fails(1, "access db ls");

    // No certificate; one of another cluster; one of the same name as another cluster's user.
    let files = way.conninfo().split_once(" sslcert=").unwrap().0;
    let none = format!("{files} sslcert=/nonexistent sslkey=/nonexistent");
    says(&psql(&none), &["connection requires a client certificate", "access db login"]);
    let refused = site.cluster.wait_for_event("auth", |event| event["server_hostname"] == "orders");
    assert!(refused["success"] == false && refused["proto"] == "db", "{refused:#?}");
    let other = Cluster::without_agent();
    other.add_user("alice", &["--roles=access", "--db-users=reader", "--db-names=shop"]);
    other.login("alice").ok();
    let theirs = other.home("alice").join(other.proxy_addr.replace(':', "_"));
    let foreign =
        format!("{files} sslcert={dir}/tls.crt sslkey={dir}/tls.key", dir = theirs.display());
    // The client has sent more by the time that it is told why. A connection that is closed over
    // words that nobody read can lose what was said on it, which is TCP's way.
    let told = (0..30).filter(|_| {
        let done = psql(&foreign);
        says(&done, &["SSL"]);
        done.err.contains("unknown ca")
    });
    let told = told.count();
    assert!(told >= 25, "only {told} of 30 were told why");
    // An SSH certificate cannot be given to psql: libpq takes X.509 alone.
    let folder = site.cluster.home("alice").join(site.cluster.proxy_addr.replace(':', "_"));
    let ssh = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let ssh = ssh.into_iter().find(|path| path.to_string_lossy().ends_with("-cert.pub")).unwrap();
    let (from, _) = way.conninfo().split_once("sslcert=").unwrap();
    let done =
        psql(&format!("{from}sslcert={} sslkey={}/tls.key", ssh.display(), folder.display()));
    says(&done, &["could not read certificate file"]);

    // A StartupMessage of 100 KiB, of which the proxy reads no more than that it is one.
    let said = said_to(&site.cluster.proxy_addr, &[0, 1, 144, 0]);
    let why = "invalid length of startup packet: 102400";
    assert!(said.contains("C08P01") && said.contains(why), "{said}");
    let event = site.cluster.wait_for_event("auth", |event| event["error"] == why);
    assert!(event["success"] == false && event["proto"] == "postgres", "{event:#?}");
    // A message before its time.
    let said = said_to(&site.cluster.proxy_addr, b"Q\0\0\0\x0dselect 1\0");
    let why = "invalid length of startup packet: 1358954496";
    assert!(said.contains("C08P01") && said.contains(why), "{said}");
    let event = site.cluster.wait_for_event("auth", |event| event["error"] == why);
    assert!(event["success"] == false && event["proto"] == "postgres", "{event:#?}");

    // And still:
    assert_eq!(psql(way.conninfo()).ok().out, "1\n");
}

/// What a stranger is told who says this.
#[allow(clippy::disallowed_methods, reason = "a stranger dials as strangers do")]
fn said_to(addr: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn databases_that_are_not_what_they_should_be() {
    if without("postgresql") {
        return;
    }
    let cluster = Cluster::without_agent();
    let other = Cluster::without_agent();
    let pg = Postgres::start(&cluster);
    let named = Postgres::start_with(&cluster, "elsewhere.example.org", |_| {});
    let foreign = Postgres::start_with(&other, "localhost", |_| {});
    let clients = other.ctl(&["auth", "export", "--type=db-client"], "").ok().out;
    let refusing = Postgres::start_with(&cluster, "localhost", |data| {
        fs::write(data.join("clients.crt"), clients).unwrap();
    });
    let mut section = pg.section();
    for (name, server) in [("named", &named), ("foreign", &foreign), ("refusing", &refusing)] {
        section.push_str(&server.entry(name, ""));
    }
    // A name that is right although the address is another.
    section.push_str(&named.entry("renamed", "    tls: { server_name: elsewhere.example.org }\n"));
    // Roots in a file, of another authority so far.
    let (roots, export) = (cluster.path("roots.pem"), ["auth", "export", "--type=db"]);
    fs::write(&roots, other.ctl(&export, "").ok().out).unwrap();
    let file = format!("    tls: {{ ca_cert_file: {} }}\n", roots.display());
    section.push_str(&pg.entry("followed", &file));
    let mut site = DbSite { cluster, pg }.serving(&section);
    site.add_user("alice", "reader");
    let way = site.straight("alice", "reader");
    let at = |name: &str| psql(&way.conninfo().replace("host=orders.", &format!("host={name}.")));
    let failed = |site: &DbSite, name: &str| {
        let event = site.cluster.wait_for_event("db.session.start", |event| {
            event["db_service"] == name && event["code"] == "TDB00W" && event["user"] == "alice"
        });
        assert!(event["success"] == false && !event["error"].is_null(), "{event:#?}");
    };
    assert_eq!(at("renamed").ok().out, "1\n");

    // The next session goes by what the file says then; what cannot be used changes nothing.
    says(&at("followed"), &["FATAL", "not by an authority that is trusted for it"]);
    fs::write(&roots, site.cluster.ctl(&export, "").ok().out).unwrap();
    assert_eq!(at("followed").ok().out, "1\n");
    let good = fs::read(&roots).unwrap();
    fs::write(&roots, &good[..good.len() / 2]).unwrap();
    assert_eq!(at("followed").ok().out, "1\n");
    fs::write(&roots, good).unwrap();

    says(&at("named"), &["FATAL", "the database's certificate is not for localhost"]);
    failed(&site, "named");
    says(&at("foreign"), &["FATAL", "not by an authority that is trusted for it"]);
    failed(&site, "foreign");
    let done = at("refusing");
    says(&done, &["FATAL", "refuses the cluster's certificate", "--type=db-client"]);
    failed(&site, "refusing");
    // An account that the role allows, and the database does not know: its own words.
    site.add_user("bob", "stranger");
    let bob = site.straight("bob", "stranger");
    says(&psql(bob.conninfo()), &["role \"stranger\" does not exist"]);

    // Down, in the middle of a session and before one; and up again.
    let open = Process::start("psql", way.psql(&["-c", "select pg_sleep(600)"]));
    site.pg.wait_for_executing("pg_sleep(600)", 1);
    site.pg.stop();
    open.wait_for("that it is over", |line| {
        let over = line.contains("terminating connection") || line.contains("server closed");
        over.then_some(())
    });
    assert_eq!(open.wait(), Some(2));
    site.cluster.wait_for_event("db.session.end", |event| {
        event["db_service"] == "orders" && event["reason"].as_str().unwrap().starts_with("server")
    });
    says(&at("orders"), &["FATAL", "the database orders cannot be reached"]);
    failed(&site, "orders");
    site.pg.start_again();
    assert_eq!(at("orders").ok().out, "1\n");

    // The agent is away: the proxy knows of nobody who serves it.
    let ways = site.ways("alice", "reader");
    site.cluster.agent.take().unwrap().kill9();
    for way in &ways {
        let until = Instant::now() + Duration::from_secs(20);
        while way.query("select 1").code == 0 {
            assert!(Instant::now() < until, "{}: it is still served", way.name);
        }
        let words = match way.name {
            "access proxy db --tunnel" => "there is no database orders, or its agent is not",
            _ => "unrecognized name",
        };
        says(&way.query("select 1"), &[words]);
    }
    site.cluster.start_agent();
    site.cluster.wait_for_node("web-1");
    for way in &ways {
        assert_eq!(way.query("select 1").ok().out, "1\n", "{}", way.name);
    }
}

#[test]
fn statements_that_roles_forbid() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    site.pg.sql_in("shop", "create table t as select 1 as id; alter table t owner to owner");
    let role = |name: &str, options: &str| {
        let text = format!(
            "kind: role\nversion: v1\nmetadata: {{ name: {name} }}\nspec:\n  options: {options}\n"
        );
        site.cluster.ctl(&["create", "-f", "-"], &text).ok();
    };
    role("looks", "{ db_read_only: true }");
    role("careful", "{ db_deny_commands: [DROP, TRUNCATE, COPY FROM] }");
    site.add_user_with("alice", "access,looks", "owner", "shop");
    site.add_user_with("bob", "access,careful", "owner", "shop");

    let script = |user: &str, script: &str| {
        run(&mut site.straight(user, "owner").psql(&["-At", "-v", "VERBOSITY=verbose"]), script)
    };
    // Each is refused by itself; the session goes on.
    let done = script(
        "alice",
        "insert into t values (2);\nselect count(*) from t;\ndrop table t;\n\
         with gone as (delete from t returning 1) select count(*) from gone;\n\
         set transaction_read_only to off;\nbegin read write;\n\
         set default_transaction_read_only = off;\n\
         do $$ begin execute 'insert into t values (3)'; end $$;\n\
         show default_transaction_read_only;\nselect 'end';\n",
    );
    assert!(done.out.starts_with("1\n") && done.out.ends_with("on\nend\n"), "{done:?}");
    assert!(done.err.contains("42501: INSERT is not allowed here"), "{done:?}");
    assert!(done.err.contains("your roles do not permit INSERT: db_read_only"), "{done:?}");
    assert!(done.err.contains("ask an administrator for a role that allows it"), "{done:?}");
    assert!(done.err.contains("DROP TABLE is not allowed here"), "{done:?}");
    assert_eq!(done.err.matches("ERROR:  ").count(), 7, "{done:?}");
    assert_eq!(site.pg.sql_in("shop", "select count(*) from t"), "1");

    let done = script(
        "bob",
        "insert into t values (2);\ndrop table t;\ntruncate t;\nselect count(*) from t;\n\
         /* hidden */ drop /* well */ table t;\nselect 1; drop table t;\n\
         copy t from stdin;\ncopy t to stdout;\nselect 'end';\n",
    );
    assert!(done.out.starts_with("INSERT 0 1\n2\n") && done.out.ends_with("end\n"), "{done:?}");
    assert_eq!(done.err.matches("42501: ").count(), 5, "{done:?}");
    assert!(done.err.contains("COPY FROM is not allowed here"), "{done:?}");
    assert_eq!(site.pg.sql_in("shop", "select count(*) from t"), "2");

    // What is too long to be looked at to its end is refused to whom anything is forbidden, however
    // it begins and ends, and to nobody else.
    let long =
        format!("select length('{}')\\; drop table t;\nselect 'end';\n", "x".repeat(1 << 20));
    for user in ["alice", "bob"] {
        let done = script(user, &long);
        assert_eq!(done.out, "end\n", "{user}");
        assert!(done.err.contains("54000: the statement is too long to be judged"), "{user}");
    }
    assert_eq!(site.pg.sql_in("shop", "select count(*) from t"), "2");
    site.add_user_with("carol", "access", "owner", "shop");
    let done = script("carol", &long);
    assert_eq!(done.out, "1048576\nDROP TABLE\nend\n", "{}", done.err);

    let refused = site.cluster.wait_for_event("db.session.query.failed", |event| {
        event["user"] == "bob" && event["db_query"] == "truncate t;"
    });
    assert!(refused["success"] == false && refused["error_code"] == "42501", "{refused:#?}");
    let refused = site.cluster.wait_for_event("db.session.query.failed", |event| {
        event["user"] == "alice" && event["db_query"] == "insert into t values (2);"
    });
    assert_eq!(refused["error_code"], "42501", "{refused:#?}");
}
