//! Documents: the one form in which settings are stored, printed and carried by the API.
//!
//! ```json
//! { "kind": "role", "version": "v1", "metadata": { "name": "dev" }, "spec": { } }
//! ```
//!
//! A kind's spec is one serde type that refuses fields it does not know: what an older program
//! cannot read in full, it must not act on in part.

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::ApiKind;
use crate::resource::Labels;
use crate::time::Timestamp;

/// What every document says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Its name, unique among its kind.
    pub name: String,
    /// What it is for, in the words of whoever wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// When it ceases to exist; never when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Changes with every write. Opaque: compare it for equality, never for order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

impl Metadata {
    /// Metadata with a name and nothing else.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// The spec of a kind of document.
pub trait DocumentSpec: Serialize + DeserializeOwned {
    /// The kind, as the document names it.
    const KIND: ApiKind;
    /// The version that this program reads and writes.
    const VERSION: &'static str = "v1";
}

/// One document of a known kind.
///
/// Kind and version are those of the spec's type, so that they cannot disagree with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<S> {
    /// Name, labels, expiry, revision.
    pub metadata: Metadata,
    /// What the kind is about.
    pub spec: S,
}

/// Why a text is no such document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It cannot be read; the text names the field and, when one is near, the name that was meant.
    #[error("{0}")]
    Field(String),
    /// It is of another kind than was asked for.
    #[error("kind {found:?} is not {expected:?}")]
    Kind {
        /// What it says it is.
        found: String,
        /// What was asked for.
        expected: &'static str,
    },
    /// It is of a version that this program does not read.
    #[error("{kind} documents of version {found:?} cannot be read here, only {expected:?}")]
    Version {
        /// Its kind.
        kind: &'static str,
        /// Its version.
        found: String,
        /// The one that is understood.
        expected: &'static str,
    },
}

impl<S: DocumentSpec> Document<S> {
    /// A document with a name and a spec.
    pub fn new(name: impl Into<String>, spec: S) -> Self {
        Self { metadata: Metadata::named(name), spec }
    }

    /// The kind.
    pub fn kind(&self) -> ApiKind {
        S::KIND
    }

    /// The version.
    pub fn version(&self) -> &'static str {
        S::VERSION
    }

    /// Reads a document from JSON.
    ///
    /// # Errors
    /// [`DocumentError`] names the field that is wrong.
    pub fn from_json(json: &[u8]) -> Result<Self, DocumentError> {
        let value: serde_json::Value = serde_json::from_slice(json)
            .map_err(|err| DocumentError::Field(format!("not JSON: {err}")))?;
        Self::from_value(value)
    }

    /// Reads a document from a JSON value, such as one that YAML was read into.
    ///
    /// # Errors
    /// [`DocumentError`] names the field that is wrong.
    pub fn from_value(value: serde_json::Value) -> Result<Self, DocumentError> {
        // Kind and version first: complaints about a spec of another kind would mislead.
        check_header::<S>(
            value.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default(),
            value.get("version").and_then(|version| version.as_str()).unwrap_or_default(),
        )?;
        read_value(value)
    }

    /// The document as JSON.
    ///
    /// # Errors
    /// [`DocumentError::Field`] when the spec cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        serde_json::to_vec(self).map_err(|err| DocumentError::Field(err.to_string()))
    }
}

fn check_header<S: DocumentSpec>(kind: &str, version: &str) -> Result<(), DocumentError> {
    if kind != S::KIND.as_str() {
        return Err(DocumentError::Kind { found: clip(kind), expected: S::KIND.as_str() });
    }
    if version != S::VERSION {
        return Err(DocumentError::Version {
            kind: S::KIND.as_str(),
            found: clip(version),
            expected: S::VERSION,
        });
    }
    Ok(())
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

impl<S: DocumentSpec> Serialize for Document<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut document = serializer.serialize_struct("Document", 4)?;
        document.serialize_field("kind", S::KIND.as_str())?;
        document.serialize_field("version", S::VERSION)?;
        document.serialize_field("metadata", &self.metadata)?;
        document.serialize_field("spec", &self.spec)?;
        document.end()
    }
}

impl<'de, S: DocumentSpec> Deserialize<'de> for Document<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, bound = "S: DocumentSpec")]
        struct Form<S: DocumentSpec> {
            kind: String,
            version: String,
            metadata: Metadata,
            spec: S,
        }
        let form = Form::<S>::deserialize(deserializer)?;
        check_header::<S>(&form.kind, &form.version).map_err(D::Error::custom)?;
        Ok(Self { metadata: form.metadata, spec: form.spec })
    }
}

/// Reads any type from a JSON value, with errors that name the field's path and the nearest valid
/// name: ``spec.allow.nod_labels: unknown field "nod_labels", did you mean "node_labels"?``
///
/// # Errors
/// [`DocumentError::Field`].
pub fn read_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, DocumentError> {
    serde_path_to_error::deserialize(value).map_err(|err| {
        let path = err.path().to_string();
        let why = explain(&err.inner().to_string());
        DocumentError::Field(if path == "." { why } else { format!("{path}: {why}") })
    })
}

/// Makes serde's complaint about an unknown name short, with the nearest valid one.
///
/// Texts that are no such complaint come back unchanged.
pub fn explain(complaint: &str) -> String {
    let Some((what, rest)) = ["field", "variant"]
        .into_iter()
        .find_map(|what| Some((what, complaint.strip_prefix(&format!("unknown {what} `"))?)))
    else {
        return complaint.to_owned();
    };
    let Some((found, valid)) = rest.rsplit_once("`, expected ") else {
        return complaint.to_owned();
    };
    let what = if what == "variant" { "value" } else { what };
    // Names are between backticks: every second piece.
    let names: Vec<&str> = valid.split('`').skip(1).step_by(2).collect();
    unknown(what, found, &names)
}

/// The message for an unknown name: the nearest valid one, or all of them.
pub fn unknown(what: &str, found: &str, valid: &[&str]) -> String {
    let found = clip(found);
    match nearest(&found, valid.iter().copied()) {
        Some(near) => format!("unknown {what} {found:?}, did you mean {near:?}?"),
        None => format!("unknown {what} {found:?}, use one of: {}", valid.join(", ")),
    }
}

/// The candidate that somebody who wrote `word` probably meant, if any is near.
///
/// Case and the choice between `-` and `_` do not count; up to a third of the letters may be
/// wrong, missing, too many, or swapped with their neighbour.
///
/// ```
/// use access_core::document::nearest;
/// assert_eq!(nearest("nod_lables", ["node_labels", "logins"]), Some("node_labels"));
/// assert_eq!(nearest("color", ["node_labels", "logins"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let fold = |text: &str| -> Vec<char> {
        text.chars()
            .take(LONGEST)
            .filter(|c| !matches!(c, '-' | '_'))
            .flat_map(char::to_lowercase)
            .collect()
    };
    let word = fold(word);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= (word.len() / 3).max(1) && *distance < word.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance, one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut cost =
                (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            if i > 0 && j > 0 && b.get(j - 1) == Some(x) && a.get(i - 1) == Some(y) {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        let d = |a: &str, b: &str| {
            distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
        };
        assert_eq!(d("", ""), 0);
        assert_eq!(d("kitten", "sitting"), 3);
        assert_eq!(d("lables", "labels"), 1);
        assert_eq!(d("abc", ""), 3);
    }

    #[test]
    fn complaints_name_the_nearest() {
        assert_eq!(
            explain("unknown field `logns`, expected `logins` or `rules`"),
            "unknown field \"logns\", did you mean \"logins\"?"
        );
        assert_eq!(
            explain("unknown variant `x`, expected one of `off`, `strict`, `best_effort`"),
            "unknown value \"x\", use one of: off, strict, best_effort"
        );
        assert_eq!(explain("invalid type: map"), "invalid type: map");
    }
}
