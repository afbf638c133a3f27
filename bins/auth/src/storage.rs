//! From the `storage` section to an open service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use access_auth::{AuthService, Options, Storage, StoreClock, Upkeep};
use access_backend::{Memory, MemoryOptions, Sqlite, SqliteOptions};
use access_backend_sql::{Engine, Retention, Sql, SqlOptions};
use access_core::ClusterName;
use access_core::time::Clock;
use access_daemon::config::StorageType;
use access_daemon::{Config, Exit};
use access_host::SystemClock;

/// The database's file within the data directory.
pub const DATABASE: &str = "access.db";

/// The local socket within the data directory: who may open it is the host's administrator.
pub const SOCKET: &str = "auth.sock";

/// Opens the store that the configuration names, and the service on it.
///
/// # Errors
/// [`Exit`] with what is wrong and what to do.
pub async fn open_service(config: &Config, data_dir: &Path) -> Result<AuthService, Exit> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = service_options(config, data_dir, Arc::clone(&clock))?;
    if config.access.storage.engine == StorageType::Sqlite {
        refuse_a_lost_store(data_dir)?;
    }
    let storage = StoreAt::of(config, data_dir, clock)?.open().await.map_err(unopened)?;
    AuthService::open(storage, options).await.map_err(Exit::failed)
}

/// What is said of a store that cannot be opened.
pub fn unopened(error: access_backend::Error) -> Exit {
    match error {
        // It has been waited for.
        access_backend::Error::Unavailable { detail } if detail.contains("postgres://") => {
            Exit::failed(format!(
                "storage.conn_string: {detail}; check host and port, and that the database runs \
                 and can be reached from here"
            ))
        }
        other => Exit::failed(other),
    }
}

/// The service's settings.
///
/// # Errors
/// [`Exit`] when a field holds what it cannot.
pub fn service_options(
    config: &Config,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Options, Exit> {
    let mut options = Options::new(data_dir, clock);
    let keep_events = config.access.storage.audit_retention.0;
    options.upkeep = Some(Upkeep { keep_events, ..Upkeep::default() });
    if let Some(name) = &config.auth_service.cluster_name {
        options.cluster_name = Some(ClusterName::new(name).map_err(Exit::usage)?);
    }
    if let Some(place) = &config.access.storage.recordings {
        // A plain folder is meant by a path; everything else is a URL.
        let url = if place.contains("://") {
            place.clone()
        } else {
            let folder = std::path::absolute(place).map_err(Exit::usage)?;
            format!("file://{}", folder.display())
        };
        options.recordings = Some(access_auth::recordings_at(&url).map_err(Exit::usage)?);
    }
    if let Some(proxies) = &config.proxy_service.public_addr {
        options.proxies = proxies.as_slice().to_vec();
    }
    Ok(options)
}

/// A store that a configuration names, before it is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StoreAt {
    /// A file.
    Sqlite(SqliteOptions),
    /// Nothing that lasts.
    Memory(MemoryOptions),
    /// A database.
    Sql(Box<SqlOptions>),
}

impl StoreAt {
    /// The one that a configuration names.
    ///
    /// # Errors
    /// [`Exit`] with the setting that is wrong.
    pub fn of(config: &Config, data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, Exit> {
        let clock = Arc::new(StoreClock(clock));
        let storage = &config.access.storage;
        let event_ttl = storage.audit_retention.0;
        let engine = match storage.engine {
            StorageType::Sqlite => {
                let mut options = SqliteOptions::new(data_dir.join(DATABASE));
                (options.clock, options.event_ttl) = (clock, event_ttl);
                return Ok(Self::Sqlite(options));
            }
            StorageType::Memory => {
                let options = MemoryOptions { clock, ..MemoryOptions::default() };
                return Ok(Self::Memory(options));
            }
            StorageType::Cockroachdb => Engine::CockroachDb,
            StorageType::Postgres => Engine::Postgres,
        };
        let Some(conn_string) = &storage.conn_string else {
            return Err(Exit::usage(format!(
                "storage.conn_string: type {engine} needs it: postgres://USER@HOST:PORT/DATABASE"
            )));
        };
        let mut options = SqlOptions::new(engine, conn_string).map_err(Exit::usage)?;
        options.clock = clock;
        options.event_retention = event_ttl.map_or(Retention::Forever, Retention::For);
        if let Some(other) = &storage.change_feed_conn_string {
            options.feed_conn = Some(other.parse().map_err(|error| {
                let error = format!("{error}");
                let text = error.replace("storage.conn_string", "storage.change_feed_conn_string");
                Exit::usage(text)
            })?);
        }
        if let Some(cron) = &storage.ttl_job_cron {
            options.ttl_job_cron.clone_from(cron);
        }
        Ok(Self::Sql(Box::new(options)))
    }

    /// Opens it.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn open(self) -> Result<Storage, access_backend::Error> {
        Ok(match self {
            Self::Sqlite(options) => Storage::from(Arc::new(Sqlite::open(options).await?)),
            Self::Memory(options) => Storage::from(Arc::new(Memory::new(options))),
            Self::Sql(options) => Storage::from(Arc::new(Sql::open(*options).await?)),
        })
    }

    /// What people call it, without secrets.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(options) => {
                let path: PathBuf = options.path.canonicalize().unwrap_or(options.path.clone());
                format!("sqlite:{}", path.display())
            }
            Self::Memory(_) => "memory".into(),
            Self::Sql(options) => match options.engine {
                Engine::CockroachDb => {
                    options.conn.to_string().replacen("postgres:", "cockroachdb:", 1)
                }
                Engine::Postgres => options.conn.to_string(),
            },
        }
    }
}

/// Refuses to make a cluster where there was one: with a store that is empty or gone, beside a log
/// that tells of a cluster, a new one would lock everybody of the old one out.
fn refuse_a_lost_store(data_dir: &Path) -> Result<(), Exit> {
    let path = data_dir.join(DATABASE);
    let stored = std::fs::metadata(&path).map(|file| file.len()).unwrap_or(0);
    let entries = std::fs::read_dir(data_dir.join("log")).into_iter().flatten();
    let told = entries.flatten().any(|file| file.metadata().is_ok_and(|file| file.len() > 0));
    if stored > 0 || !told {
        return Ok(());
    }
    Err(Exit::failed(format!(
        "{} is empty or gone, but {} tells of a cluster: put the store back from the last backup, \
         or use another data directory for a new cluster",
        path.display(),
        data_dir.join("log").display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_lost_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        refuse_a_lost_store(dir.path()).unwrap();
        std::fs::write(dir.path().join(DATABASE), b"").unwrap();
        std::fs::create_dir(dir.path().join("log")).unwrap();
        std::fs::write(dir.path().join("log/events-2026-01-01.jsonl"), b"").unwrap();
        // A first start that was cut off.
        refuse_a_lost_store(dir.path()).unwrap();
        std::fs::write(dir.path().join("log/events-2026-01-02.jsonl"), b"{}\n").unwrap();
        let refused = refuse_a_lost_store(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("access.db is empty or gone"), "{refused}");
        std::fs::write(dir.path().join(DATABASE), b"SQLite format 3").unwrap();
        refuse_a_lost_store(dir.path()).unwrap();
    }
}
