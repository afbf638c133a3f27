//! The oracles of the fuzz targets over their seeds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[test]
fn client_hello() {
    seeds::each("client_hello", access_proxy::oracle::client_hello);
}

#[test]
fn proxy_header() {
    seeds::each("proxy_header", access_proxy::oracle::proxy_header);
}
