//! The oracles of the fuzz targets over their seeds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn sftp_watch() {
    seeds::each("sftp_watch", access_ssh::oracle::sftp_watch);
}
