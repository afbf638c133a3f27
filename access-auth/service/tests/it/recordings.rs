use access_client::types::{RecordingDocument, RecordingState};
use access_client::{AuthClient, proto};
use access_core::recording::{RecordingEnd, RecordingKind, RecordingMeta, RecordingWriter};
use access_core::{SessionId, UserName};
use tonic::{Code, Status};

use super::cluster::Cluster;

fn recording(cluster: &Cluster, session: &str, text: &str, whole: bool) -> Vec<u8> {
    let start = cluster.now();
    let meta = RecordingMeta::new(
        SessionId::new(session).unwrap(),
        RecordingKind::Ssh,
        UserName::new("alice").unwrap(),
        "node/web-1",
        start,
    );
    let mut writer = RecordingWriter::new(&meta).unwrap();
    writer.output(start, text.as_bytes());
    if whole {
        writer.finish(&RecordingEnd::new(start, "exit"), None).unwrap();
    }
    writer.take().to_vec()
}

async fn upload(
    client: &AuthClient,
    session: &str,
    bytes: &[u8],
    part: usize,
) -> Result<u64, Status> {
    let parts: Vec<_> = bytes
        .chunks(part)
        .map(|data| proto::RecordingPart { session_id: session.into(), data: data.to_vec() })
        .collect();
    let answer = client.recordings().upload(tokio_stream::iter(parts)).await?;
    Ok(answer.into_inner().size)
}

async fn download(client: &AuthClient, session: &str) -> Result<Vec<u8>, Status> {
    let request = proto::DownloadRequest { session_id: session.into() };
    let mut stream = client.recordings().download(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = stream.message().await? {
        bytes.extend(part.data);
    }
    Ok(bytes)
}

async fn list(client: &AuthClient) -> Vec<RecordingDocument> {
    let request = proto::ListRecordingsRequest::default();
    let list = client.recordings().list(request).await.unwrap().into_inner();
    list.recordings.iter().map(|json| RecordingDocument::from_json(json).unwrap()).collect()
}

fn objects(cluster: &Cluster) -> usize {
    std::fs::read_dir(cluster.dir.path().join("data/recordings")).unwrap().count()
}

#[tokio::test]
async fn a_recording_is_uploaded_listed_and_read_back() {
    let cluster = Cluster::start().await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let bytes = recording(&cluster, "s-1", "hello\r\n", true);
    let size = upload(&host, "s-1", &bytes, 16).await.unwrap();
    assert_eq!(size, bytes.len() as u64);
    let auditor = cluster.user("audrey", &["auditor"]).await;
    let found = list(&auditor).await;
    assert_eq!((found.len(), found[0].metadata.name.as_str()), (1, "s-1"));
    let spec = &found[0].spec;
    assert_eq!((spec.user.as_str(), spec.target.as_str()), ("alice", "node/web-1"));
    assert_eq!((spec.size, spec.state), (size, RecordingState::Unsigned));
    assert_eq!(download(&auditor, "s-1").await.unwrap(), bytes);
    let missing = download(&auditor, "s-2").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);

    let events = cluster.events().await;
    let of = |name: &str| events.iter().filter(|e| e["event"] == name).collect::<Vec<_>>();
    assert_eq!(of("session.upload")[0]["state"], "unsigned");
    let read = of("session.recording.access");
    assert_eq!((read.len(), &read[0]["user"]), (2, &"audrey".into()));
    assert_eq!((&read[0]["success"], &read[1]["success"]), (&true.into(), &false.into()));
}

#[tokio::test]
async fn a_recording_is_never_replaced() {
    let cluster = Cluster::start().await;
    let one = cluster.as_holder(&cluster.node("web-1").await);
    let other = cluster.as_holder(&cluster.node("web-2").await);
    let bytes = recording(&cluster, "s-1", "hello\r\n", true);
    upload(&one, "s-1", &bytes, 1024).await.unwrap();
    // The same again is no change: an answer may have been lost.
    upload(&one, "s-1", &bytes, 10).await.unwrap();
    let forged = recording(&cluster, "s-1", "nothing happened\r\n", true);
    for host in [&one, &other] {
        let refused = upload(host, "s-1", &forged, 1024).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    }
    assert_eq!(upload(&other, "s-1", &bytes, 1024).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(download(&cluster.admin, "s-1").await.unwrap(), bytes);
    assert_eq!((list(&cluster.admin).await.len(), objects(&cluster)), (1, 1));
}

#[tokio::test]
async fn a_recording_that_breaks_off_is_kept_as_what_it_is() {
    let cluster = Cluster::start().await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let bytes = recording(&cluster, "s-1", "hello\r\n", true);
    upload(&host, "s-1", &bytes[..bytes.len() - 5], 1024).await.unwrap();
    upload(&host, "s-2", b"this is no recording", 1024).await.unwrap();
    upload(&host, "s-3", &recording(&cluster, "s-1", "hello\r\n", true), 1024).await.unwrap();
    let listed = list(&cluster.admin).await;
    let states: Vec<_> = listed.iter().map(|r| r.spec.state).collect();
    let damaged = RecordingState::Damaged;
    assert_eq!(states, [RecordingState::Truncated, damaged, damaged]);
    assert_eq!(listed[2].spec.user, "", "it says nothing of this session");
}

#[tokio::test]
async fn uploads_are_bounded_and_leave_nothing_behind() {
    let cluster = Cluster::with(|options| options.limits.recording = 100).await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    for (session, bytes, part) in
        [("s-1", vec![7; 101], 60), ("s-1", vec![7; 2 << 20], 2 << 20), ("../x", vec![7; 9], 9)]
    {
        assert!(upload(&host, session, &bytes, part).await.is_err(), "{session}");
    }
    let mixed = ["s-1", "s-2"]
        .map(|session| proto::RecordingPart { session_id: session.into(), data: vec![7] });
    assert!(host.recordings().upload(tokio_stream::iter(mixed)).await.is_err());
    assert!(host.recordings().upload(tokio_stream::iter([])).await.is_err());
    super::cluster::until(async || objects(&cluster) == 0).await;
    assert!(list(&cluster.admin).await.is_empty());
    upload(&host, "s-1", &[7; 100], 60).await.unwrap();
}

#[tokio::test]
async fn only_hosts_upload_and_only_auditors_read() {
    let cluster = Cluster::start().await;
    let host = cluster.as_holder(&cluster.node("web-1").await);
    let alice = cluster.user("alice", &["access"]).await;
    let bytes = recording(&cluster, "s-1", "hello\r\n", true);
    for client in [&alice, &cluster.user("audrey", &["auditor"]).await] {
        let refused = upload(client, "s-1", &bytes, 1024).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    upload(&host, "s-1", &bytes, 1024).await.unwrap();
    for client in [&alice, &host] {
        let refused = download(client, "s-1").await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
}
