//! Kinds of document, and references to documents, as people write them.

use access_core::document::unknown;
use access_core::policy::ApiKind;

/// The kinds that have documents, and what else people call them. Plurals with an `s` go without
/// saying.
const KINDS: [(ApiKind, &[&str]); 14] = [
    (ApiKind::User, &[]),
    (ApiKind::Role, &[]),
    (ApiKind::Token, &[]),
    (ApiKind::Invite, &[]),
    (ApiKind::Node, &[]),
    (ApiKind::Db, &["database"]),
    (ApiKind::App, &[]),
    (ApiKind::Kube, &["kube_cluster", "kubernetes"]),
    (ApiKind::Desktop, &["windows_desktop"]),
    (ApiKind::Server, &["proxy", "proxies"]),
    (ApiKind::Authority, &["authorities", "ca", "cert_authority"]),
    (ApiKind::Lock, &[]),
    (ApiKind::Session, &["recording"]),
    (ApiKind::ClusterConfig, &["cluster"]),
];

/// The kind that a document names: its one word.
pub(crate) fn exact(word: &str) -> Result<ApiKind, String> {
    let kinds = || KINDS.iter().map(|(kind, _)| *kind);
    kinds().find(|kind| kind.as_str() == word).ok_or_else(|| {
        let valid: Vec<_> = kinds().map(ApiKind::as_str).collect();
        unknown("kind", word, &valid)
    })
}

/// The kind that somebody means: `users`, `cluster-config`, `CA`.
pub(crate) fn lenient(word: &str) -> Result<ApiKind, String> {
    let folded = word.to_ascii_lowercase().replace('-', "_");
    let is = |name: &str| folded == name || folded.strip_suffix('s') == Some(name);
    KINDS
        .iter()
        .find(|(kind, more)| is(kind.as_str()) || more.iter().any(|name| is(name)))
        .map_or_else(|| exact(word), |(kind, _)| Ok(*kind))
}

/// `KIND` or `KIND/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) kind: ApiKind,
    pub(crate) name: Option<String>,
}

impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind, Some(name.to_owned()).filter(|name| !name.is_empty())),
            None => (text, None),
        };
        Ok(Self { kind: lenient(kind)?, name })
    }
}

/// `KIND/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: ApiKind,
    pub(crate) name: String,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Reference { kind, name } = text.parse()?;
        match name {
            Some(name) => Ok(Self { kind, name }),
            None if kind == ApiKind::ClusterConfig => Ok(Self { kind, name: "cluster".into() }),
            None => Err(format!("a name is missing: write {kind}/NAME")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_understood_as_people_write_them() {
        for (word, kind) in [
            ("user", ApiKind::User),
            ("Users", ApiKind::User),
            ("cluster-config", ApiKind::ClusterConfig),
            ("authorities", ApiKind::Authority),
            ("cas", ApiKind::Authority),
            ("recordings", ApiKind::Session),
            ("dbs", ApiKind::Db),
            ("databases", ApiKind::Db),
            ("windows-desktops", ApiKind::Desktop),
        ] {
            assert_eq!(lenient(word), Ok(kind), "{word}");
        }
    }

    #[test]
    fn a_mistyped_kind_is_answered_with_the_nearest() {
        assert_eq!(lenient("rolle").unwrap_err(), "unknown kind \"rolle\", did you mean \"role\"?");
        let all = lenient("spaceship").unwrap_err();
        assert!(all.contains("user, role, token"), "{all}");
        // Documents are read by others too: no nicknames there.
        assert!(exact("users").is_err());
    }

    #[test]
    fn references_have_a_kind_and_perhaps_a_name() {
        let read = |text: &str| text.parse::<Reference>().unwrap();
        assert_eq!(read("roles/dev").name.as_deref(), Some("dev"));
        assert_eq!(read("roles/").name, None);
        assert_eq!(read("roles").kind, ApiKind::Role);
        assert!("role".parse::<Named>().unwrap_err().contains("role/NAME"));
        assert_eq!("cluster_config".parse::<Named>().unwrap().name, "cluster");
    }
}
