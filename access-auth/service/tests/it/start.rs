use std::os::unix::fs::PermissionsExt;

use access_auth::{AuthService, Options};
use access_client::AuthClient;
use access_client::proto;
use access_core::Timestamp;
use access_core::time::ManualClock;
use std::sync::Arc;

use super::cluster::{START, name, options, store};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_secs(START)))
}

async fn refusal(store: Arc<access_backend::Memory>, options: Options) -> String {
    AuthService::open(store, options).await.expect_err("it should not start").to_string()
}

#[tokio::test]
async fn a_second_start_finds_the_cluster_of_the_first() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let store = store(&clock);
    let first = AuthService::open(store.clone(), options(&dir, &clock)).await.unwrap();
    assert!(first.is_new());
    let admin = AuthClient::over_stream(first.local_pipe());
    let reviewer = proto::DeleteRequest {
        kind: "role".into(),
        name: "reviewer".into(),
        revision: String::new(),
    };
    admin.resources().delete(reviewer).await.unwrap();
    let pins = first.ca_pins().unwrap();
    first.close().await;

    let mut again = options(&dir, &clock);
    again.cluster_name = None;
    let second = AuthService::open(store, again).await.unwrap();
    assert!(!second.is_new());
    assert_eq!(second.ca_pins().unwrap(), pins);
    assert_eq!(second.cluster_name(), name("example.com"));
    // What was removed does not come back.
    let admin = AuthClient::over_stream(second.local_pipe());
    let list = proto::ListRequest { kind: "role".into(), ..Default::default() };
    let roles = admin.resources().list(list).await.unwrap().into_inner().documents;
    let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ["access", "auditor", "editor", "requester"]);
}

#[tokio::test]
async fn a_cluster_of_an_earlier_version_gets_the_authorities_that_it_lacks() {
    use access_backend::{Backend, Batch, Key, Operation};
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let store = store(&clock);
    let first = AuthService::open(store.clone(), options(&dir, &clock)).await.unwrap();
    let pins = first.ca_pins().unwrap();
    first.close().await;
    let key = |kind| Key::from_segments(["authorities", kind, "example.com"]).unwrap();
    let remove = async |kind| {
        store.batch(Batch::new().then(Operation::Delete(key(kind)))).await.unwrap();
    };
    remove("db").await;
    remove("db_client").await;

    let start = || AuthService::open(store.clone(), options(&dir, &clock));
    let (a, b) = tokio::join!(start(), start());
    let (second, replica) = (a.unwrap(), b.unwrap());
    assert!(!second.is_new() && !replica.is_new());
    assert_eq!(second.ca_pins().unwrap(), pins);
    let roots = async |service: &AuthService, kind: &str| {
        let request = proto::GetRequest { kind: "authority".into(), name: kind.into() };
        let admin = AuthClient::over_stream(service.local_pipe());
        admin.resources().get(request).await.unwrap().into_inner().json
    };
    for kind in ["db", "db_client"] {
        let made = roots(&second, kind).await;
        assert!(String::from_utf8_lossy(&made).contains("BEGIN CERTIFICATE"));
        assert_eq!(made, roots(&replica, kind).await, "both have the one that was made");
    }
    second.close().await;
    replica.close().await;

    // What everything hangs on is never made anew.
    remove("user").await;
    let why = refusal(store, options(&dir, &clock)).await;
    assert!(why.contains("authorities/user/example.com"), "{why}");
}

#[tokio::test]
async fn replicas_that_start_at_once_make_one_cluster() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let store = store(&clock);
    let start = || AuthService::open(store.clone(), options(&dir, &clock));
    let (a, b, c, d) = tokio::join!(start(), start(), start(), start());
    let all = [a.unwrap(), b.unwrap(), c.unwrap(), d.unwrap()];
    assert_eq!(all.iter().filter(|one| one.is_new()).count(), 1);
    let pins = all[0].ca_pins().unwrap();
    assert!(all.iter().all(|one| one.ca_pins().unwrap() == pins));
    // A write through one of them is in force in the others soon.
    let admin = AuthClient::over_stream(all[0].local_pipe());
    let user = super::cluster::create_user("alice", &["access"]);
    let invite = admin.admin().create_user(user).await.unwrap().into_inner();
    let other = AuthClient::over_stream(all[3].local_pipe());
    super::cluster::redeem(&other, &invite.token, super::cluster::PASSWORD).await.unwrap();
}

#[tokio::test]
async fn replicas_that_start_at_once_make_one_sealing_key_where_they_share_its_file() {
    let (clock, shared) = (clock(), tempfile::tempdir().unwrap());
    let store = store(&clock);
    let dirs = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let file = shared.path().join("seal.key");
    let start = |dir| {
        let mut options = options(dir, &clock);
        options.seal_key_file = Some(file.clone());
        AuthService::open(store.clone(), options)
    };
    let all = futures::future::join_all(dirs.iter().map(start)).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert_eq!(all.iter().filter(|one| one.is_new()).count(), 1);
    let files: Vec<_> = std::fs::read_dir(shared.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "nothing half made is left: {files:?}");
    assert!(dirs.iter().all(|dir| !dir.path().join("data/seal.key").exists()));
}

#[tokio::test]
async fn of_replicas_with_a_key_each_one_makes_the_cluster_and_the_others_leave_nothing() {
    let clock = clock();
    let store = store(&clock);
    let dirs = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let start = |dir| AuthService::open(store.clone(), options(dir, &clock));
    let mut all = futures::future::join_all(dirs.iter().map(start)).await;
    let first = all.iter().position(Result::is_ok).expect("none made it");
    let key = |at: usize| dirs[at].path().join("data/seal.key");
    for (at, opened) in all.iter().enumerate().filter(|(at, _)| *at != first) {
        let why = opened.as_ref().expect_err("it cannot open the authorities").to_string();
        assert!(why.starts_with(key(at).to_str().unwrap()), "{why}");
        assert!(why.contains("copy the file here that another Auth process"), "{why}");
        assert!(!key(at).exists(), "the key that sealed nothing is left");
        // And as it says, it does.
        std::fs::copy(key(first), key(at)).unwrap();
    }
    let pins = all.swap_remove(first).unwrap().ca_pins().unwrap();
    for service in futures::future::join_all(dirs.iter().map(start)).await {
        let service = service.unwrap();
        assert!(!service.is_new() && service.ca_pins().unwrap() == pins);
    }
}

#[tokio::test]
async fn another_name_or_none_is_a_clear_error() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let store = store(&clock);
    let mut nameless = options(&dir, &clock);
    nameless.cluster_name = None;
    let why = refusal(store.clone(), nameless).await;
    assert!(why.contains("set cluster_name"), "{why}");

    AuthService::open(store.clone(), options(&dir, &clock)).await.unwrap();
    let mut renamed = options(&dir, &clock);
    renamed.cluster_name = Some(name("example.org"));
    let why = refusal(store, renamed).await;
    assert!(why.contains("holds the cluster example.com, not example.org"), "{why}");
}

#[tokio::test]
async fn a_missing_or_another_sealing_key_is_a_clear_error() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let store = store(&clock);
    AuthService::open(store.clone(), options(&dir, &clock)).await.unwrap();
    let key = dir.path().join("data/seal.key");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let elsewhere = tempfile::tempdir().unwrap();
    let why = refusal(store.clone(), options(&elsewhere, &clock)).await;
    assert!(why.contains("seal.key") && why.contains("is missing"), "{why}");
    assert!(!elsewhere.path().join("data/seal.key").exists(), "none must be made");

    let stranger = tempfile::tempdir().unwrap();
    let own = super::cluster::store(&clock);
    AuthService::open(own, options(&stranger, &clock)).await.unwrap();
    let mut wrong = options(&dir, &clock);
    wrong.seal_key_file = Some(stranger.path().join("data/seal.key"));
    // It makes nothing either that this cluster lacks.
    let lacking = access_backend::Key::from_segments(["authorities", "db", "example.com"]).unwrap();
    access_backend::Backend::delete(&*store, &lacking).await.unwrap();
    let why = refusal(store.clone(), wrong).await;
    assert!(why.contains("sealed by another sealing key"), "{why}");
    assert!(why.starts_with(stranger.path().to_str().unwrap()), "{why}");
    assert!(stranger.path().join("data/seal.key").exists(), "it is another cluster's");
    assert!(access_backend::Backend::get(&*store, &lacking).await.unwrap().is_none());

    let mut given = options(&elsewhere, &clock);
    given.seal_key_file = Some(key);
    AuthService::open(store, given).await.unwrap();
}

#[tokio::test]
async fn a_data_directory_that_everybody_can_read_is_refused() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let why = refusal(store(&clock), options(&dir, &clock)).await;
    assert!(why.contains("mode 0755") && why.contains("chmod 700"), "{why}");

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let why = refusal(store(&clock), Options::new(file.join("data"), clock.clone())).await;
    assert!(why.contains("cannot be made"), "{why}");
}

#[tokio::test]
async fn the_cluster_outlives_its_process_in_a_file() {
    use access_backend::{Backend, Sqlite, SqliteOptions};
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let file = folder.join("auth.db");
    let open = async || {
        let mut options = SqliteOptions::new(&file);
        options.clock = Arc::new(access_auth::StoreClock(clock.clone()));
        Arc::new(Sqlite::open(options).await.unwrap())
    };
    let store = open().await;
    let first = AuthService::open(store.clone(), options(&dir, &clock)).await.unwrap();
    let pins = first.ca_pins().unwrap();
    let admin = AuthClient::over_stream(first.local_pipe());
    let user = super::cluster::create_user("alice", &["access"]);
    let invite = admin.admin().create_user(user).await.unwrap().into_inner();
    drop(admin);
    first.close().await;
    store.close().await.unwrap();
    drop((first, store));

    let store = open().await;
    let second = AuthService::open(store.clone(), options(&dir, &clock)).await.unwrap();
    assert_eq!(second.ca_pins().unwrap(), pins);
    let client = AuthClient::over_stream(second.local_pipe());
    let password = super::cluster::PASSWORD;
    super::cluster::redeem(&client, &invite.token, password).await.unwrap();
    let keys = access_client::KeySet::generate().unwrap();
    client.login("alice", password, keys, None).await.unwrap();
    let search = proto::SearchRequest::default();
    let events = client.audit().search(search).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 5, "those of before too");
    second.close().await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn recordings_are_kept_where_a_url_says() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("elsewhere");
    access_auth::recordings_at(&format!("file://{}", folder.display())).unwrap();
    assert!(folder.is_dir());
    let why = access_auth::recordings_at("ftp://x").unwrap_err().to_string();
    assert!(why.contains("use file:///FOLDER"), "{why}");
}
