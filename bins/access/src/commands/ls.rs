//! What can be reached.

use std::collections::HashMap;

use access_client::proto::ListRequest;
use access_client::types::NodeDocument;
use access_client::with_deadline;
use access_daemon::{Exit, OutputFormat, Table, print_value};

use crate::cli::Global;
use crate::context::Session;
use access_daemon::client_exit;

pub(crate) async fn ls(
    global: &Global,
    labels: &[String],
    format: OutputFormat,
) -> Result<(), Exit> {
    let session = Session::open(global)?;
    let labels = parse_labels(labels)?;
    let client = session.client()?;
    let mut nodes = Vec::new();
    let mut page_token = String::new();
    loop {
        let labels = labels.clone();
        let request =
            ListRequest { kind: "node".into(), page_token, labels, lately: true, page_size: 0 };
        let answer = client.resources().list(with_deadline(request)).await;
        let answer = answer.map_err(client_exit)?.into_inner();
        for document in answer.documents {
            nodes.push(NodeDocument::from_json(&document.json).map_err(Exit::failed)?);
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    match format {
        OutputFormat::Text => {
            let mut table = Table::new(["Node", "Host", "Labels"]);
            for node in &nodes {
                let labels = node.metadata.labels.iter();
                let labels: Vec<_> =
                    labels.map(|(name, value)| format!("{name}={value}")).collect();
                table.row([&node.metadata.name, &node.spec.hostname, &labels.join(",")]);
            }
            table.print()
        }
        _ => print_value(&nodes, format),
    }
}

pub(crate) fn parse_labels(labels: &[String]) -> Result<HashMap<String, String>, Exit> {
    labels
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|label| !label.is_empty())
        .map(|label| match label.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            None => Err(Exit::usage(format!("{label:?} is no label: write NAME=VALUE"))),
        })
        .collect()
}
