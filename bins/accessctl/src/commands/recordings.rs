//! Recordings of sessions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use access_client::proto::{DownloadRequest, ListRecordingsRequest};
use access_client::types::RecordingDocument;
use access_client::with_deadline;
use access_core::SessionId;
use access_daemon::{Exit, ExitCode, OutputFormat, Table, note, print_bytes, print_value};

use super::moment;
use crate::cluster::Cluster;
use crate::files::{self, NewFile};
use access_daemon::client_exit;

/// How long a download may pause.
const PAUSE: Duration = Duration::from_secs(60);

pub(crate) async fn ls(cluster: &Cluster, format: OutputFormat) -> Result<(), Exit> {
    let mut recordings = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRecordingsRequest { page_size: 0, page_token };
        let answer = cluster.client().recordings().list(with_deadline(request)).await;
        let answer = answer.map_err(client_exit)?.into_inner();
        for json in answer.recordings {
            recordings.push(RecordingDocument::from_json(&json).map_err(Exit::failed)?);
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    recordings.sort_by_key(|recording| recording.spec.started.unwrap_or(recording.spec.uploaded));
    if format != OutputFormat::Text {
        return print_value(&recordings, format);
    }
    let mut table = Table::new(["Session", "Started", "User", "Login", "Target", "Bytes", "State"]);
    for recording in &recordings {
        let spec = &recording.spec;
        table.row([
            spec.session.to_string(),
            spec.started.map(moment).unwrap_or_default(),
            spec.user.clone(),
            spec.login.clone().unwrap_or_default(),
            spec.target.clone(),
            spec.size.to_string(),
            spec.state.as_str().to_owned(),
        ]);
    }
    table.print()
}

pub(crate) async fn download(
    cluster: &Cluster,
    session: &SessionId,
    out: Option<PathBuf>,
    overwrite: bool,
) -> Result<(), Exit> {
    let out = out.unwrap_or_else(|| PathBuf::from(format!("{session}.rec")));
    let mut file = None;
    if out != Path::new("-") {
        files::check_free([&out], overwrite)?;
        file = Some(NewFile::create(&out)?);
    }
    let request = DownloadRequest { session_id: session.as_str().to_owned() };
    let answer = cluster.client().recordings().download(request).await;
    let mut parts = answer.map_err(client_exit)?.into_inner();
    let mut size = 0;
    loop {
        let part = tokio::time::timeout(PAUSE, parts.message())
            .await
            .map_err(|_| Exit::new(ExitCode::Unreachable, "the download has stalled"))?;
        let Some(part) = part.map_err(client_exit)? else { break };
        size += part.data.len();
        match &mut file {
            Some(file) => file.write(&part.data)?,
            None => print_bytes(&part.data)?,
        }
    }
    if let Some(file) = file {
        file.finish()?;
        let out = out.display();
        note(&format!("{out} written, {size} bytes: access play {out} shows and verifies it"));
    }
    Ok(())
}
