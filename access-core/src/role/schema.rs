//! Which programs know which fields of roles.
//!
//! A role with a field that an enforcer does not know is unreadable there and denies everything to
//! its holders. Enforcers therefore tell with their documents which schema they know, and the Auth
//! Service refuses a field that one of them is too old for.

use serde_json::Value;

/// The schema of roles that this program knows. Documents of enforcers that say nothing are of
/// those that know 1.
pub const ROLE_SCHEMA: u32 = 1;

/// A field of roles that came after schema 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleField {
    /// Where it is below `spec`, with dots: `allow.node_labels`.
    pub path: &'static str,
    /// The first schema that has it.
    pub since: u32,
}

/// Every field that came after schema 1. Whoever adds a field to roles adds it here, with
/// [`ROLE_SCHEMA`] raised by one.
pub const ROLE_FIELDS: &[RoleField] = &[];

impl RoleField {
    /// Whether a role's spec says anything there.
    pub fn is_used_in(&self, spec: &Value) -> bool {
        let found = self.path.split('.').try_fold(spec, |value, part| value.get(part));
        found.is_some_and(|value| !value.is_null())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_where_it_is() {
        let field = RoleField { path: "allow.node_labels", since: 2 };
        assert!(field.is_used_in(&serde_json::json!({"allow": {"node_labels": {"a": "b"}}})));
        assert!(!field.is_used_in(&serde_json::json!({"deny": {"node_labels": {"a": "b"}}})));
        assert!(!field.is_used_in(&serde_json::json!({"allow": {"node_labels": null}})));
    }

    #[test]
    fn the_schema_is_that_of_the_newest_field() {
        let newest = ROLE_FIELDS.iter().map(|field| field.since).max().unwrap_or(1);
        assert_eq!(newest, ROLE_SCHEMA);
    }
}
