//! Hosts that are reached by SSH.

use access_client::types::NodeSpec;
use access_daemon::{Exit, OutputFormat, Table, print_value};

use super::{labels_text, parse_labels};
use crate::cluster::Cluster;

pub(crate) async fn ls(
    cluster: &Cluster,
    labels: &[String],
    format: OutputFormat,
) -> Result<(), Exit> {
    let nodes = cluster.list::<NodeSpec>(&parse_labels(labels)?).await?;
    if format != OutputFormat::Text {
        return print_value(&nodes, format);
    }
    let mut table = Table::new(["Node", "Hostname", "Labels", "Version", "Host id"]);
    for node in &nodes {
        table.row([
            node.metadata.name.clone(),
            node.spec.hostname.clone(),
            labels_text(&node.metadata.labels),
            node.spec.version.clone(),
            node.spec.host.to_string(),
        ]);
    }
    table.print()
}
