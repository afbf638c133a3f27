//! Moving a store to a database, and back to a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "../../tests/common/moving.rs"]
mod moving;

use std::sync::Arc;

use access_backend::migrate::{Migration, Place};
use access_backend::{Backend, ManualClock, Sqlite, SqliteOptions};
use access_backend_sql::{Engine, Sql, SqlOptions};
use common::roach::Roach;
use common::{Server, fresh};
use moving::{clock, crash_everywhere, event, fill, item, key, move_it, options, same};

#[tokio::test(flavor = "multi_thread")]
async fn from_a_file_to_postgres_and_back() {
    let (clock, server) = (clock(), Server::start());
    let to = Place::new(fresh(server.clone(), clock.clone()).await, "postgres");
    there_and_back(clock, to).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_file_to_the_stand_in_and_back() {
    let (clock, roach) = (clock(), Roach::start().await);
    let options = SqlOptions {
        clock: clock.clone(),
        max_clock_skew: None,
        ..SqlOptions::new(Engine::CockroachDb, &roach.url()).unwrap()
    };
    let to = Place::new(Arc::new(Sql::open(options).await.unwrap()), "cockroachdb");
    there_and_back(clock, to).await;
}

async fn there_and_back(clock: Arc<ManualClock>, to: Place) {
    let dir = tempfile::tempdir().unwrap();
    let file = SqliteOptions {
        clock: clock.clone(),
        ..SqliteOptions::new(dir.path().join("data/state.db"))
    };
    let from = Place::new(Arc::new(Sqlite::open(file).await.unwrap()), "sqlite");
    fill(&from, "example.com").await;
    move_it(&from, &to, &clock).await;

    clock.advance(std::time::Duration::from_secs(120));
    to.backend.put(item("/nodes/00007", "of the second")).await.unwrap();
    to.backend.delete(&key("/nodes/00008")).await.unwrap();
    to.events.append(vec![event("spool", moving::EVENTS + 1, 9)]).await.unwrap();
    let back = Migration::begin(&to, &from, options(&clock)).await.unwrap();
    back.copy(&to, None).await.unwrap();
    back.finish(&to).await.unwrap();
    same(&to, &from).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_off_goes_on() {
    let (clock, server) = (clock(), Server::start());
    let from = Place::new(fresh(server.clone(), clock.clone()).await, "one");
    fill(&from, "example.com").await;
    let to = fresh(server.clone(), clock.clone()).await;
    crash_everywhere(&from, &Place::new(to.clone(), "other"), &clock).await;
    to.close().await.unwrap();
}
