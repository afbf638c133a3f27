//! Invitations: a new user, or one whose password was reset, sets a password with one, once.

use std::time::Duration;

use access_backend::{Batch, Condition, KeyRange, Operation, Prefix, read_all};
use access_client::proto;
use access_client::types::{InviteDocument, InvitePurpose, InviteSpec, UserDocument};
use access_core::audit::events::{ResetPasswordTokenCreate, UserCreate, UserPasswordChange};
use access_core::audit::{AuditSink, Durability, Text};
use access_core::document::Metadata;
use access_core::role::Span;
use access_core::{Timestamp, UserName};
use zeroize::Zeroizing;

use super::account::{ATTEMPTS, is_past, put};
use super::{Password, TicketHash, password_key, user_key};
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::secrets::Ticket;
use crate::service::AuthService;
use crate::{passwords, store};

/// How long an invitation can be redeemed when nobody says.
const TTL: Duration = Duration::from_secs(3600);
/// The longest that it can be.
const MAX_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long spent and expired tickets are remembered, to tell their holders.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

const NOT_VALID: &str = "the invitation is not valid";

impl AuthService {
    /// Makes a user and an invitation for them.
    pub(crate) async fn create_user(
        &self,
        call: &Call,
        request: proto::CreateUserRequest,
    ) -> Result<proto::Invitation> {
        let mut user = UserDocument::from_json(&request.user)?;
        let name = UserName::new(&user.metadata.name)
            .map_err(|err| Error::Invalid(format!("metadata.name: {err}")))?;
        self.check_user(&user).await?;
        user.metadata.revision = None;
        user.spec.created_by = Some(call.name());
        user.spec.created_at = Some(self.now());
        self.void(&mut user.spec);
        let key = user_key(name.as_str())?;
        let invite =
            self.new_invite(call, &name, InvitePurpose::Invite, request.invite_ttl_seconds)?;
        let mut batch = Batch::new().when(Condition::absent(key.clone())).then(put(key, &user)?);
        // A password of an earlier user of this name is not this one's.
        batch = batch.then(Operation::Delete(password_key(name.as_str())?));
        batch = self.discard_invites(batch, &name).await?;
        batch = invite.write(batch)?;
        match self.commit(batch).await {
            Ok(_) => {}
            Err(access_backend::Error::ConditionFailed { .. }) => {
                return Err(Error::AlreadyExists(format!("user {name} exists already")));
            }
            Err(err) => return Err(err.into()),
        }
        let created = UserCreate {
            actor: call.actor(),
            name: name.as_str().into(),
            roles: user.spec.roles.iter().collect(),
            connector: "local".into(),
            expires: user.metadata.expires,
        };
        self.inner.audit.accept(created.into(), Durability::Synced).await?;
        self.invitation(call, invite).await
    }

    /// Voids a user's password and certificates and invites them anew.
    pub(crate) async fn reset_user(
        &self,
        call: &Call,
        request: proto::ResetUserRequest,
    ) -> Result<proto::Invitation> {
        let name = UserName::new(&request.user)?;
        for _ in 0..ATTEMPTS {
            let store::Stored { mut document, revision } = self.user(&name).await?;
            let invite =
                self.new_invite(call, &name, InvitePurpose::Reset, request.invite_ttl_seconds)?;
            self.void(&mut document.spec);
            let key = user_key(name.as_str())?;
            let mut batch = Batch::new()
                .when(Condition::revision(key.clone(), revision))
                .then(put(key, &document)?)
                .then(Operation::Delete(password_key(name.as_str())?));
            batch = self.discard_invites(batch, &name).await?;
            batch = invite.write(batch)?;
            match self.commit(batch).await {
                Ok(_) => return self.invitation(call, invite).await,
                Err(access_backend::Error::ConditionFailed { .. }) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Err(Error::Conflict(format!("user {name} is being changed by others: try again")))
    }

    /// Sets a password with an invitation, once.
    pub(crate) async fn redeem_invite(
        &self,
        call: &Call,
        request: proto::RedeemInviteRequest,
    ) -> Result<proto::RedeemInviteResponse> {
        let proto::RedeemInviteRequest { token, password } = request;
        let (token, password) = (Zeroizing::new(token), Zeroizing::new(password));
        let ticket =
            Ticket::parse(&token).ok_or_else(|| Error::Unauthenticated(NOT_VALID.into()))?;
        // Whoever cannot redeem it learns so before any password is hashed.
        self.open_invite(&ticket).await?;
        passwords::check(&password)?;
        let password = Password { hash: self.inner.passwords.hash(password).await? };
        for _ in 0..ATTEMPTS {
            let mut invite = self.open_invite(&ticket).await?;
            let name = invite.document.spec.user.clone();
            let mut user =
                self.user(&name).await.map_err(|_| Error::Unauthenticated(NOT_VALID.into()))?;
            invite.document.spec.redeemed = true;
            self.void(&mut user.document.spec);
            let (invite_key, user_key) = (invite_key(&ticket.id)?, user_key(name.as_str())?);
            let batch = Batch::new()
                .when(Condition::revision(invite_key.clone(), invite.revision))
                .when(Condition::revision(user_key.clone(), user.revision))
                .then(Operation::Put(remembered(invite_key, &invite.document)?))
                .then(put(user_key, &user.document)?)
                .then(Operation::Put(store::new_row(password_key(name.as_str())?, &password)?));
            match self.commit(batch).await {
                Ok(_) => {
                    let event = UserPasswordChange {
                        user: name.as_str().into(),
                        addr_remote: call.peer.remote(),
                    };
                    self.inner.audit.accept(event.into(), Durability::Synced).await?;
                    return Ok(proto::RedeemInviteResponse { user: name.as_str().to_owned() });
                }
                Err(access_backend::Error::ConditionFailed { .. }) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Err(Error::Conflict("the user is being changed by others: try again".into()))
    }

    /// An invitation that can be redeemed with a ticket.
    async fn open_invite(&self, ticket: &Ticket) -> Result<store::Stored<InviteSpec>> {
        let backend = &*self.inner.storage.backend;
        let not_valid = || Error::Unauthenticated(NOT_VALID.into());
        let hash = store::row::<TicketHash>(backend, &ticket_key(&ticket.id)?).await?;
        let known = hash.is_some_and(|row| ticket.matches(&row.value.hash));
        if !known {
            return Err(not_valid());
        }
        let invite = store::document::<InviteSpec>(backend, &invite_key(&ticket.id)?)
            .await?
            .ok_or_else(not_valid)?;
        if invite.document.spec.redeemed {
            return Err(Error::Precondition(
                "the invitation was used already: ask an administrator for a new one".into(),
            ));
        }
        if is_past(invite.document.metadata.expires, self.now()) {
            return Err(Error::Precondition(
                "the invitation has expired: ask an administrator for a new one".into(),
            ));
        }
        Ok(invite)
    }

    fn new_invite(
        &self,
        call: &Call,
        user: &UserName,
        purpose: InvitePurpose,
        ttl_seconds: u64,
    ) -> Result<NewInvite> {
        let ttl = ttl(ttl_seconds, TTL, MAX_TTL)?;
        let ticket = Ticket::new()?;
        let expires = self.now().plus(ttl);
        let spec = InviteSpec {
            user: user.clone(),
            purpose,
            redeemed: false,
            created_by: Some(call.name()),
        };
        let metadata = Metadata { expires: Some(expires), ..Metadata::named(ticket.id.clone()) };
        Ok(NewInvite { ticket, document: InviteDocument { metadata, spec }, ttl, expires })
    }

    /// Adds to a batch that the open invitations of a user are gone.
    pub(crate) async fn discard_invites(&self, mut batch: Batch, user: &UserName) -> Result<Batch> {
        let range = KeyRange::from(Prefix::from_segments(["invites"])?);
        for item in read_all(&*self.inner.storage.backend, &range, 100_000).await? {
            let invite = store::read::<InviteSpec>(&item)?;
            if invite.document.spec.user == *user && !invite.document.spec.redeemed {
                let id = invite.document.metadata.name;
                // Bounded by the batch: more than a few open invitations of one user are unusual.
                if batch.operations.len() + 8 < access_backend::MAX_BATCH_ENTRIES {
                    batch = batch
                        .then(Operation::Delete(invite_key(&id)?))
                        .then(Operation::Delete(ticket_key(&id)?));
                }
            }
        }
        Ok(batch)
    }

    async fn invitation(&self, call: &Call, invite: NewInvite) -> Result<proto::Invitation> {
        let NewInvite { ticket, document, ttl, expires } = invite;
        let event = ResetPasswordTokenCreate {
            actor: call.actor(),
            name: document.spec.user.as_str().into(),
            ttl: Text::of(Span::from(ttl)),
            expires,
        };
        self.inner.audit.accept(event.into(), Durability::Synced).await?;
        Ok(proto::Invitation {
            user: document.spec.user.as_str().to_owned(),
            token: ticket.text(),
            expires: expires.as_millis(),
            ca_pins: self.pin_texts()?,
            proxies: self.proxy_addresses().await?,
        })
    }

    pub(crate) fn pin_texts(&self) -> Result<Vec<String>> {
        Ok(self.ca_pins()?.iter().map(ToString::to_string).collect())
    }
}

struct NewInvite {
    ticket: Ticket,
    document: InviteDocument,
    ttl: Duration,
    expires: Timestamp,
}

impl NewInvite {
    fn write(&self, batch: Batch) -> Result<Batch> {
        let id = &self.ticket.id;
        let hash = TicketHash { hash: self.ticket.hash() };
        let hash = store::new_row(ticket_key(id)?, &hash)?;
        let gone = Some(self.expires.plus(REMEMBERED));
        Ok(batch
            .then(Operation::Put(remembered(invite_key(id)?, &self.document)?))
            .then(Operation::Put(store::expiring(hash, gone))))
    }
}

/// The row of an invitation: kept for a while after it has expired.
fn remembered(
    key: access_backend::Key,
    invite: &InviteDocument,
) -> Result<access_backend::NewItem> {
    let gone = invite.metadata.expires.map(|expires| expires.plus(REMEMBERED));
    let item = access_backend::NewItem::new(key, access_backend::Value::new(store::bare(invite)?)?);
    Ok(store::expiring(item, gone))
}

/// A time to live: what was asked for, the usual one for 0.
pub(crate) fn ttl(seconds: u64, usual: Duration, longest: Duration) -> Result<Duration> {
    match seconds {
        0 => Ok(usual),
        seconds if Duration::from_secs(seconds) <= longest => Ok(Duration::from_secs(seconds)),
        _ => {
            Err(Error::Invalid(format!("the time to live may be {} at most", Span::from(longest))))
        }
    }
}

fn invite_key(id: &str) -> Result<access_backend::Key> {
    store::key(["invites", id])
}

fn ticket_key(id: &str) -> Result<access_backend::Key> {
    store::key(["private", "tickets", "invites", id])
}
