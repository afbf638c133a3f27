//! Join tokens.

use std::collections::HashMap;

use access_client::proto::{self, CreateTokenRequest};
use access_client::types::TokenSpec;
use access_client::with_deadline;
use access_core::Timestamp;
use access_core::identity::Service;
use access_core::policy::ApiKind;
use access_daemon::{Exit, OutputFormat, Table, note, print, print_value};
use serde_json::json;

use super::invitation::known_proxy;
use super::status::pins_value;
use super::{labels_text, moment, moment_or_never, seconds};
use crate::cli::AddTokenArgs;
use crate::cluster::Cluster;
use access_daemon::client_exit;

pub(crate) async fn add(cluster: &Cluster, args: AddTokenArgs) -> Result<(), Exit> {
    let request = CreateTokenRequest {
        types: args.types.iter().map(ToString::to_string).collect(),
        ttl_seconds: seconds(args.ttl)?,
        uses: args.uses.map_or(0, std::num::NonZeroU32::get),
        names: args.names,
        labels: args.labels.into_iter().map(|pair| (pair.0, pair.1)).collect(),
    };
    let answer = cluster.client().admin().create_token(with_deadline(request)).await;
    let token = answer.map_err(client_exit)?.into_inner();
    match args.format {
        OutputFormat::Text => {
            let proxy = known_proxy(cluster).await;
            print(&text(&token, &args.types, proxy.as_deref()))
        }
        format => print_value(&value(&token), format),
    }
}

fn value(token: &proto::Token) -> serde_json::Value {
    json!({
        "token": token.token,
        "types": token.types,
        "expires": Timestamp::from_millis(token.expires),
        "ca_pin": pins_value(&token.ca_pins),
    })
}

fn text(token: &proto::Token, types: &[Service], proxy: Option<&str>) -> String {
    let pins: String = token.ca_pins.iter().map(|pin| format!(" --ca-pin={pin}")).collect();
    let join = format!("--token={}{pins}", token.token);
    let mut text = format!(
        "The token is good until {}, for: {}.\n\n  {}\n",
        moment(Timestamp::from_millis(token.expires)),
        token.types.join(", "),
        token.token
    );
    if types.iter().any(|kind| *kind != Service::Proxy) {
        let proxy = proxy.unwrap_or("PROXY:PORT");
        text.push_str(&format!("\nStart the agent with\n\n  agent --proxy={proxy} {join}\n"));
    }
    if types.contains(&Service::Proxy) {
        text.push_str(&format!(
            "\nStart the proxy with\n\n  proxy --auth-server=AUTH:3025 {join}\n"
        ));
    }
    text
}

pub(crate) async fn ls(cluster: &Cluster, format: OutputFormat) -> Result<(), Exit> {
    let tokens = cluster.list::<TokenSpec>(&HashMap::new()).await?;
    if format != OutputFormat::Text {
        return print_value(&tokens, format);
    }
    let mut table = Table::new(["Token", "Types", "Uses left", "Names", "Labels", "Expires"]);
    for token in &tokens {
        let spec = &token.spec;
        let types: Vec<_> = spec.types.iter().map(ToString::to_string).collect();
        let names: Vec<_> = spec.names.iter().map(ToString::to_string).collect();
        table.row([
            token.metadata.name.clone(),
            types.join(","),
            spec.uses_left.map_or("any".into(), |uses| uses.to_string()),
            if names.is_empty() { "any".into() } else { names.join(",") },
            labels_text(&spec.labels),
            moment_or_never(token.metadata.expires),
        ]);
    }
    table.print()
}

pub(crate) async fn rm(cluster: &Cluster, tokens: &[String]) -> Result<(), Exit> {
    for token in tokens {
        let name = public_name(token);
        cluster.delete(ApiKind::Token, name).await?;
        note(&format!("token {name} has been removed"));
    }
    Ok(())
}

/// A token's name, also of one that was given with its secret, which the service need not see.
fn public_name(token: &str) -> &str {
    token.split_once('.').map_or(token, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> proto::Token {
        proto::Token {
            token: "id.secret".into(),
            types: vec!["node".into()],
            expires: 1_767_323_045_000,
            ca_pins: vec!["sha256:00".into()],
        }
    }

    #[test]
    fn the_json_has_the_four_fields_and_no_other() {
        let value = value(&token());
        let expected = json!({
            "token": "id.secret",
            "types": ["node"],
            "expires": "2026-01-02T03:04:05Z",
            "ca_pin": "sha256:00",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn the_text_has_a_command_to_paste() {
        let for_node = text(&token(), &[Service::Node], Some("example.com:443"));
        let command = "agent --proxy=example.com:443 --token=id.secret --ca-pin=sha256:00\n";
        assert!(for_node.contains(command), "{for_node}");
        assert!(!for_node.contains("Start the proxy"));
        let for_proxy = text(&token(), &[Service::Proxy], None);
        assert!(
            !for_proxy.contains("Start the agent") && for_proxy.contains("proxy --auth-server=")
        );
    }

    #[test]
    fn the_secret_is_not_needed_to_remove_a_token() {
        assert_eq!(public_name("id.secret"), "id");
        assert_eq!(public_name("id"), "id");
    }
}
