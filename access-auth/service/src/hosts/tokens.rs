//! Join tokens: made by administrators, told from one another by their public id.

use std::time::Duration;

use access_backend::{Batch, Condition, NewItem, Operation, Value};
use access_client::proto;
use access_client::types::{NameBinding, TokenDocument, TokenSpec};
use access_core::audit::events::JoinTokenCreate;
use access_core::audit::{AuditSink, Durability};
use access_core::document::Metadata;

use super::claims::read_services;
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::secrets::Ticket;
use crate::service::AuthService;
use crate::store;
use crate::users::{REMEMBERED, TicketHash, is_past, ttl};

/// How long a token can be used when nobody says.
const TTL: Duration = Duration::from_secs(30 * 60);
/// The longest that it can be.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
/// The most names and labels of a token.
const MAX_ENTRIES: usize = 256;

const NOT_VALID: &str = "the join token is not valid";

impl AuthService {
    /// Makes a join token.
    pub(crate) async fn create_token(
        &self,
        call: &Call,
        request: proto::CreateTokenRequest,
    ) -> Result<proto::Token> {
        let proto::CreateTokenRequest { types, ttl_seconds, uses, names, labels } = request;
        let types: Vec<_> = read_services(&types)?.into_iter().collect();
        if types.is_empty() {
            return Err(Error::Invalid("a token is for one type at least, such as node".into()));
        }
        if names.len() > MAX_ENTRIES || labels.len() > MAX_ENTRIES {
            return Err(Error::Invalid(format!("{MAX_ENTRIES} names and labels at most")));
        }
        let names = names
            .iter()
            .map(|name| {
                name.parse::<NameBinding>()
                    .map_err(|err| Error::Invalid(format!("{name:.80}: {err}")))
            })
            .collect::<Result<_>>()?;
        let ttl = ttl(ttl_seconds, TTL, MAX_TTL)?;
        let expires = self.now().plus(ttl);
        let ticket = Ticket::new()?;
        let spec = TokenSpec {
            types: types.clone(),
            uses_left: (uses > 0).then_some(uses),
            names,
            labels: labels.into_iter().collect(),
            created_by: Some(call.name()),
        };
        let metadata = Metadata { expires: Some(expires), ..Metadata::named(ticket.id.clone()) };
        let document = TokenDocument { metadata, spec };
        let key = token_key(&ticket.id)?;
        let hash = store::new_row(ticket_key(&ticket.id)?, &TicketHash { hash: ticket.hash() })?;
        let batch = Batch::new()
            .when(Condition::absent(key.clone()))
            .then(Operation::Put(remembered(key, &document)?))
            .then(Operation::Put(store::expiring(hash, Some(expires.plus(REMEMBERED)))));
        self.commit(batch).await?;
        let event = JoinTokenCreate {
            actor: call.actor(),
            name: ticket.id.as_str().into(),
            roles: types.iter().map(|service| service.as_str()).collect(),
            join_method: "token".into(),
            expires: Some(expires),
        };
        self.inner.audit.accept(event.into(), Durability::Synced).await?;
        Ok(proto::Token {
            token: ticket.text(),
            types: types.iter().map(ToString::to_string).collect(),
            expires: expires.as_millis(),
            ca_pins: self.pin_texts()?,
        })
    }

    /// A token that can be joined with. Only who has its secret learns more than that it is not
    /// valid.
    pub(super) async fn open_token(&self, ticket: &Ticket) -> Result<store::Stored<TokenSpec>> {
        let backend = &*self.inner.storage.backend;
        let not_valid = || Error::Unauthenticated(NOT_VALID.into());
        let hash = store::row::<TicketHash>(backend, &ticket_key(&ticket.id)?).await?;
        if !hash.is_some_and(|row| ticket.matches(&row.value.hash)) {
            return Err(not_valid());
        }
        let token = store::document::<TokenSpec>(backend, &token_key(&ticket.id)?)
            .await?
            .ok_or_else(not_valid)?;
        if is_past(token.document.metadata.expires, self.now()) {
            return Err(Error::Precondition(
                "the join token has expired: make a new one with `accessctl tokens add`".into(),
            ));
        }
        if token.document.spec.uses_left == Some(0) {
            return Err(Error::Precondition(
                "the join token is spent: it was used as often as it may be. Make a new one with \
                 `accessctl tokens add`"
                    .into(),
            ));
        }
        Ok(token)
    }

    /// Reads the text of a token.
    pub(super) fn read_token(text: &str) -> Result<Ticket> {
        Ticket::parse(text).ok_or_else(|| Error::Unauthenticated(NOT_VALID.into()))
    }

    /// Adds to a batch that a token is used once more.
    pub(super) fn use_token(batch: Batch, token: &store::Stored<TokenSpec>) -> Result<Batch> {
        let key = token_key(&token.document.metadata.name)?;
        let Some(left) = token.document.spec.uses_left else {
            return Ok(batch.when(Condition::present(key)));
        };
        let mut document = token.document.clone();
        document.spec.uses_left = Some(left.saturating_sub(1));
        Ok(batch
            .when(Condition::revision(key.clone(), token.revision))
            .then(Operation::Put(remembered(key, &document)?)))
    }
}

/// The row of a token: kept for a while after it has expired, to tell its holders.
fn remembered(key: access_backend::Key, token: &TokenDocument) -> Result<NewItem> {
    let gone = token.metadata.expires.map(|expires| expires.plus(REMEMBERED));
    Ok(store::expiring(NewItem::new(key, Value::new(store::bare(token)?)?), gone))
}

fn token_key(id: &str) -> Result<access_backend::Key> {
    store::key(["tokens", id])
}

fn ticket_key(id: &str) -> Result<access_backend::Key> {
    store::key(["private", "tickets", "tokens", id])
}
