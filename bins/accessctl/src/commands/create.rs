//! Documents, written.

use std::path::Path;

use access_client::proto::WriteRequest;
use access_client::{ClientError, with_deadline};
use access_daemon::{Exit, note};

use crate::cli::CreateArgs;
use crate::cluster::Cluster;
use crate::documents::{self, Read};
use crate::files;
use access_daemon::client_exit;

/// Reads and checks what is to be created.
pub(super) fn read(args: &CreateArgs) -> Result<Vec<Read>, Exit> {
    let path = args.filename.as_deref().or(args.file.as_deref());
    let (text, source) = match path.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let source = path.display().to_string();
            let text = files::read_optional(path)?
                .ok_or_else(|| Exit::failed(format!("there is no file {source}")))?;
            (text, source)
        }
        None => {
            let source = "standard input".to_owned();
            (files::read_text(std::io::stdin().lock(), &source)?, source)
        }
    };
    documents::read(&text, &source).map_err(Exit::failed)
}

pub(crate) async fn create(
    cluster: &Cluster,
    documents: Vec<Read>,
    force: bool,
) -> Result<(), Exit> {
    for Read { kind, name, value } in documents {
        let json = serde_json::to_vec(&value).map_err(Exit::failed)?;
        let request = with_deadline(WriteRequest { json, force });
        let mut resources = cluster.client().resources();
        let written =
            if force { resources.put(request).await } else { resources.create(request).await };
        match written.map_err(ClientError::from) {
            Ok(_) => {
                note(&format!(
                    "{kind} {name} has been {}",
                    if force { "written" } else { "created" }
                ));
            }
            Err(ClientError::AlreadyExists(why)) => {
                return Err(Exit::failed(format!("{why}: add --force to replace it")));
            }
            Err(err) => {
                let exit = client_exit(err);
                return Err(Exit::new(exit.code(), format!("{kind} {name}: {exit}")));
            }
        }
    }
    Ok(())
}
