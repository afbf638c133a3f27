//! The first user: made on the first start, invited until they have a password.

use std::net::SocketAddr;

use access_client::proto::{
    CreateUserRequest, GetRequest, Invitation, ListRequest, ResetUserRequest, SearchRequest,
};
use access_client::types::{InviteDocument, UserDocument, UserSpec};
use access_client::{AuthClient, with_deadline};
use access_core::RoleName;
use access_daemon::Exit;

use crate::Flags;

/// The first user, and their invitation while they have not redeemed it.
pub(crate) struct FirstUser {
    pub(crate) name: String,
    pub(crate) login: String,
    pub(crate) invite_url: Option<String>,
}

/// How long the invitation holds.
const INVITE_TTL: u64 = 24 * 3600;

/// Roles of the first user.
const ROLES: [&str; 3] = ["access", "editor", "auditor"];

impl FirstUser {
    /// Finds or makes the user. An invitation that was not redeemed is made anew, since only its
    /// hash is kept, and since it may have expired meanwhile.
    pub(crate) async fn ensure(
        admin: &AuthClient,
        flags: &Flags,
        proxy: SocketAddr,
    ) -> Result<Self, Exit> {
        let login = own_name();
        let name = flags.user.clone().unwrap_or_else(|| login.clone());
        let failed = |status: tonic::Status| Exit::failed(status.message());
        let invitation = if exists(admin, &name).await? {
            if waits_for_password(admin, &name).await? || !ever_had_password(admin, &name).await? {
                let request =
                    ResetUserRequest { user: name.clone(), invite_ttl_seconds: INVITE_TTL };
                let reset = admin.admin().reset_user(with_deadline(request)).await;
                Some(reset.map_err(failed)?.into_inner())
            } else {
                None
            }
        } else {
            let user = document(&name, &login)?.to_json().map_err(Exit::failed)?;
            let request = CreateUserRequest { user, invite_ttl_seconds: INVITE_TTL };
            let created = admin.admin().create_user(with_deadline(request)).await;
            Some(created.map_err(failed)?.into_inner())
        };
        let invite_url = invitation.map(|invitation| link(&invitation, proxy));
        Ok(Self { name, login, invite_url })
    }
}

fn document(name: &str, login: &str) -> Result<UserDocument, Exit> {
    let roles = ROLES.iter().map(|role| RoleName::new(role).map_err(Exit::failed));
    let mut spec = UserSpec::with_roles(roles.collect::<Result<Vec<_>, _>>()?);
    spec.traits.insert("logins".into(), [login.to_owned()].into());
    Ok(UserDocument::new(name, spec))
}

fn link(invitation: &Invitation, proxy: SocketAddr) -> String {
    let pins: String = invitation.ca_pins.iter().map(|pin| format!("&pin={pin}")).collect();
    format!("https://{proxy}/web/invite#token={}{pins}", invitation.token)
}

async fn exists(admin: &AuthClient, name: &str) -> Result<bool, Exit> {
    let request = GetRequest { kind: "user".into(), name: name.to_owned() };
    match admin.resources().get(with_deadline(request)).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
        Err(status) => Err(Exit::failed(status.message())),
    }
}

async fn waits_for_password(admin: &AuthClient, name: &str) -> Result<bool, Exit> {
    let request = ListRequest { kind: "invite".into(), ..ListRequest::default() };
    let invites = admin.resources().list(with_deadline(request)).await;
    let invites = invites.map_err(|status| Exit::failed(status.message()))?.into_inner();
    Ok(invites.documents.iter().any(|document| {
        InviteDocument::from_json(&document.json)
            .is_ok_and(|invite| invite.spec.user.as_str() == name && !invite.spec.redeemed)
    }))
}

/// Whether the user has redeemed an invitation at any time: those that expired are listed no more.
async fn ever_had_password(admin: &AuthClient, name: &str) -> Result<bool, Exit> {
    let request = SearchRequest {
        types: vec!["user.password_change".into()],
        user: name.to_owned(),
        page_size: 1,
        newest_first: true,
        ..SearchRequest::default()
    };
    let found = admin.audit().search(with_deadline(request)).await;
    let found = found.map_err(|status| Exit::failed(status.message()))?.into_inner();
    Ok(!found.events.is_empty())
}

/// The name of whoever runs this, on this machine.
fn own_name() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    user.ok().flatten().map_or_else(|| "root".to_owned(), |user| user.name)
}
