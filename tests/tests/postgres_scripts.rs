//! Scripts for `psql`, in the manner of PostgreSQL's own regression tests: what it says through the
//! cluster is, byte for byte, what it says to the database itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use access_e2e::{DbSite, without};

/// The longest that a script may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a command came to: its exit code, and what it said on both of its outputs, in order.
struct Said {
    code: Option<i32>,
    text: Vec<u8>,
}

/// Runs `psql` over a script, as PostgreSQL's own tests do.
fn play(mut psql: Command, script: &Path, folder: &Path) -> Said {
    let path = folder.join("said");
    let out = File::create(&path).unwrap();
    psql.arg("-v").arg(format!("tmp={}", folder.display()));
    psql.stdin(File::open(script).unwrap()).stdout(out.try_clone().unwrap()).stderr(out);
    let mut child = psql.spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            let said = fs::read(&path).unwrap();
            let tail = &said[said.len().saturating_sub(2000)..];
            panic!("{} does not end: {}", script.display(), String::from_utf8_lossy(tail));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Said { code, text: masked(&fs::read(&path).unwrap()) }
}

/// What the server numbers anew for each of its processes: their ids in notifications, and the
/// schemas of temporary tables.
fn masked(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let mark = [&b"server process with PID "[..], b"pg_temp_"];
        let mark = mark.into_iter().find(|mark| rest.starts_with(mark));
        rest = match mark {
            Some(mark) => {
                out.extend_from_slice(mark);
                let after = &rest[mark.len()..];
                let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
                &after[digits..]
            }
            None => {
                out.push(*first);
                after
            }
        };
    }
    out
}

/// The first line in which two texts differ.
fn difference(one: &[u8], other: &[u8]) -> String {
    let mut lines = one.split(|b| *b == b'\n').zip(other.split(|b| *b == b'\n')).enumerate();
    let differs = lines.find(|(_, (one, other))| one != other);
    let shown = |line: &[u8]| String::from_utf8_lossy(&line[..line.len().min(300)]).into_owned();
    match differs {
        Some((at, (one, other))) => {
            format!("line {}: {:?} and {:?}", at + 1, shown(one), shown(other))
        }
        None => format!("{} and {} bytes, one the other's beginning", one.len(), other.len()),
    }
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let mut scripts: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "sql"))
        .collect();
    scripts.sort();
    scripts
}

#[test]
fn scripts_say_the_same_in_every_way() {
    if without("postgresql") {
        return;
    }
    let site = DbSite::start();
    site.add_user("alice", "owner");
    let ways = site.ways("alice", "owner");
    let folder = site.home("alice");
    let scripts = scripts(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sql"));
    assert!(scripts.len() > 10, "{scripts:?}");
    let flags = ["-a", "-q"];
    let mut differing = Vec::new();
    for script in &scripts {
        let name = script.file_stem().unwrap().to_str().unwrap();
        let mut direct = site.pg.direct("psql", "owner", "shop");
        direct.arg("-X").args(flags).stdin(Stdio::null());
        let direct = play(direct, script, &folder);
        assert!(direct.code == Some(0) && direct.text.len() > 1000, "{name}: {:?}", direct.code);
        for way in &ways {
            let said = play(way.psql(&flags), script, &folder);
            if said.code != direct.code || said.text != direct.text {
                let difference = difference(&direct.text, &said.text);
                differing.push(format!("{name}, {}: {:?}, {difference}", way.name, said.code));
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    let sessions = scripts.len() * ways.len();
    let ends = site.cluster.wait_for_events("db.session.end", sessions);
    assert!(
        ends.len() == sessions && ends.iter().all(|end| end["reason"] == "client"),
        "{ends:#?}"
    );
}

/// PostgreSQL's own scripts, one after the other, in a database of their own. What is said in each.
fn play_regression(
    site: &DbSite,
    regress: &Path,
    folder: &Path,
    psql: impl Fn(&[&str]) -> Command,
) -> BTreeMap<String, Vec<u8>> {
    let schedule = fs::read_to_string(regress.join("parallel_schedule")).unwrap();
    let names = schedule.lines().filter_map(|line| line.strip_prefix("test:"));
    site.pg.sql("drop database if exists regression");
    site.pg.sql("create database regression template template0 owner regress");
    let flags = ["-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"];
    let play = |name: &str| {
        let mut psql = psql(&flags);
        psql.env("PG_ABS_SRCDIR", regress).env("PG_ABS_BUILDDIR", folder);
        psql.env("PG_LIBDIR", regress).env("PG_DLSUFFIX", ".so").env("LC_MESSAGES", "C");
        psql.env("PGTZ", "America/Los_Angeles").env("PGDATESTYLE", "Postgres, MDY");
        psql.env("PGOPTIONS", "-c intervalstyle=postgres_verbose");
        let said = play(psql, &regress.join(format!("sql/{name}.sql")), folder);
        (name.to_owned(), said.text)
    };
    names.flat_map(str::split_whitespace).map(play).collect()
}

/// Where PostgreSQL's own tests are: `src/test/regress` of its sources, which no package holds.
/// How to come by them is in this folder's README.
const REGRESS: &str = "ACCESS_TEST_POSTGRES_REGRESS";

#[test]
#[allow(clippy::print_stderr, reason = "what was compared is worth a line")]
fn postgresqls_own_scripts_say_the_same() {
    let Some(regress) = std::env::var_os(REGRESS).map(PathBuf::from) else {
        eprintln!("SKIPPED: PostgreSQL's own scripts are not here; {REGRESS} says where they are");
        return;
    };
    let site = DbSite::start();
    site.pg.sql("create role regress superuser login");
    site.add_user_with("alice", "access,auditor", "*", "*");
    let way = site.straight("alice", "regress");
    let conninfo = way.conninfo().replace("dbname=shop", "dbname=regression");
    // The server reads and writes here as well.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(folder.path().join("results")).unwrap();
    fs::set_permissions(folder.path().join("results"), fs::Permissions::from_mode(0o777)).unwrap();

    let direct = || {
        play_regression(&site, &regress, folder.path(), |flags| {
            let mut psql = site.pg.direct("psql", "regress", "regression");
            psql.arg("-X").args(flags);
            psql
        })
    };
    let before = direct();
    let through = play_regression(&site, &regress, folder.path(), |flags| {
        let mut psql = Command::new("psql");
        psql.arg("-X").args(flags).arg(&conninfo);
        psql
    });
    let after = direct();
    let (mut compared, mut differing, mut unstable) = (0, Vec::new(), Vec::new());
    for (name, said) in &before {
        if after[name] != *said {
            unstable.push(name.as_str());
        } else if through[name] != *said {
            differing.push(format!("{name}: {}", difference(said, &through[name])));
        } else {
            compared += 1;
        }
    }
    let bytes: usize = through.values().map(Vec::len).sum();
    eprintln!(
        "{compared} scripts say the same; {bytes} bytes in all; by themselves differ {unstable:?}"
    );
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert!(compared > 150, "{compared} only");
}
