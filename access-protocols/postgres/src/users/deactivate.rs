//! Disables or drops an account whose last session has ended.

use std::time::Duration;

use super::client::Admin;
use super::error::{Doing, UserError};
use super::facts::{Facts, begin, begins, in_use, roles, texts};
use super::text::identifier;
use super::{Account, GROUP};

/// How often it is looked whether others who seem to be on have gone, and how long after the first
/// time. A server notices within milliseconds that a client has left, unless it is busy.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// The most accounts that are looked after at once.
const MOST_ABANDONED: usize = 100;

/// What became of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deactivated {
    /// It cannot log in any more, and has no roles.
    Disabled,
    /// It was to be dropped and owns something, so that it was disabled.
    Kept,
    /// It is gone.
    Dropped,
    /// It was left as it is: it is used elsewhere, was disabled or dropped by others, or is not
    /// one of ours.
    Left,
}

/// Disables an account, or drops it, unless it is used by a session besides those of some processes.
///
/// # Errors
/// [`UserError`]; the account is as it was then.
pub(crate) async fn deactivate(
    admin: &mut Admin,
    account: &Account<'_>,
    processes: &[u32],
    drop: bool,
) -> Result<Deactivated, UserError> {
    for look in 1..=LOOKS {
        begin(admin, account).await?;
        let done = match in_transaction(admin, account, processes, drop).await {
            Ok(Some(done)) => admin.run("COMMIT").await.map(|()| Some(done)),
            Ok(None) => admin.run("ROLLBACK").await.map(|()| None),
            Err(err @ (UserError::Io(_) | UserError::Wire(_))) => Err(err),
            Err(err) => {
                admin.run("ROLLBACK").await?;
                Err(err)
            }
        };
        match done {
            Ok(Some(done)) => return Ok(done),
            Ok(None) => {}
            Err(err) if err.code() == Some("40001") => {}
            Err(err) => return Err(err),
        }
        tokio::time::sleep(PAUSE * look).await;
    }
    Ok(Deactivated::Left)
}

/// Accounts that were made here, can log in, and have no session: whoever made them was killed.
///
/// # Errors
/// [`UserError`].
pub(crate) async fn abandoned(
    admin: &mut Admin,
    account: &Account<'_>,
) -> Result<Vec<String>, UserError> {
    if !account.has_locks() {
        // Sessions that begin could not be told from those that are over.
        return Ok(Vec::new());
    }
    let sql = "SELECT u.rolname::text FROM pg_catalog.pg_auth_members m \
               JOIN pg_catalog.pg_roles g ON g.oid = m.roleid \
               JOIN pg_catalog.pg_roles u ON u.oid = m.member \
               WHERE g.rolname::text = $1 AND u.rolcanlogin AND NOT EXISTS (SELECT 1 FROM \
               pg_catalog.pg_stat_activity a WHERE a.usename = u.rolname) LIMIT 100";
    let found = admin.rows(sql, &[GROUP]).await?;
    Ok(texts(found).take(MOST_ABANDONED).filter(|name| name != account.name).collect())
}

/// `None` when it is used, which may pass.
async fn in_transaction(
    admin: &mut Admin,
    account: &Account<'_>,
    processes: &[u32],
    drop: bool,
) -> Result<Option<Deactivated>, UserError> {
    let found = Facts::of(admin, account).await?;
    if !found.exists || !found.ours || begins(admin, account).await? {
        return Ok(Some(Deactivated::Left));
    }
    if in_use(admin, account, processes).await? {
        return Ok(None);
    }
    let name = identifier(account.name);
    if drop {
        admin.run("SAVEPOINT before_drop").await?;
        match admin.run(&format!("DROP ROLE {name}")).await {
            Ok(()) => return Ok(Some(Deactivated::Dropped)),
            // It owns something, or was granted something by name.
            Err(err) if err.code() == Some("2BP01") => {
                admin.run("ROLLBACK TO SAVEPOINT before_drop").await?;
            }
            Err(err) => return Err(err.explained(account, &Doing::Dropping)),
        }
    }
    for role in roles(admin, account).await? {
        let revoked = admin.run(&format!("REVOKE {} FROM {name}", identifier(&role))).await;
        revoked.map_err(|err| err.explained(account, &Doing::Revoking(&role)))?;
    }
    // Whoever had it may have given it a password.
    let disabled = admin.run(&format!("ALTER ROLE {name} NOLOGIN PASSWORD NULL")).await;
    disabled.map_err(|err| err.explained(account, &Doing::Changing))?;
    Ok(Some(if drop { Deactivated::Kept } else { Deactivated::Disabled }))
}
