//! What must hold for any bytes whatever; shared by the fuzz target and tests.

use std::fs::OpenOptions;
use std::io::{self, Read};

use super::attributes::Attributes;
use super::handles::Open;
use super::server::Server;
use super::wire::{Fields, MAX_PACKET, Status, reply, request};

/// A greeting, without which nothing is served.
const GREETING: [u8; 9] = [0, 0, 0, 5, request::INIT, 0, 0, 0, 3];

/// Checks that a session is answered the same however its bytes are cut, with one whole packet for
/// each request, in their order.
///
/// The system is not touched: of the requests that would open, change or look up a file by its
/// path, or change an open one's attributes, only the fields are read. Handle 0 is `/dev/null`.
///
/// # Panics
/// When that does not hold.
pub fn fuzz_oracle(bytes: &[u8]) {
    let (packets, rest) = packets(bytes);
    let mut input = GREETING.to_vec();
    let mut ids = Vec::new();
    let mut broken = false;
    for packet in packets {
        if !harmless(packet) {
            let _ = fields_of(packet);
            continue;
        }
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        input.extend(length.to_be_bytes());
        input.extend_from_slice(packet);
        let id = packet.get(1..5).and_then(|id| <[u8; 4]>::try_from(id).ok());
        broken |= id.is_none();
        ids.extend(id.filter(|_| !broken));
    }
    // No whole packet, so that nothing in it is done.
    input.extend_from_slice(rest);
    let (whole, output) = serve(&input, usize::MAX);
    for piece in [7, 1000] {
        let (pieces, same) = serve(&input, piece);
        assert_eq!(whole, pieces, "in pieces of {piece}");
        // What was answered right before a session breaks may be sent or not.
        assert!(whole.is_some() || output == same, "in pieces of {piece}");
    }
    if whole.is_none() {
        answers(&output, &ids);
    }
}

/// The whole packets, and what is left.
fn packets(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut packets = Vec::new();
    while let Some((length, after)) = bytes.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((packet, after)) = after.split_at_checked(length) else { break };
        if length == 0 || length > MAX_PACKET {
            break;
        }
        packets.push(packet);
        bytes = after;
    }
    (packets, bytes)
}

/// Whether a request can do no more than use `/dev/null`, ask for limits and for names.
fn harmless(packet: &[u8]) -> bool {
    let mut fields = Fields(packet);
    match fields.u8() {
        Ok(
            request::INIT
            | request::CLOSE
            | request::READ
            | request::WRITE
            | request::FSTAT
            | request::READDIR,
        ) => true,
        Ok(request::EXTENDED) => {
            let name = fields.u32().and_then(|_| fields.bytes());
            matches!(
                name,
                Ok(b"fsync@openssh.com"
                    | b"copy-data"
                    | b"fstatvfs@openssh.com"
                    | b"limits@openssh.com"
                    | b"users-groups-by-id@openssh.com")
            )
        }
        // Nothing at all, or a type that no table has.
        Ok(0 | 2 | 21..=199 | 201..) | Err(_) => true,
        Ok(_) => false,
    }
}

/// Reads the fields that a request could have: a path, another one or flags, attributes.
fn fields_of(packet: &[u8]) -> Result<(), Status> {
    let mut fields = Fields(packet);
    let kind = fields.u8()?;
    fields.u32()?;
    fields.path()?;
    match kind {
        request::OPEN => {
            fields.u32()?;
            Attributes::decode(&mut fields)?;
        }
        request::RENAME | request::SYMLINK => {
            fields.path()?;
        }
        request::EXTENDED => {
            fields.path()?;
            let _ = Attributes::decode(&mut fields.clone());
            fields.path()?;
        }
        _ => {
            Attributes::decode(&mut fields)?;
        }
    }
    Ok(())
}

/// Why a session broke, if it did, and what was answered until then.
fn serve(input: &[u8], piece: usize) -> (Option<io::ErrorKind>, Vec<u8>) {
    let mut server = Server::default();
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    if let Ok(file) = null {
        let _ = server.handles.insert(Open::File { file, append: false });
    }
    let mut output = Vec::new();
    let ended = server.run(Pieces { bytes: input, piece }, &mut output);
    (ended.err().map(|err| err.kind()), output)
}

/// Bytes that come in pieces, and then the end.
struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let take = self.piece.min(into.len()).min(self.bytes.len());
        let (now, rest) = self.bytes.split_at(take);
        into.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        self.bytes = rest;
        Ok(take)
    }
}

fn answers(output: &[u8], ids: &[[u8; 4]]) {
    let (answers, rest) = packets(output);
    assert!(rest.is_empty(), "an answer is not whole, or longer than any may be");
    let told: Vec<&[u8]> = answers.iter().skip(1).filter_map(|answer| answer.get(1..5)).collect();
    assert_eq!(told, ids, "each request is answered once, in its turn");
    for answer in answers {
        let known = [
            reply::VERSION,
            reply::STATUS,
            reply::HANDLE,
            reply::DATA,
            reply::NAME,
            reply::ATTRS,
            reply::EXTENDED_REPLY,
        ];
        assert!(answer.first().is_some_and(|kind| known.contains(kind)), "{answer:02x?}");
    }
}
