//! The oracles of the fuzz targets over their seeds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, reason = "the seeds are files")]

#[path = "../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn audit_event() {
    seeds::each("audit_event", access_core::oracle::audit_event);
}

#[test]
fn certificate() {
    seeds::each("certificate", access_core::oracle::certificate);
}

#[test]
fn identity() {
    seeds::each("identity", access_core::oracle::identity);
}

#[test]
fn names() {
    seeds::each("names", access_core::oracle::names);
}

#[test]
fn pattern() {
    seeds::each("pattern", access_core::oracle::pattern);
}

#[test]
fn recording() {
    seeds::each("recording", access_core::oracle::recording);
}

#[test]
fn role() {
    seeds::each("role", access_core::oracle::role);
}
