//! The audit log.

use access_client::proto::SearchRequest;
use access_client::with_deadline;
use access_core::document::nearest;
use access_daemon::{Exit, OutputFormat, Table, note, print_value};
use serde_json::{Map, Value};

use crate::cli::SearchArgs;
use crate::cluster::{Cluster, clock};
use access_daemon::client_exit;

/// How many events are asked for at once.
const PAGE: u32 = 500;

/// What every event has, and a table shows in columns of its own or not at all.
const ENVELOPE: [&str; 8] =
    ["event", "code", "time", "uid", "cluster_name", "writer", "seq", "user"];

pub(crate) async fn search(cluster: &Cluster, args: SearchArgs) -> Result<(), Exit> {
    check_types(&args.types)?;
    let now = clock().now();
    let moment = |moment: Option<crate::cli::Moment>| {
        moment.map_or(0, |moment| moment.resolve(now).as_millis())
    };
    let mut request = SearchRequest {
        from: moment(args.from),
        to: moment(args.to),
        types: args.types,
        user: args.user.unwrap_or_default(),
        page_size: 0,
        page_token: String::new(),
        newest_first: true,
        query: args.query.unwrap_or_default(),
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut events: Vec<Map<String, Value>> = Vec::new();
    loop {
        let missing = limit.saturating_sub(events.len());
        request.page_size = u32::try_from(missing).unwrap_or(PAGE).min(PAGE);
        let answer = cluster.client().audit().search(with_deadline(request.clone())).await;
        let answer = answer.map_err(client_exit)?.into_inner();
        for json in answer.events.iter().take(missing) {
            events.push(serde_json::from_slice(json).map_err(Exit::failed)?);
        }
        if answer.next_page_token.is_empty() {
            break;
        }
        if events.len() >= limit {
            note(&format!("the newest {limit} events are shown: --limit shows more"));
            break;
        }
        request.page_token = answer.next_page_token;
    }
    if args.format != OutputFormat::Text {
        return print_value(&events, args.format);
    }
    let mut table = Table::new(["Time", "Event", "Code", "User", "Details"]);
    for event in &events {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        table.row([text("time"), text("event"), text("code"), text("user"), &details(event)]);
    }
    table.print()
}

/// The fields of an event's own kind on one line.
fn details(event: &Map<String, Value>) -> String {
    let own = event.iter().filter(|(name, _)| !ENVELOPE.contains(&name.as_str()));
    let own = own.map(|(name, value)| match value {
        Value::String(text) if !text.is_empty() && !text.contains([' ', '"']) => {
            format!("{name}={text}")
        }
        other => format!("{name}={other}"),
    });
    own.collect::<Vec<_>>().join(" ")
}

/// Names that are near a known one were mistyped; others may be of a newer version.
fn check_types(types: &[String]) -> Result<(), Exit> {
    let known: Vec<_> = access_core::audit::kinds().map(|kind| kind.name).collect();
    for name in types.iter().filter(|name| !known.contains(&name.as_str())) {
        match nearest(name, known.iter().copied()) {
            Some(near) => {
                return Err(Exit::usage(format!(
                    "--type: there is no event {name:?}, did you mean {near:?}?"
                )));
            }
            None => note(&format!("this version knows no event {name:?}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn details_are_what_the_columns_do_not_show() {
        let event = json!({
            "event": "exec", "code": "T3002I", "time": "t", "uid": "u", "cluster_name": "c",
            "writer": "w", "seq": 1, "user": "alice", "login": "root", "command": "ls -l",
            "exitCode": 0, "success": true,
        });
        assert_eq!(
            details(event.as_object().unwrap()),
            "login=root command=\"ls -l\" exitCode=0 success=true"
        );
    }

    #[test]
    fn a_mistyped_event_is_answered_with_the_nearest() {
        let err = check_types(&["session.strat".into()]).unwrap_err().to_string();
        assert!(err.contains("did you mean \"session.start\"?"), "{err}");
        check_types(&["session.start".into(), "something.of.tomorrow".into()]).unwrap();
    }
}
