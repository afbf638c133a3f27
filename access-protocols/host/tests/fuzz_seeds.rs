//! The oracles of the fuzz targets over their seeds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn sftp_server() {
    seeds::each("sftp_server", access_host::sftp::fuzz_oracle);
}
