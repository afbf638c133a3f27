//! Locks.

use access_client::proto::WriteRequest;
use access_client::types::{Lock, LockDocument};
use access_client::with_deadline;
use access_core::ids::uuid_text;
use access_core::policy::LockTarget;
use access_core::{Login, RoleName, UserName};
use access_daemon::{Exit, OutputFormat, print, print_value};
use ring::rand::{SecureRandom, SystemRandom};

use super::{moment, seconds};
use crate::cli::{LockArgs, LockFlags};
use crate::cluster::{Cluster, clock};
use access_daemon::client_exit;

/// A lock to be made.
#[derive(Debug)]
pub(super) struct Order {
    document: LockDocument,
    format: OutputFormat,
}

impl Order {
    pub(super) fn check(args: LockArgs) -> Result<Self, Exit> {
        seconds(args.ttl)?;
        let lock = Lock {
            target: target(args.target)?,
            message: args.message,
            expires: args.ttl.map(|ttl| clock().now().plus(ttl.0)),
        };
        let mut random = [0; 16];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Exit::failed("the system gave no randomness"))?;
        Ok(Self { document: LockDocument::new(uuid_text(random), lock), format: args.format })
    }
}

pub(crate) async fn lock(cluster: &Cluster, order: Order) -> Result<(), Exit> {
    let json = order.document.to_json().map_err(Exit::failed)?;
    let request = with_deadline(WriteRequest { json, force: false });
    cluster.client().resources().create(request).await.map_err(client_exit)?;
    match order.format {
        OutputFormat::Text => print(&text(&order.document)),
        format => print_value(&order.document, format),
    }
}

fn text(document: &LockDocument) -> String {
    let Lock { target, expires, .. } = &document.spec;
    let until = match expires {
        Some(expires) => format!("until {}", moment(*expires)),
        None => "until the lock is removed".to_owned(),
    };
    let name = &document.metadata.name;
    format!("Locked: {target}, {until}. To lift it:\n\n  accessctl rm lock/{name}\n")
}

/// The one target that was given; the parser lets no call with none or two through.
fn target(flags: LockFlags) -> Result<LockTarget, Exit> {
    let LockFlags { user, role, login, node, resource, mfa_device, access_request } = flags;
    let targets = [
        user.map(|user| UserName::new(user).map(LockTarget::User).map_err(Exit::usage)),
        role.map(|role| RoleName::new(role).map(LockTarget::Role).map_err(Exit::usage)),
        login.map(|login| Login::new(login).map(LockTarget::Login).map_err(Exit::usage)),
        node.map(|node| Ok(LockTarget::Node(node))),
        resource.map(|one| one.parse().map(LockTarget::Resource).map_err(Exit::usage)),
        mfa_device.map(|id| Ok(LockTarget::MfaDevice(id))),
        access_request.map(|id| Ok(LockTarget::AccessRequest(id))),
    ];
    let target = targets.into_iter().flatten().next();
    target.unwrap_or_else(|| Err(Exit::usage("say whom or what to lock, such as --user=NAME")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use access_core::Timestamp;

    #[test]
    fn a_lock_says_how_to_lift_it() {
        let target = LockTarget::User(UserName::new("alice").unwrap());
        let expires = Some(Timestamp::from_secs(1_767_323_045));
        let lock = Lock { target, message: String::new(), expires };
        let text = text(&LockDocument::new("l-1", lock));
        assert!(text.contains("user alice, until 2026-01-02T03:04:05Z"), "{text}");
        assert!(text.contains("accessctl rm lock/l-1"), "{text}");
    }

    #[test]
    fn targets_are_checked_before_anything_is_sent() {
        let flags = LockFlags { resource: Some("spaceship/x".into()), ..LockFlags::default() };
        assert_eq!(target(flags).unwrap_err().code(), access_daemon::ExitCode::Usage);
        let flags = LockFlags { node: Some("web-1".into()), ..LockFlags::default() };
        assert_eq!(target(flags).unwrap(), LockTarget::Node("web-1".into()));
    }
}
