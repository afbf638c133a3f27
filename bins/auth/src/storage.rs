//! From the `storage` section to an open service.

use std::path::Path;
use std::sync::Arc;

use access_auth::{AuthService, Options, Storage, StoreClock};
use access_backend::{Memory, MemoryOptions, Sqlite, SqliteOptions};
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
    let storage = open_storage(config, data_dir, clock).await?;
    AuthService::open(storage, options).await.map_err(Exit::failed)
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

async fn open_storage(
    config: &Config,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Storage, Exit> {
    let clock = Arc::new(StoreClock(clock));
    match config.access.storage.engine {
        StorageType::Sqlite => {
            let mut options = SqliteOptions::new(data_dir.join(DATABASE));
            options.clock = clock;
            let engine = Sqlite::open(options).await.map_err(Exit::failed)?;
            Ok(Storage::from(Arc::new(engine)))
        }
        StorageType::Memory => {
            let options = MemoryOptions { clock, ..MemoryOptions::default() };
            Ok(Storage::from(Arc::new(Memory::new(options))))
        }
        StorageType::Cockroachdb | StorageType::Postgres => {
            Err(Exit::usage("storage.type: this version keeps its state in sqlite or memory only"))
        }
    }
}
