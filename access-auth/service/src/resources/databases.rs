//! What is demanded of a database's document.

use access_client::types::{DbDocument, DbSpec, Health};
use access_core::ResourceRef;

use crate::caller::Call;
use crate::error::{Error, Result};
use crate::service::AuthService;

impl AuthService {
    /// A database is told of by the agent that serves it; whoever else writes it must leave it
    /// with its owner.
    pub(super) async fn prepare_db(&self, call: &Call, mut db: DbDocument) -> Result<DbDocument> {
        check(&db)?;
        let resource: ResourceRef = db.spec.resource(&db.metadata)?.id;
        if self.owner_of(&resource).await?.as_ref() != Some(&db.spec.host) {
            return Err(Error::Precondition(format!(
                "spec.host: {resource} does not belong to host {}: it has to join with a token \
                 first",
                db.spec.host
            )));
        }
        if call.host().is_some() {
            db.metadata.expires = Some(self.heartbeat(db.metadata.expires));
        }
        // Those of the join token count, whatever the host says itself.
        db.metadata.labels.extend(self.host_record(&db.spec.host).await?.labels);
        if db.metadata.labels.len() > 256 {
            return Err(Error::Invalid("metadata.labels: 256 at most".into()));
        }
        Ok(db)
    }
}

fn check(db: &DbDocument) -> Result<()> {
    let DbSpec { protocol: _, uri, description, admin_user: _, host: _, hostname, version, health } =
        &db.spec;
    let bounds = [
        ("uri", uri, DbSpec::MAX_URI),
        ("description", description, DbSpec::MAX_DESCRIPTION),
        ("hostname", hostname, 256),
        ("version", version, 256),
        ("health.message", &health.message, Health::MAX_MESSAGE),
    ];
    for (field, text, most) in bounds {
        if text.len() > most {
            return Err(Error::Invalid(format!("spec.{field}: {most} bytes at most")));
        }
        // It is shown in terminals.
        if text.chars().any(char::is_control) {
            return Err(Error::Invalid(format!("spec.{field}: it has a control character")));
        }
    }
    if uri.is_empty() {
        return Err(Error::Invalid("spec.uri: where the server is, HOST:PORT, is missing".into()));
    }
    Ok(())
}
