//! How long events are kept on CockroachDB, and when it deletes what has expired: that is the tables' own to know.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use crate::SqlOptions;
use crate::conn::Conn;
use crate::errors::Failure;
use crate::pool::Pool;
use crate::schema::rows;
use crate::statements::cockroachdb::retention;

/// How long events are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// As the tables have it, which are left alone: for a tool beside the service.
    #[default]
    AsItIs,
    /// For ever.
    Forever,
    /// For so long, by their own time; on CockroachDB in whole days.
    For(Duration),
}

impl Retention {
    /// In whole days, where it is limited and known.
    pub(crate) fn days(self) -> Option<u64> {
        match self {
            Self::AsItIs | Self::Forever => None,
            Self::For(ttl) => Some((ttl.as_secs() / 86_400).max(1)),
        }
    }
}

/// Sets the tables to what the options say, where they say something else.
pub(crate) async fn apply(options: &SqlOptions, conn: &Conn, pool: &Pool) -> Result<(), Failure> {
    if options.event_retention == Retention::AsItIs {
        return Ok(());
    }
    let cron = options.ttl_job_cron.replace('\'', "''");
    let scheduled = format!("ttl_job_cron = '{cron}'");
    let run =
        async |text: &str| conn.client.simple_query(text).await.map_err(|error| pool.judge(&error));
    let found = |table: &str| retention::FOUND.replace("{table}", table);
    let shown = |answers: Vec<SimpleQueryMessage>| rows(&answers).concat().concat();
    if !shown(run(&found("kv")).await?).contains(&scheduled) {
        run(&retention::SET_CRON.replace("{ttl_job_cron}", &cron)).await?;
    }
    for (table, column) in retention::TABLES {
        let there = shown(run(&found(table)).await?);
        let text = match options.event_retention.days() {
            None if !there.contains("ttl_expiration_expression") => continue,
            None => retention::RESET.replace("{table}", table),
            Some(days) => {
                if there.contains(&format!("'{days} days'")) && there.contains(&scheduled) {
                    continue;
                }
                let set = retention::SET.replace("{table}", table).replace("{column}", column);
                let set = set.replace("{days}", &days.to_string());
                set.replace("{ttl_job_cron}", &cron)
            }
        };
        run(&text).await?;
    }
    Ok(())
}
