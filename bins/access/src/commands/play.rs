//! Replaying recorded sessions.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use access_client::proto::DownloadRequest;
use access_client::recorder_trust;
use access_core::recording::{CastExport, Ending, RecordingReader, What};
use access_daemon::{Exit, Stripper, note, print, print_bytes, print_document};

use crate::cli::{Global, PlayFormat};
use crate::context::Session;
use access_daemon::client_exit;

/// The largest recording that is played from memory, in bytes.
const MAX_RECORDING: usize = 1 << 30;

/// The longest pause that is waited for while playing.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

pub(crate) async fn play(
    global: &Global,
    session: &str,
    speed: f64,
    format: Option<PlayFormat>,
) -> Result<(), Exit> {
    if !(speed.is_finite() && speed > 0.0) {
        return Err(Exit::usage("--speed must be more than 0"));
    }
    let access = Session::open(global)?;
    let bytes = match Path::new(session) {
        path if session.contains('/') || path.exists() => std::fs::read(path)
            .map_err(|err| Exit::failed(format!("cannot read {session}: {err}")))?,
        _ => download(&access, session).await?,
    };
    let trust = recorder_trust(access.credentials.trust_store().map_err(client_exit)?);
    let format = format.unwrap_or(if std::io::stdout().is_terminal() {
        PlayFormat::Play
    } else {
        PlayFormat::Text
    });
    let ending = match format {
        PlayFormat::Cast => {
            let mut export = CastExport::new(RecordingReader::new(trust));
            let mut cast = Vec::new();
            export.push(&bytes, &mut cast);
            print_document(&String::from_utf8_lossy(&cast))?;
            export.finish()
        }
        PlayFormat::Text => {
            let mut stripper = Stripper::default();
            let text = |output: &[u8]| print(&stripper.push(&String::from_utf8_lossy(output)));
            show(&bytes, RecordingReader::new(trust), None, text).await?
        }
        // Whatever the session did to its terminal is done again: only on a terminal.
        PlayFormat::Play if std::io::stdout().is_terminal() => {
            show(&bytes, RecordingReader::new(trust), Some(speed), print_bytes).await?
        }
        PlayFormat::Play => {
            return Err(Exit::usage(
                "--format=play needs a terminal: text shows what was written, cast all of it",
            ));
        }
    };
    tell(&ending)
}

async fn download(access: &Session, session: &str) -> Result<Vec<u8>, Exit> {
    let request = DownloadRequest { session_id: session.to_owned() };
    let answer = access.client()?.recordings().download(request).await;
    let mut parts = answer.map_err(client_exit)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await.map_err(client_exit)? {
        if bytes.len() + part.data.len() > MAX_RECORDING {
            return Err(Exit::failed(
                "the recording is larger than 1 GiB: use accessctl recordings",
            ));
        }
        bytes.extend_from_slice(&part.data);
    }
    Ok(bytes)
}

/// Shows what the session showed; in time when there is a speed.
async fn show(
    bytes: &[u8],
    mut reader: RecordingReader,
    speed: Option<f64>,
    mut print: impl FnMut(&[u8]) -> Result<(), Exit>,
) -> Result<Ending, Exit> {
    reader.push(bytes);
    let mut last = Duration::ZERO;
    while let Some(event) = reader.next_event() {
        let output = match event.what {
            What::Output(text) => text.into_bytes(),
            What::OutputBytes(bytes) => bytes,
            _ => continue,
        };
        if let Some(speed) = speed {
            let pause = event.at.saturating_sub(last).div_f64(speed).min(LONGEST_PAUSE);
            tokio::time::sleep(pause).await;
            last = event.at;
        }
        print(&output)?;
    }
    Ok(reader.finish())
}

/// Says on standard error how far the recording can be believed.
fn tell(ending: &Ending) -> Result<(), Exit> {
    match ending {
        Ending::Complete { .. } => Ok(()),
        Ending::Tampered { at, why } => {
            Err(Exit::failed(format!("the recording was changed after byte {at}: {why}")))
        }
        other => {
            note(&format!("the recording is not complete and signed: {other:?}"));
            Ok(())
        }
    }
}
