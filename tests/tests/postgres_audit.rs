//! Every statement is in the audit trail, in order, with what came of it, whatever happens to Auth
//! meanwhile; and a session can be looked at again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use access_e2e::{DbSite, Process, run, without};
use serde_json::Value;

const STATEMENTS: usize = 1000;

/// For how many seconds Auth is away, if not for ten.
const AWAY: &str = "ACCESS_TEST_AUTH_AWAY";

/// A statement by its number: most give rows, one of ten changes some, one of ten fails.
fn statement(number: usize) -> String {
    match number % 10 {
        3 => format!("update t set n = n + 1 where id <= {}", number % 7),
        6 => format!("select {number} / 0"),
        _ => format!("select {number} from generate_series(1, {})", number % 5),
    }
}

/// What the trail must say of it.
fn check(event: &Value, number: usize) {
    assert_eq!(event["db_query"], format!("{};", statement(number)), "{event:#?}");
    for (field, value) in [("user", "alice"), ("db_user", "owner"), ("db_service", "orders")] {
        assert_eq!(event[field], value, "{event:#?}");
    }
    let (name, rows, error) = match number % 10 {
        3 => ("db.session.query", Some(number % 7), None),
        6 => ("db.session.query.failed", None, Some("22012")),
        _ => ("db.session.query", Some(number % 5), None),
    };
    assert_eq!(event["event"], name, "{event:#?}");
    assert_eq!(event["rows"].as_u64(), rows.map(|rows| rows as u64), "{event:#?}");
    assert_eq!(event["error_code"].as_str(), error, "{event:#?}");
    if error.is_some() {
        assert_eq!(event["error_message"], "division by zero");
    } else {
        let command = if number % 10 == 3 { "UPDATE" } else { "SELECT" };
        assert_eq!(event["command"], command, "{event:#?}");
    }
}

/// The statements of the only session, by their numbers, once it has ended in the trail. What was
/// answered late is told by an event of its own, which is put where it belongs.
fn trail(site: &DbSite) -> Vec<Value> {
    let end = site.cluster.wait_for_event("db.session.end", |_| true);
    assert_eq!(end["reason"], "client", "{end:#?}");
    let kinds = ["db.session.query", "db.session.query.failed", "db.session.result"];
    let mut events = site.cluster.events(&kinds);
    // As the agent wrote them.
    events.sort_by_key(|event| event["seq"].as_u64().unwrap());
    let (results, mut statements): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|event| event["event"] == "db.session.result");
    for (at, event) in statements.iter().enumerate() {
        assert_eq!(event["statement"], at + 1, "out of order: {event:#?}");
        assert_eq!(event["sid"], end["sid"], "{event:#?}");
    }
    for result in results {
        let number = result["statement"].as_u64().unwrap() as usize;
        let statement = &mut statements[number - 1];
        for field in ["rows", "command", "error_code", "error_message"] {
            if !result[field].is_null() {
                statement[field] = result[field].clone();
            }
        }
    }
    assert_eq!(end["statements"], statements.len(), "{end:#?}");
    statements
}

fn site() -> DbSite {
    let site = DbSite::start();
    site.pg.sql_in("shop", "create table t as select i as id, 0 as n from generate_series(1, 6) i");
    site.pg.sql_in("shop", "alter table t owner to owner");
    site.add_user("alice", "owner");
    site
}

#[test]
fn a_thousand_statements_are_all_there() {
    if without("postgresql") {
        return;
    }
    let site = site();
    let script = (1..=STATEMENTS).fold(String::new(), |mut script, number| {
        writeln!(script, "{};", statement(number)).unwrap();
        script
    });
    let done = run(&mut site.connect("alice", "owner").psql(&["-At"]), &script).ok();
    assert_eq!(done.err.matches("division by zero").count(), STATEMENTS / 10);
    let trail = trail(&site);
    assert_eq!(trail.len(), STATEMENTS);
    for (at, event) in trail.iter().enumerate() {
        check(event, at + 1);
    }

    // The recording shows the session, by its id.
    let sid = trail[0]["sid"].as_str().unwrap();
    site.cluster.wait_for_event("session.upload", |event| event["sid"] == sid);
    let shown = site.access("alice", &["play", sid, "--format=text"]).ok().out;
    let mut rest = shown.as_str();
    for number in 1..=STATEMENTS {
        let (_, after) = rest
            .split_once(&format!("shop=> {};", statement(number)))
            .unwrap_or_else(|| panic!("{number} is not shown in order:\n{shown}"));
        rest = after;
    }
    assert_eq!(shown.matches("division by zero").count(), STATEMENTS / 10);
    assert!(shown.contains("UPDATE 3"), "{shown}");
}

#[test]
fn nothing_is_missing_when_auth_was_away() {
    if without("postgresql") {
        return;
    }
    let mut site = site();
    let way = site.straight("alice", "owner");
    let mut psql = Process::start("psql", way.psql(&["-At"]));
    let mut keys = psql.stdin();
    let mut types = |numbers: std::ops::RangeInclusive<usize>, psql: &Process| {
        let last = *numbers.end();
        for number in numbers {
            writeln!(keys, "{};", statement(number)).unwrap();
        }
        writeln!(keys, "\\echo said {last}").unwrap();
        keys.flush().unwrap();
        psql.wait_for(&format!("number {last}"), |line| {
            (line == format!("said {last}")).then_some(())
        });
    };
    types(1..=300, &psql);
    site.cluster.auth.take().unwrap().kill9();
    let since = Instant::now();
    types(301..=600, &psql);
    // A new session within the staleness that is allowed leaves nothing out either, but this one
    // has to go on by itself for a while.
    let away = std::env::var(AWAY).map_or(10, |seconds| seconds.parse().unwrap());
    let away = Duration::from_secs(away);
    types(601..=601, &psql);
    std::thread::sleep(away.saturating_sub(since.elapsed()));
    types(602..=700, &psql);
    site.cluster.start_auth();
    types(701..=STATEMENTS, &psql);
    drop(keys);
    assert_eq!(psql.wait(), Some(0));
    let trail = trail(&site);
    assert_eq!(trail.len(), STATEMENTS);
    for (at, event) in trail.iter().enumerate() {
        check(event, at + 1);
    }
}
