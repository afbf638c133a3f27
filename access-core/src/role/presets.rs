//! The roles that a new cluster starts with.

use super::{
    KubernetesRule, RequestConditions, ReviewConditions, RoleConditions, RoleDocument, RoleOptions,
    RoleSpec, Rule, Span, Values,
};
use crate::labels::LabelRules;
use crate::policy::{ApiKind, Verb};

/// The names of the preset roles.
pub const PRESETS: [&str; 5] = ["access", "editor", "auditor", "requester", "reviewer"];

/// Every preset role's document.
pub fn presets() -> impl Iterator<Item = RoleDocument> {
    PRESETS.into_iter().filter_map(preset)
}

/// The document of one preset role:
///
/// * `access`: every resource, with the accounts that the user's traits name;
/// * `editor`: all of the cluster's settings, and the audit log to read;
/// * `auditor`: the audit log and recordings, to read;
/// * `requester`: may ask for `access`;
/// * `reviewer`: may decide requests for `access`.
pub fn preset(name: &str) -> Option<RoleDocument> {
    let (description, spec) = match name {
        "access" => ("Access to every resource, with the user's own accounts", access()),
        "editor" => ("Edits the cluster's settings", editor()),
        "auditor" => ("Reads the audit log and recordings", auditor()),
        "requester" => ("May ask for the role access", requester()),
        "reviewer" => ("Decides requests for the role access", reviewer()),
        _ => return None,
    };
    let mut document = RoleDocument::new(name, spec);
    document.metadata.description = Some(description.into());
    Some(document)
}

const ALL_VERBS: [Verb; 5] = [Verb::Create, Verb::Read, Verb::List, Verb::Update, Verb::Delete];
const READ: [Verb; 2] = [Verb::Read, Verb::List];

fn access() -> RoleSpec {
    RoleSpec {
        options: RoleOptions {
            max_session_ttl: Some(Span::hours(30)),
            port_forwarding: Some(true),
            forward_agent: Some(true),
            ..RoleOptions::default()
        },
        allow: RoleConditions {
            logins: Values::from(["{{internal.logins}}"]),
            node_labels: LabelRules::everything(),
            db_labels: LabelRules::everything(),
            db_users: Values::from(["{{internal.db_users}}"]),
            db_names: Values::from(["{{internal.db_names}}"]),
            db_roles: Values::from(["{{internal.db_roles}}"]),
            app_labels: LabelRules::everything(),
            kubernetes_labels: LabelRules::everything(),
            kubernetes_groups: Values::from(["{{internal.kubernetes_groups}}"]),
            kubernetes_users: Values::from(["{{internal.kubernetes_users}}"]),
            kubernetes_resources: vec![KubernetesRule::everything()],
            windows_desktop_labels: LabelRules::everything(),
            windows_desktop_logins: Values::from(["{{internal.windows_logins}}"]),
            ..RoleConditions::default()
        },
        deny: RoleConditions::default(),
    }
}

fn editor() -> RoleSpec {
    with_rules(vec![
        Rule::new(
            [
                ApiKind::User,
                ApiKind::Role,
                ApiKind::Token,
                ApiKind::Invite,
                ApiKind::Node,
                ApiKind::Db,
                ApiKind::App,
                ApiKind::Kube,
                ApiKind::Desktop,
                ApiKind::Server,
                ApiKind::Authority,
                ApiKind::Lock,
                ApiKind::AccessRequest,
                ApiKind::ClusterConfig,
            ],
            ALL_VERBS,
        ),
        Rule::new([ApiKind::Event], READ),
    ])
}

fn auditor() -> RoleSpec {
    with_rules(vec![Rule::new([ApiKind::Event, ApiKind::Session], READ)])
}

fn requester() -> RoleSpec {
    RoleSpec {
        allow: RoleConditions {
            request: RequestConditions { roles: Values::from(["access"]) },
            ..RoleConditions::default()
        },
        ..RoleSpec::default()
    }
}

fn reviewer() -> RoleSpec {
    let mut spec = with_rules(vec![Rule::new([ApiKind::AccessRequest], READ)]);
    spec.allow.review_requests = ReviewConditions { roles: Values::from(["access"]) };
    spec
}

fn with_rules(rules: Vec<Rule>) -> RoleSpec {
    RoleSpec { allow: RoleConditions { rules, ..RoleConditions::default() }, ..RoleSpec::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Role;

    #[test]
    fn presets_compile_and_survive_their_text() {
        assert_eq!(presets().count(), PRESETS.len());
        for document in presets() {
            Role::compile(&document).unwrap();
            let json = document.to_json().unwrap();
            assert_eq!(RoleDocument::from_json(&json).unwrap(), document);
        }
        assert!(preset("root").is_none());
    }
}
