//! The regions of a CockroachDB store, set by the tool: against the stand-in of the engine's own tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[allow(dead_code, unreachable_pub, reason = "the engine's tests use all of it")]
#[path = "../../../access-backend/sql/tests/common/roach/mod.rs"]
mod roach;

use common::run;
use roach::Roach;

const REGIONS: [&str; 6] = [
    "backend",
    "multi-region",
    "--primary=us-east1",
    "--region=us-west1,europe-west1",
    "--secondary=us-west1",
    "--survive=region",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_what_is_done() {
    let roach = Roach::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.yaml");
    let text =
        format!("access:\n  storage:\n    type: cockroachdb\n    conn_string: {}\n", roach.url());
    std::fs::write(&path, text).unwrap();
    let of_config = ["--config", path.to_str().unwrap()];

    let shown = run(&[&of_config[..], &REGIONS].concat(), "", &[]).await.ok();
    let statements: Vec<&str> =
        shown.out.lines().map(|line| line.strip_suffix(';').unwrap()).collect();
    assert_eq!(
        statements,
        [
            r#"ALTER DATABASE "defaultdb" SET PRIMARY REGION "us-east1""#,
            r#"ALTER DATABASE "defaultdb" ADD REGION IF NOT EXISTS "us-west1""#,
            r#"ALTER DATABASE "defaultdb" ADD REGION IF NOT EXISTS "europe-west1""#,
            r#"ALTER DATABASE "defaultdb" SET SECONDARY REGION "us-west1""#,
            r#"ALTER DATABASE "defaultdb" SURVIVE REGION FAILURE"#,
        ]
    );
    assert_eq!(roach.said(), Vec::<String>::new(), "nothing is done before it is asked for");

    let done = run(&[&of_config[..], &REGIONS, &["--apply"]].concat(), "", &[]).await.ok();
    let altered = || {
        let said = roach.said().into_iter();
        said.filter(|text| text.starts_with("ALTER DATABASE")).collect::<Vec<_>>()
    };
    assert_eq!(altered(), statements);
    for text in &statements {
        assert!(done.err.contains(&format!("done: {text}")), "{done:?}");
    }

    // One that the cluster does not have changes nothing, and is named with those that there are.
    let mars = ["backend", "multi-region", "--primary=mars", "--apply"];
    let refused = run(&[&of_config[..], &mars].concat(), "", &[]).await;
    refused.fails(1, &["has no region mars", "us-east1", "--locality=region=NAME"]);
    assert_eq!(altered(), statements);
}
