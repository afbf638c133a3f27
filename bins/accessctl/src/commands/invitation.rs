//! Invitation links.

use access_client::proto::{Invitation, StatusRequest};
use access_client::{HostPort, with_deadline};
use access_core::Timestamp;
use access_daemon::{Exit, OutputFormat, note, print, print_value};
use serde_json::{Value, json};

use super::moment;
use crate::cluster::Cluster;

/// What stands in a link for a proxy that nobody knows.
const UNKNOWN_PROXY: &str = "PROXY:PORT";

/// Prints an invitation; `what` says what has happened.
pub(super) fn tell(
    cluster: &Cluster,
    invitation: &Invitation,
    what: &str,
    format: OutputFormat,
) -> Result<(), Exit> {
    let proxy = cluster.proxy().map(ToString::to_string).or_else(|| first(&invitation.proxies));
    let link = link(invitation, proxy.as_deref());
    let expires = Timestamp::from_millis(invitation.expires);
    if proxy.is_none() {
        note(&format!(
            "no proxy has told its address yet: put one's HOST:PORT in place of {UNKNOWN_PROXY}, or \
             repeat this with accessctl users reset {} --proxy=HOST:PORT",
            invitation.user
        ));
    }
    match format {
        OutputFormat::Text => print(&format!(
            "User {} has been {what}. Send them this link; it can be used once, until {}:\n\n  \
             {link}\n\nThey choose a password with\n\n  access invite accept '{link}'\n",
            invitation.user,
            moment(expires),
        )),
        _ => print_value(
            &json!({ "user": invitation.user, "invite_url": link, "expires": expires }),
            format,
        ),
    }
}

/// The first proxy that the cluster tells of, when it tells and the caller may ask.
pub(super) async fn known_proxy(cluster: &Cluster) -> Option<String> {
    if let Some(proxy) = cluster.proxy() {
        return Some(proxy.to_string());
    }
    let answer = cluster.client().admin().status(with_deadline(StatusRequest {})).await.ok()?;
    let detail: Value = serde_json::from_slice(&answer.into_inner().detail).ok()?;
    let proxies: Vec<String> = serde_json::from_value(detail.get("proxies")?.clone()).ok()?;
    first(&proxies)
}

/// The first address that is one, with its port.
fn first(proxies: &[String]) -> Option<String> {
    proxies.iter().find_map(|proxy| HostPort::parse(proxy, 443).ok()).map(|one| one.to_string())
}

/// The link. Browsers do not send the part behind the `#`, so that the proxy never sees it.
fn link(invitation: &Invitation, proxy: Option<&str>) -> String {
    let proxy = proxy.unwrap_or(UNKNOWN_PROXY);
    let pins: String = invitation.ca_pins.iter().map(|pin| format!("&pin={pin}")).collect();
    format!("https://{proxy}/web/invite#token={}{pins}", invitation.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_carry_token_and_every_pin() {
        let invitation = Invitation {
            user: "alice".into(),
            token: "id.secret".into(),
            expires: 0,
            ca_pins: vec!["sha256:00".into(), "sha256:11".into()],
            proxies: vec!["".into(), "example.com".into()],
        };
        let proxy = first(&invitation.proxies);
        assert_eq!(
            link(&invitation, proxy.as_deref()),
            "https://example.com:443/web/invite#token=id.secret&pin=sha256:00&pin=sha256:11"
        );
        assert!(link(&invitation, None).starts_with("https://PROXY:PORT/web/invite#"));
    }
}
