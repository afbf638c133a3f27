use super::*;

fn key(path: &str) -> Key {
    Key::parse(path).unwrap()
}

#[test]
fn moments_come_back() {
    for text in ["1536242855577149065.0000000001", "7.0000000000", "7.4294967295"] {
        assert_eq!(Hlc::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(Hlc::parse("7"), Hlc::parse("7.0"));
    assert_eq!(Hlc::parse("x.1"), None);
    assert!(Hlc::parse("7.0000000002") > Hlc::parse("7.0000000001"));
    let at = Hlc::parse("1536242855577149065.0000000007").unwrap();
    assert_eq!(long(short(at)), at);
    let high = Hlc::parse("7.4294967295").unwrap();
    assert!(long(short(high)) < high, "too early, never too late");
}

#[test]
fn messages_are_understood() {
    let row =
        br#"{"after": {"key": "\\x2f61", "value": "\\x0001", "expires": "2023-11-14T22:13:20.5Z",
        "revision": "00000000-0000-0000-0000-0000000000ff"}, "updated": "9.0000000003"}"#;
    let told = Told::parse(Some(br#"["\\x2f61"]"#), row).unwrap();
    let item = Item {
        key: key("/a"),
        value: Value::new(vec![0, 1]).unwrap(),
        expires: Some(UnixMillis(1_700_000_000_500)),
        revision: Revision::from_bits(255),
    };
    let at = Hlc::parse("9.0000000003").unwrap();
    assert_eq!(told, Told::Changed(key("/a"), Some(item), at));
    let gone =
        Told::parse(Some(br#"["\\x2f61"]"#), br#"{"after": null, "updated": "9.0000000003"}"#);
    assert_eq!(gone, Ok(Told::Changed(key("/a"), None, at)));
    let resolved = Told::parse(None, br#"{"resolved": "9.0000000003"}"#);
    assert_eq!(resolved, Ok(Told::Resolved(at)));
    for bad in ["", "{}", "[]", r#"{"updated": "x"}"#, r#"{"updated": "9.1"}"#] {
        assert!(Told::parse(None, bad.as_bytes()).is_err(), "{bad}");
    }
}

fn at(wall: u64) -> Hlc {
    Hlc::parse(&format!("{wall}.0000000000")).unwrap()
}

#[test]
fn what_comes_again_is_taken_once() {
    let mut log = Log::new(100);
    log.begin(7, at(10));
    let first = log.take(key("/a"), None, at(12)).unwrap();
    let second = log.take(key("/b"), None, at(11)).unwrap();
    assert!(second.position > first.position);
    assert!(log.take(key("/a"), None, at(12)).is_none());
    assert!(log.take(key("/c"), None, at(10)).is_none());
    log.resolve(at(12));
    assert!(log.take(key("/b"), None, at(11)).is_none());
    let third = log.take(key("/a"), None, at(13)).unwrap();
    assert!(third.position > second.position);
    log.resolve(at(5));
    assert_eq!(log.resolved, at(12), "it does not go back");
}

#[test]
fn a_position_leads_on_here_and_in_another_process() {
    let mut log = Log::new(100);
    log.begin(7, at(10));
    let mut other = Log { process: log.process ^ 1, ..Log::new(100) };
    other.begin(7, at(8));
    let keys = |resumed: Resumed| {
        resumed.changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>()
    };
    let start = log.position();
    let first = log.take(key("/a"), None, at(11)).unwrap();
    log.take(key("/b"), None, at(12)).unwrap();
    assert_eq!(keys(log.since(start).unwrap()), ["/a", "/b"]);
    assert_eq!(keys(log.since(first.position).unwrap()), ["/b"]);
    // The other heard of them in another order, and of one before.
    other.take(key("/old"), None, at(9)).unwrap();
    other.take(key("/b"), None, at(12)).unwrap();
    other.take(key("/a"), None, at(11)).unwrap();
    assert_eq!(keys(other.since(first.position).unwrap()), ["/b", "/a"]);
    for stranger in [Position::from_bits(0), Position::from_bits(u128::MAX)] {
        assert!(log.since(stranger).is_none());
    }
    // Older than what is kept.
    let early = other.position();
    let mut late = Log::new(100);
    late.begin(7, at(50));
    assert!(late.since(early).is_none());
    let mut small = Log::new(1);
    small.begin(7, at(10));
    let start = small.position();
    small.take(key("/a"), None, at(11)).unwrap();
    small.take(key("/b"), None, at(12)).unwrap();
    assert!(small.since(start).is_none());
}

#[test]
fn what_came_is_told_when_nothing_is_missing_and_nothing_forgotten() {
    let mut log = Log::new(2);
    log.begin(7, at(10));
    let told = |log: &Log, since, until| match log.passed(at(since), at(until)) {
        Passed::NotYet => "not yet".to_owned(),
        Passed::Forgotten => "forgotten".to_owned(),
        Passed::Changes(changes) => {
            changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>().join(" ")
        }
    };
    // What it began with is the moment of one node, before which others may write.
    assert_eq!(told(&log, 10, 10), "forgotten");
    log.resolve(at(12));
    log.take(key("/a"), None, at(13)).unwrap();
    assert_eq!(told(&log, 12, 14), "not yet");
    log.take(key("/b"), None, at(15)).unwrap();
    log.resolve(at(15));
    assert_eq!(told(&log, 12, 14), "/a");
    assert_eq!(told(&log, 12, 15), "/a /b");
    assert_eq!(told(&log, 14, 15), "/b");
    // There is room for two.
    log.take(key("/c"), None, at(16)).unwrap();
    assert_eq!(told(&log, 12, 15), "forgotten");
    assert_eq!(told(&log, 14, 15), "/b");
    log.begin(7, at(20));
    assert_eq!(told(&log, 14, 15), "forgotten");
}
