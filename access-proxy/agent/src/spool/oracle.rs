//! What must hold for any bytes whatever; shared by the fuzz target and tests.

use access_core::audit::Envelope;

use super::frame::{Found, Line, lines};
use super::sessions::OpenSessions;

/// Checks that the lines of a file are read to its last end of a line, each survives its bytes,
/// and what is in them can be anything.
///
/// With an even first byte the rest is a file as it is; with an odd one each of its lines is given
/// the checksum that it lacks, so that damage that a checksum would hide is seen too.
///
/// # Panics
/// When that does not hold.
pub fn fuzz_oracle(bytes: &[u8]) {
    let Some((first, file)) = bytes.split_first() else { return };
    if first & 1 == 0 {
        read(file);
        return;
    }
    let mut summed = Vec::new();
    for line in file.split(|byte| *byte == b'\n') {
        let rest = [b" ", line].concat();
        summed.extend(format!("{:08x}", crc32c::crc32c(&rest)).into_bytes());
        summed.extend(rest);
        summed.push(b'\n');
    }
    read(&summed);
}

fn read(file: &[u8]) {
    let mut at = 0;
    let mut sessions = OpenSessions::default();
    for found in lines(file) {
        let end = match found {
            Found::Line(line, end) => {
                whole(line, &mut sessions);
                end
            }
            Found::Damaged(end) => end,
        };
        assert!(at < end && end <= file.len(), "line from {at} to {end} of {}", file.len());
        assert_eq!(file.get(end - 1), Some(&b'\n'), "a line ends at {end}");
        at = end;
    }
    let rest = file.get(at..).unwrap_or_default();
    assert!(!rest.contains(&b'\n'), "whole lines are left at {at}");
}

fn whole(line: Line<'_>, sessions: &mut OpenSessions) {
    let written = line.encode();
    let text = written.strip_suffix(b"\n").unwrap_or_default();
    assert_eq!(Line::decode(text), Some(line));
    let _ = Envelope::from_json(line.json);
    sessions.note_json(line.json);
}
