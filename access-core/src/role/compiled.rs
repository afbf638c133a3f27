//! Roles, compiled: what decisions look at.

use crate::document::DocumentError;
use crate::ids::{IdError, RoleName};
use crate::labels::{Case, LabelMatcher, LabelRules, Pattern};
use crate::resource::ResourceKind;
use crate::time::Timestamp;

use super::commands::CommandList;
use super::rules::{KubernetesMatcher, KubernetesRequest, RuleTable};
use super::value::{ValueList, ValuePattern, Values};
use super::{RoleConditions, RoleDocument, RoleOptions};

/// Why a role cannot be used. Such a role denies everything to those who hold it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// Its document cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Its name is none.
    #[error("metadata.name: {0}")]
    Name(#[from] IdError),
    /// A field holds what cannot be compiled.
    #[error("spec.{field}: {why}")]
    Field {
        /// The role.
        role: RoleName,
        /// The field, from the spec on.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The lists of accounts and the like that a role may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// Unix accounts.
    Login,
    /// Database accounts.
    DbUser,
    /// Names of databases.
    DbName,
    /// Roles within a database.
    DbRole,
    /// Kubernetes groups.
    KubernetesGroup,
    /// Kubernetes users.
    KubernetesUser,
    /// Windows accounts.
    DesktopLogin,
}

impl AccountKind {
    /// The kind of resource whose accounts they are.
    pub const fn resource(self) -> ResourceKind {
        match self {
            Self::Login => ResourceKind::Node,
            Self::DbUser | Self::DbName | Self::DbRole => ResourceKind::Database,
            Self::KubernetesGroup | Self::KubernetesUser => ResourceKind::KubernetesCluster,
            Self::DesktopLogin => ResourceKind::Desktop,
        }
    }
}

/// A compiled role.
#[derive(Clone, Debug)]
pub struct Role {
    name: RoleName,
    expires: Option<Timestamp>,
    options: RoleOptions,
    deny_commands: CommandList,
    allow: Conditions,
    deny: Conditions,
}

/// One side of a compiled role.
#[derive(Clone, Debug)]
pub struct Conditions {
    logins: ValueList,
    db_users: ValueList,
    db_names: ValueList,
    db_roles: ValueList,
    kubernetes_groups: ValueList,
    kubernetes_users: ValueList,
    desktop_logins: ValueList,
    node_labels: LabelMatcher,
    db_labels: LabelMatcher,
    app_labels: LabelMatcher,
    kubernetes_labels: LabelMatcher,
    desktop_labels: LabelMatcher,
    kubernetes_resources: Box<[KubernetesMatcher]>,
    rules: RuleTable,
    request_roles: Box<[Pattern]>,
    review_roles: Box<[Pattern]>,
}

impl Role {
    /// Compiles a role document.
    ///
    /// # Errors
    /// [`RoleError`] names the role, the field and what is wrong with it.
    pub fn compile(document: &RoleDocument) -> Result<Self, RoleError> {
        let name = RoleName::new(&document.metadata.name)?;
        let spec = &document.spec;
        if spec.options.max_session_ttl.is_some_and(super::Span::is_never) {
            return Err(RoleError::Field {
                role: name,
                field: "options.max_session_ttl".into(),
                why: "a certificate must end: write a span such as 12h".into(),
            });
        }
        let deny_commands =
            CommandList::compile(&spec.options.db_deny_commands).map_err(|err| {
                RoleError::Field {
                    role: name.clone(),
                    field: "options.db_deny_commands".into(),
                    why: err.to_string(),
                }
            })?;
        let allow = Conditions::compile(&spec.allow, "allow", &name)?;
        let deny = Conditions::compile(&spec.deny, "deny", &name)?;
        Ok(Self {
            name,
            expires: document.metadata.expires,
            options: spec.options.clone(),
            deny_commands,
            allow,
            deny,
        })
    }

    /// Its name.
    pub fn name(&self) -> &RoleName {
        &self.name
    }

    /// When it ceases to allow anything.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// Its options.
    pub fn options(&self) -> &RoleOptions {
        &self.options
    }

    /// The commands of database statements that it forbids.
    pub fn deny_commands(&self) -> &CommandList {
        &self.deny_commands
    }

    /// What it allows.
    pub fn allow(&self) -> &Conditions {
        &self.allow
    }

    /// What it denies.
    pub fn deny(&self) -> &Conditions {
        &self.deny
    }

    /// The traits of its holders that decisions over it look at.
    pub fn trait_names(&self) -> impl Iterator<Item = &str> {
        [&self.allow, &self.deny].into_iter().flat_map(Conditions::trait_names)
    }
}

impl Conditions {
    fn compile(from: &RoleConditions, side: &str, role: &RoleName) -> Result<Self, RoleError> {
        let fail = |field: &str, why: String| RoleError::Field {
            role: role.clone(),
            field: format!("{side}.{field}"),
            why,
        };
        let case = if side == "deny" { Case::Ignored } else { Case::Sensitive };
        let values = |field: &str, values: &Values| {
            ValueList::compile(values, case).map_err(|err| fail(field, err.to_string()))
        };
        let labels = |field: &str, rules: &LabelRules| {
            LabelMatcher::compile(rules).map_err(|err| fail(field, err.to_string()))
        };
        let patterns = |field: &str, values: &Values| {
            values
                .iter()
                .map(|value| Pattern::new(value, Case::Sensitive))
                .collect::<Result<Box<[_]>, _>>()
                .map_err(|err| fail(field, err.to_string()))
        };
        // Every field counts: one that is added and forgotten here does not compile.
        let RoleConditions {
            logins,
            node_labels,
            db_labels,
            db_users,
            db_names,
            db_roles,
            app_labels,
            kubernetes_labels,
            kubernetes_groups,
            kubernetes_users,
            kubernetes_resources,
            windows_desktop_labels,
            windows_desktop_logins,
            rules,
            request,
            review_requests,
        } = from;
        if side == "allow" {
            nameable(logins).map_err(|why| fail("logins", why))?;
        }
        Ok(Self {
            logins: values("logins", logins)?,
            db_users: values("db_users", db_users)?,
            db_names: values("db_names", db_names)?,
            db_roles: values("db_roles", db_roles)?,
            kubernetes_groups: values("kubernetes_groups", kubernetes_groups)?,
            kubernetes_users: values("kubernetes_users", kubernetes_users)?,
            desktop_logins: values("windows_desktop_logins", windows_desktop_logins)?,
            node_labels: labels("node_labels", node_labels)?,
            db_labels: labels("db_labels", db_labels)?,
            app_labels: labels("app_labels", app_labels)?,
            kubernetes_labels: labels("kubernetes_labels", kubernetes_labels)?,
            desktop_labels: labels("windows_desktop_labels", windows_desktop_labels)?,
            kubernetes_resources: kubernetes_resources
                .iter()
                .map(KubernetesMatcher::compile)
                .collect::<Result<_, _>>()
                .map_err(|err| fail("kubernetes_resources", err.to_string()))?,
            rules: RuleTable::compile(rules),
            request_roles: patterns("request.roles", &request.roles)?,
            review_roles: patterns("review_requests.roles", &review_requests.roles)?,
        })
    }

    /// The label rules over a kind of resource.
    pub fn labels(&self, kind: ResourceKind) -> &LabelMatcher {
        match kind {
            ResourceKind::Node => &self.node_labels,
            ResourceKind::Database => &self.db_labels,
            ResourceKind::App => &self.app_labels,
            ResourceKind::KubernetesCluster => &self.kubernetes_labels,
            ResourceKind::Desktop => &self.desktop_labels,
        }
    }

    /// The accounts of a kind.
    pub fn accounts(&self, kind: AccountKind) -> &ValueList {
        match kind {
            AccountKind::Login => &self.logins,
            AccountKind::DbUser => &self.db_users,
            AccountKind::DbName => &self.db_names,
            AccountKind::DbRole => &self.db_roles,
            AccountKind::KubernetesGroup => &self.kubernetes_groups,
            AccountKind::KubernetesUser => &self.kubernetes_users,
            AccountKind::DesktopLogin => &self.desktop_logins,
        }
    }

    fn trait_names(&self) -> impl Iterator<Item = &str> {
        // Every field counts: one that is added and forgotten here does not compile.
        let Self {
            logins,
            db_users,
            db_names,
            db_roles,
            kubernetes_groups,
            kubernetes_users,
            desktop_logins,
            node_labels,
            db_labels,
            app_labels,
            kubernetes_labels,
            desktop_labels,
            // These are patterns without traits.
            kubernetes_resources: _,
            rules: _,
            request_roles: _,
            review_roles: _,
        } = self;
        let values = [
            logins,
            db_users,
            db_names,
            db_roles,
            kubernetes_groups,
            kubernetes_users,
            desktop_logins,
        ];
        let labels = [node_labels, db_labels, app_labels, kubernetes_labels, desktop_labels];
        let values = values.into_iter().flat_map(ValueList::trait_names);
        values.chain(labels.into_iter().flat_map(LabelMatcher::trait_names))
    }

    /// The rules over the cluster's documents.
    pub fn rules(&self) -> &RuleTable {
        &self.rules
    }

    /// Whether they are about asking for a role.
    pub fn requests(&self, role: &RoleName) -> bool {
        self.request_roles.iter().any(|pattern| pattern.matches(role.as_str()))
    }

    /// Whether they are about deciding requests for a role.
    pub fn reviews(&self, role: &RoleName) -> bool {
        self.review_roles.iter().any(|pattern| pattern.matches(role.as_str()))
    }

    pub(crate) fn kubernetes(&self, request: KubernetesRequest<'_>, denying: bool) -> bool {
        self.kubernetes_resources.iter().any(|matcher| matcher.matches(request, denying))
    }
}

/// Certificates name the logins that they are good for, so each must be known when one is issued.
fn nameable(logins: &[String]) -> Result<(), String> {
    for login in logins {
        if let Ok(ValuePattern::Plain(pattern)) = ValuePattern::parse(login, Case::Sensitive)
            && !pattern.is_exact()
        {
            return Err(format!(
                "{login:?}: certificates must name their logins, so write each out \
                 or take {{{{internal.logins}}}}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(spec: &str) -> Result<Role, RoleError> {
        let json = format!(
            r#"{{"kind": "role", "version": "v1", "metadata": {{"name": "dev"}}, "spec": {spec}}}"#
        );
        Role::compile(&RoleDocument::from_json(json.as_bytes())?)
    }

    #[test]
    fn errors_name_the_field_and_the_nearest() {
        for (spec, parts) in [
            (r#"{"allow": {"nod_labels": {}}}"#, ["spec.allow", "did you mean \"node_labels\""]),
            (r#"{"alow": {}}"#, ["spec", "did you mean \"allow\""]),
            (r#"{"options": {"max_session_tl": "1h"}}"#, ["spec.options", "\"max_session_ttl\""]),
            (r#"{"options": {"max_session_ttl": "1x"}}"#, ["spec.options.max_session_ttl", "1x"]),
            (r#"{"options": {"max_session_ttl": "never"}}"#, ["options.max_session_ttl", "end"]),
            (
                r#"{"options": {"record_session": {"ssh": "strct"}}}"#,
                ["spec.options.record_session.ssh", "did you mean \"strict\""],
            ),
            (
                r#"{"allow": {"rules": [{"resources": ["tokn"], "verbs": ["*"]}]}}"#,
                ["spec.allow.rules[0].resources[0]", "did you mean \"token\""],
            ),
            (
                r#"{"options": {"db_deny_commands": ["DROP", "*"]}}"#,
                ["spec.options.db_deny_commands", "\"*\" names no command"],
            ),
            (r#"{"allow": {"logins": ["*"]}}"#, ["spec.allow.logins", "must name their logins"]),
            (r#"{"allow": {"logins": 1}}"#, ["spec.allow.logins", "a string or a list"]),
            (r#"{"deny": {"db_labels": {"env": "^($"}}}"#, ["spec.deny.db_labels", "\"env\""]),
            (r#"{"allow": {"db_users": ["{{internal.x}}"]}}"#, ["spec.allow.db_users", "use one"]),
            (
                r#"{"allow": {"rules": [{"resources": [], "verbs": [], "where": "x"}]}}"#,
                ["spec.allow.rules[0]", "\"where\""],
            ),
        ] {
            let err = compile(spec).unwrap_err().to_string();
            assert!(parts.iter().all(|part| err.contains(part)), "{spec}: {err}");
        }
        assert!(compile(r#"{"deny": {"logins": ["*"]}}"#).is_ok());
    }

    #[test]
    fn every_trait_that_is_drawn_on_is_told() {
        let role = compile(
            r#"{"allow": {"logins": ["{{internal.logins}}", "root"],
                          "node_labels": {"team": "{{external.team}}", "env": "dev"}},
                "deny": {"db_users": ["{{email.local(external[\"e mail\"])}}"]}}"#,
        )
        .unwrap();
        let names: std::collections::BTreeSet<_> = role.trait_names().collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["e mail", "logins", "team"]);
    }

    #[test]
    fn other_kinds_and_versions_are_refused_before_their_spec_is_read() {
        for (kind, version, part) in
            [("user", "v1", "kind \"user\""), ("role", "v9", "version \"v9\"")]
        {
            let json = format!(
                r#"{{"kind": "{kind}", "version": "{version}",
                    "metadata": {{"name": "x"}}, "spec": {{"what": 1}}}}"#
            );
            let err = RoleDocument::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(err.contains(part), "{err}");
        }
    }
}
