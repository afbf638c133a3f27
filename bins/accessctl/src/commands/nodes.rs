//! Hosts that are reached by SSH.

use std::collections::HashMap;

use access_client::types::NodeSpec;
use access_daemon::{Exit, OutputFormat, Table, print_value};

use super::labels_text;
use crate::cli::Pair;
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

fn parse_labels(labels: &[String]) -> Result<HashMap<String, String>, Exit> {
    labels
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|label| !label.trim().is_empty())
        .map(|label| label.parse::<Pair>().map(|pair| (pair.0, pair.1)).map_err(Exit::usage))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_apart_or_together() {
        let labels = parse_labels(&["a=b,c=d".into(), "e=f=g".into()]).unwrap();
        assert_eq!((labels["c"].as_str(), labels["e"].as_str()), ("d", "f=g"));
        assert!(parse_labels(&["prod".into()]).unwrap_err().to_string().contains("NAME=VALUE"));
    }
}
