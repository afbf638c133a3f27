//! From the folder to Auth, until it is stored there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use access_client::{AuthClient, ClientError, proto};
use futures::StreamExt;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Shared, SpoolRecorder, Waiting};
use crate::pause::Pause;
use crate::spool::ClientSource;

/// The size of the pieces that are sent, in bytes.
const PART: u64 = 256 * 1024;
/// How many recordings are uploaded at once.
const AT_ONCE: usize = 16;
/// How far apart uploads begin: what ended between two goes together, and Auth stores it in few
/// transactions.
const GATHER: Duration = Duration::from_millis(200);
/// The largest recordings that are read with the folder, in bytes, and how many: most are small, and
/// a turn of a thread that may block costs more than reading one.
const SMALL: u64 = 16 * 1024;
const READ_AT_ONCE: usize = 64;
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
            let next = Instant::now() + GATHER;
            let failed = self.upload_waiting(&clients).await;
            if failed == 0 {
                pause.reset();
                tokio::select! {
                    _ = ended.changed() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
                tokio::time::sleep_until(next).await;
            } else {
                tokio::time::sleep(pause.after_failure()).await;
            }
        }
    }

    /// Uploads what waits now, once each, and says how many could not be.
    pub async fn upload_waiting(&self, clients: &ClientSource) -> usize {
        let shared = Arc::clone(&self.shared);
        let found = tokio::task::spawn_blocking(move || {
            let waiting = shared.waiting()?.into_iter().map(Reading::from).collect();
            io::Result::<Vec<_>>::Ok(read_small(waiting))
        });
        let waiting = match found.await.map_err(io::Error::other).and_then(|found| found) {
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

/// Uploads a recording and takes it out of its place. Says whether it worked.
async fn upload_one(shared: &Arc<Shared>, client: AuthClient, recording: Reading) -> bool {
    let Waiting { session, path, size } = &recording.of.clone();
    let stored = if *size == 0 {
        // The process ended before the first byte: there was no session.
        Ok(())
    } else {
        send(&client, recording).await
    };
    match stored {
        Ok(()) => match shared.spares.give(path) {
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

async fn send(client: &AuthClient, recording: Reading) -> Result<(), ClientError> {
    let Waiting { session, path, size } = recording.of.clone();
    let unreadable = |err: io::Error| ClientError::Malformed(format!("{}: {err}", path.display()));
    let (broke, broken) = oneshot::channel();
    let name = session.to_string();
    let parts = futures::stream::unfold((recording, Some(broke), name), |state| async move {
        let (mut reading, mut broke, session) = state;
        if reading.at >= reading.of.size {
            return None;
        }
        let read = match reading.small.take() {
            Some(data) => {
                reading.at = reading.of.size;
                Ok((data, reading))
            }
            None => tokio::task::spawn_blocking(move || reading.part())
                .await
                .map_err(io::Error::other)
                .and_then(|read| read),
        };
        match read {
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
    if answer.size == size {
        Ok(())
    } else {
        let why = format!("of {size} bytes of the recording {} were stored", answer.size);
        Err(ClientError::Malformed(why))
    }
}

/// A recording that is read part by part; opening its file and reading the first is one turn of a
/// thread that may block.
struct Reading {
    of: Waiting,
    file: Option<File>,
    at: u64,
    /// All of it, if it was small enough to be read before.
    small: Option<Vec<u8>>,
}

impl From<Waiting> for Reading {
    fn from(of: Waiting) -> Self {
        Self { of, file: None, at: 0, small: None }
    }
}

impl Reading {
    fn part(mut self) -> io::Result<(Vec<u8>, Self)> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.of.path)?,
        };
        let len = self.of.size.saturating_sub(self.at).min(PART);
        let mut data = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut data, self.at)?;
        Ok((data, Self { file: Some(file), at: self.at + len, ..self }))
    }
}

/// Reads those that are small. What goes wrong with one is met again when it is sent.
fn read_small(mut waiting: Vec<Reading>) -> Vec<Reading> {
    let small = waiting.iter_mut().filter(|reading| reading.of.size <= SMALL);
    for reading in small.take(READ_AT_ONCE) {
        let read = std::fs::read(&reading.of.path).ok();
        reading.small = read.filter(|data| data.len() as u64 == reading.of.size);
    }
    waiting
}
