//! Any bytes as a pattern or template, what is held against it, and traits.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| access_core::oracle::pattern(data));
