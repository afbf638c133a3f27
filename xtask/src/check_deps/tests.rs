//! Graphs that break a rule each, and what is said of them.

use serde_json::{Value, json};

use super::graph::Graph;
use super::rules::MEMBERS;
use super::violations;

/// A graph of our crates as they are named in the rules, each with these dependencies:
/// who, what, kind (`""` for a normal one).
fn graph(edges: &[(&str, &str, &str)]) -> Graph {
    metadata(edges, &[])
}

fn metadata(edges: &[(&str, &str, &str)], features: &[(&str, &str, &[&str])]) -> Graph {
    let kind = |kind: &str| if kind.is_empty() { Value::Null } else { json!(kind) };
    let mut names: Vec<&str> = MEMBERS.iter().map(|rule| rule.name).collect();
    let members: Vec<String> = names.iter().map(|name| format!("id:{name}")).collect();
    names.extend(edges.iter().flat_map(|(from, to, _)| [*from, *to]));
    names.sort_unstable();
    names.dedup();

    let packages: Vec<Value> = names
        .iter()
        .map(|name| {
            let declared: Vec<Value> = features
                .iter()
                .filter(|(from, ..)| from == name)
                .map(|(_, to, features)| json!({"name": to, "kind": null, "features": features}))
                .collect();
            json!({"id": format!("id:{name}"), "name": name, "dependencies": declared})
        })
        .collect();
    let nodes: Vec<Value> = names
        .iter()
        .map(|name| {
            let deps: Vec<Value> = edges
                .iter()
                .filter(|(from, ..)| from == name)
                .map(|(_, to, of)| {
                    json!({"pkg": format!("id:{to}"), "dep_kinds": [{"kind": kind(of)}]})
                })
                .collect();
            json!({"id": format!("id:{name}"), "deps": deps})
        })
        .collect();
    let whole = json!({
        "packages": packages,
        "workspace_members": members,
        "resolve": {"nodes": nodes},
    });
    Graph::parse(whole.to_string().as_bytes()).unwrap()
}

#[test]
fn allowed_arrows_are_silent() {
    let found = violations(&graph(&[
        ("access-ca", "access-core", ""),
        ("access-auth", "access-ca", ""),
        ("access-auth", "argon2", ""),
        ("access-backend", "rusqlite", ""),
        ("access-proxy", "access-tunnel", ""),
        ("access-bin-quickstart", "access-auth", ""),
        ("serde", "serde_derive", ""),
    ]));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn an_arrow_that_points_the_wrong_way_is_named() {
    let found = violations(&graph(&[("access-core", "access-ca", "")]));
    assert_eq!(found, ["access-core imports access-ca, which no arrow allows"]);
}

#[test]
fn build_scripts_count_and_tests_do_not() {
    assert_eq!(violations(&graph(&[("access-client", "access-ca", "dev")])), Vec::<String>::new());
    let found = violations(&graph(&[("access-client", "access-ca", "build")]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("access-client imports access-ca"), "{found:?}");
    assert!(found[1].contains("no authority outside Auth"), "{found:?}");
}

#[test]
fn the_proxy_may_not_reach_a_store_through_others() {
    let found =
        violations(&graph(&[("access-proxy", "access-core", ""), ("access-core", "rusqlite", "")]));
    assert!(
        found.contains(
            &"access-proxy reaches rusqlite (no store outside Auth), by access-proxy -> \
              access-core -> rusqlite"
                .to_owned()
        ),
        "{found:?}"
    );
    assert!(
        found.contains(
            &"access-core reaches rusqlite (the core stores nothing), by access-core \
                         -> rusqlite"
                .to_owned()
        ),
        "{found:?}"
    );
    assert!(
        found.contains(
            &"access-core imports rusqlite: state is reached through access-backend".to_owned()
        ),
        "{found:?}"
    );
}

#[test]
fn features_that_others_turn_on_are_not_ours() {
    // russh makes ssh-key bring a KDF; whoever takes the client alone does not get it.
    let found = violations(&graph(&[("access-client", "ssh-key", ""), ("ssh-key", "argon2", "")]));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_forbidden_crate_is_named_with_who_brought_it() {
    let found = violations(&graph(&[
        ("access-client", "reqwest", "dev"),
        ("reqwest", "native-tls", ""),
        ("native-tls", "openssl-sys", ""),
    ]));
    assert_eq!(
        found,
        [
            "native-tls is in the graph (TLS is rustls), by access-client -> reqwest -> native-tls",
            "openssl-sys is in the graph (the one provider is ring), by access-client -> reqwest \
             -> native-tls -> openssl-sys",
        ]
    );
}

#[test]
fn a_protocol_takes_no_tunnel() {
    let found = violations(&graph(&[("access-ssh", "access-tunnel", "")]));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn the_core_asks_for_no_sockets() {
    let found = violations(&metadata(
        &[("access-core", "tokio", "")],
        &[("access-core", "tokio", &["sync", "net"])],
    ));
    assert_eq!(
        found,
        ["access-core asks for tokio/net: the core opens no socket or file and spawns nothing"]
    );
}

#[test]
fn a_crate_that_nobody_listed_breaks_the_check() {
    let whole = json!({
        "packages": [{"id": "a", "name": "access-new", "dependencies": []}],
        "workspace_members": ["a"],
        "resolve": {"nodes": [{"id": "a", "deps": []}]},
    });
    let found = violations(&Graph::parse(whole.to_string().as_bytes()).unwrap());
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("access-new is not in the table of arrows"), "{found:?}");
}

#[test]
fn what_is_no_metadata_is_an_error() {
    assert!(Graph::parse(b"{}").unwrap_err().contains("cargo metadata"));
}
