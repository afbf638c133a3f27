//! What the audit log says of itself.

use crate::audit::Text;
use crate::ids::WriterId;
use crate::time::Timestamp;

events! {
    area "log";

    /// Events that strangers caused were overwritten, because there were more than their ring
    /// holds; or one was refused by the Auth Service for good, and stays with its host in the file
    /// `refused` of its spool. Nothing else is ever dropped.
    AuditDropped = "audit.dropped" {
        code "ACL00W";
        /// How many.
        dropped: u64,
        /// Since when.
        since: Timestamp,
        /// The name of the kind that most of them had.
        most: Option<Text<64>>,
    }

    /// Events of a writer are missing: the numbers have a hole that nothing filled.
    AuditGap = "audit.gap" {
        code "ACL01E";
        /// Whose.
        gap_writer: WriterId,
        /// The first number that is missing.
        first: u64,
        /// The last number that is missing.
        last: u64,
    }
}
