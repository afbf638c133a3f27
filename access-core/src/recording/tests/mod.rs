mod sessions;

use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};

use super::frame::{self, CHAIN_LEN, Chain, HEADER_LEN, PREFIX_LEN};
use super::*;
use crate::ids::{Login, SessionId, UserName};
use crate::time::Timestamp;
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_767_323_045_678);

fn meta(kind: RecordingKind) -> RecordingMeta {
    let user = UserName::new("alice").unwrap();
    let mut meta =
        RecordingMeta::new(SessionId::new("s-1").unwrap(), kind, user, "node/web-1", START);
    meta.login = Some(Login::new("root").unwrap());
    meta.size = Some(TerminalSize::new(120, 40));
    meta.term = Some("xterm".into());
    meta
}

fn after(millis: u64) -> Timestamp {
    START.plus(Duration::from_millis(millis))
}

fn ed25519() -> RingSigner {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    RingSigner::from_pkcs8(pkcs8.as_ref(), vec![b"certificate".to_vec().into()]).unwrap()
}

fn p256() -> RingSigner {
    let alg = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(alg, &SystemRandom::new()).unwrap();
    RingSigner::from_pkcs8(pkcs8.as_ref(), Vec::new()).unwrap()
}

/// A recording with several chunks, and the events in it.
fn sample(signer: Option<&dyn RecordingSigner>) -> (Vec<u8>, Vec<RecordedEvent>) {
    let mut writer = RecordingWriter::new(&meta(RecordingKind::Ssh)).unwrap();
    let mut events = Vec::new();
    for n in 0..4_u64 {
        let text = format!("line {n} \"quoted\" \u{1b}[1m\u{e9}\r\n");
        writer.output(after(n * 1500), text.as_bytes());
        writer.input(after(n * 1500 + 1), b"x\x03");
        writer.resize(after(n * 1500 + 2), TerminalSize::new(90, 30));
        let at = |millis| Duration::from_millis(n * 1500 + millis);
        events.push(RecordedEvent { at: at(0), what: What::Output(text) });
        events.push(RecordedEvent { at: at(1), what: What::Input("x\u{3}".into()) });
        events.push(RecordedEvent { at: at(2), what: What::Resize(TerminalSize::new(90, 30)) });
        writer.seal();
    }
    writer.finish(&RecordingEnd::new(after(9000), "exit"), signer).unwrap();
    (writer.take().to_vec(), events)
}

fn read_with(bytes: &[u8], trust: impl RecorderTrust + 'static) -> (Vec<RecordedEvent>, Ending) {
    let mut reader = RecordingReader::new(trust);
    reader.push(bytes);
    let events = std::iter::from_fn(|| reader.next_event()).collect();
    (events, reader.finish())
}

fn read(bytes: &[u8]) -> (Vec<RecordedEvent>, Ending) {
    read_with(bytes, Vec::<RecorderKey>::new())
}

/// The frames of a recording, without its prefix.
fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes = &bytes[PREFIX_LEN..];
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let stored = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        let (frame, rest) = bytes.split_at(HEADER_LEN + stored + CHAIN_LEN);
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}

fn joined(frames: &[Vec<u8>]) -> Vec<u8> {
    [frame::prefix().to_vec(), frames.concat()].concat()
}

#[test]
fn what_was_recorded_comes_back() {
    for signer in [ed25519(), p256()] {
        let (bytes, events) = sample(Some(&signer));
        let key = signer.public_key();
        let (read_events, ending) = read_with(&bytes, key.clone());
        assert_eq!(read_events, events);
        let end = RecordingEnd::new(after(9000), "exit");
        assert_eq!(ending, Ending::Complete { signed_by: key, end });
        fuzz_oracle(&bytes);
    }
}

#[test]
fn metadata_is_known_before_any_event() {
    let (bytes, _) = sample(None);
    let mut reader = RecordingReader::trusting_nobody();
    reader.push(&bytes[..PREFIX_LEN + 10]);
    assert!(reader.meta().is_none());
    reader.push(&bytes[PREFIX_LEN + 10..]);
    assert_eq!(reader.meta(), Some(&meta(RecordingKind::Ssh)));
}

#[test]
fn truncation_anywhere_keeps_what_was_before() {
    let signer = ed25519();
    let (bytes, events) = sample(Some(&signer));
    let frames = frames(&bytes);
    let end_of = |count: usize| PREFIX_LEN + frames[..count].concat().len();
    let unsigned_len = end_of(frames.len() - 1);
    for cut in 0..bytes.len() {
        let (read_events, ending) = read_with(&bytes[..cut], signer.public_key());
        // Frames 0 and 1 are the metadata and the header; then three events each.
        let whole = (0..=frames.len()).rev().find(|count| end_of(*count) <= cut);
        let chunks = whole.unwrap_or(0).saturating_sub(2).min(4);
        assert_eq!(read_events, events[..3 * chunks], "cut at {cut}");
        match ending {
            Ending::Truncated { at } => {
                assert_eq!(at as usize, whole.map_or(0, end_of), "cut at {cut}");
            }
            Ending::Unsigned { .. } => assert_eq!(cut, unsigned_len),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let signer = ed25519();
    let (bytes, events) = sample(Some(&signer));
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 1 << (place % 8);
        let (read_events, ending) = read_with(&bytes, signer.public_key());
        assert!(events.starts_with(&read_events), "byte {place}");
        assert!(
            matches!(ending, Ending::Tampered { .. } | Ending::Unsupported { .. }),
            "byte {place}: {ending:?}"
        );
    }
}

#[test]
fn damage_and_forgery_are_told_apart() {
    let (bytes, _) = sample(None);
    let frames = frames(&bytes);
    let in_body = joined(&frames[..2]).len() + HEADER_LEN;
    let mut damaged = bytes.clone();
    damaged[in_body] ^= 1;
    let why = |bytes: &[u8]| match read(bytes).1 {
        Ending::Tampered { why, .. } => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(&damaged), "the checksum of a frame is wrong");
    let mut forged = bytes;
    let crc = crc32c::crc32c(&damaged[in_body..in_body - HEADER_LEN + frames[2].len() - CHAIN_LEN]);
    forged[in_body] ^= 1;
    forged[in_body - 8..in_body - 4].copy_from_slice(&crc.to_be_bytes());
    let header = crc32c::crc32c(&forged[in_body - HEADER_LEN..in_body - 4]);
    forged[in_body - 4..in_body].copy_from_slice(&header.to_be_bytes());
    assert_eq!(why(&forged), "a frame does not continue the one before it");
}

#[test]
fn chunks_cannot_be_moved_doubled_or_left_out() {
    let signer = ed25519();
    let (bytes, events) = sample(Some(&signer));
    let original = frames(&bytes);
    let tampered = |frames: &[Vec<u8>]| {
        let (read_events, ending) = read_with(&joined(frames), signer.public_key());
        assert!(events.starts_with(&read_events));
        assert!(matches!(ending, Ending::Tampered { .. }), "{ending:?}");
    };
    for n in 0..original.len() - 1 {
        let mut left_out = original.clone();
        left_out.remove(n);
        tampered(&left_out);
        let mut swapped = original.clone();
        swapped.swap(n, n + 1);
        tampered(&swapped);
        let mut doubled = original.clone();
        doubled.insert(n, original[n].clone());
        tampered(&doubled);
    }
    // A frame of another recording, in the same place.
    let mut other = RecordingWriter::new(&meta(RecordingKind::Kubernetes)).unwrap();
    other.seal();
    let mut foreign = original.clone();
    foreign[1] = frames(&other.take())[1].clone();
    tampered(&foreign);
    tampered(&[original.clone(), vec![b"more".to_vec()]].concat());
}

/// Writes a recording anew from the bodies of its frames, as somebody without the key can.
fn rewritten(bodies: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = frame::prefix().to_vec();
    let mut chain = Chain::start(&out);
    for (index, (kind, body)) in bodies.iter().enumerate() {
        chain = frame::write(chain, *kind, index as u32, body, &mut out);
    }
    out
}

#[test]
fn nobody_but_the_recorder_can_write_it_anew() {
    let signer = ed25519();
    let (bytes, _) = sample(Some(&signer));
    let stripped = {
        let mut frames = frames(&bytes);
        frames.pop();
        joined(&frames)
    };
    assert!(matches!(read_with(&stripped, signer.public_key()).1, Ending::Unsigned { .. }));

    let somebody = ed25519();
    let (forged, _) = sample(Some(&somebody));
    let ending = read_with(&forged, signer.public_key()).1;
    assert!(
        matches!(ending, Ending::Untrusted { signed_by, .. } if signed_by == somebody.public_key())
    );

    // The recorder's signature under other content.
    let signature = {
        let frames = frames(&bytes);
        let last = frames.last().unwrap();
        let header = frame::Header::parse(last.first_chunk().unwrap()).unwrap();
        header.open(&last[HEADER_LEN..last.len() - CHAIN_LEN]).unwrap()
    };
    let meta = serde_json::to_vec(&meta(RecordingKind::Ssh)).unwrap();
    let end = serde_json::to_vec(&RecordingEnd::new(START, "exit")).unwrap();
    let replayed =
        rewritten(&[(frame::META, &meta), (frame::END, &end), (frame::SIGNATURE, &signature)]);
    let ending = read_with(&replayed, signer.public_key()).1;
    assert!(matches!(ending, Ending::Tampered { why: "the signature is wrong", .. }));
}

#[test]
fn certificates_reach_the_one_who_decides() {
    let (bytes, _) = sample(Some(&ed25519()));
    let by_certificate =
        |_: &RecorderKey, certificates: &[rustls_pki_types::CertificateDer<'static>]| {
            certificates.first().is_some_and(|first| first.as_ref() == b"certificate")
        };
    assert!(matches!(read_with(&bytes, by_certificate).1, Ending::Complete { .. }));
}

#[test]
fn frames_that_would_unpack_to_more_are_refused() {
    let meta = serde_json::to_vec(&meta(RecordingKind::Ssh)).unwrap();
    let start = rewritten(&[(frame::META, &meta)]);
    let bomb = vec![b'\n'; frame::MAX_BODY + 1];
    let mut bytes = start.clone();
    frame::write(Chain::start(&[]), frame::CHUNK, 1, &bomb, &mut bytes);
    let (_, ending) = read(&bytes);
    let at = start.len() as u64;
    assert_eq!(ending, Ending::Tampered { at, why: "a frame is larger than any may be" });
}

#[test]
fn zeros_at_the_end_are_a_torn_write() {
    let (bytes, _) = sample(None);
    let frames = frames(&bytes);
    let kept = joined(&frames[..4]);
    let torn = [kept.as_slice(), &[0; 5000]].concat();
    assert_eq!(read(&torn).1, Ending::Truncated { at: kept.len() as u64 });
    fuzz_oracle(&torn);
    let mixed = [torn.as_slice(), b"x"].concat();
    assert!(matches!(read(&mixed).1, Ending::Tampered { .. }));
}

#[test]
fn chunks_close_by_size_and_stay_within_bounds() {
    let mut writer = RecordingWriter::new(&meta(RecordingKind::Ssh)).unwrap();
    writer.take();
    // What JSON makes the most of.
    writer.output(START, &vec![0x1b; 1_000_000]);
    let closed = writer.pending();
    assert!(closed > 0, "a full chunk closes by itself");
    writer.finish(&RecordingEnd::new(START, "exit"), None).unwrap();

    let mut again = RecordingWriter::new(&meta(RecordingKind::Ssh)).unwrap();
    again.output(START, &vec![0x1b; 1_000_000]);
    again.finish(&RecordingEnd::new(START, "exit"), None).unwrap();
    let (events, ending) = read(&again.take());
    let total: usize = events
        .iter()
        .map(|event| match &event.what {
            What::Output(text) => text.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(total, 1_000_000);
    assert!(matches!(ending, Ending::Unsigned { .. }));
}

#[test]
fn chunks_fall_due() {
    let mut writer = RecordingWriter::new(&meta(RecordingKind::Ssh)).unwrap();
    assert_eq!(writer.deadline(), None);
    writer.output(after(10), &[0xe2, 0x82]);
    assert_eq!(writer.deadline(), None, "half a character is no line yet");
    writer.output(after(20), &[0xac]);
    writer.output(after(300), b"x");
    assert_eq!(writer.deadline(), Some(after(20).plus(RecordingWriter::FLUSH_AFTER)));
    writer.seal();
    assert_eq!(writer.deadline(), None);
}

#[test]
fn time_never_runs_backwards_and_nothing_follows_the_end() {
    let mut writer = RecordingWriter::new(&meta(RecordingKind::Ssh)).unwrap();
    writer.output(after(2000), b"a");
    writer.output(after(1000), b"b");
    let end = RecordingEnd::new(after(3000), "exit");
    writer.finish(&end, None).unwrap();
    writer.output(after(4000), b"c");
    assert_eq!(writer.finish(&end, None), Err(RecordingError::Ended));
    assert_eq!(writer.event(START, "db.query", &1), Err(RecordingError::Ended));
    let (events, _) = read(&writer.take());
    let times: Vec<_> = events.iter().map(|event| event.at.as_millis()).collect();
    assert_eq!(times, [2000, 2000]);
}

#[test]
fn other_protocols_have_events_of_their_own() {
    let mut writer = RecordingWriter::new(&meta(RecordingKind::Database)).unwrap();
    let query = serde_json::json!({"query": "select 1", "rows": 1});
    writer.event(after(5), "db.query", &query).unwrap();
    for code in ["o", "ob", "", "Db", "a b", "\"],["] {
        assert!(matches!(writer.event(START, code, &1), Err(RecordingError::EventCode(_))));
    }
    let large = "x".repeat(200_000);
    assert!(matches!(writer.event(START, "db.q", &large), Err(RecordingError::TooLarge { .. })));
    writer.finish(&RecordingEnd::new(after(6), "client"), None).unwrap();
    let bytes = writer.take();
    let (events, _) = read(&bytes);
    let what = What::Other { code: "db.query".into(), data: query };
    assert_eq!(events, [RecordedEvent { at: Duration::from_millis(5), what }]);
    let (cast, _) = to_asciicast(&bytes, Vec::<RecorderKey>::new());
    assert_eq!(cast.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count(), 1);
}

#[test]
fn exports_are_plain_asciicast() {
    let (bytes, events) = sample(None);
    let (cast, _) = to_asciicast(&bytes, Vec::<RecorderKey>::new());
    let lines: Vec<serde_json::Value> = String::from_utf8(cast)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        serde_json::json!({
            "version": 2, "width": 120, "height": 40, "timestamp": 1_767_323_045,
            "title": "alice on node/web-1 as root", "env": {"TERM": "xterm"},
        })
    );
    assert_eq!(lines.len(), events.len() + 1);
    assert_eq!(lines[2], serde_json::json!([0.001, "i", "x\u{3}"]));
    assert_eq!(lines[3], serde_json::json!([0.002, "r", "90x30"]));
    assert_eq!(lines[4][0], 1.5);
}

#[test]
fn files_are_kept_byte_for_byte_and_exported_as_text() {
    let mut writer = RecordingWriter::new(&meta(RecordingKind::Ssh)).unwrap();
    let mut file = vec![0xff; 300];
    file[7] = 0;
    writer.output(after(1), &[b'a', 0xe2]);
    writer.output(after(2), &file);
    writer.input(after(3), &file);
    writer.output(after(4), b"z");
    writer.seal();
    let bytes = writer.take();
    let whats: Vec<_> = read(&bytes).0.into_iter().map(|event| event.what).collect();
    assert_eq!(
        whats,
        [
            What::Output("a".into()),
            What::Output("\u{fffd}".into()),
            What::OutputBytes(file.clone()),
            What::InputBytes(file.clone()),
            What::Output("z".into()),
        ]
    );
    let (cast, _) = to_asciicast(&bytes, Vec::<RecorderKey>::new());
    let cast = String::from_utf8(cast).unwrap();
    let line: serde_json::Value = serde_json::from_str(cast.lines().nth(3).unwrap()).unwrap();
    assert_eq!(line, serde_json::json!([0.002, "o", String::from_utf8_lossy(&file)]));
    fuzz_oracle(&bytes);
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_output_in_any_pieces_comes_back(
        writes in prop::collection::vec((0_u64..100_000, any_bytes(), any::<bool>()), 0..20),
    ) {
        let mut writer = RecordingWriter::new(&meta(RecordingKind::Ssh)).unwrap();
        let mut all = Vec::new();
        for (at, data, seal) in &writes {
            writer.output(after(*at), data);
            all.extend_from_slice(data);
            if *seal {
                writer.seal();
            }
        }
        writer.finish(&RecordingEnd::new(START, "exit"), None).unwrap();
        let bytes = writer.take();
        fuzz_oracle(&bytes);
        let (events, ending) = read(&bytes);
        prop_assert!(matches!(ending, Ending::Unsigned { .. }), "{:?}", ending);
        let text: String = events.into_iter().map(|event| match event.what {
            What::Output(text) => text,
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(text, String::from_utf8_lossy(&all));
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in any_bytes()) {
        fuzz_oracle(&bytes);
        fuzz_oracle(&[frame::prefix().as_slice(), &bytes].concat());
    }

    #[test]
    fn any_change_is_read_without_harm(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let (mut bytes, _) = sample(Some(&ed25519()));
        for (place, value) in cuts {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        fuzz_oracle(&bytes);
    }

    #[test]
    fn any_chunk_body_is_read_without_harm(
        body in prop_oneof![
            any_bytes(),
            "(\\[[0-9.e-]{0,5},\"[oirmx]\",(\"[a-z0-9x]{0,5}\"|1|null)\\]\n){0,5}".prop_map(String::into_bytes),
        ],
    ) {
        let meta = serde_json::to_vec(&meta(RecordingKind::Ssh)).unwrap();
        fuzz_oracle(&rewritten(&[(frame::META, &meta), (frame::CHUNK, &body)]));
    }
}
