//! What must hold for any bytes that peers can send; shared by fuzz targets and tests.

use crate::sftp_watch::{Breach, Done, SftpWatch, Totals};

/// Checks what the watcher of SFTP makes of a conversation: the same however the bytes are cut,
/// within its bounds.
///
/// The conversation is a row of turns. Each begins with a byte, of which the highest bit says who
/// speaks (set: the server) and the others how many bytes follow; 127 of them stand for a length
/// in two more bytes.
///
/// # Panics
/// When that does not hold.
pub fn sftp_watch(bytes: &[u8]) {
    let turns = turns(bytes);
    let whole = watch(&turns, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(whole, watch(&turns, piece), "in pieces of {piece}");
    }
}

/// Who speaks (whether the server), and what.
type Turn<'a> = (bool, &'a [u8]);

fn turns(mut bytes: &[u8]) -> Vec<Turn<'_>> {
    let mut turns = Vec::new();
    while let Some((head, mut rest)) = bytes.split_first() {
        let mut length = usize::from(head & 127);
        if length == 127
            && let Some((long, after)) = rest.split_first_chunk()
        {
            length = usize::from(u16::from_be_bytes(*long));
            rest = after;
        }
        let (turn, after) = rest.split_at(length.min(rest.len()));
        turns.push((head & 128 != 0, turn));
        bytes = after;
    }
    turns
}

/// All that came of a conversation.
#[derive(Debug, PartialEq)]
struct Seen {
    untracked: Vec<Done>,
    settled: Vec<Done>,
    unsettled: Vec<Done>,
    totals: Totals,
    breach: Option<Breach>,
}

fn watch(turns: &[Turn<'_>], piece: usize) -> Seen {
    let mut watch = SftpWatch::default();
    let (mut untracked, mut settled, mut breach) = (Vec::new(), Vec::new(), None);
    'all: for (server, bytes) in turns {
        for part in bytes.chunks(piece) {
            if *server {
                settled.extend(watch.server(part));
            } else {
                let (lost, kept) = watch.client(part);
                untracked.extend(lost);
                breach = kept.err();
            }
            let broken = watch.broken_bound();
            assert!(broken.is_none(), "{broken:?}");
            // These bytes are not handed on, and the session ends.
            if breach.is_some() {
                break 'all;
            }
        }
    }
    let totals = watch.totals();
    let mut unsettled = watch.unsettled();
    unsettled.sort_by_key(|done| format!("{done:?}"));
    Seen { untracked, settled, unsettled, totals, breach }
}
