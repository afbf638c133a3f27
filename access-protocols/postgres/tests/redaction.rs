//! `db_redact_parameters`: what is bound stands nowhere, not even in what the database says of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use access_core::audit::Event;
use access_core::recording::{RecordingReader, What};
use access_core::role::RecordMode;
use common::{Gateway, Postgres};

const SECRET: &str = "4111-1111-1111-1111";

/// Binds a secret that the database takes, and one that it repeats in its error. Gives all events,
/// and the recording.
async fn bind_a_secret(gateway: &Gateway) -> (String, String) {
    let client = gateway.connect("reader").await;
    client.query_one("select length($1::text)", &[&SECRET]).await.unwrap();
    let refused = client.query_one("select $1::text::int", &[&SECRET]).await.unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert!(refused.message().contains(SECRET), "the client is told all of it: {refused}");
    drop(client);
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let mut reader = RecordingReader::trusting_nobody();
    reader.push(&gateway.recorder.recordings()[0].bytes);
    let mut shown = String::new();
    while let Some(event) = reader.next_event() {
        if let What::Output(output) = event.what {
            shown.push_str(&output);
        }
    }
    (serde_json::to_string(&gateway.events()).unwrap(), shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_stands_in_no_event_and_no_recording() {
    let pg = Postgres::start();
    for redact in [true, false] {
        let gateway = Gateway::before(&pg).await;
        gateway.rules.grant(|grant| {
            grant.limits.record = RecordMode::Strict;
            grant.database.redact_parameters = redact;
        });
        let (events, recording) = bind_a_secret(&gateway).await;
        for (what, text) in [("events", events), ("recording", recording)] {
            assert_eq!(text.contains(SECRET), !redact, "{what}: {text}");
            assert_eq!(text.contains("invalid input syntax"), !redact, "{what}: {text}");
            // What was run, and which error came of it, are told in any case.
            assert!(text.contains("select $1::text::int"), "{what}: {text}");
            assert!(text.contains("22P02"), "{what}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_statement_was_refused_is_told_all_the_same() {
    let pg = Postgres::start();
    let gateway = Gateway::before(&pg).await;
    gateway.rules.grant(|grant| grant.database.redact_parameters = true);
    gateway.rules.deny(|action| match action {
        access_core::policy::Action::DatabaseStatement { .. } => {
            Some(access_core::policy::Reason::Other("not on a Friday".into()))
        }
        _ => None,
    });
    let said = gateway.run("reader", "select 1").await;
    assert!(common::text(&said.stderr).contains("SELECT is not allowed here"), "{said:?}");
    gateway.wait_for(|event| matches!(event, Event::DbSessionEnd(_))).await;
    let events = serde_json::to_string(&gateway.events()).unwrap();
    assert!(events.contains("SELECT is not allowed here"), "{events}");
}
