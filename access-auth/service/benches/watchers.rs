//! What those who watch cost an Auth Service, with their ends of the streams in the same process:
//! `cargo bench -p access-auth --bench watchers`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use access_auth::{AuthService, Options, StoreClock};
use access_backend::{Backend, Key, Memory, MemoryOptions, NewItem, Value};
use access_client::proto::{self, watch_event::Event};
use access_client::{AuthClient, ClientError};
use access_core::time::ManualClock;
use access_core::{Clock, ClusterName, Timestamp};

/// Streams of one connection.
const STREAMS: usize = 50;
/// How long each is looked at.
const SECONDS: u32 = 5;

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_secs(1_767_323_045)));
    let dir = tempfile::tempdir().unwrap();
    let memory =
        MemoryOptions { clock: Arc::new(StoreClock(clock.clone())), ..MemoryOptions::default() };
    let store = Arc::new(Memory::new(memory));
    let mut options = Options::new(dir.path().join("data"), clock);
    options.cluster_name = Some(ClusterName::new("example.com").unwrap());
    let auth = AuthService::open(store.clone(), options).await.unwrap();
    for (kind, what, rate) in [("app", "other changes", 200), ("node", "each change", 20)] {
        for count in [1, 100, 1000] {
            let watchers = watch(&auth, kind, count).await;
            let (began, before) = (Instant::now(), spent());
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            for number in 0..rate * SECONDS {
                ticks.tick().await;
                store.put(node(number)).await.unwrap();
            }
            let share = (spent() - before).as_secs_f64() / began.elapsed().as_secs_f64();
            println!(
                "{count} watchers, {rate} writes a second, of {what}: {:.1} % of a core",
                share * 100.0
            );
            watchers.into_iter().for_each(|task| task.abort());
        }
    }
    auth.close().await;
    Ok(())
}

/// Watches of one kind, each past its snapshot.
async fn watch(auth: &AuthService, kind: &str, count: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let mut watchers = Vec::new();
    let mut client = None;
    for number in 0..count {
        if number % STREAMS == 0 {
            client = Some(AuthClient::over_stream(auth.local_pipe()));
        }
        let request = proto::WatchRequest { kinds: vec![kind.into()], position: Vec::new() };
        let resources = client.as_ref().unwrap().resources();
        let mut stream = { resources }.watch(request).await.unwrap().into_inner();
        while !matches!(
            stream.message().await.unwrap().and_then(|event| event.event),
            Some(Event::Ready(_))
        ) {}
        watchers
            .push(tokio::spawn(async move { while let Ok(Some(_)) = stream.message().await {} }));
    }
    watchers
}

fn node(number: u32) -> NewItem {
    let name = format!("node-{}", number % 500);
    let document = serde_json::json!({
        "kind": "node",
        "version": "v1",
        "metadata": { "name": name, "labels": { "env": "prod", "role": "web", "zone": "a" } },
        "spec": { "host": format!("host-{number}"), "hostname": "web-1", "version": "1.0.0" },
    });
    let key = Key::parse(&format!("/nodes/{name}")).unwrap();
    NewItem::new(key, Value::new(document.to_string()).unwrap())
}

/// What this process has used of the processor, in hundredths of a second as Linux counts.
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
