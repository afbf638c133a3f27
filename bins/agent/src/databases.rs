//! Databases: the registration of one protocol.

use std::sync::Arc;

use access_agent::{DatabaseCredentials, Host};
use access_client::types::{DbDocument, DbProtocol, DbSpec};
use access_core::gate::Gate;
use access_core::{Resource, ResourceKind, ResourceName, ResourceRef};
use access_daemon::Exit;
use access_daemon::config::{self, DatabaseProtocol, DbSection, TlsNegotiation};
use access_host::HostReach;
use access_postgres::{
    self as postgres, Databases, PostgresError, PostgresServer, TargetAuth, TargetTls,
};

use crate::health::Shown;
use crate::observed::Observed;

/// The databases that a configuration names.
pub(crate) fn resources(section: &DbSection) -> Result<Vec<ResourceRef>, Exit> {
    let mut resources = Vec::new();
    for database in &section.databases {
        let name = ResourceName::new(&database.name)
            .map_err(|err| Exit::usage(format!("db_service.databases.name: {err}")))?;
        let resource = ResourceRef { kind: ResourceKind::Database, name };
        if resources.contains(&resource) {
            return Err(Exit::usage(format!(
                "db_service.databases: {} is there twice",
                database.name
            )));
        }
        resources.push(resource);
    }
    Ok(resources)
}

/// What stands in the cluster about a database.
pub(crate) fn document(host: &Host, database: &config::Database) -> Result<DbDocument, Exit> {
    let membership = host.membership();
    let spoken = match protocol(database)? {
        postgres::DatabaseProtocol::Postgres => DbProtocol::Postgres,
        postgres::DatabaseProtocol::CockroachDb => DbProtocol::Cockroachdb,
    };
    let mut spec = DbSpec::new(spoken, &database.uri, membership.host_id().clone());
    spec.description.clone_from(&database.description);
    spec.admin_user.clone_from(&database.admin_user);
    spec.hostname = membership.nodename().to_owned();
    spec.version = env!("CARGO_PKG_VERSION").to_owned();
    let mut document = DbDocument::new(&database.name, spec);
    document.metadata.labels = database.static_labels.clone();
    Ok(document)
}

/// What serves databases, and what it is made of.
pub(crate) struct Serving {
    pub(crate) server: PostgresServer,
    pub(crate) databases: Databases,
    pub(crate) reach: HostReach,
    pub(crate) credentials: DatabaseCredentials,
}

/// The server of databases that speak PostgreSQL's protocol. Those of the configuration are put
/// into `served`.
pub(crate) async fn server(
    host: &Host,
    gate: Arc<Gate>,
    section: &DbSection,
    served: &Databases,
    shown: Shown,
) -> Result<Serving, Exit> {
    let credentials = host.database_credentials();
    let reach = HostReach::builder().build().map_err(Exit::failed)?;
    let mut databases = Vec::new();
    for (database, id) in section.databases.iter().zip(resources(section)?) {
        let addresses = database.uri.split(',').map(str::trim);
        reach
            .set_route(&id, addresses)
            .map_err(|err| Exit::usage(format!("db_service.databases.uri: {err}")))?;
        let refused = |field: &'static str| {
            move |err: PostgresError| Exit::usage(format!("db_service.databases.tls{field}: {err}"))
        };
        let tls = match (mode(database.tls.mode), &database.tls.ca_cert_file) {
            (None, _) => None,
            (Some(postgres::TlsMode::Require), _) => {
                Some(TargetTls::new(postgres::TlsMode::Require, []).map_err(refused(""))?)
            }
            // Read again for each session.
            (Some(mode), Some(path)) => {
                Some(TargetTls::following(mode, path).map_err(refused(".ca_cert_file"))?)
            }
            (Some(mode), None) => {
                let roots = credentials.server_roots().await.map_err(Exit::failed)?;
                Some(TargetTls::new(mode, roots.to_vec()).map_err(refused(""))?)
            }
        };
        let tls = tls.map(|tls| {
            let direct = database.tls.negotiation == TlsNegotiation::Direct;
            target_tls(tls, database.tls.server_name.as_deref(), direct).map_err(refused(""))
        });
        let tls = tls.transpose()?;
        let auth = match (&database.password_file, &tls) {
            (Some(path), _) => TargetAuth::password_file(path),
            (None, Some(_)) => TargetAuth::Certificate,
            (None, None) => TargetAuth::Nothing,
        };
        if database.admin_user.is_some() && database.password_file.is_some() {
            return Err(Exit::usage(format!(
                "db_service.databases: {}: admin_user and password_file exclude each other: \
                 accounts that are made have no password",
                database.name
            )));
        }
        let labels = database.static_labels.clone();
        let mut resource = Resource::new(id, labels, host.membership().host_id().clone());
        resource.admin_user = database.admin_user.as_ref().map(|admin| admin.name.clone());
        let admin_database = database.admin_user.as_ref();
        databases.push(postgres::Database {
            resource,
            protocol: protocol(database)?,
            tls,
            auth,
            admin_database: admin_database.and_then(|admin| admin.default_database.clone()),
        });
    }
    served.replace(databases);
    let server = PostgresServer::builder()
        .gate(gate)
        .reach(Arc::new(reach.clone()))
        .audit(host.audit())
        .recorder(host.recorder())
        .credentials(Arc::new(credentials.clone()))
        .clock(host.membership().clock())
        .databases(served.clone())
        .observer(Arc::new(Observed { shown, clock: host.membership().clock() }))
        .build()
        .map_err(Exit::failed)?;
    Ok(Serving { server, databases: served.clone(), reach, credentials })
}

fn protocol(database: &config::Database) -> Result<postgres::DatabaseProtocol, Exit> {
    match database.protocol {
        DatabaseProtocol::Postgres => Ok(postgres::DatabaseProtocol::Postgres),
        DatabaseProtocol::Cockroachdb => Ok(postgres::DatabaseProtocol::CockroachDb),
        DatabaseProtocol::Mysql | DatabaseProtocol::Mongodb => Err(Exit::usage(format!(
            "db_service.databases: {}: this version serves postgres and cockroachdb only",
            database.name
        ))),
    }
}

/// The mode of TLS to a database; none for a database that is spoken to in clear.
pub(crate) fn mode(mode: config::TlsMode) -> Option<postgres::TlsMode> {
    match mode {
        config::TlsMode::VerifyFull => Some(postgres::TlsMode::VerifyFull),
        config::TlsMode::VerifyCa => Some(postgres::TlsMode::VerifyCa),
        config::TlsMode::Require => Some(postgres::TlsMode::Require),
        config::TlsMode::Disable => None,
    }
}

/// TLS to a database, which may be held against another name and begin in another way.
pub(crate) fn target_tls(
    mut tls: TargetTls,
    server_name: Option<&str>,
    direct: bool,
) -> Result<TargetTls, PostgresError> {
    if let Some(name) = server_name {
        tls = tls.server_name(name)?;
    }
    Ok(tls.direct(direct))
}
