//! Any bytes as an identity document.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_core::oracle::identity(data));
