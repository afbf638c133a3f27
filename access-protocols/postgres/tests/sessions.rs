//! Sessions of stock `psql` with a real PostgreSQL behind the gate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use access_core::audit::{AuditError, Event};
use access_core::policy::{Action, Reason};
use access_core::role::RecordMode;
use common::{Gateway, PATIENCE, Postgres, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

fn denied_statement(action: &Action, denied: &str) -> Option<Reason> {
    match action {
        Action::DatabaseStatement { command, .. } if command == denied => {
            Some(Reason::Other(format!("no {denied}")))
        }
        _ => None,
    }
}

async fn finish(psql: Child) -> (String, String) {
    let output = tokio::time::timeout(PATIENCE, psql.wait_with_output()).await.unwrap().unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// Starts `psql`, types this, and leaves its input open.
async fn typed(gateway: &Gateway, account: &str, sql: &str) -> (Child, tokio::process::ChildStdin) {
    let mut psql = gateway.psql(account).args(["-At", "-f", "-"]).spawn().unwrap();
    let mut stdin = psql.stdin.take().unwrap();
    stdin.write_all(sql.as_bytes()).await.unwrap();
    (psql, stdin)
}

/// Waits until the server says so.
async fn until(pg: &Postgres, sql: &str, expected: &str) {
    let end = Instant::now() + PATIENCE;
    while pg.sql(sql) != expected {
        assert!(Instant::now() < end, "{sql} never gives {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const SLEEPING: &str = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_psql_does_is_told() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let sql = "select current_user, 1 as one; select 2; select * from nothing";
    let output = gateway.run("reader", sql).await;
    assert_eq!(text(&output.stdout), "reader|1\n2\n", "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("relation \"nothing\" does not exist"));
    let end = gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let Event::DbSessionEnd(end) = end.event else { unreachable!() };
    assert_eq!((end.reason.unwrap().as_str(), end.statements), ("client", Some(1)));
    let events = gateway.events();
    let failed = events.iter().find(|event| event["error_code"] == "42P01").expect("no error");
    assert_eq!((&failed["rows"], &failed["statement"]), (&2.into(), &1.into()), "{failed}");
    assert_eq!((&failed["user"], &failed["db_user"]), (&"alice".into(), &"reader".into()));
    assert_eq!(events[0]["event"], "access.decision");
    assert_eq!(events[1]["event"], "db.session.start");
    assert_eq!(events[1]["application_name"], "psql");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_statements_are_told_in_order() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let script: String = (1..=1000)
        .map(|n| if n % 10 == 0 { format!("select {n}/0;\n") } else { format!("select {n};\n") })
        .collect();
    let (psql, stdin) = typed(&gateway, "reader", &script).await;
    drop(stdin);
    let (stdout, _) = finish(psql).await;
    assert_eq!(stdout.lines().count(), 900);
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let events = gateway.events();
    let queries: Vec<_> = events.iter().filter(|event| event["db_query"].is_string()).collect();
    assert_eq!(queries.len(), 1000);
    for (at, query) in queries.iter().enumerate() {
        assert_eq!(query["statement"], at + 1);
    }
    for number in 1..=1000 {
        let mut told = events.iter().filter(|event| event["statement"] == number);
        if number % 10 == 0 {
            assert!(told.any(|event| event["error_code"] == "22012"), "{number}");
        } else {
            assert!(told.any(|event| event["rows"] == 1), "{number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_c_cancels_the_right_query() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let sleep = "select pg_sleep(600);\nselect 'after';\n";
    let (psql, stdin) = typed(&gateway, "reader", sleep).await;
    let (other, other_stdin) = typed(&gateway, "alice", "select pg_sleep(600);\n").await;
    until(&pg, SLEEPING, "2").await;
    // A guessed key cancels nothing, and leaves an event.
    let guess = access_postgres::wire::CancelRequest::new(7, [0, 0, 0, 0]);
    assert!(!gateway.server.cancel(&guess, None).await);
    let pid = Pid::from_raw(psql.id().unwrap().cast_signed());
    kill(pid, Signal::SIGINT).unwrap();
    until(&pg, SLEEPING, "1").await;
    drop(stdin);
    let (_, stderr) = finish(psql).await;
    assert!(stderr.contains("canceling statement due to user request"), "{stderr}");
    let codes: Vec<_> = gateway
        .events()
        .iter()
        .filter(|event| event["event"] == "db.session.cancel")
        .map(|event| (event["code"].clone(), event["statement"].clone()))
        .collect();
    assert_eq!(codes[0].0, "ACB00W");
    assert_eq!(codes[1], ("ACB00I".into(), 1.into()));
    drop(other_stdin);
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_a_running_query_within_a_second() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let (psql, stdin) = typed(&gateway, "reader", "select pg_sleep(600);\n").await;
    until(&pg, SLEEPING, "1").await;
    let locked = Instant::now();
    gateway.rules.deny(|_| Some(Reason::UserLocked));
    let (_, stderr) = finish(psql).await;
    let took = locked.elapsed();
    assert!(stderr.contains("session ended: access was withdrawn: you are locked out"), "{stderr}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    until(&pg, SLEEPING, "0").await;
    let end = gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let Event::DbSessionEnd(end) = end.event else { unreachable!() };
    assert_eq!(end.reason.unwrap().as_str(), "locked");
    drop(stdin);
    let output = gateway.run("reader", "select 1").await;
    assert!(text(&output.stderr).contains("FATAL:  you are locked out"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_statement_is_refused_and_the_session_goes_on() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    pg.sql("create table t(i int); grant all on t to reader; alter table t owner to reader");
    gateway.rules.deny(|action| denied_statement(action, "DROP TABLE"));
    let script = "drop table t;\nselect 'on';\nbegin;\ninsert into t values (1);\ndrop table t;\n\
                  select 'aborted';\ncommit;\nselect count(*) from t;\n";
    let (psql, stdin) = typed(&gateway, "reader", script).await;
    drop(stdin);
    let (stdout, stderr) = finish(psql).await;
    assert_eq!(stdout, "on\nBEGIN\nINSERT 0 1\nROLLBACK\n0\n", "{stderr}");
    assert_eq!(stderr.matches("DROP TABLE is not allowed here").count(), 2, "{stderr}");
    assert!(stderr.contains("current transaction is aborted"), "{stderr}");
    assert!(!stderr.contains("refused by access"), "{stderr}");
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let refused = gateway.events().iter().filter(|event| event["error_code"] == "42501").count();
    assert_eq!(refused, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_itself_holds_to_reading_only() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    pg.sql("create table t(i int); grant all on t to reader");
    gateway.rules.grant(|grant| grant.database.read_only = true);
    let output = gateway.run("reader", "insert into t values (1)").await;
    assert!(text(&output.stderr).contains("read-only transaction"), "{output:?}");
    // The policy of this test lets it pass; the server's own report ends the session.
    let script = "select 'before';\nselect set_config('default_transaction_read_only', 'off', false);\n\
                  insert into t values (1);\n";
    let (psql, stdin) = typed(&gateway, "reader", script).await;
    drop(stdin);
    let (_, stderr) = finish(psql).await;
    assert!(stderr.contains("it may only read, and that was lifted"), "{stderr}");
    assert_eq!(pg.sql("select count(*) from t"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_not_shown() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let (mut psql, mut stdin) = typed(&gateway, "reader", "select 'first';\n").await;
    gateway.wait_for(|event| matches!(event, Event::DbSessionQuery(_))).await;
    gateway.sink.fail_with(Some(AuditError::Full));
    stdin.write_all(b"select 'second';\n").await.unwrap();
    drop(stdin);
    psql.stdin = None;
    let (stdout, stderr) = finish(psql).await;
    assert_eq!(stdout, "first\n");
    assert!(stderr.contains("the audit log cannot be written"), "{stderr}");
    let output = gateway.run("reader", "select 1").await;
    assert!(text(&output.stderr).contains("the audit log cannot be written"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_dies_in_mid_row_ends_the_session_in_words() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let (psql, stdin) = typed(&gateway, "reader", "select pg_sleep(600);\n").await;
    until(&pg, SLEEPING, "1").await;
    pg.kill();
    let (_, stderr) = finish(psql).await;
    assert!(
        stderr.contains("terminating connection") || stderr.contains("closed the connection"),
        "{stderr}"
    );
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    drop(stdin);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_cut_off_leaves_its_end_and_stops_its_query() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let (psql, stdin) = typed(&gateway, "reader", "select pg_sleep(600);\n").await;
    until(&pg, SLEEPING, "1").await;
    gateway.connections.lock().unwrap().iter().for_each(tokio::task::AbortHandle::abort);
    let end = gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let Event::DbSessionEnd(end) = end.event else { unreachable!() };
    assert_eq!((end.reason.unwrap().as_str(), end.statements), ("agent stopped", Some(1)));
    assert!(gateway.events().iter().any(|event| event["db_query"] == "select pg_sleep(600);"));
    until(&pg, SLEEPING, "0").await;
    drop(stdin);
    let (_, stderr) = finish(psql).await;
    assert!(stderr.contains("closed the connection") || stderr.contains("lost"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_recorded_as_a_transcript() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    gateway.rules.grant(|grant| grant.limits.record = RecordMode::Strict);
    let output = gateway.run("reader", "select 1 as one, 2 as two; select 1/0").await;
    assert!(text(&output.stderr).contains("division by zero"), "{output:?}");
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let recordings = gateway.recorder.recordings();
    assert!(recordings.len() == 1 && recordings[0].finished);
    let mut reader = access_core::recording::RecordingReader::trusting_nobody();
    reader.push(&recordings[0].bytes);
    let mut shown = String::new();
    while let Some(event) = reader.next_event() {
        if let access_core::recording::What::Output(output) = event.what {
            shown.push_str(&output);
        }
    }
    for line in [
        "postgres=> select 1 as one, 2 as two; select 1/0\r\n",
        "one | two\r\n",
        "SELECT 1\r\n",
        "22012",
    ] {
        assert!(shown.contains(line), "{line:?} is not in {shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_with_its_large_objects() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    pg.sql("create database source owner reader");
    pg.sql("create database copy owner reader");
    let run = |program: &str, database: &str, args: &[&str]| {
        let mut command = tokio::process::Command::new(program);
        command.args(args).arg("-d").arg(gateway.conninfo("reader", database));
        command.stdin(Stdio::null()).kill_on_drop(true);
        async move {
            let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        }
    };
    let make = "create table t as select i, repeat(i::text, 100) x from generate_series(1,20000) i;
                select lo_from_bytea(4711, convert_to(repeat('large', 200000), 'UTF8'))";
    run("psql", "source", &["-X", "-q", "-c", make]).await;
    let dump = gateway.dir.path().join("dump");
    let dump = dump.to_str().unwrap();
    run("pg_dump", "source", &["-Fc", "-f", dump]).await;
    let mut restore = tokio::process::Command::new("pg_restore");
    restore.args(["--exit-on-error", "-d", &gateway.conninfo("reader", "copy"), dump]);
    let output = tokio::time::timeout(PATIENCE, restore.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let sums = "select md5(string_agg(t::text, ',' order by i)), md5(lo_get(4711)) from t";
    let one = run("psql", "source", &["-XAt", "-c", sums]).await;
    assert_eq!(one, run("psql", "copy", &["-XAt", "-c", sums]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_hold_little() {
    const SESSIONS: u64 = 40;
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    // What a first session makes once is not counted.
    gateway.run("reader", "select 1").await;
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let before = common::resident();
    let mut idle = Vec::new();
    for _ in 0..SESSIONS {
        let query = "select repeat('x', 100000);\n";
        idle.push(typed(&gateway, "reader", query).await);
    }
    let all = "select count(*) from pg_stat_activity where usename = 'reader' and state = 'idle'
               and query like 'select repeat%'";
    until(&pg, all, &SESSIONS.to_string()).await;
    let each = common::resident().saturating_sub(before) / SESSIONS;
    eprintln!("{each} KiB for each idle session");
    assert!(each < 96, "{each} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_runs_in_every_mode_and_nothing_is_lost() {
    let pg = Postgres::start();
    pg.sql("create database bench owner reader");
    let gateway = Gateway::before(&pg).await;
    let pgbench = |args: &[&str]| {
        let mut command = tokio::process::Command::new("pgbench");
        command.args(args).arg(gateway.conninfo("reader", "bench")).kill_on_drop(true);
        async move {
            let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        }
    };
    pgbench(&["-i", "-s", "1", "-q"]).await;
    let script = gateway.dir.path().join("pipeline.sql");
    let pipeline = "\\startpipeline\nselect 1;\nselect 2;\nselect 3;\n\\endpipeline\n";
    std::fs::write(&script, pipeline).unwrap();
    let script = script.to_str().unwrap();
    let runs: [&[&str]; 5] = [
        &["-M", "simple", "-S"],
        &["-M", "extended", "-S"],
        &["-M", "prepared", "-N"],
        &["-M", "simple", "-S", "-C"],
        &["-M", "prepared", "-f", script],
    ];
    for run in runs {
        let args = [run, &["-n", "-c", "4", "-j", "2", "-t", "50"]].concat();
        let said = pgbench(&args).await;
        assert!(said.contains("actually processed: 200/200"), "{run:?}: {said}");
        assert!(said.contains("failed transactions: 0 "), "{run:?}: {said}");
        println!(
            "{run:?}: {}",
            said.lines().rfind(|line| line.contains("latency average")).unwrap()
        );
    }
    let count = || gateway.sink.names().iter().filter(|name| *name == "db.session.end").count();
    let starts = gateway.sink.names().iter().filter(|name| *name == "db.session.start").count();
    let end = Instant::now() + PATIENCE;
    while count() < starts {
        assert!(Instant::now() < end, "{starts} began, {} ended", count());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Statements are numbered without a hole, in every session.
    let mut next = std::collections::HashMap::new();
    for event in gateway.events() {
        let name = event["event"].as_str().unwrap();
        if let Some(number) = event["statement"].as_u64()
            && name != "db.session.result"
        {
            let last = next.insert(event["sid"].as_str().unwrap().to_owned(), number).unwrap_or(0);
            assert_eq!(number, last + 1, "{event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_functions_and_what_is_closed_are_told() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    let file = gateway.dir.path().join("object");
    std::fs::write(&file, vec![b'o'; 20_000]).unwrap();
    // libpq calls functions by the fast path for this: it makes an object, opens and writes it.
    let import = format!("\\lo_import '{}'\n\\lo_list\n", file.display());
    let (psql, stdin) = typed(&gateway, "reader", &import).await;
    drop(stdin);
    let (said, errors) = finish(psql).await;
    assert!(said.contains("lo_import ") && errors.is_empty(), "{said} {errors}");
    assert_eq!(pg.sql("select sum(length(lo_get(oid))) from pg_largeobject_metadata"), "20000");
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let events = gateway.events();
    let calls: Vec<_> =
        events.iter().filter(|event| event["event"] == "db.session.postgres.function").collect();
    // By their numbers, as they are called.
    let oid = |name: &str| pg.sql(&format!("select '{name}'::regproc::oid::int"));
    for name in ["lo_creat", "lo_open", "lowrite", "lo_close"] {
        let oid: u64 = oid(name).parse().unwrap();
        let call = calls.iter().find(|call| call["function_oid"] == oid);
        let call = call.unwrap_or_else(|| panic!("no call of {name}: {calls:#?}"));
        assert!(call["success"] == true && call["user"] == "alice", "{call:#}");
    }
    assert!(calls.iter().all(|call| call["statement"].is_u64()), "{calls:#?}");

    // A prepared statement that is dropped is closed by its name.
    let client = gateway.connect("reader").await;
    let statement = client.prepare("select $1::int").await.unwrap();
    client.query(&statement, &[&1_i32]).await.unwrap();
    drop(statement);
    client.simple_query("select 'after'").await.unwrap();
    drop(client);
    let closed = gateway.wait_for(|event| matches!(event, Event::DbPostgresClose(_))).await;
    let closed = serde_json::to_value(closed).unwrap();
    let events = gateway.events();
    let parsed = events.iter().find(|event| event["query"] == "select $1::int").unwrap();
    assert_eq!(closed["statement_name"], parsed["statement_name"], "{closed:#}");
    assert_eq!((&closed["sid"], &closed["user"]), (&parsed["sid"], &"alice".into()), "{closed:#}");
}
