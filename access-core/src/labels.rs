//! Matchers over texts and labels, compiled once and then matched without allocating.
//!
//! | written | matches |
//! | --- | --- |
//! | `prod` | that text |
//! | `*` | any text |
//! | `web-*` | `*` stands for any run of characters, an empty one too |
//! | `^web-[0-9]+$` | the regular expression, always over the whole text |
//! | `{{external.team}}` | what the user's traits hold (see [`crate::role`]) |

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::resource::Labels;
use crate::role::{TraitView, ValuePattern, Values};

/// The longest pattern, in bytes.
pub const MAX_PATTERN: usize = 1024;

/// The largest compiled regular expression, and the largest cache of one, in bytes.
const MAX_REGEX: usize = 512 * 1024;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?}: {why}")]
pub struct PatternError {
    pattern: String,
    why: String,
}

impl PatternError {
    pub(crate) fn new(pattern: &str, why: impl Into<String>) -> Self {
        Self { pattern: pattern.chars().take(80).collect(), why: why.into() }
    }
}

/// Whether upper and lower case differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// They do.
    Sensitive,
    /// They do not: for denials, where a target may not tell them apart.
    Ignored,
}

/// One compiled pattern over a text.
///
/// ```
/// use access_core::labels::Pattern;
/// let web: Pattern = "web-*".parse()?;
/// assert!(web.matches("web-1") && !web.matches("db-1"));
/// # Ok::<(), access_core::labels::PatternError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pattern {
    form: Form,
    case: Case,
}

#[derive(Clone, Debug)]
enum Form {
    Any,
    Exact(Box<str>),
    Glob { first: Box<str>, middle: Box<[Box<str>]>, last: Box<str> },
    Regex(Regex),
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::new(text, Case::Sensitive)
    }
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`] when it is longer than [`MAX_PATTERN`], or no regular expression of a
    /// bounded size although it is written as one.
    pub fn new(text: &str, case: Case) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN {
            return Err(PatternError::new(text, format!("longer than {MAX_PATTERN} bytes")));
        }
        let form = if text == "*" {
            Form::Any
        } else if text.starts_with('^') && text.ends_with('$') {
            Form::Regex(anchored(text, case)?)
        } else if text.contains('*') {
            match case {
                Case::Sensitive => glob(text),
                Case::Ignored => glob(&folded(text)),
            }
        } else {
            Form::Exact(text.into())
        };
        Ok(Self { form, case })
    }

    /// Whether it is one text and no other.
    pub fn is_exact(&self) -> bool {
        matches!(self.form, Form::Exact(_))
    }

    /// Whether it is `*`.
    pub fn is_any(&self) -> bool {
        matches!(self.form, Form::Any)
    }

    /// The one text that it matches, when it is exact.
    pub fn as_exact(&self) -> Option<&str> {
        match &self.form {
            Form::Exact(text) => Some(text),
            Form::Any | Form::Glob { .. } | Form::Regex(_) => None,
        }
    }

    /// Whether a text matches.
    pub fn matches(&self, text: &str) -> bool {
        match &self.form {
            Form::Any => true,
            Form::Exact(exact) => match self.case {
                Case::Sensitive => same(exact, text),
                Case::Ignored => same_ignoring_case(exact, text),
            },
            Form::Glob { first, middle, last } => match self.case {
                Case::Sensitive => glob_matches(first, middle, last, text),
                Case::Ignored => glob_matches(first, middle, last, &folded(text)),
            },
            Form::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Whether two texts are equal.
///
/// Decisions compare many short texts, most of them of different lengths: eight bytes at a time
/// in place is a few times faster than a call for each.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(first_a), Some(first_b), Some(last_a), Some(last_b)) => {
            first_a == first_b && last_a == last_b && (a.len() <= 16 || a == b)
        }
        _ => a.iter().zip(b).all(|(a, b)| a == b),
    }
}

/// A value by its name. Maps of labels and traits have a handful of entries, where looking at each
/// is faster than descending by order.
pub(crate) fn lookup<'a, V>(map: &'a BTreeMap<String, V>, name: &str) -> Option<&'a V> {
    const FEW: usize = 8;
    if map.len() > FEW {
        return map.get(name);
    }
    map.iter().find(|(key, _)| same(key, name)).map(|(_, value)| value)
}

/// Whether two texts differ in nothing but case.
pub(crate) fn same_ignoring_case(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() { a.eq_ignore_ascii_case(b) } else { folded(a) == folded(b) }
}

/// A text without its case, each character by itself: `str::to_lowercase` looks at what stands
/// around a sigma, so that a part of a text would not be a part of it any more. By way of the
/// upper case, since some letters (`ς`, `ſ`) share theirs with another one.
fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

fn glob(text: &str) -> Form {
    let mut pieces = text.split('*').map(Box::from);
    let first = pieces.next().unwrap_or_default();
    let last = pieces.next_back().unwrap_or_default();
    Form::Glob { first, middle: pieces.filter(|piece| !piece.is_empty()).collect(), last }
}

/// The first fit of each piece is as good as any later one, so there is nothing to try twice.
fn glob_matches(first: &str, middle: &[Box<str>], last: &str, text: &str) -> bool {
    let Some(mut rest) = text.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for piece in middle {
        match rest.split_once(&**piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// Compiles an expression so that it matches whole texts only: in `^a|b$`, the anchors bind to one
/// alternative each, which is not what its author meant.
fn anchored(text: &str, case: Case) -> Result<Regex, PatternError> {
    // On its own first, so that an unbalanced parenthesis cannot close the group put around it.
    bounded_regex(text, case)?;
    bounded_regex(&format!(r"\A(?:{text})\z"), case)
        .map_err(|_| PatternError::new(text, "not a regular expression that can be anchored"))
}

/// Compiles a regular expression of bounded size.
pub(crate) fn bounded_regex(text: &str, case: Case) -> Result<Regex, PatternError> {
    if text.len() > MAX_PATTERN + 16 {
        return Err(PatternError::new(text, format!("longer than {MAX_PATTERN} bytes")));
    }
    RegexBuilder::new(text)
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX)
        .nest_limit(32)
        .case_insensitive(case == Case::Ignored)
        .build()
        .map_err(|err| match err {
            regex::Error::CompiledTooBig(_) => {
                PatternError::new(text, "the regular expression is too large when compiled")
            }
            err => PatternError::new(
                text,
                format!(
                    "not a regular expression: {}",
                    err.to_string()
                        .lines()
                        .last()
                        .unwrap_or_default()
                        .trim_start_matches("error: ")
                ),
            ),
        })
}

/// Label rules as role documents have them: each label with the values that will do.
///
/// ```json
/// { "env": ["staging", "prod"], "team": "{{external.team}}", "name": "web-*" }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabelRules(pub BTreeMap<String, Values>);

impl LabelRules {
    /// The rules that match everything: `'*': '*'`.
    pub fn everything() -> Self {
        Self(BTreeMap::from([("*".to_owned(), Values::from(["*"]))]))
    }

    /// Whether there are none, which match nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why label rules cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// A value is no pattern.
    #[error("label {label:?}: {error}")]
    Pattern {
        /// The label.
        label: String,
        /// What is wrong with the value.
        error: PatternError,
    },
    /// `*` as a label's name with anything but `*` as its value.
    #[error("label \"*\": its value {0:?} must be \"*\" too; name the label that is meant")]
    AnyLabel(String),
    /// A label without values would never match.
    #[error("label {0:?}: no value is given")]
    NoValue(String),
}

/// Compiled label rules.
///
/// Every label that is named must be there with one of its values. No rules at all match nothing;
/// `'*': '*'` matches everything, what has no labels too.
#[derive(Clone, Debug, Default)]
pub struct LabelMatcher {
    everything: bool,
    rules: Box<[LabelRule]>,
}

/// A label and the values of which it must have one.
type LabelRule = (Box<str>, Box<[ValuePattern]>);

impl LabelMatcher {
    /// Compiles label rules.
    ///
    /// # Errors
    /// [`LabelError`] names the label and the pattern.
    pub fn compile(rules: &LabelRules) -> Result<Self, LabelError> {
        let mut everything = false;
        let mut compiled = Vec::with_capacity(rules.0.len());
        for (label, values) in &rules.0 {
            if values.is_empty() {
                return Err(LabelError::NoValue(label.clone()));
            }
            if label == "*" {
                if let Some(value) = values.iter().find(|value| value.as_str() != "*") {
                    return Err(LabelError::AnyLabel(value.clone()));
                }
                everything = true;
                continue;
            }
            let patterns = values
                .iter()
                .map(|value| ValuePattern::parse(value, Case::Sensitive))
                .collect::<Result<_, _>>()
                .map_err(|error| LabelError::Pattern { label: label.clone(), error })?;
            compiled.push((label.as_str().into(), patterns));
        }
        // `'*': '*'` beside others adds nothing to them: all must match.
        let everything = everything && compiled.is_empty();
        Ok(Self { everything, rules: compiled.into() })
    }

    /// Whether a resource's labels match, for somebody with these traits.
    pub fn matches(&self, labels: &Labels, traits: TraitView<'_>) -> bool {
        self.everything
            || !self.rules.is_empty()
                && self.rules.iter().all(|(label, patterns)| {
                    lookup(labels, label).is_some_and(|value| {
                        patterns.iter().any(|pattern| pattern.matches(value, traits).any())
                    })
                })
    }

    /// The traits that its values draw on.
    pub fn trait_names(&self) -> impl Iterator<Item = &str> {
        let patterns = self.rules.iter().flat_map(|(_, patterns)| patterns);
        patterns.filter_map(ValuePattern::trait_name)
    }

    /// Whether it matches nothing, whatever the labels.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.rules.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Traits;

    #[test]
    fn sameness_is_equality() {
        let texts = ["", "a", "b", "abcdefg", "abcdefgh", "abcdefgx", "xbcdefgh", "abcdefghi"];
        let long = ["abcdefghijklmnopqrstuvwxyz", "abcdefghijkl_nopqrstuvwxyz", "äöüäöüäöü"];
        for a in texts.iter().chain(&long) {
            for b in texts.iter().chain(&long) {
                assert_eq!(same(a, b), a == b, "{a} {b}");
            }
        }
    }

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn globs_match_whole_texts() {
        for (glob, yes, no) in [
            ("web-*", &["web-", "web-1"][..], &["web", "xweb-1"][..]),
            ("*-db", &["a-db"], &["a-db2"]),
            ("a*b*c", &["abc", "axxbxxc", "abbc"], &["ab", "acb", "abcx"]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("**", &["", "x"], &[]),
        ] {
            for text in yes {
                assert!(pattern(glob).matches(text), "{glob} {text}");
            }
            for text in no {
                assert!(!pattern(glob).matches(text), "{glob} {text}");
            }
        }
    }

    #[test]
    fn regexes_match_whole_texts_whatever_they_hold() {
        assert!(pattern("^web-[0-9]+$").matches("web-12"));
        assert!(!pattern("^a|b$").matches("ax"));
        assert!(!pattern("^a|b$").matches("xb"));
        assert!(!pattern("^(?m)a$").matches("a\nx"));
        for bad in ["^a)(?x)#$", "^($", "^(a{1000}){1000}$", "^(a))|((b)$"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
        assert!("x".repeat(MAX_PATTERN + 1).parse::<Pattern>().is_err());
    }

    #[test]
    fn case_counts_unless_it_is_ignored() {
        for text in ["root", "ro*", "^ro+t$"] {
            assert!(!Pattern::new(text, Case::Sensitive).unwrap().matches("ROOT"));
            assert!(Pattern::new(text, Case::Ignored).unwrap().matches("ROOT"));
        }
    }

    #[test]
    fn ignoring_case_never_matches_less() {
        for (pattern, text) in
            [("ΑΣ*", "ΑΣΑ"), ("ΑΣ*", "ας"), ("*Σ", "ΑΣ"), ("ΑΣ", "ασ"), ("ΑΣ", "ας"), ("ſ", "S")]
        {
            assert!(
                Pattern::new(pattern, Case::Ignored).unwrap().matches(text),
                "{pattern} {text}"
            );
        }
        assert!(!Pattern::new("ΑΣ*", Case::Ignored).unwrap().matches("Α"));
    }

    fn matcher(json: &str) -> Result<LabelMatcher, LabelError> {
        LabelMatcher::compile(&serde_json::from_str(json).unwrap())
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn every_named_label_must_match() {
        let traits = Traits::new();
        let view = TraitView::allowing(&traits, None);
        let m = matcher(r#"{"env": ["staging", "pr*"], "team": "*"}"#).unwrap();
        assert!(m.matches(&labels(&[("env", "prod"), ("team", "x")]), view));
        assert!(!m.matches(&labels(&[("env", "prod")]), view));
        assert!(!m.matches(&labels(&[("env", "dev"), ("team", "x")]), view));
        assert!(matcher(r#"{"*": "*"}"#).unwrap().matches(&labels(&[]), view));
        assert!(!matcher("{}").unwrap().matches(&labels(&[]), view));
        assert!(!matcher(r#"{"*": "*", "env": "a"}"#).unwrap().matches(&labels(&[]), view));
    }

    #[test]
    fn errors_name_label_and_pattern() {
        let text = matcher(r#"{"env": "^($"}"#).unwrap_err().to_string();
        assert!(text.contains("\"env\"") && text.contains("\"^($\""), "{text}");
        assert!(matcher(r#"{"*": "prod"}"#).unwrap_err().to_string().contains("prod"));
        assert!(matcher(r#"{"env": []}"#).is_err());
    }
}
