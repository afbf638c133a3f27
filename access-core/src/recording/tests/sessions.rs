//! Sessions over something that can fail.

use std::sync::Arc;

use super::*;

#[tokio::test]
async fn a_full_disk_is_told_and_what_was_written_is_kept() {
    let recorder = MemoryRecorder::new(Some(Arc::new(ed25519()))).with_room(2000);
    let mut session = recorder.start(meta(RecordingKind::Ssh)).await.unwrap();
    session.output(after(1), b"kept").unwrap();
    session.flush().await.unwrap();
    let noise: Vec<u8> =
        (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    session.output(after(2), &noise).unwrap();
    assert!(session.due(after(2).plus(RecordingWriter::FLUSH_AFTER)));
    assert!(matches!(session.flush().await, Err(RecordingError::Storage(_))));
    // There is room again: nothing was lost, and nothing is there twice.
    let recorder = recorder.with_room(1 << 20);
    session.flush().await.unwrap();
    session.finish(RecordingEnd::new(after(3), "exit")).await.unwrap();
    let recording = &recorder.recordings()[0];
    assert!(recording.finished);
    let (events, ending) = read_with(&recording.bytes, |_: &RecorderKey, _: &[_]| true);
    assert!(matches!(ending, Ending::Complete { .. }), "{ending:?}");
    assert_eq!(events[0].what, What::Output("kept".into()));
    let bytes: Vec<u8> = events[1..]
        .iter()
        .flat_map(|event| match &event.what {
            What::OutputBytes(bytes) => bytes.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bytes, noise);
}

#[tokio::test]
async fn an_unflushed_session_is_bounded() {
    let recorder = MemoryRecorder::new(None);
    let mut session = recorder.start(meta(RecordingKind::Ssh)).await.unwrap();
    let mut seed = 1_u64;
    let mut noise = || -> Vec<u8> {
        (0..65_536)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                b'!' + ((seed >> 33) % 90) as u8
            })
            .collect()
    };
    let refused = (0..1000).find_map(|_| session.output(START, &noise()).err());
    assert!(matches!(refused, Some(RecordingError::Backlog { .. })));
    session.flush().await.unwrap();
    session.output(START, b"again").unwrap();
}
