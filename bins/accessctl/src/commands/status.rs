//! How the cluster is doing.

use access_client::proto::StatusRequest;
use access_client::with_deadline;
use access_daemon::{Exit, OutputFormat, print, print_value};
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use access_daemon::client_exit;

pub(crate) async fn status(cluster: &Cluster, format: OutputFormat) -> Result<(), Exit> {
    let answer = cluster.client().admin().status(with_deadline(StatusRequest {})).await;
    let answer = answer.map_err(client_exit)?.into_inner();
    let detail: Map<String, Value> = serde_json::from_slice(&answer.detail)
        .map_err(|err| Exit::failed(format!("the answer cannot be read: {err}")))?;
    match format {
        OutputFormat::Text => {
            print(&text(&answer.cluster_name, &answer.version, &answer.ca_pins, &detail))
        }
        _ => {
            let mut value = Map::new();
            value.insert("cluster_name".into(), answer.cluster_name.into());
            value.insert("version".into(), answer.version.into());
            value.insert("ca_pin".into(), pins_value(&answer.ca_pins));
            value.extend(detail);
            print_value(&value, format)
        }
    }
}

/// Pins as they are written elsewhere too: one text, or a list while the authority rotates.
pub(super) fn pins_value(pins: &[String]) -> Value {
    match pins {
        [one] => json!(one),
        pins => json!(pins),
    }
}

fn text(cluster: &str, version: &str, pins: &[String], detail: &Map<String, Value>) -> String {
    let detail = Value::Object(detail.clone());
    let at = |pointer: &str| match detail.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let mut lines = vec![
        ("Cluster", cluster.to_owned()),
        ("Version", version.to_owned()),
        ("CA pin", pins.join(", ")),
        ("Created", at("/created_at")),
        ("Store", at("/backend/engine")),
        ("Proxies", at("/proxies")),
    ];
    let counts = detail.pointer("/counts").and_then(Value::as_object);
    let counts = counts.into_iter().flatten().map(|(kind, count)| format!("{count} {kind}"));
    lines.push(("Documents", counts.collect::<Vec<_>>().join(", ")));
    for authority in detail.pointer("/authorities").and_then(Value::as_array).into_iter().flatten()
    {
        let of = |name: &str| authority.get(name).map(Value::to_string).unwrap_or_default();
        let kind = authority.get("kind").and_then(Value::as_str).unwrap_or_default();
        let keys = format!("{kind}: {} SSH, {} TLS keys trusted", of("ssh_keys"), of("tls_roots"));
        lines.push(("Authority", keys));
    }
    let lines = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let lines = lines.map(|(name, value)| format!("{:<11}{value}\n", format!("{name}:")));
    plain(&lines.collect::<String>())
}

/// Text without control characters but line feeds: what comes from the cluster must not steer a
/// terminal.
pub(super) fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pin_is_a_text_and_several_are_a_list() {
        assert_eq!(pins_value(&["a".into()]), json!("a"));
        assert_eq!(pins_value(&["a".into(), "b".into()]), json!(["a", "b"]));
    }

    #[test]
    fn the_text_shows_what_is_known_and_steers_no_terminal() {
        let detail = json!({
            "backend": { "engine": "sqlite\u{1b}[2J" },
            "counts": { "user": 2, "role": 5 },
            "authorities": [{ "kind": "host", "ssh_keys": 1, "tls_roots": 2 }],
            "proxies": ["a:1", "b:2"],
        });
        let text = text("c.example", "1", &["p".into()], detail.as_object().unwrap());
        assert!(text.contains("Documents: 2 user, 5 role\n"), "{text}");
        assert!(text.contains("Proxies:   a:1, b:2\n"), "{text}");
        assert!(text.contains("host: 1 SSH, 2 TLS"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
