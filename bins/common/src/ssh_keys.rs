//! The SSH host key of a process, kept in step with its membership.

use std::sync::Arc;

use access_agent::Membership;
use access_client::Credentials;
use access_ssh::HostKeys;
use tracing::warn;

use crate::exit::Exit;

/// The SSH half of a host's certificates, for an SSH server. Every renewal is shown to clients
/// from then on, for as long as the returned value is used in the runtime that it was made in.
///
/// # Errors
/// [`Exit`] when the certificate is none for the key.
pub fn ssh_host_keys(membership: &Membership) -> Result<HostKeys, Exit> {
    let mut credentials = membership.credentials();
    let current = Arc::clone(&credentials.borrow_and_update());
    let keys = HostKeys::new(current.keys.ssh.clone(), current.ssh_certificate.clone())
        .map_err(Exit::failed)?;
    let shown = keys.clone();
    // Ends with the membership, whose sender it waits for.
    tokio::spawn(async move {
        while credentials.changed().await.is_ok() {
            let current: Arc<Credentials> = Arc::clone(&credentials.borrow_and_update());
            let (key, certificate) = (current.keys.ssh.clone(), current.ssh_certificate.clone());
            if let Err(err) = shown.replace(key, certificate) {
                warn!("the renewed SSH host certificate cannot be used: {err}");
            }
        }
    });
    Ok(keys)
}
