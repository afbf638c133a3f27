//! Makes or enables an account for a session that begins.

use std::collections::BTreeSet;
use std::time::Duration;

use super::client::Admin;
use super::error::{Doing, UserError};
use super::facts::{Facts, announce, begin, in_use, missing, roles, withdraw};
use super::text::{array, identifier};
use super::{Account, GROUP};

/// How often it is begun anew when others got in the way, and how long after the first time. The
/// sessions of others that have ended are gone by then.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);

/// What was done to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activated {
    /// It was made, or could not log in before.
    pub(crate) made: bool,
    /// It has other roles than before.
    pub(crate) granted: bool,
}

/// Has an account be there, with exactly these roles, and announces its session.
///
/// [`settle`] is to be called when the session is connected, or when it came to nothing.
///
/// # Errors
/// [`UserError`]; nothing was changed then.
pub(crate) async fn activate(
    admin: &mut Admin,
    account: &Account<'_>,
    wanted: &[String],
) -> Result<Activated, UserError> {
    let wanted: BTreeSet<&str> =
        wanted.iter().map(String::as_str).filter(|r| *r != GROUP).collect();
    let mut tried = 0;
    loop {
        tried += 1;
        let err = match in_transaction(admin, account, &wanted).await {
            Ok(done) => return Ok(done),
            Err(err) => err,
        };
        if matches!(err, UserError::Io(_) | UserError::Wire(_)) {
            return Err(err);
        }
        admin.run("ROLLBACK").await?;
        if tried == TRIES || !passes(&err) {
            return Err(err);
        }
        tokio::time::sleep(PAUSE * tried).await;
    }
}

/// Says that the session of an account is connected, or came to nothing.
///
/// # Errors
/// [`UserError`] when the connection is no more; nothing is announced by it then.
pub(crate) async fn settle(admin: &mut Admin, account: &Account<'_>) -> Result<(), UserError> {
    withdraw(admin, account).await
}

async fn in_transaction(
    admin: &mut Admin,
    account: &Account<'_>,
    wanted: &BTreeSet<&str>,
) -> Result<Activated, UserError> {
    begin(admin, account).await?;
    let found = Facts::of(admin, account).await?;
    if found.exists && !found.ours {
        return Err(UserError::Foreign(account.name.to_owned()));
    }
    if found.powerful {
        return Err(UserError::Powerful(account.name.to_owned()));
    }
    let absent = missing(admin, &array(wanted.iter().copied())).await?;
    if !absent.is_empty() {
        return Err(UserError::NoSuchRole(absent));
    }
    let had = roles(admin, account).await?;
    let granted = !had.iter().map(String::as_str).eq(wanted.iter().copied());
    if found.enabled && granted && in_use(admin, account, &[]).await? {
        return Err(UserError::OtherRoles(account.name.to_owned()));
    }
    let made = !found.enabled;
    if made {
        make(admin, account, &found).await?;
    }
    if granted {
        grant(admin, account, &had, wanted).await?;
    }
    announce(admin, account).await?;
    if let Err(err) = admin.run("COMMIT").await {
        withdraw(admin, account).await?;
        return Err(err);
    }
    Ok(Activated { made, granted })
}

async fn make(admin: &mut Admin, account: &Account<'_>, found: &Facts) -> Result<(), UserError> {
    let (name, group) = (identifier(account.name), identifier(GROUP));
    let explained = |doing: Doing<'static>| move |err: UserError| err.explained(account, &doing);
    if found.exists {
        // Who had it before may have given it a password.
        let enable = format!("ALTER ROLE {name} LOGIN PASSWORD NULL");
        return admin.run(&enable).await.map_err(explained(Doing::Changing));
    }
    if !found.group {
        admin.run(&format!("CREATE ROLE {group}")).await.map_err(explained(Doing::Making))?;
    }
    admin.run(&format!("CREATE ROLE {name} LOGIN")).await.map_err(explained(Doing::Making))?;
    admin.run(&format!("GRANT {group} TO {name}")).await.map_err(explained(Doing::Marking))
}

/// Grants and revokes until the roles are those that are wanted.
async fn grant(
    admin: &mut Admin,
    account: &Account<'_>,
    had: &BTreeSet<String>,
    wanted: &BTreeSet<&str>,
) -> Result<(), UserError> {
    let name = identifier(account.name);
    for role in had.iter().filter(|role| !wanted.contains(role.as_str())) {
        let revoke = format!("REVOKE {} FROM {name}", identifier(role));
        let revoked = admin.run(&revoke).await;
        revoked.map_err(|err| err.explained(account, &Doing::Revoking(role)))?;
    }
    for role in wanted.iter().filter(|role| !had.contains(**role)) {
        let grant = format!("GRANT {} TO {name}", identifier(role));
        let granted = admin.run(&grant).await;
        granted.map_err(|err| err.explained(account, &Doing::Granting(role)))?;
    }
    // Since PostgreSQL 16 what somebody else granted is revoked with no more than a warning.
    let has = roles(admin, account).await?;
    let stuck: Vec<String> =
        has.into_iter().filter(|role| !wanted.contains(role.as_str())).collect();
    if stuck.is_empty() {
        return Ok(());
    }
    Err(UserError::Stuck { name: account.name.to_owned(), roles: stuck })
}

/// Whether it may be otherwise in a moment: serialization failure, deadlock, somebody made the
/// same role, changed the same row, or has just left.
fn passes(err: &UserError) -> bool {
    match err {
        UserError::OtherRoles(_) => true,
        UserError::Reported(reported) => {
            matches!(reported.code.as_str(), "40001" | "40P01" | "42710" | "23505")
                || (reported.code == "XX000" && reported.message.contains("concurrently"))
        }
        _ => false,
    }
}
