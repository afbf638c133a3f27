//! CockroachDB itself, where a variable names one: the suites, each store in a database of its own. It goes the way
//! that the store goes, so that a URL with `sslmode=verify-full` and a client certificate does.

use std::sync::{Arc, Mutex};

use access_backend::Clock;
use access_backend::conformance::{run, run_events};

use crate::conn::Conn;
use crate::conn_string::ConnString;
use crate::pool::Dialer;
use crate::{Engine, Sql, SqlOptions};

/// Its user has to be allowed to make databases.
const URL: &str = "ACCESS_TEST_COCKROACHDB_URL";

/// A database and the store in it.
type Made = (String, Arc<Sql>);

async fn administrator(url: &str) -> Conn {
    let conn: ConnString = url.parse().unwrap();
    let dialed = Dialer::new(Engine::CockroachDb, conn).dial(None).await;
    dialed.map_err(|failure| failure.into_error().to_string()).expect(URL)
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "what is not tested is said")]
async fn the_suites_on_cockroachdb_itself() {
    let Ok(url) = std::env::var(URL) else {
        eprintln!("skipped: {URL} is not set");
        return;
    };
    let made: Arc<Mutex<Vec<Made>>> = Arc::default();
    let (kept, to) = (made.clone(), url.clone());
    let factory = move |clock: Arc<dyn Clock>| {
        let (made, url) = (kept.clone(), to.clone());
        async move {
            let name = format!("access_test_{:x}", rand::random::<u64>());
            let create = format!("CREATE DATABASE {name}");
            administrator(&url).await.client.batch_execute(&create).await.unwrap();
            let (server, rest) = url.rsplit_once('/').unwrap();
            let query = rest.split_once('?').map_or("", |(_, query)| query);
            let url = format!("{server}/{name}?{query}");
            let options = SqlOptions {
                clock,
                max_clock_skew: None,
                ..SqlOptions::new(Engine::CockroachDb, &url).unwrap()
            };
            let store = Arc::new(Sql::open(options).await.unwrap());
            made.lock().unwrap().push((name, store.clone()));
            store
        }
    };
    // What the suites left is removed whether or not they pass.
    let suites = tokio::spawn(async move {
        run(factory.clone()).await;
        run_events(factory).await;
    });
    let passed = suites.await;
    let stores = std::mem::take(&mut *made.lock().unwrap());
    let conn = administrator(&url).await;
    for (name, store) in stores {
        access_backend::Backend::close(&*store).await.unwrap();
        let dropped = conn.client.batch_execute(&format!("DROP DATABASE {name} CASCADE")).await;
        dropped.expect("the database of a test");
    }
    passed.unwrap();
}
