//! Names and values within SQL.

use postgres_protocol::escape::escape_identifier;

/// A name as an identifier, whatever is in it.
pub(super) fn identifier(name: &str) -> String {
    escape_identifier(name)
}

/// A list as the text of an array
/// (<https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO>).
pub(super) fn array<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::from("{");
    for value in values {
        if out.len() > 1 {
            out.push(',');
        }
        out.push('"');
        for c in value.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        for (name, expected) in [
            ("alice", "\"alice\""),
            ("Alice B", "\"Alice B\""),
            ("a\"; drop role x; --", "\"a\"\"; drop role x; --\""),
            ("a\\", "\"a\\\""),
            ("\"", "\"\"\"\""),
        ] {
            assert_eq!(identifier(name), expected);
        }
    }

    #[test]
    fn lists_are_arrays() {
        assert_eq!(array([]), "{}");
        assert_eq!(array(["a", "b c"]), r#"{"a","b c"}"#);
        assert_eq!(array(["", "NULL", "a\"b\\c", "{,}"]), r#"{"","NULL","a\"b\\c","{,}"}"#);
    }
}
