//! Any bytes as the certificates of a peer, by TLS and by SSH.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_core::oracle::certificate(data));
