//! Events that Auth refuses for good: kept aside, so that what comes after them is delivered.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use access_core::audit::Envelope;
use access_core::audit::events::AuditDropped;
use access_core::{Timestamp, WriterId};

/// The file's name: a line of JSON for each event, as it was accepted.
pub(super) const FILE: &str = "refused";
/// How large it may get; what comes then is counted only.
const MAX_BYTES: u64 = 1024 * 1024;

/// Keeps an event aside. Says whether there was room.
pub(super) fn keep(dir: &Path, json: &[u8]) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(dir.join(FILE))?;
    let mut line = json.to_vec();
    line.push(b'\n');
    if file.metadata()?.len() + u64::try_from(line.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Ok(false);
    }
    file.write_all(&line)?;
    file.sync_data()?;
    Ok(true)
}

/// What the log is told of a refused event. `None` for one that tells of another itself: where
/// everything is refused that would go on for ever.
pub(super) fn report(json: &[u8], now: Timestamp) -> Option<AuditDropped> {
    match Envelope::from_json(json) {
        Ok(envelope) if envelope.event.name() == "audit.dropped" => None,
        Ok(envelope) => Some(AuditDropped {
            dropped: 1,
            since: envelope.time,
            most: Some(envelope.event.name().into()),
        }),
        Err(_) => Some(AuditDropped { dropped: 1, since: now, most: None }),
    }
}

/// An event under another writer and the number that it has with that one.
pub(super) fn restamp(json: &[u8], writer: &WriterId, base: u64) -> Vec<u8> {
    let Ok(mut envelope) = Envelope::from_json(json) else { return json.to_vec() };
    envelope.writer = writer.clone();
    envelope.seq = envelope.seq.saturating_sub(base);
    envelope.to_json().unwrap_or_else(|_| json.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let json = vec![b'x'; 300 * 1024];
        let kept = (0..5).filter(|_| keep(dir.path(), &json).unwrap()).count();
        assert_eq!(kept, 3);
        let len = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert!(len <= MAX_BYTES, "{len}");
        assert!(keep(dir.path(), b"{}").unwrap(), "a small one still fits");
    }
}
