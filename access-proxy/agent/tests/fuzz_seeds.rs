//! The oracles of the fuzz targets over their seeds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn spool() {
    seeds::each("spool", access_agent::spool_fuzz_oracle);
}
