//! From the configuration to a host's place in the cluster.

use std::path::Path;

use access_agent::{AuthRoute, HostOptions, JoinToken};
use access_client::HostPort;
use access_core::ClusterName;

use crate::config::{Config, OneOrMany};
use crate::exit::Exit;

/// The longest token file that is read, in bytes.
const MAX_TOKEN_FILE: u64 = 4096;

/// What a host that joins is told: where its state is, the way to Auth, its name, the token.
///
/// # Errors
/// [`Exit`] names the field that is missing or holds what it cannot.
pub fn host_options(config: &Config, data_dir: &Path) -> Result<HostOptions, Exit> {
    let common = &config.access;
    let route = match (&common.auth_server, &common.proxy_server) {
        (Some(auth), None) => AuthRoute::Direct(addresses("access.auth_server", auth, 3025)?),
        (None, Some(proxy)) => AuthRoute::Proxies(addresses("access.proxy_server", proxy, 443)?),
        (None, None) => {
            return Err(Exit::usage(
                "which cluster? set access.proxy_server or access.auth_server to HOST:PORT",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(Exit::usage(
                "access.proxy_server and access.auth_server are both set: choose one",
            ));
        }
    };
    let nodename = match &common.nodename {
        Some(name) => name.clone(),
        None => host_name()?,
    };
    let mut options = HostOptions::new(data_dir, route, nodename);
    if let Some(pins) = &common.ca_pin {
        options.pins = pins
            .as_slice()
            .iter()
            .map(|pin| pin.parse().map_err(|err| Exit::usage(format!("access.ca_pin: {err}"))))
            .collect::<Result<_, _>>()?;
    }
    if let Some(params) = &common.join_params {
        options.token = Some(token(&params.token_name)?);
    }
    if let Some(name) = &config.auth_service.cluster_name {
        options.cluster = Some(ClusterName::new(name).map_err(Exit::usage)?);
    }
    Ok(options)
}

/// The name that the system has.
///
/// # Errors
/// [`Exit`] when it has none that can be one in the cluster.
pub fn host_name() -> Result<String, Exit> {
    let name = nix::unistd::gethostname()
        .map_err(|err| Exit::failed(format!("the system's name cannot be read: {err}")))?;
    name.into_string().map_err(|_| Exit::usage("the system's name is no text: set access.nodename"))
}

fn addresses(field: &str, list: &OneOrMany, port: u16) -> Result<Vec<HostPort>, Exit> {
    let mut addresses = Vec::new();
    for text in list.as_slice() {
        let address =
            HostPort::parse(text, port).map_err(|err| Exit::usage(format!("{field}: {err}")))?;
        // Twice the same is one way.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(Exit::usage(format!("{field} is an empty list: write HOST:PORT")));
    }
    Ok(addresses)
}

/// The token, or what is in the file that is named. A value with a slash is a path.
fn token(text: &str) -> Result<JoinToken, Exit> {
    if !text.contains('/') {
        return Ok(JoinToken::new(text));
    }
    let error = |err: std::io::Error| {
        Exit::usage(format!("access.join_params.token_name: cannot read {text}: {err}"))
    };
    if std::fs::metadata(text).map_err(error)?.len() > MAX_TOKEN_FILE {
        return Err(error(std::io::Error::other("it is too large to hold a token")));
    }
    Ok(JoinToken::new(std::fs::read_to_string(text).map_err(error)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_is_one_address_or_a_list() {
        let route = |yaml: &str| {
            let config = Config::parse(yaml, Path::new("x.yaml")).unwrap();
            host_options(&config, Path::new("/x")).map(|options| options.route)
        };
        let direct = |texts: &[&str]| {
            AuthRoute::Direct(texts.iter().map(|text| text.parse().unwrap()).collect())
        };
        let one = route("access: { nodename: n, auth_server: \"[::1]:3026\" }").unwrap();
        assert_eq!(one, direct(&["[::1]:3026"]));
        let many = "access:\n  nodename: n\n  auth_server:\n  - a.example\n  - \"[2001:db8::1]\"\n  \
                    - a.example:3025\n  - b.example:1\n";
        assert_eq!(
            route(many).unwrap(),
            direct(&["a.example:3025", "[2001:db8::1]:3025", "b.example:1"])
        );
        let empty = route("access: { nodename: n, auth_server: [] }").unwrap_err();
        assert!(empty.to_string().contains("access.auth_server is an empty list"), "{empty}");
        let wrong = route("access: { nodename: n, auth_server: [a, \"b:c\"] }").unwrap_err();
        assert!(wrong.to_string().contains("access.auth_server: \"b:c\" is no address"), "{wrong}");
    }
}
