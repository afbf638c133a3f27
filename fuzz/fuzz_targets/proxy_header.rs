//! Any bytes as the header of a load balancer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_proxy::oracle::proxy_header(data));
