//! What holds for any bytes: for fuzzing, and for the property test below. Not for programs.

use access_core::Timestamp;
use bytes::BytesMut;

use crate::machine::{Back, Broken, MAX_JUDGED, Machine, Note, Out, Question, Step, Watch};
use crate::prelude::{Recognised, recognise};
use crate::wire::{self, Failure, sqlstate};

/// The most that is held of one side beyond the bytes that were just given.
const MAX_HELD: usize = MAX_JUDGED + 1024;

/// Any bytes as a client's first packet, as a server's greeting, and as both sides of a session:
/// nothing panics, memory is bounded, and it makes no difference where the bytes are cut: here, in
/// a way that is drawn from the bytes themselves. One of four is cut at each byte.
///
/// # Errors
/// What does not hold.
pub fn check(data: &[u8]) -> Result<(), String> {
    check_first(data)?;
    let ways = [Cut::drawn(data)];
    check_greeting(data, &ways)?;
    check_session(data, &ways)
}

/// The same, in several ways for all of which it makes no difference: for inputs that are few.
///
/// # Errors
/// What does not hold.
pub fn check_in_every_way(data: &[u8]) -> Result<(), String> {
    check_first(data)?;
    let ways = [Cut::upto(1), Cut::every(5), Cut::every(64), Cut::every(1000), Cut::drawn(data)];
    check_greeting(data, &ways)?;
    check_session(data, &ways)
}

/// Where bytes are cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    least: usize,
    most: usize,
    /// Draws what is between.
    state: u64,
}

impl Cut {
    const WHOLE: Self = Self::every(usize::MAX);

    const fn every(size: usize) -> Self {
        Self { least: size, most: size, state: 1 }
    }

    const fn upto(most: usize) -> Self {
        Self { least: 1, most, state: 1 }
    }

    fn drawn(data: &[u8]) -> Self {
        // FNV-1a: the same bytes are always cut in the same way.
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        let state = data.iter().fold(0xcbf2_9ce4_8422_2325, hash);
        let most = match state >> 62 {
            0 => 1,
            1 => 3,
            2 => 16,
            _ => 300,
        };
        Self { state: state | 1, ..Self::upto(most) }
    }

    /// Takes the next piece off the front.
    fn piece<'a>(&mut self, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        if rest.is_empty() {
            return None;
        }
        let mut size = self.least;
        if self.most > self.least {
            // Xorshift.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let span = (self.most - self.least + 1) as u64;
            size += usize::try_from(self.state % span).unwrap_or_default();
        }
        let (piece, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
        *rest = after;
        Some(piece)
    }
}

/// What the first bytes are known for stays so, whatever follows, and eight are enough.
fn check_recognised(data: &[u8]) -> Result<(), String> {
    let mut known = Recognised::More;
    for end in 1..=data.len().min(16) {
        let (head, _) = data.split_at(end);
        match (known, recognise(head)) {
            (Recognised::More, more) if end < 8 || more != Recognised::More => known = more,
            (known, same) if known == same && known != Recognised::More => {}
            (known, other) => return Err(format!("{other:?} after {known:?}, at {end}")),
        }
    }
    Ok(())
}

fn check_first(data: &[u8]) -> Result<(), String> {
    check_recognised(data)?;
    let whole = wire::first(data);
    // A packet says how long it is. Where it is whole, cuts differ in what they leave after it.
    let length = data.first_chunk::<4>().map_or(usize::MAX, |l| u32::from_be_bytes(*l) as usize);
    let within = 0..data.len().min(400).min(length);
    let after = [length, length.saturating_add(1), length.saturating_add(9), data.len() / 2];
    for cut in within.chain(after.into_iter().filter(|cut| *cut < data.len())) {
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

fn check_greeting(data: &[u8], ways: &[Cut]) -> Result<(), String> {
    let run = |mut cut: Cut| {
        let mut back = Back::new(None, true);
        let (mut buf, mut out, mut rest) = (BytesMut::new(), Vec::new(), data);
        while let Some(piece) = cut.piece(&mut rest) {
            buf.extend_from_slice(piece);
            match back.server(&mut buf, &mut out) {
                Ok(false) => {}
                Ok(true) => return "ready".to_owned(),
                Err(err) => return err.to_string(),
            }
        }
        "more".to_owned()
    };
    let whole = run(Cut::WHOLE);
    for way in ways.iter().filter(|way| way.least < data.len()) {
        let cut = run(*way);
        if cut != whole {
            return Err(format!("greeting: {cut} by {way:?}, {whole} in whole"));
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

fn check_session(data: &[u8], ways: &[Cut]) -> Result<(), String> {
    let turns = turns(data);
    let whole = session(&turns, Cut::WHOLE)?;
    let longest = turns.iter().map(|(_, turn)| turn.len()).max().unwrap_or_default();
    // Pieces that are longer than every turn are the whole.
    for way in ways.iter().filter(|way| way.least < longest) {
        let cut = session(&turns, *way)?;
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
            return Err(format!("session: {cut:?} by {way:?}, {whole:?} in whole"));
        }
    }
    Ok(())
}

fn session(turns: &[(bool, &[u8])], mut cut: Cut) -> Result<Seen, String> {
    let mut machine = Machine::new(Watch { read_only: true, redact: false, columns: true });
    let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
    let (mut seen, mut over) = (Seen::default(), false);
    // Taken empty into each call, without being allocated for each.
    let (mut out, mut notes) = (Out::default(), Vec::new());
    for (client, turn) in turns {
        let mut rest = *turn;
        while let Some(piece) = cut.piece(&mut rest) {
            notes.clear();
            let done = if *client {
                if over {
                    continue;
                }
                up.extend_from_slice(piece);
                client_turn(&mut machine, &mut up, &mut out, &mut seen.to_server, &mut notes)
                    .map(|step| over = step == Step::Over)
            } else {
                down.extend_from_slice(piece);
                let done = machine.server(&mut down, &mut out, &mut notes);
                if done.is_ok() {
                    take(&mut out, &mut seen.to_client);
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

fn take(out: &mut Out, into: &mut Vec<u8>) {
    for piece in out.pieces.drain(..) {
        into.extend_from_slice(&piece);
    }
}

fn client_turn(
    machine: &mut Machine,
    up: &mut BytesMut,
    out: &mut Out,
    to_server: &mut Vec<u8>,
    notes: &mut Vec<Note>,
) -> Result<Step, Broken> {
    loop {
        let step = machine.client(up, out, Timestamp::EPOCH)?;
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
                    machine.refuse(&failure, up, out, Timestamp::EPOCH);
                } else {
                    machine.allow();
                }
            }
            Step::More | Step::Full | Step::Over => {}
        }
        take(out, to_server);
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
            prop_assert_eq!(check_in_every_way(&data), Ok(()));
        }

        #[test]
        fn any_messages(data in messages()) {
            prop_assert_eq!(check_in_every_way(&data), Ok(()));
        }
    }
}
