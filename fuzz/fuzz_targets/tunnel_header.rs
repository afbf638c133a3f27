//! Any bytes as the header of an open.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Err(broken) = access_tunnel::oracle::check_header(data) {
        panic!("{broken}");
    }
});
