//! Documents as text: YAML (or JSON, which is YAML too) in, YAML out.

use access_client::types::{
    AppDocument, AuthorityDocument, ClusterConfigDocument, DbDocument, DesktopDocument,
    InviteDocument, KubeDocument, LockDocument, NodeDocument, RecordingDocument, RoleDocument,
    ServerDocument, TokenDocument, UserDocument,
};
use access_core::document::DocumentError;
use access_core::policy::ApiKind;
use serde_json::Value;

use crate::kinds;

/// A document that was read and is known to be one of its kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read {
    pub(crate) kind: ApiKind,
    pub(crate) name: String,
    pub(crate) value: Value,
}

/// Reads every document of a text. `source` is for messages.
///
/// All of them are checked before the first is given out, so that a file with a mistake near its
/// end changes nothing.
pub(crate) fn read(text: &str, source: &str) -> Result<Vec<Read>, String> {
    // Only true and false are booleans (YAML 1.2), so that a label `country: no` stays a text.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|err| yaml_error(source, &err))?;
    if values.is_empty() {
        return Err(format!("{source}: there is no document in it"));
    }
    let many = values.len() > 1;
    let checked = values.into_iter().zip(1..).map(|(value, nth)| {
        check(value).map_err(|(what, why)| {
            let nth = if many { format!(" document {nth}:") } else { String::new() };
            format!("{source}:{nth}{what} {why}")
        })
    });
    checked.collect()
}

/// Writes a document as YAML.
pub(crate) fn write(value: &Value) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|err| err.to_string())
}

/// Writes documents as one YAML text.
pub(crate) fn write_many(values: &[Value]) -> Result<String, String> {
    let texts: Vec<String> = values.iter().map(write).collect::<Result<_, _>>()?;
    Ok(texts.join("---\n"))
}

fn check(value: Value) -> Result<Read, (String, String)> {
    let nowhere = |why: String| (String::new(), why);
    if !value.is_object() {
        return Err(nowhere("a document has kind, version, metadata and spec".into()));
    }
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/kind").to_owned(), text("/metadata/name").to_owned());
    if kind.is_empty() {
        return Err(nowhere("the field kind is missing".into()));
    }
    let kind = kinds::exact(&kind).map_err(|why| nowhere(format!("kind: {why}")))?;
    let what = if name.is_empty() { format!(" {kind}:") } else { format!(" {kind} {name:.80}:") };
    let read = match kind {
        ApiKind::User => UserDocument::from_value(value.clone()).map(drop),
        ApiKind::Role => RoleDocument::from_value(value.clone()).map(drop),
        ApiKind::Token => TokenDocument::from_value(value.clone()).map(drop),
        ApiKind::Invite => InviteDocument::from_value(value.clone()).map(drop),
        ApiKind::Node => NodeDocument::from_value(value.clone()).map(drop),
        ApiKind::Db => DbDocument::from_value(value.clone()).map(drop),
        ApiKind::App => AppDocument::from_value(value.clone()).map(drop),
        ApiKind::Kube => KubeDocument::from_value(value.clone()).map(drop),
        ApiKind::Desktop => DesktopDocument::from_value(value.clone()).map(drop),
        ApiKind::Server => ServerDocument::from_value(value.clone()).map(drop),
        ApiKind::Authority => AuthorityDocument::from_value(value.clone()).map(drop),
        ApiKind::Lock => LockDocument::from_value(value.clone()).map(drop),
        ApiKind::Session => RecordingDocument::from_value(value.clone()).map(drop),
        ApiKind::ClusterConfig => ClusterConfigDocument::from_value(value.clone()).map(drop),
        _ => Err(DocumentError::Field(format!("documents of kind {kind} cannot be written"))),
    };
    read.map_err(|err| (what.clone(), err.to_string()))?;
    if name.is_empty() {
        return Err((what, "metadata.name: it is empty".into()));
    }
    Ok(Read { kind, name, value })
}

fn yaml_error(source: &str, err: &serde_saphyr::Error) -> String {
    let err = err.without_snippet();
    let place = err.location().map(|at| format!("{}:{}:", at.line(), at.column()));
    let text = err.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.split(" at line ").next().unwrap_or(text);
    let text = text.strip_prefix("error: ").unwrap_or(text);
    format!("{source}:{} not YAML: {text}", place.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ROLE: &str = "kind: role\nversion: v1\nmetadata:\n  name: dev\n  labels: {country: no}\n\
                        spec:\n  options:\n    max_session_ttl: 8h\n  allow:\n    logins: [ubuntu]\n";

    fn fails(text: &str) -> String {
        read(text, "role.yaml").unwrap_err()
    }

    #[test]
    fn documents_are_read_one_or_many() {
        let one = read(ROLE, "f").unwrap();
        assert_eq!((one[0].kind, one[0].name.as_str()), (ApiKind::Role, "dev"));
        assert_eq!(one[0].value["metadata"]["labels"]["country"], "no");
        let user = "kind: user\nversion: v1\nmetadata: {name: alice}\nspec: {roles: [dev]}\n";
        let many = read(&format!("---\n{ROLE}---\n{user}---\n"), "f").unwrap();
        assert_eq!(many.len(), 2);
        assert_eq!(many[1].kind, ApiKind::User);
        let json = serde_json::to_string(&one[0].value).unwrap();
        assert_eq!(read(&json, "f").unwrap(), one);
    }

    #[test]
    fn a_mistyped_field_is_named_with_its_path_and_the_nearest() {
        let err = fails(&ROLE.replace("logins", "logns"));
        assert!(err.starts_with("role.yaml: role dev: spec.allow.logns"), "{err}");
        assert!(err.contains("did you mean \"logins\"?"), "{err}");
        let err = fails(&format!("{ROLE}---\n{}", ROLE.replace("metadata", "metdata")));
        assert!(err.starts_with("role.yaml: document 2: role:"), "{err}");
        assert!(err.contains("did you mean \"metadata\"?"), "{err}");
    }

    #[test]
    fn what_is_no_document_says_why() {
        assert!(fails("").contains("no document"), "{}", fails(""));
        assert!(fails("kind: [").starts_with("role.yaml:1:"), "{}", fails("kind: ["));
        assert!(fails("- a\n").contains("kind, version, metadata and spec"));
        assert!(fails("version: v1\n").contains("kind is missing"));
        let err = fails(&ROLE.replace("kind: role", "kind: rol"));
        assert!(err.contains("unknown kind \"rol\", did you mean \"role\"?"), "{err}");
        let err = fails(&ROLE.replace("v1", "v9"));
        assert!(err.contains("\"v9\"") && err.contains("\"v1\""), "{err}");
        assert!(fails(&ROLE.replace("name: dev", "name: ''")).contains("metadata.name"));
        let twice = format!("{ROLE}kind: role\n");
        assert!(read(&twice, "f").unwrap_err().contains("kind"));
    }

    #[test]
    fn texts_that_look_like_something_else_survive() {
        let texts = [
            "yes",
            "no",
            "on",
            "off",
            "null",
            "~",
            "true",
            "1",
            "1.0",
            "0x10",
            "1e3",
            ".nan",
            "- a",
            "a: b",
            "a #b",
            "#",
            "",
            " ",
            "*",
            "&a",
            "!t",
            "%",
            "@",
            "`",
            "'",
            "\"",
            "{{internal.logins}}",
            "[a]",
            "{a}",
            "a\nb",
            "a\n",
            "\n",
            "\ta",
            "2026-01-02",
            "2026-01-02T03:04:05Z",
            "12h",
            "12:30:00",
            "=",
            "<<",
            "^a.*$",
            "\\",
            "\u{1}",
            "é",
            "a  ",
            "|",
            ">",
            "?",
            "-",
            "y",
            "sha256:00",
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        ];
        for text in texts {
            let value = json!({ "metadata": { "labels": { text: text } }, "list": [text] });
            let yaml = write(&value).unwrap();
            let options = serde_saphyr::options! { strict_booleans: true };
            let back: Value = serde_saphyr::from_str_with_options(&yaml, options).unwrap();
            assert_eq!(back, value, "{yaml}");
        }
    }

    #[test]
    fn many_documents_survive() {
        let value = read(ROLE, "f").unwrap().remove(0).value;
        let text = write_many(&[value.clone(), value.clone()]).unwrap();
        let back = read(&text, "f").unwrap();
        assert_eq!(
            back.into_iter().map(|one| one.value).collect::<Vec<_>>(),
            [value.clone(), value]
        );
    }
}
