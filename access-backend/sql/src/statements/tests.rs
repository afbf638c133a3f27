//! Every statement of each dialect, held against a file: what is sent changes in view, or not at all.

use std::path::Path;

use access_backend::{EventOrder, EventQuery, StoredEvent, UnixMillis};

use super::{Statements, ask, cockroachdb, postgres, tx};
use crate::Engine;
use crate::events;
use crate::pool::BANNER;
use crate::schema::{DONE, FOUND, VERSION};

fn listed(engine: Engine) -> Vec<(&'static str, String)> {
    // Without `..`: a statement that is added is listed, or this does not compile.
    let Statements {
        session,
        migrations,
        migrate_begin,
        migrate_end,
        get,
        page,
        page_lately,
        look,
        begin_read,
        create,
        put,
        update,
        delete,
        delete_if,
        keep_alive,
        keep_alive_if,
        delete_range,
        delete_range_lock,
        sweep,
        batch_check,
        batch_hold,
        batch,
        batch_put,
        batch_delete,
        end_session,
        session_there,
        written,
        append_events,
        append_blocks,
        last_seq,
        delete_events,
        delete_blocks,
    } = engine.statements();
    let mut all = vec![
        ("of each connection, first", BANNER),
        ("of each connection", session),
        ("of a start: what is there", FOUND),
        ("of a start: which version", VERSION),
        ("of a first start: before", migrate_begin),
    ];
    all.extend(engine.first().map(|text| ("of a first start", text)));
    all.extend(migrations.iter().map(|step| ("a step of the schema", *step)));
    all.extend([
        ("of a first start: after each step", DONE),
        ("of a first start: after", *migrate_end),
        ("of a start, and now and then: the clock", ask::CLOCK),
        ("of several statements", tx::BEGIN),
        ("of several statements", tx::COMMIT),
        ("of several statements", tx::ROLLBACK),
        ("get", get),
        ("range, and a watch's snapshot", page),
        ("a list that may be some seconds old", page_lately),
        ("after a refusal", look),
        ("before a snapshot", begin_read),
        ("create", create),
        ("put", put),
        ("update", update),
        ("delete", delete),
        ("delete_if", delete_if),
        ("keep_alive", keep_alive),
        ("keep_alive with a revision", keep_alive_if),
        ("before delete_range", delete_range_lock.unwrap_or_default()),
        ("delete_range", delete_range),
        ("sweep", sweep),
        ("before batch", batch_hold.unwrap_or_default()),
        ("batch", batch.unwrap_or_default()),
        ("batch: conditions", batch_check),
        ("batch: puts", batch_put),
        ("batch: deletes", batch_delete),
        ("after a lost connection: end its session", end_session),
        ("after a lost connection: until it is gone", session_there),
        ("after a lost connection: what it wrote", written),
        ("append", append_events),
        ("append of many", append_blocks),
        ("last_seq", last_seq),
        ("delete_before", delete_events),
        ("delete_before: of many", delete_blocks),
    ]);
    all.extend(match engine {
        Engine::Postgres => vec![
            ("migrating: who else is there", postgres::OTHERS),
            ("of the feed's connection", postgres::log::LISTEN),
            ("feed: whether the log is of this server", postgres::log::FOREIGN),
            ("feed: if it is not", postgres::log::BEGIN_ANEW),
            ("feed, and a watch: where the log stands", postgres::log::STATE),
            ("feed: what is new", postgres::log::POLL),
            ("feed: wakes other processes", postgres::log::NOTIFY),
            ("feed: held back by a transaction", postgres::log::SNAPSHOT),
            ("feed: whose may write", postgres::log::WRITERS),
            ("feed: what they are in", postgres::log::THEIR_XIDS),
            ("watch from a position", postgres::log::SINCE),
            ("sweep: trims the log", postgres::log::TRIM),
        ],
        Engine::CockroachDb => vec![
            ("migrating: who else is there", cockroachdb::OTHERS),
            ("of a start: how long events are kept", cockroachdb::retention::FOUND),
            ("of a start: if that is not what the configuration says", cockroachdb::retention::SET),
            ("of a start: the same for expired rows", cockroachdb::retention::SET_CRON),
            ("of a start: if they are to be kept", cockroachdb::retention::RESET),
            ("backend status: the regions", cockroachdb::regions::OF_DATABASE),
            ("backend status: what is outlived", cockroachdb::regions::GOAL),
            ("backend multi-region: those that there are", cockroachdb::regions::OF_CLUSTER),
            ("backend multi-region", cockroachdb::regions::PRIMARY),
            ("backend multi-region", cockroachdb::regions::ADD),
            ("backend multi-region", cockroachdb::regions::SECONDARY),
            ("backend multi-region", cockroachdb::regions::SURVIVE_REGION),
            ("backend multi-region", cockroachdb::regions::SURVIVE_ZONE),
            ("of the feed's connection", cockroachdb::feed::SESSION),
            ("feed: whether there can be one", cockroachdb::feed::RANGEFEEDS),
            ("feed: which store it is", cockroachdb::feed::STORE),
            ("feed, and a watch: the moment", cockroachdb::feed::NOW),
            ("feed", cockroachdb::feed::CREATE),
            ("told to an administrator", cockroachdb::feed::ENABLE),
        ],
    });
    let mut all: Vec<_> = all.into_iter().map(|(name, text)| (name, text.to_owned())).collect();
    let event = StoredEvent {
        writer: "w".into(),
        seq: 1,
        time: UnixMillis(1),
        name: "n".into(),
        user: None,
        json: "{}".into(),
    };
    let broad = EventQuery { limit: 10, ..EventQuery::default() };
    let narrow = EventQuery {
        from: Some(UnixMillis(1)),
        to: Some(UnixMillis(2)),
        names: vec!["a".into(), "b".into()],
        user: Some("u".into()),
        order: EventOrder::OldestFirst,
        limit: 10,
        after: Some(event.cursor()),
    };
    let one = EventQuery { names: vec!["a".into()], ..broad.clone() };
    for (name, query) in
        [("search for all", broad), ("search for one name", one), ("search by everything", narrow)]
    {
        let of_blocks = events::statement_of_blocks(&query, query.after.as_ref(), "").0;
        all.extend([(name, events::statement(&query, 10, "").0), (name, of_blocks)]);
    }
    if engine == Engine::CockroachDb {
        let past = EventQuery { to: Some(UnixMillis(2)), limit: 10, ..EventQuery::default() };
        let text = events::statement(&past, 10, cockroachdb::LATELY).0;
        let of_blocks = events::statement_of_blocks(&past, None, cockroachdb::LATELY).0;
        all.extend([("search in what is past", text), ("search in what is past", of_blocks)]);
    }
    all.push(("backend status: latency", ask::NOTHING.into()));
    all.push(("backend status: rows", ask::ROWS.into()));
    all.retain(|(_, text)| !text.is_empty());
    all
}

#[test]
fn what_is_sent_is_what_the_file_says() {
    for engine in [Engine::Postgres, Engine::CockroachDb] {
        let mut text = format!(
            "-- Every statement that is sent to {engine}. Kept by a test: \
            BLESS=1 writes it anew.\n"
        );
        for (name, statement) in listed(engine) {
            let lines: Vec<String> = statement
                .lines()
                .map(|line| {
                    let deep = line.len() - line.trim_start().len();
                    format!(
                        "{}{}",
                        " ".repeat(deep),
                        line.split_whitespace().collect::<Vec<_>>().join(" ")
                    )
                })
                .collect();
            text += &format!("\n-- {name}\n{};\n", lines.join("\n").trim().trim_end_matches(';'));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{engine}.sql"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, kept, "{} differs; BLESS=1 writes it anew", path.display());
    }
}

#[test]
fn the_schema_is_only_added_to() {
    for engine in [Engine::Postgres, Engine::CockroachDb] {
        for step in engine.statements().migrations {
            for text in step.split(';').map(str::trim).filter(|text| !text.is_empty()) {
                let allowed = ["CREATE TABLE IF NOT EXISTS ", "CREATE INDEX IF NOT EXISTS "];
                assert!(allowed.iter().any(|start| text.starts_with(start)), "{text}");
            }
        }
    }
}
