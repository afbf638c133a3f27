//! Role documents, and what they compile to.

use crate::ids::RoleName;
use crate::labels::LabelRules;
use crate::policy::{ApiKind, Verb};
use crate::resource::{Labels, ResourceKind};
use crate::role::{AccountKind, Conditions, Role, RoleDocument, TraitView};

use super::pattern::traits;

const ACCOUNTS: [AccountKind; 7] = [
    AccountKind::Login,
    AccountKind::DbUser,
    AccountKind::DbName,
    AccountKind::DbRole,
    AccountKind::KubernetesGroup,
    AccountKind::KubernetesUser,
    AccountKind::DesktopLogin,
];

/// What is read as a role is written and read as the same; what compiles can be asked everything;
/// an account that it stands for by itself fits it; and without rules for labels nothing matches.
///
/// # Panics
/// When that does not hold.
pub fn role(bytes: &[u8]) {
    let Ok(document) = RoleDocument::from_json(bytes) else { return };
    let written = document.to_json().unwrap_or_default();
    let again = RoleDocument::from_json(&written);
    assert_eq!(again.as_ref(), Ok(&document), "{}", String::from_utf8_lossy(&written));
    let Ok(role) = Role::compile(&document) else { return };
    let spec = &document.spec;
    for (side, rules) in [(role.allow(), &spec.allow), (role.deny(), &spec.deny)] {
        ask(side);
        for (kind, rules) in [
            (ResourceKind::Node, &rules.node_labels),
            (ResourceKind::Database, &rules.db_labels),
            (ResourceKind::App, &rules.app_labels),
            (ResourceKind::KubernetesCluster, &rules.kubernetes_labels),
            (ResourceKind::Desktop, &rules.windows_desktop_labels),
        ] {
            labels(side, kind, rules);
        }
    }
}

fn ask(side: &Conditions) {
    let traits = traits(["team=a"]);
    for view in [
        TraitView::allowing(&traits, None),
        TraitView::allowing(&traits, Some(&traits)),
        TraitView::denying(&traits, Some(&traits)),
    ] {
        for kind in ACCOUNTS {
            let accounts = side.accounts(kind);
            let _ = accounts.matches("root", view);
            accounts.each_exact(view, &mut |text| {
                assert!(accounts.matches(&text, view).any(), "{text:?} does not fit its own list");
            });
        }
    }
    for kind in ApiKind::ALL {
        for verb in Verb::ALL {
            let _ = side.rules().has(*kind, verb);
        }
    }
    if let Ok(name) = RoleName::new("access") {
        let _ = (side.requests(&name), side.reviews(&name));
    }
}

fn labels(side: &Conditions, kind: ResourceKind, rules: &LabelRules) {
    let traits = traits(["team=a"]);
    let view = TraitView::allowing(&traits, None);
    let matcher = side.labels(kind);
    let none = Labels::new();
    assert_eq!(matcher.is_empty(), rules.is_empty(), "{rules:?}");
    let everything = *rules == LabelRules::everything();
    assert_eq!(matcher.matches(&none, view), everything || all_any(rules), "{rules:?}");
    // Labels that hold the patterns themselves: some fit, some do not, all must be answered.
    let held: Labels = rules
        .0
        .iter()
        .filter_map(|(label, values)| Some((label.clone(), values.first()?.clone())))
        .collect();
    let _ = matcher.matches(&held, view);
}

/// Whether the one label is `*`; its values can be nothing but `*` then, once or more.
fn all_any(rules: &LabelRules) -> bool {
    !rules.is_empty() && rules.0.keys().all(|label| label == "*")
}
