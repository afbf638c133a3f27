//! Rules over the cluster's own documents, and over Kubernetes resources.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::value::Values;
use crate::document::unknown;
use crate::labels::{Case, Pattern, PatternError};
use crate::policy::{ApiKind, Verb};

/// Which verbs on which kinds of document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Kinds; `*` for all.
    pub resources: Vec<RuleResource>,
    /// Verbs; `*` for all.
    pub verbs: Vec<RuleVerb>,
}

impl Rule {
    /// A rule over kinds and verbs.
    pub fn new(
        kinds: impl IntoIterator<Item = ApiKind>,
        verbs: impl IntoIterator<Item = Verb>,
    ) -> Self {
        Self {
            resources: kinds.into_iter().map(RuleResource::Kind).collect(),
            verbs: verbs.into_iter().map(RuleVerb::Verb).collect(),
        }
    }
}

macro_rules! word_or_any {
    ($(#[$doc:meta])* $name:ident, $variant:ident: $inner:ty, $what:literal, $aliases:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            /// `*`: all of them, those of later versions too.
            Any,
            /// One.
            $variant($inner),
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(match self {
                    Self::Any => "*",
                    Self::$variant(one) => one.as_str(),
                })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                if word == "*" {
                    return Ok(Self::Any);
                }
                let aliases: &[(&str, $inner)] = &$aliases;
                let found = <$inner>::ALL.iter().map(|one| (one.as_str(), *one));
                match found.chain(aliases.iter().copied()).find(|(name, _)| *name == word) {
                    Some((_, one)) => Ok(Self::$variant(one)),
                    None => {
                        let names: Vec<&str> =
                            <$inner>::ALL.iter().map(|one| one.as_str()).collect();
                        Err(de::Error::custom(unknown($what, &word, &names)))
                    }
                }
            }
        }
    };
}

word_or_any! {
    /// The kinds that a rule is about.
    RuleResource, Kind: ApiKind, "resource", [
        ("kube_cluster", ApiKind::Kube),
        ("windows_desktop", ApiKind::Desktop),
        ("cert_authority", ApiKind::Authority),
    ]
}

word_or_any! {
    /// The verbs that a rule is about.
    RuleVerb, Verb: Verb, "verb", []
}

/// Compiled rules: for each kind, the verbs.
#[derive(Clone, Debug)]
pub struct RuleTable([u8; ApiKind::ALL.len()]);

impl RuleTable {
    /// Compiles rules.
    pub fn compile(rules: &[Rule]) -> Self {
        let mut table = [0u8; ApiKind::ALL.len()];
        for rule in rules {
            let verbs = rule.verbs.iter().fold(0, |bits, verb| match verb {
                RuleVerb::Any => u8::MAX,
                RuleVerb::Verb(verb) => bits | bit(*verb),
            });
            for (cell, kind) in table.iter_mut().zip(ApiKind::ALL) {
                if rule.resources.iter().any(|resource| match resource {
                    RuleResource::Any => true,
                    RuleResource::Kind(one) => one == kind,
                }) {
                    *cell |= verbs;
                }
            }
        }
        Self(table)
    }

    /// Whether a verb on a kind is among them.
    pub fn has(&self, kind: ApiKind, verb: Verb) -> bool {
        self.0.get(kind as usize).is_some_and(|verbs| verbs & bit(verb) != 0)
    }
}

const fn bit(verb: Verb) -> u8 {
    1 << verb as u8
}

/// What may be asked of a Kubernetes cluster. Each field is a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesRule {
    /// Plural names of resources, such as `pods`.
    pub kind: String,
    /// Namespaces. Resources that have none need `*`.
    pub namespace: String,
    /// Names of objects. Lists and watches of all of them need `*`.
    pub name: String,
    /// Verbs as Kubernetes has them, and `*`.
    pub verbs: Values,
}

impl KubernetesRule {
    /// The rule that covers everything.
    pub fn everything() -> Self {
        Self {
            kind: "*".into(),
            namespace: "*".into(),
            name: "*".into(),
            verbs: Values::from(["*"]),
        }
    }
}

/// The verbs that a Kubernetes rule may name.
const KUBERNETES_VERBS: [&str; 11] = [
    "*",
    "get",
    "create",
    "update",
    "patch",
    "delete",
    "list",
    "watch",
    "deletecollection",
    "exec",
    "portforward",
];

/// A compiled [`KubernetesRule`].
#[derive(Clone, Debug)]
pub(super) struct KubernetesMatcher {
    kind: Pattern,
    namespace: Pattern,
    name: Pattern,
    verbs: Box<[Box<str>]>,
    any_verb: bool,
}

/// One request, as the rule sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KubernetesRequest<'a> {
    pub(crate) verb: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) resource: &'a str,
    pub(crate) name: Option<&'a str>,
}

impl KubernetesMatcher {
    pub(super) fn compile(rule: &KubernetesRule) -> Result<Self, PatternError> {
        for verb in rule.verbs.iter() {
            if !KUBERNETES_VERBS.contains(&verb.as_str()) {
                let why = unknown("verb", verb, &KUBERNETES_VERBS);
                return Err(PatternError::new(verb, why));
            }
        }
        Ok(Self {
            kind: Pattern::new(&rule.kind, Case::Sensitive)?,
            namespace: Pattern::new(&rule.namespace, Case::Sensitive)?,
            name: Pattern::new(&rule.name, Case::Sensitive)?,
            verbs: rule.verbs.iter().map(|verb| verb.as_str().into()).collect(),
            any_verb: rule.verbs.iter().any(|verb| verb == "*"),
        })
    }

    /// A request without a name or namespace is about all of them: to allow it takes a rule over
    /// all of them, to deny it any of them is enough.
    pub(super) fn matches(&self, request: KubernetesRequest<'_>, denying: bool) -> bool {
        let fits = |pattern: &Pattern, text: Option<&str>| match text {
            Some(text) => pattern.matches(text),
            None => denying || pattern.is_any(),
        };
        // A subresource (`pods/log`) belongs to what it is part of.
        let whole = request.resource.split('/').next().unwrap_or_default();
        (self.any_verb || self.verbs.iter().any(|verb| **verb == *request.verb))
            && (self.kind.matches(request.resource) || self.kind.matches(whole))
            && fits(&self.namespace, request.namespace)
            && fits(&self.name, request.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_what_its_rules_say() {
        let rules: Vec<Rule> = serde_json::from_str(
            r#"[{"resources": ["role", "kube_cluster"], "verbs": ["read", "list"]},
                {"resources": ["*"], "verbs": ["use"]},
                {"resources": ["lock"], "verbs": ["*"]}]"#,
        )
        .unwrap();
        let table = RuleTable::compile(&rules);
        assert!(table.has(ApiKind::Role, Verb::List) && table.has(ApiKind::Kube, Verb::Read));
        assert!(!table.has(ApiKind::Role, Verb::Update) && table.has(ApiKind::Token, Verb::Use));
        assert!(Verb::ALL.iter().all(|verb| table.has(ApiKind::Lock, *verb)));
    }

    #[test]
    fn unknown_words_name_the_nearest() {
        let err = serde_json::from_str::<Rule>(r#"{"resources": ["rol"], "verbs": []}"#)
            .unwrap_err()
            .to_string();
        assert!(err.contains("did you mean \"role\""), "{err}");
        assert!(serde_json::from_str::<Rule>(r#"{"resources": [], "verbs": ["rd"]}"#).is_err());
    }

    #[test]
    fn requests_over_everything_need_rules_over_everything() {
        let rule = |name: &str| {
            KubernetesMatcher::compile(&KubernetesRule {
                kind: "pods".into(),
                namespace: "prod-*".into(),
                name: name.into(),
                verbs: Values::from(["get", "list"]),
            })
            .unwrap()
        };
        let get = KubernetesRequest {
            verb: "get",
            namespace: Some("prod-a"),
            resource: "pods/log",
            name: Some("web-1"),
        };
        let list = KubernetesRequest { verb: "list", resource: "pods", name: None, ..get };
        let all = KubernetesRequest { namespace: None, ..list };
        assert!(rule("web-*").matches(get, false));
        assert!(!rule("web-*").matches(list, false));
        assert!(rule("web-*").matches(list, true));
        assert!(rule("*").matches(list, false));
        assert!(!rule("*").matches(all, false));
        assert!(rule("*").matches(all, true));
        assert!(!rule("*").matches(KubernetesRequest { verb: "delete", ..get }, true));
    }
}
