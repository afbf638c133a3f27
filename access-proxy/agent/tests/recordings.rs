//! Recordings reach Auth: signed when they end, as they are when they break off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use access_agent::{ClientSource, Membership, RecordingOptions, SpoolRecorder};
use access_core::recording::{
    Ending, Recorder, RecorderKey, RecordingEnd, RecordingError, RecordingKind, RecordingMeta,
    RecordingReader, What,
};
use access_core::{SessionId, Timestamp, UserName};
use support::{FakeAuth, Proxy, RealClock, eventually};

fn meta(session: &str) -> RecordingMeta {
    RecordingMeta::new(
        SessionId::new(session).unwrap(),
        RecordingKind::Ssh,
        UserName::new("alice").unwrap(),
        "node/web-1",
        Timestamp::from_secs(100),
    )
}

fn read(bytes: &[u8], trust: impl Fn(&RecorderKey) -> bool + Send + 'static) -> (String, Ending) {
    let trust =
        move |key: &RecorderKey, _: &[rustls_pki_types::CertificateDer<'static>]| trust(key);
    let mut reader = RecordingReader::new(trust);
    reader.push(bytes);
    let mut text = String::new();
    while let Some(event) = reader.next_event() {
        if let What::Output(more) = event.what {
            text.push_str(&more);
        }
    }
    (text, reader.finish())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_and_broken_recordings_are_uploaded() {
    let auth = FakeAuth::new(Arc::new(RealClock::default()));
    let (address, _) = auth.serve().await;
    let proxy = Proxy::start(&auth, address).await;
    let dir = tempfile::tempdir().unwrap();
    let options = auth.agent_options(dir.path(), proxy.address);
    let member = Arc::new(Membership::open(options, Arc::clone(&auth.inner.clock)).await.unwrap());
    let clients: ClientSource = {
        let member = Arc::clone(&member);
        Arc::new(move || member.client())
    };
    let folder = dir.path().join("recordings");
    let open = || {
        let member = Arc::clone(&member);
        let signer = Arc::new(move || member.signer());
        SpoolRecorder::open(&folder, RecordingOptions::default(), signer).unwrap()
    };
    let at = Timestamp::from_secs(101);
    auth.inner.refuse.store(true, Ordering::SeqCst);
    {
        let recorder = open();
        let mut whole = recorder.start(meta("s-whole")).await.unwrap();
        whole.output(at, b"hello\r\n").unwrap();
        // The key of the end counts, not that of the start.
        member.renew().await.unwrap();
        whole.finish(RecordingEnd::new(at, "exit")).await.unwrap();

        let mut broken = recorder.start(meta("s-broken")).await.unwrap();
        assert!(recorder.start(meta("s-broken")).await.is_err(), "one file a session");
        broken.output(at, b"kept").unwrap();
        broken.flush().await.unwrap();
        broken.output(at, b"lost").unwrap();
        assert_eq!(recorder.backlog(), 1, "what is being recorded is not uploaded");
        assert_eq!(recorder.upload_waiting(&clients).await, 1);
        drop(broken);
        assert_eq!(recorder.backlog(), 2);
    }
    // As after a crash: another process finds both.
    let recorder = open();
    assert!(recorder.last_written(&SessionId::new("s-broken").unwrap()).is_some());
    auth.inner.refuse.store(false, Ordering::SeqCst);
    let task = tokio::spawn({
        let (recorder, clients) = (recorder.clone(), Arc::clone(&clients));
        async move { recorder.upload(clients).await }
    });
    eventually("all are uploaded", || recorder.backlog() == 0).await;
    let recordings = auth.inner.recordings.lock().unwrap().clone();
    let signer = member.signer().unwrap();
    let key = access_core::recording::RecordingSigner::public_key(&signer);
    let (text, ending) = read(&recordings["s-whole"], move |by| *by == key);
    assert_eq!(text, "hello\r\n");
    assert!(matches!(ending, Ending::Complete { .. }), "{ending:?}");
    let (text, ending) = read(&recordings["s-broken"], |_| false);
    assert_eq!(text, "kept");
    assert!(matches!(ending, Ending::Truncated { .. }), "{ending:?}");

    // What ends later is uploaded too.
    let late = recorder.start(meta("s-late")).await.unwrap();
    late.finish(RecordingEnd::new(at, "exit")).await.unwrap();
    eventually("uploaded", || auth.inner.recordings.lock().unwrap().contains_key("s-late")).await;
    task.abort();
}

#[tokio::test]
async fn without_room_a_recording_says_so_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = RecordingOptions::default();
    options.max_bytes = 2000;
    let unsigned = Arc::new(|| Err(RecordingError::Signature("no key".into())));
    let recorder = SpoolRecorder::open(dir.path(), options, unsigned).unwrap();
    let at = Timestamp::from_secs(101);
    let mut session = recorder.start(meta("s-1")).await.unwrap();
    session.output(at, b"kept").unwrap();
    session.flush().await.unwrap();
    let noise: Vec<u8> =
        (0..40_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 % 94 + 33).collect();
    session.output(at, &noise).unwrap();
    let full = session.flush().await;
    assert!(matches!(full, Err(RecordingError::Storage(_))), "{full:?}");
    drop(session);
    let (text, ending) = read(&std::fs::read(dir.path().join("s-1.rec")).unwrap(), |_| true);
    assert_eq!(text, "kept");
    assert!(matches!(ending, Ending::Truncated { .. }));
}
