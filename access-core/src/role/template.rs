//! Templates over traits: `{{internal.logins}}`, `dev-{{external.team}}`,
//! `{{email.local(external.email)}}`, `{{regexp.replace(external.group, "^team-(.*)$", "$1")}}`.
//!
//! A template is parsed once. Matching a text against it goes through the user's traits without
//! building a list of what it could stand for.

use std::borrow::Cow;
use std::collections::BTreeSet;

use regex::Regex;

use super::value::Match;
use crate::document::nearest;
use crate::identity::Traits;
use crate::labels::{Case, PatternError, bounded_regex, lookup, same, same_ignoring_case};

/// The traits that the cluster itself keeps for its users.
pub const INTERNAL_TRAITS: [&str; 7] = [
    "logins",
    "windows_logins",
    "kubernetes_groups",
    "kubernetes_users",
    "db_names",
    "db_users",
    "db_roles",
];

/// The traits that a decision looks at: those in the certificate, and those that the user has now.
#[derive(Clone, Copy, Debug)]
pub struct TraitView<'a> {
    certificate: &'a Traits,
    current: Option<&'a Traits>,
    denying: bool,
}

impl<'a> TraitView<'a> {
    /// For allowing: a value counts when the certificate has it and the user still has it.
    pub fn allowing(certificate: &'a Traits, current: Option<&'a Traits>) -> Self {
        Self { certificate, current, denying: false }
    }

    /// For denying: a value counts when the certificate has it or the user has it now.
    pub fn denying(certificate: &'a Traits, current: Option<&'a Traits>) -> Self {
        Self { certificate, current, denying: true }
    }

    fn any(self, name: &str, mut with: impl FnMut(&'a str) -> bool) -> bool {
        let now: Option<&BTreeSet<String>> = self.current.and_then(|traits| lookup(traits, name));
        let held = lookup(self.certificate, name).into_iter().flatten();
        match (self.current, self.denying) {
            (None, _) => held.into_iter().any(|value| with(value)),
            (Some(_), false) => held
                .filter(|value| now.is_some_and(|now| now.contains(*value)))
                .any(|value| with(value)),
            (Some(_), true) => held.chain(now.into_iter().flatten()).any(|value| with(value)),
        }
    }
}

/// A value with one `{{…}}` in it.
#[derive(Clone, Debug)]
pub struct Template {
    before: Box<str>,
    expression: Expression,
    after: Box<str>,
    case: Case,
}

#[derive(Clone, Debug)]
enum Expression {
    Trait { internal: bool, name: Box<str> },
    EmailLocal(Box<Expression>),
    Replace { of: Box<Expression>, regex: Regex, with: Box<str> },
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`PatternError`] says what is not understood.
    pub fn parse(text: &str, case: Case) -> Result<Self, PatternError> {
        let fail = |why: &str| PatternError::new(text, why);
        if text.len() > crate::labels::MAX_PATTERN {
            return Err(fail("longer than 1024 bytes"));
        }
        let (before, rest) =
            text.split_once("{{").ok_or_else(|| fail("\"}}\" without \"{{\" before it"))?;
        let (inner, after) =
            rest.rsplit_once("}}").ok_or_else(|| fail("\"{{\" without \"}}\" after it"))?;
        if [before, after].iter().any(|part| part.contains("{{") || part.contains("}}"))
            || inner.contains("{{")
        {
            return Err(fail("only one {{…}} is allowed in a value"));
        }
        if before.contains('*') || after.contains('*') {
            return Err(fail("\"*\" beside a {{…}} would widen what a trait says"));
        }
        let mut parser = Parser { rest: inner };
        let expression = parser
            .expression(0)
            .and_then(|expression| parser.end().map(|()| expression))
            .map_err(|why| fail(&why))?;
        Ok(Self { before: before.into(), expression, after: after.into(), case })
    }

    /// How well a text fits, for somebody with these traits.
    ///
    /// A trait that the cluster keeps and that is exactly `*` stands for any text. One that an
    /// identity provider sent is only ever itself.
    pub fn matches(&self, text: &str, traits: TraitView<'_>) -> Match {
        let bare = self.before.is_empty() && self.after.is_empty();
        let wild = bare && matches!(self.expression, Expression::Trait { internal: true, .. });
        let mut best = Match::No;
        self.expression.any(traits, &mut |value| {
            if wild && value == "*" {
                best = best.max(Match::Broad);
            } else {
                let fits = match self.case {
                    Case::Sensitive if bare => same(text, value),
                    Case::Sensitive => text
                        .strip_prefix(&*self.before)
                        .and_then(|rest| rest.strip_suffix(&*self.after))
                        .is_some_and(|rest| rest == value),
                    Case::Ignored => {
                        same_ignoring_case(text, &format!("{}{value}{}", self.before, self.after))
                    }
                };
                if fits {
                    best = Match::Exact;
                }
            }
            best == Match::Exact
        });
        best
    }

    /// The trait that it draws on.
    pub fn trait_name(&self) -> &str {
        self.expression.trait_name()
    }

    /// Calls `with` for each text that it stands for; never for `*`.
    pub fn each<'a>(&'a self, traits: TraitView<'a>, with: &mut dyn FnMut(Cow<'a, str>)) {
        self.expression.any(traits, &mut |value| {
            if value != "*" {
                with(Cow::Owned(format!("{}{value}{}", self.before, self.after)));
            }
            false
        });
    }
}

impl Expression {
    fn trait_name(&self) -> &str {
        match self {
            Self::Trait { name, .. } => name,
            Self::EmailLocal(of) | Self::Replace { of, .. } => of.trait_name(),
        }
    }

    fn any(&self, traits: TraitView<'_>, with: &mut dyn FnMut(&str) -> bool) -> bool {
        match self {
            Self::Trait { name, .. } => traits.any(name, with),
            Self::EmailLocal(of) => of.any(traits, &mut |value| match value.rsplit_once('@') {
                Some((local, domain)) if !local.is_empty() && !domain.is_empty() => with(local),
                _ => false,
            }),
            // A value that the expression does not match stands for nothing.
            Self::Replace { of, regex, with: replacement } => of.any(traits, &mut |value| {
                regex.is_match(value) && with(&regex.replace_all(value, &**replacement))
            }),
        }
    }
}

/// How deep functions may be nested.
const MAX_DEPTH: usize = 4;

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn expression(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > MAX_DEPTH {
            return Err("functions are nested too deep".into());
        }
        let head = self.word()?;
        match head {
            "email" | "regexp" => {
                self.expect('.')?;
                let function = self.word()?;
                self.expect('(')?;
                let of = Box::new(self.expression(depth + 1)?);
                let made = match (head, function) {
                    ("email", "local") => Expression::EmailLocal(of),
                    ("regexp", "replace") => {
                        self.expect(',')?;
                        let regex = self.string()?;
                        self.expect(',')?;
                        let with = self.string()?.into();
                        let regex = bounded_regex(&regex, Case::Sensitive)
                            .map_err(|err| err.to_string())?;
                        Expression::Replace { of, regex, with }
                    }
                    _ => {
                        return Err(format!(
                            "unknown function {head}.{function}, use email.local or regexp.replace"
                        ));
                    }
                };
                self.expect(')')?;
                Ok(made)
            }
            "internal" | "external" => {
                let internal = head == "internal";
                let name = self.trait_name()?;
                if internal && !INTERNAL_TRAITS.contains(&name.as_ref()) {
                    return Err(match nearest(&name, INTERNAL_TRAITS) {
                        Some(near) => {
                            format!("unknown internal trait {name:?}, did you mean {near:?}?")
                        }
                        None => format!(
                            "unknown internal trait {name:?}, use one of: {}",
                            INTERNAL_TRAITS.join(", ")
                        ),
                    });
                }
                Ok(Expression::Trait { internal, name: name.as_ref().into() })
            }
            other => Err(format!("{other:?} is not internal, external, email or regexp")),
        }
    }

    /// `.name` or `["name"]`.
    fn trait_name(&mut self) -> Result<Cow<'a, str>, String> {
        self.space();
        if self.rest.starts_with('[') {
            self.expect('[')?;
            let name = self.string()?;
            self.expect(']')?;
            return Ok(Cow::Owned(name));
        }
        self.expect('.')?;
        self.word().map(Cow::Borrowed)
    }

    fn word(&mut self) -> Result<&'a str, String> {
        self.space();
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-')))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return Err(format!("a name is missing before {:?}", self.rest));
        }
        self.rest = rest;
        Ok(word)
    }

    /// A string in double quotes; a backslash takes a quote or a backslash literally, and stays
    /// before anything else, so that regular expressions need no doubling.
    fn string(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, quoted @ ('"' | '\\'))) => out.push(quoted),
                    Some((_, other)) => out.extend(['\\', other]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err("a string has no closing quote".into())
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        self.space();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(format!("{wanted:?} is missing before {:?}", self.rest)),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.space();
        if self.rest.is_empty() { Ok(()) } else { Err(format!("{:?} is too much", self.rest)) }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits(pairs: &[(&str, &[&str])]) -> Traits {
        pairs
            .iter()
            .map(|(name, values)| {
                (name.to_string(), values.iter().map(|value| value.to_string()).collect())
            })
            .collect()
    }

    fn stands_for(template: &str, held: &Traits) -> Vec<String> {
        let template = Template::parse(template, Case::Sensitive).unwrap();
        let view = TraitView::allowing(held, None);
        let mut out = Vec::new();
        template.each(view, &mut |text| out.push(text.into_owned()));
        for text in &out {
            assert_eq!(template.matches(text, view), Match::Exact, "{text}");
        }
        out
    }

    #[test]
    fn templates_stand_for_what_traits_hold() {
        let held = traits(&[
            ("logins", &["alice", "root"]),
            ("email", &["alice@example.com", "nonsense"]),
            ("group", &["team-web", "other"]),
            ("full name", &["x"]),
        ]);
        assert_eq!(stands_for("{{internal.logins}}", &held), ["alice", "root"]);
        assert_eq!(stands_for("u-{{ external.logins }}-x", &held), ["u-alice-x", "u-root-x"]);
        assert_eq!(stands_for("{{email.local(external.email)}}", &held), ["alice"]);
        assert_eq!(
            stands_for(r#"{{regexp.replace(external.group, "^team-(\w+)$", "$1")}}"#, &held),
            ["web"]
        );
        assert_eq!(stands_for(r#"{{external["full name"]}}"#, &held), ["x"]);
        assert!(stands_for("{{external.none}}", &held).is_empty());
    }

    #[test]
    fn only_traits_that_the_cluster_keeps_can_be_wild() {
        let held = traits(&[("db_users", &["*"])]);
        let view = TraitView::allowing(&held, None);
        let fits =
            |text: &str| Template::parse(text, Case::Sensitive).unwrap().matches("anyone", view);
        assert_eq!(fits("{{internal.db_users}}"), Match::Broad);
        assert_eq!(fits("{{external.db_users}}"), Match::No);
        assert_eq!(fits("any{{internal.db_users}}"), Match::No);
    }

    #[test]
    fn a_trait_that_was_taken_away_allows_no_more_but_still_denies() {
        let (then, now) = (traits(&[("logins", &["a", "b"])]), traits(&[("logins", &["b", "c"])]));
        let template = Template::parse("{{internal.logins}}", Case::Sensitive).unwrap();
        let allowed = |text| template.matches(text, TraitView::allowing(&then, Some(&now))).any();
        let denied = |text| template.matches(text, TraitView::denying(&then, Some(&now))).any();
        assert_eq!(["a", "b", "c"].map(allowed), [false, true, false]);
        assert_eq!(["a", "b", "c"].map(denied), [true, true, true]);
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, part) in [
            ("{{internal.logns}}", "did you mean \"logins\""),
            ("{{internal.logins", "without \"}}\""),
            ("internal.logins}}", "without \"{{\""),
            ("{{a}}{{b}}", "only one"),
            ("*{{external.a}}", "widen"),
            ("{{who.logins}}", "not internal"),
            ("{{email.upper(external.a)}}", "unknown function"),
            ("{{external.a b}}", "too much"),
            ("{{external.}}", "name is missing"),
            (r#"{{regexp.replace(external.a, "(", "")}}"#, "regular expression"),
            (r#"{{regexp.replace(external.a, "a)}}"#, "closing quote"),
        ] {
            let err = Template::parse(text, Case::Sensitive).unwrap_err().to_string();
            assert!(err.contains(part), "{text}: {err}");
        }
    }
}
