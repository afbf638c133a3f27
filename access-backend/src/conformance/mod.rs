//! The suite that every engine passes, for the tests of engines in other crates too.
//!
//! [`run`] and [`run_events`] do all of it in one call; [`conformance_tests!`](crate::conformance_tests) and
//! [`event_conformance_tests!`](crate::event_conformance_tests) make one `#[test]` of each check. The factory is called
//! many times: each call makes an empty store that takes its time from the clock given and does not sweep by itself.
//! An engine whose storage outlives its handle is given an empty part of it.
//!
//! A failure panics with what was expected.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test suite fails by panicking"
)]

mod checks;
mod event_checks;
mod expiry_checks;
mod histories;
pub mod linear;
mod many_checks;
mod tools;
mod watch_checks;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use self::tools::BoxedFactory;
use crate::{Backend, Clock, EventStore};

type Check<B> = for<'a> fn(&'a BoxedFactory<B>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! checks {
    ($list:ident, $of:ident, $($module:ident::$name:ident),+ $(,)?) => {
        const $list: &[(&str, Check<dyn $of>)] =
            &[$((stringify!($name), |factory| Box::pin($module::$name(factory)))),+];
    };
}

checks!(
    CHECKS,
    Backend,
    checks::reads_what_was_written,
    checks::create_refuses_what_is_there,
    checks::update_needs_the_revision,
    checks::delete_needs_a_row_and_delete_if_its_revision,
    checks::revisions_are_never_used_again,
    checks::ranges_are_ordered_and_half_open,
    checks::pages_join_without_gap_or_repeat,
    checks::pages_are_bounded_in_rows_and_bytes,
    checks::delete_range_takes_that_range_alone,
    checks::batches_are_all_or_nothing,
    checks::batch_conditions_are_checked_in_order,
    checks::malformed_batches_are_refused,
    checks::the_largest_key_and_value_fit,
    checks::close_is_final,
    expiry_checks::expired_rows_are_gone_for_every_operation,
    expiry_checks::keep_alive_moves_the_expiry,
    expiry_checks::sweep_deletes_expired_rows_in_steps,
    watch_checks::a_watch_begins_with_what_is_there,
    watch_checks::events_come_in_the_order_of_commits,
    watch_checks::a_watch_sees_its_prefixes_alone,
    watch_checks::sweeping_and_keeping_alive_are_seen,
    watch_checks::a_watch_resumes_after_its_position,
    watch_checks::a_batch_can_be_resumed_in_its_middle,
    watch_checks::an_unknown_position_is_reset,
    watch_checks::a_slow_reader_is_reset_and_never_misses_silently,
    watch_checks::nothing_is_lost_between_snapshot_and_changes,
    watch_checks::a_watch_needs_a_prefix,
    watch_checks::closing_ends_watches,
    histories::concurrent_operations_on_one_key_are_linearizable,
    histories::concurrent_batches_are_linearizable,
    histories::counting_by_revision_loses_nothing,
    histories::clients_that_are_killed_leave_whole_operations,
);

checks!(
    EVENT_CHECKS,
    EventStore,
    event_checks::appending_again_changes_nothing,
    event_checks::an_append_is_all_or_nothing,
    event_checks::searches_narrow_by_each_field,
    event_checks::search_pages_join_in_both_orders,
    event_checks::the_last_number_outlives_its_event,
    event_checks::retention_deletes_the_oldest_first,
    many_checks::many_at_once_are_found_like_others,
    many_checks::many_appended_again_change_nothing,
    many_checks::retention_takes_many_at_once,
);

/// Runs every check of [`Backend`] on stores made by `factory`.
///
/// # Panics
/// Where the engine does not do as the trait says.
pub async fn run<B, F, R>(factory: F)
where
    B: Backend,
    F: Fn(Arc<dyn Clock>) -> R + Send + Sync + 'static,
    R: Future<Output = Arc<B>> + Send + 'static,
{
    let factory = tools::boxed_backend(factory);
    for (name, check) in CHECKS {
        tracing::info!(check = name, "conformance");
        check(&factory).await;
    }
}

/// Runs every check of [`EventStore`] on stores made by `factory`.
///
/// # Panics
/// Where the engine does not do as the trait says.
pub async fn run_events<E, F, R>(factory: F)
where
    E: EventStore,
    F: Fn(Arc<dyn Clock>) -> R + Send + Sync + 'static,
    R: Future<Output = Arc<E>> + Send + 'static,
{
    let factory = tools::boxed_events(factory);
    for (name, check) in EVENT_CHECKS {
        tracing::info!(check = name, "conformance");
        check(&factory).await;
    }
}

/// Runs one check of [`Backend`] by its name; for the macro.
///
/// # Panics
/// As [`run`], and where there is no such check.
#[doc(hidden)]
pub fn run_one<B, F, R>(name: &str, factory: F)
where
    B: Backend,
    F: Fn(Arc<dyn Clock>) -> R + Send + Sync + 'static,
    R: Future<Output = Arc<B>> + Send + 'static,
{
    let (_, check) = CHECKS.iter().find(|(known, _)| *known == name).expect("a check of this name");
    tools::block_on(check(&tools::boxed_backend(factory)));
}

/// Runs one check of [`EventStore`] by its name; for the macro.
///
/// # Panics
/// As [`run_events`], and where there is no such check.
#[doc(hidden)]
pub fn run_one_event<E, F, R>(name: &str, factory: F)
where
    E: EventStore,
    F: Fn(Arc<dyn Clock>) -> R + Send + Sync + 'static,
    R: Future<Output = Arc<E>> + Send + 'static,
{
    let (_, check) =
        EVENT_CHECKS.iter().find(|(known, _)| *known == name).expect("a check of this name");
    tools::block_on(check(&tools::boxed_events(factory)));
}

/// Makes one `#[test]` of each check of [`Backend`](crate::Backend). Takes a path to a function
/// `async fn(Arc<dyn Clock>) -> Arc<impl Backend>`.
#[macro_export]
macro_rules! conformance_tests {
    ($factory:path) => {
        $crate::conformance_tests!(@ $factory, run_one:
            reads_what_was_written
            create_refuses_what_is_there
            update_needs_the_revision
            delete_needs_a_row_and_delete_if_its_revision
            revisions_are_never_used_again
            ranges_are_ordered_and_half_open
            pages_join_without_gap_or_repeat
            pages_are_bounded_in_rows_and_bytes
            delete_range_takes_that_range_alone
            batches_are_all_or_nothing
            batch_conditions_are_checked_in_order
            malformed_batches_are_refused
            the_largest_key_and_value_fit
            close_is_final
            expired_rows_are_gone_for_every_operation
            keep_alive_moves_the_expiry
            sweep_deletes_expired_rows_in_steps
            a_watch_begins_with_what_is_there
            events_come_in_the_order_of_commits
            a_watch_sees_its_prefixes_alone
            sweeping_and_keeping_alive_are_seen
            a_watch_resumes_after_its_position
            a_batch_can_be_resumed_in_its_middle
            an_unknown_position_is_reset
            a_slow_reader_is_reset_and_never_misses_silently
            nothing_is_lost_between_snapshot_and_changes
            a_watch_needs_a_prefix
            closing_ends_watches
            concurrent_operations_on_one_key_are_linearizable
            concurrent_batches_are_linearizable
            counting_by_revision_loses_nothing
            clients_that_are_killed_leave_whole_operations
        );
    };
    (@ $factory:path, $run:ident: $($name:ident)+) => {
        $(#[test]
        fn $name() {
            $crate::conformance::$run(stringify!($name), $factory);
        })+
    };
}

/// Makes one `#[test]` of each check of [`EventStore`](crate::EventStore). Takes a path to a function
/// `async fn(Arc<dyn Clock>) -> Arc<impl EventStore>`.
#[macro_export]
macro_rules! event_conformance_tests {
    ($factory:path) => {
        $crate::conformance_tests!(@ $factory, run_one_event:
            appending_again_changes_nothing
            an_append_is_all_or_nothing
            searches_narrow_by_each_field
            search_pages_join_in_both_orders
            the_last_number_outlives_its_event
            retention_deletes_the_oldest_first
            many_at_once_are_found_like_others
            many_appended_again_change_nothing
            retention_takes_many_at_once
        );
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The macros have to list the names again; this keeps them whole.
    #[test]
    fn the_macros_name_every_check() {
        let source = include_str!("mod.rs");
        for (name, _) in CHECKS {
            assert_eq!(source.matches(&format!(" {name}\n")).count(), 1, "{name}");
        }
        for (name, _) in EVENT_CHECKS {
            assert_eq!(source.matches(&format!(" {name}\n")).count(), 1, "{name}");
        }
    }
}
