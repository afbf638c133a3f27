//! Names, ids, labels and the other short texts.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::identity::{SourcePin, SpkiPin, Traits};
use crate::ids::{
    ClusterName, HostId, Login, ResourceName, RoleName, SessionId, TraceId, UserName, WriterId,
    is_dns_label,
};
use crate::labels::{LabelMatcher, LabelRules};
use crate::resource::{Labels, ResourceRef, dns_label};
use crate::role::{Span, TraitView};

/// What is taken for a name or another short text is written as what means the same; a resource's
/// DNS name is one, and leads back to it; labels can be matched.
///
/// # Panics
/// When that does not hold.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let printable = |id: Option<String>| {
        assert!(id.is_none_or(|id| !id.chars().any(char::is_control)), "{text:?}");
    };
    printable(survives::<ClusterName>(text));
    printable(survives::<UserName>(text));
    printable(survives::<Login>(text));
    printable(survives::<RoleName>(text));
    printable(survives::<HostId>(text));
    printable(survives::<ResourceName>(text));
    printable(survives::<SessionId>(text));
    printable(survives::<WriterId>(text));
    printable(survives::<TraceId>(text));
    printable(survives::<ResourceRef>(text));
    printable(survives::<SourcePin>(text));
    printable(survives::<SpkiPin>(text));
    printable(survives::<Span>(text));
    if let Ok(cluster) = ClusterName::new("example.com") {
        dns(text, &cluster);
    }
    labels(bytes);
}

/// What a text is read as, when it is, in its own words.
fn survives<T: FromStr + Display + Debug + PartialEq>(text: &str) -> Option<String> {
    let read = text.parse::<T>().ok()?;
    let written = read.to_string();
    let again = written.parse::<T>().ok();
    assert_eq!(again.as_ref(), Some(&read), "{text:?} is written {written:?}");
    Some(written)
}

fn dns(text: &str, cluster: &ClusterName) {
    if let Some(found) = ResourceRef::from_dns_name(text, cluster) {
        assert_eq!(format!("{}.{}.{cluster}", found.label, found.kind), text);
    }
    let Ok(resource) = text.parse::<ResourceRef>() else { return };
    let dns = resource.dns_name(cluster);
    assert!(ClusterName::new(&dns).is_ok(), "{dns:?} is no DNS name");
    let back = ResourceRef::from_dns_name(&dns, cluster);
    let back = back.map(|back| (back.kind, back.label));
    let label = dns_label(&resource.name);
    assert!(is_dns_label(&label), "{label:?}");
    assert_eq!(back, Some((resource.kind, label)), "{text:?}");
}

fn labels(bytes: &[u8]) {
    let Ok(rules) = serde_json::from_slice::<LabelRules>(bytes) else { return };
    let Ok(matcher) = LabelMatcher::compile(&rules) else { return };
    let held = serde_json::from_slice::<Labels>(bytes).unwrap_or_default();
    let none = Traits::new();
    let _ = matcher.matches(&held, TraitView::allowing(&none, None));
}
