//! What agents that tell that they are there cost an Auth Service, over gRPC and mutual TLS, each by
//! a connection of its own: `cargo bench -p access-auth --bench heartbeats`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

#[allow(dead_code, reason = "what the tests need besides")]
#[path = "../tests/it/cluster.rs"]
mod cluster;

use std::time::Duration;

use access_client::{AuthClient, KeySet, proto};
use access_core::Timestamp;
use tokio::runtime::{Builder, Runtime};

use cluster::{Cluster, claims, for_types};

/// Agents, each with its connection.
const AGENTS: usize = 300;
/// How often each is heard of. The clock goes on by a minute between two times.
const BEATS: usize = 20;
/// How many come a second.
const RATE: u32 = 300;

fn main() {
    let auth = runtime("auth");
    let cluster = auth.block_on(Cluster::start());
    let agents = runtime("agents").block_on(run(&cluster));
    println!(
        "{:.0} µs of Auth's processor time for each of {} beats; {:.2} % of a core for 10,000 agents that beat each minute",
        agents * 1e6,
        AGENTS * BEATS,
        agents * 10_000.0 / 60.0 * 100.0
    );
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build().unwrap()
}

/// Gives seconds of the processor for each beat.
async fn run(cluster: &Cluster) -> f64 {
    let token = cluster.token(for_types(&["node"])).await;
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let (keys, node) = (KeySet::generate().unwrap(), format!("node-{number}"));
        let joined = cluster.stranger().join(&token, None, claims(&["node"], &[&node]), keys).await;
        let joined = joined.unwrap();
        let id = joined.host_id.clone().unwrap().to_string();
        let client = cluster.as_holder(&joined);
        beat(cluster.now(), client.clone(), id.clone(), number).await;
        agents.push((client, id));
    }
    // What its beginning has left to be done is done.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = spent();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    for _ in 0..BEATS {
        cluster.advance(60);
        // Nobody waits for the others: one that has to be renewed is answered a second later.
        let mut beats = tokio::task::JoinSet::new();
        for (number, (client, id)) in agents.iter().enumerate() {
            ticks.tick().await;
            beats.spawn(beat(cluster.now(), client.clone(), id.clone(), number));
        }
        beats.join_all().await;
    }
    (spent() - before).as_secs_f64() / (AGENTS * BEATS) as f64
}

async fn beat(now: Timestamp, client: AuthClient, host: String, number: usize) {
    let json = serde_json::json!({
        "kind": "node",
        "version": "v1",
        "metadata": {
            "name": format!("node-{number}"),
            "labels": { "env": "prod", "role": "web" },
            "expires": now.plus(Duration::from_secs(720)),
        },
        "spec": { "host": host, "hostname": "web-1", "version": "1.0.0" },
    });
    let request = proto::WriteRequest { json: json.to_string().into_bytes(), force: false };
    client.resources().put(request).await.unwrap();
}

/// What the threads of the service have used of the processor, in hundredths of a second as Linux
/// counts.
fn spent() -> Duration {
    let mut ticks = 0;
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        let (name, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        if !name.ends_with("agents") {
            ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    Duration::from_millis(ticks * 10)
}
