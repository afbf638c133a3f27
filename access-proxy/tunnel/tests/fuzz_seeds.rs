//! The oracles of the fuzz targets over their seeds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn tunnel_frames() {
    seeds::each("tunnel_frames", |bytes| access_tunnel::oracle::check_frames(bytes).unwrap());
}

#[test]
fn tunnel_header() {
    seeds::each("tunnel_header", |bytes| access_tunnel::oracle::check_header(bytes).unwrap());
}
