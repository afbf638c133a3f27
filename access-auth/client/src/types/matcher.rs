//! Which of the databases that administrators registered an agent serves.

use access_core::document::{self, DocumentError};
use access_core::identity::Traits;
use access_core::labels::{LabelMatcher, LabelRules};
use access_core::resource::Labels;
use access_core::role::TraitView;
use serde::{Deserialize, Serialize};

/// An entry of `db_service.resources`: the labels that a database must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceMatcher {
    /// Each label with the values that will do, as in `db_labels` of roles; `'*': '*'` stands for
    /// every database.
    pub labels: LabelRules,
}

impl ResourceMatcher {
    /// The most that one agent may have.
    pub const MOST: usize = 32;

    /// Reads one from the JSON in which hosts tell it.
    ///
    /// # Errors
    /// [`DocumentError::Field`] names the field that is wrong.
    pub fn from_json(json: &str) -> Result<Self, DocumentError> {
        let value = serde_json::from_str(json)
            .map_err(|err| DocumentError::Field(format!("not JSON: {err}")))?;
        let matcher: Self = document::read_value(value)?;
        matcher.compile()?;
        Ok(matcher)
    }

    /// The JSON in which hosts tell it: the same for the same matcher.
    pub fn to_json(&self) -> String {
        serde_json::json!({ "labels": &self.labels }).to_string()
    }

    fn compile(&self) -> Result<LabelMatcher, DocumentError> {
        let refused = |why: String| DocumentError::Field(format!("labels: {why}"));
        if self.labels.is_empty() {
            return Err(refused(
                "name one at least: '*': '*' stands for every database".to_owned(),
            ));
        }
        let compiled =
            LabelMatcher::compile(&self.labels).map_err(|err| refused(err.to_string()))?;
        if compiled.trait_names().next().is_some() {
            return Err(refused("{{…}} stands for what users have, and there is none here".into()));
        }
        Ok(compiled)
    }
}

/// Several of them, compiled: one must match.
#[derive(Clone, Debug, Default)]
pub struct ResourceMatchers(Vec<LabelMatcher>);

impl ResourceMatchers {
    /// Compiles them.
    ///
    /// # Errors
    /// [`DocumentError::Field`] names what is wrong with one.
    pub fn compile<'a>(
        matchers: impl IntoIterator<Item = &'a ResourceMatcher>,
    ) -> Result<Self, DocumentError> {
        let compiled: Vec<_> =
            matchers.into_iter().map(ResourceMatcher::compile).collect::<Result<_, _>>()?;
        if compiled.len() > ResourceMatcher::MOST {
            let most = ResourceMatcher::MOST;
            return Err(DocumentError::Field(format!("resources: {most} at most")));
        }
        Ok(Self(compiled))
    }

    /// Whether something with these labels is matched.
    pub fn matches(&self, labels: &Labels) -> bool {
        let nobody = Traits::new();
        let traits = TraitView::allowing(&nobody, None);
        self.0.iter().any(|matcher| matcher.matches(labels, traits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn one_matcher_must_match_with_all_of_its_labels() {
        let read = |json: &str| ResourceMatcher::from_json(json).unwrap();
        let both = [
            read(r#"{"labels":{"env":["dev","test-*"],"team":"core"}}"#),
            read(r#"{"labels":{"shared":"yes"}}"#),
        ];
        let matchers = ResourceMatchers::compile(&both).unwrap();
        assert!(matchers.matches(&labels(&[("env", "test-1"), ("team", "core")])));
        assert!(matchers.matches(&labels(&[("shared", "yes"), ("env", "prod")])));
        assert!(!matchers.matches(&labels(&[("env", "dev")])));
        assert!(!matchers.matches(&labels(&[("env", "prod"), ("team", "core")])));
        assert!(!ResourceMatchers::default().matches(&labels(&[])));
        let all = ResourceMatchers::compile(&[read(r#"{"labels":{"*":"*"}}"#)]).unwrap();
        assert!(all.matches(&labels(&[])));
        for one in &both {
            assert_eq!(read(&one.to_json()), *one);
        }
    }

    #[test]
    fn what_is_no_matcher_says_why() {
        for (json, why) in [
            (r#"{"labels":{}}"#, "'*': '*' stands for every database"),
            (r#"{"label":{}}"#, "did you mean \"labels\"?"),
            (r#"{"labels":{"env":[]}}"#, "no value is given"),
            (r#"{"labels":{"*":"prod"}}"#, "must be \"*\" too"),
            (r#"{"labels":{"env":"^($"}}"#, "not a regular expression"),
            (r#"{"labels":{"env":"{{external.env}}"}}"#, "what users have"),
            ("[", "not JSON"),
        ] {
            let err = ResourceMatcher::from_json(json).unwrap_err().to_string();
            assert!(err.contains(why), "{json}: {err}");
        }
        let many = vec![ResourceMatcher { labels: LabelRules::everything() }; 33];
        assert!(ResourceMatchers::compile(&many).is_err());
    }
}
