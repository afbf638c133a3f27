//! What one process at a time does now and then: delete expired rows, and trim the change log; and what each does:
//! look at the clock.
//!
//! This is below the store's rows, so that it is not under a [`Lease`](access_backend::Lease), but under a lock of the
//! session that does it. It may be done twice without harm.

use std::sync::{Arc, Weak};
use std::time::Duration;

use access_backend::Error;

use crate::pool::jittered;
use crate::statements::postgres::log;
use crate::store::{Shared, repeat};
use crate::write::{Op, Outcome};

/// Rows deleted in one transaction; a sweep runs several while there are more.
const SWEEP_ROWS: usize = 256;
/// Batches of events that one sweep deletes at most.
const EVENT_BATCHES: usize = 20;

/// How often the clock is looked at.
const CLOCK: Duration = Duration::from_secs(60);

pub(crate) async fn run(store: Weak<Shared>, every: Duration) {
    let mut looked = tokio::time::Instant::now();
    loop {
        // Processes that were started together do not stay together.
        tokio::time::sleep(jittered(every)).await;
        let Some(shared) = store.upgrade().filter(|shared| !shared.pool.is_closed()) else {
            return;
        };
        if let Err(error) = sweep(&shared).await {
            tracing::warn!(%error, "expired rows stay for now: they were not swept");
        }
        if looked.elapsed() >= CLOCK {
            looked = tokio::time::Instant::now();
            if let Err(error @ Error::Setting { .. }) = shared.check_clock().await {
                tracing::error!(%error, "what expires does so at the wrong time");
            }
        }
    }
}

async fn sweep(shared: &Arc<Shared>) -> Result<(), Error> {
    // The lock is the session's: it ends with the connection, should this process end here.
    let conn = shared.pool.get(shared.pool.deadline()).await?;
    let judged = |error: crate::conn::BoundedError| error.judge(&shared.pool).into_error();
    let row = conn.bounded(conn.client.query_one(log::MINE, &[])).await.map_err(judged)?;
    if !crate::types::column::<bool>(&row, 0)? {
        return Ok(());
    }
    let done = async {
        loop {
            let (outcome, _) = shared.write(&Op::Sweep { limit: SWEEP_ROWS }).await?;
            if !matches!(outcome, Outcome::Rows(count) if count >= SWEEP_ROWS as u64) {
                break;
            }
        }
        if let Some(ttl) = shared.options.event_ttl {
            let before = shared.now().minus(ttl);
            // A few small batches each time: what is left goes with the next.
            for _ in 0..EVENT_BATCHES {
                if crate::events::delete_before(shared, before, SWEEP_ROWS).await? < SWEEP_ROWS {
                    break;
                }
            }
        }
        trim(shared).await
    }
    .await;
    if conn.bounded(conn.client.query_one(log::NOT_MINE, &[])).await.is_err() {
        conn.set_open(true);
    }
    done
}

/// Forgets all but the last changes.
pub(crate) async fn trim(shared: &Shared) -> Result<(), Error> {
    let history = i64::try_from(shared.options.history).unwrap_or(i64::MAX);
    repeat!(shared, conn => {
        let statement = conn.prepared(log::TRIM).await?;
        conn.client.execute(&statement, &[&history]).await.map(Ok)
    })
    .map(drop)
}
