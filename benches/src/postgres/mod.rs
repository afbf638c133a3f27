//! PostgreSQL through pgbouncer, and through ours.
//!
//! One PostgreSQL, stock clients, TLS with client certificates on both sides of everybody who
//! stands between. Of ours the audit log is on and delivered: each statement is an event that Auth
//! has stored in the end. Size of the copy in MiB: `ACCESS_BENCH_COPY_MIB`, 256 by default;
//! seconds of each turn: `ACCESS_BENCH_SECONDS`, 5 by default.

mod cluster;
mod load;
mod pgbouncer;
mod pki;
mod server;

use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::contenders::private_folder;
use crate::machine::{self, status_kib};
use crate::stats::{Series, Target, heading, line, verdict};

use cluster::Cluster;
use load::{Load, copy_out, idle};
use pgbouncer::PgBouncer;
use pki::Authority;
use server::{ACCOUNT, DATABASE, Postgres, wait_for};

/// How many idle sessions are weighed.
const IDLE_SESSIONS: usize = 60;

/// The contenders, in the order in which they take turns.
const NAMES: [&str; 4] =
    ["direct", "pgbouncer", "ours, straight to the agent", "ours, proxy + tunnel + agent"];

/// What is run, and what both ways of ours are to reach of pgbouncer's figure.
const LOADS: [(Load, Option<f64>, f64); 7] = [
    (Load::select("pgbench -S, 1 client", 1), Some(1.0), 0.75),
    (Load::select("pgbench -S, 16 clients", 16), Some(1.0), 0.6),
    (Load::select("pgbench -S, 64 clients", 64), Some(1.0), 0.6),
    (Load::prepared("pgbench -S -M prepared, 1 client", 1), None, 0.6),
    (Load::prepared("pgbench -S -M prepared, 16 clients", 16), None, 0.6),
    (Load::pipelined("batches of 10, 1 client", 1), None, 0.6),
    (Load::pipelined("batches of 10, 16 clients", 16), None, 0.6),
];
const COPY: (Option<f64>, f64) = (None, 0.9);
const CONNECTING: Load = Load::connecting("pgbench -S -C, 4 clients", 4);
/// Of what a direct connection reaches.
const CONNECTING_TARGET: f64 = 0.7;

/// Everybody, up and ready.
struct Rig {
    cluster: Cluster,
    _pgbouncer: PgBouncer,
    postgres: Postgres,
    folder: tempfile::TempDir,
    ways: [String; 4],
}

impl Rig {
    fn start(copy_mib: usize) -> Result<Self> {
        let folder = private_folder()?;
        // The system's user `postgres` has files below it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open)?;
        let path = folder.path();
        let authority = Authority::new(path)?;
        let mut cluster = Cluster::start(path)?;
        let roots = cluster.client_roots()? + &std::fs::read_to_string(&authority.root)?;
        let postgres = Postgres::start(path, &authority, &roots)?;
        postgres.fill(copy_mib)?;
        let pgbouncer = PgBouncer::start(path, &authority, &postgres)?;
        cluster.serve(postgres.port, &authority.root)?;
        let client = authority.client("client", ACCOUNT)?;
        let theirs = |port: u16| {
            format!(
                "host=localhost hostaddr=127.0.0.1 port={port} user={ACCOUNT} dbname={DATABASE} \
                 sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
                authority.root.display(),
                client.cert.display(),
                client.key.display()
            )
        };
        let through = cluster.conninfo()?;
        let words = through.split(' ').map(|word| match word.split_once('=') {
            Some(("port", _)) => format!("port={}", cluster.door),
            _ => word.to_owned(),
        });
        let straight = words.collect::<Vec<_>>().join(" ");
        let ways = [theirs(postgres.port), theirs(pgbouncer.port), straight, through];
        Ok(Self { cluster, _pgbouncer: pgbouncer, postgres, folder, ways })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Lets all take turns.
    fn measure(
        &self,
        rounds: usize,
        mut turn: impl FnMut(&str) -> Result<f64>,
    ) -> Result<[Series; 4]> {
        let mut series: [Series; 4] = Default::default();
        for _ in 0..rounds {
            for (way, series) in self.ways.iter().zip(&mut series) {
                series.push(turn(way)?);
            }
        }
        Ok(series)
    }

    /// What an idle session takes at the agent and at the proxy, in KiB. To be called first: what
    /// a process has had once, it may keep.
    fn weigh(&self) -> Result<(f64, f64)> {
        let [_, _, straight, through] = &self.ways;
        // The first session pays for what all share.
        select_one(straight)?;
        select_one(through)?;
        let agent = self.cluster.agent_pid().ok_or("no agent")?;
        let proxy = self.cluster.proxy.id();
        let anonymous = |pid| status_kib(pid, "RssAnon").map(|kib| kib as f64).ok_or("it is gone");
        let before = (anonymous(agent)?, anonymous(proxy)?);
        let sessions = idle(self.path(), through, IDLE_SESSIONS)?;
        let count = format!(
            "select count(*) from pg_stat_activity where usename = '{ACCOUNT}' \
             and state = 'idle' and query like 'SELECT 1%'"
        );
        wait_for("idle sessions", || {
            let there: usize = self.postgres.sql(&count).ok()?.parse().ok()?;
            (there >= IDLE_SESSIONS).then_some(())
        })?;
        std::thread::sleep(Duration::from_secs(2));
        let after = (anonymous(agent)?, anonymous(proxy)?);
        drop(sessions);
        let each = |before: f64, after: f64| (after - before) / IDLE_SESSIONS as f64;
        Ok((each(before.0, after.0), each(before.1, after.1)))
    }
}

fn select_one(conninfo: &str) -> Result<()> {
    let mut psql = std::process::Command::new("psql");
    crate::process::output(psql.args(["-Xq", "-c", "select 1"]).arg(conninfo), "")?;
    Ok(())
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn show(title: &str, unit: &str, series: &[Series; 4], one_hop: Option<f64>, all: f64) {
    heading(title, unit);
    for (name, series) in NAMES.iter().zip(series) {
        line(name, series);
    }
    let [direct, pgbouncer, straight, through] = series;
    let [_, _, straight_name, through_name] = NAMES;
    match one_hop {
        Some(target) => verdict(
            &format!("{straight_name}, by pgbouncer"),
            straight.ratio(pgbouncer),
            "",
            Target::AtLeast(target),
        ),
        None => println!("{straight_name}, by pgbouncer {:.3}", straight.ratio(pgbouncer)),
    }
    let ratio = through.ratio(pgbouncer);
    verdict(&format!("{through_name}, by pgbouncer"), ratio, "", Target::AtLeast(all));
    println!(
        "by direct: pgbouncer {:.3}, straight {:.3}, through {:.3}; load {}",
        pgbouncer.ratio(direct),
        straight.ratio(direct),
        through.ratio(direct),
        machine::load()
    );
}

/// Keeps everybody up until standard input ends, for whoever measures by hand.
fn hold(rig: &Rig) -> Result<()> {
    for (name, way) in NAMES.iter().zip(&rig.ways) {
        println!("{name}: {way}");
    }
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(())
}

/// Starts everybody, runs everything in turns and prints the tables. `ACCESS_BENCH_ONLY` picks
/// loads by a part of their names; `ACCESS_BENCH_HOLD` has it print how to reach each contender
/// and wait for the end of standard input instead.
///
/// # Errors
/// When a contender or a command fails.
pub fn run(rounds: usize) -> Result<()> {
    let copy_mib = setting("ACCESS_BENCH_COPY_MIB", 256);
    let span = Duration::from_secs(setting("ACCESS_BENCH_SECONDS", 5) as u64);
    let only = std::env::var("ACCESS_BENCH_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|part| name.contains(part));
    let rig = Rig::start(copy_mib)?;
    if std::env::var_os("ACCESS_BENCH_HOLD").is_some() {
        return hold(&rig);
    }
    if wanted("memory") {
        let (agent, proxy) = rig.weigh()?;
        println!("\n{IDLE_SESSIONS} idle sessions, anonymous memory of each");
        verdict("at the agent", agent, "KiB", Target::AtMost(64.0));
        verdict("at the proxy", proxy, "KiB", Target::AtMost(16.0));
    }
    for (load, one_hop, all) in LOADS.iter().filter(|(load, ..)| wanted(load.name)) {
        let series = rig.measure(rounds, |way| load.run(rig.path(), way, span))?;
        show(load.name, "transactions/s", &series, *one_hop, *all);
    }
    if wanted("copy") {
        let series =
            rig.measure(rounds, |way| Ok(copy_mib as f64 / copy_out(way)?.as_secs_f64()))?;
        show(&format!("copy out of {copy_mib} MiB"), "MiB/s", &series, COPY.0, COPY.1);
    }
    if wanted(CONNECTING.name) {
        let series = rig.measure(rounds, |way| CONNECTING.run(rig.path(), way, span))?;
        heading(CONNECTING.name, "connections/s");
        for (name, series) in NAMES.iter().zip(&series) {
            line(name, series);
        }
        let [direct, pgbouncer, straight, through] = &series;
        let target = Target::AtLeast(CONNECTING_TARGET);
        verdict("ours, straight to the agent, by direct", straight.ratio(direct), "", target);
        verdict("ours, proxy + tunnel + agent, by direct", through.ratio(direct), "", target);
        println!("pgbouncer by direct {:.3}", pgbouncer.ratio(direct));
    }
    Ok(())
}
