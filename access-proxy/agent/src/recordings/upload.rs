//! From the folder to Auth, until it is stored there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use access_client::{AuthClient, ClientError, proto};
use futures::StreamExt;
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::{Shared, SpoolRecorder, Waiting};
use crate::files;
use crate::pause::Pause;
use crate::spool::ClientSource;

/// The size of the pieces that are sent, in bytes.
const PART: u64 = 256 * 1024;
/// How many recordings are uploaded at once.
const AT_ONCE: usize = 4;
/// A look at the folder, in case a tick was missed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl SpoolRecorder {
    /// Uploads for as long as it is polled. One at a time.
    pub async fn upload(&self, clients: ClientSource) {
        let shared = &self.shared;
        let mut ended = shared.ended.subscribe();
        let mut pause = Pause::for_calls();
        loop {
            ended.mark_unchanged();
            let failed = self.upload_waiting(&clients).await;
            if failed == 0 {
                pause.reset();
                tokio::select! {
                    _ = ended.changed() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            } else {
                tokio::time::sleep(pause.after_failure()).await;
            }
        }
    }

    /// Uploads what waits now, once each, and says how many could not be.
    pub async fn upload_waiting(&self, clients: &ClientSource) -> usize {
        let waiting = match self.shared.waiting() {
            Ok(waiting) => waiting,
            Err(err) => {
                warn!("the recordings cannot be listed: {err}");
                return 1;
            }
        };
        futures::stream::iter(waiting)
            .map(|recording| upload_one(&self.shared, clients(), recording))
            .buffer_unordered(AT_ONCE)
            .filter(|uploaded| futures::future::ready(!uploaded))
            .count()
            .await
    }
}

/// Uploads a recording and removes it. Says whether it worked.
async fn upload_one(shared: &Arc<Shared>, client: AuthClient, recording: Waiting) -> bool {
    let Waiting { session, path, size } = &recording;
    let stored = if *size == 0 {
        // The process ended before the first byte: there was no session.
        Ok(())
    } else {
        send(&client, &recording).await
    };
    match stored {
        Ok(()) => match files::remove(path) {
            Ok(()) => {
                // What was written by somebody who was gone then was never added.
                let less = |used: u64| Some(used.saturating_sub(*size));
                let _ = shared.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                info!(%session, size, "the recording was uploaded");
                true
            }
            Err(err) => {
                warn!(%session, "the uploaded recording cannot be removed: {err}");
                false
            }
        },
        Err(ClientError::AlreadyExists(why)) => {
            // Trying again would change nothing, and removing it would lose it.
            let aside = path.with_extension("kept");
            error!(%session, "kept as {}, it is for a person to look at: {why}", aside.display());
            std::fs::rename(path, &aside).is_ok()
        }
        Err(err) => {
            debug!(%session, "the recording was not uploaded: {err}");
            false
        }
    }
}

async fn send(client: &AuthClient, recording: &Waiting) -> Result<(), ClientError> {
    let unreadable =
        |err: io::Error| ClientError::Malformed(format!("{}: {err}", recording.path.display()));
    let (broke, broken) = oneshot::channel();
    let session = recording.session.to_string();
    let reading = Reading { path: recording.path.clone(), file: None, at: 0, size: recording.size };
    let parts = futures::stream::unfold((reading, Some(broke), session), |state| async move {
        let (reading, mut broke, session) = state;
        if reading.at >= reading.size {
            return None;
        }
        let read = tokio::task::spawn_blocking(move || reading.part()).await;
        match read.map_err(io::Error::other).and_then(|read| read) {
            Ok((data, reading)) => {
                // The first part names the session.
                let part = proto::RecordingPart { session_id: session, data };
                Some((part, (reading, broke, String::new())))
            }
            Err(err) => {
                if let Some(broke) = broke.take() {
                    drop(broke.send(err));
                }
                // Ending here would pass a part of the recording off as the whole.
                std::future::pending().await
            }
        }
    });
    let mut recordings = client.recordings();
    let upload = recordings.upload(parts);
    let answer = tokio::select! {
        answer = upload => answer?.into_inner(),
        Ok(err) = broken => return Err(unreadable(err)),
    };
    if answer.size == recording.size {
        Ok(())
    } else {
        Err(ClientError::Malformed(format!(
            "of {} bytes of the recording {} were stored",
            recording.size, answer.size
        )))
    }
}

/// A file that is read part by part; opening it and reading the first is one turn of a thread that
/// may block.
struct Reading {
    path: PathBuf,
    file: Option<File>,
    at: u64,
    size: u64,
}

impl Reading {
    fn part(mut self) -> io::Result<(Vec<u8>, Self)> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        let len = self.size.saturating_sub(self.at).min(PART);
        let mut data = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut data, self.at)?;
        Ok((data, Self { file: Some(file), at: self.at + len, ..self }))
    }
}
