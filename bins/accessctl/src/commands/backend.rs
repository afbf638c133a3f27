//! The store that the cluster's state is in.

use access_backend_sql::{Regions, Survive};
use access_client::proto::StatusRequest;
use access_client::with_deadline;
use access_daemon::config::StorageType;
use access_daemon::{Config, Exit, OutputFormat, client_exit, note, print, print_value};
use auth_daemon::StoreAt;
use serde_json::{Map, Value};

use super::status::plain;
use crate::cli::{Global, MultiRegionArgs, SurviveArg};
use crate::cluster::{Cluster, clock};

pub(crate) async fn status(cluster: &Cluster, format: OutputFormat) -> Result<(), Exit> {
    let answer = cluster.client().admin().status(with_deadline(StatusRequest {})).await;
    let answer = answer.map_err(client_exit)?.into_inner();
    let detail: Value = serde_json::from_slice(&answer.detail)
        .map_err(|err| Exit::failed(format!("the answer cannot be read: {err}")))?;
    let store = detail.get("backend").and_then(Value::as_object).cloned().unwrap_or_default();
    match format {
        OutputFormat::Text => print(&text(&store)),
        _ => print_value(&store, format),
    }
}

fn text(store: &Map<String, Value>) -> String {
    let of = |name: &str| match store.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let millis = |name: &str, per: f64| match store.get(name).and_then(Value::as_f64) {
        Some(value) => format!("{:.1} ms", value / per),
        None => String::new(),
    };
    let regions = store.get("regions").and_then(Value::as_array).into_iter().flatten();
    let regions = regions.map(|region| {
        let is = |what: &str| region.get(what).and_then(Value::as_bool).unwrap_or(false);
        let name = region.get("name").and_then(Value::as_str).unwrap_or_default();
        match (is("primary"), is("secondary")) {
            (true, _) => format!("{name} (primary)"),
            (_, true) => format!("{name} (secondary)"),
            _ => name.to_owned(),
        }
    });
    let days = of("event_days");
    let lines = [
        ("Engine", of("engine")),
        ("Version", of("version")),
        ("Place", of("place")),
        ("Schema", of("schema_version")),
        ("Rows", of("rows")),
        ("Regions", regions.collect::<Vec<_>>().join(", ")),
        ("Survives", of("survival_goal")),
        ("Latency", millis("latency_us", 1000.0)),
        ("Feed lag", millis("feed_lag_ms", 1.0)),
        ("Watches", of("watches")),
        ("Waiting", of("pending_writes")),
        ("Events kept", if days.is_empty() { days } else { format!("{days} days") }),
    ];
    let lines = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let lines = lines.map(|(name, value)| format!("{:<13}{value}\n", format!("{name}:")));
    plain(&lines.collect::<String>())
}

pub(crate) async fn multi_region(global: &Global, args: MultiRegionArgs) -> Result<(), Exit> {
    let regions = Regions {
        primary: args.primary,
        others: args.regions,
        secondary: args.secondary,
        survive: match args.survive {
            SurviveArg::Region => Survive::Region,
            SurviveArg::Zone => Survive::Zone,
        },
    };
    regions.check().map_err(Exit::usage)?;
    let config = global.config.as_deref().map(Config::load).transpose().map_err(Exit::usage)?;
    let conn = match &config {
        Some(config) if config.access.storage.engine == StorageType::Cockroachdb => {
            match StoreAt::of(config, &config.data_dir(), clock())? {
                StoreAt::Sql(options) => Some(options.conn),
                _ => None,
            }
        }
        Some(_) => {
            return Err(Exit::usage(
                "regions are CockroachDB's: storage.type of the configuration is another engine",
            ));
        }
        None => None,
    };
    if !args.apply {
        let database = conn.as_ref().map_or(args.database.as_str(), |conn| conn.database());
        let statements = regions.statements(database);
        return print(&statements.iter().map(|text| format!("{text};\n")).collect::<String>());
    }
    let conn = conn.ok_or_else(|| {
        Exit::usage("--apply needs --config FILE: its storage section says where the database is")
    })?;
    let told = |text: &str| note(&format!("done: {text}"));
    regions.apply(&conn, told).await.map_err(Exit::failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_shows_what_an_engine_has() {
        let store = json!({
            "engine": "cockroachdb", "version": "v25\u{1b}", "rows": 3, "latency_us": 1500,
            "feed_lag_ms": 12, "survival_goal": "region", "event_days": 365,
            "regions": [
                { "name": "a", "primary": true, "secondary": false },
                { "name": "b", "primary": false, "secondary": true },
            ],
        });
        let text = text(store.as_object().unwrap());
        assert!(text.contains("Regions:     a (primary), b (secondary)\n"), "{text}");
        assert!(text.contains("Latency:     1.5 ms\nFeed lag:    12.0 ms\n"), "{text}");
        assert!(text.contains("Events kept: 365 days\n") && !text.contains("Place"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
