//! Moving the cluster to another store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access_backend::migrate::{Identity, MigrateOptions, Migration, Pass, Place, undo};
use access_backend::{Clock, Key, Prefix, Sqlite, SqliteOptions, SystemClock};
use access_backend_sql::{Engine, Retention, Sql, SqlOptions};
use access_daemon::{Config, Exit, ExitCode, note, print};
use auth_daemon::StoreAt;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cli::MigrateArgs;
use crate::cluster::clock;

/// How often it is looked whether the Auth Service has been stopped, and copied what is new.
const PAUSE: Duration = Duration::from_secs(1);
/// How often something is said of a long copy.
const SAY: Duration = Duration::from_secs(5);
/// A repeated pass looks at events from so long before the last one on: those of the clocks of others among them.
const SLACK: Duration = Duration::from_secs(3600);

pub(crate) async fn migrate(args: MigrateArgs) -> Result<(), Exit> {
    let from = store("--from", args.from.as_deref(), args.from_config.as_deref())?;
    if args.undo {
        return back(&from).await;
    }
    let to = store("--to", args.to.as_deref(), args.to_config.as_deref())?;
    let deadline = Instant::now() + args.wait.0;
    let target = Opened::own(&to).await?;
    let done = run(&from, &target, deadline, args.copy_only).await;
    let closed = target.close().await;
    done.and(closed)
}

async fn run(from: &StoreAt, to: &Opened, deadline: Instant, copy_only: bool) -> Result<(), Exit> {
    let mut source = Opened::to_read(from).await?;
    let migration =
        Migration::begin(&source.place, &to.place, options()?).await.map_err(Exit::failed)?;
    let what = if migration.resumed() { "going on with" } else { "copying" };
    note(&format!("{what} {} to {}", source.place.name, to.place.name));
    let mut since = SystemClock.now().minus(SLACK);
    said(&copy(&migration, &source.place, None).await?);
    if copy_only {
        note("the copy is not used yet: run this again without --copy-only to finish it");
        return source.close().await;
    }
    let mut asked = false;
    let own = loop {
        match source.hold(from).await? {
            Held::Own(own) => break own,
            Held::Shared(by) => {
                if !asked {
                    asked = true;
                    note(&format!(
                        "now stop the Auth Service; this goes on by itself when it has stopped. In use \
                         by {by}"
                    ));
                }
                if Instant::now() > deadline {
                    return Err(Exit::new(
                        ExitCode::Unreachable,
                        format!(
                            "the store is still in use by {by}: stop every Auth Service on it, and \
                             repeat this"
                        ),
                    ));
                }
                sleep(PAUSE).await;
                let now = SystemClock.now().minus(SLACK);
                copy(&migration, &source.place, Some(since)).await?;
                since = now;
            }
        }
    };
    // From here on nobody begins to use it; those who did in between are waited for.
    migration.close(&own.place).await.map_err(Exit::failed)?;
    while let Some(by) = own.others().await? {
        if Instant::now() > deadline {
            return Err(Exit::new(
                ExitCode::Unreachable,
                format!("the store is in use again by {by}: stop that, and repeat this"),
            ));
        }
        sleep(PAUSE).await;
    }
    let moved = migration.finish(&own.place).await.map_err(Exit::failed);
    let closed = own.close().await;
    let moved = moved?;
    closed?;
    print(&format!(
        "{} has been moved to {}\n  rows:   {}\n  events: {}\nthe same on both sides. Now start the \
         Auth Service with the new storage section, and the data directory that it had.\n",
        from.name(),
        to.place.name,
        moved.rows,
        moved.events
    ))
}

async fn back(from: &StoreAt) -> Result<(), Exit> {
    let own = Opened::own(from).await?;
    let undone = undo(&own.place).await.map_err(Exit::failed);
    let closed = own.close().await;
    let to = undone?;
    closed?;
    print(&format!("{} may be used again. Do not use {to} any more: empty it.\n", from.name()))
}

/// One pass, of which something is said when it is long.
async fn copy(
    migration: &Migration,
    from: &Place,
    since: Option<access_backend::UnixMillis>,
) -> Result<Pass, Exit> {
    let mut pass = std::pin::pin!(migration.copy(from, since));
    loop {
        match timeout_at(Instant::now() + SAY, &mut pass).await {
            Ok(done) => return done.map_err(Exit::failed),
            Err(_) => {
                let (rows, events) = migration.progress().now();
                note(&format!("{rows} rows and {events} events so far"));
            }
        }
    }
}

fn said(pass: &Pass) {
    note(&format!("compared {pass}"));
}

/// What the moving has to know of a cluster.
fn options() -> Result<MigrateOptions, Exit> {
    let key = Key::from_segments(["cluster", "cluster"]).map_err(Exit::failed)?;
    let read = |value: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(value).ok()?;
        let spec = value.get("spec")?;
        let text = |name: &str| spec.get(name).and_then(serde_json::Value::as_str);
        Some(format!("{} {}", text("cluster_name")?, text("cluster_id")?))
    };
    let mut options = MigrateOptions::new(Identity { key, read });
    options.writers = Some(Prefix::from_segments(["writers"]).map_err(Exit::failed)?);
    Ok(options)
}

/// The store that a flag or a configuration names.
fn store(flag: &str, text: Option<&str>, file: Option<&Path>) -> Result<StoreAt, Exit> {
    let mut at = match (text, file) {
        (_, Some(file)) => {
            let config = Config::load(file).map_err(Exit::usage)?;
            StoreAt::of(&config, &config.data_dir(), clock())?
        }
        (Some(text), None) => parse(text).map_err(|why| Exit::usage(format!("{flag}: {why}")))?,
        (None, None) => return Err(Exit::usage(format!("{flag} or {flag}-config is needed"))),
    };
    match &mut at {
        StoreAt::Memory(_) => return Err(Exit::usage(format!("{flag}: memory is of one process"))),
        StoreAt::Sql(options) => {
            options.event_retention = Retention::AsItIs;
            let name = name_of_connections();
            options.conn = options.conn.clone().named(&name);
            options.feed_conn = options.feed_conn.take().map(|conn| conn.named(&name));
        }
        _ => {}
    }
    Ok(at)
}

/// What the connections of this process are known by, among those of others.
fn name_of_connections() -> String {
    format!("accessctl-migrate-{}-{}", std::process::id(), SystemClock.now())
}

fn parse(text: &str) -> Result<StoreAt, String> {
    let (scheme, rest) = text.split_once(':').ok_or_else(|| {
        format!("{text:?} is no store: sqlite:PATH, postgres://… or cockroachdb://…")
    })?;
    let engine = match scheme {
        "sqlite" if rest.trim_start_matches('/').is_empty() => {
            return Err("sqlite: takes the path of a file".into());
        }
        "sqlite" => return Ok(StoreAt::Sqlite(SqliteOptions::new(rest))),
        "postgres" | "postgresql" => Engine::Postgres,
        "cockroachdb" => Engine::CockroachDb,
        other => {
            return Err(format!(
                "{other:?} is no engine: sqlite:PATH, postgres://… or cockroachdb://…"
            ));
        }
    };
    let options =
        SqlOptions::new(engine, &format!("postgres:{rest}")).map_err(|err| err.to_string())?;
    if options.conn.has_password() {
        return Err(
            "a password in an argument is seen by every process of this machine: write the \
                    connection string into a configuration file, and name that by --from-config or \
                    --to-config"
                .into(),
        );
    }
    Ok(StoreAt::Sql(Box::new(options)))
}

/// A store that is open.
struct Opened {
    place: Place,
    sql: Option<Arc<Sql>>,
    /// This process may write to it.
    writable: bool,
}

enum Held {
    /// Nobody else uses it now.
    Own(Opened),
    Shared(String),
}

impl Opened {
    /// Opens it for oneself, and makes it where there is none.
    async fn own(at: &StoreAt) -> Result<Self, Exit> {
        let (place, sql) = match at {
            StoreAt::Sql(options) => {
                let sql = Arc::new(Sql::open((**options).clone()).await.map_err(Exit::failed)?);
                (Place::new(Arc::clone(&sql), at.name()), Some(sql))
            }
            StoreAt::Sqlite(options) => {
                let own = Sqlite::open(options.clone()).await.map_err(Exit::failed)?;
                (Place::new(Arc::new(own), at.name()), None)
            }
            _ => return Err(Exit::usage("such a store cannot be moved")),
        };
        Ok(Self { place, sql, writable: true })
    }

    /// Opens it beside those who use it. Nothing is made.
    async fn to_read(at: &StoreAt) -> Result<Self, Exit> {
        let StoreAt::Sqlite(options) = at else { return Self::own(at).await };
        let file = Sqlite::open_to_read(options.clone()).await.map_err(Exit::failed)?;
        Ok(Self { place: Place::new(Arc::new(file), at.name()), sql: None, writable: false })
    }

    /// Who else uses it.
    async fn others(&self) -> Result<Option<String>, Exit> {
        let Some(sql) = &self.sql else { return Ok(None) };
        let mut others = sql.others().await.map_err(Exit::failed)?;
        others.sort();
        others.dedup();
        Ok((!others.is_empty()).then(|| others.join(", ")))
    }

    /// Takes it, if nobody else uses it.
    async fn hold(&mut self, at: &StoreAt) -> Result<Held, Exit> {
        if self.writable {
            if let Some(by) = self.others().await? {
                return Ok(Held::Shared(by));
            }
            let Self { place, sql, writable } = self;
            let own = Self { place: place.clone(), sql: sql.clone(), writable: *writable };
            return Ok(Held::Own(own));
        }
        let StoreAt::Sqlite(options) = at else {
            return Err(Exit::failed("the store was opened to be read"));
        };
        match Sqlite::open(options.clone()).await {
            Ok(own) => {
                // The lock is ours: the other handle is of no more use.
                self.place.backend.close().await.map_err(Exit::failed)?;
                let place = Place::new(Arc::new(own), at.name());
                Ok(Held::Own(Self { place, sql: None, writable: true }))
            }
            Err(access_backend::Error::Busy { .. }) => {
                Ok(Held::Shared("the process that holds the file".into()))
            }
            Err(err) => Err(Exit::failed(err)),
        }
    }

    async fn close(self) -> Result<(), Exit> {
        self.place.backend.close().await.map_err(Exit::failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_by_their_engine() {
        let name = |text: &str| parse(text).unwrap().name();
        assert_eq!(name("sqlite:/nowhere/access.db"), "sqlite:/nowhere/access.db");
        assert_eq!(name("postgres://u@h:1/d?sslmode=disable"), "postgres://u@h:1/d");
        assert_eq!(name("cockroachdb://u@h:1/d"), "cockroachdb://u@h:1/d");
        for (bad, why) in [
            ("/var/lib/access.db", "is no store"),
            ("sqlite:", "takes the path"),
            ("mysql://h/d", "is no engine"),
            ("postgres://u:secret@h/d", "--to-config"),
            ("postgres://u@h/d?sslmod=disable", "sslmode"),
        ] {
            let told = parse(bad).unwrap_err();
            assert!(told.contains(why), "{bad}: {told}");
            assert!(!told.contains("secret"), "{told}");
        }
        assert!(store("--to", Some("sqlite:/x"), None).is_ok());
    }
}
