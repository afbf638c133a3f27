//! The drill: two Auth processes on one PostgreSQL, a proxy and an agent, and people at work, while
//! each process is killed again and again and the database is away for a while.
//!
//! `ACCESS_DRILL_KILLS` says how often each is killed, `ACCESS_DRILL_STOP` for how many seconds the
//! database is away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{ChildStdin, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use access_e2e::{DbSite, PASSWORD, Postgres, Process, Replicas, bin, run, without};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A process that answers each line that it is sent.
struct Session {
    process: Process,
    stdin: ChildStdin,
    said: usize,
}

impl Session {
    fn start(name: &str, command: Command) -> Self {
        let mut process = Process::start(name, command);
        let stdin = process.stdin();
        Self { process, stdin, said: 0 }
    }

    /// Sends a line and waits for its answer.
    fn asks(&mut self, line: &str, answer: &str) {
        writeln!(self.stdin, "{line}").unwrap();
        self.process.wait_from(self.said, answer, |said| (said == answer).then_some(()));
        self.said = self.process.lines();
    }
}

/// What goes on until it is told to stop; gives what it did.
struct Work<T> {
    handle: JoinHandle<T>,
}

fn work<T: Send + 'static>(
    stop: &Arc<AtomicBool>,
    mut state: T,
    mut step: impl FnMut(&mut T, usize) + Send + 'static,
) -> Work<T> {
    let stop = Arc::clone(stop);
    let handle = std::thread::spawn(move || {
        let mut at = 0;
        while !stop.load(Ordering::Relaxed) {
            step(&mut state, at);
            at += 1;
        }
        state
    });
    Work { handle }
}

impl<T> Work<T> {
    fn done(self) -> T {
        self.handle.join().unwrap()
    }
}

/// When the database was away: until a while after it was back, since a login that began before
/// may still fail.
#[derive(Default)]
struct Away(Mutex<Option<(Instant, Option<Instant>)>>);

impl Away {
    /// How long after its return a login may still be on its way to a failure.
    const AFTER: Duration = Duration::from_secs(5);

    fn covers(&self, from: Instant, to: Instant) -> bool {
        let away = *self.0.lock().unwrap();
        away.is_some_and(|(gone, back)| {
            to >= gone && back.is_none_or(|back| from <= back + Self::AFTER)
        })
    }
}

#[test]
fn nothing_is_lost_while_replicas_die_and_the_database_is_away() {
    if without("postgresql") {
        return;
    }
    let (kills, away_for) = (number("ACCESS_DRILL_KILLS", 3), number("ACCESS_DRILL_STOP", 5));
    let (mut replicas, mut cluster) = Replicas::start(2);
    cluster.add_proxy();
    let addrs = replicas.addrs();

    // A database behind the agent, and people.
    let pg = Postgres::start(&cluster);
    pg.sql_in("shop", "create table t (n bigint primary key); alter table t owner to owner");
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let logins = format!("--logins={me}");
    let site = DbSite { cluster, pg };
    let section = site.pg.section();
    let site = site.serving(&section);
    std::fs::create_dir_all(site.home("alice")).unwrap();
    let args = ["--roles=access,auditor", &logins, "--db-users=owner", "--db-names=shop"];
    site.cluster.add_user("alice", &args);
    site.cluster.login("alice").ok();
    site.cluster.add_user("bob", &["--roles=access", &logins]);
    site.cluster.ctl(&["users", "add", "writer", "--roles=editor"], "").ok();
    let identity = site.cluster.path("id").display().to_string();
    let sign = ["auth", "sign", "--user=writer", "--format=file", "--ttl=2h", "--out", &identity];
    site.cluster.ctl(&sign, "").ok();

    let stop = Arc::new(AtomicBool::new(false));
    let away = Arc::new(Away::default());
    let config = site.cluster.ssh_config("alice");
    let target = format!("{me}@web-1.node.example.com");

    // Sessions that stand throughout.
    let echo = "while read line; do echo \"heard $line\"; done; echo the end; exit 6";
    let shells: Vec<_> = (0..3)
        .map(|_| {
            let args = ["-o", "BatchMode=yes", target.as_str(), echo];
            let session = Session::start("ssh", site.cluster.ssh(&config, &args));
            work(&stop, (session, 0), |(session, count), at| {
                session.asks(&format!("line {at}"), &format!("heard line {at}"));
                *count += 1;
                std::thread::sleep(Duration::from_millis(50));
            })
        })
        .collect();
    let way = site.straight("alice", "owner");
    let mut psql = Session::start("psql", way.psql(&["-At"]));
    psql.asks("select 'ready';", "ready");
    let rows = work(&stop, (psql, 0), |(psql, count), at| {
        psql.asks(
            &format!("insert into t values ({at}) returning 'row ' || n;"),
            &format!("row {at}"),
        );
        *count += 1;
        std::thread::sleep(Duration::from_millis(20));
    });

    // Commands through new connections, each with a text of its own.
    let fresh = |at: usize| {
        let mut args = vec!["-o", "BatchMode=yes", target.as_str()];
        let text = format!("echo drill-{at}");
        args.push(&text);
        site.cluster.ssh(&config, &args)
    };
    let commands: Vec<Command> = (0..20_000).map(fresh).collect();
    let commands = Mutex::new(commands.into_iter());
    let fresh = work(&stop, (0, Vec::new()), move |(good, bad), at| {
        let mut command = commands.lock().unwrap().next().unwrap();
        let done = run(&mut command, "");
        match done.code == 0 && done.out == format!("drill-{at}\n") {
            true => *good += 1,
            false => bad.push((at, done)),
        }
        std::thread::sleep(Duration::from_millis(100));
    });

    // Logins.
    let login = {
        let (bin, home) = (bin("access"), site.cluster.home("bob"));
        let flags = [
            "login".to_owned(),
            format!("--proxy={}", site.cluster.proxy_addr),
            format!("--ca-pin={}", site.cluster.pin),
            "--user=bob".to_owned(),
        ];
        let away = Arc::clone(&away);
        work(&stop, (0, 0, Vec::new()), move |(good, while_away, bad), _| {
            let began = Instant::now();
            let mut command = Command::new(&bin);
            command.env("ACCESS_HOME", &home).args(&flags);
            let done = run(&mut command, &format!("{PASSWORD}\n"));
            match done.code {
                0 => *good += 1,
                _ if away.covers(began, Instant::now()) => *while_away += 1,
                _ => bad.push(done),
            }
            std::thread::sleep(Duration::from_millis(100));
        })
    };

    // Writes, which a killed process may leave undone, but not once it has said that they are done.
    let writes = work(&stop, (BTreeSet::new(), 0), move |(good, bad), at| {
        let role =
            format!("kind: role\nversion: v1\nmetadata: {{ name: drill-{at} }}\nspec: {{}}\n");
        let mut command = Command::new(bin("accessctl"));
        command.args(["--auth-server", &addrs, "--identity", &identity, "create", "-f", "-"]);
        match run(&mut command, &role).code {
            0 => drop(good.insert(format!("drill-{at}"))),
            _ => *bad += 1,
        }
        std::thread::sleep(Duration::from_millis(50));
    });

    let began = Instant::now();
    for round in 0..kills {
        if round == kills / 2 {
            *away.0.lock().unwrap() = Some((Instant::now(), None));
            replicas.store.stop();
            std::thread::sleep(Duration::from_secs(away_for));
            replicas.store.start_again();
            away.0.lock().unwrap().as_mut().unwrap().1 = Some(Instant::now());
        }
        for at in 0..2 {
            std::thread::sleep(Duration::from_millis(500));
            replicas.kill9(at);
            std::thread::sleep(Duration::from_millis(300));
            replicas.start_again(at);
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);

    // Those who were connected are so still.
    let mut lines = 0;
    for shell in shells {
        let (Session { process, stdin, .. }, count) = shell.done();
        lines += count;
        drop(stdin);
        process.wait_for("its end", |said| (said == "the end").then_some(()));
        assert_eq!(process.wait(), Some(6));
    }
    let (psql, inserted) = rows.done();
    drop(psql.stdin);
    assert_eq!(psql.process.wait(), Some(0));
    let (runs, failed_runs) = fresh.done();
    let (logins, while_away, failed_logins) = login.done();
    let (written, unwritten) = writes.done();
    let count = site.pg.sql_in("shop", "select count(*) from t");
    assert_eq!(count, inserted.to_string());
    assert!(failed_runs.is_empty(), "{failed_runs:#?}");
    assert!(failed_logins.is_empty(), "{failed_logins:#?}");
    assert!(lines > 0 && inserted > 0 && runs > 0 && logins > 0 && !written.is_empty());

    // What was said to be written is there.
    let roles = site.cluster.ctl(&["get", "role", "--format=json"], "").ok().out;
    let lost: Vec<_> =
        written.iter().filter(|role| !roles.contains(&format!("{role}\""))).collect();
    assert!(lost.is_empty(), "{lost:?} of {}", written.len());

    // Each command and each statement is in the trail, once.
    let deadline = Instant::now() + Duration::from_secs(60);
    let tally = |kind: &str, field: &str, prefix: &str| {
        let mut tally = BTreeMap::new();
        for event in site.cluster.events(&[kind]) {
            if let Some(text) = event[field].as_str().filter(|text| text.starts_with(prefix)) {
                *tally.entry(text.to_owned()).or_insert(0_usize) += 1;
            }
        }
        tally
    };
    let (execs, queries) = loop {
        let execs = tally("exec", "command", "echo drill-");
        let queries = tally("db.session.query", "db_query", "insert into t");
        if execs.len() >= runs && queries.len() >= inserted {
            break (execs, queries);
        }
        assert!(
            Instant::now() < deadline,
            "{} of {runs} commands and {} of {inserted} statements are in the trail",
            execs.len(),
            queries.len()
        );
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!((execs.len(), queries.len()), (runs, inserted));
    assert!(execs.values().chain(queries.values()).all(|count| *count == 1));
    let successes = site.cluster.events(&["user.login"]);
    let successes =
        successes.iter().filter(|event| event["user"] == "bob" && event["success"] == true).count();
    assert!(successes >= logins, "{successes} events of {logins} logins");

    // And each session that is recorded has its recording.
    let recorded = site.cluster.events(&["session.end", "db.session.end"]);
    let recorded: BTreeSet<_> = recorded
        .iter()
        .filter(|event| event["session_recording"] != "off" && event["recorded"] != false)
        .map(|event| event["sid"].as_str().unwrap().to_owned())
        .collect();
    let recordings = || {
        let list = site.cluster.ctl(&["recordings", "ls", "--format=json"], "").ok().out;
        recorded.iter().filter(|sid| list.contains(sid.as_str())).count()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while recordings() < recorded.len() {
        assert!(Instant::now() < deadline, "{} of {} recordings", recordings(), recorded.len());
        std::thread::sleep(Duration::from_millis(200));
    }
    eprintln!(
        "the drill: each of 2 replicas was killed {kills} times, and the database was away for \
         {away_for} s, in {:.0} s.\n\
         sessions that stood throughout: 3 ssh with {lines} answers, 1 psql with {inserted} rows; \
         lost 0.\n\
         commands through new connections: {runs}, failed 0; each is in the trail once.\n\
         logins: {logins} good, {while_away} failed while the database was away, 0 at other times.\n\
         writes: {} said to be done, lost 0; {unwritten} not done and said so.\n\
         events: {} of commands, {} of statements, none missing, none twice. recordings: {}.",
        took.as_secs_f64(),
        written.len(),
        execs.len(),
        queries.len(),
        recorded.len(),
    );
}
