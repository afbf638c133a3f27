//! What must hold for any bytes whatever; shared by fuzz targets and tests.

use super::cast::to_asciicast;
use super::reader::{Ending, RecordedEvent, RecordingReader};
use super::sign::RecorderKey;

/// Checks that reading these bytes ends, and that it does not matter how they are cut.
///
/// # Panics
/// When that does not hold.
pub fn fuzz_oracle(bytes: &[u8]) {
    let (whole, ending) = read(bytes, bytes.len().max(1));
    for piece in [1, 7, 4096] {
        let (pieces, same) = read(bytes, piece);
        assert_eq!(whole, pieces, "pieces of {piece} bytes give other events");
        assert_eq!(ending, same, "pieces of {piece} bytes give another ending");
    }
    assert!(!matches!(ending, Ending::Complete { .. }), "nobody is trusted");
    if let Ending::Truncated { at } | Ending::Tampered { at, .. } = ending {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        assert!(at <= len, "it breaks off behind its end");
    }
    let (cast, _) = to_asciicast(bytes, Vec::<RecorderKey>::new());
    assert!(cast.is_empty() || cast.ends_with(b"\n"), "an export ends within a line");
}

fn read(bytes: &[u8], piece: usize) -> (Vec<RecordedEvent>, Ending) {
    let mut reader = RecordingReader::trusting_nobody();
    let mut events = Vec::new();
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        while let Some(event) = reader.next_event() {
            events.push(event);
        }
    }
    (events, reader.finish())
}
