//! What holds for any bytes: for fuzzing, and for the property test below. Not for programs.

use access_core::Timestamp;
use bytes::BytesMut;

use crate::machine::{Back, Broken, MAX_JUDGED, Machine, Note, Out, Question, Step, Watch};
use crate::wire::{self, Failure, sqlstate};

/// The most that is held of one side beyond the bytes that were just given.
const MAX_HELD: usize = MAX_JUDGED + 1024;

/// Any bytes as a client's first packet, as a server's greeting, and as both sides of a session:
/// nothing panics, memory is bounded, and it makes no difference where the bytes are cut.
///
/// # Errors
/// What does not hold.
pub fn check(data: &[u8]) -> Result<(), String> {
    check_first(data)?;
    check_greeting(data)?;
    check_session(data)
}

fn check_first(data: &[u8]) -> Result<(), String> {
    let whole = wire::first(data);
    for cut in 0..data.len().min(400) {
        let (head, _) = data.split_at(cut);
        match wire::first(head) {
            Ok(None) => {}
            some if some == whole => {}
            other => return Err(format!("first: {other:?} at {cut}, {whole:?} in whole")),
        }
    }
    match whole {
        Ok(Some((_, total))) if total > data.len() => Err("first: more than there is".into()),
        _ => Ok(()),
    }
}

fn check_greeting(data: &[u8]) -> Result<(), String> {
    let run = |size: usize| {
        let mut back = Back::new(None, true);
        let (mut buf, mut out) = (BytesMut::new(), Vec::new());
        for piece in data.chunks(size) {
            buf.extend_from_slice(piece);
            match back.server(&mut buf, &mut out) {
                Ok(false) => {}
                Ok(true) => return "ready".to_owned(),
                Err(err) => return err.to_string(),
            }
        }
        "more".to_owned()
    };
    let whole = run(data.len().max(1));
    for size in [1, 7, 64] {
        let cut = run(size);
        if cut != whole {
            return Err(format!("greeting: {cut} in pieces of {size}, {whole} in whole"));
        }
    }
    Ok(())
}

/// The two sides take turns; a turn is as long as its first byte says, times itself.
fn turns(data: &[u8]) -> Vec<(bool, &[u8])> {
    let (mut turns, mut rest, mut client) = (Vec::new(), data, true);
    while let Some((len, after)) = rest.split_first() {
        let len = usize::from(*len) * usize::from(*len);
        let (turn, after) = after.split_at_checked(len).unwrap_or((after, &[]));
        turns.push((client, turn));
        (client, rest) = (!client, after);
    }
    turns
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    broken: Option<Broken>,
    statements: u64,
}

fn check_session(data: &[u8]) -> Result<(), String> {
    let turns = turns(data);
    let whole = session(&turns, usize::MAX)?;
    for size in [1, 5, 1000] {
        let cut = session(&turns, size)?;
        let same = match (&whole.broken, &cut.broken) {
            // What came before the fault in the same bytes was not let out.
            (Some(one), Some(other)) => {
                one == other
                    && cut.to_server.starts_with(&whole.to_server)
                    && cut.to_client.starts_with(&whole.to_client)
            }
            _ => whole == cut,
        };
        if !same {
            return Err(format!("session: {cut:?} in pieces of {size}, {whole:?} in whole"));
        }
    }
    Ok(())
}

fn session(turns: &[(bool, &[u8])], size: usize) -> Result<Seen, String> {
    let mut machine = Machine::new(Watch { read_only: true, redact: false, columns: true });
    let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
    let (mut seen, mut over) = (Seen::default(), false);
    for (client, turn) in turns {
        for piece in turn.chunks(size.min(turn.len()).max(1)) {
            let mut notes = Vec::new();
            let done = if *client {
                if over {
                    continue;
                }
                up.extend_from_slice(piece);
                client_turn(&mut machine, &mut up, &mut seen.to_server, &mut notes)
                    .map(|step| over = step == Step::Over)
            } else {
                down.extend_from_slice(piece);
                let mut out = Out::default();
                let done = machine.server(&mut down, &mut out, &mut notes);
                if done.is_ok() {
                    seen.to_client.extend(out.pieces.iter().flatten());
                }
                done
            };
            seen.statements = machine.statements();
            if let Err(broken) = done {
                seen.broken = Some(broken);
                return Ok(seen);
            }
            // A client that is held up is not read from.
            let held = down.len().max(if machine.is_busy() { 0 } else { up.len() });
            if held > MAX_HELD + piece.len() {
                return Err(format!("{held} bytes are held"));
            }
        }
    }
    Ok(seen)
}

fn client_turn(
    machine: &mut Machine,
    up: &mut BytesMut,
    to_server: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<Step, Broken> {
    loop {
        let mut out = Out::default();
        let step = machine.client(up, &mut out, Timestamp::EPOCH)?;
        match step {
            Step::Tell => machine.tell(notes),
            Step::Judge => {
                let refused = match machine.question(up) {
                    Some(Question::Statement { text, .. }) => {
                        for statement in crate::sql::statements(text) {
                            let _ = statement.commands().count();
                        }
                        text.first() == Some(&b'd')
                    }
                    Some(Question::Call) => true,
                    None => false,
                };
                if refused {
                    let failure = Failure::error(sqlstate::INSUFFICIENT_PRIVILEGE, "no");
                    machine.refuse(&failure, up, &mut out, Timestamp::EPOCH);
                } else {
                    machine.allow();
                }
            }
            Step::More | Step::Full | Step::Over => {}
        }
        to_server.extend(out.pieces.iter().flatten());
        if !matches!(step, Step::Tell | Step::Judge) {
            return Ok(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that are messages more often than chance makes them.
    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop::sample::select(b"QPBDECSFHXdcf1234nsTDCIEZGVNASKR".to_vec());
        let body = prop::collection::vec(prop_oneof![Just(0u8), any::<u8>(), Just(b'd')], 0..12);
        let message = (kind, body, prop::bool::weighted(0.05)).prop_map(|(kind, body, lie)| {
            let length = (body.len() as u32 + 4) ^ u32::from(lie);
            [&[kind][..], &length.to_be_bytes(), &body].concat()
        });
        let turn = prop::collection::vec(message, 0..8).prop_map(|messages| {
            let bytes = messages.concat();
            let root = (bytes.len() as f64).sqrt() as usize;
            let kept = bytes[..root * root].to_vec();
            [&[root as u8][..], &kept].concat()
        });
        prop::collection::vec(turn, 0..12).prop_map(|turns| turns.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(check(&data), Ok(()));
        }

        #[test]
        fn any_messages(data in messages()) {
            prop_assert_eq!(check(&data), Ok(()));
        }
    }
}
