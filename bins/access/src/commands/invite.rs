//! Invitations.

use access_client::proto::RedeemInviteRequest;
use access_client::with_deadline;
use access_core::identity::SpkiPin;
use access_daemon::{
    Exit, Home, Profile, client_exit, parse_proxy, print, read_new_secret, read_secret,
};

use super::login::Contact;
use crate::cli::Global;
use crate::profile;

/// An invitation link: `https://PROXY/web/invite#token=…&pin=…`. The part behind the `#` is not
/// sent to the proxy by browsers.
struct Link {
    proxy: String,
    token: String,
    pins: Vec<SpkiPin>,
}

pub(crate) async fn accept(global: &Global, url: &str) -> Result<(), Exit> {
    let typed;
    let url = if url == "-" {
        typed = read_secret("Invitation link: ")?;
        typed.as_str()
    } else {
        url
    };
    let link = Link::parse(url)?;
    let proxy = parse_proxy(&link.proxy)?;
    let contact = Contact::make(proxy, link.pins).await?;
    let password = read_new_secret(&format!("Choose a password for {}: ", contact.cluster))?;
    let request = RedeemInviteRequest { token: link.token, password: password.to_string() };
    let answer = contact.client.entry().redeem_invite(with_deadline(request)).await;
    let user = answer.map_err(client_exit)?.into_inner().user;
    let home = Home::open(global.home.clone())?;
    let text = format!(
        "The password of {user} is set. Next:\n\n  access login --proxy={} --user={user}\n",
        contact.proxy
    );
    profile::save_profile(
        &home,
        &Profile { proxy: contact.proxy, cluster: contact.cluster, user, ca_pins: contact.pins },
    )?;
    print(&text)
}

impl Link {
    fn parse(url: &str) -> Result<Self, Exit> {
        let error = || {
            Exit::usage("this is no invitation link: it looks like https://HOST/web/invite#token=…")
        };
        let (address, secrets) = url.trim().split_once('#').ok_or_else(error)?;
        let rest = address.strip_prefix("https://").ok_or_else(error)?;
        let proxy = rest.split('/').next().unwrap_or_default().to_owned();
        let mut link = Self { proxy, token: String::new(), pins: Vec::new() };
        for part in secrets.split('&') {
            match part.split_once('=') {
                Some(("token", token)) => link.token = token.to_owned(),
                Some(("pin", pin)) => link.pins.push(pin.parse().map_err(Exit::usage)?),
                _ => {}
            }
        }
        if link.token.is_empty() { Err(error()) } else { Ok(link) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read() {
        let pin = SpkiPin::of_spki(b"x");
        let link =
            Link::parse(&format!("https://[::1]:3080/web/invite#token=abc&pin={pin}")).unwrap();
        assert_eq!((link.proxy.as_str(), link.token.as_str()), ("[::1]:3080", "abc"));
        assert_eq!(link.pins, [pin]);
        for bad in ["", "https://a/web/invite", "http://a#token=b", "https://a#pin=sha256:zz"] {
            assert!(Link::parse(bad).is_err(), "{bad}");
        }
    }
}
