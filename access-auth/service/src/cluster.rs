//! The cluster's first start, and finding it again.
//!
//! Everything that makes a cluster is written in one batch on the condition that there is none
//! yet: of several replicas that start at once, one makes it and the others find it.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use access_backend::{Backend, Batch, Condition, Operation};
use access_ca::{Authority, AuthorityDocument, KeyStore, NewAuthority, SoftwareKeyStore};
use access_client::types::{ClusterConfigDocument, ClusterConfigSpec};
use access_core::identity::AuthorityKind;
use access_core::ids::uuid_text;
use access_core::policy::ClusterSettings;
use access_core::{ClusterName, Timestamp};

use crate::error::{Error, Result};
use crate::live::Authorities;
use crate::options::Options;
use crate::seal::{SealFile, is_other_seal};
use crate::{secrets, store};

/// A cluster that was made or found.
pub(crate) struct Found {
    pub(crate) config: ClusterConfigSpec,
    pub(crate) authorities: Authorities,
    pub(crate) keys: Arc<dyn KeyStore>,
    /// Whether this start made it.
    pub(crate) made: bool,
}

/// Finds the store's cluster, or makes it.
pub(crate) async fn find_or_make(backend: &dyn Backend, options: &Options) -> Result<Found> {
    prepare_dir(&options.data_dir)?;
    access_backend::migrate::check_usable(backend).await?;
    let found = find(backend, options, false).await;
    if let Some(found) = found.map_err(|err| SealFile::of(options).explain(err))? {
        return Ok(found);
    }
    let cluster = options.cluster_name.clone().ok_or_else(|| {
        Error::Setup(
            "the store has no cluster yet: set cluster_name, such as example.com, for the first \
             start"
                .into(),
        )
    })?;
    let seal = SealFile::of(options);
    let (key, ours) = seal.read_or_make()?;
    let batch = make(&cluster, options, &SoftwareKeyStore::new(key))?
        .when(access_backend::migrate::unused()?);
    match backend.batch(batch).await {
        Ok(_) => find(backend, options, true).await?.ok_or_else(vanished),
        // Another replica was faster.
        Err(access_backend::Error::ConditionFailed { .. }) => {
            let found = find(backend, options, false).await;
            if ours && matches!(&found, Err(err) if is_other_seal(err)) {
                // It has sealed nothing that was stored. Left there, it would look like the
                // cluster's.
                seal.remove()?;
            }
            found.map_err(|err| seal.explain(err))?.ok_or_else(vanished)
        }
        Err(err) => Err(err.into()),
    }
}

fn vanished() -> Error {
    Error::Setup("the cluster was removed from the store while it was being made".into())
}

async fn find(backend: &dyn Backend, options: &Options, made: bool) -> Result<Option<Found>> {
    let key = store::key(["cluster", ClusterConfigSpec::NAME])?;
    let Some(stored) = store::document::<ClusterConfigSpec>(backend, &key).await? else {
        return Ok(None);
    };
    let config = stored.document.spec;
    if let Some(wanted) = &options.cluster_name
        && *wanted != config.cluster_name
    {
        return Err(Error::Setup(format!(
            "the store holds the cluster {}, not {wanted}: a cluster's name stands in all of its \
             certificates and cannot change. Set cluster_name to {}, or use another store and data \
             directory for a new cluster",
            config.cluster_name, config.cluster_name
        )));
    }
    let keys: Arc<dyn KeyStore> = Arc::new(SoftwareKeyStore::new(SealFile::of(options).read()?));
    let open = async |kind: AuthorityKind| {
        let key = store::key(["authorities", kind.as_str(), config.cluster_name.as_str()])?;
        let row = store::row::<AuthorityDocument>(backend, &key)
            .await?
            .ok_or_else(|| Error::stored(key.as_str(), "it is not there"))?;
        Ok::<_, Error>(Arc::new(Authority::open(&*keys, row.value)?))
    };
    // Those that are always there come first: whose key does not open them must make no others.
    let user = open(AuthorityKind::User).await?;
    let host = open(AuthorityKind::Host).await?;
    complete(backend, &config.cluster_name, &*keys, options.clock.now()).await?;
    let authorities = Authorities {
        user,
        host,
        db: open(AuthorityKind::Db).await?,
        db_client: open(AuthorityKind::DbClient).await?,
    };
    Ok(Some(Found { config, authorities, keys, made }))
}

/// Makes the authorities that a cluster of an earlier version does not have. What proves
/// identities is never made anew: everything hangs on it, and that it is missing is a fault.
async fn complete(
    backend: &dyn Backend,
    cluster: &ClusterName,
    keys: &dyn KeyStore,
    now: Timestamp,
) -> Result<()> {
    for kind in AuthorityKind::ALL.into_iter().filter(|kind| !kind.proves_identities()) {
        let key = store::key(["authorities", kind.as_str(), cluster.as_str()])?;
        if backend.get(&key).await?.is_some() {
            continue;
        }
        let batch = Batch::new()
            .when(Condition::absent(key))
            .then(make_authority(cluster, kind, keys, now)?);
        match backend.batch(batch).await {
            Ok(_) => tracing::info!(%kind, "made an authority that this cluster did not have yet"),
            // Another replica was faster.
            Err(access_backend::Error::ConditionFailed { .. }) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

fn make(cluster: &ClusterName, options: &Options, keys: &dyn KeyStore) -> Result<Batch> {
    let now = options.clock.now();
    let key = store::key(["cluster", ClusterConfigSpec::NAME])?;
    let config = ClusterConfigSpec {
        cluster_name: cluster.clone(),
        cluster_id: uuid_text(secrets::random()?),
        created_at: now,
        settings: ClusterSettings::default(),
        proxies: options.proxies.clone(),
    };
    let document = ClusterConfigDocument::new(ClusterConfigSpec::NAME, config);
    let mut batch = Batch::new()
        .when(Condition::absent(key.clone()))
        .then(Operation::Put(store::new_document(key, &document)?));
    for kind in AuthorityKind::ALL {
        batch = batch.then(make_authority(cluster, kind, keys, now)?);
    }
    for role in access_core::role::presets() {
        let key = store::key(["roles", &role.metadata.name])?;
        batch = batch.then(Operation::Put(store::new_document(key, &role)?));
    }
    Ok(batch)
}

fn make_authority(
    cluster: &ClusterName,
    kind: AuthorityKind,
    keys: &dyn KeyStore,
    now: Timestamp,
) -> Result<Operation> {
    let authority = Authority::create(keys, &NewAuthority::new(cluster.clone(), kind), now)?;
    let key = store::key(["authorities", kind.as_str(), cluster.as_str()])?;
    Ok(Operation::Put(store::new_row(key, authority.document())?))
}

/// The data directory, ours alone.
fn prepare_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|err| Error::file(dir, format!("cannot be made: {err}")))?;
    let metadata = std::fs::metadata(dir).map_err(|err| Error::file(dir, err))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(Error::file(
            dir,
            format!("mode {mode:04o} is open to every user of this machine: run chmod 700 on it"),
        ));
    }
    Ok(())
}
