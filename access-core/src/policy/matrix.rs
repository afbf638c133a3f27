//! The golden matrix: preset roles and built-in services × targets × actions, in a file that a
//! reviewer reads. A change of what anybody may do shows up as a change of that file.
//!
//! `UPDATE_GOLDEN=1 cargo test -p access-core` writes it anew.

use std::fmt::Write as _;

use super::fixtures::*;
use super::{Action, ApiKind, Decision, PolicySnapshot, Target, Verb};
use crate::identity::{Service, VerifiedIdentity};
use crate::ids::HostId;
use crate::resource::ResourceKind;
use crate::role::PRESETS;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/matrix.txt");

#[test]
#[expect(clippy::disallowed_methods, reason = "the golden file is a file")]
fn nobody_may_do_more_or_less_than_the_golden_file_says() {
    let found = render();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &found).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    for (line, (found, golden)) in found.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, golden, "line {} of {GOLDEN}", line + 1);
    }
    assert_eq!(found.lines().count(), golden.lines().count(), "{GOLDEN}");
}

#[test]
fn a_service_that_is_new_is_in_the_matrix() {
    // Exhaustive, so that a new service is looked at here.
    let listed = |service: Service| match service {
        Service::Node
        | Service::Db
        | Service::App
        | Service::Kube
        | Service::WindowsDesktop
        | Service::Proxy
        | Service::Auth
        | Service::Bot => service.as_str(),
    };
    let matrix = render();
    for service in Service::ALL {
        assert!(matrix.contains(&format!("## host: {}\n", listed(service))));
    }
}

fn render() -> String {
    let snapshot = preset_policy();
    let mut out = String::from(
        "# Who may do what. Written by the tests of access-core; see src/policy/matrix.rs.\n\
         # Users have every account in their traits and certificate. What is not listed is denied.\n\
         # \"own\" is what a host may do to documents that belong to it.\n",
    );
    for role in PRESETS {
        let mut identity = alice(&[role]);
        identity.traits = traits(&[
            ("logins", &["alice"]),
            ("windows_logins", &["alice"]),
            ("kubernetes_groups", &["developers"]),
            ("kubernetes_users", &["alice"]),
            ("db_names", &["*"]),
            ("db_users", &["*"]),
            ("db_roles", &["reader"]),
        ]);
        let _ = writeln!(out, "\n## role: {role}");
        section(&mut out, &snapshot, &verified(identity), None);
    }
    for service in Service::ALL {
        let identity = host("host-1", &[service]);
        let own = HostId::new("host-1").unwrap();
        let _ = writeln!(out, "\n## host: {service}");
        section(&mut out, &snapshot, &verified(identity), Some(own));
    }
    accounts(&mut out);
    out
}

/// Which accounts roles lead to on a database with an admin user, by their modes.
fn accounts(out: &mut String) {
    out.push_str(
        "\n## accounts on databases with an admin user, for alice, by create_db_user_mode of her roles\n\
         # The first role reaches the database; others are held besides. reader is in db_users.\n",
    );
    let spec = |mode: &str| {
        format!(
            r#"{{"options": {{"create_db_user_mode": {mode}}}, "allow": {{"db_labels": {{"*": "*"}},
                "db_names": ["*"], "db_users": ["reader"], "db_roles": ["writer"]}}}}"#
        )
    };
    let other = |mode: &str| format!(r#"{{"options": {{"create_db_user_mode": {mode}}}}}"#);
    let modes = ["null", "\"off\"", "\"best_effort_drop\"", "\"keep\""];
    let mut server = resource(ResourceKind::Database, "some", &[]);
    server.admin_user = Some(login("access-admin"));
    let target = Target::Resource(server);
    for first in modes {
        for second in modes {
            let snapshot = PolicySnapshot::builder()
                .role(&role("first", &spec(first)))
                .role(&role("second", &other(second)))
                .trust_unlisted_users()
                .build();
            let who = verified(alice(&["first", "second"]));
            let words = ["alice", "reader", "bob"].map(|user| {
                let action = Action::Database { user: login(user), database: "app".into() };
                match ask(&snapshot, &who, &action, &target) {
                    Decision::Deny(_) => format!("{user}: no"),
                    Decision::Allow(grant) => {
                        let made = grant.database.create_user;
                        format!("{user}: {made:?} {:?}", grant.database.roles)
                    }
                }
            });
            let plain = |mode: &str| mode.trim_matches('"').replace("null", "-");
            let held = format!("{} + {}", plain(first), plain(second));
            let _ = writeln!(out, "{held:<37} {}", words.join("; "));
        }
    }
}

/// One line a target: what may be done to it.
fn section(
    out: &mut String,
    snapshot: &PolicySnapshot,
    who: &VerifiedIdentity,
    own: Option<HostId>,
) {
    for target in every_target() {
        let allowed = |target: &Target| -> Vec<&'static str> {
            every_action()
                .iter()
                .filter(|action| ask(snapshot, who, action, target).is_allow())
                .map(Action::name)
                .collect()
        };
        let words = allowed(&target);
        let _ = write!(out, "{:<16} {}", name(&target), words.join(" "));
        if let (Some(owner), Target::Api { kind, .. }) = (&own, &target) {
            let target = Target::Api { kind: *kind, name: None, owner: Some(owner.clone()) };
            let mut more = allowed(&target);
            more.retain(|word| !words.contains(word));
            if !more.is_empty() {
                let _ = write!(
                    out,
                    "{}own: {}",
                    if words.is_empty() { "" } else { "; " },
                    more.join(" ")
                );
            }
        }
        while out.ends_with(' ') {
            out.pop();
        }
        out.push('\n');
    }
}

fn name(target: &Target) -> String {
    match target {
        Target::Resource(resource) => format!("[{}]", resource.id.kind),
        Target::Api { kind, .. } => kind.to_string(),
    }
}

/// What is said of hosts above holds for documents of the host itself only.
#[test]
fn a_host_may_not_write_what_is_another_hosts() {
    let snapshot = preset_policy();
    for service in [
        Service::Node,
        Service::Db,
        Service::App,
        Service::Kube,
        Service::WindowsDesktop,
        Service::Proxy,
    ] {
        let who = verified(host("host-1", &[service]));
        for kind in ApiKind::ALL {
            for verb in [Verb::Create, Verb::Update, Verb::Delete] {
                let owner = Some(HostId::new("host-2").unwrap());
                let target = Target::Api { kind: *kind, name: None, owner };
                let decision = ask(&snapshot, &who, &Action::Api(verb), &target);
                // Recordings are stored by whoever made them, under the session's id.
                let recording = (*kind, verb) == (ApiKind::Session, Verb::Create);
                assert_eq!(decision.is_allow(), recording, "{service} {verb:?} {kind}");
            }
        }
    }
}

#[test]
fn actions_on_targets_of_another_kind_are_denied() {
    let snapshot = preset_policy();
    let who = verified(alice(&["access", "editor"]));
    let on_app = Target::Resource(resource(ResourceKind::App, "some", &[]));
    assert!(matches!(
        ask(&snapshot, &who, &ssh("alice"), &on_app),
        Decision::Deny(super::Reason::Mismatch { .. })
    ));
    assert!(!ask(&snapshot, &who, &Action::Api(Verb::Read), &on_app).is_allow());
    assert!(!ask(&snapshot, &who, &Action::See, &Target::api(ApiKind::Role)).is_allow());
}
