//! Ctrl-C in `psql` ends the query that the person before it waits for, and nobody else's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use access_e2e::{DbSite, Process, Way, without};

/// Somebody at `psql` on a terminal.
struct Person {
    psql: Process,
    keys: ChildStdin,
}

impl Person {
    fn at(way: &Way) -> Self {
        let mut psql = way.psql_on_terminal();
        let keys = psql.stdin();
        psql.wait_for("that it is psql", |line| line.contains("Type \"help\"").then_some(()));
        Self { psql, keys }
    }

    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn presses_ctrl_c(&mut self) {
        self.types("\x03");
    }

    /// Waits for a line with a text, from line `from` on.
    fn sees(&self, from: usize, text: &str) {
        self.psql.wait_from(from, text, |line| line.contains(text).then_some(()));
    }

    fn leaves(mut self) {
        self.types("\\q\n");
        let Self { psql, keys: _keys } = self;
        assert_eq!(psql.wait(), Some(0));
    }
}

#[test]
fn ctrl_c_ends_ones_own_query() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "reader");
    site.add_user("bob", "reader");
    // Two who do not press anything: the same user, and another.
    let mut others: Vec<_> = [("alice", "'same'"), ("bob", "'other'")]
        .into_iter()
        .map(|(user, mark)| {
            let mut other = Person::at(&site.straight(user, "reader"));
            other.types(&format!("select pg_sleep(600), {mark};\n"));
            other
        })
        .collect();
    site.pg.wait_for_executing("pg_sleep(600)", 2);

    for way in site.ways("alice", "reader") {
        let mut alice = Person::at(&way);
        alice.types("select pg_sleep(600), 'mine';\n");
        site.pg.wait_for_executing("'mine'", 1);
        let since = Instant::now();
        alice.presses_ctrl_c();
        alice.sees(0, "canceling statement due to user request");
        let took = since.elapsed();
        assert!(took < Duration::from_secs(3), "{}: it took {took:?}", way.name);
        site.pg.wait_for_executing("'mine'", 0);
        // The session goes on, and so do a query that repeats itself and another Ctrl-C.
        let from = alice.psql.lines();
        alice.types("select 6 * 7 as answer \\watch 0.2\n");
        alice.sees(from, "42");
        alice.sees(alice.psql.lines(), "42");
        alice.presses_ctrl_c();
        let from = alice.psql.lines();
        alice.types("select 'still ' || 'here';\n");
        alice.sees(from, "still here");
        assert_eq!(site.pg.executing("pg_sleep(600)"), 2, "{}", way.name);
        alice.leaves();
    }

    let passed = site.cluster.wait_for_events("db.session.cancel", 4);
    assert!(passed.iter().all(|event| event["code"] == "ACB00I"), "{passed:#?}");
    assert!(passed.iter().all(|event| event["user"] == "alice"), "{passed:#?}");

    // Those who press it now are heard as well.
    for (number, other) in others.iter_mut().enumerate() {
        other.presses_ctrl_c();
        other.sees(0, "canceling statement due to user request");
        site.pg.wait_for_executing("pg_sleep(600)", 1 - number);
    }
    others.into_iter().for_each(Person::leaves);
}

/// Sends a CancelRequest in clear, as libpq does, and waits until the other side is done with it.
#[allow(clippy::disallowed_methods, reason = "a stranger dials as strangers do")]
fn cancel(addr: &str, number: u32, secret: &[u8]) {
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = 12 + secret.len() as u32;
    let message =
        [&length.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &number.to_be_bytes(), secret];
    stream.write_all(&message.concat()).unwrap();
    let mut said = Vec::new();
    // A reset is an end as well.
    drop(stream.read_to_end(&mut said));
    assert_eq!(said, b"", "a CancelRequest is never answered");
}

#[test]
fn a_guessed_key_does_nothing() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "reader");
    let way = site.straight("alice", "reader");
    let mut alice = Person::at(&way);
    // The number that the client was told for cancelling is no secret: psql shows it.
    alice.types("\\set PROMPT1 'number=%p> '\n\n");
    let number: u32 = alice.psql.wait_for("its number", |line| {
        let digits = line.split_once("number=")?.1;
        digits.split_once('>')?.0.parse().ok()
    });
    alice.types("select pg_sleep(600);\n");
    site.pg.wait_for_executing("pg_sleep(600)", 1);
    // What the database itself calls the session is of no use to strangers either.
    let pid = "select pid from pg_stat_activity where query like '%pg_sleep(600)%' \
               and pid <> pg_backend_pid()";
    let pid: u32 = site.pg.sql(pid).parse().unwrap();
    assert_ne!(pid, number);
    for secret in [&[0; 4][..], &[0xff; 4], &[7; 32]] {
        cancel(&site.cluster.proxy_addr, number, secret);
        cancel(&site.cluster.proxy_addr, pid, secret);
    }
    for guess in 0..20_u32 {
        cancel(&site.cluster.proxy_addr, number, &guess.to_be_bytes());
    }
    for other in [0, number ^ 1, u32::MAX] {
        cancel(&site.cluster.proxy_addr, other, &[0; 4]);
    }
    assert_eq!(site.pg.executing("pg_sleep(600)"), 1);
    let refused =
        site.cluster.wait_for_event("db.session.cancel", |event| event["code"] == "ACB00W");
    assert!(refused["sid"].is_null() && refused["success"] == false, "{refused:#?}");
    assert!(refused["addr.remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{refused:#?}");
    let all = site.cluster.events(&["db.session.cancel"]);
    assert!(all.iter().all(|event| event["code"] == "ACB00W"), "{all:#?}");
    // Everybody is still served, and the right key still works.
    assert_eq!(way.query("select 1").ok().out, "1\n");
    alice.presses_ctrl_c();
    alice.sees(0, "canceling statement due to user request");
    alice.leaves();
}
