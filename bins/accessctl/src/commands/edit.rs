//! A document, changed in an editor.

use std::io::Write;
use std::path::Path;

use access_daemon::{Exit, note};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::kinds::Named;
use crate::{documents, files};

pub(crate) async fn edit(cluster: &Cluster, what: &Named, force: bool) -> Result<(), Exit> {
    let Named { kind, name } = what;
    let carried = cluster.get_carried(*kind, name).await?;
    let value = serde_json::from_slice(&carried.json).map_err(Exit::failed)?;
    let before = documents::write(&value).map_err(Exit::failed)?;
    let mut file = tempfile::Builder::new()
        .prefix("accessctl-")
        .suffix(".yaml")
        .tempfile()
        .map_err(|err| Exit::failed(format!("cannot make a file to edit: {err}")))?;
    file.write_all(before.as_bytes()).map_err(Exit::failed)?;
    run_editor(file.path()).await?;
    let after = files::read_optional(file.path())?
        .ok_or_else(|| Exit::failed("the file is gone: nothing has been changed"))?;
    if after == before {
        note("nothing has been changed");
        return Ok(());
    }
    match write(cluster, what, &after, force).await {
        Ok(()) => {
            note(&format!("{kind} {name} has been changed"));
            Ok(())
        }
        Err(exit) => Err(keep(file, &exit)),
    }
}

async fn write(cluster: &Cluster, what: &Named, text: &str, force: bool) -> Result<(), Exit> {
    let documents = documents::read(text, "the document").map_err(Exit::failed)?;
    let [document] = documents.as_slice() else {
        return Err(Exit::failed("there is more than one document in it"));
    };
    if document.kind != what.kind || document.name != what.name {
        return Err(Exit::failed(format!(
            "it is {} {} now: kind and name cannot be edited, use create and rm",
            document.kind, document.name
        )));
    }
    cluster.update(serde_json::to_vec(&document.value).map_err(Exit::failed)?, force).await
}

/// Keeps what was written in the editor, and says where.
fn keep(file: NamedTempFile, exit: &Exit) -> Exit {
    match file.keep() {
        Ok((_, path)) => {
            Exit::new(exit.code(), format!("{exit}\nwhat you wrote is in {}", path.display()))
        }
        Err(_) => Exit::new(exit.code(), exit),
    }
}

async fn run_editor(path: &Path) -> Result<(), Exit> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // By a shell, as others do: the variable may hold flags.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(path)
        .status()
        .await
        .map_err(|err| Exit::failed(format!("cannot start {editor}: {err}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Exit::failed(format!("{editor} ended with {status}: nothing has been changed")))
    }
}
