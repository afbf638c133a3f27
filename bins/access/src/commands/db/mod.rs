//! Databases: which there are, and how stock clients reach them.

mod connect;
mod list;
mod listen;
mod logins;
mod service_file;
mod target;

use std::process::ExitCode;

use access_daemon::{Exit, OutputFormat, print, print_value};

use crate::cli::{DbCommand, DbTarget, Global, ProxyDb};
use crate::context::Session;

use self::logins::Logins;
use self::service_file::ServiceFile;
use self::target::{Login, Parameters, dns_name};

pub(crate) async fn run(global: &Global, command: DbCommand) -> Result<ExitCode, Exit> {
    match command {
        DbCommand::Ls { labels, format } => list::ls(global, &labels, format).await?,
        DbCommand::Login { target } => login(global, &target).await?,
        DbCommand::Logout { name } => logout(global, name.as_deref())?,
        DbCommand::Connect { target, args } => return connect::connect(global, target, args).await,
        DbCommand::Config { target, format } => config(global, &target, format).await?,
        DbCommand::Env { target, format } => env(global, &target, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives other programs a port of this machine that leads to a database.
pub(crate) async fn proxy(global: &Global, args: ProxyDb) -> Result<(), Exit> {
    listen::proxy(global, args).await
}

/// Forgets every database of a cluster that was logged in to.
pub(crate) fn forget_all(session: &Session) -> Result<(), Exit> {
    let Some(profile) = &session.profile else { return Ok(()) };
    let suffix = format!(".db.{}", profile.cluster);
    ServiceFile::of_user()?.remove(|service| service.ends_with(&suffix))?;
    Logins::of(session)?.clear()
}

/// The database that a command means: what was remembered of it, what the cluster knows of it,
/// and what the flags say.
async fn chosen(session: &Session, target: &DbTarget) -> Result<Login, Exit> {
    let remembered = match session.profile {
        Some(_) => Logins::of(session)?.find(target.name.as_deref())?,
        None => None,
    };
    let mut login = match (remembered, &target.name) {
        (Some(login), _) => login,
        (None, Some(name)) => {
            let found = list::find(session, name).await?;
            let list::Found { name, protocol, own_account: user } = found;
            Login { name, protocol, user, database: None }
        }
        (None, None) => {
            return Err(Exit::usage(
                "which database? name one, as access db ls shows them, or access db login to it",
            ));
        }
    };
    if target.db_user.is_some() {
        login.user.clone_from(&target.db_user);
    }
    if target.db_name.is_some() {
        login.database.clone_from(&target.db_name);
    }
    if login.user.is_none() {
        login.user = connect::only_user(session);
    }
    Ok(login)
}

async fn straight(session: &Session, login: &Login) -> Result<Parameters, Exit> {
    let profile = session.profile.as_ref().ok_or_else(|| {
        Exit::usage("other programs need files that stay: log in, or use access db connect")
    })?;
    let folder = session.home.folder(&profile.proxy);
    Parameters::straight(login, &profile.cluster, &profile.proxy, &folder).await
}

async fn login(global: &Global, target: &DbTarget) -> Result<(), Exit> {
    let session = Session::open(global)?;
    let login = chosen(&session, target).await?;
    let parameters = straight(&session, &login).await?;
    let service = dns_name(&login.name, &session.credentials.cluster)?;
    let file = ServiceFile::of_user()?;
    file.put(&service, &parameters)?;
    Logins::of(&session)?.put(&login)?;
    print(&format!(
        "Logged in to {name} until your certificate ends. Reach it by:\n\n  \
         access db connect {name}\n  psql service={service}\n",
        name = login.name
    ))
}

fn logout(global: &Global, name: Option<&str>) -> Result<(), Exit> {
    // Certificates that have ended must not keep anybody from tidying up.
    let session = Session::open_unchecked(global)?;
    let Some(name) = name else { return forget_all(&session) };
    let service = dns_name(name, &session.credentials.cluster)?;
    ServiceFile::of_user()?.remove(|found| found == service)?;
    if !Logins::of(&session)?.remove(name)? {
        return Err(Exit::failed(format!("you are not logged in to the database {name}")));
    }
    Ok(())
}

async fn config(global: &Global, target: &DbTarget, format: OutputFormat) -> Result<(), Exit> {
    let session = Session::open(global)?;
    let login = chosen(&session, target).await?;
    let parameters = straight(&session, &login).await?;
    if format != OutputFormat::Text {
        return print_value(&parameters, format);
    }
    let mut text = String::new();
    for (keyword, value) in parameters.pairs() {
        text.push_str(&format!("{keyword:<12} {value}\n"));
    }
    text.push_str(&format!("\npsql \"{}\"\n", parameters.conninfo()));
    print(&text)
}

async fn env(global: &Global, target: &DbTarget, format: OutputFormat) -> Result<(), Exit> {
    let session = Session::open(global)?;
    let login = chosen(&session, target).await?;
    let parameters = straight(&session, &login).await?;
    let variables: Vec<(String, String)> =
        parameters.pairs().into_iter().map(|(keyword, value)| (variable(keyword), value)).collect();
    if format != OutputFormat::Text {
        let map: std::collections::BTreeMap<_, _> = variables.into_iter().collect();
        return print_value(&map, format);
    }
    let lines = variables.iter().map(|(name, value)| format!("export {name}={}\n", shell(value)));
    print(&lines.collect::<String>())
}

/// The environment variable of a keyword
/// (<https://www.postgresql.org/docs/current/libpq-envars.html>).
fn variable(keyword: &str) -> String {
    match keyword {
        "dbname" => "PGDATABASE".to_owned(),
        other => format!("PG{}", other.to_ascii_uppercase()),
    }
}

/// A word of a shell.
fn shell(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell_stay_words() {
        assert_eq!(shell("a b'c$d"), "'a b'\\''c$d'");
        assert_eq!(variable("dbname"), "PGDATABASE");
        assert_eq!(variable("sslrootcert"), "PGSSLROOTCERT");
    }
}
