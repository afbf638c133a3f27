//! Any bytes as the first that a client sends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_proxy::oracle::client_hello(data));
