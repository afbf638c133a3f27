//! What sessions find of databases, in what is shown of these: a look at one does not log in.

use std::sync::Arc;

use access_core::{Clock, ResourceRef};
use access_postgres::DatabaseObserver;

use crate::health::Shown;

/// Shows what sessions find.
pub(crate) struct Observed {
    pub(crate) shown: Shown,
    pub(crate) clock: Arc<dyn Clock>,
}

impl DatabaseObserver for Observed {
    fn lets_in(&self, database: &ResourceRef) {
        self.shown.let_in(database.name.as_str(), self.clock.now());
    }

    fn turns_away(&self, database: &ResourceRef, why: &str) {
        self.shown.turned_away(database.name.as_str(), why, self.clock.now());
    }
}
