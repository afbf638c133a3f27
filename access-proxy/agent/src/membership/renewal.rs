//! Renewal: well before the certificates expire, with new keys each time.

use std::time::Duration;

use access_client::{ClientError, Credentials, KeySet};
use access_core::time::{Timestamp, Validity};
use tracing::{info, warn};

use super::state::Pending;
use super::{Membership, copy_keys};
use crate::error::AgentError;
use crate::pause::{Pause, fraction};

impl Membership {
    /// Renews the certificates once, with new keys, and puts them into use.
    ///
    /// # Errors
    /// What the call came to; the old certificates stay in use.
    pub async fn renew(&self) -> Result<(), AgentError> {
        let mut unsaved = self.renewing.lock().await;
        let claims = self.options.claims();
        if *unsaved {
            // Auth counts renewals: going on from certificates that are not on the disk would
            // leave a host that cannot come back after a crash.
            let current = self.current.borrow().clone();
            self.state.save(&current, &claims)?;
            *unsaved = false;
        }
        let pending = match self.state.pending()? {
            Some(pending) if pending.host == self.host => pending,
            _ => {
                let pending = Pending { host: self.host.clone(), keys: KeySet::generate()? };
                self.state.save_pending(&pending)?;
                pending
            }
        };
        let keys = copy_keys(&pending.keys)?;
        let renewed = self.client().renew_host(claims.clone(), keys).await?;
        self.check_renewed(&renewed)?;
        if let Err(err) = self.state.save(&renewed, &claims) {
            warn!("the renewed certificates cannot be written, they are used unwritten: {err}");
            *unsaved = true;
        }
        let until = renewed.validity.not_after();
        self.adopt(renewed)?;
        info!(%until, "the certificates were renewed");
        Ok(())
    }

    /// Renews whenever it is time, for as long as it is polled.
    ///
    /// # Errors
    /// [`AgentError::Expired`] when the certificates expired although it was tried, and no token
    /// helps.
    pub async fn keep_renewed(&self) -> Result<(), AgentError> {
        let mut pause = Pause::for_calls();
        loop {
            let validity = self.current.borrow().validity;
            let due = if self.claims_are_current() { renew_at(validity) } else { self.clock.now() };
            self.clock.sleep_until(due).await;
            let now = self.clock.now();
            let renewed = if now >= validity.not_after() {
                self.come_back(validity.not_after()).await
            } else {
                self.renew().await
            };
            match renewed {
                Ok(()) => pause.reset(),
                Err(err @ AgentError::Expired(_)) => return Err(err),
                Err(err) => {
                    warn!(until = %validity.not_after(), "the certificates were not renewed: {err}");
                    let wait = pause.after_failure();
                    self.clock.sleep_until(self.clock.now().plus(wait)).await;
                }
            }
        }
    }

    /// Joins again after the certificates have expired.
    async fn come_back(&self, expired: Timestamp) -> Result<(), AgentError> {
        if self.options.token.is_none() {
            return Err(AgentError::Expired(expired));
        }
        let _one = self.renewing.lock().await;
        match self.rejoin().await {
            Ok(credentials) => {
                self.check_renewed(&credentials)?;
                self.adopt(credentials)
            }
            // The token that was good for the first join seldom is for a second.
            Err(AgentError::TokenRefused(why)) => {
                warn!("the join token is not good any more: {why}");
                Err(AgentError::Expired(expired))
            }
            Err(err) => Err(err),
        }
    }

    fn check_renewed(&self, renewed: &Credentials) -> Result<(), AgentError> {
        if renewed.host_id.as_ref() != Some(&self.host) || renewed.cluster != self.cluster {
            let why = "the renewed certificates are another host's";
            return Err(ClientError::Malformed(why.into()).into());
        }
        renewed.check(self.clock.now())?;
        Ok(())
    }
}

/// When to renew: after two thirds of the certificate's life, up to a twentieth of it earlier, so
/// that hosts that joined together do not renew together.
fn renew_at(validity: Validity) -> Timestamp {
    let life = validity.not_after().since(validity.not_before());
    let due = validity.not_before().plus(life.mul_f64(2.0 / 3.0));
    due.minus(Duration::mul_f64(life / 20, fraction()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_about_two_thirds() {
        let hour = Duration::from_secs(3600);
        let start = Timestamp::from_secs(1_000_000);
        let validity = Validity::between(start, start.plus(hour * 20)).unwrap();
        for _ in 0..100 {
            let after = renew_at(validity).since(start);
            assert!(after > hour * 12 && after < hour * 14, "{after:?}");
        }
    }
}
