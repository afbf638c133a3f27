//! The clock, held against the database's: when the store is opened, and whenever it is asked how it is.
//!
//! Expiry is judged by the clocks of several machines, so that they have to agree.

use std::time::Duration;

use access_backend::{Error, UnixMillis};

use crate::statements::ask;
use crate::store::{Shared, repeat};
use crate::types::column;

impl Shared {
    /// Whether the clock agrees with the database's. Asks the database in any case.
    pub(crate) async fn check_clock(&self) -> Result<(), Error> {
        let (before, theirs, after) = repeat!(self, conn => {
            let statement = conn.prepared(ask::CLOCK).await?;
            let before = self.now();
            let row = conn.client.query_one(&statement, &[]).await?;
            Ok(column::<f64>(&row, 0).map(|theirs| (before, theirs, self.now())))
        })?;
        let skew = apart(before, theirs, after);
        if self.options.max_clock_skew.is_none_or(|most| skew <= most) {
            return Ok(());
        }
        Err(Error::Setting {
            setting: "storage.conn_string",
            reason: format!(
                "the clock of {} is {:.0} s from this machine's; set both by NTP",
                self.options.conn,
                skew.as_secs_f64()
            ),
        })
    }
}

/// How far a moment in seconds, which was told between two others, is from both.
fn apart(before: UnixMillis, theirs: f64, after: UnixMillis) -> Duration {
    let seconds = |moment: UnixMillis| Duration::from_millis(moment.0.unsigned_abs()).as_secs_f64();
    let apart = (seconds(before) - theirs).max(theirs - seconds(after));
    Duration::try_from_secs_f64(apart).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_wrong_clock() {
        let at = |seconds: i64| UnixMillis(seconds * 1000);
        for (theirs, skew) in [(100.0, 0), (105.0, 0), (110.0, 0), (97.0, 3), (190.0, 80)] {
            assert_eq!(apart(at(100), theirs, at(110)), Duration::from_secs(skew), "{theirs}");
        }
    }
}
