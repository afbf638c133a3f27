//! What holds for any mix of roles.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::fixtures::*;
use super::{Action, Context, Decision, PolicySnapshot, Target, Verb, decide, visible};
use crate::identity::Identity;
use crate::resource::{Resource, ResourceKind};
use crate::role::RoleDocument;

/// Conditions from a small world, so that they often meet.
fn conditions() -> impl Strategy<Value = serde_json::Value> {
    let labels = || {
        prop_oneof![
            Just(serde_json::json!({})),
            Just(serde_json::json!({"*": "*"})),
            select(vec!["prod", "dev", "p*", "^(dev|prod)$", "{{external.env}}"])
                .prop_map(|value| serde_json::json!({ "env": value })),
        ]
    };
    let logins = subsequence(vec!["alice", "root", "{{internal.logins}}"], 0..=2);
    let accounts = || subsequence(vec!["*", "root", "al*", "{{internal.db_users}}"], 0..=2);
    let verbs = subsequence(Verb::ALL.map(Verb::as_str).to_vec(), 0..=2);
    let kinds = subsequence(vec!["*", "role", "node"], 0..=1);
    (labels(), labels(), logins, accounts(), accounts(), kinds, verbs).prop_map(
        |(node, db, logins, users, names, kinds, verbs)| {
            serde_json::json!({
                "node_labels": node,
                "db_labels": db,
                "logins": logins,
                "db_users": users,
                "db_names": names,
                "rules": [{ "resources": kinds, "verbs": verbs }],
            })
        },
    )
}

fn options() -> impl Strategy<Value = serde_json::Value> {
    (
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<bool>()),
        proptest::option::of(select(vec!["5m", "1h", "never"])),
        proptest::option::of(select(vec!["off", "best_effort", "strict"])),
    )
        .prop_map(|(forwarding, agent, files, idle, record)| {
            let mut options = serde_json::json!({ "record_session": {} });
            let mut set = |key: &str, value: Option<serde_json::Value>| {
                if let Some(value) = value {
                    options[key] = value;
                }
            };
            set("port_forwarding", forwarding.map(Into::into));
            set("forward_agent", agent.map(Into::into));
            set("ssh_file_copy", files.map(Into::into));
            set("client_idle_timeout", idle.map(Into::into));
            set("record_session", record.map(|mode| serde_json::json!({ "default": mode })));
            options
        })
}

/// Up to four roles: `r0`, `r1`, …; half of them deny nothing.
fn roles() -> impl Strategy<Value = Vec<RoleDocument>> {
    let deny = proptest::option::of(conditions());
    proptest::collection::vec((options(), conditions(), deny), 0..=4).prop_map(|roles| {
        roles
            .into_iter()
            .enumerate()
            .map(|(i, (options, allow, deny))| {
                let deny = deny.unwrap_or_else(|| serde_json::json!({}));
                let spec = serde_json::json!({ "options": options, "allow": allow, "deny": deny });
                role(&format!("r{i}"), &spec.to_string())
            })
            .collect()
    })
}

fn question() -> impl Strategy<Value = (Action, Target)> {
    let env = select(vec!["prod", "dev", "lab", ""]);
    let kind = select(ResourceKind::ALL.to_vec());
    let on_resource = (select(every_action()), env, kind, select(vec!["alice", "root", "bob"]))
        .prop_map(|(action, env, kind, account)| {
            let action = match action {
                Action::SshSession { .. } => ssh(account),
                Action::Database { database, .. } => {
                    Action::Database { user: login(account), database }
                }
                other => other,
            };
            let labels = [("env", env)];
            let kind = match action {
                Action::Database { .. } => ResourceKind::Database,
                Action::See => kind,
                _ => ResourceKind::Node,
            };
            let labels = if env.is_empty() { &[][..] } else { &labels[..] };
            (action, Target::Resource(resource(kind, "some", labels)))
        });
    let on_api = (select(Verb::ALL.to_vec()), select(super::ApiKind::ALL.to_vec()))
        .prop_map(|(verb, kind)| (Action::Api(verb), Target::api(kind)));
    prop_oneof![3 => on_resource, 1 => on_api]
}

fn snapshot_of<'a>(roles: impl IntoIterator<Item = &'a RoleDocument>) -> PolicySnapshot {
    roles
        .into_iter()
        .fold(PolicySnapshot::builder(), |builder, role| builder.role(role))
        .trust_unlisted_users()
        .build()
}

fn holder<'a>(roles: impl IntoIterator<Item = &'a RoleDocument>) -> Identity {
    let mut identity = alice(&[]);
    identity.roles = roles.into_iter().map(|role| role_name(&role.metadata.name)).collect();
    identity.traits =
        traits(&[("logins", &["alice"]), ("env", &["dev"]), ("db_users", &["*", "bob"])]);
    identity
}

fn decision(roles: &[RoleDocument], action: &Action, target: &Target) -> Decision {
    ask(&snapshot_of(roles), &verified(holder(roles)), action, target)
}

/// The role with nothing but its denials.
fn only_deny(role: &RoleDocument) -> RoleDocument {
    let mut role = role.clone();
    role.spec.allow = Default::default();
    role.spec.options = Default::default();
    role
}

/// The role without its denials.
fn without_deny(role: &RoleDocument) -> RoleDocument {
    let mut role = role.clone();
    role.spec.deny = Default::default();
    role
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// What one role denies on its own stays denied whatever else is held.
    #[test]
    fn deny_wins(roles in roles(), (action, target) in question()) {
        for role in &roles {
            // A role that allows all of it, with the denials of this one: does it deny?
            let mut probe = without_deny(&crate::role::preset("access").unwrap());
            probe.spec.allow.logins = vec!["alice".to_owned(), "root".to_owned(), "bob".to_owned()].into();
            probe.spec.allow.db_users = vec!["*".to_owned(), "root".to_owned()].into();
            probe.spec.allow.db_names = vec!["*".to_owned()].into();
            probe.spec.allow.rules = serde_json::from_str(r#"[{"resources": ["*"], "verbs": ["*"]}]"#).unwrap();
            let free = decision(std::slice::from_ref(&probe), &action, &target).is_allow();
            probe.spec.deny = role.spec.deny.clone();
            let bound = decision(std::slice::from_ref(&probe), &action, &target).is_allow();
            if free && !bound {
                prop_assert!(!decision(&roles, &action, &target).is_allow());
            }
        }
    }

    /// Adding denials never allows anything.
    #[test]
    fn a_denial_more_never_grants(roles in roles(), (action, target) in question()) {
        let free: Vec<_> = roles.iter().map(without_deny).collect();
        if decision(&roles, &action, &target).is_allow() {
            prop_assert!(decision(&free, &action, &target).is_allow());
        }
        let mut more = roles.clone();
        for (i, role) in roles.iter().enumerate() {
            let mut denial = only_deny(role);
            denial.metadata.name = format!("deny-{i}");
            more.push(denial);
        }
        prop_assert_eq!(
            decision(&more, &action, &target).is_allow(),
            decision(&roles, &action, &target).is_allow()
        );
    }

    /// Neither the order of roles in a certificate nor that of documents in the snapshot counts.
    #[test]
    fn order_does_not_matter(
        (roles, shuffled) in roles().prop_flat_map(|roles| (Just(roles.clone()), Just(roles).prop_shuffle())),
        (action, target) in question(),
    ) {
        let (a, b) = (decision(&roles, &action, &target), decision(&shuffled, &action, &target));
        match (a, b) {
            (Decision::Allow(mut a), Decision::Allow(mut b)) => {
                a.roles.sort();
                b.roles.sort();
                prop_assert_eq!(a, b);
            }
            (a, b) => prop_assert_eq!(a.is_allow(), b.is_allow()),
        }
    }

    /// A listing shows what a decision about each would allow to see.
    #[test]
    fn listings_agree_with_decisions(
        roles in roles(),
        resources in proptest::collection::vec(
            (select(ResourceKind::ALL.to_vec()), select(vec!["prod", "dev", "lab"])),
            0..8,
        ),
    ) {
        let snapshot = snapshot_of(&roles);
        let who = verified(holder(&roles));
        let resources: Vec<Resource> = resources
            .into_iter()
            .map(|(kind, env)| resource(kind, "some", &[("env", env)]))
            .collect();
        let listed: Vec<&Resource> =
            visible(&snapshot, &who, &Context::default(), now(), &resources).collect();
        let decided: Vec<&Resource> = resources
            .iter()
            .filter(|resource| {
                let target = Target::Resource((*resource).clone());
                decide(&snapshot, &who, &Action::See, &target, &Context::default(), now()).is_allow()
            })
            .collect();
        prop_assert_eq!(listed, decided);
    }

    /// A field that nobody knows makes a role unreadable wherever it stands.
    #[test]
    fn unknown_fields_are_refused(field in "[a-z]{3,12}_[a-z]{3,12}x", place in 0usize..6) {
        let mut json = serde_json::to_value(role("dev", "{}")).unwrap();
        json["spec"]["allow"]["rules"] = serde_json::json!([{"resources": [], "verbs": []}]);
        json["spec"]["options"]["record_session"] = serde_json::json!({});
        let object = match place {
            0 => &mut json,
            1 => &mut json["metadata"],
            2 => &mut json["spec"],
            3 => &mut json["spec"]["allow"],
            4 => &mut json["spec"]["options"]["record_session"],
            _ => &mut json["spec"]["allow"]["rules"][0],
        };
        object[&field] = 1.into();
        let error = RoleDocument::from_value(json).unwrap_err().to_string();
        prop_assert!(error.contains(&field), "{}", error);
    }
}
