//! Databases.

use access_client::types::{DbSpec, Health, HealthStatus};
use access_daemon::{Exit, OutputFormat, Table, print_value};

use super::{labels_text, parse_labels};
use crate::cluster::Cluster;

pub(crate) async fn ls(
    cluster: &Cluster,
    labels: &[String],
    format: OutputFormat,
) -> Result<(), Exit> {
    let databases = cluster.list::<DbSpec>(&parse_labels(labels)?).await?;
    if format != OutputFormat::Text {
        return print_value(&databases, format);
    }
    let mut table = Table::new(["Database", "Protocol", "URI", "Labels", "Host", "Health"]);
    for database in &databases {
        let spec = &database.spec;
        let host = match spec.hostname.as_str() {
            "" => spec.host.as_str(),
            hostname => hostname,
        };
        table.row([
            &database.metadata.name,
            spec.protocol.as_str(),
            &spec.uri,
            &labels_text(&database.metadata.labels),
            host,
            &health(&spec.health),
        ]);
    }
    table.print()
}

fn health(health: &Health) -> String {
    match (health.status, health.message.as_str()) {
        (status, "") | (status @ HealthStatus::Healthy, _) => status.to_string(),
        (status, why) => format!("{status}: {why}"),
    }
}
