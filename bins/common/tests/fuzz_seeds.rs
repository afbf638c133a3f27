//! The oracles of the fuzz targets over their seeds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn config() {
    seeds::each("config", access_daemon::config::fuzz_oracle);
}
