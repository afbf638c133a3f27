//! What stands in the server about an account, and the transactions in which that is looked at
//! and changed.

use std::collections::BTreeSet;

use super::client::{Admin, Row};
use super::error::{Doing, UserError};
use super::text::array;
use super::{Account, GROUP};
use crate::database::DatabaseProtocol;

/// The first halves of the locks' keys: that of changes of an account, and that of sessions which
/// begin with it. The second half is a hash of its name.
const CHANGING: &str = "1094927187";
const BEGINNING: &str = "1094927188";

/// Begins a transaction in which the account is changed by nobody else.
pub(super) async fn begin(admin: &mut Admin, account: &Account<'_>) -> Result<(), UserError> {
    admin.run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    if account.has_locks() {
        let lock = "SELECT pg_catalog.pg_advisory_xact_lock($1::int4, pg_catalog.hashtext($2))";
        let locked = admin.rows(lock, &[CHANGING, account.name]).await;
        locked.map_err(|err| err.explained(account, &Doing::Looking))?;
    }
    Ok(())
}

/// Says to all agents that a session with the account begins, until it is taken back or the
/// connection ends.
pub(super) async fn announce(admin: &mut Admin, account: &Account<'_>) -> Result<(), UserError> {
    if account.has_locks() {
        let lock = "SELECT pg_catalog.pg_advisory_lock_shared($1::int4, pg_catalog.hashtext($2))";
        admin.rows(lock, &[BEGINNING, account.name]).await?;
    }
    Ok(())
}

/// Takes back what [`announce`] said.
pub(super) async fn withdraw(admin: &mut Admin, account: &Account<'_>) -> Result<(), UserError> {
    if account.has_locks() {
        let unlock =
            "SELECT pg_catalog.pg_advisory_unlock_shared($1::int4, pg_catalog.hashtext($2))";
        admin.rows(unlock, &[BEGINNING, account.name]).await?;
    }
    Ok(())
}

/// Whether a session with the account begins somewhere. If not, none does until the transaction
/// is over.
pub(super) async fn begins(admin: &mut Admin, account: &Account<'_>) -> Result<bool, UserError> {
    if !account.has_locks() {
        return Ok(false);
    }
    let lock = "SELECT pg_catalog.pg_try_advisory_xact_lock($1::int4, pg_catalog.hashtext($2))";
    Ok(!first(&admin.rows(lock, &[BEGINNING, account.name]).await?, 0))
}

/// What stands in the server about an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether the group is there.
    pub(super) group: bool,
    /// Whether there is an account of that name.
    pub(super) exists: bool,
    /// Whether it can log in.
    pub(super) enabled: bool,
    /// Whether it was given what no account is given here.
    pub(super) powerful: bool,
    /// Whether it was made here.
    pub(super) ours: bool,
}

impl Facts {
    pub(super) async fn of(admin: &mut Admin, account: &Account<'_>) -> Result<Self, UserError> {
        let sql = "SELECT g.oid IS NOT NULL, u.oid IS NOT NULL, coalesce(u.rolcanlogin, false), \
                   coalesce(u.rolsuper OR u.rolcreaterole OR u.rolcreatedb OR u.rolreplication \
                   OR u.rolbypassrls, false), EXISTS (SELECT 1 FROM pg_catalog.pg_auth_members m \
                   WHERE m.roleid = g.oid AND m.member = u.oid) FROM (SELECT 1) AS one \
                   LEFT JOIN pg_catalog.pg_roles g ON g.rolname::text = $1 \
                   LEFT JOIN pg_catalog.pg_roles u ON u.rolname::text = $2";
        let rows = admin.rows(sql, &[GROUP, account.name]).await;
        let rows = rows.map_err(|err| err.explained(account, &Doing::Looking))?;
        Ok(Self {
            group: first(&rows, 0),
            exists: first(&rows, 1),
            enabled: first(&rows, 2),
            powerful: first(&rows, 3),
            ours: first(&rows, 4),
        })
    }
}

/// The roles that an account has, but for the mark.
pub(super) async fn roles(
    admin: &mut Admin,
    account: &Account<'_>,
) -> Result<BTreeSet<String>, UserError> {
    let sql = "SELECT DISTINCT r.rolname::text FROM pg_catalog.pg_auth_members m \
               JOIN pg_catalog.pg_roles r ON r.oid = m.roleid \
               JOIN pg_catalog.pg_roles u ON u.oid = m.member WHERE u.rolname::text = $1";
    let rows = admin.rows(sql, &[account.name]).await?;
    Ok(texts(rows).filter(|role| role != GROUP).collect())
}

/// Those of some roles that are not there.
pub(super) async fn missing(admin: &mut Admin, roles: &str) -> Result<Vec<String>, UserError> {
    let sql = "SELECT w FROM unnest($1::text[]) AS w WHERE NOT EXISTS \
               (SELECT 1 FROM pg_catalog.pg_roles r WHERE r.rolname::text = w)";
    Ok(texts(admin.rows(sql, &[roles]).await?).collect())
}

/// Whether sessions with the account are on, besides those of some processes.
pub(super) async fn in_use(
    admin: &mut Admin,
    account: &Account<'_>,
    but: &[u32],
) -> Result<bool, UserError> {
    let but: Vec<String> = but.iter().map(u32::to_string).collect();
    let but = array(but.iter().map(String::as_str));
    let rows = match account.protocol {
        DatabaseProtocol::Postgres => {
            let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_activity a \
                       WHERE a.usename::text = $1 AND a.pid::text <> ALL ($2::text[]))";
            admin.rows(sql, &[account.name, &but]).await
        }
        DatabaseProtocol::CockroachDb => {
            let sql = "SELECT EXISTS (SELECT 1 FROM [SHOW CLUSTER SESSIONS] AS s \
                       WHERE s.user_name = $1)";
            admin.rows(sql, &[account.name]).await
        }
    };
    Ok(first(&rows.map_err(|err| err.explained(account, &Doing::Looking))?, 0))
}

/// A truth in the first row.
fn first(rows: &[Row], column: usize) -> bool {
    let value = rows.first().and_then(|row| row.get(column)).and_then(Option::as_deref);
    matches!(value, Some("t" | "true"))
}

/// The first column.
pub(super) fn texts(rows: Vec<Row>) -> impl Iterator<Item = String> {
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten())
}
