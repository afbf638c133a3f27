//! What people do with stock tools besides queries comes to the same as it does directly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::Write;
use std::process::Command;

use access_e2e::{DbSite, Process, Way, run, without};

fn site() -> DbSite {
    let site = DbSite::start();
    site.add_user_with("alice", "access,auditor", "owner", "shop,copied");
    site
}

/// The address of a port that `access proxy db --tunnel` holds open, for tools that take it from
/// the environment.
fn through(way: &Way, program: &str, database: &str) -> Command {
    let mut command = Command::new(program);
    for word in way.conninfo().split(' ') {
        let (keyword, value) = word.split_once('=').unwrap();
        match keyword {
            "host" => command.env("PGHOST", value),
            "port" => command.env("PGPORT", value),
            "user" => command.env("PGUSER", value),
            "sslmode" => command.env("PGSSLMODE", value),
            _ => &mut command,
        };
    }
    command.env("PGDATABASE", database);
    command
}

#[test]
fn tables_are_copied_in_and_out() {
    if without("postgresql") {
        return;
    }
    let site = site();
    site.pg.sql_in("shop", "create table t (id int, name text); alter table t owner to owner");
    let file = site.cluster.path("in.csv");
    let rows: String =
        (0..100_000).map(|id| format!("{id},\"row, \"\"{id}\"\"\nof lines\"\n")).collect();
    fs::write(&file, &rows).unwrap();
    for way in site.ways("alice", "owner") {
        let (back, binary) = (site.cluster.path("out.csv"), site.cluster.path("out.bin"));
        let script = format!(
            "truncate t;\n\\copy t from '{}' with csv\n\
             \\copy (select * from t order by id) to '{}' with csv\n\
             \\copy t to '{}' with binary\n\
             truncate t;\n\\copy t from '{}' with binary\n\
             select count(*), count(distinct name), min(id), max(id) from t;\n",
            file.display(),
            back.display(),
            binary.display(),
            binary.display()
        );
        let done = run(&mut way.psql(&["-At", "-v", "ON_ERROR_STOP=1"]), &script).ok();
        let copied = "TRUNCATE TABLE\nCOPY 100000\nCOPY 100000\nCOPY 100000\nTRUNCATE TABLE\n\
                      COPY 100000\n100000|100000|0|99999\n";
        assert_eq!(done.out, copied, "{}", way.name);
        assert!(fs::read_to_string(&back).unwrap() == rows, "{}", way.name);
        // What is wrong in the middle leaves nothing behind, and the words of the database.
        let wrong = run(&mut way.psql(&["-At", "-c", "copy t from stdin"]), "1\tone\ntwo\ttwo\n");
        assert_eq!(wrong.code, 1, "{}: {wrong:?}", way.name);
        assert!(wrong.err.contains("COPY t, line 2, column id: \"two\""), "{wrong:?}");
    }
    assert_eq!(site.pg.sql_in("shop", "select count(*) from t"), "100000");
}

#[test]
fn notifications_arrive() {
    if without("postgresql") {
        return;
    }
    let site = site();
    for (number, way) in site.ways("alice", "owner").into_iter().enumerate() {
        let mut listener = Process::start("psql", way.psql(&["-At"]));
        let mut keys = listener.stdin();
        keys.write_all(b"listen news;\n\\echo listens\n").unwrap();
        listener.wait_for("that it listens", |line| (line == "listens").then_some(()));
        // From the other side of the database, and through the cluster.
        site.pg.sql_in("shop", &format!("notify news, 'direct {number}'"));
        way.query(&format!("notify news, 'through {number}'")).ok();
        // psql shows them after a statement.
        keys.write_all(b"select 'asked';\n").unwrap();
        for payload in [format!("direct {number}"), format!("through {number}")] {
            let words = format!("with payload \"{payload}\"");
            listener.wait_for(&words, |line| line.contains(&words).then_some(()));
        }
        drop(keys);
        assert_eq!(listener.wait(), Some(0), "{}", way.name);
    }
}

/// A database with a bit of everything, large objects among it.
const EVERYTHING: &str = r"
create schema sales;
create type sales.state as enum ('open', 'paid');
create table sales.orders (
  id int generated always as identity primary key,
  state sales.state not null default 'open',
  note text, data bytea, more jsonb, at timestamptz default '2026-01-02 03:04:05+00'
);
insert into sales.orders (state, note, data, more)
  select case when i % 3 = 0 then 'paid'::sales.state else 'open' end,
         repeat('ünï ' || i, i % 50), decode(repeat(md5(i::text), i % 9), 'hex'),
         jsonb_build_object('i', i, 'none', null)
  from generate_series(1, 3000) i;
create index on sales.orders (state, at);
create view sales.paid as select * from sales.orders where state = 'paid';
create function sales.total() returns bigint language sql as 'select count(*) from sales.orders';
create table files (name text, content oid);
insert into files
  select 'file ' || i, lo_from_bytea(0, decode(repeat(md5(i::text), 20000 * i), 'hex'))
  from generate_series(1, 5) i;
comment on table files is 'with large objects';
";

const CONTENT: &str = "select name, md5(lo_get(content)), length(lo_get(content)) from files \
                       order by name; select md5(string_agg(o::text, ',' order by id)) \
                       from sales.orders o; select sales.total()";

/// A tool with what `access db env` says, as in a shell: straight to the proxy, with no program of
/// ours in between.
fn straight(site: &DbSite, program: &str, database: &str) -> Command {
    let args = ["db", "env", "--db-user=owner", "orders"];
    let env = site.access("alice", &args).ok().out;
    let mut shell = Command::new("sh");
    shell.args(["-c", "eval \"$1\" && shift && exec \"$@\"", "sh", &env, program]);
    shell.args([format!("--dbname={database}")]);
    shell
}

#[test]
fn databases_are_dumped_and_restored() {
    if without("postgresql") {
        return;
    }
    let site = site();
    let mut psql = site.pg.direct("psql", "owner", "shop");
    run(psql.args(["-Xq", "-v", "ON_ERROR_STOP=1"]), EVERYTHING).ok();
    let way = site.port("alice", "owner", &["--tunnel"]);
    let content = |database: &str| site.pg.sql_in(database, CONTENT);
    let flags = ["--blobs", "--no-owner"];

    // As text, to compare; but for the key that each run makes up anew.
    let dumped = |mut command: Command| {
        let text = run(command.args(flags), "").ok().out;
        let made_up = |line: &&str| line.contains("restrict ");
        text.lines().filter(|line| !made_up(line)).collect::<Vec<_>>().join("\n")
    };
    let direct = dumped(site.pg.direct("pg_dump", "owner", "shop"));
    assert!(direct.contains("lo_create") && direct.len() > 500_000);
    assert!(dumped(through(&way, "pg_dump", "shop")) == direct, "the dumps differ");

    // In the custom format, and back into another database.
    site.pg.sql("create database copied owner owner");
    let file = site.cluster.path("shop.dump");
    let mut dump = through(&way, "pg_dump", "shop");
    run(dump.args(flags).args(["--format=custom", "--file"]).arg(&file), "").ok();
    let mut restore = through(&way, "pg_restore", "copied");
    restore.args(["--no-owner", "--exit-on-error", "--dbname=copied"]).arg(&file);
    run(&mut restore, "").ok();
    assert_eq!(content("copied"), content("shop"));

    // With several connections at once, and straight from one to the other.
    let folder = site.cluster.path("shop.folder");
    let mut dump = through(&way, "pg_dump", "shop");
    run(dump.args(flags).args(["--format=directory", "--jobs=3", "--file"]).arg(&folder), "").ok();
    site.pg.sql("drop database copied");
    site.pg.sql("create database copied owner owner");
    let mut restore = through(&way, "pg_restore", "copied");
    restore.args(["--no-owner", "--exit-on-error", "--jobs=3", "--dbname=copied"]).arg(&folder);
    run(&mut restore, "").ok();
    assert_eq!(content("copied"), content("shop"));

    // Straight by the name of the server, in both directions.
    assert!(dumped(straight(&site, "pg_dump", "shop")) == direct, "the dumps differ");
    let file = site.cluster.path("straight.dump");
    let mut dump = straight(&site, "pg_dump", "shop");
    run(dump.args(flags).args(["--format=custom", "--file"]).arg(&file), "").ok();
    site.pg.sql("drop database copied");
    site.pg.sql("create database copied owner owner");
    let mut restore = straight(&site, "pg_restore", "copied");
    run(restore.args(["--no-owner", "--exit-on-error"]).arg(&file), "").ok();
    assert_eq!(content("copied"), content("shop"));
    let names = site.cluster.wait_for_events("db.session.start", 4);
    assert!(names.iter().any(|start| start["application_name"] == "pg_dump"));
    assert!(names.iter().any(|start| start["application_name"] == "pg_restore"));
}
