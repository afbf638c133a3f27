//! Documents, printed.

use std::collections::HashMap;

use access_client::proto::Document as Carried;
use access_core::document::Metadata;
use access_daemon::{Exit, OutputFormat, Table, print_document, print_value};
use serde_json::Value;

use super::{labels_text, moment_or_never};
use crate::cli::{GetArgs, GetFormat};
use crate::cluster::Cluster;
use crate::documents;
use crate::kinds::Reference;

pub(crate) async fn get(cluster: &Cluster, args: &GetArgs) -> Result<(), Exit> {
    let mut found = Vec::new();
    for Reference { kind, name } in &args.what {
        match name {
            Some(name) => found.push(cluster.get_carried(*kind, name).await?),
            None => found.extend(cluster.list_carried(*kind, &HashMap::new()).await?),
        }
    }
    let values: Vec<Value> = found.iter().map(value_of).collect::<Result<_, _>>()?;
    match (args.format, args.what.as_slice(), values.as_slice()) {
        (GetFormat::Text, _, _) => table(&found, &values),
        (GetFormat::Json, [Reference { name: Some(_), .. }], [one]) => {
            print_value(one, OutputFormat::Json)
        }
        (GetFormat::Json, _, _) => print_value(&values, OutputFormat::Json),
        (GetFormat::Yaml, _, _) => {
            print_document(&documents::write_many(&values).map_err(Exit::failed)?)
        }
    }
}

fn value_of(carried: &Carried) -> Result<Value, Exit> {
    serde_json::from_slice(&carried.json).map_err(|err| {
        Exit::failed(format!("{} {} cannot be read: {err}", carried.kind, carried.name))
    })
}

fn table(found: &[Carried], values: &[Value]) -> Result<(), Exit> {
    let mut table = Table::new(["Kind", "Name", "Labels", "Expires"]);
    for (carried, value) in found.iter().zip(values) {
        let metadata = value.get("metadata").cloned().unwrap_or_default();
        let metadata: Metadata = serde_json::from_value(metadata).map_err(Exit::failed)?;
        table.row([
            carried.kind.clone(),
            metadata.name,
            labels_text(&metadata.labels),
            moment_or_never(metadata.expires),
        ]);
    }
    table.print()
}
