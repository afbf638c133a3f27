//! What an administrator asks of a store.

use std::sync::Arc;

use access_backend::{Error, Report, StoreRegion};
use tokio::time::Instant;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use crate::Engine;
use crate::conn::BoundedError;
use crate::pool::BANNER;
use crate::schema::{self, VERSION};
use crate::statements::cockroachdb::{self, regions};
use crate::statements::{ask, postgres};
use crate::store::Shared;

pub(crate) async fn report(shared: &Arc<Shared>) -> Result<Report, Error> {
    // The first has a connection be there.
    simple(shared, ask::NOTHING).await?;
    let asked = Instant::now();
    simple(shared, ask::NOTHING).await?;
    let latency = asked.elapsed();
    let first = |answers: &[SimpleQueryMessage]| {
        schema::rows(answers).into_iter().next().and_then(|row| row.into_iter().next())
    };
    let mut report = Report {
        place: Some(shared.options.conn.to_string()),
        version: first(&simple(shared, BANNER).await?),
        schema_version: schema::version(&simple(shared, VERSION).await?),
        rows: first(&simple(shared, ask::ROWS).await?).and_then(|count| count.parse().ok()),
        latency_us: u64::try_from(latency.as_micros()).ok(),
        feed_lag_ms: u64::try_from(shared.feed.lag().as_millis()).ok(),
        event_days: shared.options.event_retention.days(),
        ..Report::default()
    };
    if shared.options.engine == Engine::CockroachDb {
        // CockroachDB shows them to members of its role admin alone.
        for row in schema::rows(&shown(shared, regions::OF_DATABASE).await?) {
            let [name, primary, secondary] = row.as_slice() else { continue };
            let is = |text: &str| matches!(text, "t" | "true");
            let (primary, secondary) = (is(primary), is(secondary));
            report.regions.push(StoreRegion { name: name.clone(), primary, secondary });
        }
        report.regions.sort_by_key(|region| !region.primary);
        if !report.regions.is_empty() {
            report.survival_goal = first(&simple(shared, regions::GOAL).await?);
        }
    }
    Ok(report)
}

pub(crate) async fn others(shared: &Arc<Shared>) -> Result<Vec<String>, Error> {
    let text = match shared.options.engine {
        Engine::Postgres => postgres::OTHERS,
        Engine::CockroachDb => cockroachdb::OTHERS,
    };
    let text = text.replace("{name}", shared.options.conn.name());
    let rows = schema::rows(&simple(shared, &text).await?);
    Ok(rows.into_iter().map(|row| row.join(" from ")).collect())
}

/// What not everybody may see: nothing, then.
async fn shown(shared: &Arc<Shared>, text: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
    let conn = shared.pool.get(shared.pool.deadline()).await?;
    match conn.bounded(conn.client.simple_query(text)).await {
        Err(BoundedError::Server(error))
            if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) =>
        {
            tracing::debug!(%error, "the user of the store may not see its regions");
            Ok(Vec::new())
        }
        answer => answer.map_err(|error| error.judge(shared.pool.dialer()).into_error()),
    }
}

async fn simple(shared: &Arc<Shared>, text: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
    let conn = shared.pool.get(shared.pool.deadline()).await?;
    let answer = conn.bounded(conn.client.simple_query(text)).await;
    answer.map_err(|error| error.judge(shared.pool.dialer()).into_error())
}
