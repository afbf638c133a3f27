//! Documents, users, tokens and locks through the tool, on a service in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use access_client::proto::{HostClaims, JoinRequest, RedeemInviteRequest};
use access_client::{AuthClient, KeySet};
use common::{CLUSTER, Daemon};
use serde_json::Value;

const ROLE: &str = "kind: role\nversion: v1\nmetadata: {name: dev, labels: {country: no}}\n\
                    spec:\n  allow:\n    logins: [ubuntu]\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_the_tool_prints_can_be_redeemed() {
    let auth = Daemon::start().await;
    let args = ["users", "add", "alice", "--roles=access", "--logins=alice,root", "--format=json"];
    let value = auth.ctl(&args).await.json();
    assert_eq!(value["user"], "alice");
    let link = value["invite_url"].as_str().unwrap();
    let (address, secrets) = link.split_once("#token=").unwrap();
    assert_eq!(address, "https://proxy.example.test:443/web/invite");
    let (token, pin) = secrets.split_once("&pin=").unwrap();
    assert_eq!(pin, auth.service.ca_pins().unwrap()[0].to_string());

    let client = AuthClient::over_stream(auth.service.local_pipe());
    let password = "correct horse battery staple";
    let request = RedeemInviteRequest { token: token.into(), password: password.into() };
    client.entry().redeem_invite(request).await.unwrap();
    let keys = KeySet::generate().unwrap();
    client.login("alice", password, keys, None).await.unwrap();

    let again = auth.ctl(&["users", "add", "alice", "--roles=access"]).await;
    again.fails(1, &["user alice exists already"]);
    let reset = auth.ctl(&["users", "reset", "alice"]).await.ok();
    assert!(reset.out.contains("\n  access invite accept 'https://proxy.example.test:443/"));
    let keys = KeySet::generate().unwrap();
    client.login("alice", password, keys, None).await.unwrap_err();

    let list = auth.ctl(&["users", "ls"]).await.ok().out;
    assert!(list.contains("alice  access  alice,root"), "{list}");
    auth.ctl(&["users", "update", "alice", "--roles=auditor", "--logins="]).await.ok();
    let user = auth.ctl(&["get", "users/alice", "--format=json"]).await.json();
    assert_eq!(user["spec"]["roles"], serde_json::json!(["auditor"]));
    assert_eq!(user["spec"]["traits"].get("logins"), None);
    auth.ctl(&["users", "rm", "alice"]).await.ok();
    auth.ctl(&["users", "rm", "alice"]).await.fails(1, &["alice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_names_the_proxy_that_was_asked_for() {
    let auth = Daemon::start().await;
    let args = ["users", "add", "bob", "--roles=access", "--proxy=other.example:3080"];
    let text = auth.ctl(&args).await.ok().out;
    assert!(text.contains("\n  https://other.example:3080/web/invite#token="), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_do_not_exist_are_named_with_the_nearest() {
    let auth = Daemon::start().await;
    let done = auth.ctl(&["users", "add", "alice", "--roles=acess"]).await;
    done.fails(1, &["acess", "does not exist", "did you mean \"access\"?"]);
    let role = format!("{ROLE}    request: {{roles: [reveiwer]}}\n");
    let done = auth.ctl_with(&["create"], &role).await;
    done.fails(1, &["role dev", "spec.allow.request.roles", "reveiwer", "reviewer"]);
    auth.ctl(&["get", "role/dev"]).await.fails(1, &["there is no role"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_the_four_fields_and_can_be_taken_back() {
    let auth = Daemon::start().await;
    let args = ["tokens", "add", "--type=node,db", "--ttl=30m", "--uses=2", "--names=node/web-1"];
    let args = [&args[..], &["--labels=env=prod", "--format=json"]].concat();
    let value = auth.ctl(&args).await.json();
    let fields: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["token", "types", "expires", "ca_pin"]);
    assert_eq!(value["types"], serde_json::json!(["node", "db"]));
    assert_eq!(value["ca_pin"], auth.service.ca_pins().unwrap()[0].to_string());
    let token = value["token"].as_str().unwrap();

    let list = auth.ctl(&["tokens", "ls"]).await.ok().out;
    assert!(list.contains("node,db") && list.contains("node/web-1"), "{list}");
    assert!(!list.contains(token), "the secret is not kept");
    auth.ctl(&["tokens", "rm", token]).await.ok();
    assert_eq!(auth.ctl(&["tokens", "ls", "--format=json"]).await.json(), serde_json::json!([]));

    let text = auth.ctl(&["tokens", "add", "--type=node"]).await.ok().out;
    assert!(text.contains("  agent --proxy=proxy.example.test:443 --token="), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_go_in_and_come_out_as_they_were() {
    let auth = Daemon::start().await;
    let file = auth.path("role.yaml");
    std::fs::write(&file, ROLE).unwrap();
    let file = file.to_str().unwrap();
    auth.ctl(&["create", "-f", file]).await.ok();
    auth.ctl(&["create", file]).await.fails(1, &["role dev exists already", "--force"]);

    let yaml = auth.ctl(&["get", "role/dev"]).await.ok().out;
    assert!(yaml.starts_with("kind: role\n"), "{yaml}");
    assert!(yaml.contains("country: \"no\"") || yaml.contains("country: 'no'"), "{yaml}");
    let changed = yaml.replace("ubuntu", "debian");
    auth.ctl_with(&["create", "--force"], &changed).await.ok();
    let json = auth.ctl(&["get", "role/dev", "--format=json"]).await.json();
    assert_eq!(json["spec"]["allow"]["logins"], serde_json::json!(["debian"]));

    let all = auth.ctl(&["get", "roles,cluster_config"]).await.ok().out;
    assert!(all.contains("\n---\n") && all.contains("name: access\n"), "{all}");
    assert!(all.contains(&format!("cluster_name: {CLUSTER}\n")), "{all}");
    auth.ctl_with(&["create", "--force", "-f", "-"], &all).await.ok();
    let table = auth.ctl(&["get", "roles", "--format=text"]).await.ok().out;
    assert!(table.contains("role  dev"), "{table}");

    auth.ctl(&["rm", "role/dev"]).await.ok();
    auth.ctl(&["get", "role/dev"]).await.fails(1, &["there is no role"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_mistake_changes_nothing() {
    let auth = Daemon::start().await;
    let second = ROLE.replace("name: dev", "name: ops").replace("logins", "logns");
    let done = auth.ctl_with(&["create"], &format!("{ROLE}---\n{second}")).await;
    done.fails(1, &["standard input: document 2: role ops: spec.allow.logns", "\"logins\"?"]);
    auth.ctl(&["get", "role/dev"]).await.fails(1, &["there is no role"]);

    let done = auth.ctl_with(&["create"], "kind: role\n  version: v1\n").await;
    done.fails(1, &["standard input:2:", "YAML"]);
    let done = auth.ctl_with(&["create"], &ROLE.replace("kind: role", "kind: rolle")).await;
    done.fails(1, &["unknown kind \"rolle\", did you mean \"role\"?"]);
    auth.ctl(&["get", "rolle"]).await.fails(2, &["unknown kind \"rolle\"", "\"role\""]);
    auth.ctl(&["create", "-f", "/no/such/file"]).await.fails(1, &["there is no file"]);
    auth.ctl(&["get", "node/web-1"]).await.fails(1, &["web-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_edited_in_the_editor_of_the_environment() {
    let auth = Daemon::start().await;
    auth.ctl_with(&["create"], ROLE).await.ok();
    let dir = auth.dir.path().to_str().unwrap().to_owned();
    let edit = async |editor: &str| {
        let args = ["--data-dir", &dir, "edit", "role/dev"];
        common::run(&args, "", &[("EDITOR", editor), ("TMPDIR", &dir)]).await
    };
    edit("sed -i s/ubuntu/debian/").await.ok();
    let json = auth.ctl(&["get", "role/dev", "--format=json"]).await.json();
    assert_eq!(json["spec"]["allow"]["logins"], serde_json::json!(["debian"]));
    assert!(edit("true").await.ok().err.contains("nothing has been changed"));
    edit("false").await.fails(1, &["nothing has been changed"]);
    let done = edit("sed -i s/logins/logns/").await;
    done.fails(1, &["spec.allow.logns", "what you wrote is in "]);
    let kept = done.err.trim().rsplit("what you wrote is in ").next().unwrap();
    assert!(std::fs::read_to_string(kept).unwrap().contains("logns"));
    edit("sed -i s/dev/ops/").await.fails(1, &["kind and name cannot be edited"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_made_listed_and_lifted() {
    let auth = Daemon::start().await;
    auth.ctl(&["users", "add", "alice", "--roles=access"]).await.ok();
    let args = ["lock", "--user=alice", "--ttl=1h", "--message=lost laptop", "--format=json"];
    let lock = auth.ctl(&args).await.json();
    assert_eq!(lock["spec"]["target"]["user"], "alice");
    let name = lock["metadata"]["name"].as_str().unwrap();
    let found = auth.ctl(&["get", &format!("lock/{name}"), "--format=json"]).await.json();
    assert_eq!(found["spec"], lock["spec"]);
    auth.ctl(&["rm", &format!("lock/{name}")]).await.ok();
    assert_eq!(auth.ctl(&["get", "locks", "--format=json"]).await.json(), serde_json::json!([]));
    auth.ctl(&["lock", "--user=nobody"]).await.fails(1, &["nobody"]);
    auth.ctl(&["lock", "--ttl=1h"]).await.fails(2, &["--user"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_audit_tell_what_is_and_what_was() {
    let auth = Daemon::start().await;
    auth.ctl(&["users", "add", "alice", "--roles=access"]).await.ok();
    let status = auth.ctl(&["status", "--format=json"]).await.json();
    assert_eq!(status["cluster_name"], CLUSTER);
    assert_eq!(status["counts"]["user"], 1);
    assert_eq!(status["ca_pin"], auth.service.ca_pins().unwrap()[0].to_string());
    let text = auth.ctl(&["status"]).await.ok().out;
    assert!(text.contains(&format!("Cluster:   {CLUSTER}\n")), "{text}");

    let args = ["audit", "search", "--type=user.create", "--from=1h", "--format=json"];
    let events = auth.ctl(&args).await.json();
    assert_eq!(events[0]["event"], "user.create");
    assert_eq!(events[0]["name"], "alice");
    let newest = auth.ctl(&["audit", "search", "--limit=1", "--format=yaml"]).await.ok();
    assert!(newest.err.contains("--limit"), "{newest:?}");
    let table = auth.ctl(&["audit", "search", "--type=user.create"]).await.ok().out;
    assert!(table.contains("name=alice"), "{table}");
    let none = ["audit", "search", "--to=2020-01-01", "--format=json"];
    assert_eq!(auth.ctl(&none).await.json(), Value::Array(Vec::new()));
    let done = auth.ctl(&["audit", "search", "--type=user.crate"]).await;
    done.fails(2, &["did you mean \"user.create\"?"]);

    assert_eq!(auth.ctl(&["nodes", "ls", "--format=json"]).await.json(), serde_json::json!([]));
    assert!(auth.ctl(&["nodes", "ls", "env=prod"]).await.ok().out.starts_with("Node"));
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_listed_with_their_health() {
    let auth = Daemon::start().await;
    assert_eq!(auth.ctl(&["db", "ls", "--format=json"]).await.json(), serde_json::json!([]));
    let token = ["tokens", "add", "--type=db", "--names=db/roach,db/orders", "--format=json"];
    let token = auth.ctl(&token).await.json()["token"].as_str().unwrap().to_owned();
    let client = AuthClient::over_stream(auth.service.local_pipe());
    let claims = HostClaims {
        nodename: "db-agent".into(),
        services: vec!["db".into()],
        resources: vec!["db/roach".into(), "db/orders".into()],
        public_names: Vec::new(),
        databases: Vec::new(),
    };
    let keys = KeySet::generate().unwrap().public().unwrap();
    let request =
        JoinRequest { token, keys: Some(keys), host_id: String::new(), claims: Some(claims) };
    let host = client.entry().join(request).await.unwrap().into_inner().host_id;
    let documents = format!(
        "kind: db\nversion: v1\nmetadata: {{name: roach, labels: {{env: prod}}}}\n\
         spec:\n  protocol: cockroachdb\n  uri: a:26257,b:26257\n  host: {host}\n  \
         hostname: db-agent\n  health: {{status: unhealthy, message: 'a: refused'}}\n\
         ---\nkind: db\nversion: v1\nmetadata: {{name: orders}}\n\
         spec: {{protocol: postgres, uri: 'c:5432', host: {host}}}\n"
    );
    auth.ctl_with(&["create"], &documents).await.ok();
    let text = auth.ctl(&["db", "ls"]).await.ok().out;
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["Database", "Protocol", "URI", "Labels", "Host", "Health"]);
    assert_eq!(lines[1], ["orders", "postgres", "c:5432", host.as_str(), "unknown"]);
    let roach = "roach cockroachdb a:26257,b:26257 env=prod db-agent unhealthy: a: refused";
    assert_eq!(lines[2], roach.split(' ').collect::<Vec<_>>());
    let found = auth.ctl(&["db", "ls", "env=prod", "--format=json"]).await.json();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["spec"]["health"]["status"], "unhealthy");
    let yaml = auth.ctl(&["db", "ls", "--format=yaml"]).await.ok().out;
    assert!(yaml.contains("name: orders") && yaml.contains("name: roach"), "{yaml}");
}
