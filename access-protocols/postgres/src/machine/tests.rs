//! The machine, driven by bytes.

use access_core::Timestamp;
use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::wire::{encode, sqlstate};

const NOW: Timestamp = Timestamp::from_secs(1);

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    encode::message(kind, |out| out.extend_from_slice(body)).to_vec()
}

fn query(text: &str) -> Vec<u8> {
    encode::query(text).to_vec()
}

fn parse(text: &str) -> Vec<u8> {
    encode::parse("", text).to_vec()
}

fn bind() -> Vec<u8> {
    message(b'B', b"\0\0\0\0\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\0")
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

fn error(code: &str) -> Vec<u8> {
    encode::error_response(&Failure::error(code, "as told")).to_vec()
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"].concat())
}

fn row() -> Vec<u8> {
    message(b'D', b"\0\x01\0\0\0\x01x")
}

/// Both sides of a machine, with everything that it let out.
struct Scene {
    machine: Machine,
    up: BytesMut,
    down: BytesMut,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    notes: Vec<Note>,
    deny: Option<&'static str>,
}

impl Scene {
    fn new() -> Self {
        Self::watching(Watch::default())
    }

    fn watching(watch: Watch) -> Self {
        Self {
            machine: Machine::new(watch),
            up: BytesMut::new(),
            down: BytesMut::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            notes: Vec::new(),
            deny: None,
        }
    }

    fn client(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        self.up.extend_from_slice(bytes);
        loop {
            let mut out = Out::default();
            let step = self.machine.client(&mut self.up, &mut out, NOW)?;
            let done = step != Step::Judge && step != Step::Tell;
            if step == Step::Judge {
                let question = self.machine.question(&self.up).unwrap();
                let denied = match question {
                    Question::Statement { text, .. } => self
                        .deny
                        .is_some_and(|word| text.windows(word.len()).any(|w| w == word.as_bytes())),
                    Question::Call => self.deny.is_some(),
                };
                if denied {
                    let failure = Failure::error(sqlstate::INSUFFICIENT_PRIVILEGE, "not you");
                    self.machine.refuse(&failure, &mut self.up, &mut out, NOW);
                } else {
                    self.machine.allow();
                }
            }
            if step == Step::Tell {
                self.machine.tell(&mut self.notes);
            }
            self.to_server.extend(out.pieces.iter().flatten());
            if done {
                return Ok(step);
            }
        }
    }

    fn server(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.down.extend_from_slice(bytes);
        let mut out = Out::default();
        let done = self.machine.server(&mut self.down, &mut out, &mut self.notes);
        self.to_client.extend(out.pieces.iter().flatten());
        done
    }

    /// What was told of each number: whether as one note, its rows and its error.
    fn told(&self) -> Vec<(u64, bool, Option<u64>, Option<String>)> {
        self.notes
            .iter()
            .filter_map(|note| {
                let outcome = note.outcome.as_ref()?;
                let error = outcome.error.as_ref().map(|error| error.code.clone());
                let error = if outcome.skipped { Some("skipped".into()) } else { error };
                Some((note.number, note.what.is_some(), outcome.rows, error))
            })
            .collect()
    }
}

#[test]
fn a_query_is_told_once_with_its_outcome() {
    let mut scene = Scene::new();
    scene.client(&query("select 1; select 2")).unwrap();
    assert_eq!(scene.to_server, query("select 1; select 2"));
    let answer =
        [row(), row(), complete("SELECT 2"), row(), complete("SELECT 1"), ready(b'I')].concat();
    scene.server(&answer).unwrap();
    assert_eq!(scene.to_client, answer);
    assert_eq!(scene.told(), [(1, true, Some(3), None)]);
}

#[test]
fn long_answers_are_told_twice_and_never_late() {
    let mut scene = Scene::new();
    scene.client(&query("select")).unwrap();
    scene.server(&row()).unwrap();
    assert_eq!(scene.notes.len(), 1);
    assert!(scene.notes[0].what.is_some() && scene.notes[0].outcome.is_none());
    scene.server(&[row(), complete("SELECT 2"), ready(b'I')].concat()).unwrap();
    assert_eq!(scene.told(), [(1, false, Some(2), None)]);
    assert_eq!(scene.machine.oldest_untold(), None);
}

#[test]
fn an_error_in_a_pipeline_skips_to_sync() {
    let mut scene = Scene::new();
    let batch = [parse("bad"), bind(), execute(), sync()].concat();
    scene.client(&batch).unwrap();
    scene.client(&[parse("good"), bind(), execute(), sync()].concat()).unwrap();
    scene.server(&[error("42601"), ready(b'I')].concat()).unwrap();
    let good = [message(b'1', b""), message(b'2', b""), complete("INSERT 0 5"), ready(b'I')];
    scene.server(&good.concat()).unwrap();
    let skipped = || Some("skipped".to_owned());
    assert_eq!(
        scene.told(),
        [
            (1, true, None, Some("42601".into())),
            (2, true, None, skipped()),
            (3, true, None, None),
            (4, true, Some(5), None),
        ]
    );
    assert!(!scene.machine.is_busy());
}

#[test]
fn what_is_sent_after_an_error_and_before_sync_is_skipped_too() {
    let mut scene = Scene::new();
    scene.client(&parse("bad")).unwrap();
    scene.server(&error("42601")).unwrap();
    scene.client(&[bind(), execute(), sync(), query("select 1")].concat()).unwrap();
    scene.server(&[ready(b'I'), complete("SELECT 0"), ready(b'I')].concat()).unwrap();
    let codes: Vec<_> = scene.told().into_iter().map(|told| (told.0, told.3)).collect();
    let skipped = Some("skipped".to_owned());
    assert_eq!(codes, [(1, Some("42601".into())), (2, skipped.clone()), (3, skipped), (4, None)]);
}

#[test]
fn an_error_at_sync_belongs_to_what_was_executed() {
    let mut scene = Scene::new();
    scene.client(&[execute(), sync()].concat()).unwrap();
    scene.server(&[complete("INSERT 0 1"), error("23503"), ready(b'I')].concat()).unwrap();
    assert_eq!(scene.told(), [(1, true, Some(1), None), (1, false, None, Some("23503".into()))]);
}

#[test]
fn a_refused_query_is_refused_by_the_server_itself() {
    let mut scene = Scene::new();
    scene.deny = Some("drop");
    scene.client(&[query("drop table t"), query("select 1")].concat()).unwrap();
    assert_eq!(scene.to_server, [query("refused by access"), query("select 1")].concat());
    scene.server(&[error("42601"), ready(b'E')].concat()).unwrap();
    scene.server(&[complete("SELECT 0"), ready(b'E')].concat()).unwrap();
    let refusal = encode::error_response(&Failure::error("42501", "not you")).to_vec();
    assert_eq!(scene.to_client, [refusal, ready(b'E'), complete("SELECT 0"), ready(b'E')].concat());
    assert_eq!(scene.told(), [(1, true, None, Some("42501".into())), (2, true, Some(0), None)]);
    let Some(What::Query { text }) = &scene.notes[0].what else { panic!("no query") };
    assert_eq!(text.as_str(), "drop table t");
}

#[test]
fn a_refused_parse_leaves_the_pipeline_in_step() {
    let mut scene = Scene::new();
    scene.deny = Some("drop");
    scene.client(&[parse("drop table t"), bind(), execute(), sync()].concat()).unwrap();
    assert!(scene.to_server.starts_with(&parse("refused by access")));
    scene.server(&[error("42601"), ready(b'I')].concat()).unwrap();
    assert_eq!(scene.told()[0].3.as_deref(), Some("42501"));
    assert_eq!(scene.told().len(), 2);
}

/// The Execute that tells of a Bind, and what came of it.
fn run(note: &Note) -> (u64, bool, Option<&Outcome>) {
    let bound = match &note.what {
        Some(What::Execute { bound, .. }) => bound.is_some(),
        None => false,
        other => panic!("{other:?}"),
    };
    (note.number, bound, note.outcome.as_ref())
}

#[test]
fn what_is_bound_and_run_at_once_is_told_as_one() {
    let describe = message(b'D', b"P\0");
    let batch = [bind(), describe, execute(), bind(), execute(), sync()].concat();
    let t = message(b'T', b"\0\0");
    let answers = [message(b'2', b""), t, row(), complete("SELECT 1")].concat();
    let more = [message(b'2', b""), complete("SELECT 0"), ready(b'I')].concat();
    let mut scene = Scene::new();
    scene.client(&batch).unwrap();
    scene.server(&[answers, more].concat()).unwrap();
    assert_eq!(scene.told(), [(1, true, Some(1), None), (2, true, Some(0), None)]);
    assert!(scene.notes.iter().all(|note| run(note).1));

    // Another portal's, and one that was told of meanwhile, tell of themselves.
    let other = message(b'B', b"p\0\0\0\0\0\0\0\0");
    let mut scene = Scene::new();
    scene.client(&[other, execute()].concat()).unwrap();
    scene.client(&bind()).unwrap();
    scene.machine.tell(&mut scene.notes);
    scene.client(&execute()).unwrap();
    scene.machine.tell(&mut scene.notes);
    let numbers: Vec<_> = scene.notes.iter().map(|note| note.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[test]
fn nothing_of_a_binds_answer_passes_before_it_is_told() {
    let mut scene = Scene::new();
    scene.client(&[bind(), execute(), sync()].concat()).unwrap();
    scene.server(&message(b'2', b"")).unwrap();
    assert_eq!(scene.notes.iter().map(run).collect::<Vec<_>>(), [(1, true, None)]);
    scene.server(&[complete("SELECT 0"), ready(b'I')].concat()).unwrap();
    assert_eq!(scene.told(), [(1, false, Some(0), None)]);
}

#[test]
fn the_error_of_a_bind_is_told_with_its_execute() {
    for told in [false, true] {
        let mut scene = Scene::new();
        scene.client(&[bind(), execute(), bind(), execute(), sync()].concat()).unwrap();
        if told {
            scene.machine.tell(&mut scene.notes);
        }
        scene.server(&[error("22P02"), ready(b'I')].concat()).unwrap();
        let skipped = Some("skipped".to_owned());
        let error = Some("22P02".to_owned());
        assert_eq!(scene.told(), [(1, !told, None, error), (2, !told, None, skipped)]);
        assert!(!scene.machine.is_busy());
    }
}

#[test]
fn a_server_that_runs_what_was_refused_ends_the_session() {
    for answer in [complete("DROP TABLE"), row(), ready(b'I')] {
        let mut scene = Scene::new();
        scene.deny = Some("drop");
        scene.client(&query("drop table t")).unwrap();
        assert_eq!(scene.server(&answer), Err(Broken::NotRefused));
    }
}

#[test]
fn a_copy_in_swallows_the_syncs_before_its_end() {
    let mut scene = Scene::new();
    scene.client(&[parse("copy"), bind(), execute(), sync()].concat()).unwrap();
    scene
        .server(&[message(b'1', b""), message(b'2', b""), message(b'G', b"\0\0\0")].concat())
        .unwrap();
    scene
        .client(&[message(b'd', b"1\n"), message(b'c', b""), sync(), query("select 1")].concat())
        .unwrap();
    scene
        .server(&[complete("COPY 1"), ready(b'I'), complete("SELECT 7"), ready(b'I')].concat())
        .unwrap();
    let rows: Vec<_> = scene.told().into_iter().map(|told| (told.0, told.2)).collect();
    assert_eq!(rows, [(1, None), (2, Some(1)), (3, Some(7))]);
    assert!(!scene.machine.is_busy());
}

#[test]
fn key_data_and_a_lifted_read_only_do_not_pass() {
    let mut scene = Scene::watching(Watch { read_only: true, ..Watch::default() });
    scene.server(&message(b'K', b"12345678")).unwrap();
    assert!(scene.to_client.is_empty());
    let status = |name: &str, value: &str| message(b'S', format!("{name}\0{value}\0").as_bytes());
    scene.server(&status("default_transaction_read_only", "on")).unwrap();
    let lifted = scene.server(&status("default_transaction_read_only", "off"));
    assert_eq!(lifted, Err(Broken::ReadOnlyLifted));
    let sjis = Scene::new().server(&status("client_encoding", "SJIS"));
    assert_eq!(sjis, Err(Broken::Encoding));
}

#[test]
fn hostile_lengths_end_the_session() {
    for bytes in [
        &b"Q\0\0\0\x03"[..],
        b"Q\x80\0\0\0",
        b"Q\xff\xff\xff\xff",
        b"S\0\x01\0\0",
        b"B\x7f\xff\xff\xff",
    ] {
        assert!(matches!(Scene::new().client(bytes), Err(Broken::Client(_))), "{bytes:?}");
    }
    for bytes in [&b"D\0\0\0\x03"[..], b"D\x80\0\0\0", b"K\0\x01\0\0"] {
        assert!(matches!(Scene::new().server(bytes), Err(Broken::Server(_))), "{bytes:?}");
    }
}

#[test]
fn a_gigabyte_is_not_held() {
    let mut scene = Scene::new();
    scene.client(&query("select")).unwrap();
    scene.server(b"D\x3f\xff\xff\xff").unwrap();
    let piece = vec![7; 100_000];
    for _ in 0..10 {
        scene.server(&piece).unwrap();
        assert!(scene.down.is_empty(), "it was passed");
    }
    assert!(!scene.machine.at_boundary());

    // So much of a statement is held, and no more.
    let mut scene = Scene::new();
    scene.client(b"Q\x3f\xff\xff\xff").unwrap();
    for _ in 0..30 {
        scene.client(&piece).unwrap();
        assert!(scene.up.len() <= MAX_JUDGED + 100_000);
    }
    assert!(scene.to_server.len() > 2_900_000);
}

#[test]
fn a_flood_of_statements_is_told_and_held_up() {
    let mut scene = Scene::new();
    let long = "x".repeat(60_000);
    for _ in 0..40 {
        scene.client(&parse(&long)).unwrap();
    }
    assert!(!scene.notes.is_empty(), "their texts do not pile up");
    let mut step = Step::More;
    for _ in 0..5000 {
        step = scene.client(&execute()).unwrap();
    }
    assert_eq!(step, Step::Full);
    assert!(scene.to_server.ends_with(&encode::flush()), "the server is asked to answer");
    scene.server(&message(b'1', b"").repeat(40)).unwrap();
    scene.server(&complete("SELECT 0").repeat(4056)).unwrap();
    assert_eq!(scene.client(&[]).unwrap(), Step::More);
}

/// A conversation of both sides, in which the answers fit.
fn conversation() -> Vec<(Vec<u8>, Vec<u8>)> {
    let t = message(b'T', b"\0\x01id\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
    vec![
        (query("select 1"), [t, row(), complete("SELECT 1"), ready(b'I')].concat()),
        (query("drop table t"), [error("42601"), ready(b'I')].concat()),
        (
            [parse("insert"), bind(), execute(), sync()].concat(),
            [message(b'1', b""), message(b'2', b""), complete("INSERT 0 1"), ready(b'T')].concat(),
        ),
        (
            [parse("drop"), bind(), execute(), sync()].concat(),
            [error("42601"), ready(b'E')].concat(),
        ),
        (message(b'F', b"\0\0\0\x07\0\0\0\0\0\0"), [error("0A000"), ready(b'E')].concat()),
        (query(""), [message(b'I', b""), ready(b'I')].concat()),
        (message(b'd', &[1; 9000]), message(b'N', &[0; 9000])),
        (message(b'X', b""), Vec::new()),
    ]
}

type Told = Vec<(u64, Option<u64>, Option<String>)>;

/// Both directions of the conversation, cut as told.
fn talk(cuts: &[usize]) -> (Vec<u8>, Vec<u8>, Told) {
    let mut scene = Scene::watching(Watch { columns: true, ..Watch::default() });
    scene.deny = Some("drop");
    let mut cuts = cuts.iter().copied().cycle();
    for (up, down) in conversation() {
        let mut pieces = |bytes: &[u8]| {
            let mut pieces = Vec::new();
            let mut rest = bytes;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap().clamp(1, rest.len()));
                pieces.push(piece.to_vec());
                rest = after;
            }
            pieces
        };
        for piece in pieces(&up) {
            scene.client(&piece).unwrap();
        }
        for piece in pieces(&down) {
            scene.server(&piece).unwrap();
        }
    }
    let mut told: Vec<_> = scene.told().into_iter().map(|t| (t.0, t.2, t.3)).collect();
    told.sort_by_key(|told| told.0);
    (scene.to_server, scene.to_client, told)
}

#[test]
fn cutting_changes_nothing() {
    let whole = talk(&[usize::MAX]);
    assert_eq!(whole.2.len(), 8);
    for size in 1..40 {
        assert_eq!(talk(&[size]), whole, "in pieces of {size}");
    }
}

proptest! {
    #[test]
    fn cutting_anywhere_changes_nothing(cuts in prop::collection::vec(1usize..200, 1..20)) {
        prop_assert_eq!(talk(&cuts), talk(&[usize::MAX]));
    }
}

/// What the server leaves out, after something failed, is bounded like what it has not answered.
#[test]
fn a_flood_of_what_is_skipped_is_told_before_it_fills_memory() {
    let mut machine = Machine::new(Watch::default());
    let (mut out, mut notes) = (Out::default(), Vec::new());
    let mut say = |machine: &mut Machine, bytes: Vec<u8>| {
        let mut buf = BytesMut::from(&bytes[..]);
        loop {
            match machine.client(&mut buf, &mut out, NOW).unwrap() {
                Step::Judge => machine.allow(),
                step => break step,
            }
        }
    };
    assert_eq!(say(&mut machine, parse("slect")), Step::More);
    let mut failed = BytesMut::from(&error("42601")[..]);
    machine.server(&mut failed, &mut Out::default(), &mut notes).unwrap();
    let long = "x".repeat(60_000);
    let said = (1..).take_while(|_| say(&mut machine, parse(&long)) == Step::More).count();
    assert!((10..40).contains(&said), "{said} of 60 KB each");
    machine.tell(&mut notes);
    assert_eq!(notes.iter().filter(|note| note.what.is_some()).count(), said + 1);
    assert_eq!(say(&mut machine, parse(&long)), Step::More, "it goes on");
}

#[test]
fn last_words_are_redacted_like_all_that_the_server_says() {
    for (redact, told) in [(false, "57P01: as told"), (true, "57P01: not shown")] {
        let mut machine = Machine::new(Watch { redact, ..Watch::default() });
        let fatal = encode::error_response(&Failure::fatal("57P01", "as told"));
        let mut buf = BytesMut::from(&fatal[..]);
        machine.server(&mut buf, &mut Out::default(), &mut Vec::new()).unwrap();
        assert_eq!(machine.last_words(), Some(told));
    }
}
