//! The databases that somebody may reach.

use std::collections::HashMap;

use access_client::proto::ListRequest;
use access_client::types::DbDocument;
use access_client::with_deadline;
use access_daemon::{Exit, OutputFormat, Table, client_exit, print_value};

use super::logins::Logins;
use crate::cli::Global;
use crate::commands::ls::parse_labels;
use crate::context::Session;

/// What a command needs to know of a database.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) protocol: String,
    /// The account that is made there for the user.
    pub(crate) own_account: Option<String>,
}

/// A database as it is listed.
struct Listed {
    document: DbDocument,
    own_account: Option<String>,
}

pub(crate) async fn ls(
    global: &Global,
    labels: &[String],
    format: OutputFormat,
) -> Result<(), Exit> {
    let session = Session::open(global)?;
    let databases = fetch(&session, parse_labels(labels)?, true).await?;
    if format != OutputFormat::Text {
        let documents: Vec<_> = databases.into_iter().map(|listed| listed.document).collect();
        return print_value(&documents, format);
    }
    let logins = match session.profile {
        Some(_) => Some(Logins::of(&session)?),
        None => None,
    };
    let mut table = Table::new(["", "Database", "Protocol", "Account", "Description", "Labels"]);
    for Listed { document: database, own_account } in &databases {
        let account = own_account.as_deref().unwrap_or_default();
        let name = &database.metadata.name;
        let mark = if logins.as_ref().is_some_and(|known| known.contains(name)) { ">" } else { "" };
        let labels = database.metadata.labels.iter();
        let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value}")).collect();
        let spec = &database.spec;
        let protocol = spec.protocol.as_str();
        table.row([mark, name, protocol, account, &spec.description, &labels.join(",")]);
    }
    table.print()
}

/// The database of a name, among those that the user may see.
pub(crate) async fn find(session: &Session, name: &str) -> Result<Found, Exit> {
    let suffix = format!(".db.{}", session.credentials.cluster);
    let name = name.strip_suffix(&suffix).unwrap_or(name);
    // Whoever names one may have been told of it just now.
    let databases = fetch(session, HashMap::new(), false).await?;
    let found = databases.into_iter().find(|one| one.document.metadata.name == name);
    let found = found.ok_or_else(|| {
        Exit::failed(format!(
            "there is no database {name}, or you may not see it: access db ls shows which there are"
        ))
    })?;
    let Listed { document, own_account } = found;
    let protocol = document.spec.protocol.as_str().to_owned();
    Ok(Found { name: document.metadata.name, protocol, own_account })
}

async fn fetch(
    session: &Session,
    labels: HashMap<String, String>,
    lately: bool,
) -> Result<Vec<Listed>, Exit> {
    let client = session.client()?;
    let mut databases = Vec::new();
    let mut page_token = String::new();
    loop {
        let labels = labels.clone();
        let request = ListRequest { kind: "db".into(), page_token, labels, lately, page_size: 0 };
        let answer = client.resources().list(with_deadline(request)).await;
        let answer = answer.map_err(client_exit)?.into_inner();
        for document in answer.documents {
            let own_account = Some(document.own_account).filter(|account| !account.is_empty());
            let document = DbDocument::from_json(&document.json).map_err(Exit::failed)?;
            databases.push(Listed { document, own_account });
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(databases);
        }
    }
}
