//! Stock `psql` in every way that leads to a database, and the commands that tell it how.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::process::Command;

use access_e2e::{DbSite, run, without};

/// What a person might do in a sitting: rows of all sorts, what fails, what is prepared, copied
/// and fetched in parts.
const SITTING: &str = r"
\pset null '<null>'
\encoding
create temp table t (id int primary key, name text, at timestamptz, data bytea, more jsonb);
insert into t select i, 'row ' || i, to_timestamp(i), decode(md5(i::text), 'hex'), null
  from generate_series(1, 1000) i;
select * from t order by id limit 3;
\d t
select count(*), sum(length(data)) from t;
select 1/0;
select 'ünï©ödé ' || chr(128169);
select repeat('x', 300000);
prepare p (int) as select name from t where id = $1;
execute p (77);
begin;
declare c cursor for select id from t order by id;
fetch 5 from c;
select * from nowhere;
rollback;
do $$ begin raise notice 'noticed'; end $$;
copy (select id, name from t order by id limit 4) to stdout with csv;
copy t (id, name) from stdin;
2001	copied
2002	\N
\.
select id, name from t where id > 2000 order by id;
\set FETCH_COUNT 100
select id from t order by id;
show search_path;
set application_name to 'sitting'; show application_name;
select a from (values (1), (null), (3)) v(a) \gdesc
\echo :SQLSTATE :ROW_COUNT
";

#[test]
fn psql_says_the_same_as_it_says_directly() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "reader");
    let flags = ["-a", "-v", "VERBOSITY=verbose"];
    let mut direct = site.pg.direct("psql", "reader", "shop");
    let direct = run(direct.arg("-X").args(flags), SITTING);
    assert!(direct.out.contains("row 77") && direct.err.contains("22012"), "{direct:?}");
    for way in site.ways("alice", "reader") {
        let done = run(&mut way.psql(&flags), SITTING);
        assert_eq!(done.out, direct.out, "{}", way.name);
        assert_eq!(done.err, direct.err, "{}", way.name);
        assert_eq!(done.code, direct.code, "{}", way.name);
        // The database knows its client as the account, by a certificate.
        let who = "select current_user, current_database(), client_dn from pg_stat_ssl \
                   where pid = pg_backend_pid()";
        assert_eq!(way.query(who).ok().out, "reader|shop|/CN=reader\n", "{}", way.name);
    }
    // Each session leaves its beginning and its end.
    let ends = site.cluster.wait_for_events("db.session.end", 8);
    assert!(ends.len() == 8 && ends.iter().all(|end| end["reason"] == "client"), "{ends:#?}");
    let starts = site.cluster.wait_for_events("db.session.start", 8);
    assert_eq!(starts.len(), 8, "{starts:#?}");
    for start in starts {
        for (field, value) in [
            ("user", "alice"),
            ("db_service", "orders"),
            ("db_user", "reader"),
            ("db_name", "shop"),
            ("application_name", "psql"),
            ("code", "TDB00I"),
        ] {
            assert_eq!(start[field], value, "{start:#?}");
        }
    }
}

#[test]
fn people_are_told_how() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "reader");
    let service = "orders.db.example.com";
    let file = site.home("alice").join(".pg_service.conf");
    let theirs = "[mine]\nhost=192.0.2.1\n";
    fs::write(&file, theirs).unwrap();
    let psql = |args: &[&str]| {
        let mut command = Command::new("psql");
        command.env("PGSERVICEFILE", &file).args(["-X", "-At", "-c", "select current_user"]);
        run(command.args(args), "")
    };

    let list = site.access("alice", &["db", "ls"]).ok().out;
    let row = list.lines().find(|line| line.contains("orders")).unwrap();
    assert!(row.contains("postgres") && row.contains("env=prod") && !row.contains('>'), "{list}");
    assert!(site.access("alice", &["db", "ls", "env=prod"]).ok().out.contains("orders"));
    assert!(!site.access("alice", &["db", "ls", "env=test"]).ok().out.contains("orders"));

    // The account is the only one that the certificate names.
    let told = site.access("alice", &["db", "login", "--db-name=shop", "orders"]).ok().out;
    assert!(told.contains(&format!("psql service={service}")), "{told}");
    assert!(site.access("alice", &["db", "ls"]).ok().out.contains('>'));
    assert_eq!(psql(&[&format!("service={service}")]).ok().out, "reader\n");
    assert!(fs::read_to_string(&file).unwrap().starts_with(theirs));

    // What was logged in to needs no name; what is printed can be pasted.
    let mut connect = site.access_command("alice", &["db", "connect", "--", "-XAtc", "select 42"]);
    assert_eq!(run(&mut connect, "").ok().out, "42\n");
    let env = site.access("alice", &["db", "env"]).ok().out;
    let mut shell = Command::new("sh");
    shell.env_remove("PGSERVICEFILE").args(["-c", "eval \"$1\" && psql -XAtc 'select 43'", "sh"]);
    assert_eq!(run(shell.arg(&env), "").ok().out, "43\n");
    let config = site.access("alice", &["db", "config", "--format=json"]).ok().out;
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!((&config["host"], &config["user"]), (&service.into(), &"reader".into()));

    // Once logged out, nothing of it is left.
    site.access("alice", &["db", "logout", "orders"]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
    let gone = psql(&[&format!("service={service}")]);
    assert!(gone.code == 2 && gone.err.contains("not found"), "{gone:?}");
    assert!(!site.access("alice", &["db", "ls"]).ok().out.contains('>'));
    site.access("alice", &["db", "logout", "orders"]).fails(1, "not logged in");
    // Logging out of the cluster does the same.
    site.access("alice", &["db", "login", "--db-name=shop", "orders"]).ok();
    site.access("alice", &["logout"]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
}
