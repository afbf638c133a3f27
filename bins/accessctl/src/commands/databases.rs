//! Databases.

use access_client::types::{DbServer, DbSpec, Health, HealthStatus};
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
        let (hosts, health) = match &spec.host {
            Some(host) => (called(&spec.hostname, host.as_str()).to_owned(), health(&spec.health)),
            None => (hosts(&spec.servers), health_of_all(&spec.servers)),
        };
        table.row([
            &database.metadata.name,
            spec.protocol.as_str(),
            &spec.uri,
            &labels_text(&database.metadata.labels),
            &hosts,
            &health,
        ]);
    }
    table.print()
}

fn called<'a>(hostname: &'a str, host: &'a str) -> &'a str {
    if hostname.is_empty() { host } else { hostname }
}

fn hosts(servers: &[DbServer]) -> String {
    let names: Vec<_> =
        servers.iter().map(|server| called(&server.hostname, server.host.as_str())).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(",") }
}

fn health(health: &Health) -> String {
    match (health.status, health.message.as_str()) {
        (status, "") | (status @ HealthStatus::Healthy, _) => status.to_string(),
        (status, why) => format!("{status}: {why}"),
    }
}

/// What the agents say that serve one database: in one word when they agree.
fn health_of_all(servers: &[DbServer]) -> String {
    let Some((first, rest)) = servers.split_first() else {
        return "unknown: no agent serves it".to_owned();
    };
    if rest.iter().all(|server| server.health.status == first.health.status) {
        return health(&first.health);
    }
    let each = servers.iter().map(|server| {
        let host = called(&server.hostname, server.host.as_str());
        format!("{host}: {}", health(&server.health))
    });
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use access_core::HostId;

    use super::*;

    fn server(hostname: &str, status: HealthStatus, message: &str) -> DbServer {
        DbServer {
            host: HostId::new("h-1").unwrap(),
            hostname: hostname.into(),
            version: String::new(),
            role_schema: 0,
            health: Health { status, message: message.into(), checked_at: None },
        }
    }

    #[test]
    fn agents_that_agree_say_it_once() {
        let up = |name| server(name, HealthStatus::Healthy, "");
        let down = server("b", HealthStatus::Unhealthy, "refused");
        assert_eq!(
            (hosts(&[]), health_of_all(&[])),
            ("-".into(), "unknown: no agent serves it".into())
        );
        let both = [up("a"), up("")];
        assert_eq!((hosts(&both), health_of_all(&both)), ("a,h-1".into(), "healthy".into()));
        let one = [up("a"), down.clone()];
        assert_eq!(health_of_all(&one), "a: healthy; b: unhealthy: refused");
        assert_eq!(health_of_all(&[down]), "unhealthy: refused");
    }
}
