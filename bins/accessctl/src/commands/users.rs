//! Users.

use std::collections::HashMap;

use access_client::proto::{CreateUserRequest, ResetUserRequest};
use access_client::types::{UserDocument, UserSpec};
use access_client::with_deadline;
use access_core::UserName;
use access_core::identity::Traits;
use access_core::policy::ApiKind;
use access_daemon::config::Span;
use access_daemon::{Exit, OutputFormat, Table, note, print_value};

use super::{invitation, moment_or_never, seconds};
use crate::cli::{AddUserArgs, TraitFlags, UpdateUserArgs};
use crate::cluster::Cluster;
use access_daemon::client_exit;

pub(crate) async fn add(cluster: &Cluster, args: AddUserArgs) -> Result<(), Exit> {
    let name = UserName::new(&args.name).map_err(Exit::usage)?;
    let mut spec = UserSpec::with_roles(args.roles);
    args.traits.apply(&mut spec.traits);
    let user = UserDocument::new(name.as_str(), spec).to_json().map_err(Exit::failed)?;
    let request = CreateUserRequest { user, invite_ttl_seconds: seconds(args.ttl)? };
    let answer = cluster.client().admin().create_user(with_deadline(request)).await;
    let invite = answer.map_err(client_exit)?.into_inner();
    invitation::tell(cluster, &invite, "created", args.format.format)
}

pub(crate) async fn reset(
    cluster: &Cluster,
    name: &str,
    ttl: Option<Span>,
    format: OutputFormat,
) -> Result<(), Exit> {
    let request = ResetUserRequest { user: name.into(), invite_ttl_seconds: seconds(ttl)? };
    let answer = cluster.client().admin().reset_user(with_deadline(request)).await;
    let invite = answer.map_err(client_exit)?.into_inner();
    invitation::tell(cluster, &invite, "reset", format)
}

pub(crate) async fn update(cluster: &Cluster, args: UpdateUserArgs) -> Result<(), Exit> {
    let mut user = cluster.get::<UserSpec>(&args.name).await?;
    let before = user.clone();
    if let Some(roles) = args.roles {
        user.spec.roles = roles;
    }
    args.traits.apply(&mut user.spec.traits);
    if user == before {
        note(&format!("user {} is as asked for already: nothing has been changed", args.name));
        return Ok(());
    }
    cluster.update(user.to_json().map_err(Exit::failed)?, false).await?;
    note(&format!("user {} has been changed; they have to log in again", args.name));
    Ok(())
}

pub(crate) async fn ls(cluster: &Cluster, format: OutputFormat) -> Result<(), Exit> {
    let users = cluster.list::<UserSpec>(&HashMap::new()).await?;
    if format != OutputFormat::Text {
        return print_value(&users, format);
    }
    let mut table = Table::new(["User", "Roles", "Logins", "Expires"]);
    for user in &users {
        let roles: Vec<_> = user.spec.roles.iter().map(|role| role.as_str()).collect();
        let logins = user.spec.traits.get("logins").into_iter().flatten();
        let logins: Vec<_> = logins.map(String::as_str).collect();
        table.row([
            user.metadata.name.clone(),
            roles.join(","),
            logins.join(","),
            moment_or_never(user.metadata.expires),
        ]);
    }
    table.print()
}

pub(crate) async fn rm(cluster: &Cluster, names: &[String]) -> Result<(), Exit> {
    for name in names {
        cluster.delete(ApiKind::User, name).await?;
        note(&format!("user {name} has been removed"));
    }
    Ok(())
}

impl TraitFlags {
    /// Sets the traits that flags name, and leaves the others.
    fn apply(&self, traits: &mut Traits) {
        let Self {
            logins,
            db_users,
            db_names,
            db_roles,
            windows_logins,
            kubernetes_users,
            kubernetes_groups,
            traits: others,
        } = self;
        for (name, values) in [
            ("logins", logins),
            ("db_users", db_users),
            ("db_names", db_names),
            ("db_roles", db_roles),
            ("windows_logins", windows_logins),
            ("kubernetes_users", kubernetes_users),
            ("kubernetes_groups", kubernetes_groups),
        ] {
            if let Some(values) = values {
                set(traits, name, values.iter().map(String::as_str));
            }
        }
        for pair in others {
            let same = others.iter().filter(|other| other.0 == pair.0);
            set(traits, &pair.0, same.map(|other| other.1.as_str()));
        }
    }
}

fn set<'a>(traits: &mut Traits, name: &str, values: impl Iterator<Item = &'a str>) {
    let values = values.map(str::trim).filter(|value| !value.is_empty());
    let values: std::collections::BTreeSet<String> = values.map(str::to_owned).collect();
    if values.is_empty() {
        traits.remove(name);
    } else {
        traits.insert(name.to_owned(), values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Pair;

    #[test]
    fn flags_set_what_they_name_and_leave_the_rest() {
        let mut traits = Traits::default();
        let flags = TraitFlags {
            logins: Some(vec!["alice".into(), " root".into()]),
            db_users: Some(vec!["*".into()]),
            traits: vec![Pair("team".into(), "a".into()), Pair("team".into(), "b".into())],
            ..TraitFlags::default()
        };
        flags.apply(&mut traits);
        assert_eq!(traits["logins"].iter().collect::<Vec<_>>(), ["alice", "root"]);
        assert_eq!(traits["team"].len(), 2);
        let flags = TraitFlags { logins: Some(vec![String::new()]), ..TraitFlags::default() };
        flags.apply(&mut traits);
        assert!(!traits.contains_key("logins") && traits.contains_key("db_users"));
    }
}
